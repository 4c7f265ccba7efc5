from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.flows import EditRubric, GenerateExam, GenerateQuestion
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import Erasure, erasure

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State
ORIGIN = "https://school.example"

#: The columns without data about a user, which an anonymous row may keep.
ANONYMOUS = {
    *("id", "workspace", "flow", "status", "claim_token", "remote_status", "revoke_pending"),
    *("lapses_at", "created_at", "expires_at", "ended_at", "verified_at", "asked_at"),
    "announced_at",
}


def personal_data(session):
    """Return the names of the columns of a stored session that contain data about its user."""
    session.refresh_from_db()
    columns = {field.name for field in session._meta.concrete_fields}
    return {name for name in columns - ANONYMOUS if getattr(session, name)}


@pytest.fixture(autouse=True)
def one_attempt(settings):
    settings.EXAMPLARY_MAX_RETRIES = 0


@pytest.fixture
def sessions(fake, teacher):
    """Three open sessions."""
    content: Any = {
        "theme": {"locale": "nl"},
        "metadata": {"pupil": "Ann"},
        "next_url": "/ann/",
        "origin": ORIGIN,
    }
    return [
        services.open_session(teacher, flow, **content)
        for flow in (GenerateExam(subject="Sums"), GenerateQuestion(), EditRubric())
    ]


def test_everything_is_revoked_and_deleted(fake, teacher, sessions):
    examplary_id = ExamplaryActor.objects.get().examplary_id
    fake.complete(sessions[0].examplary_id)
    services.verify_session(sessions[0])

    result = services.erase_user(teacher)

    assert not ExamplaryActor.objects.exists()
    assert not ExamplarySession.objects.exists()
    assert all(session.revoked for session in fake.sessions.values())
    assert result == Erasure(examplary_id=examplary_id, sessions=3)
    assert services.erase_user(teacher) == Erasure()


@pytest.mark.parametrize("error", [ProtectedError, RestrictedError])
def test_row_that_the_project_protects_is_kept_without_content(
    fake, teacher, sessions, protect, error
):
    fake.complete(sessions[0].examplary_id)
    services.verify_session(sessions[0])
    protect(sessions[0], error)
    result = services.erase_user(teacher)

    assert personal_data(sessions[0]) == set()
    assert not ExamplaryActor.objects.exists()
    left = ExamplarySession.objects.get()
    assert (left.pk, left.status) == (sessions[0].pk, "completed")
    assert result.sessions == 2


def test_rows_of_the_project_are_not_counted(fake, teacher, sessions, monkeypatch):
    delete = QuerySet.delete

    def cascade(queryset):
        count, by_model = delete(queryset)
        return count + 1, {**by_model, "school.Receipt": 1}

    monkeypatch.setattr(QuerySet, "delete", cascade)
    assert services.erase_user(teacher).sessions == 3


def test_outcome_of_an_erased_user_is_not_requested(fake, teacher, sessions):
    fake.complete(sessions[0].examplary_id)
    fake.requests.clear()

    services.erase_user(teacher)

    assert {call.method for call in fake.requests} == {"DELETE"}


@pytest.mark.parametrize(
    ("state", "may_exist"),
    [
        (State.PENDING, False),
        (State.CLAIMED, True),
        (State.UNCERTAIN, True),
        (State.FAILED, False),
    ],
)
def test_unanswered_request_is_reported(fake, teacher, state, may_exist):
    """Examplary may have a user whose id is unknown."""
    ExamplaryActor.objects.create(user=teacher, state=state, lapses_at=timezone.now())

    assert services.erase_user(teacher) == Erasure(may_exist=may_exist)


def test_outage_leaves_anonymous_rows_for_the_sweep(fake, teacher, sessions):
    fake.fail(times=None, transport="close")

    result = services.erase_user(teacher)

    for session in sessions:
        # A sweep needs the id.
        assert personal_data(session) == {"examplary_id"}
    assert (result.sessions, result.still_to_revoke) == (0, 3)
    fake.heal()
    assert services.sweep_sessions().revoked == 3
    assert all(session.revoked for session in fake.sessions.values())


def test_erasure_without_a_key(fake, teacher, sessions, settings, caplog):
    settings.EXAMPLARY_API_KEY = ""

    result = services.erase_user(teacher)

    assert {name for session in sessions for name in personal_data(session)} == {"examplary_id"}
    assert result.still_to_revoke == 3
    assert not ExamplaryActor.objects.exists()
    assert "operation=erase error=EXAMPLARY_API_KEY" in caplog.text


def test_session_opened_during_the_erasure_is_revoked(fake, teacher, sessions, monkeypatch):
    opened = []
    delete_embed_session = ExamplaryClient.delete_embed_session

    def delete_while_another_tab_opens(self, session_id):
        if not opened:
            opened.append(services.open_session(teacher, GenerateExam(name="x"), origin=ORIGIN))
        delete_embed_session(self, session_id)

    monkeypatch.setattr(ExamplaryClient, "delete_embed_session", delete_while_another_tab_opens)
    services.erase_user(teacher)

    assert ExamplarySession.objects.get().revoke_pending
    services.sweep_sessions()
    assert all(session.revoked for session in fake.sessions.values())


def test_id_stored_during_the_erasure_is_reported(fake, teacher, monkeypatch):
    ExamplaryActor.objects.create(user=teacher, state=State.CLAIMED, lapses_at=timezone.now())
    commit = erasure.commit

    def commit_after_another_process(work):
        ExamplaryActor.objects.update(state=State.ACTIVE, examplary_id="user_1")
        return commit(work)

    monkeypatch.setattr(erasure, "commit", commit_after_another_process)

    assert services.erase_user(teacher) == Erasure(examplary_id="user_1")


def test_session_opened_during_the_deletion_does_not_fail_it(fake, teacher, monkeypatch):
    services.provision_actor(teacher)
    commit = erasure.commit

    def commit_too_late(work):
        monkeypatch.setattr(erasure, "commit", commit)
        raise IntegrityError("a session refers to the actor")

    monkeypatch.setattr(erasure, "commit", commit_too_late)
    services.erase_user(teacher)

    assert not ExamplaryActor.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_transaction_is_refused(fake, teacher, sessions):
    fake.requests.clear()
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        services.erase_user(teacher)

    assert fake.requests == []
