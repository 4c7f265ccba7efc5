from __future__ import annotations

import json
import logging
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth.signals import user_logged_out
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone
from django_examplary.services.sessions import checked_embed, launch_session

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.data import Theme
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryConnectionError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplarySessionEndedError,
    ExamplaryTimeoutError,
    ExamplaryValidationError,
)
from django_examplary.flows import EditExam, GenerateExam, MarkAnswer, TakeExam
from django_examplary.launch import LaunchRequest
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.actors import disown_actor
from django_examplary.signals import session_cancelled, session_closed, session_completed

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status
ORIGIN = "https://school.example"


@pytest.fixture
def announced():
    """What the three signals said, in order."""
    received = []

    def receiver(signal, session, **kwargs):
        received.append((names[signal], session.pk, kwargs.get("outputs")))

    names = {
        session_completed: "completed",
        session_cancelled: "cancelled",
        session_closed: "closed",
    }
    for signal in names:
        signal.connect(receiver)
    yield received
    for signal in names:
        signal.disconnect(receiver)


@pytest.fixture
def open_exam(fake, teacher):
    return services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)


def unacknowledged(work):
    """Stand in for `commit` where the database has kept a change, and its answer is lost."""
    work()
    return work()


# Opening


def test_session_is_opened_for_the_page(fake, teacher):
    session = services.open_session(
        teacher,
        GenerateExam(subject="Sums"),
        origin=ORIGIN,
        theme=Theme(locale="nl"),
        metadata={"course": "7"},
        next_url="/exams/",
    )
    assert session.status == Status.PENDING
    assert session.embed_url == fake.sessions[session.examplary_id].embed_url
    assert timedelta(days=6) < session.expires_at - timezone.now() <= timedelta(days=7)
    sent = json.loads(fake.calls("POST", "/embed-sessions")[0].body)
    assert sent == {
        "flow": "generate-exam",
        "actor": session.actor.examplary_id,
        "presets": {"subject": "Sums"},
        "theme": {"locale": "nl"},
        "metadata": {"course": "7"},
        "allowedOrigin": ORIGIN,
    }
    assert str(session) == "generate-exam (open)"


def test_redirect_mode_gives_a_signed_path_to_come_back_to(fake, teacher):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN, mode="redirect")
    sent = json.loads(fake.calls("POST", "/embed-sessions")[0].body)
    assert sent["returnUrl"].startswith(f"{ORIGIN}/examplary/return/{session.pk}:")
    assert "?" not in sent["returnUrl"]
    assert "allowedOrigin" not in sent


def test_student_flow_makes_a_student(fake, student):
    exam = fake.add_exam()
    fake.staging = True
    flow = TakeExam(exam_id=exam["id"])
    session = services.open_session(student, flow, origin=ORIGIN, grant_access=True)
    assert session.actor.role == "student"


def test_origin_comes_from_the_setting_or_must_be_given(fake, teacher, settings):
    with pytest.raises(ExamplaryValidationError, match="origin: is required"):
        services.open_session(teacher, GenerateExam())
    settings.EXAMPLARY_SITE_ORIGIN = f"{ORIGIN}/"
    services.open_session(teacher, GenerateExam())
    assert json.loads(fake.requests[-1].body)["allowedOrigin"] == ORIGIN


@pytest.mark.parametrize("warm", [False, True])
def test_inactive_user_opens_nothing(fake, teacher, warm):
    if warm:
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    teacher.is_active = False
    sent = len(fake.requests)
    with pytest.raises(ExamplaryNotProvisionedError, match="inactive"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert len(fake.requests) == sent


@pytest.mark.parametrize("value", ["a\x00b", "\ud800", {"a": "\x00"}, ["\udfff"]])
def test_what_no_database_can_store_is_refused(fake, teacher, value):
    with pytest.raises(ExamplaryValidationError, match="answer: holds"):
        services.open_session(teacher, MarkAnswer(extra={"answer": value}), origin=ORIGIN)
    for field, options in (
        ("metadata", {"metadata": {"a": "\x00"}}),
        ("next", {"next_url": "/a\x00b"}),
        ("theme", {"theme": {"locale": "\x00"}}),
    ):
        with pytest.raises(ExamplaryValidationError, match=f"{field}: "):
            services.open_session(teacher, GenerateExam(), origin=ORIGIN, **options)
    assert fake.requests == []


def nested(levels):
    value = "core"
    for _ in range(levels):
        value = {"in": [value]}
    return value


def test_what_is_nested_too_deeply_for_some_database(fake, teacher):
    services.open_session(teacher, MarkAnswer(extra={"answer": nested(14)}), origin=ORIGIN)
    with pytest.raises(ExamplaryValidationError, match="answer: holds"):
        services.open_session(teacher, MarkAnswer(extra={"answer": nested(16)}), origin=ORIGIN)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_number_that_is_not_json_is_refused(fake, teacher, number):
    with pytest.raises(ExamplaryValidationError, match="points: holds"):
        services.open_session(teacher, MarkAnswer(extra={"points": [number]}), origin=ORIGIN)
    assert fake.requests == []


def test_site_has_one_origin_if_the_settings_say_so(fake, teacher, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://www.school.example"
    services.open_session(teacher, GenerateExam(), origin="http://backend:8000")
    sent = json.loads(fake.calls("POST", "/embed-sessions")[0].body)
    assert sent["allowedOrigin"] == "https://www.school.example"


def test_like_sessions_are_shared_in_one_query(fake, teacher, open_exam, django_assert_num_queries):
    flow = GenerateExam(subject="Sums")
    with django_assert_num_queries(1):
        again = services.open_session(teacher, flow, origin=ORIGIN)
        # All of it: an async view could not load the rest.
        assert again.presets == {"subject": "Sums"}
    assert again == open_exam
    assert len(fake.calls("POST", "/embed-sessions")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "https://other.example"},
        {"theme": {"primary_color": "#ff0000"}},
        {"metadata": {"course": "7"}},
        {"next_url": "/exams/"},
        {"mode": "redirect"},
        {"reuse": False},
    ],
)
def test_what_differs_is_not_shared(fake, teacher, open_exam, change):
    other = services.open_session(
        teacher, GenerateExam(subject="Sums"), **{"origin": ORIGIN, **change}
    )
    assert other != open_exam
    assert open_exam.open_key != other.open_key


def test_another_user_has_another_session(fake, student, open_exam):
    other = services.open_session(student, GenerateExam(subject="Sums"), origin=ORIGIN)
    assert other != open_exam
    assert other.actor.user == student


@pytest.mark.parametrize("remains", [timedelta(minutes=59), timedelta(hours=-1), None])
def test_session_with_little_life_left_is_replaced_but_may_still_end_well(
    fake, teacher, open_exam, remains
):
    ExamplarySession.objects.update(expires_at=remains and timezone.now() + remains)
    fresh = services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)
    assert fresh != open_exam
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.open_key) == (Status.PENDING, None)


def test_session_of_an_origin_that_is_no_longer_trusted_is_replaced(
    fake, teacher, open_exam, settings
):
    settings.EXAMPLARY_EMBED_ORIGINS = ["https://app.examplary.ai"]
    with pytest.raises(ExamplaryResponseError, match="does not list"):
        services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)


def test_failed_opening_leaves_no_row(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/embed-sessions", status=500)
    with pytest.raises(ExamplaryServerError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    services.open_session(teacher, GenerateExam(), origin=ORIGIN)


@pytest.mark.parametrize("expires_at", [None, "soon"])
def test_session_without_a_usable_expiry_is_used_once(fake, teacher, expires_at):
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"expiresAt": expires_at})
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert (session.status, session.expires_at) == (Status.PENDING, None)
    assert services.verify_session(session).status == Status.PENDING
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN) != session


@pytest.mark.parametrize("skew", [timedelta(hours=-9), timedelta(hours=9)])
def test_clock_of_the_api_does_not_matter(fake, teacher, skew):
    clock = fake.clock
    fake.clock = lambda: clock() + skew
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert timedelta(days=6, hours=23) < session.expires_at - timezone.now() <= timedelta(days=7)


@pytest.mark.parametrize(
    ("created_at", "expires_at"),
    [
        ("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"),
        ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"),
    ],
)
def test_life_that_ends_before_it_begins_is_none(fake, teacher, created_at, expires_at):
    times = {"createdAt": created_at, "expiresAt": expires_at}
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | times)
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.expires_at <= timezone.now()
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN) != session


def test_life_is_capped(fake, teacher):
    fake.fail(
        "POST", "/embed-sessions", edit=lambda body: body | {"expiresAt": "2999-01-01T00:00:00Z"}
    )
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.expires_at - timezone.now() <= timedelta(days=7)


def test_status_that_is_longer_than_its_column_is_cut(fake, teacher):
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"status": "x" * 100})
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert (session.status, session.remote_status) == (Status.PENDING, "x" * 64)


def test_lost_actor_is_replaced_once(fake, teacher, open_exam):
    lost = open_exam.actor.examplary_id
    del fake.users[lost]
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.actor_id == open_exam.actor_id
    actor = ExamplaryActor.objects.get()
    assert actor.examplary_id in fake.users
    # The session that was opened for the lost actor is not taken for somebody else's.
    assert services.verify_session(open_exam).status == Status.PENDING
    assert fake.sessions[open_exam.examplary_id].actor == lost


def test_actor_that_stays_lost_is_an_error_and_no_loop(fake, teacher, open_exam):
    fake.fail(
        "POST",
        "/embed-sessions",
        times=None,
        status=400,
        body={"message": "Actor with the given ID does not exist as a user within your workspace."},
    )
    del fake.users[open_exam.actor.examplary_id]
    with pytest.raises(ExamplaryInvalidRequestError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert len(fake.calls("POST", "/embed-sessions")) == 3
    assert len(fake.calls("POST", "/users")) == 2


def test_student_who_was_linked_is_replaced_as_a_student(fake, student):
    fake.staging = True
    actor = services.link_actor(student, fake.add_user("before@school.example")["id"])
    del fake.users[actor.examplary_id]
    flow = TakeExam(exam_id=fake.add_exam()["id"])
    session = services.open_session(student, flow, origin=ORIGIN, grant_access=True)
    assert session.actor.role == "student"


def test_owner_of_the_key_cannot_stand_for_anybody(fake, teacher):
    fake.duplicates = "return"
    teacher.email = fake.users[fake.owner_id]["email"]
    with pytest.raises(ExamplaryActorIsOwnerError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.examplary_id) == (ExamplaryActor.State.FAILED, None)
    assert "belongs to the owner of the API key" in actor.last_error
    assert len(fake.calls("POST", "/users")) == 1
    assert not ExamplarySession.objects.exists()


def test_prerelease_flow_is_refused_in_production(teacher, settings, monkeypatch):
    settings.EXAMPLARY_API_URL = "https://api.examplary.ai"
    with pytest.raises(ExamplaryValidationError, match="set EXAMPLARY_PRERELEASE_FLOWS = True"):
        services.open_session(teacher, TakeExam(exam_id="exam_1"), origin=ORIGIN)
    settings.EXAMPLARY_PRERELEASE_FLOWS = True
    asked = []
    monkeypatch.setattr(
        "django_examplary.services.sessions.provision_actor",
        lambda user, **kwargs: asked.append(user) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        services.open_session(teacher, TakeExam(exam_id="exam_1"), origin=ORIGIN)
    assert asked == [teacher]


def test_request_for_a_stored_session_gives_that_or_says_that_it_is_over(fake, teacher, open_exam):
    request = LaunchRequest(user_id=str(teacher.pk), session_id=str(open_exam.pk))
    assert launch_session(teacher, request, origin=ORIGIN) == open_exam
    services.revoke_session(open_exam)
    with pytest.raises(ExamplarySessionEndedError):
        launch_session(teacher, request, origin=ORIGIN)


def test_same_remote_session_twice_is_refused(fake, teacher, open_exam):
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"id": open_exam.examplary_id})
    with pytest.raises(ExamplaryResponseError, match="same session twice"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert ExamplarySession.objects.get() == open_exam


@pytest.mark.django_db(transaction=True)
def test_user_who_goes_before_the_session_is_claimed(fake, teacher, monkeypatch):
    def provision_and_delete(user, **options):
        actor = services.provision_actor(user, **options)
        type(user).objects.filter(pk=user.pk).delete()
        return actor

    monkeypatch.setattr("django_examplary.services.sessions.provision_actor", provision_and_delete)
    with pytest.raises(ExamplaryNotProvisionedError, match="does not exist any more"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)


def deactivate(user):
    user.is_active = False
    user.save()


GOES = {
    "is deleted": lambda user: user.delete(),
    "is deactivated": deactivate,
    "is erased": services.erase_user,
    "signs out": lambda user: user_logged_out.send(type(user), request=None, user=user),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("goes", GOES)
def test_session_of_a_user_who_goes_while_it_is_opened(fake, teacher, settings, goes, monkeypatch):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = True
    client = services.get_client()
    create = client.create_embed_session

    def create_while_the_user_goes(**options):
        session = create(**options)
        GOES[goes](teacher)
        return session

    monkeypatch.setattr(client, "create_embed_session", create_while_the_user_goes)
    with pytest.raises(ExamplaryNotReadyError, match="claim on this session was lost"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    (remote,) = fake.sessions.values()
    assert remote.revoked


def test_launch_ends_within_one_deadline(fake, teacher, settings):
    """However many calls it takes, so that nobody takes its claim for a dead one's."""
    settings.EXAMPLARY_DEADLINE, settings.EXAMPLARY_MAX_RETRIES = 1.5, 0
    fake.latency = 0.8
    started = time.monotonic()
    with pytest.raises(ExamplaryTimeoutError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert time.monotonic() - started < 0.8 + 1.5
    # The first call was in time.
    assert ExamplaryActor.objects.get().is_active
    assert not ExamplarySession.objects.exists()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_claim_is_given_up_whatever_goes_wrong(fake, teacher, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr("django_examplary.services.sessions.reverse", fail)
    with pytest.raises(error):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN, mode="redirect")
    assert not ExamplarySession.objects.exists()


# Where an embed may come from

TRUSTED = "https://app.examplary.ai"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "javascript:alert(1)",
        "data:text/html,x",
        "vbscript:x",
        "blob:https://app.examplary.ai/1",
        "//app.examplary.ai/embeds/1",
        "/embeds/1",
        "http://app.examplary.ai/embeds/1",
        "https://app.examplary.ai@evil.example/",
        "https://app.examplary.ai\\@evil.example/",
        "https://user:secret@app.examplary.ai/",
        "https://app.examplary.ai.evil.example/",
        "https://evil-app.examplary.ai/",
        "https://app.examplary.ai./embeds/1",
        "https://APP.EXAMPLARY.AI/embeds/1",
        "https://app.examplary.ai:8443/embeds/1",
        "https://xn--pp-eka.examplary.ai/",
        "https://аpp.examplary.ai/embeds/1",
        "https://app.exam\tplary.ai/embeds/1",
        "https://app.examplary.ai/embeds/1\n",
        " https://app.examplary.ai/embeds/1",
        'https://app.examplary.ai/ "onload=',
        "https://app.examplary.ai/" + "x" * 10_000,
        "https://[app.examplary.ai/",
        "http://127.0.0.1:8001/embeds/1",
    ],
)
def test_unsafe_embed_url_is_refused(settings, url):
    settings.EXAMPLARY_EMBED_ORIGINS = [TRUSTED]
    with pytest.raises(ExamplaryResponseError, match="returned an embed URL"):
        checked_embed(url)


def test_http_is_only_for_this_machine_while_debugging(settings):
    settings.EXAMPLARY_EMBED_ORIGINS = [TRUSTED, "http://127.0.0.1:8001", "http://evil.example"]
    assert checked_embed("https://app.examplary.ai/embeds/1?a=b") == TRUSTED
    with pytest.raises(ExamplaryResponseError):
        checked_embed("http://127.0.0.1:8001/embeds/1")
    settings.DEBUG = True
    assert checked_embed("http://127.0.0.1:8001/embeds/1") == "http://127.0.0.1:8001"
    with pytest.raises(ExamplaryResponseError):
        checked_embed("http://evil.example/embeds/1")


def test_session_with_an_unsafe_url_is_never_stored(fake, teacher):
    fake.embed_origin = "https://evil.example"
    with pytest.raises(ExamplaryResponseError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert not ExamplarySession.objects.exists()
    # Nor is it left open at Examplary, where every other try would add one.
    assert [session.revoked for session in fake.sessions.values()] == [True]


def test_unsafe_session_that_cannot_be_revoked(fake, teacher, caplog):
    fake.embed_origin = "https://evil.example"
    fake.fail("DELETE", status=403)
    with pytest.raises(ExamplaryEmbedURLError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert "operation=discard" in caplog.text
    assert not ExamplarySession.objects.exists()


# What became of it


def test_completion_is_stored_announced_and_revoked(fake, open_exam, announced):
    fake.complete(open_exam.examplary_id, {"examId": "exam_1", "later": [1]})
    session = services.verify_session(open_exam)
    assert session.status == Status.COMPLETED
    assert session.outputs == {"examId": "exam_1", "later": [1]}
    assert (session.embed_url, session.open_key, session.remote_status) == ("", None, "completed")
    assert session.ended_at is not None
    assert session.verified_at is not None
    ((name, pk, outputs),) = announced
    assert (name, pk, outputs.exam_id) == ("completed", open_exam.pk, "exam_1")
    assert fake.sessions[open_exam.examplary_id].revoked
    assert session.revoke_pending is False
    # Asked again it is known, and nobody is told twice.
    services.verify_session(session)
    assert len(announced) == 1
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


@pytest.mark.parametrize(
    ("outputs", "stored"),
    [
        ({"a": "b\x00\ud800"}, {"a": "b\ufffd\ufffd"}),
        ({"a": nested(10)}, {"a": nested(10)}),
        ({"a": [nested(14)]}, {"a": [nested(14)]}),
    ],
)
def test_outputs_of_any_kind_are_stored(fake, open_exam, outputs, stored):
    fake.complete(open_exam.examplary_id, outputs)
    services.verify_session(open_exam)
    assert ExamplarySession.objects.get().outputs == stored


def test_outputs_that_are_nested_too_deeply_keep_their_core_as_a_text(fake, open_exam):
    fake.complete(open_exam.examplary_id, {"a": nested(40)})
    services.verify_session(open_exam)
    value = ExamplarySession.objects.get().outputs["a"]
    texts = 0
    while value != "core":
        if isinstance(value, str):
            value, texts = json.loads(value), texts + 1
        else:
            value = value["in"] if isinstance(value, dict) else value[0]
    assert texts == 1


def test_number_that_no_database_holds_is_kept_as_a_text(fake, open_exam):
    fake.complete(open_exam.examplary_id)
    whole = json.dumps(fake.sessions[open_exam.examplary_id].as_json())
    fake.fail(
        "GET",
        body=whole.replace('"outputs": {', '"outputs": {"x": 1e999, ').encode(),
        headers={"Content-Type": "application/json"},
    )
    services.verify_session(open_exam)
    assert ExamplarySession.objects.get().outputs["x"] == "inf"


def test_completed_session_is_left_alone_if_the_site_wants_so(fake, open_exam, settings):
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = False
    fake.complete(open_exam.examplary_id)
    services.verify_session(open_exam)
    assert fake.calls("DELETE") == []


def test_cancellation_is_stored_and_announced(fake, open_exam, announced):
    fake.cancel(open_exam.examplary_id)
    assert services.verify_session(open_exam).status == Status.CANCELLED
    assert announced == [("cancelled", open_exam.pk, None)]


@pytest.mark.parametrize("status", ["pending", "paused", "x" * 100])
def test_other_statuses_are_not_final(fake, open_exam, announced, status):
    fake.fail("GET", edit=lambda body: body | {"status": status})
    session = services.verify_session(open_exam)
    assert (session.status, session.remote_status) == (Status.PENDING, status[:64])
    assert session.verified_at is not None
    assert announced == []


@pytest.mark.parametrize("gone", [404, 410])
def test_session_that_is_gone_has_expired_or_was_revoked(fake, open_exam, announced, gone):
    fake.gone_status = gone
    fake.expire(open_exam.examplary_id)
    ExamplarySession.objects.update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED
    assert announced == []


def test_answer_that_a_session_is_not_there_ends_none(fake, open_exam):
    """A proxy may have given it, or Examplary too soon."""
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", status=404, body=b"<h1>404</h1>")
    with pytest.raises(ExamplaryNotFoundError):
        services.verify_session(open_exam)
    services.sweep_sessions()
    open_exam.refresh_from_db()
    assert open_exam.status == Status.COMPLETED


def test_wrong_key_ends_no_session(fake, teacher, open_exam, wrong_key):
    """Not even where it knows a session that was opened with it."""
    with wrong_key():
        with pytest.raises(ExamplaryNotFoundError):
            services.verify_session(open_exam)
        # Whoever starts again gets another.
        other = services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)
        assert other.pk != open_exam.pk
        services.sweep_sessions()
    # When the key is right again nothing is lost.
    fake.complete(open_exam.examplary_id)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.COMPLETED


@pytest.mark.parametrize("name", ["verify_session", "close_session", "revoke_session"])
def test_deletion_that_succeeded_without_saying_so_is_done(fake, open_exam, name):
    if name == "verify_session":
        fake.complete(open_exam.examplary_id)
    fake.fail("DELETE", status=500, before=False)
    session = getattr(services, name)(open_exam)
    assert (session.is_open, session.revoke_pending) == (False, False)
    assert len(fake.calls("DELETE")) == 2


def test_outcome_that_the_database_kept_without_saying_so_is_announced(
    fake, open_exam, announced, monkeypatch
):
    fake.complete(open_exam.examplary_id)
    monkeypatch.setattr("django_examplary.services.sessions.commit", unacknowledged)
    services.verify_session(open_exam)
    assert [(name, pk) for name, pk, _ in announced] == [("completed", open_exam.pk)]


def test_result_that_was_read_while_the_session_was_revoked_is_kept(
    fake, open_exam, announced, monkeypatch
):
    """Who revoked it asked first, just before its user finished."""
    client = services.get_client()
    read, delete = client.get_embed_session, client.delete_embed_session
    answers = []

    def read_while_another_revokes(session_id):
        def finish_and_read_before_it_is_gone(session_id, **options):
            fake.complete(session_id)
            answers.append(read(session_id))
            delete(session_id, **options)

        monkeypatch.setattr(client, "get_embed_session", read)
        monkeypatch.setattr(client, "delete_embed_session", finish_and_read_before_it_is_gone)
        services.revoke_session(ExamplarySession.objects.get())
        monkeypatch.setattr(client, "delete_embed_session", delete)
        return answers.pop()

    monkeypatch.setattr(client, "get_embed_session", read_while_another_revokes)
    services.verify_session(open_exam)
    assert open_exam.status == Status.COMPLETED
    assert [(name, pk) for name, pk, _ in announced] == [("completed", open_exam.pk)]
    assert fake.sessions[open_exam.examplary_id].revoked


def test_result_of_a_user_who_was_deleted_while_it_was_read_is_nobodys(
    fake, teacher, open_exam, announced, monkeypatch
):
    client = services.get_client()
    read = client.get_embed_session

    def read_while_the_user_is_deleted(session_id):
        fake.complete(session_id)
        remote = read(session_id)
        teacher.delete()
        return remote

    monkeypatch.setattr(client, "get_embed_session", read_while_the_user_is_deleted)
    services.verify_session(open_exam)
    assert (open_exam.status, open_exam.outputs, announced) == (Status.REVOKED, {}, [])
    assert fake.sessions[open_exam.examplary_id].revoked


def test_result_does_not_undo_a_revocation_that_is_still_to_come(fake, open_exam, settings):
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = False
    fake.fail("DELETE", status=400)
    services.revoke_session(ExamplarySession.objects.get())
    fake.complete(open_exam.examplary_id)
    services.verify_session(open_exam)
    assert open_exam.status == Status.COMPLETED
    assert fake.sessions[open_exam.examplary_id].revoked


def test_claim_that_the_database_kept_without_saying_so_is_filled(fake, teacher, monkeypatch):
    services.provision_actor(teacher)

    def unacknowledged_insert(work):
        with transaction.atomic():
            work()
        with transaction.atomic():
            return work()

    monkeypatch.setattr("django_examplary.services.sessions.commit", unacknowledged_insert)
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open


def test_session_that_the_database_kept_without_saying_so_is_handed_out(fake, teacher, monkeypatch):
    client = services.get_client()
    create = client.create_embed_session

    def create_and_lose_the_next_answer(**request):
        remote = create(**request)
        monkeypatch.setattr("django_examplary.services.sessions.commit", unacknowledged)
        return remote

    monkeypatch.setattr(client, "create_embed_session", create_and_lose_the_next_answer)
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.is_open
    assert not fake.sessions[session.examplary_id].revoked


def test_session_that_another_caller_has_ended_meanwhile_is_not_unknown(
    fake, open_exam, announced, monkeypatch
):
    client = services.get_client()
    get = client.get_embed_session

    def get_after_another_has(session_id):
        monkeypatch.setattr(client, "get_embed_session", get)
        services.verify_session(ExamplarySession.objects.get())
        return get(session_id)

    fake.complete(open_exam.examplary_id)
    monkeypatch.setattr(client, "get_embed_session", get_after_another_has)
    assert services.verify_session(open_exam).status == Status.COMPLETED
    assert [(name, pk) for name, pk, _ in announced] == [("completed", open_exam.pk)]


def test_pending_session_past_its_expiry_has_expired(fake, open_exam):
    fake.expired_status = "pending"
    fake.expire(open_exam.examplary_id)
    ExamplarySession.objects.update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED


def test_late_answer_changes_nothing_that_is_final(fake, open_exam, announced, monkeypatch):
    """Another caller hears of the completion while this one's answer is under way."""
    client = services.get_client()
    get = client.get_embed_session

    def get_while_another_verifies(session_id):
        early = get(session_id)
        monkeypatch.setattr(client, "get_embed_session", get)
        fake.complete(session_id)
        services.verify_session(ExamplarySession.objects.get())
        return early

    monkeypatch.setattr(client, "get_embed_session", get_while_another_verifies)
    session = services.verify_session(open_exam, client=client)
    assert (session.status, session.remote_status) == (Status.COMPLETED, "completed")
    assert [name for name, *_ in announced] == ["completed"]


def test_answer_from_the_future_is_none(fake, open_exam):
    """The clock was set back, or another machine's is ahead."""
    ExamplarySession.objects.update(asked_at=timezone.now() + timedelta(hours=1))
    open_exam.refresh_from_db()
    fake.complete(open_exam.examplary_id)
    session = services.verify_session(open_exam, max_age=timedelta(seconds=1))
    assert session.status == Status.COMPLETED


def test_answer_that_did_not_come_is_not_asked_for_again_at_once(fake, open_exam):
    fake.fail("GET", status=403)
    with pytest.raises(ExamplaryPermissionError):
        services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam, max_age=timedelta(minutes=1)).is_open
    assert len(fake.calls("GET")) == 1
    fake.complete(open_exam.examplary_id)
    assert services.verify_session(open_exam).status == Status.COMPLETED


def test_of_those_who_ask_at_the_same_time_one_does(fake, open_exam, monkeypatch):
    client = services.get_client()
    get, moment = client.get_embed_session, timedelta(minutes=1)

    def get_while_another_asks(session_id):
        other = ExamplarySession.objects.get()
        other.asked_at = None  # As it was when the page was asked for.
        assert services.verify_session(other, max_age=moment).is_open
        return get(session_id)

    monkeypatch.setattr(client, "get_embed_session", get_while_another_asks)
    services.verify_session(open_exam, max_age=moment)
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


def test_old_name_of_generate_exam_is_tolerated(fake, open_exam):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", edit=lambda body: body | {"flow": "generate-questions"})
    assert services.verify_session(open_exam).status == Status.COMPLETED


@pytest.mark.parametrize(
    "change", [{"flow": "edit-rubric"}, {"flow": "generate-exams"}, {"actor": "user_other"}]
)
def test_answer_about_another_session_changes_nothing(fake, open_exam, announced, caplog, change):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", edit=lambda body: body | change)
    with caplog.at_level(logging.ERROR), pytest.raises(ExamplaryResponseError, match="another"):
        services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert open_exam.status == Status.PENDING
    assert announced == []
    assert "outcome=foreign-answer" in caplog.text


def test_session_of_an_id_that_was_dropped_ends_as_any_other(fake, open_exam):
    """The key became that of the user, say, and the next launch found out."""
    disown_actor(open_exam.actor, ExamplaryActorIsOwnerError("It is the owner.", status_code=400))
    fake.complete(open_exam.examplary_id)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.COMPLETED


def test_outage_leaves_the_session_open(fake, open_exam, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    with pytest.raises(ExamplaryServerError):
        services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert open_exam.is_open


def test_receiver_that_raises_stops_nothing(fake, open_exam, announced):
    def broken(**kwargs):
        raise LookupError

    session_completed.connect(broken)
    fake.complete(open_exam.examplary_id)
    try:
        assert services.verify_session(open_exam).status == Status.COMPLETED
    finally:
        session_completed.disconnect(broken)
    assert len(announced) == 1
    assert fake.sessions[open_exam.examplary_id].revoked


def test_session_that_was_erased_meanwhile_is_over(fake, open_exam, announced):
    ExamplarySession.objects.all().delete()
    with pytest.raises(ExamplarySessionEndedError, match="any more"):
        services.verify_session(open_exam)
    fake.complete(open_exam.examplary_id)
    with pytest.raises(ExamplarySessionEndedError, match="any more"):
        services.verify_session(open_exam)
    assert announced == []


# Ending it


def test_flow_that_never_completes_is_closed(fake, teacher, announced):
    exam = fake.add_exam()
    flow = EditExam(exam_id=exam["id"])
    session = services.open_session(teacher, flow, origin=ORIGIN, grant_access=True)
    assert services.close_session(session).status == Status.CLOSED
    assert announced == [("closed", session.pk, None)]
    assert fake.sessions[session.examplary_id].revoked
    services.close_session(session)
    assert len(announced) == 1


def test_closing_what_turns_out_to_be_completed_completes_it(fake, open_exam, announced):
    fake.complete(open_exam.examplary_id)
    assert services.close_session(open_exam).status == Status.COMPLETED
    assert [name for name, *_ in announced] == ["completed"]


def test_revoked_session_is_dead_here_even_if_the_api_is_down(fake, open_exam, settings, caplog):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("DELETE", transport="close")
    session = services.revoke_session(open_exam)
    assert (session.status, session.embed_url, session.revoke_pending) == (
        Status.REVOKED,
        "",
        True,
    )
    assert "operation=revoke" in caplog.text
    assert not fake.sessions[open_exam.examplary_id].revoked


def test_of_an_actors_sessions_those_that_are_open_are_revoked(fake, teacher, open_exam):
    over = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    services.revoke_session(over)
    assert services.revoke_sessions(open_exam.actor) == [open_exam]
    assert services.revoke_sessions(open_exam.actor) == []


def test_session_that_is_completed_just_before_it_is_revoked_stays_that(fake, open_exam):
    def complete_first(execute, sql, *args):
        if sql.startswith("UPDATE") and not fake.calls("GET"):
            fake.complete(open_exam.examplary_id)
            services.verify_session(ExamplarySession.objects.get())
        return execute(sql, *args)

    with connection.execute_wrapper(complete_first):
        assert services.revoke_sessions(open_exam.actor) == []
    open_exam.refresh_from_db()
    assert open_exam.status == Status.COMPLETED


# Transactions and threads, with real commits


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_sent(fake, teacher):
    session = services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)
    sent = len(fake.requests)
    for service, call in {
        "open_session": lambda: services.open_session(teacher, GenerateExam(), origin=ORIGIN),
        "verify_session": lambda: services.verify_session(session),
        "close_session": lambda: services.close_session(session),
        "revoke_session": lambda: services.revoke_session(session),
    }.items():
        with transaction.atomic(), pytest.raises(TransactionManagementError, match=service):
            call()
    assert len(fake.requests) == sent
    with transaction.atomic():
        # The stored session needs no call.
        services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)


def in_threads(count, call):
    """Run `call` in so many threads at once, and return what came of each."""
    outcomes = []

    def run():
        try:
            outcomes.append(call())
        except ExamplaryError as error:
            outcomes.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.django_db(transaction=True)
def test_of_many_first_launches_at_once_one_opens_the_session(fake, teacher):
    fake.latency = 0.05
    outcomes = in_threads(
        32, lambda: services.open_session(teacher, GenerateExam(), origin=ORIGIN).embed_url
    )
    (session,) = fake.sessions.values()
    assert outcomes == [session.embed_url] * 32
    assert len(fake.requests) == 2


@pytest.mark.django_db(transaction=True)
def test_when_the_first_fails_the_next_takes_over(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)
    fake.latency = 0.05
    fake.fail("POST", "/embed-sessions", status=400)
    outcomes = in_threads(
        4, lambda: services.open_session(teacher, GenerateExam(), origin=ORIGIN).embed_url
    )
    (session,) = fake.sessions.values()
    assert outcomes.count(session.embed_url) == 3


@pytest.mark.django_db(transaction=True)
def test_claim_of_a_killed_worker_is_waited_for_and_lapses(fake, teacher, settings):
    request = LaunchRequest(user_id=str(teacher.pk), flow="generate-exam")
    actor = services.provision_actor(teacher)
    settings.EXAMPLARY_DEADLINE = 0.2
    fingerprint = request.fingerprint(ORIGIN)
    ExamplarySession.objects.create(
        actor=actor,
        flow="generate-exam",
        fingerprint=fingerprint,
        open_key=f"{actor.pk}:{fingerprint}",
    )
    with pytest.raises(ExamplaryNotReadyError, match="still opening"):
        launch_session(teacher, request, origin=ORIGIN)
    ExamplarySession.objects.update(created_at=timezone.now() - timedelta(minutes=5))
    settings.EXAMPLARY_DEADLINE = 15
    assert launch_session(teacher, request, origin=ORIGIN).is_open
    assert ExamplarySession.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_holder_of_a_lapsed_claim_may_still_fill_it(fake, teacher, open_exam, monkeypatch):
    def fill_just_now():
        ExamplarySession.objects.update(status=Status.PENDING)
        return timezone.now()

    ExamplarySession.objects.update(status=Status.CREATING)
    monkeypatch.setattr("django_examplary.services.sessions.lapsed_before", fill_just_now)
    session = services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN)
    assert session == open_exam
    assert len(fake.calls("POST", "/embed-sessions")) == 1


@pytest.mark.django_db(transaction=True)
def test_launch_waits_for_another_no_longer_than_it_has_time(fake, teacher, open_exam):
    ExamplarySession.objects.update(status=Status.CREATING)
    started = time.monotonic()
    client = services.get_client().within(0)
    with pytest.raises(ExamplaryNotReadyError, match="still opening"):
        services.open_session(teacher, GenerateExam(subject="Sums"), origin=ORIGIN, client=client)
    assert time.monotonic() - started < conf.EXAMPLARY_DEADLINE


@pytest.mark.django_db(transaction=True)
def test_holder_that_lost_its_claim_hands_nothing_out(fake, teacher, monkeypatch):
    client = services.get_client()
    create = client.create_embed_session

    def create_while_the_claim_is_swept_away(**body):
        ExamplarySession.objects.all().delete()
        return create(**body)

    monkeypatch.setattr(client, "create_embed_session", create_while_the_claim_is_swept_away)
    with pytest.raises(ExamplaryNotReadyError, match="was lost"):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN, client=client)


@pytest.mark.django_db(transaction=True)
def test_many_who_ask_at_once_announce_once(fake, teacher, announced):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    fake.complete(session.examplary_id)
    fake.latency = 0.05
    outcomes = in_threads(
        16,
        lambda: services.verify_session(ExamplarySession.objects.get()).status,
    )
    assert set(map(str, outcomes)) == {Status.COMPLETED.value}
    assert len(announced) == 1


@pytest.mark.django_db(transaction=True)
def test_outage_of_one_call_is_seen_by_its_caller_only(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    services.provision_actor(teacher)
    fake.fail("POST", "/embed-sessions", transport="close")
    with pytest.raises(ExamplaryConnectionError):
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open
