from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.auth.signals import user_logged_out
from django.db import DataError, IntegrityError, OperationalError, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import clock, services
from django_examplary.client import ExamplaryClient
from django_examplary.data import Theme
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAPIError,
    ExamplaryBusyError,
    ExamplaryConnectionError,
    ExamplaryDatabaseError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplarySessionEndedError,
    ExamplaryTimeoutError,
    ExamplaryValidationError,
)
from django_examplary.flows import GenerateExam, TakeExam
from django_examplary.launch import Launch
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.database import lease
from django_examplary.services.opening import drop_claims
from django_examplary.services.sessions import create_session, find_session

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status
ORIGIN = "https://school.example"
SUMS = GenerateExam(subject="Sums")


@pytest.fixture
def open_exam(fake, teacher):
    return services.open_session(teacher, SUMS, origin=ORIGIN)


@pytest.fixture
def age_actors():
    """Make every actor old enough to be known to all parts of the API."""

    def age():
        ExamplaryActor.objects.update(provisioned_at=timezone.now() - timedelta(hours=1))

    return age


@pytest.fixture
def claimed(fake, teacher):
    """Return a launch whose session another caller is creating."""
    actor = services.provision_actor(teacher)
    launch = Launch(user_id=str(teacher.pk), flow=SUMS, origin=ORIGIN)
    ExamplarySession.objects.create(
        actor=actor,
        flow="generate-exam",
        presets=SUMS.presets,
        fingerprint=launch.key,
        open_key=launch.key,
        lapses_at=lease(),
    )
    return launch


def created(fake):
    """Return the bodies of the requests that created a session."""
    return [json.loads(call.body) for call in fake.calls("POST", "/embed-sessions")]


# Requests


def test_session_is_opened_for_the_page(fake, teacher):
    session = services.open_session(
        teacher,
        SUMS,
        origin=ORIGIN,
        theme=Theme(locale="nl"),
        metadata={"course": "7"},
        next_url="/exams/",
    )
    assert session.status == Status.PENDING
    assert session.embed_url == fake.sessions[session.examplary_id].embed_url
    assert timedelta(days=6) < session.expires_at - timezone.now() <= timedelta(days=7)
    assert created(fake) == [
        {
            "flow": "generate-exam",
            "actor": session.actor.examplary_id,
            "presets": {"subject": "Sums"},
            "theme": {"locale": "nl"},
            "metadata": {"course": "7"},
            "allowedOrigin": ORIGIN,
        }
    ]
    assert str(session) == "Generate an exam (open)"


def test_window_mode_sends_a_signed_return_path(fake, teacher):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN, mode="window")
    [sent] = created(fake)
    assert sent["returnUrl"].startswith(f"{ORIGIN}/examplary/return/{session.pk}:")
    assert "?" not in sent["returnUrl"]
    assert "allowedOrigin" not in sent


def test_student_flow_provisions_a_student(fake, student):
    fake.staging = True
    flow = TakeExam(exam_id=fake.add_exam()["id"])
    session = services.open_session(student, flow, origin=ORIGIN, grant_access=True)
    assert session.actor.role == "student"


def test_origin_is_required_without_the_setting(fake, teacher):
    with pytest.raises(ExamplaryValidationError, match="origin: is required"):
        services.open_session(teacher, GenerateExam())


def test_setting_overrides_the_origin_of_the_request(fake, teacher, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://WWW.School.example:443/"
    services.open_session(teacher, GenerateExam(), origin="http://backend:8000")
    assert created(fake)[0]["allowedOrigin"] == "https://www.school.example"


def test_equivalent_origins_share_a_session(fake, teacher, open_exam):
    for origin in ("https://School.Example", "https://school.example:443"):
        assert services.open_session(teacher, SUMS, origin=origin) == open_exam


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("metadata", {"metadata": {"a": "\x00"}}),
        ("next", {"next_url": "/a\x00b"}),
        ("theme", {"theme": {"locale": "\ud800"}}),
    ],
)
def test_values_that_no_database_stores_are_refused(fake, teacher, field, options):
    with pytest.raises(ExamplaryValidationError) as caught:
        services.open_session(teacher, GenerateExam(), origin=ORIGIN, **options)
    assert caught.value.field == field
    assert fake.requests == []


def test_repeated_request_has_the_same_idempotency_key(fake, teacher):
    services.provision_actor(teacher)
    fake.fail("POST", "/embed-sessions", transport="close")
    services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    services.open_session(teacher, SUMS, origin=ORIGIN)
    first, again, other = (
        call.headers["Idempotency-Key"] for call in fake.calls("POST", "/embed-sessions")
    )
    assert first == again
    assert other not in ("", first)


def test_prerelease_flow_is_refused_in_production(teacher, settings, monkeypatch):
    settings.EXAMPLARY_API_URL = "https://api.examplary.ai"
    flow = TakeExam(exam_id="exam_1")
    with pytest.raises(ExamplaryValidationError, match="set EXAMPLARY_PRERELEASE_FLOWS = True"):
        services.open_session(teacher, flow, origin=ORIGIN)
    settings.EXAMPLARY_PRERELEASE_FLOWS = True
    monkeypatch.setattr(ExamplaryClient, "create_user", lambda client, **profile: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        services.open_session(teacher, flow, origin=ORIGIN)


def test_launch_without_a_flow_creates_nothing(fake, teacher):
    with pytest.raises(ExamplaryValidationError, match="launch: needs a flow"):
        create_session(teacher, Launch(user_id=str(teacher.pk)))
    assert fake.requests == []


# Reuse of sessions


def test_same_launch_reuses_the_session_in_one_query(
    fake, teacher, open_exam, django_assert_num_queries
):
    with django_assert_num_queries(1):
        again = services.open_session(teacher, SUMS, origin=ORIGIN)
        # All fields are loaded, because an async view cannot load deferred ones.
        assert again.presets == {"subject": "Sums"}
    assert again == open_exam
    assert len(fake.sessions) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://other.example"},
        {"theme": {"primary_color": "#ff0000"}},
        {"metadata": {"course": "7"}},
        {"next_url": "/exams/"},
        {"mode": "window"},
        {"once": True},
        {"reuse": False},
    ],
)
def test_different_launch_has_another_session(fake, teacher, open_exam, change):
    other = services.open_session(teacher, SUMS, **{"origin": ORIGIN, **change})
    assert other != open_exam
    assert open_exam.open_key != other.open_key


def test_another_user_has_another_session(fake, student, open_exam):
    other = services.open_session(student, SUMS, origin=ORIGIN)
    assert other != open_exam
    assert other.actor.user == student


@pytest.mark.parametrize("remains", [timedelta(minutes=59), timedelta(hours=-1), None])
def test_session_with_little_time_left_is_replaced_and_stays_open(
    fake, teacher, open_exam, remains
):
    ExamplarySession.objects.update(expires_at=remains and timezone.now() + remains)
    assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.open_key) == (Status.PENDING, None)


def test_session_of_a_removed_embed_origin_is_replaced(fake, teacher, open_exam, settings):
    settings.EXAMPLARY_EMBED_ORIGINS = ["https://app.examplary.ai"]
    with pytest.raises(ExamplaryEmbedURLError, match="EXAMPLARY_EMBED_ORIGINS does not list"):
        services.open_session(teacher, SUMS, origin=ORIGIN)
    assert len(fake.sessions) == 2


def test_launch_of_a_stored_session_opens_it_until_it_ends(fake, teacher, open_exam):
    launch = Launch(user_id=str(teacher.pk), session_id=str(open_exam.pk))
    assert find_session(teacher, launch) == open_exam
    services.revoke_session(open_exam)
    with pytest.raises(ExamplarySessionEndedError):
        find_session(teacher, launch)


@pytest.mark.parametrize("warm", [False, True])
def test_inactive_user_opens_nothing(fake, teacher, warm):
    if warm:
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    teacher.is_active = False
    sent = len(fake.requests)
    with pytest.raises(ExamplaryNotProvisionedError, match="Inactive"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert len(fake.requests) == sent


# The option `once`


def test_once_refuses_a_completed_flow(fake, teacher):
    session = services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    assert services.open_session(teacher, SUMS, origin=ORIGIN, once=True) == session
    fake.complete(session.examplary_id)
    services.verify_session(session)
    with pytest.raises(ExamplarySessionEndedError, match="opens once"):
        # Also with other options.
        services.open_session(
            teacher, SUMS, origin="https://x.example", once=True, theme={"locale": "nl"}
        )
    assert services.open_session(teacher, SUMS, origin=ORIGIN).is_open


def test_once_does_not_reuse_an_open_session_after_another_was_completed(fake, teacher):
    services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    other = services.open_session(teacher, SUMS, origin=ORIGIN, once=True, mode="window")
    fake.complete(other.examplary_id)
    services.verify_session(other)
    with pytest.raises(ExamplarySessionEndedError, match="opens once"):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True)


def test_once_compares_the_user_and_the_presets(fake, teacher, student, open_exam):
    fake.complete(open_exam.examplary_id)
    services.verify_session(open_exam)
    for user, flow in ((student, SUMS), (teacher, GenerateExam(subject="Art"))):
        assert services.open_session(user, flow, origin=ORIGIN, once=True).is_open


@pytest.mark.parametrize("again", [{"theme": {"locale": "nl"}}, {"mode": "window"}])
def test_once_verifies_the_open_sessions_of_the_user(fake, teacher, again):
    session = services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    fake.complete(session.examplary_id)
    with pytest.raises(ExamplarySessionEndedError, match="opens once"):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True, **again)
    assert len(fake.sessions) == 1
    assert ExamplarySession.objects.get().status == Status.COMPLETED


def test_once_opens_another_session_while_the_user_has_not_finished(fake, teacher, open_exam):
    services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    fake.fail("GET", "/embed-sessions/{id}", status=404)
    for locale in ("nl", "fr"):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True, theme={"locale": locale})
    # Each launch only verifies sessions with the same flow and presets.
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 3


def test_once_opens_nothing_if_verification_fails(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    fake.fail("GET", "/embed-sessions/{id}", status=500)
    with pytest.raises(ExamplaryServerError):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True, theme={"locale": "nl"})
    assert len(fake.sessions) == 1


def test_once_recognises_presets_that_were_stored_as_json(fake, teacher):
    flow = GenerateExam(source_material_ids=("sm_1", "sm_2"))
    session = services.open_session(teacher, flow, origin=ORIGIN)
    fake.complete(session.examplary_id)
    services.verify_session(session)
    with pytest.raises(ExamplarySessionEndedError):
        services.open_session(teacher, flow, origin=ORIGIN, once=True)


def test_once_refuses_while_the_output_of_a_completed_session_is_missing(fake, teacher, open_exam):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", edit=lambda body: body | {"outputs": {}})
    assert services.verify_session(open_exam).is_open
    with pytest.raises(ExamplarySessionEndedError):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True)


# The response


def test_refused_launch_leaves_no_row(fake, teacher):
    # The second attempt has no locale.
    fake.fail("POST", "/embed-sessions", status=400, times=2)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open


@pytest.mark.parametrize("expires_at", [None, "soon", 604800, "2999-01-01T00:00:00Z"])
def test_session_expires_within_seven_days(fake, teacher, expires_at):
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"expiresAt": expires_at})
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert timedelta(days=6, hours=23) < session.expires_at - timezone.now() <= timedelta(days=7)
    assert services.verify_session(session).is_open


@pytest.mark.parametrize("skew", [timedelta(hours=-9), timedelta(hours=9)])
def test_clock_of_the_api_does_not_matter(fake, teacher, skew):
    clock = fake.clock
    fake.clock = lambda: clock() + skew
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert timedelta(days=6, hours=23) < session.expires_at - timezone.now() <= timedelta(days=7)


@pytest.mark.parametrize(
    ("created_at", "expires_at"),
    [
        ("9999-12-31T23:59:59Z", "2026-01-01T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
        (None, "2026-01-01T00:00:00Z"),
    ],
)
def test_session_that_ends_before_it_begins_is_opened_once(fake, teacher, created_at, expires_at):
    times = {"createdAt": created_at, "expiresAt": expires_at}
    fake.fail(edit=lambda body: body | times, times=None)
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN) != session
    # Its time is wrong, and its result is not lost.
    assert services.verify_session(session).is_open
    fake.complete(session.examplary_id)
    assert services.verify_session(session).status == Status.COMPLETED


def test_status_that_is_longer_than_its_column_is_cut(fake, teacher):
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"status": "x" * 100})
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert (session.status, session.remote_status) == (Status.PENDING, "x" * 64)


def test_session_with_an_unsafe_url_is_discarded(fake, teacher):
    fake.embed_origin = "https://evil.example"
    with pytest.raises(ExamplaryEmbedURLError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    # Otherwise each attempt would leave an open session at Examplary.
    assert [session.revoked for session in fake.sessions.values()] == [True]


def test_failure_to_discard_is_logged_with_the_id_of_the_row(fake, teacher, caplog):
    fake.embed_origin = "https://evil.example"
    fake.fail("DELETE", status=403)
    with pytest.raises(ExamplaryEmbedURLError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    [message] = [text for text in caplog.messages if "operation=discard" in text]
    assert "session=" in message
    assert next(iter(fake.sessions)) not in message
    assert not ExamplarySession.objects.exists()


def test_same_remote_session_twice_is_refused_and_not_discarded(fake, teacher, open_exam):
    fake.fail(
        "POST", "/embed-sessions", edit=lambda body: body | {"id": open_exam.examplary_id.value}
    )
    with pytest.raises(ExamplaryResponseError, match="same session twice"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert ExamplarySession.objects.get() == open_exam
    # Another user may be using it.
    assert not fake.sessions[open_exam.examplary_id].revoked


# The actor


def test_lost_actor_is_replaced_once(fake, teacher, open_exam, age_actors):
    lost = open_exam.actor.examplary_id
    del fake.users[lost]
    age_actors()
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.actor_id == open_exam.actor_id
    assert ExamplaryActor.objects.get().examplary_id in fake.users
    # The session of the former actor is not mistaken for that of another user.
    former = ExamplarySession.objects.get(pk=open_exam.pk)
    assert services.verify_session(former).status == Status.PENDING
    assert fake.sessions[open_exam.examplary_id].actor == lost
    # The request differs, because it has another actor.
    keys = [call.headers["Idempotency-Key"] for call in fake.calls("POST", "/embed-sessions")]
    assert len(keys) == len(set(keys)) == 3


@pytest.mark.parametrize("young", [True, False])
def test_actor_that_is_lost_twice_raises(fake, teacher, open_exam, age_actors, young):
    fake.fail(
        "POST",
        "/embed-sessions",
        times=None,
        status=400,
        body={"message": "Actor with the given ID does not exist as a user within your workspace."},
    )
    del fake.users[open_exam.actor.examplary_id]
    if not young:
        age_actors()
    with pytest.raises(ExamplaryInvalidRequestError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert len(fake.calls("POST", "/embed-sessions")) == 3 + young
    assert len(fake.calls("POST", "/users")) == 2


def test_new_actor_is_not_replaced_after_a_refusal(fake, teacher):
    fake.fail(
        "POST",
        "/embed-sessions",
        status=400,
        body={"message": "Actor with the given ID does not exist as a user within your workspace."},
    )
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open
    assert len(fake.calls("POST", "/users")) == 1


def test_linked_student_is_replaced_as_a_student(fake, student, age_actors):
    fake.staging = True
    actor = services.link_actor(student, fake.add_user("before@school.example")["id"])
    del fake.users[actor.examplary_id]
    age_actors()
    flow = TakeExam(exam_id=fake.add_exam()["id"])
    session = services.open_session(student, flow, origin=ORIGIN, grant_access=True)
    assert session.actor.role == "student"


def test_actor_who_owns_the_key_is_disowned(fake, teacher, open_exam):
    fake.owner_id = open_exam.actor.examplary_id
    with pytest.raises(ExamplaryActorIsOwnerError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.examplary_id) == (ExamplaryActor.State.FAILED, None)
    assert "belongs to the owner of the API key" in actor.last_error
    assert ExamplarySession.objects.get() == open_exam


# Users who leave during a call of the API


def deactivate(user):
    user.is_active = False
    user.save()


DEPARTURES = {
    "deleted": lambda user: user.delete(),
    "deactivated": deactivate,
    "erased": services.erase_user,
    "signed out": lambda user: user_logged_out.send(type(user), request=None, user=user),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("method", ["create_user", "create_embed_session"])
@pytest.mark.parametrize("departure", DEPARTURES)
def test_user_who_leaves_during_call_gets_no_session(fake, teacher, departure, method, during_call):
    during_call(method, lambda: DEPARTURES[departure](type(teacher).objects.get()))
    with pytest.raises(ExamplaryError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    assert all(remote.revoked for remote in fake.sessions.values())


@pytest.mark.django_db(transaction=True)
def test_user_who_is_deactivated_directly_during_the_call_gets_no_session(
    fake, teacher, during_call
):
    """An update of a queryset sends no signal."""
    users = type(teacher).objects.all()
    during_call("create_embed_session", lambda: users.update(is_active=False))
    with pytest.raises(ExamplaryNotProvisionedError, match="Inactive"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    assert [remote.revoked for remote in fake.sessions.values()] == [True]


@pytest.mark.django_db(transaction=True)
def test_session_is_claimed_before_the_actor_is_provisioned(fake, teacher, during_call):
    rows = []
    during_call(
        "create_user",
        lambda: rows.extend(ExamplarySession.objects.values_list("status", flat=True)),
        answered=False,
    )
    services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert rows == [Status.CREATING]


@pytest.mark.django_db(transaction=True)
def test_user_who_is_deleted_before_the_claim_gets_no_session(fake, teacher, before_query):
    gone = type(teacher).objects.all()
    with (
        before_query(gone.delete, "SELECT", "open_key", "LIMIT 1"),
        pytest.raises(ExamplaryNotProvisionedError, match="does not exist any more"),
    ):
        create_session(teacher, Launch(user_id=str(teacher.pk), flow=SUMS, origin=ORIGIN))
    assert fake.requests == []


@pytest.mark.django_db(transaction=True)
def test_actor_that_is_deleted_before_the_claim_is_created_again(fake, teacher, before_query):
    fake.duplicates = "return"
    services.provision_actor(teacher)
    actors = ExamplaryActor.objects.all()
    with before_query(actors.delete, "SELECT", "open_key", "LIMIT 1"):
        session = create_session(teacher, Launch(user_id=str(teacher.pk), flow=SUMS, origin=ORIGIN))
    assert session.is_open
    assert session.actor == ExamplaryActor.objects.get()


# Claims


def test_session_without_an_actor_is_not_reused(fake, teacher, open_exam, monkeypatch):
    # Deleted without Django, whose signals would end the sessions of the actor.
    ExamplarySession.objects.update(actor=None)
    sleeper = SimpleNamespace(sleep=lambda seconds: None)
    monkeypatch.setattr("django_examplary.services.opening.time", sleeper)
    with pytest.raises(ExamplaryNotReadyError, match="still opening"):
        services.open_session(teacher, SUMS, origin=ORIGIN)


def test_launch_waits_briefly_for_the_claim_of_another_caller(fake, teacher, claimed):
    sent = len(fake.requests)
    started = time.monotonic()
    with pytest.raises(ExamplaryNotReadyError, match="still opening"):
        create_session(teacher, claimed)
    assert time.monotonic() - started > 1.5
    assert len(fake.requests) == sent


def test_wait_for_another_caller_respects_the_deadline_of_the_client(
    fake, teacher, claimed, monkeypatch
):
    pauses = []
    sleeper = SimpleNamespace(sleep=pauses.append)
    monkeypatch.setattr("django_examplary.services.opening.time", sleeper)
    with pytest.raises(ExamplaryNotReadyError, match="still opening"):
        create_session(teacher, claimed, services.get_client().within(0))
    assert pauses == []


def test_claim_of_a_dead_caller_is_taken_over(fake, teacher, claimed, lapse):
    lapse()
    session = create_session(teacher, claimed)
    assert session.is_open
    assert ExamplarySession.objects.get() == session


def test_holder_of_ended_claim_can_store_its_session(fake, teacher, open_exam, before_query):
    ExamplarySession.objects.update(status=Status.CREATING, lapses_at=timezone.now())
    rows = ExamplarySession.objects.all()
    with before_query(
        lambda: rows.update(status=Status.PENDING),
        "UPDATE",
        "django_examplary_examplarysession",
        "lapses_at",
    ):
        session = services.open_session(teacher, SUMS, origin=ORIGIN)
    assert session == open_exam
    assert len(fake.sessions) == 1


def test_lost_claim_returns_no_session(fake, teacher, during_call):
    during_call("create_embed_session", ExamplarySession.objects.all().delete)
    with pytest.raises(ExamplaryNotReadyError, match="was lost"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert [remote.revoked for remote in fake.sessions.values()] == [True]


def test_waiting_caller_reads_the_user_again(fake, teacher, claimed, lapse, before_query):
    lapse()
    sent = len(fake.requests)

    def release_and_deactivate():
        ExamplarySession.objects.all().delete()
        type(teacher).objects.update(is_active=False)

    with (
        before_query(
            release_and_deactivate, "UPDATE", "django_examplary_examplarysession", "lapses_at"
        ),
        pytest.raises(ExamplaryNotProvisionedError, match="Inactive"),
    ):
        create_session(teacher, claimed)
    assert len(fake.requests) == sent


def test_waiting_caller_refuses_a_deactivated_user(fake, teacher, open_exam, before_query):
    """Even though another caller has opened the session meanwhile."""
    ExamplarySession.objects.update(status=Status.CREATING, lapses_at=timezone.now())

    def fill_and_deactivate():
        ExamplarySession.objects.update(status=Status.PENDING)
        type(teacher).objects.update(is_active=False)

    with (
        before_query(
            fill_and_deactivate, "UPDATE", "django_examplary_examplarysession", "lapses_at"
        ),
        pytest.raises(ExamplaryNotProvisionedError, match="Inactive"),
    ):
        services.open_session(teacher, SUMS, origin=ORIGIN)


def test_waiting_caller_reads_the_actor_again(fake, teacher, claimed, lapse, before_query):
    lapse()
    linked = fake.add_user("linked@school.example")["id"]

    def release_and_link():
        ExamplarySession.objects.all().delete()
        ExamplaryActor.objects.update(examplary_id=linked)

    with before_query(release_and_link, "UPDATE", "django_examplary_examplarysession", "lapses_at"):
        create_session(teacher, claimed)
    assert [sent["actor"] for sent in created(fake)] == [linked]


def test_waiting_caller_stops_if_the_user_has_moved(
    fake, teacher, claimed, lapse, before_query, settings
):
    lapse()
    sent = len(fake.requests)
    settings.EXAMPLARY_WORKSPACES = {"south": {"API_KEY": settings.EXAMPLARY_API_KEY}}

    def release_and_move():
        ExamplarySession.objects.all().delete()
        settings.EXAMPLARY_WORKSPACE = lambda user: "south"

    with (
        before_query(release_and_move, "UPDATE", "django_examplary_examplarysession", "lapses_at"),
        pytest.raises(ExamplaryNotReadyError),
    ):
        create_session(teacher, claimed)
    assert len(fake.requests) == sent


@pytest.mark.parametrize("words", [("SELECT", "open_key", "LIMIT 1"), ("COUNT(",)])
def test_id_that_was_linked_before_the_claim_is_used(fake, teacher, before_query, words):
    services.provision_actor(teacher)
    linked = fake.add_user("linked@school.example")["id"]
    with before_query(lambda: services.link_actor(teacher, linked), *words):
        create_session(teacher, Launch(user_id=str(teacher.pk), flow=SUMS, origin=ORIGIN))
    assert [sent["actor"] for sent in created(fake)] == [linked]


def test_id_that_was_linked_while_once_verified_is_used(fake, teacher, during_call):
    services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    linked = fake.add_user("linked@school.example")["id"]
    during_call("get_embed_session", lambda: services.link_actor(teacher, linked))
    session = services.open_session(teacher, SUMS, origin=ORIGIN, once=True, mode="window")
    assert fake.sessions[session.examplary_id].actor == linked


def test_user_who_was_deactivated_while_once_verified_is_refused(fake, teacher, during_call):
    services.open_session(teacher, SUMS, origin=ORIGIN, once=True)
    users = type(teacher).objects.all()
    during_call("get_embed_session", lambda: users.update(is_active=False))
    with pytest.raises(ExamplaryNotProvisionedError, match="Inactive"):
        services.open_session(teacher, SUMS, origin=ORIGIN, once=True, mode="window")
    assert len(fake.sessions) == 1


def test_actor_that_moved_before_the_claim_opens_nothing(fake, teacher, before_query):
    services.provision_actor(teacher)
    actors = ExamplaryActor.objects.all()
    sent = len(fake.requests)
    with (
        before_query(lambda: actors.update(workspace="south"), "COUNT("),
        pytest.raises(ExamplaryNotReadyError, match="deleted or moved"),
    ):
        services.open_session(teacher, SUMS, origin=ORIGIN)
    assert len(fake.requests) == sent
    assert not ExamplarySession.objects.exists()


def test_session_of_a_faster_caller_is_reused(fake, teacher, before_query):
    services.provision_actor(teacher)
    rivals = []

    def open_first():
        rivals.append(services.open_session(teacher, SUMS, origin=ORIGIN))

    with before_query(open_first, "COUNT("):
        session = services.open_session(teacher, SUMS, origin=ORIGIN)
    assert [session] == rivals
    assert len(fake.sessions) == 1


@pytest.mark.parametrize(
    ("method", "error", "is_kept"),
    [
        ("create_user", KeyboardInterrupt, False),
        ("create_embed_session", ZeroDivisionError, False),
        # The request may have been sent.
        ("create_embed_session", KeyboardInterrupt, True),
    ],
)
def test_claim_is_released_after_any_error(fake, teacher, monkeypatch, method, error, is_kept):
    def fail(client, **options):
        raise error

    monkeypatch.setattr(ExamplaryClient, method, fail)
    with pytest.raises(error):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert ExamplarySession.objects.exists() == is_kept
    assert ExamplarySession.objects.all().abandoned().exists() == is_kept


def test_launch_ends_within_one_deadline(fake, teacher, settings, monkeypatch):
    """All calls of a launch share one deadline, so its claim lasts longer than the launch."""
    settings.EXAMPLARY_DEADLINE, settings.EXAMPLARY_MAX_RETRIES = 60, 0
    passed, monotonic = [], clock.monotonic
    monkeypatch.setattr(clock, "monotonic", lambda: monotonic() + sum(passed))
    fake.fail("POST", "/users", edit=lambda body: passed.append(57) or body)
    # With its own deadline this call would get its response.
    fake.fail("POST", "/embed-sessions", delay=30)
    with pytest.raises(ExamplaryTimeoutError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    # The first call was in time.
    assert ExamplaryActor.objects.get().is_active
    assert ExamplarySession.objects.all().abandoned().exists()


# Requests whose outcome is unknown


def keys(fake):
    return [call.headers["Idempotency-Key"] for call in fake.calls("POST", "/embed-sessions")]


@pytest.fixture
def unanswered(fake, teacher, settings):
    """Return a launch whose request was not answered, with and without an effect."""
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)

    def fail(**failure):
        fake.fail("POST", "/embed-sessions", **failure)
        with pytest.raises(ExamplaryError):
            services.open_session(teacher, SUMS, origin=ORIGIN)
        return ExamplarySession.objects.get()

    return fail


@pytest.mark.parametrize("failure", [{"transport": "close"}, {"status": 500}, {"status": 408}])
def test_unanswered_request_is_repeated_with_its_key(fake, teacher, unanswered, failure):
    claim = unanswered(**failure)
    assert claim.status == Status.CREATING

    session = services.open_session(teacher, SUMS, origin=ORIGIN)

    assert (session.pk, session.is_open) == (claim.pk, True)
    assert ExamplarySession.objects.get() == session
    assert len(keys(fake)) == 2
    assert len(set(keys(fake))) == 1


@pytest.mark.parametrize("honours", [True, False])
def test_repeat_of_an_unanswered_request_duplicates_nothing_with_keys(
    fake, teacher, unanswered, honours
):
    fake.honour_idempotency_keys = honours
    unanswered(transport="close", before=False)

    session = services.open_session(teacher, SUMS, origin=ORIGIN)

    assert len(fake.sessions) == (1 if honours else 2)
    assert session.embed_url == fake.sessions[session.examplary_id].embed_url


@pytest.mark.parametrize(
    "failure", [{"status": 500}, {"status": 429}, {"status": 503}, {"status": 401}]
)
def test_claim_is_kept_while_its_outcome_stays_unknown(fake, teacher, unanswered, failure):
    claim = unanswered(transport="close", before=False)
    services.get_client().close()
    assert unanswered(**failure) == claim


def test_claim_is_kept_if_the_api_is_busy_after_an_unanswered_attempt(
    fake, teacher, settings, unanswered
):
    settings.EXAMPLARY_MAX_RETRIES = 1
    fake.fail("POST", "/embed-sessions", transport="close", before=False)
    claim = unanswered(status=429, headers={"Retry-After": "86400"})
    services.get_client().close()

    session = services.open_session(teacher, SUMS, origin=ORIGIN)

    assert session.pk == claim.pk
    assert len(keys(fake)) == 3
    assert len(set(keys(fake))) == 1


@pytest.mark.parametrize("failure", [{"status": 400, "times": 2}, {"status": 200, "body": {}}])
def test_answer_to_a_repeat_ends_the_claim(fake, teacher, unanswered, failure):
    unanswered(transport="close", before=False)
    with pytest.raises(ExamplarySession.DoesNotExist):
        unanswered(**failure)


def test_request_is_not_repeated_with_its_key_for_longer_than_half_an_hour(
    fake, teacher, unanswered, caplog
):
    claim = unanswered(status=500)
    ExamplarySession.objects.update(created_at=timezone.now() - timedelta(minutes=31))

    session = services.open_session(teacher, SUMS, origin=ORIGIN)

    assert ExamplarySession.objects.get() == session != claim
    assert len(set(keys(fake))) == 2
    assert f"operation=open-session session={claim.pk} outcome=unknown" in caplog.text


def test_claim_that_another_caller_has_dropped_is_not_logged_again(
    fake, teacher, unanswered, before_query, caplog
):
    unanswered(status=500)
    rows = ExamplarySession.objects.all()
    rows.update(created_at=timezone.now() - timedelta(hours=2))
    with before_query(rows.delete, "DELETE", "django_examplary_examplarysession"):
        assert drop_claims(rows, older_than=timedelta(hours=1)) == 0
    assert "outcome=unknown" not in caplog.text


def test_claim_of_another_caller_is_not_taken_over_twice(fake, teacher, unanswered, before_query):
    unanswered(status=500)
    sent = len(fake.requests)
    rows = ExamplarySession.objects.all()
    with (
        before_query(
            lambda: rows.update(claim_token="another", lapses_at=lease()),
            "UPDATE",
            "django_examplary_examplarysession",
            "lapses_at",
        ),
        pytest.raises(ExamplaryNotReadyError, match="still opening"),
    ):
        services.open_session(teacher, SUMS, origin=ORIGIN)
    assert len(fake.requests) == sent


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_stored", [True, False])
def test_late_holder_keeps_the_session_of_the_caller_that_took_over(
    fake, teacher, during_call, caplog, is_stored
):
    fake.honour_idempotency_keys = True
    rivals = []

    def take_over():
        rows = ExamplarySession.objects.all()
        rows.update(lapses_at=timezone.now() - timedelta(minutes=5))
        if is_stored:
            rivals.append(services.open_session(teacher, SUMS, origin=ORIGIN))
        else:
            rows.update(claim_token="another", lapses_at=lease())

    during_call("create_embed_session", take_over)
    with pytest.raises(ExamplaryNotReadyError, match="was lost"):
        services.open_session(teacher, SUMS, origin=ORIGIN)

    [remote] = fake.sessions.values()
    assert not remote.revoked
    row = ExamplarySession.objects.get()
    assert row.is_open == is_stored
    assert [row] == rivals or row.claim_token == "another"
    assert f"operation=discard session={row.pk} outcome=kept" in caplog.text


def test_session_is_kept_if_its_claim_cannot_be_released(fake, teacher, before_query, lapse):
    """A repeated request may return the same session, which must not be revoked."""
    fake.honour_idempotency_keys = True
    table = "django_examplary_examplarysession"
    with (
        before_query(failing(DataError("full")), "UPDATE", table, "embed_url"),
        before_query(failing(DataError("full")), "DELETE", table),
        pytest.raises(ExamplaryDatabaseError),
    ):
        services.open_session(teacher, SUMS, origin=ORIGIN)
    lapse()

    session = services.open_session(teacher, SUMS, origin=ORIGIN)

    [remote] = fake.sessions.values()
    assert (session.examplary_id, remote.revoked) == (remote.id, False)


# The database


def failing(error):
    def fail():
        raise error

    return fail


def test_claim_whose_commit_was_not_acknowledged_gets_its_session(fake, teacher, monkeypatch):
    services.provision_actor(teacher)

    def unacknowledged_insert(work):
        with transaction.atomic():
            work()
        with transaction.atomic():
            return work()

    monkeypatch.setattr("django_examplary.services.opening.commit", unacknowledged_insert)
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open


def test_session_whose_commit_was_not_acknowledged_is_returned(
    fake, teacher, monkeypatch, during_call
):
    def unacknowledged(work):
        work()
        return work()

    during_call(
        "create_embed_session",
        lambda: monkeypatch.setattr("django_examplary.services.opening.commit", unacknowledged),
    )
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.is_open
    assert not fake.sessions[session.examplary_id].revoked


@pytest.mark.parametrize(
    ("error", "times"),
    [
        (DataError("Failing row contains (SECRET)"), 1),
        (OperationalError("disk full, SECRET"), 6),
        (IntegrityError("UNIQUE constraint failed: school_term.name"), 1),
    ],
)
def test_session_that_cannot_be_stored_is_discarded(fake, teacher, before_query, error, times):
    with (
        before_query(
            failing(error), "UPDATE", "django_examplary_examplarysession", "embed_url", times=times
        ),
        pytest.raises(ExamplaryDatabaseError, match="session could not be stored") as caught,
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert type(error).__name__ in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert not ExamplarySession.objects.exists()
    assert [remote.revoked for remote in fake.sessions.values()] == [True]


def test_session_is_discarded_if_the_database_fails_twice(fake, teacher, before_query):
    """The first error is in the update, the second in the search for rows with its id."""
    services.provision_actor(teacher)
    with (
        before_query(failing(IntegrityError("for key 'examplary_id'")), "UPDATE", "embed_url"),
        before_query(failing(OperationalError("gone")), "SELECT", "(NOT (", "examplary_id"),
        pytest.raises(ExamplaryDatabaseError, match="session could not be stored") as caught,
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert caught.value.__context__ is None
    assert [remote.revoked for remote in fake.sessions.values()] == [True]


class TimeIsUpError(Exception):
    """Like the time limit of a task queue, which can interrupt any line."""


def test_session_is_discarded_if_a_time_limit_interrupts_its_storing(fake, teacher, before_query):
    table = "django_examplary_examplarysession"
    with (
        before_query(failing(TimeIsUpError()), "UPDATE", table, "embed_url"),
        pytest.raises(TimeIsUpError),
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    assert [remote.revoked for remote in fake.sessions.values()] == [True]


def test_other_integrity_error_names_the_constraint(fake, teacher, before_query, monkeypatch):
    services.provision_actor(teacher)
    error = IntegrityError("UNIQUE constraint failed: school_term.name")
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with (
        before_query(failing(error), "INSERT", "django_examplary_examplarysession"),
        pytest.raises(ExamplaryDatabaseError, match=r"school_term\.name"),
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert pauses == []
    assert fake.calls("POST", "/embed-sessions") == []


@pytest.mark.parametrize(("status", "query"), [(403, "DELETE"), (500, "UPDATE")])
def test_claim_that_cannot_be_released_expires(
    fake, teacher, settings, before_query, caplog, lapse, status, query
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)
    fake.fail("POST", "/embed-sessions", status=status)
    error = DataError("Failing row contains (SECRET)")
    with (
        before_query(failing(error), query, "django_examplary_examplarysession"),
        pytest.raises(ExamplaryAPIError),
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert "operation=give-up" in caplog.text
    assert "SECRET" not in caplog.text
    lapse()
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open


# Limits


def test_user_opens_a_limited_number_of_sessions_within_an_hour(fake, teacher, student, settings):
    settings.EXAMPLARY_SESSIONS_PER_HOUR = 2
    launch = Launch(user_id=str(teacher.pk), flow=SUMS, origin=ORIGIN)
    for nonce in "ab":
        create_session(teacher, replace(launch, nonce=nonce))
    with pytest.raises(ExamplaryBusyError, match="limit of EXAMPLARY_SESSIONS_PER_HOUR"):
        create_session(teacher, replace(launch, nonce="c"))
    assert len(fake.sessions) == 2
    # The limit does not apply to other users or to sessions that are already open.
    assert services.open_session(student, SUMS, origin=ORIGIN).is_open
    assert find_session(teacher, replace(launch, nonce="a")) is not None
    ExamplarySession.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert create_session(teacher, replace(launch, nonce="c")).is_open


def test_limit_of_zero_disables_the_limit(fake, teacher, settings):
    settings.EXAMPLARY_SESSIONS_PER_HOUR = 0

    assert services.open_session(teacher, SUMS, origin=ORIGIN).is_open


# Transactions and threads, with real commits


@pytest.mark.django_db(transaction=True)
def test_open_session_refuses_a_transaction(fake, teacher, open_exam):
    sent = len(fake.requests)
    with (
        transaction.atomic(),
        pytest.raises(TransactionManagementError, match="open_session"),
    ):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert len(fake.requests) == sent
    with transaction.atomic():
        # The stored session needs no call.
        assert services.open_session(teacher, SUMS, origin=ORIGIN) == open_exam


@pytest.mark.django_db(transaction=True)
def test_concurrent_first_launches_create_one_session(fake, teacher, in_threads):
    fake.latency = 0.05
    results = in_threads(
        8, lambda: services.open_session(teacher, GenerateExam(), origin=ORIGIN).embed_url.value
    )
    [session] = fake.sessions.values()
    # On a slow machine some calls stop waiting; the others get the same session.
    assert set(map(str, results)) - {"Another request is still opening this session."} == {
        session.embed_url
    }
    assert len(fake.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_waiting_caller_takes_over_when_the_first_fails(fake, teacher, settings, in_threads):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)
    fake.latency = 0.05
    fake.fail("POST", "/embed-sessions", status=400)
    results = in_threads(
        4, lambda: services.open_session(teacher, GenerateExam(), origin=ORIGIN).embed_url
    )
    [session] = fake.sessions.values()
    assert session.embed_url in results
    assert len(fake.calls("POST", "/embed-sessions")) == 2


def test_dropped_connection_fails_only_one_launch(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)
    fake.fail("POST", "/embed-sessions", transport="close")
    with pytest.raises(ExamplaryConnectionError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open


def test_visitor_has_no_sessions(fake, teacher):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    mine = ExamplarySession.objects.for_user
    assert [*mine(teacher), *mine(teacher.pk)] == [session, session]
    ExamplarySession.objects.update(actor=None)
    for visitor in (AnonymousUser(), User(), None):
        assert not mine(visitor).exists()
