"""Finishing what no browser reported: for cron or a task queue, every few minutes."""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import Error
from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.data import EmbedSession
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplarySessionEndedError,
)
from django_examplary.models import (
    DEFAULT_WORKSPACE,
    LIFETIME,
    ExamplarySession,
    ExamplarySessionQuerySet,
)
from django_examplary.services.clients import get_client
from django_examplary.services.database import (
    commit,
    lease,
    new_token,
    refuse_transaction,
    session_rows,
)
from django_examplary.services.opening import drop_claims
from django_examplary.services.outcomes import (
    announce_end,
    delete,
    end_session,
    fetch,
    is_worth_a_look,
    record_answer,
    record_deletion,
    record_look,
)
from django_examplary.services.paced import Outcome, PacedCalls

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

_PAGE = 200
# A sweep stops after so many failures in a row.
_MAX_FAILURES = 10
# A claim that has ended is deleted at this age. Launches do not repeat its request any more.
_UNKNOWN = timedelta(hours=1)


@dataclass
class Sweep:
    """What a sweep did."""

    #: How many sessions the API was called about.
    verified: int = 0
    #: How many came to each end, by status.
    ended: dict[str, int] = field(default_factory=dict)
    #: How many sessions were revoked at Examplary.
    revoked: int = 0
    #: How many signals were sent for sessions whose process died before it could send them.
    announced: int = 0
    #: How many rows were deleted, by EXAMPLARY_RETENTION.
    pruned: int = 0
    #: How many sessions the API refuses to return. They stay open until their time is over.
    missing: int = 0
    #: How many sessions could not be verified or revoked.
    failed: int = 0
    #: Whether the sweep ended because `should_stop()` returned true.
    interrupted: bool = False
    #: Why the sweep ended early by itself, if it did.
    stopped: str = ""

    def count_end(self, session: ExamplarySession) -> None:
        self.ended[session.status] = self.ended.get(session.status, 0) + 1


def sweep_sessions(
    *,
    limit: int | None = None,
    workspace: str | None = None,
    since: datetime | None = None,
    dry_run: bool = False,
    concurrency: int = 4,
    rate: float = 0.0,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Sweep], None] = lambda sweep: None,
    client: ExamplaryClient | None = None,
) -> Sweep:
    """Verify open sessions, revoke what is still to be revoked, and prune by EXAMPLARY_RETENTION.

    Makes at most `concurrency` calls at a time and `rate` a second (0: no limit). `limit` bounds
    how many sessions are asked about; the longest waiting come first, in turns between the users.
    With `workspace`, only sessions of that workspace are asked about. With `since`, sessions that
    were asked about from then on are left out: sweeps that share it ask about each session once.
    From its second day on a session is asked about once an hour. Any number of sweeps may run at
    the same time and share the work. With `dry_run` the numbers say what a sweep would do, and
    nothing is called or changed. The sweep ends early when `should_stop()` returns true or the API
    keeps failing.

    A workspace whose API key is refused, or that is not configured any more, stops alone; `stopped`
    has the reason. Raises ExamplaryConfigurationError after the work that needs no API, and
    TransactionManagementError inside a transaction.
    """
    if dry_run:
        return _rehearse(limit, workspace)
    refuse_transaction("sweep_sessions")
    sweep = Sweep()
    _tidy(sweep)
    if client is None and (workspace or conf.EXAMPLARY_WORKSPACE is None):
        # With one workspace nothing else could be done without its key.
        get_client(workspace or DEFAULT_WORKSPACE)
    calls = PacedCalls(
        concurrency=concurrency,
        rate=rate,
        max_failures=_MAX_FAILURES,
        should_stop=should_stop,
    )
    run = _Run(sweep, calls, limit, workspace, since or timezone.now(), client)
    for outcome in calls.run(run.take, _call, lambda task: task.session.workspace):
        run.record(outcome)
        progress(sweep)
    sweep.interrupted = calls.interrupted
    sweep.stopped = calls.stopped or "; ".join(calls.stopped_lanes.values())
    return sweep


def _due(workspace: str | None) -> ExamplarySessionQuerySet:
    due = session_rows().due()
    return due.filter(workspace=workspace) if workspace else due


def _rehearse(limit: int | None, workspace: str | None) -> Sweep:
    pending = list(_due(workspace).values_list("revoke_pending", flat=True)[:limit])
    return Sweep(
        revoked=sum(pending),
        verified=len(pending) - sum(pending),
        announced=session_rows().unannounced().count(),
        pruned=session_rows().prunable(conf.EXAMPLARY_RETENTION).count(),
    )


def _tidy(sweep: Sweep) -> None:
    """Do everything that needs no API."""
    drop_claims(session_rows(), older_than=_UNKNOWN)
    # A session that was to be revoked for longer than any session lives is over.
    over = session_rows().filter(revoke_pending=True, created_at__lt=timezone.now() - LIFETIME)
    commit(lambda: over.update(revoke_pending=False))
    for session in session_rows().unannounced().select_related("actor__user")[:_PAGE]:
        mine = session_rows().filter(pk=session.pk, claim_token=session.claim_token)
        if commit(lambda mine=mine: mine.update(claim_token=new_token(), lapses_at=lease())):  # type: ignore[misc]  # mypy sees no types of defaults
            logger.warning("operation=announce session=%s outcome=late", session.pk)
            announce_end(session)
            sweep.announced += 1
    sweep.pruned = _prune()


def _prune() -> int:
    """Delete what is old enough, except for rows that the project's own rows protect."""
    prunable = session_rows().prunable(conf.EXAMPLARY_RETENTION)
    try:
        return int(prunable.delete()[0])
    except (ProtectedError, RestrictedError):
        pruned = 0
        for pk in list(prunable.values_list("pk", flat=True)):
            with contextlib.suppress(ProtectedError, RestrictedError):
                pruned += session_rows().filter(pk=pk).delete()[0]
        return pruned


@dataclass
class _Task:
    """One call about one session. The threads read it and change nothing."""

    session: ExamplarySession
    client: ExamplaryClient
    #: Whether the session is deleted; else it is read.
    deletes: bool


def _call(task: _Task) -> EmbedSession | None:
    client = task.client.within(conf.EXAMPLARY_DEADLINE)
    if task.deletes:
        delete(task.session, client)
        return None
    return fetch(task.session, client)


class _Run:
    def __init__(
        self,
        sweep: Sweep,
        calls: PacedCalls,
        limit: int | None,
        workspace: str | None,
        since: datetime,
        client: ExamplaryClient | None,
    ) -> None:
        self._sweep = sweep
        self._calls = calls
        self._left = limit
        self._workspace = workspace
        self._client = client
        self._since = since
        self._page: deque[ExamplarySession] = deque()
        #: Calls that follow from others, or that the API has postponed.
        self._next: deque[_Task] = deque()

    def take(self) -> _Task | None:
        """Claim the next session, and return the first call about it."""
        while not self._calls.is_over():
            if self._next:
                task = self._next.popleft()
                if task.session.workspace in self._calls.stopped_lanes:
                    continue  # The row says what is left to do.
                return task
            if self._left == 0 or not (self._page or self._read_page()):
                return None
            session = self._page.popleft()
            if session.workspace in self._calls.stopped_lanes or not self._claim(session):
                continue
            if self._left is not None:
                self._left -= 1
            try:
                if begun := self._begin(session):
                    return begun
            except ExamplaryConfigurationError as error:
                # The sessions of the other workspaces can still be swept.
                self._calls.stopped_lanes[session.workspace] = str(error)
                self._fail(session, error)
            except (ExamplaryError, Error) as error:
                self._fail(session, error)
        return None

    def _read_page(self) -> bool:
        if timezone.now() < self._since:
            # The clock was set back, or is behind that of the machine that chose `since`. The
            # same sessions would be due again and again.
            return False
        due = _due(self._workspace).exclude(asked_at__gte=self._since)
        due = due.exclude(workspace__in=list(self._calls.stopped_lanes))
        self._page += due.select_related("actor__user")[:_PAGE]
        return bool(self._page)

    def _claim(self, session: ExamplarySession) -> bool:
        """Note that the API is about to be called. False: another sweep or a browser was faster."""
        now = timezone.now()
        unasked = session_rows().filter(pk=session.pk, asked_at=session.asked_at)
        if not commit(lambda: unasked.update(asked_at=now)):
            return False
        session.asked_at = now
        return True

    def _begin(self, session: ExamplarySession) -> _Task | None:
        if session.is_open and not (session.actor and session.actor.user.is_active):
            end_session(session, Status.REVOKED, revoke_pending=True)
            self._sweep.count_end(session)
        if not session.examplary_id:
            # It came from a fixture, which holds no ids.
            if session.is_open:
                end_session(session, Status.EXPIRED)
                self._sweep.count_end(session)
            record_deletion(session, lambda: None)
            return None
        client = self._client or get_client(
            session.workspace, max_retries=0, pool_size=self._calls.concurrency
        )
        looks = session.is_open or is_worth_a_look(session)
        return _Task(session, client, deletes=not looks)

    def record(self, outcome: Outcome[_Task, EmbedSession | None]) -> None:
        """Store the outcome of a call, and note the call that follows from it."""
        task, session = outcome.item, outcome.item.session
        if not outcome.was_processed:
            self._next.append(task)
            return
        status = session.status
        try:
            self._store(task, outcome.call)
        except ExamplarySessionEndedError as error:
            # Erased meanwhile, or refused by the API.
            self._sweep.missing += session_rows().open().filter(pk=session.pk).exists()
            logger.info("operation=sweep session=%s outcome=%s", session.pk, error)
        except (ExamplaryError, Error) as error:
            if session.is_open and session.created_at < timezone.now() - 2 * LIFETIME:
                # It has been over for a week, and the API does not return an outcome.
                end_session(session, Status.EXPIRED)
            else:
                self._fail(session, error)
        if session.status != status:
            self._sweep.count_end(session)

    def _store(self, task: _Task, call: Future[Any]) -> None:
        session = task.session
        keep = False
        if task.deletes:
            record_deletion(session, call.result)
            self._sweep.revoked += 1
        elif session.is_open:
            record_answer(session, call.result)
            self._sweep.verified += 1
        else:
            keep = not record_look(session, call.result)
        if session.revoke_pending and not keep:
            self._next.append(_Task(session, task.client, deletes=True))

    def _fail(self, session: ExamplarySession, error: Exception) -> None:
        self._sweep.failed += 1
        # The message of a database may quote the row, which holds what opens the session.
        reason = type(error).__name__ if isinstance(error, Error) else str(error)
        logger.warning("operation=sweep session=%s error=%s", session.pk, reason)
