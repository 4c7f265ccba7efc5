from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAuthenticationError,
    ExamplaryNotReadyError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplarySessionEndedError,
)
from django_examplary.flows import EditExam, GenerateExam
from django_examplary.models import LIFETIME, ExamplarySession
from django_examplary.services.claims import disown_actor
from django_examplary.signals import session_completed

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status
ORIGIN = "https://school.example"
SUMS = GenerateExam(subject="Sums")

#: The responses to GET by which the API refuses to return a session.
REFUSALS = [400, 403, 404, 405, 409, 410, 422]


@pytest.fixture
def open_exam(fake, teacher):
    return services.open_session(teacher, SUMS, origin=ORIGIN)


@pytest.fixture
def without_output(fake, open_exam):
    """Complete the session at the API, whose responses lack the documented output."""
    fake.complete(open_exam.examplary_id)
    return fake.fail("GET", times=None, edit=lambda body: body | {"outputs": {"later": 1}})


def unacknowledged(work):
    """Replace `commit`: the commit succeeds, and the work runs a second time."""
    work()
    return work()


def nested(levels):
    value = "core"
    for _ in range(levels):
        value = {"in": [value]}
    return value


# Verify


def test_completion_is_stored_announced_and_revoked(fake, open_exam, announced):
    outputs = []

    def receiver(**kwargs):
        outputs.append(kwargs["outputs"])

    session_completed.connect(receiver)
    fake.complete(open_exam.examplary_id, {"examId": "exam_1", "later": [1]})
    session = services.verify_session(open_exam)
    session_completed.disconnect(receiver)
    assert session.status == Status.COMPLETED
    assert session.outputs == {"examId": "exam_1", "later": [1]}
    assert (session.embed_url, session.open_key, session.remote_status) == ("", None, "completed")
    assert session.ended_at is not None
    assert session.verified_at is not None
    assert announced == [("completed", open_exam.pk)]
    assert [each.exam_id for each in outputs] == ["exam_1"]
    assert fake.sessions[open_exam.examplary_id].revoked
    assert session.revoke_pending is False
    # The second call returns the stored outcome and sends no signal.
    services.verify_session(session)
    assert len(announced) == 1
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


@pytest.mark.parametrize(
    ("outputs", "stored"),
    [
        ({"a": "b\x00\ud800"}, {"a": "b\ufffd\ufffd"}),
        ({"a": nested(10)}, {"a": nested(10)}),
    ],
)
def test_outputs_are_stored_on_every_database(fake, open_exam, outputs, stored):
    fake.complete(open_exam.examplary_id, {"examId": "exam_1", **outputs})
    services.verify_session(open_exam)
    assert ExamplarySession.objects.get().outputs == {"examId": "exam_1", **stored}


def test_outputs_nested_too_deeply_are_stored_as_a_string(fake, open_exam):
    fake.complete(open_exam.examplary_id, {"examId": "exam_1", "a": nested(40)})
    services.verify_session(open_exam)
    assert '"core"' in str(ExamplarySession.objects.get().outputs["a"])


def test_completed_session_is_not_revoked_if_the_setting_is_off(fake, open_exam, settings):
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = False
    fake.complete(open_exam.examplary_id)
    services.verify_session(open_exam)
    assert fake.calls("DELETE") == []


def test_cancellation_is_stored_and_announced(fake, open_exam, announced):
    fake.cancel(open_exam.examplary_id)
    assert services.verify_session(open_exam).status == Status.CANCELLED
    assert announced == [("cancelled", open_exam.pk)]


def test_pending_session_stays_open_and_is_reused(fake, teacher, open_exam, announced):
    session = services.verify_session(open_exam)
    assert (session.status, session.remote_status) == (Status.PENDING, "pending")
    assert session.verified_at == session.asked_at is not None
    assert services.open_session(teacher, SUMS, origin=ORIGIN) == open_exam
    assert announced == []


@pytest.mark.parametrize("status", ["paused", "x" * 100])
def test_unknown_status_frees_the_launch(fake, teacher, open_exam, announced, caplog, status):
    fake.fail("GET", times=2, edit=lambda body: body | {"status": status})
    for _ in range(2):
        session = services.verify_session(open_exam)
    assert (session.status, session.remote_status) == (Status.PENDING, status[:64])
    assert announced == []
    # Logged once.
    assert caplog.text.count("outcome=unknown-status") == 1
    assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
    # The session may still complete.
    fake.complete(open_exam.examplary_id)
    assert services.verify_session(open_exam).status == Status.COMPLETED


def test_status_of_an_ended_session_expires_the_row(fake, open_exam, announced):
    fake.fail("GET", edit=lambda body: body | {"status": "revoked"})
    assert services.verify_session(open_exam).status == Status.EXPIRED
    assert announced == []


def test_pending_session_past_its_expiry_has_expired(fake, open_exam):
    fake.expired_status = "pending"
    fake.expire(open_exam.examplary_id)
    ExamplarySession.objects.update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED


def test_row_from_a_fixture_has_expired(fake, open_exam):
    ExamplarySession.objects.update(examplary_id=None)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED
    assert fake.calls("GET") == []


def test_former_name_of_generate_exam_is_accepted(fake, open_exam):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", edit=lambda body: body | {"flow": "generate-questions"})
    assert services.verify_session(open_exam).status == Status.COMPLETED


@pytest.mark.parametrize("actor", ["ann@school.example", "auth0|1", "USER_1", None])
def test_actor_that_is_not_named_by_its_id_is_not_compared(fake, open_exam, actor):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", edit=lambda body: body | {"actor": actor})
    assert services.verify_session(open_exam).status == Status.COMPLETED


@pytest.mark.parametrize(
    ("status", "end"),
    [
        ("graded", Status.EXPIRED),
        ("pending", Status.EXPIRED),
        ("failed", Status.EXPIRED),
        ("cancelled", Status.CANCELLED),
    ],
)
def test_outputs_under_another_status_are_kept(fake, open_exam, status, end):
    outputs = {"examId": "exam_1"}
    change = {"status": status, "outputs": outputs}
    fake.fail("GET", times=None, edit=lambda body: body | change)
    services.sweep_sessions()
    open_exam.refresh_from_db()
    assert open_exam.outputs == outputs
    ExamplarySession.objects.update(expires_at=timezone.now(), asked_at=None)
    services.sweep_sessions()
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.outputs) == (end, outputs)


def test_outputs_of_a_pending_session_are_kept_when_it_is_closed(fake, open_exam):
    fake.fail("GET", edit=lambda body: body | {"outputs": {"score": 7}})
    session = services.close_session(open_exam)
    assert (session.status, session.outputs) == (Status.CLOSED, {"score": 7})
    session.refresh_from_db()
    assert session.outputs == {"score": 7}


def test_outputs_under_an_unknown_status_are_kept_when_it_is_revoked(fake, open_exam):
    change = {"status": "graded", "outputs": {"examId": "exam_1"}}
    fake.fail("GET", edit=lambda body: body | change)
    services.revoke_session(open_exam)
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.outputs) == (Status.REVOKED, {"examId": "exam_1"})
    assert fake.sessions[open_exam.examplary_id].revoked


def test_outputs_of_a_user_who_was_deleted_during_the_call_are_not_kept(
    fake, teacher, open_exam, during_call
):
    during_call("get_embed_session", teacher.delete)
    fake.fail("GET", edit=lambda body: body | {"outputs": {"score": 7}})
    services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.outputs) == (Status.REVOKED, {})


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


def test_session_of_a_disowned_actor_is_completed(fake, open_exam):
    disown_actor(open_exam.actor, ExamplaryActorIsOwnerError("It is the owner.", status_code=400))
    fake.complete(open_exam.examplary_id)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.COMPLETED


# Completed without the documented output


def test_completed_session_without_its_output_is_verified_again(
    fake, teacher, open_exam, announced, without_output
):
    session = services.verify_session(open_exam)
    assert (session.status, session.remote_status) == (Status.PENDING, "completed")
    assert announced == []
    assert not fake.sessions[open_exam.examplary_id].revoked
    assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
    fake.heal()
    assert services.verify_session(open_exam).get_outputs().exam_id
    assert announced == [("completed", open_exam.pk)]


def test_session_completes_without_its_output_after_ten_minutes(
    fake, open_exam, announced, caplog, without_output
):
    services.verify_session(open_exam)
    first_seen = open_exam.ended_at
    ExamplarySession.objects.update(ended_at=first_seen - timedelta(minutes=9))
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).is_open
    # The second call did not restart the ten minutes.
    assert open_exam.ended_at == first_seen - timedelta(minutes=9)
    ExamplarySession.objects.update(ended_at=first_seen - timedelta(minutes=10))
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.COMPLETED
    assert open_exam.outputs == {"later": 1}
    assert announced == [("completed", open_exam.pk)]
    assert "outcome=incomplete" in caplog.text
    assert "missing=examId" in caplog.text


def test_completed_session_without_outputs_stores_the_other_fields(fake, open_exam):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", times=2, edit=lambda body: body | {"outputs": {}, "verdict": {"exam": 1}})
    services.verify_session(open_exam)
    ExamplarySession.objects.update(ended_at=timezone.now() - timedelta(minutes=10))
    open_exam.refresh_from_db()
    services.verify_session(open_exam)
    assert open_exam.status == Status.COMPLETED
    assert open_exam.outputs["verdict"] == {"exam": 1}
    # Without the two fields that open the session.
    assert {"id", "embedUrl"}.isdisjoint(open_exam.outputs)


def test_close_waits_for_the_output_of_a_completed_session(
    fake, open_exam, announced, without_output
):
    assert services.close_session(open_exam).is_open
    assert not fake.sessions[open_exam.examplary_id].revoked
    fake.heal()
    assert services.close_session(open_exam).status == Status.COMPLETED
    assert announced == [("completed", open_exam.pk)]


def test_revoked_session_is_kept_at_examplary_until_its_output_arrives(
    fake, open_exam, without_output
):
    services.revoke_session(open_exam)
    assert (open_exam.status, open_exam.revoke_pending) == (Status.REVOKED, True)
    assert not fake.sessions[open_exam.examplary_id].revoked
    fake.heal()
    services.revoke_session(open_exam)
    assert (open_exam.status, open_exam.revoke_pending) == (Status.COMPLETED, False)


# The API refuses to return the session


@pytest.mark.parametrize("status", REFUSALS)
def test_refused_session_stays_open_but_is_not_reused(fake, teacher, open_exam, announced, status):
    fake.complete(open_exam.examplary_id)
    fake.fail("GET", status=status, body=b"<h1>Refused</h1>")
    with pytest.raises(ExamplarySessionEndedError, match=f"answered with {status}"):
        services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.open_key) == (Status.PENDING, None)
    assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
    assert announced == []
    # The refusal may have come from a proxy, so a later result is accepted.
    assert services.verify_session(open_exam).status == Status.COMPLETED


@pytest.mark.parametrize("status", REFUSALS)
def test_refused_session_expires_at_its_expiry(fake, open_exam, announced, status):
    fake.fail("GET", status=status)
    ExamplarySession.objects.update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED
    assert announced == []


@pytest.mark.parametrize(
    "body", [{"error": "Session not found"}, {"status": "gone"}, {"statusCode": 404}, [], b"null"]
)
def test_success_without_a_session_is_a_refusal(fake, teacher, open_exam, body):
    fake.fail("GET", "/embed-sessions/{id}", times=None, body=body)
    with pytest.raises(ExamplarySessionEndedError, match="Examplary does not return this session"):
        services.verify_session(open_exam)
    assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
    ExamplarySession.objects.filter(pk=open_exam.pk).update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED


@pytest.mark.parametrize("body", [b"", b"<h1>Maintenance</h1>"])
def test_success_that_is_not_json_changes_nothing(fake, teacher, open_exam, body):
    fake.fail("GET", "/embed-sessions/{id}", times=None, body=body)
    ExamplarySession.objects.update(expires_at=timezone.now())
    open_exam.refresh_from_db()
    with pytest.raises(ExamplaryResponseError):
        services.verify_session(open_exam)
    assert open_exam.is_open


def test_session_without_an_expiry_expires_after_seven_days(fake, open_exam):
    fake.sessions.clear()
    ExamplarySession.objects.update(expires_at=None)
    open_exam.refresh_from_db()
    with pytest.raises(ExamplarySessionEndedError):
        services.verify_session(open_exam)
    ExamplarySession.objects.update(created_at=timezone.now() - LIFETIME)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.EXPIRED


@pytest.mark.parametrize(
    ("status", "error"), [(401, ExamplaryAuthenticationError), (500, ExamplaryServerError)]
)
def test_failed_call_leaves_the_session_as_it_is(fake, teacher, open_exam, settings, status, error):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=status)
    with pytest.raises(error):
        services.verify_session(open_exam)
    assert open_exam.asked_at is not None
    assert open_exam.verified_at is None
    assert services.open_session(teacher, SUMS, origin=ORIGIN) == open_exam


def test_wrong_key_ends_no_session(fake, teacher, open_exam, wrong_key):
    with wrong_key():
        with pytest.raises(ExamplarySessionEndedError):
            services.verify_session(open_exam)
        assert services.open_session(teacher, SUMS, origin=ORIGIN) != open_exam
        services.sweep_sessions()
    fake.complete(open_exam.examplary_id)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam).status == Status.COMPLETED


def test_session_that_was_ended_and_deleted_during_a_call_is_not_refused(
    fake, open_exam, announced, during_call
):
    fake.complete(open_exam.examplary_id)
    during_call(
        "get_embed_session",
        lambda: services.verify_session(ExamplarySession.objects.get()),
        answered=False,
    )
    assert services.verify_session(open_exam).status == Status.COMPLETED
    assert announced == [("completed", open_exam.pk)]


# Many callers


def test_late_response_does_not_change_a_final_status(fake, open_exam, announced, during_call):
    def complete_elsewhere():
        fake.complete(open_exam.examplary_id)
        services.verify_session(ExamplarySession.objects.get())

    during_call("get_embed_session", complete_elsewhere)
    session = services.verify_session(open_exam)
    assert (session.status, session.remote_status) == (Status.COMPLETED, "completed")
    assert announced == [("completed", open_exam.pk)]


@pytest.mark.django_db(transaction=True)
def test_concurrent_verify_calls_announce_once(fake, open_exam, announced, in_threads):
    fake.complete(open_exam.examplary_id)
    fake.latency = 0.05
    results = in_threads(8, lambda: services.verify_session(ExamplarySession.objects.get()).status)
    assert set(results) == {Status.COMPLETED}
    assert announced == [("completed", open_exam.pk)]


def test_verify_within_max_age_calls_api_once(fake, open_exam, during_call):
    moment = timedelta(minutes=1)

    def verify_elsewhere():
        other = ExamplarySession.objects.get()
        other.asked_at = None  # The value when that request read the row.
        assert services.verify_session(other, max_age=moment).is_open

    during_call("get_embed_session", verify_elsewhere)
    services.verify_session(open_exam, max_age=moment)
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


def test_verify_within_max_age_reads_the_outcome_of_the_other_caller(fake, open_exam):
    stale = ExamplarySession.objects.get()
    fake.complete(open_exam.examplary_id)
    moment = timedelta(minutes=1)
    services.verify_session(open_exam, max_age=moment)
    assert services.verify_session(stale, max_age=moment).status == Status.COMPLETED
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


def test_failed_call_is_not_repeated_within_max_age(fake, open_exam):
    fake.fail("GET", status=403)
    with pytest.raises(ExamplarySessionEndedError):
        services.verify_session(open_exam)
    open_exam.refresh_from_db()
    assert services.verify_session(open_exam, max_age=timedelta(minutes=1)).is_open
    assert len(fake.calls("GET")) == 1
    fake.complete(open_exam.examplary_id)
    assert services.verify_session(open_exam).status == Status.COMPLETED


def test_call_with_a_future_time_is_ignored(fake, open_exam):
    """The clock was set back, or the clock of another machine is ahead."""
    ExamplarySession.objects.update(asked_at=timezone.now() + timedelta(hours=1))
    open_exam.refresh_from_db()
    fake.complete(open_exam.examplary_id)
    session = services.verify_session(open_exam, max_age=timedelta(seconds=1))
    assert session.status == Status.COMPLETED


def test_erased_session_has_ended(fake, open_exam, announced):
    ExamplarySession.objects.all().delete()
    with pytest.raises(ExamplarySessionEndedError, match="any more"):
        services.verify_session(open_exam, max_age=timedelta(seconds=1))
    fake.complete(open_exam.examplary_id)
    with pytest.raises(ExamplarySessionEndedError, match="any more"):
        services.verify_session(open_exam)
    assert announced == []


# The signal


def test_signal_is_recorded_as_sent(fake, open_exam):
    services.close_session(open_exam)
    assert ExamplarySession.objects.get().announced_at is not None


def test_end_without_a_signal_records_none_as_sent(fake, open_exam):
    services.revoke_session(open_exam)
    assert ExamplarySession.objects.get().announced_at is None
    assert not ExamplarySession.objects.all().unannounced().exists()


def test_receiver_that_raises_does_not_stop_the_others(fake, open_exam, announced):
    def broken(**kwargs):
        raise LookupError

    session_completed.connect(broken)
    fake.complete(open_exam.examplary_id)
    try:
        assert services.verify_session(open_exam).status == Status.COMPLETED
    finally:
        session_completed.disconnect(broken)
    assert announced == [("completed", open_exam.pk)]
    assert fake.sessions[open_exam.examplary_id].revoked


@pytest.mark.django_db(transaction=True)
def test_signal_is_sent_although_the_database_is_lost_after_the_commit(
    fake, open_exam, announced, lapse, caplog
):
    updates = []

    def lose_connection(execute, sql, *args):
        # Except statements that begin a transaction or set the lock timeout.
        if "django_examplary_" in sql:
            updates.append(sql)
            if len(updates) > 1:
                raise OperationalError("Failing row contains (SECRET)")
        return execute(sql, *args)

    fake.complete(open_exam.examplary_id)
    with connection.execute_wrapper(lose_connection), pytest.raises(OperationalError):
        services.verify_session(open_exam)
    assert announced == [("completed", open_exam.pk)]
    assert "operation=announce" in caplog.text
    assert "SECRET" not in caplog.text
    # It was not recorded, so a sweep sends it again.
    assert ExamplarySession.objects.get().announced_at is None
    lapse()
    assert services.sweep_sessions().announced == 1
    assert announced == [("completed", open_exam.pk)] * 2
    assert services.sweep_sessions().announced == 0


def test_signal_that_was_not_sent_is_left_to_its_caller_until_the_claim_ends(
    fake, open_exam, announced, lapse
):
    fake.complete(open_exam.examplary_id)
    services.verify_session(open_exam)
    ExamplarySession.objects.update(announced_at=None)
    assert services.sweep_sessions().announced == 0
    lapse()
    assert services.sweep_sessions().announced == 1


def test_end_whose_commit_was_not_acknowledged_is_announced(
    fake, open_exam, announced, monkeypatch
):
    fake.complete(open_exam.examplary_id)
    monkeypatch.setattr("django_examplary.services.outcomes.commit", unacknowledged)
    services.verify_session(open_exam)
    assert announced == [("completed", open_exam.pk)]


# Close


def test_close_ends_a_flow_that_never_completes(fake, teacher, announced):
    flow = EditExam(exam_id=fake.add_exam()["id"])
    session = services.open_session(teacher, flow, origin=ORIGIN, grant_access=True)
    assert services.close_session(session).status == Status.CLOSED
    assert announced == [("closed", session.pk)]
    assert fake.sessions[session.examplary_id].revoked
    services.close_session(session)
    assert len(announced) == 1


def test_close_stores_the_completion_that_the_api_returns(fake, open_exam, announced):
    fake.complete(open_exam.examplary_id)
    assert services.close_session(open_exam).status == Status.COMPLETED
    assert announced == [("completed", open_exam.pk)]


def test_close_within_max_age_of_an_answer_makes_no_second_call(fake, open_exam):
    services.verify_session(open_exam)
    session = services.close_session(open_exam, max_age=timedelta(minutes=1))
    assert session.status == Status.CLOSED
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1


@pytest.mark.parametrize("verified_before", [True, False])
def test_close_within_max_age_of_a_failed_call_is_refused(
    fake, open_exam, settings, verified_before
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    if verified_before:
        services.verify_session(open_exam)
    fake.fail("GET", status=500)
    with pytest.raises(ExamplaryServerError):
        services.verify_session(open_exam)
    with pytest.raises(ExamplaryNotReadyError, match="failed just now"):
        services.close_session(open_exam, max_age=timedelta(minutes=1))
    open_exam.refresh_from_db()
    assert open_exam.is_open


def test_close_during_the_call_of_another_caller_loses_no_result(
    fake, open_exam, attempt, during_call
):
    """The other call may return a result, which a closed session would reject."""
    services.verify_session(open_exam)
    ExamplarySession.objects.update(asked_at=timezone.now() - timedelta(minutes=5))
    open_exam.refresh_from_db()
    stale = ExamplarySession.objects.get()
    stale.verified_at = stale.asked_at
    moment, results = timedelta(minutes=1), []

    def close_elsewhere():
        results.append(attempt(lambda: services.close_session(stale, max_age=moment)))

    fake.complete(open_exam.examplary_id)
    during_call("get_embed_session", close_elsewhere, answered=False)
    services.verify_session(open_exam, max_age=moment)
    assert [type(each) for each in results] == [ExamplaryNotReadyError]
    assert open_exam.status == Status.COMPLETED


# Revoke


def test_revoke_ends_the_session_here_even_if_the_api_is_down(fake, open_exam, settings, caplog):
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


@pytest.mark.parametrize("status", [*REFUSALS, 415, 451])
def test_refused_deletion_is_final(fake, open_exam, status):
    fake.fail("DELETE", status=status)
    assert services.revoke_session(open_exam).revoke_pending is False
    assert services.sweep_sessions().revoked == 0
    assert len(fake.calls("DELETE")) == 1


@pytest.mark.parametrize("status", [401, 402, 408, 425, 429, 500])
def test_temporarily_failed_deletion_is_repeated_by_a_sweep(fake, open_exam, settings, status):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("DELETE", status=status)
    assert services.revoke_session(open_exam).revoke_pending
    assert services.sweep_sessions().revoked == 1
    assert fake.sessions[open_exam.examplary_id].revoked


def test_revoked_row_from_a_fixture_needs_no_call(fake, open_exam):
    ExamplarySession.objects.update(examplary_id=None)
    open_exam.refresh_from_db()
    assert services.revoke_session(open_exam).revoke_pending is False
    assert fake.calls("DELETE") == []


@pytest.mark.parametrize("name", ["verify_session", "close_session", "revoke_session"])
def test_unanswered_deletion_is_repeated_at_once(fake, open_exam, name):
    if name == "verify_session":
        fake.complete(open_exam.examplary_id)
    fake.fail("DELETE", status=500, before=False)
    session = getattr(services, name)(open_exam)
    assert (session.is_open, session.revoke_pending) == (False, False)
    assert len(fake.calls("DELETE")) == 2


def test_revoke_stores_an_existing_result(fake, open_exam, announced):
    fake.complete(open_exam.examplary_id)
    session = services.revoke_session(open_exam)
    assert (session.status, session.revoke_pending) == (Status.COMPLETED, False)
    assert announced == [("completed", open_exam.pk)]


def test_revoke_deletes_a_session_that_the_api_refuses_to_return(fake, open_exam):
    fake.fail("GET", status=403)
    session = services.revoke_session(open_exam)
    assert (session.status, session.revoke_pending) == (Status.REVOKED, False)
    assert fake.sessions[open_exam.examplary_id].revoked


def test_revoke_deletes_nothing_while_the_api_cannot_be_called(fake, open_exam, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    assert services.revoke_session(open_exam).revoke_pending
    assert fake.calls("DELETE") == []


def test_result_that_was_read_while_the_session_was_revoked_is_kept(
    fake, open_exam, announced, during_call, settings
):
    settings.EXAMPLARY_MAX_RETRIES = 0

    def finish_and_revoke():
        fake.complete(open_exam.examplary_id)
        # The GET of the other caller fails, so it deletes nothing.
        fake.fail("GET", status=500)
        services.revoke_session(ExamplarySession.objects.get())

    during_call("get_embed_session", finish_and_revoke, answered=False)
    services.verify_session(open_exam)
    fake.heal()
    assert ExamplarySession.objects.get().status in (Status.REVOKED, Status.COMPLETED)
    services.sweep_sessions()
    assert ExamplarySession.objects.get().status == Status.COMPLETED
    assert announced == [("completed", open_exam.pk)]
    assert fake.sessions[open_exam.examplary_id].revoked


def test_result_of_a_user_who_was_deleted_during_the_call_is_dropped(
    fake, teacher, open_exam, announced, during_call
):
    fake.complete(open_exam.examplary_id)
    during_call("get_embed_session", teacher.delete)
    services.verify_session(open_exam)
    assert (open_exam.status, open_exam.outputs, announced) == (Status.REVOKED, {}, [])
    assert fake.sessions[open_exam.examplary_id].revoked


def test_result_does_not_cancel_a_pending_revocation(fake, open_exam, settings):
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = False
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("DELETE", status=500)
    services.revoke_session(ExamplarySession.objects.get())
    fake.complete(open_exam.examplary_id)
    services.revoke_session(open_exam)
    assert open_exam.status == Status.COMPLETED
    assert fake.sessions[open_exam.examplary_id].revoked


def test_session_revoked_with_the_wrong_key_has_ended(fake, open_exam, wrong_key):
    """An unknown session counts as deleted, so another key's 404 ends the revocation."""
    with wrong_key():
        assert services.revoke_session(open_exam).revoke_pending is False


# Revoke all sessions of an actor


def test_revoke_sessions_revokes_the_open_ones(fake, teacher, open_exam):
    over = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    services.revoke_session(over)
    assert services.revoke_sessions(open_exam.actor) == [open_exam]
    assert services.revoke_sessions(open_exam.actor) == []


def test_session_completed_just_before_revoke_sessions_stays_completed(
    fake, open_exam, before_query
):
    rows = ExamplarySession.objects.all()
    with before_query(
        lambda: rows.update(status=Status.COMPLETED), "UPDATE", "django_examplary", "revoke_pending"
    ):
        assert services.revoke_sessions(open_exam.actor) == []
    open_exam.refresh_from_db()
    assert (open_exam.status, open_exam.revoke_pending) == (Status.COMPLETED, False)


@pytest.mark.django_db(transaction=True)
def test_services_refuse_a_transaction(fake, open_exam):
    sent = len(fake.requests)
    for name in ("verify_session", "close_session", "revoke_session"):
        with (
            transaction.atomic(),
            pytest.raises(TransactionManagementError, match=name),
        ):
            getattr(services, name)(open_exam)
    assert len(fake.requests) == sent
