"""End sessions: verify, close, revoke.

The API decides the outcome of a session. Messages, returns and Done buttons only cause a request.
Every change of status is a compare-and-set, so only one of several concurrent callers sends the
signal.

Two rules apply if the API refuses to return a session (400, 403, 404, 405, 409, 410, 422, or a
success with another object such as an error), which is not documented:

1. The session is not reused: the next launch creates another one.
2. The row stays open until it expires, because the refusal may come from a proxy or concern the API
   key, so a result is possible.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.db import Error
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import cleaned
from django_examplary.conf import conf
from django_examplary.data import EmbedSession
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryError,
    ExamplaryNotReadyError,
    ExamplaryResponseError,
    ExamplarySessionEndedError,
)
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.clients import get_client
from django_examplary.services.database import (
    commit,
    database,
    lease,
    new_token,
    refuse_transaction,
    session_rows,
    set_values,
)

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

#: How long a completed session is verified again while a documented output is missing.
OUTPUT_GRACE = timedelta(minutes=10)

# These concern the request in general, not this session, or are temporary.
_INDEFINITE = (401, 402, 407, 408, 421, 423, 425, 429)

_SIGNALS: Mapping[str, Signal] = {
    Status.COMPLETED: signals.session_completed,
    Status.CANCELLED: signals.session_cancelled,
    Status.CLOSED: signals.session_closed,
}

# The user may have finished just before the revocation, unless the user was deleted.
_JUST_REVOKED = Q(status=Status.REVOKED, actor__isnull=False)


def verify_session(
    session: ExamplarySession,
    *,
    max_age: timedelta = timedelta(0),
    client: ExamplaryClient | None = None,
) -> ExamplarySession:
    """Request the outcome of a session from the API, store it, and return the session.

    The first caller that receives an outcome sends its signal. If the last call was less than
    `max_age` ago, the API is not called again, whatever its outcome, and the stored session is
    returned.

    Raises ExamplarySessionEndedError if the API refuses to return the session, and other
    ExamplaryErrors if the API cannot be called. The session stays open.
    """
    if not session.is_open:
        return session
    now = timezone.now()
    # The clock may have been set back.
    if session.asked_at and timedelta(0) <= now - session.asked_at < max_age:
        return session
    refuse_transaction("verify_session")
    # If several callers verify at the same time, one calls the API.
    unasked = session_rows().filter(pk=session.pk)
    unasked = unasked.exclude(asked_at__gt=now - max_age, asked_at__lte=now)
    if max_age and not commit(lambda: unasked.update(asked_at=now)):
        reload(session)
        return session
    if not session.examplary_id:
        # Rows from fixtures have no ids.
        end_session(session, Status.EXPIRED)
        return session
    caller = client or get_client(session.workspace)
    record_answer(session, lambda: fetch(session, caller))
    revoke_remote(session, caller)
    return session


def close_session(
    session: ExamplarySession,
    *,
    max_age: timedelta = timedelta(0),
    client: ExamplaryClient | None = None,
) -> ExamplarySession:
    """End a session because its user is done, for flows that never complete.

    The API is called first: if the session was completed or cancelled, that status is stored
    instead. `max_age` is that of `verify_session`. Raises ExamplaryError if the API cannot be
    called, and ExamplaryNotReadyError if the last call failed less than `max_age` ago.
    """
    refuse_transaction("close_session")
    client = client or get_client(session.workspace)
    verify_session(session, max_age=max_age, client=client)
    # An open session with an end time is completed but lacks its output.
    if session.is_open and session.ended_at is None:
        if session.verified_at is None or (
            session.asked_at is not None and session.verified_at < session.asked_at
        ):
            raise ExamplaryNotReadyError("The last call about this session failed just now.")
        end_session(session, Status.CLOSED, revoke_pending=True)
        revoke_remote(session, client)
    return session


def revoke_session(
    session: ExamplarySession, *, client: ExamplaryClient | None = None
) -> ExamplarySession:
    """Invalidate the URL of an open session, here at once and then at Examplary.

    If the user finished before, the session is completed or cancelled instead. If the API cannot be
    called, `revoke_pending` stays true and a later sweep retries.
    """
    refuse_transaction("revoke_session")
    end_session(session, Status.REVOKED, revoke_pending=True)
    revoke_remote(session, client or get_client(session.workspace))
    return session


def revoke_sessions(actor: ExamplaryActor) -> list[ExamplarySession]:
    """End an actor's open sessions here at once; a sweep revokes them at Examplary.

    Makes no API call, so it may run inside a transaction. Returns the sessions.
    """
    sessions = session_rows().filter(actor=actor)

    def revoke() -> list[ExamplarySession]:
        # First, so that a session that is being opened is either dropped or among the sessions
        # below.
        sessions.filter(status=Status.CREATING).delete()
        keys = list(sessions.open().values_list("pk", flat=True))
        sessions.open().filter(pk__in=keys).update(
            status=Status.REVOKED,
            embed_url="",
            open_key=None,
            ended_at=timezone.now(),
            revoke_pending=True,
        )
        return list(sessions.filter(pk__in=keys, status=Status.REVOKED))

    return commit(revoke)


def record_answer(session: ExamplarySession, answer: Callable[[], EmbedSession]) -> None:
    """Store the API's response about an open session; see `verify_session` for the errors.

    `answer` returns the result of `fetch`, or raises its error.
    """
    try:
        remote = answer()
    except ExamplaryError as error:
        if not is_definite(error):
            change_open(session, asked_at=timezone.now())
            raise
        refusal = str(error)
    else:
        _apply(session, remote)
        return
    if session.is_past_expiry():
        end_session(session, Status.EXPIRED)
    elif change_open(session, asked_at=timezone.now(), open_key=None):
        raise ExamplarySessionEndedError(f"Examplary does not return this session. {refusal}")


def is_definite(error: Exception) -> bool:
    """Return whether the API refused for a reason that a retry does not change."""
    if isinstance(error, ExamplaryAPIError):
        # 501 is about the method of the request.
        status = error.status_code
        return status == 501 or (400 <= status < 500 and status not in _INDEFINITE)
    return isinstance(error, ExamplarySessionEndedError)


def is_answer(error: Exception) -> bool:
    """Return whether the API responded, so that a retry would get the same response."""
    return is_definite(error) or isinstance(error, ExamplaryResponseError)


def change_open(session: ExamplarySession, **values: Any) -> bool:
    """Update an open session in the database and on the instance.

    Return False, after a reload, if another caller has ended it meanwhile. Raises
    ExamplarySessionEndedError if it was erased.
    """
    rows = session_rows().open().filter(pk=session.pk)
    if not commit(lambda: rows.update(**values)):
        reload(session)
        return False
    set_values(session, values)
    return True


def reload(session: ExamplarySession) -> None:
    """Reload the row. Raises ExamplarySessionEndedError if it was erased."""
    try:
        session.refresh_from_db(using=database())
    except ExamplarySession.DoesNotExist:
        raise ExamplarySessionEndedError("This session does not exist any more.") from None


def fetch(session: ExamplarySession, client: ExamplaryClient) -> EmbedSession:
    """Read the session at Examplary. Thread-safe, because it does not use the database.

    Raises ExamplaryResponseError if the response has another flow or actor, and
    ExamplarySessionEndedError if it is JSON but not a session.
    """
    try:
        remote = client.get_embed_session(session.examplary_id)
    except ExamplaryResponseError as error:
        if error.is_json:
            raise ExamplarySessionEndedError(str(error)) from None
        raise
    actor = session.actor
    known = ""
    # A re-provisioned actor has another id than the session.
    if actor is not None and actor.provisioned_at and actor.provisioned_at <= session.created_at:
        known = actor.examplary_id or ""
    # Names and addresses of actors cannot be compared.
    same_actor = not (known and remote.actor.startswith("user_")) or remote.actor == known
    if remote.flow in ("", session.flow) and same_actor:
        return remote
    logger.error("operation=verify-session outcome=foreign-answer session=%s", session.pk)
    raise ExamplaryResponseError("The API answered with another user's session.")


def _apply(session: ExamplarySession, remote: EmbedSession) -> bool:
    """Store the returned outcome. Return False if a result is still expected."""
    now = timezone.now()
    facts = {"remote_status": remote.status[:64], "verified_at": now, "asked_at": now}
    if remote.outputs and not remote.is_completed:
        # Outputs may exist with any status, and are always kept.
        received = {"outputs": dict(remote.outputs)}
        rows = session_rows().filter(Q(status=Status.PENDING) | _JUST_REVOKED, pk=session.pk)
        if commit(lambda: rows.update(**received)):
            set_values(session, received)
    if remote.is_completed:
        outputs = session.get_outputs_class()(dict(remote.outputs))
        first_seen = session.ended_at or now
        if not outputs.is_complete and now - first_seen < OUTPUT_GRACE:
            change_open(session, **facts, ended_at=first_seen, open_key=None)
            return False
        if not outputs.is_complete:
            logger.warning(
                "operation=verify-session outcome=incomplete session=%s missing=%s received=%s",
                session.pk,
                outputs.key,
                cleaned(",".join(sorted({*remote.raw, *outputs.raw})), 300),
            )
        # Without outputs keep the other fields, except for those that open the session.
        rest = {key: remote.raw[key] for key in remote.raw if key not in ("id", "embedUrl")}
        kept = outputs.raw if outputs.raw or outputs.is_complete else rest
        end_session(session, Status.COMPLETED, outputs=kept, **facts)
    elif remote.is_cancelled:
        end_session(session, Status.CANCELLED, **facts)
    elif session.is_open and (remote.is_over or session.is_past_expiry()):
        end_session(session, Status.EXPIRED, **facts)
    elif remote.is_pending:
        change_open(session, **facts)
    else:
        if session.remote_status != remote.status[:64]:
            logger.warning(
                "operation=verify-session outcome=unknown-status session=%s status=%r",
                session.pk,
                remote.status[:64],
            )
        change_open(session, **facts, open_key=None)
    return True


def end_session(session: ExamplarySession, status: ExamplarySession.Status, **facts: Any) -> None:
    """End an open session, unless another caller just did, and send the signal."""
    endable = Q(status=Status.PENDING)
    if status in (Status.COMPLETED, Status.CANCELLED):
        endable |= _JUST_REVOKED
        if conf.EXAMPLARY_REVOKE_ON_COMPLETION:
            facts["revoke_pending"] = True
    token = new_token()
    facts |= {
        "status": status,
        "embed_url": "",
        "open_key": None,
        "ended_at": timezone.now(),
        "claim_token": token,
    }
    # An earlier attempt whose commit was not acknowledged has stored the token.
    ending = session_rows().filter(endable | Q(claim_token=token), pk=session.pk)
    if not commit(lambda: ending.update(**facts, lapses_at=lease())):
        reload(session)
        return
    # No queries here, because the signal must be sent even if the database fails now.
    set_values(session, facts)
    announce_end(session)


def announce_end(session: ExamplarySession) -> None:
    """Send the signal for the end of a session, and record that it was sent.

    If the process dies in between, a later sweep sends the signal again.
    """
    signal = _SIGNALS.get(session.status)
    if signal is None:
        return
    outputs = {"outputs": session.get_outputs()} if session.status == Status.COMPLETED else {}
    signal.send_robust(ExamplarySession, session=session, **outputs)
    try:
        sent = session_rows().filter(pk=session.pk)
        commit(lambda: sent.update(announced_at=timezone.now()))
    except Error as error:
        logger.warning("operation=announce session=%s error=%s", session.pk, type(error).__name__)


def revoke_remote(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Revoke a session at Examplary if pending. A sweep retries if this fails.

    A session that its user may have finished is verified first.
    """
    if not session.revoke_pending:
        return
    try:
        if may_be_finished(session) and not record_final_answer(
            session, lambda: fetch(session, client)
        ):
            return  # Its result is still expected.
        record_deletion(session, lambda: delete(session, client))
    except ExamplaryError as error:
        logger.warning("operation=revoke session=%s outcome=%s", session.pk, error)


def may_be_finished(session: ExamplarySession) -> bool:
    """Return whether the user may have finished the session just before it was revoked here."""
    return bool(
        session.status == Status.REVOKED and session.actor is not None and session.examplary_id
    )


def record_final_answer(session: ExamplarySession, answer: Callable[[], EmbedSession]) -> bool:
    """Store the response about a revoked session. Return False if a result is still expected."""
    try:
        return _apply(session, answer())
    except ExamplaryError as error:
        if not is_definite(error):
            raise
    return True


def delete(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Delete the session at Examplary. Thread-safe, because it does not use the database."""
    # Rows from fixtures have no id, so there is nothing to delete.
    if session.examplary_id:
        client.delete_embed_session(session.examplary_id)


def record_deletion(session: ExamplarySession, answer: Callable[[], None]) -> None:
    """Store that a session is deleted at Examplary, or that the API refuses permanently.

    `answer` does what `delete` does, or raises its error.
    """
    try:
        answer()
    except ExamplaryError as error:
        if not is_definite(error):
            raise
        logger.info("operation=revoke session=%s outcome=%s", session.pk, error)
    done = session_rows().filter(pk=session.pk)
    commit(lambda: done.update(revoke_pending=False))
    session.revoke_pending = False
