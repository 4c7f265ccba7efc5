"""A busy site or API: the element retries the launch or the report of the end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from django_examplary.models import ExamplaryActor, ExamplarySession

Actors = ExamplaryActor.objects
Sessions = ExamplarySession.objects


@pytest.fixture
def teacher(visit, django_user_model):
    teacher = visit()
    teacher.enter_as("teacher")
    teacher.user = django_user_model.objects.get(username="teacher")
    teacher.launches = []
    teacher.page.on("response", lambda response: record_launch(teacher, response))
    yield teacher
    # The browser reports each 409 and 429.
    assert not any(" forbids " in error for error in teacher.errors)
    teacher.expects_errors = True


def record_launch(teacher, response):
    """Record the status code of each launch."""
    if "/launch/" in response.url:
        teacher.launches.append(response.status)


def wait_for_launches(teacher, count):
    while len(teacher.launches) < count:
        teacher.page.wait_for_event("response", lambda response: "/launch/" in response.url)


def claim_actor(teacher, key):
    """Claim the user as another process does, and return a function that ends the claim."""
    actor = Actors.filter(user=teacher.user)
    before = actor.values("state", "claim_token", "lapses_at").get()
    actor.update(
        state=ExamplaryActor.State.CLAIMED,
        claim_token="another process",
        lapses_at=timezone.now() + timedelta(hours=1),
    )
    return lambda: actor.update(**before)


def claim_session(teacher, key):
    """Claim the session of a launch as another process does; return a function that ends it."""
    actor = Actors.get(user=teacher.user)
    session = Sessions.create(
        actor=actor,
        flow="generate-exam",
        fingerprint=key,
        open_key=key,
        lapses_at=timezone.now() + timedelta(hours=1),
    )
    return session.delete


@pytest.mark.parametrize("claim", [claim_actor, claim_session])
def test_launch_waits_for_a_claim_of_another_process(teacher, examplary, announced, claim):
    teacher.open_embeds({"flow": "generate-question"})
    expect(teacher.embed.locator("form")).to_be_visible()
    teacher.launches.clear()
    embed = teacher.open_embeds({"load": "click"})
    end_claim = claim(teacher, embed.get_attribute("data-key"))
    embed.get_by_role("button").first.click()
    wait_for_launches(teacher, 2)
    assert set(teacher.launches) == {409}
    expect(embed).to_have_attribute("data-state", "loading")
    expect(embed.locator("[data-examplary-state=loading]")).to_be_visible()
    end_claim()

    expect(embed).to_have_attribute("data-state", "loaded")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


def test_launch_is_retried_while_the_api_is_busy(teacher, examplary, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    examplary.fail("POST", "/embed-sessions", status=429)
    embed = teacher.open_embeds({})

    expect(embed).to_have_attribute("data-state", "loaded")
    assert teacher.launches[0] == 429


def test_end_is_reported_to_a_busy_site_again(teacher, settings, announced):
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    with teacher.page.expect_response(lambda response: "/sync/" in response.url) as refused:
        teacher.press("complete")
    assert refused.value.status == 409
    expect(embed).to_have_attribute("data-state", "verifying")
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4

    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


def test_report_retries_stop_after_a_minute(teacher, settings, announced):
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    teacher.page.clock.install()
    reports = []
    teacher.page.on(
        "response", lambda response: "/sync/" in response.url and reports.append(response.status)
    )
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "verifying")
    while embed.get_attribute("data-state") == "verifying" and len(reports) <= 11:
        teacher.page.clock.run_for(1000)
    assert reports == [409] * 11
    panel = embed.locator("[data-examplary-state=unverified]")
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4
    panel.get_by_role("button", name="Try again").click()

    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


def test_launch_retries_stop_after_a_minute(teacher, settings):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    teacher.page.clock.install()
    embed = teacher.open_embeds({})
    while embed.get_attribute("data-state") == "loading":
        teacher.page.clock.run_for(1000)
    panel = embed.locator("[data-examplary-state=failed]")
    expect(panel.get_by_text("This is still being prepared")).to_be_visible()
    teacher.page.clock.run_for(60_000)
    wait_for_launches(teacher, 11)
    assert teacher.launches == [409] * 11
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4
    panel.get_by_role("button", name="Try again").click()

    expect(embed).to_have_attribute("data-state", "loaded")


@pytest.mark.parametrize("end", ["offline", "remove"])
def test_nothing_is_launched_after_the_end(teacher, settings, end):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    teacher.page.clock.install()
    embed = teacher.open_embeds({})
    wait_for_launches(teacher, 1)
    expect(embed).to_have_attribute("data-state", "loading")
    if end == "offline":
        teacher.page.context.set_offline(True)
        expect(embed).to_have_attribute("data-state", "offline")
    else:
        embed.evaluate("embed => embed.remove()")
    count = len(teacher.launches)
    teacher.page.clock.run_for(60_000)
    assert len(teacher.launches) == count
    if end == "offline":
        settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4
        teacher.page.context.set_offline(False)
        expect(embed).to_have_attribute("data-state", "loaded")


def test_link_without_javascript(visit, settings):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    teacher = visit(java_script_enabled=False)
    teacher.enter_as("teacher")
    teacher.open_embeds({})
    expect(teacher.embed.get_by_text("This is still being prepared")).to_be_visible()
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4
    teacher.embed.get_by_role("link", name="Try again").click()

    expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()
    teacher.expects_errors = True
