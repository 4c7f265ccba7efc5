"""Pages of actors and sessions: advice, buttons, the log of staff actions, and erasure."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import resolve

from django_examplary import services
from django_examplary.admin import ExamplaryActorAdmin
from django_examplary.admin.advice import advise, advise_each
from django_examplary.data import ActorProfile
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from tests import wire
from tests.admin_rows import State, Status, allow, limit, make_actor, make_session, make_user
from tests.html import find_all

pytestmark = pytest.mark.django_db

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"

BUTTONS = [
    "Provision",
    "Try again",
    "Link an existing account",
    "Revoke open sessions",
    "Erase data…",
]


def html(browser, url):
    response = browser.get(url)
    assert response.status_code == 200
    return response.content.decode()


def buttons(browser, actor):
    return [str(each.label) for each in browser.get(page(actor)).context["buttons"]]


def page(row):
    return f"{ACTORS if isinstance(row, ExamplaryActor) else SESSIONS}{row.pk}/change/"


def messages(response):
    return [str(message) for message in response.context["messages"]]


def logged():
    return [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]


@pytest.fixture
def failed():
    return make_actor("ada", state=State.FAILED, examplary_id=None, last_error="The address exists")


# Advice


REFUSED = {"status": 400, "body": {"message": "This role is wrong."}}


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        ({"status": 400, "body": {"message": "A user with this e-mail already exists."}}, "in use"),
        ({"status": 409}, "in use"),
        (REFUSED, "refused by Examplary"),
        ({"status": 401}, "API key rejected"),
        ({"status": 403}, "API key rejected"),
        ({**wire.GARBAGE, "before": False}, "no response"),
    ],
)
def test_advice_matches_the_failure_of_the_api(fake, failure, advice):
    user = make_user("ada")
    fake.fail("POST", "/users", times=None, **failure)

    services.provision_actors(User.objects.filter(pk=user.pk), max_failures=1)

    assert advice in str(advise(user.examplary_actor).name)


def test_advice_about_an_invalid_address(fake):
    user = make_user("ada", email="none")

    services.provision_actors(User.objects.filter(pk=user.pk))

    assert "no valid e-mail" in str(advise(user.examplary_actor).name)


@pytest.mark.parametrize(
    ("verified", "advice"),
    [(True, "address of the API key’s owner"), (False, "address already in use")],
)
def test_advice_about_the_address_of_the_owner(fake, settings, verified, advice):
    fake.duplicates = "return"
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = verified
    user = make_user("ada", email=fake.users["user_owner"]["email"])

    services.provision_actors(User.objects.filter(pk=user.pk))

    assert advise(user.examplary_actor).name == advice


def test_advice_about_an_address_that_two_users_share(fake):
    fake.duplicates = "return"
    ada, bob = (make_user(name, email="both@school.example") for name in ("ada", "bob"))
    for user in (ada, bob):
        services.provision_actors(User.objects.filter(pk=user.pk))

    assert ada.examplary_actor.is_active
    assert advise(bob.examplary_actor).name == "address shared with another user"


@pytest.mark.parametrize(
    ("address", "sent"),
    [("ADA@school.example", ""), ("bob@school.example", "ada@School.example"), ("", "x@y.example")],
)
def test_advice_about_a_refused_address_names_the_other_user(admin_client, failed, address, sent):
    bob = make_actor("bob", user=make_user("bob", email=address), email=sent)

    response = admin_client.get(page(failed))

    others = [link["count"] for link in response.context["links"] if "address" in link["label"]]
    advice = "Another user of this site has the same e-mail address. Give each of them"
    is_shared = "ada" in (address + sent).lower()
    assert others == (["bob"] if is_shared else [])
    assert (advice in response.text) == is_shared
    assert (f'<a href="/admin/auth/user/{bob.user_id}/change/">Other user' in response.text) == (
        is_shared
    )


@pytest.mark.parametrize("fault", ["raises", "unsearchable"])
def test_advice_about_a_refused_address_that_cannot_be_compared(
    admin_client, failed, settings, monkeypatch, fault
):
    make_user("bob", email="ada@school.example")
    if fault == "raises":
        settings.EXAMPLARY_ACTOR_PROFILE = lambda user: 1 / 0
    else:
        settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email="ada@school.example")
        monkeypatch.setattr(User, "get_email_field_name", classmethod(lambda model: "missing"))

    text = html(admin_client, page(failed))

    assert "used by another Examplary account" in text
    assert "Other user" not in text


def test_advice_after_an_action_and_on_a_session_is_about_the_other_user(fake, admin_client):
    ada, bob = (make_user(name, email="both@school.example") for name in ("ada", "bob"))
    for user in (ada, bob):
        services.provision_actors(User.objects.filter(pk=user.pk))
    session = make_session(bob.examplary_actor)

    response = admin_client.post(f"{ACTORS}{bob.examplary_actor.pk}/do/retry_actors/", follow=True)

    advice = "Another user of this site has the same e-mail address."
    assert advice in messages(response)[0]
    assert advice in html(admin_client, page(session))


def test_advice_about_refused_addresses_uses_one_query():
    for number in range(3):
        make_actor(f"user{number}", state=State.FAILED, last_error="The address exists")
    make_user("other", email="user1@school.example")
    rows = list(ExamplaryActor.objects.select_related("user").order_by("pk"))

    with CaptureQueriesContext(connection) as queries:
        advised = list(advise_each(rows))

    assert [other and other.username for _, other in advised] == [None, "other", None]
    assert len(queries) == 1


def test_advice_about_a_profile_that_raises(fake, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: 1 / 0
    user = make_user("ada")

    services.provision_actors(User.objects.filter(pk=user.pk))

    assert "site’s code" in str(advise(user.examplary_actor).name)


@pytest.mark.parametrize(
    ("fields", "advice"),
    [
        ({"state": State.PENDING}, "no Examplary account yet"),
        ({"state": State.PENDING, "last_error": "timeout"}, "did not respond properly"),
        ({"state": State.CLAIMED}, "right now"),
        ({"state": State.UNCERTAIN}, "its response did not arrive"),
        ({"state": State.ACTIVE}, "can open embeds"),
    ],
)
def test_advice_about_each_state(admin_client, fields, advice):
    actor = make_actor("ada", **fields)

    assert advice in html(admin_client, page(actor))


def test_advice_about_an_inactive_user(admin_client):
    actor = make_actor("ada")
    User.objects.filter(pk=actor.user_id).update(is_active=False)

    assert "Activate the user first." in html(admin_client, page(actor))
    assert "Provision" not in buttons(admin_client, actor)


def test_technical_details_are_collapsed(admin_client, failed):
    text = html(admin_client, page(failed))

    assert text.index("The e-mail address is used") < text.index("The address exists")
    assert "collapse" in text


@pytest.mark.parametrize("url", [ACTORS, f"{ACTORS}add/", f"{ACTORS}provision/"])
def test_page_explains_actors(admin_client, url):
    assert "An actor is the Examplary account of one of this site’s users." in html(
        admin_client, url
    )


# Buttons


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.PENDING, ["Provision"]),
        (State.FAILED, ["Try again"]),
        (State.UNCERTAIN, ["Try again"]),
        (State.CLAIMED, []),
        (State.ACTIVE, []),
    ],
)
def test_buttons_of_an_actor(admin_client, state, expected):
    actor = make_actor("ada", state=state)
    make_session(actor)
    make_session(make_actor("bob"))

    assert buttons(admin_client, actor) == [*expected, *BUTTONS[2:]]


def test_buttons_post_to_actions_of_the_list(admin_client):
    actor = make_actor("ada", state=State.FAILED)
    make_session(actor)
    shown = admin_client.get(page(actor)).context["buttons"]

    names = [resolve(each.url).kwargs["name"] for each in shown if each.posts]
    assert names == ["retry_actors", "revoke_open_sessions", "erase_actors"]


def test_actor_without_open_sessions_has_no_button_to_revoke(admin_client):
    actor = make_actor("ada")
    make_session(actor, status=Status.COMPLETED)
    make_session(make_actor("bob"))

    assert buttons(admin_client, actor) == ["Link an existing account", "Erase data…"]


@pytest.mark.parametrize(
    ("codename", "state", "button"),
    [
        ("provision_examplaryactor", State.PENDING, "Provision"),
        ("provision_examplaryactor", State.FAILED, "Try again"),
        ("retry_examplaryactor", State.FAILED, "Try again"),
        ("link_examplaryactor", State.FAILED, "Link an existing account"),
        ("revoke_examplarysession", State.ACTIVE, "Revoke open sessions"),
        ("erase_examplaryactor", State.ACTIVE, "Erase data…"),
    ],
)
def test_button_requires_its_permission(client, staff, codename, state, button):
    actor = make_actor("ada", state=state)
    make_session(actor)
    assert buttons(client, actor) == []

    allow(staff, codename)

    assert buttons(client, actor) == [button]


@pytest.mark.parametrize(
    ("path", "codename"),
    [
        ("provision/", "provision_examplaryactor"),
        ("link/", "link_examplaryactor"),
        ("{}/link/", "link_examplaryactor"),
        ("csv/", "export_examplaryactor"),
    ],
)
def test_page_requires_the_permission_to_view_the_list(client, staff, failed, path, codename):
    url = ACTORS + path.format(failed.pk)
    staff.user_permissions.clear()
    allow(staff, codename)
    assert client.get(url).status_code == 403

    allow(staff, "view_examplaryactor")
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("path", ["provision/", "link/", "1/link/", "1/do/retry_actors/"])
def test_page_that_calls_the_api_is_not_atomic(path):
    view = resolve(ACTORS + path).func

    assert "default" in view._non_atomic_requests


def test_retry_button_provisions_and_logs(fake, client, staff, failed):
    allow(staff, "retry_examplaryactor")

    response = client.post(f"{ACTORS}{failed.pk}/do/retry_actors/", follow=True)

    assert response.redirect_chain == [(page(failed), 302)]
    failed.refresh_from_db()
    assert failed.is_active
    assert logged() == [
        f"Provisioned: state failed → active; Examplary id - → {failed.examplary_id}; "
        "role - → teacher"
    ]
    assert LogEntry.objects.get().user == staff


@pytest.mark.parametrize("name", ["retry_actors", "revoke_open_sessions", "nothing"])
def test_action_of_a_row_requires_its_permission(fake, client, staff, failed, name):
    response = client.post(f"{ACTORS}{failed.pk}/do/{name}/")

    assert response.status_code == 403
    assert fake.requests == []


def test_action_of_a_row_requires_view_permission(fake, client, staff, failed):
    staff.user_permissions.set(Permission.objects.filter(codename="retry_examplaryactor"))

    assert client.post(f"{ACTORS}{failed.pk}/do/retry_actors/").status_code == 403
    assert fake.requests == []


@pytest.mark.parametrize(("path", "method"), [("do/retry_actors/", "post"), ("link/", "get")])
def test_page_of_a_row_requires_view_permission_for_that_row(
    fake, admin_client, failed, monkeypatch, path, method
):
    monkeypatch.setattr(
        ExamplaryActorAdmin, "has_view_permission", lambda self, request, obj=None: obj is None
    )

    assert getattr(admin_client, method)(f"{ACTORS}{failed.pk}/{path}").status_code == 403
    assert fake.requests == []


def test_action_of_a_row_refuses_get(fake, admin_client, failed):
    assert admin_client.get(f"{ACTORS}{failed.pk}/do/retry_actors/").status_code == 405
    assert fake.requests == []


def test_action_of_a_deleted_row(admin_client, failed):
    url = f"{ACTORS}{failed.pk}/do/retry_actors/"
    failed.delete()

    assert admin_client.post(url).status_code == 404


@pytest.fixture
def exam(fake, teacher):
    return services.open_session(
        teacher, GenerateExam(subject="Art"), origin="https://school.example"
    )


def test_buttons_of_a_session(fake, admin_client, exam):
    labels = [str(each.label) for each in admin_client.get(page(exam)).context["buttons"]]
    assert labels == ["Check now", "Revoke"]

    admin_client.post(f"{SESSIONS}{exam.pk}/do/revoke/")

    assert admin_client.get(page(exam)).context["buttons"] == []


def test_buttons_of_a_session_require_permissions(client, staff, exam):
    assert client.get(page(exam)).context["buttons"] == []


@pytest.mark.parametrize(
    ("name", "before", "message"),
    [
        ("check_now", None, "Checked: status open"),
        ("check_now", "complete", "Checked: status open → completed"),
        ("check_now", "fail", "Checked without success: status open"),
        ("revoke", None, "Revoked: status open → revoked"),
        ("revoke", "complete", "Revoked: status open → completed"),
    ],
)
def test_session_history_shows_old_and_new_status(fake, admin_client, exam, name, before, message):
    if before == "complete":
        fake.complete(exam.examplary_id)
    elif before:
        fake.fail("GET", "/embed-sessions/{id}", status=400)

    admin_client.post(f"{SESSIONS}{exam.pk}/do/{name}/")

    history = html(admin_client, f"{SESSIONS}{exam.pk}/history/")
    assert logged() == [message]
    assert message in history
    assert "Change history: Generate an exam (" in history
    assert "generate-exam" not in history
    assert exam.examplary_id.value not in history


def test_failed_provisioning_is_logged(fake, admin_client):
    user = make_user("ada", email="none")

    admin_client.post(f"{ACTORS}provision/?role=student&search=ada")

    assert logged() == ["Provisioning failed: state - → failed; role - → student"]
    assert LogEntry.objects.get().object_id == str(user.examplary_actor.pk)


def test_session_page_explains_a_failed_actor(admin_client):
    session = make_session(make_actor("ada", state=State.UNCERTAIN))

    assert "its response did not arrive" in html(admin_client, page(session))

    ExamplaryActor.objects.update(state=State.ACTIVE)
    assert 'class="examplary-note"' not in html(admin_client, page(session))
    assert 'class="examplary-note"' not in html(admin_client, page(make_session(None)))


@pytest.mark.parametrize(
    ("state", "explanation"),
    [
        (State.PENDING, "<b>Waiting:</b> The user has no Examplary account yet."),
        (State.UNCERTAIN, "<b>Uncertain:</b> Examplary may have created the account"),
    ],
)
def test_list_explains_failed_states(admin_client, state, explanation):
    assert explanation not in html(admin_client, ACTORS)

    make_actor("ada", state=state)

    assert explanation in html(admin_client, ACTORS)


@pytest.mark.parametrize(
    ("url", "title"),
    [
        (f"{ACTORS}provision/", "Provision users"),
        (f"{ACTORS}link/", "Link users from a file"),
        (f"{SESSIONS}activity/", "Examplary activity"),
    ],
)
def test_page_has_its_title_once(admin_client, url, title):
    assert html(admin_client, url).count(f"{title}</h1>") == 1


# Linking


def test_staff_cannot_link_themselves(fake, client, staff):
    own = make_actor("own", user=staff, state=State.FAILED, examplary_id=None)
    other = make_actor("other", state=State.FAILED, examplary_id=None)
    allow(staff, "link_examplaryactor")

    assert buttons(client, own) == []
    assert buttons(client, other) == ["Link an existing account"]
    response = client.post(f"{ACTORS}{own.pk}/link/", {"examplary_id": "user_other"})
    assert response.status_code == 403
    assert client.get(f"{ACTORS}{other.pk}/link/").status_code == 200
    assert fake.requests == []


def test_superuser_may_link_themselves(fake, admin_client, admin_user):
    own = make_actor("own", user=admin_user, state=State.FAILED, examplary_id=None)

    admin_client.post(f"{ACTORS}{own.pk}/link/", {"examplary_id": "user_head"})

    own.refresh_from_db()
    assert own.examplary_id == "user_head"


def test_history_shows_former_id_of_a_linked_actor(fake, admin_client):
    actor = make_actor("ada", role="teacher")

    admin_client.post(f"{ACTORS}{actor.pk}/link/", {"examplary_id": "user_new"})

    assert logged() == ["Linked: Examplary id user_ada → user_new; role teacher → -"]


# Erasure


def erase(browser, *actors, **data):
    return browser.post(
        ACTORS,
        {"action": "erase_actors", "_selected_action": [each.pk for each in actors], **data},
        follow=True,
    )


def confirm(browser, response):
    """Send the form of the page that confirms an erasure, as a browser does."""
    [form] = [each for each in find_all(response.text, "form") if "action" not in each]
    assert form["method"] == "post"
    fields = [each for each in find_all(response.text, "input") if each.get("type") == "hidden"]
    data: dict[str, list[str]] = {}
    for field in fields:
        data.setdefault(field["name"], []).append(field["value"])
    request = response.request
    url = f"{request['PATH_INFO']}?{request['QUERY_STRING']}"
    return browser.post(url, data, follow=True)


@pytest.mark.parametrize("from_page", [True, False])
def test_erasure_is_confirmed_first(fake, admin_client, exam, from_page):
    actor = exam.actor
    make_actor("bob")
    if from_page:
        response = admin_client.post(f"{ACTORS}{actor.pk}/do/erase_actors/")
    else:
        response = erase(admin_client, actor)

    assert "this site’s data about 1 user’s work" in response.text
    assert "1 session will be erased." in response.text
    assert f": {actor.examplary_id}</li>" in response.text
    assert ExamplarySession.objects.exists()

    assert messages(confirm(admin_client, response))[0].startswith("The Examplary data of 1 user")
    assert [each.user.username for each in ExamplaryActor.objects.all()] == ["bob"]


def test_confirmed_erasure_of_a_filtered_list_keeps_the_other_actors(admin_client):
    for number in range(3):
        make_actor(f"failed{number}", state=State.FAILED, examplary_id=None)
    kept = make_actor("ada")
    [chosen, *_others] = ExamplaryActor.objects.filter(state=State.FAILED)
    url = f"{ACTORS}?state__exact=failed"
    data = {"action": "erase_actors", "_selected_action": [chosen.pk], "select_across": "1"}

    response = admin_client.post(url, data)

    assert "this site’s data about 3 users’ work" in response.text
    confirm(admin_client, response)
    assert list(ExamplaryActor.objects.all()) == [kept]


def test_erasure_revokes_erases_and_logs_on_the_user(fake, admin_client, exam):
    actor = exam.actor

    response = erase(admin_client, actor, confirmed="yes")

    assert response.redirect_chain == [(ACTORS, 302)]
    assert messages(response) == [
        "The Examplary data of 1 user are erased. Delete the account at Examplary too."
    ]
    assert not ExamplaryActor.objects.exists()
    assert not ExamplarySession.objects.exists()
    assert fake.sessions[exam.examplary_id].revoked
    entry = LogEntry.objects.get()
    assert entry.get_edited_object() == actor.user
    assert entry.change_message == (
        "Examplary data erased with 1 session: state active → -; "
        f"Examplary id {actor.examplary_id} → -; role teacher → -"
    )


def test_erasure_reports_sessions_it_could_not_revoke(fake, admin_client, exam):
    fake.fail("DELETE", "/embed-sessions/{id}", status=500, times=None)

    response = erase(admin_client, exam.actor, confirmed="yes")

    assert messages(response)[1].startswith("Examplary did not confirm 1 revocation")


def test_erasure_works_without_a_key(settings, admin_client):
    settings.EXAMPLARY_API_KEY = ""

    erase(admin_client, make_actor("ada"), confirmed="yes")

    assert not ExamplaryActor.objects.exists()


def test_erasure_reports_remaining_users(fake, admin_client, monkeypatch):
    actors = [make_actor("ada"), make_actor("bob")]
    limit(monkeypatch, duration=-1)

    response = erase(admin_client, *actors, confirmed="yes")

    assert messages(response)[-1] == "There was no time for 2 users: choose the action again."
    assert ExamplaryActor.objects.count() == 2


def test_erasure_names_the_first_users_and_counts_the_others(admin_client, monkeypatch):
    limit(monkeypatch, names=2)
    actors = [make_actor(f"user{number}") for number in range(5)]

    text = erase(admin_client, *actors).content.decode()

    assert text.count(": user_user") == 2
    assert "and 3 others" in text


def test_erasure_query_count_is_constant(admin_client):
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            erase(admin_client, *ExamplaryActor.objects.all())
        return len(queries)

    make_session(make_actor("first"))
    few = count()
    for number in range(5):
        make_session(make_actor(f"user{number}"))
    assert count() == few


def test_erasure_requires_its_permission(client, staff):
    actor = make_actor("ada")

    erase(client, actor, confirmed="yes")

    assert ExamplaryActor.objects.exists()


def test_open_sessions_of_an_actor_are_revoked_from_its_page(fake, admin_client, exam):
    admin_client.post(f"{ACTORS}{exam.actor.pk}/do/revoke_open_sessions/")

    exam.refresh_from_db()
    assert exam.status == Status.REVOKED


def test_log_entries_hold_no_secret(fake, admin_client, exam):
    make_session(exam.actor)
    for name in ("check_now", "revoke"):
        admin_client.post(f"{SESSIONS}{exam.pk}/do/{name}/")
    url, remote = exam.embed_url.value, exam.examplary_id.value

    erase(admin_client, exam.actor, confirmed="yes")

    entries = LogEntry.objects.all()
    assert len(entries) == 3
    for entry in entries:
        text = f"{entry.change_message} {entry.object_repr}"
        assert remote not in text
        assert url not in text
