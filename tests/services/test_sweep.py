from __future__ import annotations

import threading
import time
from concurrent.futures import wait
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.transaction import TransactionManagementError
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.flows import EditRubric, GenerateExam, GenerateQuestion
from django_examplary.models import ExamplaryActor, ExamplarySession, ExamplarySessionQuerySet
from django_examplary.services import outcomes, sweep, tidying
from django_examplary.services.paced import PacedCalls
from django_examplary.signals import session_cancelled, session_closed, session_completed
from tests.threads import call_at_once

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status
ORIGIN = "https://school.example"


@pytest.fixture
def sessions(fake, teacher):
    """Three open sessions."""
    return [
        services.open_session(teacher, flow, origin=ORIGIN)
        for flow in (GenerateExam(), GenerateQuestion(), EditRubric())
    ]


@pytest.fixture
def announced():
    """The primary keys of the sessions whose end was announced, in order."""
    received = []

    def receiver(session, **kwargs):
        received.append(session.pk)

    ends = (session_completed, session_cancelled, session_closed)
    for signal in ends:
        signal.connect(receiver)
    yield received
    for signal in ends:
        signal.disconnect(receiver)


@pytest.fixture(autouse=True)
def one_attempt(settings):
    settings.EXAMPLARY_MAX_RETRIES = 0


def asked(fake, method="GET"):
    return [call.path.rpartition("/")[2] for call in fake.calls(method, "/embed-sessions/{id}")]


def age(session, **since):
    """Move the opening of the session to the past."""
    at = timezone.now() - timedelta(**since)
    ExamplarySession.objects.filter(pk=session.pk).update(
        created_at=at, expires_at=at + timedelta(days=7), asked_at=None
    )


# Open sessions


def test_outcomes_that_no_browser_reported_are_stored(fake, sessions, announced):
    fake.complete(sessions[0].examplary_id)
    fake.cancel(sessions[1].examplary_id)
    reports = []

    result = services.sweep_sessions(progress=lambda sweep: reports.append(sweep.verified))

    assert result.verified == 3
    assert result.ended == {"completed": 1, "cancelled": 1}
    assert (result.failed, result.missing, result.interrupted, result.stopped) == (0, 0, False, "")
    assert sorted(announced) == sorted([sessions[0].pk, sessions[1].pk])
    assert reports[-1] == 3


def test_ended_sessions_are_deleted_at_examplary(fake, sessions):
    fake.complete(sessions[0].examplary_id)

    assert services.sweep_sessions().revoked == 1
    assert asked(fake, "DELETE") == [sessions[0].examplary_id]


def test_longest_waiting_sessions_come_first(fake, sessions):
    services.verify_session(sessions[0])
    fake.requests.clear()

    services.sweep_sessions(limit=2)

    assert set(asked(fake)) == {sessions[1].examplary_id, sessions[2].examplary_id}


def test_users_take_turns(fake, teacher, student, sessions):
    """Many sessions of one user do not delay a newer session of another user."""
    theirs = services.open_session(student, GenerateExam(), origin=ORIGIN)
    fake.requests.clear()

    services.sweep_sessions(limit=2)

    assert set(asked(fake)) == {sessions[0].examplary_id, theirs.examplary_id}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_failing_session_does_not_delay_the_others(fake, sessions, method):
    """Repeated sweeps with a limit reach every session."""
    if method == "DELETE":
        fake.fail("DELETE", status=500)
        services.revoke_session(sessions[0])
    fake.fail(method, "/embed-sessions/{id}", status=500)
    for session in sessions[1:]:
        fake.complete(session.examplary_id)

    for _ in range(3):
        services.sweep_sessions(limit=1)

    completed = ExamplarySession.objects.filter(status=Status.COMPLETED)
    assert set(completed) == set(sessions[1:])


def test_old_sessions_are_due_once_an_hour(fake, sessions):
    services.sweep_sessions()
    at = timezone.now() - timedelta(days=2)
    old = ExamplarySession.objects.filter(pk=sessions[0].pk)
    old.update(created_at=at)
    assert services.sweep_sessions().verified == 2

    old.update(asked_at=timezone.now() - timedelta(minutes=61))
    assert services.sweep_sessions().verified == 3

    old.update(expires_at=timezone.now())
    assert services.sweep_sessions(dry_run=True).verified == 3


def test_sessions_are_read_in_pages(fake, teacher):
    actor = services.provision_actor(teacher)
    ExamplarySession.objects.bulk_create(
        ExamplarySession(actor=actor, flow="edit-rubric", status=Status.PENDING) for _ in range(201)
    )

    # Rows without an id need no call.
    assert services.sweep_sessions().ended == {"expired": 201}


def test_sweep_ends_if_the_clock_is_set_back(fake, sessions, monkeypatch):
    """Each session is verified once, even though its call is earlier than the start."""
    now = timezone.now
    fake.requests.clear()

    def set_back():
        return now() - timedelta(hours=len(fake.requests))

    monkeypatch.setattr("django.utils.timezone.now", set_back)

    assert services.sweep_sessions(should_stop=lambda: len(fake.requests) > 30).verified == 3
    assert len(asked(fake)) == 3


def test_sweep_ends_if_the_clock_is_frozen(fake, sessions, monkeypatch):
    now = timezone.now()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)

    assert services.sweep_sessions(should_stop=lambda: len(fake.requests) > 30).verified == 3
    assert len(asked(fake)) == 3


# Failures


def test_refused_sessions_count_as_missing(fake, sessions):
    """They stay open until they expire, and the others are verified."""
    for session in sessions[:2]:
        del fake.sessions[session.examplary_id]

    result = services.sweep_sessions()

    assert (result.verified, result.missing, result.failed, result.stopped) == (1, 2, 0, "")
    assert ExamplarySession.objects.open().count() == 3


@pytest.mark.parametrize("status", [404, 200])
def test_sixty_refused_sessions_do_not_stop_the_sweep(fake, teacher, sessions, status):
    actor = ExamplaryActor.objects.get()
    for number in range(60) if status == 200 else ():
        path = f"/embed-sessions/embed_session_{number}"
        fake.fail("GET", path, status=status, body={"error": "Not found"})
    ExamplarySession.objects.bulk_create(
        ExamplarySession(
            actor=actor,
            flow="edit-rubric",
            status=Status.PENDING,
            examplary_id=f"embed_session_{number}",
            created_at=timezone.now() - timedelta(hours=2),
        )
        for number in range(60)
    )
    fake.complete(sessions[0].examplary_id)

    result = services.sweep_sessions(concurrency=16)

    assert (result.missing, result.verified, result.ended) == (60, 3, {"completed": 1})
    assert (result.failed, result.stopped) == (0, "")


def test_outage_stops_the_sweep(fake, teacher, sessions):
    actor = ExamplaryActor.objects.get()
    ExamplarySession.objects.bulk_create(
        ExamplarySession(
            actor=actor,
            flow="edit-rubric",
            status=Status.PENDING,
            examplary_id=f"embed_session_{number}",
        )
        for number in range(40)
    )
    client = services.get_client(max_retries=0)
    # The client would pause after three.
    client._connections.cooldown.FAILURES = 10**9
    fake.fail("GET", status=500, times=None)

    result = services.sweep_sessions(concurrency=1, client=client)

    assert "10 calls in a row failed" in result.stopped
    assert result.failed == len(asked(fake)) == 10


def test_single_failure_is_counted_and_logged(fake, sessions, caplog):
    fake.fail("GET", status=500)

    result = services.sweep_sessions(concurrency=1)

    assert (result.failed, result.verified, result.stopped) == (1, 2, "")
    assert "operation=sweep" in caplog.text


def test_refused_key_stops_the_sweep(fake, sessions):
    fake.requests.clear()
    fake.fail("GET", times=None, status=401)

    result = services.sweep_sessions(concurrency=1)

    assert (result.failed, result.verified) == (1, 0)
    assert "401" in result.stopped
    assert len(fake.requests) == 1


def test_refused_key_stops_its_workspace_only(fake, settings, sessions):
    key = "examp_of_another_workspace_00000000"
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": key}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(workspace="north")

    result = services.sweep_sessions(concurrency=1)

    assert (result.verified, result.failed) == (2, 1)
    assert "401" in result.stopped


def test_revocation_of_a_stopped_workspace_is_postponed(fake, settings, sessions, monkeypatch):
    """After a key was refused, follow-up calls of earlier ones are not made either."""
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = True
    fake.complete(sessions[0].examplary_id)
    record = sweep._SweepRun.record

    def refuse(run, outcome):
        record(run, outcome)
        run.calls.stopped_lanes["default"] = "refused"

    monkeypatch.setattr(sweep._SweepRun, "record", refuse)

    result = services.sweep_sessions(concurrency=1)

    assert (result.verified, result.revoked, result.stopped) == (1, 0, "refused")
    assert ExamplarySession.objects.get(revoke_pending=True) == sessions[0]


def test_sweep_of_one_workspace(fake, settings, sessions):
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": settings.EXAMPLARY_API_KEY}}
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(workspace="north")
    fake.requests.clear()

    assert services.sweep_sessions(workspace="north", dry_run=True).verified == 1
    assert services.sweep_sessions(workspace="north").verified == 1
    assert asked(fake) == [sessions[0].examplary_id]


def test_sweep_of_an_unknown_workspace_is_refused(fake, sessions):
    with pytest.raises(ExamplaryConfigurationError, match="There is no workspace 'gone'"):
        services.sweep_sessions(workspace="gone")


def test_removed_workspace_stops_its_sessions_only(fake, settings, sessions):
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"
    ExamplarySession.objects.filter(pk__in=[each.pk for each in sessions[:2]]).update(
        workspace="gone"
    )

    result = services.sweep_sessions()

    assert (result.verified, result.failed) == (1, 1)
    assert "There is no workspace 'gone'" in result.stopped


def test_429_pauses_the_sweep_and_loses_no_session(fake, sessions):
    fake.complete(sessions[0].examplary_id)
    fake.fail("GET", status=429, headers={"Retry-After": "0.3"})
    fake.fail("DELETE", status=429, headers={"Retry-After": "0"})
    started = time.monotonic()

    result = services.sweep_sessions(concurrency=1)

    assert time.monotonic() - started >= 0.29
    assert (result.verified, result.revoked, result.failed, result.stopped) == (3, 1, 0, "")


@pytest.mark.parametrize("name", ["record_answer", "end_session"])
def test_error_of_the_database_does_not_stop_the_sweep(
    fake, teacher, sessions, monkeypatch, caplog, name
):
    if name == "end_session":
        # Its user was deleted, so it is ended before any call.
        ExamplarySession.objects.filter(pk=sessions[0].pk).update(actor=None)
    else:
        fake.complete(sessions[0].examplary_id)

    def refuse(session, *args, **options):
        raise IntegrityError(f"Failing row contains ({session.embed_url.value})")

    monkeypatch.setattr(sweep, name, refuse)
    result = services.sweep_sessions()

    assert (result.failed, result.verified, result.stopped) == (1, 2, "")
    assert "error=IntegrityError" in caplog.text
    assert sessions[0].embed_url.value not in caplog.text


def test_session_without_an_outcome_is_expired_a_week_after_its_end(fake, sessions):
    fake.fail("GET", status=500, times=None)
    age(sessions[0], days=13)
    age(sessions[1], days=15)

    assert services.sweep_sessions(concurrency=1).ended == {"expired": 1}
    sessions[1].refresh_from_db()
    assert (sessions[1].status, sessions[1].embed_url) == (Status.EXPIRED, "")


def test_wrong_key_ends_only_expired_sessions(fake, sessions, wrong_key):
    fake.complete(sessions[0].examplary_id)
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[1])
    age(sessions[2], days=8)
    with wrong_key():
        result = services.sweep_sessions()
        assert (result.ended, result.missing) == ({"expired": 1}, 1)
    ExamplarySession.objects.update(asked_at=None)

    assert services.sweep_sessions().ended == {"completed": 1}


def test_response_about_another_user_is_refused(fake, sessions, caplog):
    fake.complete(sessions[1].examplary_id)
    fake.fail("GET", edit=lambda body: body | {"actor": "user_other"})
    services.revoke_session(sessions[1])
    sessions[1].refresh_from_db()
    assert (sessions[1].status, sessions[1].revoke_pending) == (Status.REVOKED, True)
    assert "foreign-answer" in caplog.text

    assert services.sweep_sessions().ended == {"completed": 1}


# Many calls at once


@pytest.mark.django_db(transaction=True)
def test_concurrency_is_reached_and_never_exceeded(fake, sessions, monkeypatch):
    lock, under_way, most = threading.Lock(), [], []
    together = threading.Barrier(3)
    get_embed_session = ExamplaryClient.get_embed_session

    def get(self, session_id):
        with lock:
            under_way.append(session_id)
            most.append(len(under_way))
        together.wait(60)
        try:
            return get_embed_session(self, session_id)
        finally:
            with lock:
                under_way.remove(session_id)

    monkeypatch.setattr(ExamplaryClient, "get_embed_session", get)

    assert services.sweep_sessions(concurrency=3).verified == 3
    assert max(most) == 3


def test_rate_is_respected(fake, sessions):
    started = time.monotonic()

    services.sweep_sessions(rate=10, concurrency=3)

    # Three calls have two gaps of 100 ms.
    assert time.monotonic() - started >= 0.2


@pytest.mark.django_db(transaction=True)
def test_two_sweeps_share_the_work(fake, sessions, announced):
    for session in sessions:
        fake.complete(session.examplary_id)
    fake.latency = 0.05
    # Without it, a thread that starts late would repeat the call under way.
    since = timezone.now()

    results = call_at_once(*[lambda: services.sweep_sessions(concurrency=1, since=since)] * 2)

    assert sorted(asked(fake)) == sorted(session.examplary_id.value for session in sessions)
    assert sum(result.verified for result in results) == 3
    assert sum(result.failed + result.missing for result in results) == 0
    assert sorted(announced) == sorted(session.pk for session in sessions)


@pytest.mark.django_db(transaction=True)
def test_sweep_that_starts_later_repeats_only_the_call_under_way(
    fake, sessions, announced, monkeypatch
):
    for session in sessions:
        fake.complete(session.examplary_id)
    is_sent, may_return = threading.Event(), threading.Event()
    get_embed_session = ExamplaryClient.get_embed_session

    def get_slowly(self, session_id):
        monkeypatch.setattr(ExamplaryClient, "get_embed_session", get_embed_session)
        remote = get_embed_session(self, session_id)
        is_sent.set()
        may_return.wait(60)
        return remote

    def sweep_later():
        is_sent.wait(60)
        services.sweep_sessions(concurrency=1)
        may_return.set()

    fake.requests.clear()
    monkeypatch.setattr(ExamplaryClient, "get_embed_session", get_slowly)
    call_at_once(lambda: services.sweep_sessions(concurrency=1), sweep_later)

    ids = sorted(session.examplary_id.value for session in sessions)
    first, *others = asked(fake)
    assert first in ids
    assert sorted(others) == sorted(asked(fake, "DELETE")) == ids
    assert sorted(announced) == sorted(session.pk for session in sessions)


def test_sweeps_with_one_start_time_verify_each_session_once(fake, sessions):
    fake.requests.clear()
    since = timezone.now()

    verified = [services.sweep_sessions(limit=2, since=since).verified for _ in range(3)]

    assert verified == [2, 1, 0]
    assert sorted(asked(fake)) == sorted(session.examplary_id.value for session in sessions)


def test_sweep_whose_clock_is_behind_its_start_time_calls_nothing(fake, sessions):
    """Its calls would be stored as earlier than the start, and repeated endlessly."""
    later = timezone.now() + timedelta(minutes=5)

    assert services.sweep_sessions(since=later).verified == 0


def test_session_of_another_sweep_is_skipped(fake, sessions, monkeypatch):
    """The other sweep claims the session after this one has read its page."""

    def another_sweep(sweep):
        ExamplarySession.objects.update(asked_at=timezone.now())

    result = services.sweep_sessions(concurrency=1, progress=another_sweep)

    assert result.verified == len(asked(fake)) == 1


def test_session_finished_first_by_a_browser_is_not_a_failure(
    fake, sessions, announced, monkeypatch
):
    fake.complete(sessions[0].examplary_id)
    record_answer = outcomes.record_answer

    def record_after_the_browser(session, answer):
        # The response to the browser is stored first, and the sweep gets a 404.
        monkeypatch.setattr(sweep, "record_answer", record_answer)
        for each in ExamplarySession.objects.all():
            services.verify_session(each)
        record_answer(session, answer)

    monkeypatch.setattr(sweep, "record_answer", record_after_the_browser)
    result = services.sweep_sessions(concurrency=1)

    assert (result.failed, result.missing) == (0, 0)
    assert announced == [sessions[0].pk]


@pytest.fixture
def together(monkeypatch):
    """Make the responses of all calls arrive together."""

    monkeypatch.setattr(PacedCalls, "_receive", lambda self, calls: list(wait(calls, 60).done))


@pytest.mark.parametrize("count", [1, 3])
def test_pending_sessions_are_claimed_and_stored_together(fake, sessions, together, count):
    ExamplarySession.objects.exclude(pk__in=[each.pk for each in sessions[:count]]).delete()
    with CaptureQueriesContext(connection) as captured:
        services.sweep_sessions(concurrency=3)

    updates = [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    # Old revocations, claims, responses.
    assert len(updates) == 3


@pytest.fixture
def while_called(monkeypatch):
    """Run an action after the first responses, before the sweep stores them."""

    def install(action):
        record = sweep._SweepRun.record

        def act_first(self, outcomes):
            monkeypatch.setattr(sweep._SweepRun, "record", record)
            action()
            record(self, outcomes)

        monkeypatch.setattr(sweep._SweepRun, "record", act_first)

    return install


def test_session_that_ended_during_its_call_is_not_stored_as_pending(
    fake, sessions, together, while_called
):
    while_called(lambda: services.revoke_session(ExamplarySession.objects.get(pk=sessions[0].pk)))
    result = services.sweep_sessions(concurrency=3)

    assert (result.failed, result.missing, result.ended) == (0, 0, {"revoked": 1})
    for session in sessions:
        session.refresh_from_db()
    assert [session.status for session in sessions] == [Status.REVOKED] + [Status.PENDING] * 2
    assert all(session.verified_at for session in sessions[1:])


def test_pending_session_past_its_time_is_expired(fake, sessions):
    ExamplarySession.objects.update(expires_at=timezone.now())

    assert services.sweep_sessions().ended == {"expired": 3}


def test_pending_session_with_another_status_stores_it(fake, sessions):
    ExamplarySession.objects.update(remote_status="created")

    services.sweep_sessions()

    assert set(ExamplarySession.objects.values_list("remote_status", flat=True)) == {"pending"}


def test_error_of_one_row_does_not_fail_the_others(fake, sessions, together, monkeypatch):
    def refuse(self, **values):
        if "verified_at" in values and self.filter(pk=sessions[0].pk).exists():
            raise IntegrityError("A trigger of the project refuses it.")
        return QuerySet.update(self, **values)

    monkeypatch.setattr(ExamplarySessionQuerySet, "update", refuse)
    result = services.sweep_sessions(concurrency=3)

    assert (result.failed, result.verified, result.stopped) == (1, 2, "")
    assert ExamplarySession.objects.exclude(verified_at=None).count() == 2


def test_sessions_that_another_sweep_claimed_are_skipped(fake, sessions, monkeypatch):
    """Another sweep claims some of the sessions between the SELECT and the UPDATE."""
    claim = sweep._SweepRun._claim

    def claim_late(self, found):
        ExamplarySession.objects.filter(pk=sessions[1].pk).update(asked_at=timezone.now())
        return claim(self, found)

    monkeypatch.setattr(sweep._SweepRun, "_claim", claim_late)
    fake.requests.clear()
    result = services.sweep_sessions(concurrency=3)

    assert result.verified == 2
    assert set(asked(fake)) == {sessions[0].examplary_id.value, sessions[2].examplary_id.value}


def test_claim_whose_commit_was_not_acknowledged_is_held(fake, sessions, monkeypatch):
    update = ExamplarySessionQuerySet.update
    lost = []

    def lose(self, **values):
        count = update(self, **values)
        if "claim_token" in values and not lost:
            lost.append(count)
            # `commit` does this if the connection drops before the acknowledgement.
            return update(self, **values)
        return count

    monkeypatch.setattr(ExamplarySessionQuerySet, "update", lose)

    assert services.sweep_sessions(concurrency=3).verified == 3
    assert lost == [3]


def test_no_more_sessions_are_claimed_than_verified(fake, sessions):
    claimed = []

    def count(sweep):
        claimed.append(ExamplarySession.objects.exclude(asked_at=None).count() - sweep.verified)

    services.sweep_sessions(concurrency=2, progress=count)

    assert max(claimed) <= 2


def test_callable_that_fails_for_one_workspace_stops_only_that(fake, sessions, settings):
    def find(alias):
        raise ConnectionError("The secret store is down.")

    settings.EXAMPLARY_WORKSPACES = find
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(workspace="north")
    fake.requests.clear()

    result = services.sweep_sessions()

    assert (result.verified, result.failed) == (2, 1)
    assert result.stopped == "north: EXAMPLARY_WORKSPACES raised ConnectionError for 'north'."
    assert sessions[0].examplary_id.value not in asked(fake)


def test_key_that_is_rotated_during_a_sweep_is_used(fake, sessions, settings):
    def rotate(sweep):
        fake.api_key = settings.EXAMPLARY_API_KEY = f"examp_{'r' * 32}"

    result = services.sweep_sessions(concurrency=1, progress=rotate)

    assert (result.verified, result.stopped) == (3, "")


def test_sweep_stops_when_should_stop_is_true(fake, sessions):
    fake.requests.clear()

    result = services.sweep_sessions(concurrency=1, should_stop=lambda: len(asked(fake)) == 1)

    assert (result.verified, result.interrupted, result.stopped) == (1, True, "")


def test_sweep_stops_between_sessions_that_need_no_call(fake, sessions):
    ExamplarySession.objects.update(examplary_id=None)
    expired = ExamplarySession.objects.filter(status=Status.EXPIRED)

    assert services.sweep_sessions(concurrency=1, should_stop=expired.exists).interrupted
    assert expired.count() == 1


def test_deleted_sessions_are_not_failures(fake, sessions):
    rest = ExamplarySession.objects.exclude(pk=sessions[0].pk)

    result = services.sweep_sessions(concurrency=1, progress=lambda sweep: rest.delete())

    assert (result.verified, result.missing, result.failed, result.stopped) == (1, 0, 0, "")


def test_session_erased_during_its_call_is_not_a_failure(fake, sessions, monkeypatch):
    def record(session, answer):
        ExamplarySession.objects.filter(pk=session.pk).delete()
        outcomes.record_answer(session, answer)

    fake.complete(sessions[1].examplary_id)
    monkeypatch.setattr(sweep, "record_answer", record)
    result = services.sweep_sessions()

    assert (result.verified, result.missing, result.failed, result.stopped) == (2, 0, 0, "")


# Revocations


def test_revocations_are_finished(fake, sessions):
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[0])
    assert services.sweep_sessions(limit=1).revoked == 1
    assert fake.sessions[sessions[0].examplary_id].revoked


def test_revocation_ends_with_the_lifetime_of_its_session(fake, sessions):
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[1])
    ExamplarySession.objects.update(created_at=timezone.now() - timedelta(days=8))

    assert services.sweep_sessions().revoked == 0
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


def test_sessions_of_deactivated_users_are_revoked(fake, teacher, sessions):
    get_user_model().objects.update(is_active=False)

    result = services.sweep_sessions()

    assert (result.ended, result.verified, result.revoked) == ({"revoked": 3}, 0, 3)
    assert all(session.revoked for session in fake.sessions.values())


def test_sessions_without_an_actor_are_revoked(fake, sessions):
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(actor=None)

    result = services.sweep_sessions()

    assert (result.ended, result.verified, result.revoked) == ({"revoked": 1}, 2, 1)
    assert fake.sessions[sessions[0].examplary_id].revoked


def test_result_of_a_revoked_session_is_stored(fake, teacher, sessions, announced):
    """The user finished just before the revocation."""
    fake.complete(sessions[0].examplary_id)
    fake.cancel(sessions[1].examplary_id)
    services.revoke_sessions(ExamplaryActor.objects.get())

    result = services.sweep_sessions()

    assert (result.ended, result.revoked) == ({"completed": 1, "cancelled": 1}, 3)
    assert sorted(announced) == sorted([sessions[0].pk, sessions[1].pk])
    for session in sessions:
        session.refresh_from_db()
        assert not session.revoke_pending
    assert sessions[0].get_outputs().exam_id
    assert [session.status for session in sessions] == [
        Status.COMPLETED,
        Status.CANCELLED,
        Status.REVOKED,
    ]
    assert all(session.revoked for session in fake.sessions.values())


def test_revoked_session_is_kept_until_its_result_arrives(fake, sessions):
    fake.complete(sessions[0].examplary_id, {})
    services.revoke_sessions(ExamplaryActor.objects.get())

    result = services.sweep_sessions()

    assert result.revoked == 2
    assert not fake.sessions[sessions[0].examplary_id].revoked
    sessions[0].refresh_from_db()
    assert sessions[0].revoke_pending


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 501])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_definite_refusal_ends_the_revocation(fake, sessions, status, method):
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[0])
    fake.fail(method, "/embed-sessions/{id}", status=status, times=None)

    result = services.sweep_sessions(limit=1)

    assert (result.revoked, result.failed) == (1, 0)
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


@pytest.mark.parametrize("revoke_pending", [False, True])
def test_row_without_an_id_has_ended(fake, sessions, revoke_pending):
    """A fixture holds no ids."""
    status = Status.REVOKED if revoke_pending else Status.PENDING
    ExamplarySession.objects.update(
        examplary_id=None, embed_url="", status=status, revoke_pending=revoke_pending
    )
    fake.requests.clear()

    assert services.sweep_sessions().failed == 0
    assert fake.requests == []
    assert not ExamplarySession.objects.open().exists()
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


# Work that needs no API


def test_ended_claims_are_deleted_an_hour_later(fake, teacher, sessions, lapse, caplog):
    now = timezone.now()
    claim = {
        "actor": ExamplaryActor.objects.get(),
        "flow": "edit-rubric",
        "created_at": now - timedelta(hours=2),
        "lapses_at": now + timedelta(minutes=1),
    }
    ended = ExamplarySession.objects.create(**claim)
    # A launch may still repeat the request.
    young = ExamplarySession.objects.create(**claim | {"created_at": now - timedelta(minutes=59)})
    lapse()
    living = ExamplarySession.objects.create(**claim)

    services.sweep_sessions(limit=0)

    assert set(ExamplarySession.objects.filter(status=Status.CREATING)) == {young, living}
    dropped = [message for message in caplog.messages if "operation=open-session" in message]
    assert dropped == [f"operation=open-session session={ended.pk} outcome=unknown"]


@pytest.mark.parametrize("end", ["complete", "cancel", "close"])
def test_signal_of_a_dead_process_is_sent_once(fake, sessions, announced, lapse, caplog, end):
    if end != "close":
        getattr(fake, end)(sessions[0].examplary_id)
    services.close_session(sessions[0])
    # Simulates a process killed between the commit and the signal.
    announced.clear()
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(announced_at=None)
    assert services.sweep_sessions().announced == 0

    lapse()
    assert services.sweep_sessions(dry_run=True).announced == 1
    assert services.sweep_sessions().announced == 1
    lapse()
    assert services.sweep_sessions().announced == 0
    assert announced == [sessions[0].pk]
    assert "operation=announce" in caplog.text


def test_late_signal_is_sent_by_only_one_sweep(fake, sessions, announced, lapse, monkeypatch):
    fake.complete(sessions[0].examplary_id)
    services.verify_session(sessions[0])
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(announced_at=None)
    announced.clear()
    lapse()
    lease = tidying.lease

    def take_the_claim_first():
        ExamplarySession.objects.update(claim_token="of another sweep")
        return lease()

    monkeypatch.setattr(tidying, "lease", take_the_claim_first)

    assert services.sweep_sessions().announced == 0
    assert announced == []


def test_retention_deletes_sessions_that_ended_long_ago(fake, sessions, settings):
    services.revoke_session(sessions[0])
    services.revoke_session(sessions[1])
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(
        ended_at=timezone.now() - timedelta(days=31)
    )
    assert services.sweep_sessions().pruned == 0

    settings.EXAMPLARY_RETENTION = 30
    assert services.sweep_sessions().pruned == 1
    assert set(ExamplarySession.objects.all()) == set(sessions[1:])


def test_retention_waits_for_the_revocation(fake, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[0])

    result = services.sweep_sessions()

    assert (result.pruned, result.revoked) == (0, 1)
    assert fake.sessions[sessions[0].examplary_id].revoked
    assert services.sweep_sessions().pruned == 1


@pytest.mark.parametrize("error", [ProtectedError, RestrictedError])
def test_protected_row_does_not_stop_the_others(fake, sessions, settings, protect, error):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    services.revoke_session(sessions[1])
    protect(sessions[0], error)
    result = services.sweep_sessions()

    assert (result.pruned, result.verified) == (1, 1)
    assert set(ExamplarySession.objects.all()) == {sessions[0], sessions[2]}


def test_dry_run_calls_and_changes_nothing(fake, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    fake.requests.clear()

    result = services.sweep_sessions(dry_run=True)
    assert (result.verified, result.revoked, result.pruned) == (2, 0, 1)
    result = services.sweep_sessions(dry_run=True, limit=1)
    assert (result.verified, result.revoked, result.pruned) == (1, 0, 1)
    since = timezone.now()
    ExamplarySession.objects.filter(pk=sessions[1].pk).update(asked_at=since)
    assert services.sweep_sessions(dry_run=True, since=since).verified == 1
    assert fake.requests == []
    assert ExamplarySession.objects.count() == 3


def test_sweep_without_a_key_does_the_work_that_needs_no_api(fake, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError):
        services.sweep_sessions()

    assert ExamplarySession.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_transaction_is_refused(fake, teacher, sessions):
    fake.requests.clear()
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        services.sweep_sessions()

    assert fake.requests == []
