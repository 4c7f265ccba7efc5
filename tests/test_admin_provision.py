"""The page "Provision users", and the form that links an id."""

from __future__ import annotations

import re
import time
from copy import deepcopy
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import parse_qs, urlsplit

import django
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from django_examplary.admin import provisioning
from django_examplary.admin.provisioning import SelectionForm
from django_examplary.data import ActorProfile
from django_examplary.models import ExamplaryActor, ExamplarySession
from tests import wire
from tests.admin_rows import limit
from tests.html import find_all

PAGE = "/admin/django_examplary/examplaryactor/provision/"
#: With all users selected.
URL = f"{PAGE}?role=teacher"

#: The beginning of the button that starts provisioning.
BUTTON = 'examplary-primary">Provision '

User = get_user_model()
State = ExamplaryActor.State


@pytest.fixture(autouse=True)
def _provisioned_admin(admin_user):
    """Provision the signed-in staff member in advance."""
    ExamplaryActor.objects.create(user=admin_user, state=State.ACTIVE, examplary_id="user_admin")


def make_users(count, **fields):
    return User.objects.bulk_create(
        User(username=f"user{number:03}", email=f"user{number:03}@school.example", **fields)
        for number in range(count)
    )


def html(browser, url=URL):
    answer = browser.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def batch(browser, url=URL):
    """Send the request of the script for the next batch."""
    return browser.post(url, headers={"Accept": "application/json"}).json()


def short_batches(fake, monkeypatch):
    """Make each batch end after a few calls."""
    fake.latency = 0.2
    limit(monkeypatch, duration=0.1, batch=0.1)


def shown_messages(browser, url):
    return [str(message) for message in browser.get(url).context["messages"]]


def test_nothing_is_offered_before_a_selection(fake, admin_client):
    make_users(3)

    answer = admin_client.get(PAGE)

    assert list(find_all(answer.content.decode(), "fieldset")[0]) == ["class"]
    assert "run" not in answer.context
    assert BUTTON not in answer.content.decode()
    assert "Inactive users are left out." in answer.content.decode()
    assert admin_client.post(PAGE).status_code == 200
    assert fake.requests == []


def test_selection_is_confirmed_as_it_is_shown(admin_client):
    make_users(3)
    User.objects.create_user("gone", is_active=False)

    page = html(admin_client, f"{PAGE}?search=user0&role=student")

    assert "<b>3 active users</b> have no active actors" in page
    assert "as <b>student</b>" in page
    assert ">Provision 3 users as student<" in page
    # The selection is shown, and a change requires another confirmation.
    assert "disabled" in find_all(page, "fieldset")[0]
    assert 'value="user0"' in page
    assert find_all(page, "a")[-1]["href"] == PAGE


def test_preview_shows_users_with_role_or_problem(admin_client, monkeypatch):
    limit(monkeypatch, names=3)
    make_users(5)
    User.objects.filter(username="user001").update(email="no address")

    page = html(admin_client, f"{PAGE}?role=student")

    assert "<li>user000 (student)</li>" in page
    assert "<li>user001 (<b>no valid e-mail address</b>)</li>" in page
    assert "user003" not in page
    assert "and 2 others" in page


def test_names_have_the_role_of_their_profile(admin_client, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(
        email=user.email, name="", role="teacher"
    )
    make_users(1)

    assert "<li>user000 (teacher)</li>" in html(admin_client, f"{PAGE}?role=student")


def test_profile_that_raises_is_shown_in_the_preview(admin_client, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: 1 / 0
    make_users(1)

    assert "<b>error in the site’s code</b>" in html(admin_client, f"{PAGE}?role=student")


def test_selection_is_remembered(admin_client):
    Group.objects.create(name="Heads")
    html(admin_client, f"{PAGE}?role=student&search=ann&groups=Heads&started=2026-01-01")

    page = html(admin_client, PAGE)

    assert '<option value="student" selected>' in page
    assert 'value="ann"' in page
    [checkbox] = [each for each in find_all(page, "input") if each.get("name") == "groups"]
    assert "checked" in checkbox
    assert "2026-01-01" not in page


def test_role_is_recommended_by_flow(admin_client):
    page = html(admin_client, PAGE)

    assert "Teachers can: Generate an exam, " in page
    assert "Students can: Take an exam, Practise." in page


def test_failures_are_grouped_by_reason(fake, admin_client, monkeypatch):
    make_users(4)
    User.objects.exclude(username="user003").filter(username__startswith="user").update(email="x")
    fake.fail("POST", "/users", status=409)

    page = html(admin_client, batch(admin_client)["url"])

    first, second = page.index("No valid e-mail address (3)"), page.index("in use (1)")
    assert first < page.index(">user001</a>") < second < page.index(">user003</a>")
    limit(monkeypatch, listed=1)
    url = f"{URL}&started=2026-01-01"
    assert "3 other failures are in the list of actors." in html(admin_client, url)


def test_batch_that_reached_its_limit_of_rows_is_unfinished(fake, admin_client, monkeypatch):
    limit(monkeypatch, rows=2)
    make_users(3)

    answer = batch(admin_client)

    assert (answer["done"], answer["total"], answer["finished"]) == (2, 3, False)


def test_role_is_in_the_language_of_the_page(admin_client):
    make_users(3)

    page = admin_client.get(URL, headers={"accept-language": "nl"})

    assert page.context["role"] == "docent"


def test_page_without_selected_users(admin_client):
    page = html(admin_client)

    assert "None of these users has to be provisioned." in page
    assert BUTTON not in page


@pytest.mark.parametrize(
    ("query", "count"),
    [("", 3), ("staff=yes", 1), ("staff=no", 2), ("search=ANN", 1), ("groups=Heads", 1)],
)
def test_selection(admin_client, query, count):
    User.objects.create_user("ann")
    User.objects.create_user("ben", is_staff=True)
    group = Group.objects.create(name="Heads")
    group.user_set.add(User.objects.create_user("cat"))

    page = admin_client.get(f"{URL}&{query}")

    assert page.context["run"].left == count


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("staff=perhaps&role=teacher", "Select a valid choice. perhaps"),
        ("groups=99&role=teacher", "Select a valid choice. 99"),
        (f"groups={'9' * 20}&role=teacher", "Select a valid choice. 99"),
        ("groups=a%00b&role=teacher", "Select a valid choice. a"),
        ("search=a%00b&role=teacher", "Null characters are not allowed."),
        ("role=owner", "Select a valid choice. owner"),
        ("search=ann", "This field is required."),
        ("role=teacher&started=soon", "Enter a valid date/time."),
        ("role=teacher&started=0001-01-01T00:00:00Z", "Enter a valid date/time."),
        ("role=teacher&started=9999-12-31T23:59:59-14:00", "Enter a valid date/time."),
    ],
)
def test_invalid_selection_can_be_corrected(fake, admin_client, query, problem):
    make_users(1)

    answer = admin_client.get(f"{PAGE}?{query}")

    assert answer.status_code == 400
    assert problem in answer.content.decode()
    assert ">Select<" in answer.content.decode()
    assert BUTTON not in answer.content.decode()
    assert admin_client.post(f"{PAGE}?{query}").status_code == 400
    assert fake.requests == []


def test_groups_are_offered_if_there_are_any(admin_client):
    assert "<legend>Groups<" not in html(admin_client, PAGE)

    Group.objects.create(name="Heads")

    assert "<legend>Groups<" in html(admin_client, PAGE)


@pytest.mark.parametrize("name", ["provision", "link"])
def test_page_links_to_the_actors(admin_client, actor, name):
    url = PAGE if name == "provision" else link_url(actor)
    [crumbs] = re.findall('class="breadcrumbs .*?>(.*?)</ol>', html(admin_client, url), re.S)

    assert reverse("admin:django_examplary_examplaryactor_changelist") in crumbs
    assert "Home" in crumbs


@pytest.mark.skipif(django.VERSION < (6, 1), reason="The admin has nonces from 6.1 on.")
@pytest.mark.parametrize("name", ["provision", "link", "changelist", "delete"])
def test_page_under_a_policy_with_nonces(admin_client, actor, settings, name):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
    ]
    settings.SECURE_CSP = {"default-src": ["<CSP_NONCE_SENTINEL>"]}
    settings.TEMPLATES = deepcopy(settings.TEMPLATES)
    processors = settings.TEMPLATES[0]["OPTIONS"]["context_processors"]
    processors.append("django.template.context_processors.csp")
    arguments = [actor.pk] if name in ("link", "delete") else []

    page = html(
        admin_client, reverse(f"admin:django_examplary_examplaryactor_{name}", args=arguments)
    )

    tags = [*find_all(page, "script"), *find_all(page, "link"), *find_all(page, "style")]
    assert [tag for tag in tags if not tag.get("nonce")] == []
    assert ("admin_provision.js" in page) is (name == "provision")


def test_user_model_without_groups_and_staff(monkeypatch, db):
    monkeypatch.setattr(provisioning, "get_user_model", lambda: ExamplaryActor)

    assert list(SelectionForm({}).fields) == ["search", "role", "started"]


@pytest.mark.parametrize("related", [None, ExamplarySession])
def test_groups_without_a_name_are_not_offered(monkeypatch, db, related):
    field = SimpleNamespace(name="groups", related_model=related)
    model = SimpleNamespace(_meta=SimpleNamespace(get_fields=lambda: [field]))
    monkeypatch.setattr(provisioning, "get_user_model", lambda: model)

    assert "groups" not in SelectionForm({}).fields


@pytest.mark.parametrize("started", ["2026-11-01T00:00:00Z", "2026-11-01T00:00:00"])
@pytest.mark.parametrize("use_tz", [True, False])
def test_start_time_is_parsed_with_and_without_time_zones(admin_client, settings, started, use_tz):
    settings.USE_TZ = use_tz

    page = admin_client.get(f"{URL}&started={started}")

    assert timezone.is_aware(page.context["started"]) == use_tz


def test_preview_makes_no_calls(fake, admin_client):
    make_users(2)
    html(admin_client)
    html(admin_client, f"{URL}&started=2026-11-01T00:00:00Z")

    assert fake.requests == []
    assert ExamplaryActor.objects.count() == 1


def test_permission(fake, client):
    client.force_login(User.objects.create_user("staff", is_staff=True))

    assert client.get(PAGE).status_code == 403
    assert client.get(URL).status_code == 403
    assert client.post(URL).status_code == 403
    assert fake.requests == []


def test_forged_post_is_refused(fake, admin_user):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin_user)

    assert browser.post(URL).status_code == 403
    assert fake.requests == []


def test_page_works_under_atomic_requests(monkeypatch, fake, admin_client):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    make_users(1)

    assert batch(admin_client)["done"] == 1


@pytest.mark.parametrize("with_script", [True, False])
def test_batches_until_the_report(fake, admin_client, monkeypatch, with_script):
    short_batches(fake, monkeypatch)
    make_users(10)
    User.objects.filter(username="user003").update(email="no address")
    url, finished, progress = f"{PAGE}?role=student&search=user0", False, []

    while not finished:
        if with_script:
            answer = batch(admin_client, url)
            url, finished = answer["url"], answer["finished"]
            progress.append(answer["done"])
            assert answer["total"] == 10
        else:
            url = admin_client.post(url).url
            run = admin_client.get(url).context["run"]
            progress.append(run.done)
            finished = run.left == 0
            assert (">Continue<" in html(admin_client, url)) is not finished

    assert progress == sorted(progress)
    assert progress[0] < progress[-1] == 10
    assert set(ExamplaryActor.objects.exclude(role="").values_list("role", flat=True)) == {
        "student"
    }
    assert len(fake.calls("POST", "/users")) == 9
    query = parse_qs(urlsplit(url).query)
    assert (query["role"], query["search"]) == (["student"], ["user0"])
    page = html(admin_client, url)
    failed = ExamplaryActor.objects.get(state=State.FAILED)
    assert "<h2>Finished</h2>" in page
    assert "10 of 10 users, 1 failed" in page
    assert f'/examplaryactor/{failed.pk}/change/">user003</a>' in page
    assert "No valid e-mail address (1)" in page


def test_interrupted_run_continues(fake, admin_client, monkeypatch):
    short_batches(fake, monkeypatch)
    make_users(8)
    url = batch(admin_client)["url"]

    page = html(admin_client, url)
    assert "<h2>Not finished</h2>" in page
    assert ">Continue<" in page
    limit(monkeypatch, batch=10)
    answer = batch(admin_client, url)

    assert (answer["done"], answer["total"], answer["finished"]) == (8, 8, True)


def test_failed_actors_are_retried_only_by_a_new_run(fake, admin_client):
    [user] = make_users(1)
    fake.fail("POST", "/users", status=422)

    url = batch(admin_client)["url"]
    assert batch(admin_client, url)["done"] == 1
    assert len(fake.calls("POST", "/users")) == 1

    # The start of a new run.
    ExamplaryActor.objects.filter(user=user).update(
        updated_at=timezone.now() - timedelta(seconds=1)
    )
    assert batch(admin_client)["finished"]
    assert ExamplaryActor.objects.get(user=user).is_active


def test_refused_key_ends_the_run_and_is_reported(fake, admin_client):
    make_users(9)
    fake.fail("POST", "/users", status=401, times=None)

    answer = batch(admin_client)

    assert answer["finished"]
    assert "was answered with 401" in shown_messages(admin_client, answer["url"])[0]
    assert len(fake.calls("POST", "/users")) <= 4


def test_missing_key_is_reported(settings, admin_client):
    settings.EXAMPLARY_API_KEY = ""
    make_users(1)

    url = admin_client.post(URL).url

    assert shown_messages(admin_client, url)[0].startswith("EXAMPLARY_API_KEY is not set")


def test_users_claimed_by_other_processes_are_reported(fake, admin_client):
    [user] = make_users(1)
    ExamplaryActor.objects.create(
        user=user, state=State.CLAIMED, lapses_at=timezone.now() + timedelta(minutes=5)
    )

    answer = batch(admin_client)

    assert answer["finished"]
    assert "continue in a minute" in shown_messages(admin_client, answer["url"])[0]


def test_pause_of_the_api_is_passed_on(fake, admin_client):
    make_users(1)
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "30"})

    answer = batch(admin_client)

    assert not answer["finished"]
    assert 25 < answer["pause"] <= 30


def test_request_is_short_with_a_slow_api(fake, admin_client, monkeypatch, settings):
    settings.EXAMPLARY_TIMEOUT = settings.EXAMPLARY_DEADLINE = 100
    limit(monkeypatch, deadline=0.5, batch=0.5)
    make_users(20)
    fake.fail("POST", "/users", transport=wire.HANG, times=None)
    started = time.monotonic()

    batch(admin_client)

    # No call lasts for the 100 seconds of the settings; most are made in the next request.
    assert time.monotonic() - started < 60
    assert len(fake.calls("POST", "/users")) < 20


def test_page_query_count_is_constant(fake, admin_client):
    def count(url):
        with CaptureQueriesContext(connection) as queries:
            html(admin_client, url)
        return len(queries)

    User.objects.create_user("ann", "no address")
    make_users(2)
    url = batch(admin_client)["url"]
    few = count(URL), count(url)
    User.objects.bulk_create(
        User(username=f"late{number}", email="no address") for number in range(20)
    )
    batch(admin_client, url)

    assert (count(URL), count(url)) == few


# Linking


@pytest.fixture
def actor(teacher):
    return ExamplaryActor.objects.create(
        user=teacher, state=State.FAILED, last_error="The address exists."
    )


def link_url(actor):
    return reverse("admin:django_examplary_examplaryactor_link", args=[actor.pk])


def test_existing_id_is_linked(fake, admin_client, actor):
    change = reverse("admin:django_examplary_examplaryactor_change", args=[actor.pk])
    assert f'href="{link_url(actor)}"' in html(admin_client, change)
    assert "Link an existing Examplary account" in html(admin_client, link_url(actor))
    assert fake.requests == []

    answer = admin_client.post(link_url(actor), {"examplary_id": "user_ann"}, follow=True)

    assert answer.redirect_chain == [(change, 302)]
    assert [str(message) for message in answer.context["messages"]] == ["The actor is linked."]
    actor.refresh_from_db()
    assert (actor.state, actor.examplary_id, actor.last_error) == (State.ACTIVE, "user_ann", "")
    history = reverse("admin:django_examplary_examplaryactor_history", args=[actor.pk])
    assert "Linked: state failed → active; Examplary id - → user_ann" in html(admin_client, history)


@pytest.mark.parametrize(
    ("examplary_id", "problem"),
    [
        ("", "This field is required."),
        ("ann", "Enter an id that begins with “user_”."),
        ("user_owner", "This is the owner of the API key, who cannot be an actor."),
        ("user_admin", "Another user of this site has this id already."),
    ],
)
def test_id_that_cannot_be_linked(fake, admin_client, actor, examplary_id, problem):
    answer = admin_client.post(link_url(actor), {"examplary_id": examplary_id})

    assert answer.context["form"].errors == {"examplary_id": [problem]}
    assert problem in answer.content.decode()
    actor.refresh_from_db()
    assert (actor.state, actor.examplary_id) == (State.FAILED, None)


def test_link_during_an_outage(fake, admin_client, actor):
    fake.fail("GET", "/me", status=401)

    answer = admin_client.post(link_url(actor), {"examplary_id": "user_ann"})

    assert "The call to Examplary failed: GET /me was answered with 401" in answer.content.decode()


def test_link_without_a_key(settings, admin_client, actor):
    settings.EXAMPLARY_API_KEY = ""

    answer = admin_client.post(link_url(actor), {"examplary_id": "user_ann"})

    assert "EXAMPLARY_API_KEY is not set" in answer.content.decode()


def test_link_of_a_missing_actor(admin_client, actor):
    url = link_url(actor)
    actor.delete()

    assert admin_client.get(url).status_code == 404


def test_link_requires_a_permission(client, actor):
    user = User.objects.create_user("staff", is_staff=True)
    client.force_login(user)
    user.user_permissions.set(Permission.objects.exclude(codename="link_examplaryactor"))
    change = reverse("admin:django_examplary_examplaryactor_change", args=[actor.pk])

    assert client.get(link_url(actor)).status_code == 403
    assert client.post(link_url(actor), {"examplary_id": "user_ann"}).status_code == 403
    assert link_url(actor) not in html(client, change)
