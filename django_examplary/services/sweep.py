"""Finish the sessions that no browser reported: for cron or a task queue, every few minutes."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from django.db import Error
from django.db.models import Q
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
from django_examplary.services.database import commit, new_token, refuse_transaction, session_rows
from django_examplary.services.outcomes import (
    delete,
    end_session,
    fetch,
    may_be_finished,
    record_answer,
    record_deletion,
    record_final_answer,
)
from django_examplary.services.paced import Outcome, PacedCalls
from django_examplary.services.profiles import is_active
from django_examplary.services.tidying import tidy

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

# Number of sessions per query; complete rows are read when they are claimed.
_PAGE = 1000


@dataclass
class Sweep:
    """The result of a sweep."""

    #: Number of verified sessions.
    verified: int = 0
    #: Number of ended sessions by status.
    ended: dict[str, int] = field(default_factory=dict)
    #: Number of sessions revoked at Examplary.
    revoked: int = 0
    #: Number of signals sent late, because a process died before it sent them.
    announced: int = 0
    #: Number of rows deleted by EXAMPLARY_RETENTION.
    pruned: int = 0
    #: Number of sessions that the API refuses to return. They stay open until they expire.
    missing: int = 0
    #: Number of sessions that could not be verified or revoked.
    failed: int = 0
    #: Whether the sweep ended because `should_stop()` returned true.
    interrupted: bool = False
    #: Why the sweep ended early, if it did.
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
    """Verify open sessions, repeat failed revocations, and prune by EXAMPLARY_RETENTION.

    At most `concurrency` calls are made at a time and `rate` a second (0: no limit). `limit` bounds
    the number of sessions. The sessions that have waited longest come first, in turns between the
    users. With `workspace`, only sessions of that workspace are checked. With `since`, sessions
    that were checked after this time are skipped, so sweeps with the same `since` check each
    session once. Sessions older than a day are checked once an hour. Any number of sweeps may run
    at the same time and share the work; one that starts later may repeat the calls that are then
    under way. With `dry_run` nothing is called or changed, and the result has the numbers of
    sessions to verify and to revoke, of late signals, and of rows to delete.

    The sweep ends early when `should_stop()` returns true or the API keeps failing. Only the
    affected workspace stops if its API key is refused or it is no longer configured; `stopped` has
    the reason.

    Raises ExamplaryConfigurationError after the work that needs no API, and
    TransactionManagementError inside a transaction.
    """
    since = since or timezone.now()
    if dry_run:
        return _dry_run(limit, workspace, since)
    refuse_transaction("sweep_sessions")
    sweep = Sweep()
    sweep.announced, sweep.pruned = tidy()
    if client is None and (workspace or conf.EXAMPLARY_WORKSPACE is None):
        # In a single workspace nothing else can be done without its key.
        get_client(workspace or DEFAULT_WORKSPACE)
    calls = PacedCalls(concurrency=concurrency, rate=rate, max_failures=10, should_stop=should_stop)
    left = math.inf if limit is None else limit
    run = _SweepRun(sweep, calls, left, workspace, since, client)
    for outcomes in calls.run(run.take, _call, lambda task: task.session.workspace):
        run.record(outcomes)
        progress(sweep)
    sweep.interrupted = calls.interrupted
    sweep.stopped = calls.reason
    return sweep


def _due(workspace: str | None, since: datetime) -> ExamplarySessionQuerySet:
    due = session_rows().due().exclude(asked_at__gte=since)
    return due.filter(workspace=workspace) if workspace else due


def _dry_run(limit: int | None, workspace: str | None, since: datetime) -> Sweep:
    if workspace:
        conf.get_workspace(workspace)
    pending = list(_due(workspace, since).values_list("revoke_pending", flat=True)[:limit])
    return Sweep(
        revoked=sum(pending),
        verified=len(pending) - sum(pending),
        announced=session_rows().unannounced().count(),
        pruned=session_rows().prunable(conf.EXAMPLARY_RETENTION).count(),
    )


class _Task(NamedTuple):
    """A call for one session, which a thread makes."""

    session: ExamplarySession
    client: ExamplaryClient
    #: Whether to delete the session; otherwise it is read.
    deletes: bool


def _call(task: _Task) -> EmbedSession | None:
    client = task.client.within(conf.EXAMPLARY_DEADLINE)
    if task.deletes:
        delete(task.session, client)
        return None
    return fetch(task.session, client)


def _is_unchanged(session: ExamplarySession, remote: EmbedSession | None) -> bool:
    return (
        remote is not None
        and remote.is_pending
        and remote.status == session.remote_status
        and not remote.outputs
        and session.is_open
        and not session.is_past_expiry()
    )


@dataclass
class _SweepRun:
    sweep: Sweep
    calls: PacedCalls
    #: Remaining number of sessions to check.
    left: float
    workspace: str | None
    since: datetime
    client: ExamplaryClient | None
    #: Due sessions: primary key, alias, and time of the last call.
    page: deque[tuple[Any, str, datetime | None]] = field(default_factory=deque)
    #: The clients by workspace of the sessions that were claimed together.
    clients: dict[str, ExamplaryClient] = field(default_factory=dict)
    #: Follow-up calls, and calls that the API has postponed.
    follow_ups: list[_Task] = field(default_factory=list)

    def take(self, room: int) -> list[_Task]:
        """Claim up to `room` sessions, and return the first call for each."""
        tasks: list[_Task] = []
        while not (tasks or self.calls.is_over()):
            waiting, self.follow_ups = self.follow_ups, []
            for task in waiting:
                alias = task.session.workspace
                if len(tasks) < room and self.calls.accepts(alias):
                    tasks.append(task)
                elif alias not in self.calls.stopped_lanes:
                    # Otherwise the next sweep finds the work in the row.
                    self.follow_ups.append(task)
            if tasks or self.left == 0 or not (self.page or self._read_page()):
                break
            found = self._choose(min(room, self.left))
            for session in self._claim(found):
                self.left -= 1
                try:
                    tasks += self._begin(session, self.clients[session.workspace])
                except (ExamplaryError, Error) as error:
                    self._fail(session.pk, error)
        return tasks

    def _read_page(self) -> bool:
        if timezone.now() < self.since:
            # The clock was set back, or is behind that of the machine that chose `since`. The same
            # sessions would be due repeatedly.
            return False
        closed = [*self.calls.stopped_lanes, *self.calls.paused_lanes]
        due = _due(self.workspace, self.since).exclude(workspace__in=closed)
        self.page += due.values_list("pk", "workspace", "asked_at")[:_PAGE]
        return bool(self.page)

    def _choose(self, room: float) -> dict[Any, datetime | None]:
        """Return the next sessions of workspaces that can be called: primary key and `asked_at`."""
        chosen: dict[Any, datetime | None] = {}
        self.clients = {}
        while self.page and len(chosen) < room:
            pk, alias, asked_at = self.page.popleft()
            if not self.calls.accepts(alias):
                continue  # Rows of paused workspaces are found again later.
            try:
                self.clients[alias] = (
                    self.clients.get(alias)
                    or self.client
                    or get_client(alias, max_retries=0, pool_size=self.calls.concurrency)
                )
            except ExamplaryConfigurationError as error:
                # Sessions of other workspaces can still be swept.
                self.calls.stop_lane(alias, str(error))
                self._fail(pk, error)
            else:
                chosen[pk] = asked_at
        return chosen

    def _claim(self, found: dict[Any, datetime | None]) -> list[ExamplarySession]:
        """Record the time of the call, and read the sessions to call for.

        Sessions that another sweep has claimed, or a browser has verified, are skipped.
        """
        token = new_token()
        rows = session_rows().filter(pk__in=list(found))
        # An earlier attempt whose commit was not acknowledged has stored the token.
        unasked = rows.filter(
            Q(asked_at=None) | Q(asked_at__in={*found.values()}) | Q(claim_token=token)
        )
        if not commit(lambda: unasked.update(asked_at=timezone.now(), claim_token=token)):
            return []
        claimed = rows.filter(claim_token=token).select_related("actor__user")
        # Keep the order of the query.
        by_key = {session.pk: session for session in claimed}
        return [by_key[pk] for pk in found if pk in by_key]

    def _begin(self, session: ExamplarySession, client: ExamplaryClient) -> list[_Task]:
        if session.is_open and not (session.actor and is_active(session.actor.user)):
            end_session(session, Status.REVOKED, revoke_pending=True)
            self.sweep.count_end(session)
        if not session.examplary_id:
            # Rows from fixtures have no ids.
            if session.is_open:
                end_session(session, Status.EXPIRED)
                self.sweep.count_end(session)
            record_deletion(session, lambda: None)
            return []
        looks = session.is_open or may_be_finished(session)
        return [_Task(session, client, deletes=not looks)]

    def record(self, outcomes: list[Outcome[_Task, EmbedSession | None]]) -> None:
        """Store the outcomes of calls, and queue the follow-up calls."""
        stored = self._record_pending(outcomes)
        for outcome in outcomes:
            if outcome.item.session.pk not in stored:
                self._record(outcome)

    def _record_pending(self, outcomes: list[Outcome[_Task, EmbedSession | None]]) -> set[Any]:
        """Store the unchanged pending sessions together, and return their primary keys."""
        pending = {
            outcome.item.session.pk
            for outcome in outcomes
            if outcome.error is None and _is_unchanged(outcome.item.session, outcome.call.result())
        }
        if not pending:
            return pending
        now = timezone.now()
        rows = session_rows().open().filter(pk__in=pending)
        try:
            count = commit(lambda: rows.update(verified_at=now, asked_at=now))
        except Error:
            count = 0
        if count < len(pending):
            # Other callers have ended some of them meanwhile. Store each one separately.
            return set()
        self.sweep.verified += len(pending)
        return pending

    def _record(self, outcome: Outcome[_Task, EmbedSession | None]) -> None:
        task, session = outcome.item, outcome.item.session
        if not outcome.was_processed:
            self.follow_ups.append(task)
            return
        status = session.status
        try:
            self._store(task, outcome.call)
        except ExamplarySessionEndedError as error:
            # Erased meanwhile, or refused by the API.
            self.sweep.missing += session_rows().open().filter(pk=session.pk).exists()
            logger.info("operation=sweep session=%s outcome=%s", session.pk, error)
        except (ExamplaryError, Error) as error:
            if session.is_open and session.created_at < timezone.now() - 2 * LIFETIME:
                # It ended a week ago, and the API returns no outcome.
                end_session(session, Status.EXPIRED)
            else:
                self._fail(session.pk, error)
        if session.status != status:
            self.sweep.count_end(session)

    def _store(self, task: _Task, call: Future[Any]) -> None:
        session = task.session
        keep = False
        if task.deletes:
            record_deletion(session, call.result)
            self.sweep.revoked += 1
        elif session.is_open:
            record_answer(session, call.result)
            self.sweep.verified += 1
        else:
            keep = not record_final_answer(session, call.result)
        if session.revoke_pending and not keep:
            self.follow_ups.append(_Task(session, task.client, deletes=True))

    def _fail(self, key: Any, error: Exception) -> None:
        self.sweep.failed += 1
        # Messages of databases may quote the row with the secrets of the session.
        reason = type(error).__name__ if isinstance(error, Error) else str(error)
        logger.warning("operation=sweep session=%s error=%s", key, reason)
