"""The admin page that provisions many users, with and without its script."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from django_examplary.models import ExamplaryActor
from tests.admin_rows import limit

FORM = "/admin/django_examplary/examplaryactor/provision/"
PAGE = f"{FORM}?search=pupil&role=student"


@pytest.fixture
def pupils(school, examplary):
    examplary.latency = 0.2
    return User.objects.bulk_create(
        User(username=f"pupil{number:02}", email=f"pupil{number:02}@school.example")
        for number in range(80)
    )


def active():
    return ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE).count()


@pytest.mark.parametrize("script", [True, False])
def test_users_are_selected_previewed_and_provisioned(visit, pupils, script, monkeypatch):
    # On a slow machine several requests would be necessary.
    limit(monkeypatch, duration=60)
    admin = visit("admin", java_script_enabled=script)
    admin.page.goto(admin.site + FORM)
    expect(admin.page.get_by_role("button", name="Provision")).to_have_count(0)
    admin.page.get_by_label("Search").fill("pupil0")
    admin.page.get_by_label("Role at Examplary").select_option("student")
    admin.follow("Select")

    expect(admin.page.get_by_text("10 active users have no active actors")).to_be_visible()
    expect(admin.page.get_by_label("Search")).to_have_value("pupil0")
    expect(admin.page.get_by_label("Search")).to_be_disabled()
    expect(admin.page.get_by_text("pupil05 (student)")).to_be_visible()
    admin.follow("Select other users")
    # The form shows the last selection.
    expect(admin.page.get_by_label("Search")).to_have_value("pupil0")
    expect(admin.page.get_by_label("Role at Examplary")).to_have_value("student")
    admin.page.get_by_label("Search").fill("pupil1")
    admin.page.get_by_label("Role at Examplary").select_option("teacher")
    admin.follow("Select", "Provision 10 users as teacher")

    expect(admin.page.locator("[data-text]")).to_have_text("10 of 10 users, 0 failed")
    made = ExamplaryActor.objects.filter(user__username__startswith="pupil1", role="teacher")
    assert made.count() == active() == 10


def test_stop_and_continue(visit, examplary, pupils):
    admin = visit("admin")
    admin.page.goto(admin.site + PAGE)
    # Hold the second batch, so that the run cannot finish before the click on Stop.
    held = []
    admin.page.route("**started=*", lambda route: held.append(route), times=1)
    with admin.page.expect_request("**started=*"):
        admin.page.get_by_role("button", name="Provision 80 users as student").click()
    expect(admin.page.get_by_role("progressbar")).to_be_visible()
    expect(admin.page.get_by_role("button", name="Stop")).to_be_focused()
    admin.page.get_by_role("button", name="Stop").click()
    [batch] = held
    batch.continue_()

    expect(admin.page.get_by_role("heading", name="Not finished")).to_be_visible()
    assert 0 < active() < 80
    admin.page.get_by_role("button", name="Continue").click()
    expect(admin.page.get_by_role("heading", name="Finished", exact=True)).to_be_visible()
    expect(admin.page.locator("[data-text]")).to_have_text("80 of 80 users, 0 failed")
    assert active() == len(examplary.calls("POST", "/users")) == 80


def test_server_that_is_down_for_a_while(visit, examplary, pupils):
    admin = visit("admin")
    admin.page.goto(admin.site + PAGE)
    away = f"{admin.site}/admin/django_examplary/examplaryactor/provision/**"
    admin.page.route(away, lambda route: route.abort(), times=1)
    admin.page.get_by_role("button", name="Provision 80 users as student").click()

    status = admin.page.get_by_role("status")
    expect(status).to_have_text("The server does not answer. Trying again…")
    expect(admin.page.get_by_role("heading", name="Finished", exact=True)).to_be_visible(
        timeout=60_000
    )
    assert active() == 80
    admin.expects_errors = True  # The aborted request.


def test_stop_during_a_pause_of_the_api(visit, examplary, pupils):
    examplary.fail("POST", "/users", status=429, headers={"Retry-After": "60"}, times=None)
    admin = visit("admin")
    admin.page.goto(admin.site + PAGE)
    admin.page.get_by_role("button", name="Provision 80 users as student").click()
    admin.page.wait_for_url("**started=*")
    admin.page.get_by_role("button", name="Stop").click()

    expect(admin.page.get_by_role("heading", name="Not finished")).to_be_visible()


def test_few_updates_are_announced(visit, pupils, monkeypatch):
    limit(monkeypatch, batch=0.1)
    admin = visit("admin")
    admin.page.goto(admin.site + PAGE)
    updates = []
    admin.page.expose_function("record", lambda text: updates.append(text))
    admin.page.evaluate("""() => {
        const status = document.querySelector("[role=status]");
        new MutationObserver(() => record(status.textContent)).observe(status, {childList: true});
    }""")
    admin.page.get_by_role("button", name="Provision 80 users as student").click()
    expect(admin.page.get_by_role("heading", name="Finished", exact=True)).to_be_visible(
        timeout=180_000
    )

    tenths = [int(text.split()[0]) // 8 for text in updates]
    assert tenths == sorted(set(tenths))


def test_without_script(visit, examplary, pupils):
    admin = visit("admin", java_script_enabled=False)
    admin.page.goto(admin.site + PAGE)
    with admin.page.expect_navigation():
        admin.page.get_by_role("button", name="Provision 80 users as student").click()
    while admin.page.get_by_role("button", name="Continue").count():
        with admin.page.expect_navigation():
            admin.page.get_by_role("button", name="Continue").click()

    expect(admin.page.locator("[data-text]")).to_have_text("80 of 80 users, 0 failed")
    assert active() == 80


def test_ended_web_session_redirects_to_sign_in(visit, pupils):
    admin = visit("admin")
    admin.page.goto(admin.site + PAGE)
    admin.page.context.clear_cookies(name="sessionid")
    admin.page.get_by_role("button", name="Provision 80 users as student").click()

    expect(admin.page.get_by_label("Username")).to_be_visible()
    assert active() == 0
    admin.expects_errors = True
