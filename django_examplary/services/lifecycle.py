"""What happens after: sweeping up what no browser reported, and letting people go.

Nothing here needs a browser; `sweep_sessions` is for cron or a task queue, every few minutes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import Error, transaction
from django.db.models import F, ProtectedError, Q, RestrictedError
from django.utils import timezone

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.exceptions import (
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryNotFoundError,
    ExamplarySessionEndedError,
    ExamplaryUnavailableError,
)
from django_examplary.models import ExamplarySession
from django_examplary.services.actors import revoke_sessions
from django_examplary.services.connections import (
    ASKED_TO_STOP,
    actor_rows,
    database,
    get_client,
    lapsed_before,
    refuse_transaction,
    session_rows,
)
from django_examplary.services.sessions import (
    LIFETIME,
    end_session,
    finish_revocation,
    learn_outcome,
    note_attempt,
    revoke_remote,
)

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

_PAGE = 100
# Everything that comes after one of these would fail in the same way.
_HOPELESS = (ExamplaryAuthenticationError, ExamplaryUnavailableError)
# So would what comes after so many failures in a row.
_MAX_FAILURES = 10
_UNKNOWN = (
    "Examplary does not know the session. Are EXAMPLARY_API_KEY and EXAMPLARY_API_URL still those "
    "that it was opened with?"
)


@dataclass
class Sweep:
    """What a sweep did."""

    verified: int = 0
    #: How many came to each end, by status.
    ended: dict[str, int] = field(default_factory=dict)
    revoked: int = 0
    pruned: int = 0
    failed: int = 0
    #: Why the sweep ended early, if it did.
    stopped: str = ""

    def count_end(self, session: ExamplarySession) -> None:
        self.ended[session.status] = self.ended.get(session.status, 0) + 1


def sweep_sessions(
    *,
    limit: int | None = None,
    dry_run: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Sweep], None] = lambda sweep: None,
    client: ExamplaryClient | None = None,
) -> Sweep:
    """Verify open sessions, revoke what is still to be revoked, and prune by EXAMPLARY_RETENTION.

    `limit` bounds how many sessions are asked about; those that were not asked about for longest
    come first, whatever came of it. From its second day on a session is asked about once an hour.
    With `dry_run` the numbers say what a sweep would touch, and nothing is asked or changed. The
    sweep ends early when `should_stop()` says so or the API will answer nothing.

    Raises ExamplaryConfigurationError, after it has done what needs no API.
    """
    sweep = Sweep()
    # One that was to be revoked for longer than any session lives is over.
    too_late = timezone.now() - LIFETIME
    revocable = session_rows().filter(revoke_pending=True, created_at__gte=too_late)
    # Those that were found at the start.
    found = dict(
        (revocable | session_rows().open().filter(_is_due()))
        .order_by(F("asked_at").asc(nulls_first=True), "created_at")
        .values_list("pk", "revoke_pending")[:limit]
    )
    if dry_run:
        sweep.revoked = sum(found.values())
        sweep.verified = len(found) - sweep.revoked
        sweep.pruned = _prunable().count()
        return sweep
    refuse_transaction("sweep_sessions")
    session_rows().filter(status=Status.CREATING, created_at__lt=lapsed_before()).delete()
    session_rows().filter(revoke_pending=True, created_at__lt=too_late).update(revoke_pending=False)
    sweep.pruned = _prune()
    client = client or get_client()
    failures = 0
    for session in _read(list(found)):
        if should_stop():
            sweep.stopped = ASKED_TO_STOP
            break
        try:
            _sweep(session, sweep, client)
        except ExamplarySessionEndedError:
            continue  # Erased meanwhile.
        except (ExamplaryError, Error) as error:
            note_attempt(session)
            sweep.failed += 1
            # One that is not there says nothing of the others.
            failures += not isinstance(error, ExamplaryNotFoundError)
            # What a database says may quote the row, which holds what opens the session.
            reason = str(error) if isinstance(error, ExamplaryError) else type(error).__name__
            if isinstance(error, ExamplaryNotFoundError):
                reason = _UNKNOWN
            logger.warning("operation=sweep session=%s error=%s", session.pk, reason)
            if isinstance(error, _HOPELESS) or failures >= _MAX_FAILURES:
                sweep.stopped = reason
                break
        else:
            failures = 0
        progress(sweep)
    return sweep


def _is_due() -> Q:
    """Which open sessions to ask about: few that are a day old will ever come to an outcome."""
    now = timezone.now()
    return (
        Q(asked_at=None)
        | Q(asked_at__lt=now - timedelta(hours=1))
        | Q(created_at__gt=now - timedelta(days=1))
        | Q(expires_at__lte=now)
    )


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """What was erased here, and what is left elsewhere."""

    #: The user at Examplary, who still exists: the API documents no way to delete one. Ask
    #: Examplary to. Empty if there never was one.
    examplary_id: str = ""
    sessions: int = 0
    #: Anonymous rows that the next sweeps finish.
    still_to_revoke: int = 0


def erase_user(user: Any, *, client: ExamplaryClient | None = None) -> Erasure:
    """Erase what this app knows of a user, as a data-subject request asks for. Idempotent.

    Open sessions are revoked first. One that Examplary cannot be told about right now stays, as an
    anonymous row without content, until a sweep has told it.
    """
    refuse_transaction("erase_user")
    actor = actor_rows().filter(user=user).first()
    if actor is None:
        return Erasure()
    sessions = session_rows().filter(actor=actor)
    revoke_sessions(actor)
    try:
        client = client or get_client()
    except ExamplaryConfigurationError as error:
        logger.warning("operation=erase error=%s", error)
    else:
        for session in sessions.filter(revoke_pending=True):
            # What became of it is not asked for any more.
            session.actor = None
            revoke_remote(session, client)
    with transaction.atomic(using=database()):
        # One may have been opened meanwhile.
        revoke_sessions(actor)
        remaining = sessions.filter(revoke_pending=True).update(
            actor=None, presets={}, theme={}, metadata={}, outputs={}, next_url="", fingerprint=""
        )
        erased = sessions.delete()[0]
        actor.delete()
    return Erasure(
        examplary_id=actor.examplary_id or "", sessions=erased, still_to_revoke=remaining
    )


def _prunable() -> Any:
    if conf.EXAMPLARY_RETENTION is None:
        return session_rows().none()
    return session_rows().filter(
        ended_at__lt=timezone.now() - timedelta(days=conf.EXAMPLARY_RETENTION),
        revoke_pending=False,
    )


def _prune() -> int:
    """Delete what is old enough, but for what rows of the project's own need."""
    prunable = _prunable()
    try:
        return int(prunable.delete()[0])
    except (ProtectedError, RestrictedError):
        pruned = 0
        for pk in list(prunable.values_list("pk", flat=True)):
            with contextlib.suppress(ProtectedError, RestrictedError):
                pruned += session_rows().filter(pk=pk).delete()[0]
        return pruned


def _sweep(session: ExamplarySession, sweep: Sweep, client: ExamplaryClient) -> None:
    status = session.status
    try:
        if session.is_open and not (session.actor and session.actor.user.is_active):
            end_session(session, Status.REVOKED, revoke_pending=True)
        if session.revoke_pending:
            finish_revocation(session, client)
            sweep.revoked += 1
        else:
            _verify(session, client)
            sweep.verified += 1
    finally:
        if session.status != status:
            sweep.count_end(session)


def _verify(session: ExamplarySession, client: ExamplaryClient) -> None:
    try:
        learn_outcome(session, client)
    except ExamplaryError:
        if session.created_at > timezone.now() - 2 * LIFETIME:
            raise
        # It has been over for a week, and if there is an outcome nobody can tell us.
        end_session(session, Status.EXPIRED)


def _read(keys: list[Any]) -> Iterator[ExamplarySession]:
    """Read the sessions a page at a time."""
    for start in range(0, len(keys), _PAGE):
        page = keys[start : start + _PAGE]
        rows = session_rows().select_related("actor__user").in_bulk(page)
        # Some are gone meanwhile.
        yield from (rows[key] for key in page if key in rows)
