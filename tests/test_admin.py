from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.html import escape

from django_examplary import services
from django_examplary.admin import (
    ExamplaryActorAdmin,
    ExamplaryActorInline,
    ProvisionActorsMixin,
)
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.claims import claim_actor
from tests import wire
from tests.admin_rows import limit, make_actor, make_session, make_user

State = ExamplaryActor.State
Status = ExamplarySession.Status

site = admin.AdminSite(name="school")
# This site also registers the actors, as the default site of a project does.
complete = admin.AdminSite(name="complete")
complete.register(ExamplaryActor, ExamplaryActorAdmin)


@admin.register(User, site=complete)
@admin.register(User, site=site)
class SchoolUserAdmin(ProvisionActorsMixin, UserAdmin):  # type: ignore[type-arg]
    """The user admin of a project."""

    inlines = [ExamplaryActorInline]


urlpatterns = [
    path("admin/", admin.site.urls),
    path("school/", site.urls),
    path("complete/", complete.urls),
]

pytestmark = pytest.mark.usefixtures("module_urls")

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"
USERS = "/school/auth/user/"
#: The provisioning action of each list.
PROVISION = {ACTORS: "provision_actors", USERS: "provision_teachers"}
SECRETS = {
    "examplary_id": "embed_session_canary",
    "embed_url": "https://app.examplary.ai/embeds/canary",
    "open_key": "7:canary",
    "fingerprint": "canary",
}


@pytest.fixture
def staff_client(client, db) -> Client:
    """Return a client whose user may view everything, and change every editable field."""
    user = User.objects.create_user("staff", is_staff=True)
    allowed = Permission.objects.exclude(codename="provision_examplaryactor")
    user.user_permissions.set(allowed)
    client.force_login(user)
    browser: Client = client
    return browser


def provision(browser: Client, url: str, chosen: list[Any]) -> list[tuple[str, str]]:
    """Run the action on some rows, and return the messages that the next page shows."""
    action = PROVISION[url]
    answer = browser.post(
        url,
        {"action": action, "_selected_action": [each.pk for each in chosen]},
        follow=True,
    )
    return [(each.level_tag, each.message) for each in answer.context["messages"]]


def html(browser: Client, url: str) -> str:
    answer = browser.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


# The lists and the pages


def test_list_of_actors(admin_client):
    make_actor("ada", role="teacher", email="ada@school.example")
    make_actor("bob", state=State.FAILED, last_error="The address exists.")

    page = html(admin_client, ACTORS)

    for text in ("teacher", "address already in use"):
        assert text in page


def test_list_of_sessions(admin_client):
    make_session(make_actor("ada"))
    # The user was deleted.
    make_session(None)

    page = html(admin_client, SESSIONS)

    assert page.count('/change/">Generate an exam</a>') == 2
    assert 'field-user">ada<' in page
    assert 'field-user">-<' in page


@pytest.fixture
def north(fake, settings):
    """A second workspace, to which the user ada belongs."""
    north = fake.add_workspace()
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": north.api_key}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user.username == "ada" else "default"
    return north


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
def test_lists_of_several_workspaces_have_a_column_and_a_filter(admin_client, settings, url):
    for name in ("north", "default"):
        make_session(make_actor(name, workspace=name), workspace=name)
    assert "By workspace" not in html(admin_client, url)
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"

    page = html(admin_client, url)
    assert "By workspace" in page
    assert page.count('field-workspace">north<') == 1
    page = html(admin_client, f"{url}?workspace=north")
    assert 'field-workspace">default<' not in page
    assert 'field-workspace">north<' in page
    model = ExamplaryActor if url == ACTORS else ExamplarySession
    row = model.objects.get(workspace="north")
    assert "field-workspace" in html(admin_client, f"{url}{row.pk}/change/")


def test_actions_use_the_key_of_each_workspace(admin_client, fake, north):
    """With the key of another workspace the API would return 404, and revoke nothing."""
    users = [make_user("ada"), make_user("bob")]
    sessions = [
        services.open_session(user, GenerateExam(), origin="https://school.example")
        for user in users
    ]

    chosen = [session.pk for session in sessions]
    admin_client.post(SESSIONS, {"action": "revoke", "_selected_action": chosen})

    assert all(each.revoked for each in [*fake.sessions.values(), *north.sessions.values()])
    assert (len(fake.sessions), len(north.sessions)) == (1, 1)
    ExamplaryActor.objects.all().delete()
    for user in users:
        ExamplaryActor.objects.create(user=user)
    fake.duplicates = north.duplicates = "create"
    provision(admin_client, ACTORS, list(ExamplaryActor.objects.all()))
    ada = ExamplaryActor.objects.get(user=users[0])
    assert (ada.workspace, ada.state) == ("north", State.ACTIVE)
    assert ada.examplary_id in north.users


def test_action_continues_with_other_workspaces_after_one_was_removed(admin_client, fake, north):
    chosen = [make_session(make_actor(name), workspace="gone") for name in ("carl", "dora")]
    chosen.append(
        services.open_session(make_user("bob"), GenerateExam(), origin="https://school.example")
    )
    # The list is processed from the newest row to the oldest.
    chosen += [make_session(make_actor("eve"), workspace="gone")]

    page = admin_client.post(
        SESSIONS,
        {"action": "revoke", "_selected_action": [each.pk for each in chosen]},
        follow=True,
    )

    messages = [(each.level_tag, each.message) for each in page.context["messages"]]
    assert sorted(messages)[1] == ("success", "1 session revoked.")
    assert [text for level, text in messages if level == "error"] == [
        "There is no workspace 'gone'. Add it to EXAMPLARY_WORKSPACES, or change what "
        "EXAMPLARY_WORKSPACE returns."
    ]
    assert all(each.revoked for each in fake.sessions.values())


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
@pytest.mark.parametrize("alias", ["Łódź 3", "'; --", "a/b?c#d&e", "%s{0}%", '"<b>'])
def test_filter_by_alias_with_special_characters(admin_client, settings, url, alias):
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"
    for name, workspace in (("ada", alias), ("bob", "default")):
        make_session(make_actor(name, workspace=workspace), workspace=workspace)

    def rows(query):
        page = admin_client.get(url, query)
        assert page.status_code == 200
        return page, list(page.context["cl"].queryset.values_list("workspace", flat=True))

    page, _ = rows({})
    [spec] = [each for each in page.context["cl"].filter_specs if each.title == "workspace"]
    [link] = [
        each["query_string"]
        for each in spec.choices(page.context["cl"])
        if each["display"] == alias
    ]
    filtered = admin_client.get(f"{url}{link}")
    found = filtered.context["cl"].queryset.values_list("workspace", flat=True)
    assert list(found) == [alias]
    assert escape(alias) in filtered.content.decode()
    assert rows({"workspace": alias})[1] == [alias]


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
def test_list_query_count_is_constant(admin_client, url):
    make_session(make_actor("first"))
    with CaptureQueriesContext(connection) as few:
        html(admin_client, url)

    for number in range(5):
        make_session(make_actor(f"user-{number}"))
    with CaptureQueriesContext(connection) as many:
        html(admin_client, url)

    assert len(many) == len(few)


@pytest.mark.parametrize("query", ["ada@school", "Lovelace", "user_ada"])
def test_search_for_actors(admin_client, query):
    make_actor("ada", email="ada@school.example", name="Ada Lovelace")
    make_actor("bob", email="bob@school.example", name="Bob")

    page = admin_client.get(ACTORS, {"q": query})

    assert [actor.user.username for actor in page.context["cl"].queryset] == ["ada"]


@pytest.mark.parametrize("query", ["ada", "ada@school"])
def test_search_for_sessions(admin_client, query):
    make_session(make_actor("bob", email="bob@school.example"))
    session = make_session(make_actor("ada", email="ada@school.example"))

    page = admin_client.get(SESSIONS, {"q": query})

    assert list(page.context["cl"].queryset) == [session]


def test_user_of_an_actor_cannot_be_changed(admin_client):
    actor = make_actor("ada")
    url = reverse("admin:django_examplary_examplaryactor_change", args=[actor.pk])

    page = admin_client.get(url)

    assert 'name="_save"' not in page.content.decode()
    answer = admin_client.post(url, {"user": make_user("eve").pk, "examplary_id": "user_eve"})
    assert answer.status_code == 403
    actor.refresh_from_db()
    assert (actor.user.username, actor.examplary_id) == ("ada", "user_ada")


def test_saving_an_actor_cannot_undo_a_claim(admin_client):
    actor = make_actor("ada", state=State.PENDING, examplary_id=None)
    url = reverse("admin:django_examplary_examplaryactor_change", args=[actor.pk])
    admin_client.get(url)
    assert claim_actor(actor)
    claimed_at = ExamplaryActor.objects.get().updated_at

    admin_client.post(url, {"_save": "Save"})

    actor.refresh_from_db()
    assert (actor.state, actor.updated_at) == (State.CLAIMED, claimed_at)


@pytest.mark.parametrize("selected", [True, False])
def test_deletion_page_lists_data_that_stays(admin_client, selected):
    actor = make_actor("ada")

    if selected:
        data = {"action": "delete_selected", "_selected_action": [actor.pk]}
        page = admin_client.post(ACTORS, data).content.decode()
    else:
        page = html(admin_client, f"{ACTORS}{actor.pk}/delete/")

    assert "The users stay at Examplary" in page
    assert "Are you sure" in page


def test_actor_may_be_added_for_a_user(admin_client):
    url = reverse("admin:django_examplary_examplaryactor_add")

    page = admin_client.get(url)
    admin_client.post(url, {"user": make_user("ada").pk, "state": State.ACTIVE})

    assert list(page.context["adminform"].form.fields) == ["user"]
    assert ExamplaryActor.objects.get().state == State.PENDING


def test_session_page_is_read_only(admin_client):
    session = make_session(make_actor("ada"))
    change = reverse("admin:django_examplary_examplarysession_change", args=[session.pk])

    assert admin_client.get(f"{SESSIONS}add/").status_code == 403
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"status": Status.COMPLETED}).status_code == 403
    session.refresh_from_db()
    assert session.status == Status.PENDING


def test_session_page_explains_the_session(admin_client):
    session = make_session(
        make_actor("ada"), presets={"subject": "Art"}, next_url="/exams/", remote_status="paused"
    )

    page = html(
        admin_client, reverse("admin:django_examplary_examplarysession_change", args=[session.pk])
    )

    for text in (str(session.pk), "ada", "Art", "/exams/", "paused"):
        assert text in page


# Hidden data


def test_pages_show_no_secret(admin_client):
    session = make_session(make_actor("ada"), **SECRETS)
    urls = [
        f"{SESSIONS}{session.pk}/change/",
        f"{SESSIONS}{session.pk}/history/",
        SESSIONS,
        ACTORS,
        f"{ACTORS}{session.actor.pk}/change/",
        f"{ACTORS}{session.actor.pk}/delete/",
    ]

    for url in urls:
        assert "canary" not in html(admin_client, url)


@pytest.mark.parametrize(
    "lookup",
    [
        "embed_url__startswith",
        "examplary_id__startswith",
        "open_key",
        "fingerprint",
        "claim_token__startswith",
        "outputs__examId__startswith",
    ],
)
def test_secret_cannot_be_guessed_letter_by_letter(admin_client, lookup):
    make_session(make_actor("ada"), **SECRETS)

    assert admin_client.get(SESSIONS, {lookup: "a"}).status_code == 400


@pytest.mark.parametrize("name", ["embed_url", "examplary_id", "outputs__examId", "open_key"])
def test_secret_cannot_be_guessed_from_the_list_of_actors(admin_client, name):
    make_session(make_actor("ada"), **SECRETS)

    assert admin_client.get(ACTORS, {f"sessions__{name}__startswith": "a"}).status_code == 400


@pytest.mark.parametrize("query", [{"status": "pending"}, {"flow__exact": "generate-exam"}])
def test_sessions_can_be_filtered(admin_client, query):
    make_session(make_actor("ada"))

    assert admin_client.get(SESSIONS, query).context["cl"].result_count == 1


# Provisioning


@pytest.mark.parametrize("url", [ACTORS, USERS])
def test_provision(fake, admin_client, url):
    actors = [make_actor(name, state=State.PENDING, examplary_id=None) for name in ("ada", "bob")]
    chosen = actors if url == ACTORS else [actor.user for actor in actors]

    messages = provision(admin_client, url, chosen)

    assert messages == [("success", "2 users have active Examplary actors.")]
    for actor in actors:
        actor.refresh_from_db()
        assert actor.is_active
        assert fake.users[actor.examplary_id]["email"] == actor.user.email


def test_provision_a_user_without_an_actor(fake, admin_client):
    user = make_user("ada")

    messages = provision(admin_client, USERS, [user])

    assert messages == [("success", "1 user has an active Examplary actor.")]
    assert user.examplary_actor.is_active


def test_second_provisioning_does_nothing(fake, admin_client):
    user = make_user("ada")

    provision(admin_client, USERS, [user])
    messages = provision(admin_client, USERS, [user])

    assert messages == [("success", "1 user has an active Examplary actor.")]
    assert len(fake.calls("POST", "/users")) == 1


@pytest.mark.parametrize("url", [ACTORS, USERS])
def test_list_of_a_mixin_that_opens_a_transaction_is_explained(fake, admin_client, url):
    actor = make_actor("ada", state=State.PENDING, examplary_id=None)

    with transaction.atomic():
        messages = provision(admin_client, url, [actor if url == ACTORS else actor.user])

    [(level, text)] = messages
    assert level == "error"
    assert "must not run inside a transaction" in text
    assert not fake.calls()


def test_provision_continues_after_a_failure(fake, admin_client):
    ada, bob, eve = make_user("ada"), make_user("bob", is_active=False), make_user("eve")
    User.objects.filter(pk=ada.pk).update(email="no address")

    messages = provision(admin_client, USERS, [ada, bob, eve])

    assert sorted(level for level, _ in messages) == ["error", "success", "warning"]
    texts = dict.fromkeys(text for _, text in messages)
    failure = "Provisioning failed for ada. The user has no e-mail address that Examplary accepts."
    assert any(text.startswith(failure) for text in texts)
    assert "1 inactive user is not given an Examplary actor." in texts
    assert "1 user has an active Examplary actor." in texts
    assert ExamplaryActor.objects.get(user=eve).is_active


def test_refusal_of_the_api_is_shown(fake, admin_client):
    fake.fail("POST", "/users", status=400, body={"message": "The address exists."})
    user = make_user("<b>ada</b>", email="ada@school.example")

    answer = admin_client.post(
        USERS, {"action": "provision_teachers", "_selected_action": [user.pk]}, follow=True
    )

    page = answer.content.decode()
    assert "failed for &lt;b&gt;ada&lt;/b&gt;. The e-mail address is used by another" in page
    assert "<b>ada" not in page
    assert ExamplaryActor.objects.get().state == State.FAILED


def test_missing_key_is_reported_once(settings, fake, admin_client):
    settings.EXAMPLARY_API_KEY = ""

    messages = provision(admin_client, USERS, [make_user("ada"), make_user("bob")])

    ((level, text),) = messages
    assert level == "error"
    assert text.startswith("EXAMPLARY_API_KEY is not set")
    assert fake.calls() == []


@pytest.mark.parametrize("url", [ACTORS, USERS])
def test_provision_requires_a_permission(fake, staff_client, url):
    actor = make_actor("ada", state=State.PENDING, examplary_id=None)
    chosen = [actor] if url == ACTORS else [actor.user]

    page = staff_client.get(url)
    assert page.status_code == 200
    assert PROVISION[url] not in dict(page.context["action_form"].fields["action"].choices)
    assert ("success", "1 user has an active Examplary actor.") not in provision(
        staff_client, url, chosen
    )
    assert fake.calls() == []

    user = User.objects.get(username="staff")
    user.user_permissions.add(Permission.objects.get(codename="provision_examplaryactor"))
    page = staff_client.get(url)
    assert PROVISION[url] in dict(page.context["action_form"].fields["action"].choices)
    assert provision(staff_client, url, chosen) == [
        ("success", "1 user has an active Examplary actor.")
    ]


def test_action_has_a_readable_name(admin_client):
    make_user("ada")

    choices = dict(admin_client.get(USERS).context["action_form"].fields["action"].choices)

    assert choices["provision_teachers"] == "Provision Examplary actors as teachers"


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_role_is_chosen_with_the_action(fake, admin_client, role):
    user = make_user("ada")
    admin_client.post(USERS, {"action": f"provision_{role}s", "_selected_action": [user.pk]})
    assert ExamplaryActor.objects.get().role == role


@pytest.mark.parametrize("url", [ACTORS, USERS])
def test_provision_works_under_atomic_requests(monkeypatch, fake, admin_client, url):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    actor = make_actor("ada", state=State.PENDING, examplary_id=None)
    chosen = [actor] if url == ACTORS else [actor.user]

    messages = provision(admin_client, url, chosen)

    assert messages == [("success", "1 user has an active Examplary actor.")]


def test_views_that_call_the_api_are_non_atomic_for_every_database():
    script = """
import django
from tests import settings
settings.DATABASES["second"] = settings.DATABASES["default"]
django.setup()
from django_examplary.admin import ExamplaryActorAdmin, ProvisionActorsMixin
for admin, view in [
    (ProvisionActorsMixin, "changelist_view"),
    (ExamplaryActorAdmin, "changelist_view"),
    (ExamplaryActorAdmin, "provision_view"),
    (ExamplaryActorAdmin, "link_view"),
]:
    print(view, sorted(getattr(admin, view)._non_atomic_requests))
"""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    output = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert output.count("['default', 'second']") == 4


@pytest.mark.parametrize("url", [f"{USERS}add/", f"{ACTORS}add/"])
def test_other_views_stay_atomic(monkeypatch, admin_client, url):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)

    with CaptureQueriesContext(connection) as queries:
        assert admin_client.get(url).status_code == 200

    assert any(query["sql"].startswith("SAVEPOINT") for query in queries)


# Actions that exceed one request


def test_provision_is_short_with_any_selection(fake, admin_client, monkeypatch):
    limit(monkeypatch, duration=2.0)
    fake.latency = 1.0
    users = [make_user(f"user{number}") for number in range(20)]

    messages = provision(admin_client, USERS, users)

    assert [level for level, _ in messages] == ["success", "warning"]
    assert "users are still waiting. Choose the action again" in messages[1][1]
    assert len(fake.calls("POST", "/users")) < 20


def test_provision_limits_the_number_of_users(fake, admin_client, monkeypatch):
    limit(monkeypatch, rows=2)
    users = [make_user(f"user{number}") for number in range(5)]

    messages = provision(admin_client, USERS, users)

    assert messages[0] == ("success", "2 users have active Examplary actors.")
    assert messages[1][1].startswith("3 users are still waiting.")
    assert len(fake.calls("POST", "/users")) == 2


def test_unreadable_responses_leave_few_users_uncertain(fake, admin_client):
    users = [make_user(f"user{number}") for number in range(20)]
    fake.fail("POST", "/users", **wire.GARBAGE, times=None, before=False)

    messages = provision(admin_client, USERS, users)

    assert "4 calls in a row failed" in messages[-1][1]
    # Four failures in a row, and the calls that were already under way.
    assert ExamplaryActor.objects.filter(state=State.UNCERTAIN).count() < 8


def test_many_failures_are_summarised(fake, admin_client, monkeypatch):
    limit(monkeypatch, messages=2)
    users = [make_user(f"user{number}") for number in range(5)]
    User.objects.filter(username__startswith="user").update(email="no address")

    messages = provision(admin_client, USERS, users)

    assert len(messages) == 3
    assert messages[-1][1] == "Provisioning failed for 5 users in all: see the list of actors."


@pytest.mark.parametrize("action", ["provision_actors", "retry_actors"])
def test_failed_actors_are_retried(fake, admin_client, action):
    actor = make_actor("ada", state=State.FAILED, examplary_id=None, last_error="before")

    # From the list of failed actors, which omits the actor afterwards.
    messages = act(admin_client, f"{ACTORS}?state__exact=failed", action, [actor])

    assert messages == [("success", "1 user has an active Examplary actor.")]


def test_retry_skips_actors_that_did_not_fail(fake, admin_client):
    actor = make_actor("ada", state=State.PENDING, examplary_id=None)

    messages = act(admin_client, ACTORS, "retry_actors", [actor])

    assert messages == [("warning", "None of these actors has failed.")]
    assert fake.calls() == []


# The summary of the actors


def test_summary(admin_client):
    make_actor("ada")
    make_actor("bob", state=State.FAILED, examplary_id=None)
    make_actor("eve", state=State.UNCERTAIN, examplary_id=None)
    make_user("gone", is_active=False)

    page = admin_client.get(ACTORS)

    summary = {str(part["label"]): part["count"] for part in page.context["summary"]()}
    assert summary == {
        "waiting": 0,
        "being provisioned": 0,
        "active": 1,
        "uncertain": 1,
        "failed": 1,
        # The signed-in staff member.
        "users without an account": 1,
    }
    assert f"{ACTORS}?state__exact=failed" in page.content.decode()


def test_link_to_provisioning_requires_its_permission(admin_client, staff_client):
    link = f'href="{ACTORS}provision/"'

    assert link not in html(staff_client, ACTORS)
    staff_client.logout()
    assert link in html(admin_client, ACTORS)


# Sessions


@pytest.fixture
def exam(fake, teacher) -> ExamplarySession:
    return services.open_session(
        teacher, GenerateExam(subject="Art"), origin="https://school.example"
    )


def act(browser: Client, url: str, action: str, chosen: list[Any]) -> list[tuple[str, str]]:
    answer = browser.post(
        url, {"action": action, "_selected_action": [each.pk for each in chosen]}, follow=True
    )
    return [(each.level_tag, each.message) for each in answer.context["messages"]]


def test_outputs_require_a_permission(admin_client, staff_client):
    session = make_session(make_actor("ada"), outputs={"examId": "exam_canary"})
    url = f"{SESSIONS}{session.pk}/change/"
    Permission.objects.get(codename="view_outputs").user_set.clear()

    assert "exam_canary" not in html(staff_client, url)
    staff_client.logout()
    assert "exam_canary" in html(admin_client, url)


def test_check_now(fake, admin_client, exam):
    still_open = services.open_session(
        exam.actor.user, GenerateExam(subject="Law"), origin="https://school.example"
    )
    fake.complete(exam.examplary_id)

    messages = act(admin_client, SESSIONS, "check_now", [exam, still_open])

    assert messages == [("success", "2 open sessions checked, 1 have ended.")]
    exam.refresh_from_db()
    assert exam.status == Status.COMPLETED


def test_repeated_checks_reach_every_session(fake, admin_client, exam, monkeypatch):
    limit(monkeypatch, rows=1)
    other = services.open_session(
        exam.actor.user, GenerateExam(subject="Law"), origin="https://school.example"
    )
    fake.fail("GET", "/embed-sessions/{id}", status=403, times=2)

    messages = act(admin_client, SESSIONS, "check_now", [exam, other])
    assert messages[-1][1].startswith("There was no time for 1 session")
    act(admin_client, SESSIONS, "check_now", [exam, other])

    asked = {call.path.rpartition("/")[2] for call in fake.calls("GET", "/embed-sessions/{id}")}
    assert asked == {exam.examplary_id, other.examplary_id}


def test_revoking_an_ended_session(fake, admin_client, exam):
    services.revoke_session(exam)

    messages = act(admin_client, SESSIONS, "revoke", [exam])

    assert messages == [("warning", "None of these sessions is open.")]


def test_revoking_without_a_key(settings, fake, admin_client, exam):
    settings.EXAMPLARY_API_KEY = ""

    ((level, text),) = act(admin_client, SESSIONS, "revoke", [exam])

    assert (level, "EXAMPLARY_API_KEY" in text) == ("error", True)


def test_verifying_an_ended_session(fake, admin_client, exam):
    services.revoke_session(exam)
    before = len(fake.requests)

    messages = act(admin_client, SESSIONS, "check_now", [exam])

    assert messages == [("warning", "None of these sessions is open.")]
    assert len(fake.requests) == before


def test_check_that_fails(fake, admin_client, exam):
    fake.fail("GET", "/embed-sessions/{id}", status=400)

    ((level, text),) = act(admin_client, SESSIONS, "check_now", [exam])

    assert level == "error"
    assert text.startswith("The call for 1 session failed: Examplary does not return this session.")


def test_check_without_a_key(settings, fake, admin_client, exam):
    settings.EXAMPLARY_API_KEY = ""

    ((level, text),) = act(admin_client, SESSIONS, "check_now", [exam])

    assert (level, text[:24]) == ("error", "EXAMPLARY_API_KEY is not")


def test_check_has_a_time_limit(fake, admin_client, exam, monkeypatch):
    limit(monkeypatch, duration=-1)

    messages = act(admin_client, SESSIONS, "check_now", [exam])

    assert messages == [("warning", "There was no time for 1 session: choose the action again.")]


@pytest.mark.parametrize(
    ("url", "action"), [(SESSIONS, "revoke"), (ACTORS, "revoke_open_sessions")]
)
@pytest.mark.parametrize("available", [True, False])
def test_revoke(fake, admin_client, exam, url, action, available):
    if not available:
        fake.fail("DELETE", "/embed-sessions/{id}", status=500, times=None)

    messages = act(admin_client, url, action, [exam if url == SESSIONS else exam.actor])

    assert messages[0] == ("success", "1 session revoked.")
    assert [level for level, _ in messages[1:]] == ([] if available else ["warning"])
    exam.refresh_from_db()
    assert (exam.status, exam.revoke_pending) == (Status.REVOKED, not available)
    assert fake.sessions[exam.examplary_id].revoked is available


def test_revoking_a_session_that_ended_at_examplary(fake, admin_client, exam):
    fake.complete(exam.examplary_id)

    messages = act(admin_client, SESSIONS, "revoke", [exam])

    assert messages == [("warning", "1 session had ended before.")]
    exam.refresh_from_db()
    assert exam.status == Status.COMPLETED


@pytest.mark.parametrize(
    ("url", "action", "permission"),
    [
        (SESSIONS, "check_now", "verify_examplarysession"),
        (SESSIONS, "revoke", "revoke_examplarysession"),
        (ACTORS, "retry_actors", "retry_examplaryactor"),
        (ACTORS, "revoke_open_sessions", "revoke_examplarysession"),
    ],
)
def test_action_requires_a_permission(fake, staff_client, exam, url, action, permission):
    if action == "retry_actors":
        ExamplaryActor.objects.update(state=State.FAILED)
    Permission.objects.get(codename=permission).user_set.clear()
    before = len(fake.requests)

    act(staff_client, url, action, [exam if url == SESSIONS else exam.actor])

    exam.refresh_from_db()
    assert (exam.status, len(fake.requests)) == (Status.PENDING, before)


# The project's user admin


def test_column_with_the_state_of_the_actor(admin_client):
    actor = make_actor("ada")
    make_actor("eve", state=State.UNCERTAIN)
    make_user("bob")

    page = html(admin_client, USERS)

    # This site has no page for actors, so there is no link; the other site has one.
    assert 'field-examplary_actor_state">active<' in page
    assert 'field-examplary_actor_state">uncertain: no response from Examplary<' in page
    assert 'field-examplary_actor_state">-<' in page
    link = f'href="/complete/django_examplary/examplaryactor/{actor.pk}/change/">active</a>'
    assert link in html(admin_client, "/complete/auth/user/")


def test_user_list_query_count_is_constant(admin_client):
    make_actor("first")
    with CaptureQueriesContext(connection) as few:
        html(admin_client, USERS)

    for number in range(5):
        make_actor(f"user-{number}")
    with CaptureQueriesContext(connection) as many:
        html(admin_client, USERS)

    assert len(many) == len(few)


def test_user_list_keeps_the_projects_related_rows(admin_client, monkeypatch):
    monkeypatch.setattr(SchoolUserAdmin, "list_select_related", ["examplary_actor__user"])
    make_actor("ada")

    changelist = admin_client.get(USERS).context["cl"]

    assert changelist.result_list.query.select_related == {"examplary_actor": {"user": {}}}


def test_inline_shows_the_actor_read_only(admin_client):
    actor = make_actor("ada", state=State.FAILED, last_error="The address exists.")

    page = html(admin_client, f"{USERS}{actor.user.pk}/change/")

    assert "The e-mail address is used by another Examplary account." in page
    assert f"/examplaryactor/{actor.pk}/change/" not in page
    assert 'name="examplary_actor-0-state"' not in page
    assert f"/examplaryactor/{actor.pk}/change/" in html(
        admin_client, f"/complete/auth/user/{actor.user.pk}/change/"
    )


def test_mixin_adds_to_the_actions_of_the_project():
    class Project(ProvisionActorsMixin, UserAdmin):
        actions = ["my_action"]

    class Quiet(ProvisionActorsMixin, UserAdmin):
        actions = None

    ours = ["provision_teachers", "provision_students"]
    assert Project(User, site).actions == ["my_action", *ours]
    assert Quiet(User, site).actions is None


def test_session_cannot_be_deleted_without_being_revoked(admin_client):
    session = make_session(make_actor("ada"))
    for url, data in (
        (f"{SESSIONS}{session.pk}/delete/", {"post": "yes"}),
        (SESSIONS, {"action": "delete_selected", "_selected_action": [session.pk], "post": "yes"}),
    ):
        admin_client.post(url, data)
    assert ExamplarySession.objects.filter(pk=session.pk).exists()
