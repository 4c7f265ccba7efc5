from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryValidationError,
)
from django_examplary.flows import EditRubric, GenerateExam, GenerateQuestion
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import lifecycle
from django_examplary.services.lifecycle import Erasure
from django_examplary.signals import session_completed

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


@pytest.fixture(autouse=True)
def one_attempt(settings):
    settings.EXAMPLARY_MAX_RETRIES = 0


# Sweeping


def test_sweep_finds_out_what_no_browser_reported(fake, sessions):
    announced = []

    def receiver(session, **kwargs):
        announced.append(session.pk)

    session_completed.connect(receiver)
    fake.complete(sessions[0].examplary_id)
    fake.cancel(sessions[1].examplary_id)
    reports = []
    sweep = services.sweep_sessions(progress=lambda sweep: reports.append(sweep.verified))
    session_completed.disconnect(receiver)
    assert sweep.verified == 3
    assert sweep.ended == {"completed": 1, "cancelled": 1}
    assert (sweep.failed, sweep.stopped) == (0, "")
    assert announced == [sessions[0].pk]
    assert reports == [1, 2, 3]


def test_sweep_asks_about_the_longest_unasked_first(fake, sessions):
    services.verify_session(sessions[0])
    fake.requests.clear()
    services.sweep_sessions(limit=2)
    asked = {request.path.rpartition("/")[2] for request in fake.calls("GET")}
    assert asked == {sessions[1].examplary_id, sessions[2].examplary_id}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_session_that_fails_does_not_keep_the_others_from_being_asked(fake, sessions, method):
    """A sweep of few sessions comes to all of them in the end."""
    if method == "DELETE":
        fake.fail("DELETE", status=500)
        services.revoke_session(sessions[0])
    # One of them the key may not touch.
    fake.fail(method, "/embed-sessions/{id}", status=403)
    for session in sessions[1:]:
        fake.complete(session.examplary_id)
    for _ in range(3):
        services.sweep_sessions(limit=1)
    completed = ExamplarySession.objects.filter(status=Status.COMPLETED)
    assert set(completed) == set(sessions[1:])


def test_sweep_stops_after_many_failures_in_a_row(fake, sessions, monkeypatch):
    monkeypatch.setattr("django_examplary.services.lifecycle._MAX_FAILURES", 2)
    fake.fail("GET", status=403, times=None)
    sweep = services.sweep_sessions()
    assert (sweep.failed, "403" in sweep.stopped) == (2, True)


def test_failures_that_are_not_in_a_row_do_not_stop_the_sweep(fake, sessions, monkeypatch):
    monkeypatch.setattr("django_examplary.services.lifecycle._MAX_FAILURES", 2)
    fake.fail("GET", status=403)
    fake.fail("GET", delay=0)
    fake.fail("GET", status=403)
    sweep = services.sweep_sessions()
    assert (sweep.failed, sweep.verified, sweep.stopped) == (2, 1, "")


def test_sweep_goes_on_past_what_the_database_refuses(fake, sessions, monkeypatch, caplog):
    def refuse(session, client):
        if session == sessions[0]:
            raise IntegrityError(f"Failing row contains ({session.embed_url})")
        learn(session, client)

    learn = lifecycle.learn_outcome
    monkeypatch.setattr("django_examplary.services.lifecycle.learn_outcome", refuse)
    sweep = services.sweep_sessions()
    assert (sweep.failed, sweep.verified, sweep.stopped) == (1, 2, "")
    assert "error=IntegrityError" in caplog.text
    assert sessions[0].embed_url not in caplog.text


def test_session_that_nobody_can_tell_about_is_over_a_week_after_its_end(fake, sessions):
    fake.fail("GET", status=403, times=None)
    old, older = sessions[:2]
    for session, days in ((old, 13), (older, 15)):
        at = timezone.now() - timedelta(days=days)
        ExamplarySession.objects.filter(pk=session.pk).update(
            created_at=at, expires_at=at + timedelta(days=7)
        )
    assert services.sweep_sessions().ended == {"expired": 1}
    older.refresh_from_db()
    assert (older.status, older.embed_url) == (Status.EXPIRED, "")


def test_sweep_finishes_revocations_and_comes_to_an_end_with_them(fake, sessions):
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[0])
    assert services.sweep_sessions(limit=1).revoked == 1
    assert fake.sessions[sessions[0].examplary_id].revoked
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[1])
    ExamplarySession.objects.update(created_at=timezone.now() - timedelta(days=8))
    assert services.sweep_sessions().revoked == 0
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


def test_sweep_goes_on_past_one_failure_and_stops_at_a_hopeless_one(fake, sessions, caplog):
    fake.fail("GET", status=500)
    sweep = services.sweep_sessions()
    assert (sweep.failed, sweep.verified, sweep.stopped) == (1, 2, "")
    assert "operation=sweep" in caplog.text
    fake.requests.clear()
    fake.fail("GET", times=None, status=401)
    sweep = services.sweep_sessions()
    assert (sweep.failed, sweep.verified) == (1, 0)
    assert "401" in sweep.stopped
    assert len(fake.requests) == 1


def test_sweep_stops_when_it_is_asked_to(fake, sessions):
    sweep = services.sweep_sessions(should_stop=lambda: len(fake.calls("GET")) == 1)
    assert (sweep.verified, sweep.stopped) == (1, "asked to stop")


def test_sweep_revokes_sessions_of_users_who_were_deactivated_in_bulk(fake, teacher, sessions):
    type(teacher).objects.update(is_active=False)
    sweep = services.sweep_sessions()
    assert (sweep.ended, sweep.verified, sweep.revoked) == ({"revoked": 3}, 0, 3)
    assert all(session.revoked for session in fake.sessions.values())


def test_sweep_revokes_a_session_that_belongs_to_nobody_any_more(fake, sessions):
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(actor=None)
    sweep = services.sweep_sessions()
    assert (sweep.ended, sweep.verified, sweep.revoked) == ({"revoked": 1}, 2, 1)
    assert fake.sessions[sessions[0].examplary_id].revoked


def test_sweep_passes_over_what_is_gone_meanwhile(fake, sessions, monkeypatch):
    monkeypatch.setattr("django_examplary.services.lifecycle._PAGE", 2)
    rest = ExamplarySession.objects.filter(pk=sessions[2].pk)
    sweep = services.sweep_sessions(progress=lambda sweep: rest.delete())
    assert (sweep.verified, sweep.failed, sweep.stopped) == (2, 0, "")


def test_sweep_passes_over_what_is_erased_while_it_asks(fake, sessions):
    rest = ExamplarySession.objects.exclude(pk=sessions[1].pk)
    sweep = services.sweep_sessions(progress=lambda sweep: rest.delete())
    assert (sweep.verified, sweep.failed, sweep.stopped) == (2, 0, "")


def test_user_who_was_stopped_just_after_finishing_keeps_the_result(fake, teacher, sessions):
    announced = []

    def receiver(session, **kwargs):
        announced.append(session.pk)

    fake.complete(sessions[0].examplary_id)
    fake.cancel(sessions[1].examplary_id)
    session_completed.connect(receiver)
    services.revoke_sessions(ExamplaryActor.objects.get())
    sweep = services.sweep_sessions()
    session_completed.disconnect(receiver)
    assert (sweep.ended, sweep.revoked) == ({"completed": 1, "cancelled": 1}, 3)
    assert announced == [sessions[0].pk]
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


def test_outcome_of_somebody_else_is_not_believed(fake, sessions, caplog):
    fake.complete(sessions[0].examplary_id)
    fake.fail("GET", edit=lambda body: body | {"actor": "user_other"})
    services.revoke_session(sessions[0])
    sessions[0].refresh_from_db()
    assert (sessions[0].status, sessions[0].revoke_pending) == (Status.REVOKED, True)
    assert "foreign-answer" in caplog.text
    assert services.sweep_sessions().ended == {"completed": 1}


def test_sweep_is_done_with_revoking_what_is_gone(fake, sessions):
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[0])
    fake.sessions.clear()
    sweep = services.sweep_sessions()
    assert (sweep.revoked, sweep.verified, sweep.failed) == (1, 0, 2)
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


def test_sweep_goes_past_what_is_not_there(fake, sessions, monkeypatch):
    monkeypatch.setattr("django_examplary.services.lifecycle._MAX_FAILURES", 2)
    for session in sessions[:2]:
        del fake.sessions[session.examplary_id]
    sweep = services.sweep_sessions()
    assert (sweep.verified, sweep.failed, sweep.stopped) == (1, 2, "")


def test_wrong_key_fails_and_holds_up_nothing(fake, sessions, wrong_key, caplog):
    """Neither sessions that are open nor revocations; those that have expired are over."""
    fake.complete(sessions[0].examplary_id)
    fake.fail("DELETE", status=500)
    services.revoke_session(sessions[1])
    at = timezone.now() - timedelta(days=8)
    expired = ExamplarySession.objects.filter(pk=sessions[2].pk)
    expired.update(created_at=at, expires_at=at + timedelta(days=7))
    with wrong_key():
        sweep = services.sweep_sessions()
        assert (sweep.verified, sweep.ended, sweep.failed) == (1, {"expired": 1}, 2)
        assert "Are EXAMPLARY_API_KEY and EXAMPLARY_API_URL still those" in caplog.text
        # Each has its turn.
        asked = [services.sweep_sessions(limit=1).failed for _ in range(2)]
        assert asked == [1, 1]
        assert len({call.path for call in fake.calls("GET")[-2:]}) == 2
    sweep = services.sweep_sessions()
    assert (sweep.ended, sweep.revoked) == ({"completed": 1}, 1)


def test_old_sessions_are_asked_about_once_an_hour(fake, sessions):
    services.sweep_sessions()
    at = timezone.now() - timedelta(days=2)
    old = ExamplarySession.objects.filter(pk=sessions[0].pk)
    old.update(created_at=at)
    assert services.sweep_sessions().verified == 2
    old.update(asked_at=timezone.now() - timedelta(minutes=61))
    assert services.sweep_sessions().verified == 3
    old.update(expires_at=timezone.now())
    assert services.sweep_sessions(dry_run=True).verified == 3


@pytest.mark.parametrize("status", [400, 403])
def test_session_whose_outcome_is_kept_from_us_is_revoked_all_the_same(fake, sessions, status):
    fake.fail("GET", status=status, times=None)
    services.revoke_session(sessions[0])
    assert fake.sessions[sessions[0].examplary_id].revoked
    assert not sessions[0].revoke_pending


@pytest.mark.parametrize("revoke_pending", [False, True])
def test_row_that_came_without_its_id_is_over(fake, sessions, revoke_pending):
    """A fixture holds no ids."""
    status = Status.REVOKED if revoke_pending else Status.PENDING
    ExamplarySession.objects.update(
        examplary_id=None, embed_url="", status=status, revoke_pending=revoke_pending
    )
    fake.requests.clear()
    sweep = services.sweep_sessions()
    assert (sweep.failed, fake.requests) == (0, [])
    assert not ExamplarySession.objects.open().exists()
    assert not ExamplarySession.objects.filter(revoke_pending=True).exists()


def test_sweep_removes_claims_of_killed_workers(fake, teacher, sessions):
    actor = ExamplaryActor.objects.get()
    old = timezone.now() - timedelta(minutes=5)
    ExamplarySession.objects.create(actor=actor, flow="edit-rubric", created_at=old)
    living = ExamplarySession.objects.create(actor=actor, flow="edit-rubric")
    services.sweep_sessions(limit=0)
    assert list(ExamplarySession.objects.filter(status=Status.CREATING)) == [living]


def test_retention_deletes_what_has_ended_long_ago(fake, sessions, settings):
    services.revoke_session(sessions[0])
    services.revoke_session(sessions[1])
    ExamplarySession.objects.filter(pk=sessions[0].pk).update(
        ended_at=timezone.now() - timedelta(days=31)
    )
    assert services.sweep_sessions().pruned == 0
    settings.EXAMPLARY_RETENTION = 30
    assert services.sweep_sessions().pruned == 1
    assert set(ExamplarySession.objects.all()) == set(sessions[1:])


def test_retention_waits_for_what_is_still_to_be_revoked(fake, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    fake.fail("DELETE", status=403)
    services.revoke_session(sessions[0])
    sweep = services.sweep_sessions()
    assert (sweep.pruned, sweep.revoked) == (0, 1)
    assert fake.sessions[sessions[0].examplary_id].revoked
    assert services.sweep_sessions().pruned == 1


def test_dry_run_asks_and_changes_nothing(fake, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    fake.requests.clear()
    sweep = services.sweep_sessions(dry_run=True)
    assert (sweep.verified, sweep.revoked, sweep.pruned) == (2, 0, 1)
    sweep = services.sweep_sessions(dry_run=True, limit=1)
    assert (sweep.verified, sweep.revoked, sweep.pruned) == (1, 0, 1)
    assert fake.requests == []
    assert ExamplarySession.objects.count() == 3


@pytest.mark.parametrize("error", [ProtectedError, RestrictedError])
def test_row_that_the_project_protects_holds_nothing_up(
    fake, sessions, settings, monkeypatch, error
):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    services.revoke_session(sessions[1])
    delete = QuerySet.delete

    def refuse(queryset):
        if queryset.model is ExamplarySession and queryset.filter(pk=sessions[0].pk).exists():
            raise error("A receipt refers to it.", set())
        return delete(queryset)

    monkeypatch.setattr(QuerySet, "delete", refuse)
    sweep = services.sweep_sessions()
    assert (sweep.pruned, sweep.verified) == (1, 1)
    assert set(ExamplarySession.objects.all()) == {sessions[0], sessions[2]}


def test_without_a_key_what_needs_no_api_is_done(fake, teacher, sessions, settings):
    settings.EXAMPLARY_RETENTION = 0
    services.revoke_session(sessions[0])
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError):
        services.sweep_sessions()
    assert ExamplarySession.objects.count() == 2
    assert services.erase_user(teacher).still_to_revoke == 2
    assert not ExamplaryActor.objects.exists()
    assert not ExamplarySession.objects.exclude(actor=None).exists()


def test_outcome_of_somebody_who_is_erased_is_not_asked_for(fake, teacher, sessions):
    fake.complete(sessions[0].examplary_id)
    fake.requests.clear()
    services.erase_user(teacher)
    assert {call.method for call in fake.requests} == {"DELETE"}


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_asked(fake, teacher, sessions):
    fake.requests.clear()
    for call in (services.sweep_sessions, lambda: services.erase_user(teacher)):
        with transaction.atomic(), pytest.raises(TransactionManagementError):
            call()
    assert fake.requests == []


# Letting go


def test_erasing_a_user_revokes_and_deletes_everything(fake, teacher, sessions):
    examplary_id = ExamplaryActor.objects.get().examplary_id
    fake.complete(sessions[0].examplary_id)
    services.verify_session(sessions[0])
    assert services.erase_user(teacher) == Erasure(examplary_id=examplary_id, sessions=3)
    assert not ExamplaryActor.objects.exists()
    assert not ExamplarySession.objects.exists()
    assert all(session.revoked for session in fake.sessions.values())
    assert services.erase_user(teacher) == Erasure()


def test_erasing_while_the_api_is_down_leaves_anonymous_rows_for_the_sweep(fake, teacher, settings):
    session = services.open_session(
        teacher,
        GenerateExam(subject="Sums"),
        origin=ORIGIN,
        theme={"locale": "nl"},
        metadata={"pupil": "Ann"},
        next_url="/ann/",
    )
    fake.fail(times=None, transport="close")
    erasure = services.erase_user(teacher)
    assert (erasure.sessions, erasure.still_to_revoke) == (0, 1)
    session.refresh_from_db()
    assert session.actor is None
    for blank in ("presets", "theme", "metadata", "outputs", "next_url", "fingerprint"):
        assert not getattr(session, blank)
    fake.heal()
    assert services.sweep_sessions().revoked == 1
    assert fake.sessions[session.examplary_id].revoked


def test_session_opened_while_a_user_is_erased_does_not_stay(fake, teacher, sessions, monkeypatch):
    opened = []

    def revoke_while_another_opens(session, client):
        if not opened:
            opened.append(services.open_session(teacher, GenerateExam(name="x"), origin=ORIGIN))
        revoke(session, client)

    revoke = lifecycle.revoke_remote
    monkeypatch.setattr(lifecycle, "revoke_remote", revoke_while_another_opens)
    services.erase_user(teacher)
    assert ExamplarySession.objects.get().revoke_pending
    services.sweep_sessions()
    assert all(session.revoked for session in fake.sessions.values())


# Linking by hand


def test_link_actor_lets_an_existing_user_stand_for_ours(fake, teacher):
    ExamplaryActor.objects.create(user=teacher, state="failed", last_error="exists")
    known = fake.add_user("known@school.example")["id"]
    actor = services.link_actor(teacher, known)
    actor.refresh_from_db()
    assert (actor.examplary_id, actor.state, actor.last_error) == (known, "active", "")
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open
    assert fake.calls("POST", "/users") == []


def test_link_actor_to_another_id_revokes_what_the_former_one_has_open(fake, teacher, sessions):
    known = fake.add_user("known@school.example")["id"]
    for times in range(2):
        actor = services.link_actor(teacher, known)
        assert (actor.email, actor.name, actor.role) == ("", "", "")
        session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        assert fake.sessions[session.examplary_id].actor == known
        # Again, it changes nothing.
        assert ExamplarySession.objects.open().count() == 1
        assert services.sweep_sessions().revoked == (0 if times else 3)


@pytest.mark.parametrize("examplary_id", ["", "group_1", "user_", "user_1/../2", " user_1"])
def test_link_actor_refuses_what_is_no_user_id(fake, teacher, examplary_id):
    with pytest.raises(ExamplaryValidationError, match="examplary_id: must be an id"):
        services.link_actor(teacher, examplary_id)
    assert fake.requests == []


def test_link_actor_refuses_the_owner_of_the_key(fake, teacher):
    with pytest.raises(ExamplaryValidationError, match="owns the API key"):
        services.link_actor(teacher, fake.owner_id)
    assert not ExamplaryActor.objects.exists()


def test_link_actor_refuses_another_accounts_user(fake, teacher, student):
    taken = services.provision_actor(student).examplary_id
    with pytest.raises(ExamplaryValidationError, match="another account here"):
        services.link_actor(teacher, taken)
    assert ExamplaryActor.objects.count() == 1
