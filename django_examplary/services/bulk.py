"""Actors for many users: as fast as the API lets us, and each user once.

Threads do nothing but HTTP, on plain values. The thread that called does all the rest: it claims a
few rows ahead, paces the calls, and commits each answer as it comes. So whatever kills a run leaves
no more than some claims, which lapse, and the next run goes on with the users that are left.
"""

from __future__ import annotations

import logging
import math
import queue
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError
from django.db.models import Q, QuerySet

from django_examplary.client import ExamplaryClient
from django_examplary.client.retries import is_outage, is_postponed, is_uncertain
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole, User
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryPermissionError,
    ExamplaryUnavailableError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services.actors import (
    claim_actors,
    describe_error,
    get_profile,
    refuse_role,
    release_actor,
    renew_claim,
    store_actor,
)
from django_examplary.services.connections import (
    ASKED_TO_STOP,
    get_client,
    refuse_transaction,
)

logger = logging.getLogger("django_examplary")

# How many users are looked up at a time.
_PAGE = 500
# How many reasons of failure are told apart.
_REASONS = 20
# How long to wait for the threads before looking whether to stop, in seconds.
_TICK = 0.1
# A run does not wait longer than this because the API asks it to, in seconds.
_MAX_WAIT = 60.0


@dataclass
class Provisioning:
    """What became of the users so far."""

    provisioned: int = 0
    #: How many failed, by reason. `ExamplaryActor.last_error` has each user's own.
    failed: dict[str, int] = field(default_factory=dict)
    #: How many were passed over, because somebody else provisions them at the moment or because
    #: it is not known yet what came of that.
    skipped: int = 0
    #: Why the run ended before the last user, if it did.
    stopped: str = ""
    #: For how many seconds more the API has asked not to be asked.
    pause: float = 0.0


def select_users(
    *, groups: Collection[str] = (), staff: bool | None = None, search: str = ""
) -> QuerySet[Any]:
    """Return users by the names of their groups, staff or not, and a part of a name or an address.

    Raises FieldError when the project's user model has no such thing.
    """
    model = get_user_model()
    users = model._default_manager.all()
    if groups:
        users = users.filter(groups__name__in=groups).distinct()
    if staff is not None:
        users = users.filter(is_staff=staff)
    if search:
        names = [model.USERNAME_FIELD, model.get_email_field_name(), "first_name", "last_name"]
        matches = [(f"{name}__icontains", search) for name in names if _has_field(name)]
        users = users.filter(Q(*matches, _connector=Q.OR))
    return users


def unprovisioned(users: QuerySet[Any]) -> QuerySet[Any]:
    """Return those of the users who have no active actor and might be given one."""
    if _has_field("is_active"):
        users = users.filter(is_active=True)
    return users.exclude(examplary_actor__state=ExamplaryActor.State.ACTIVE)


def provision_actors(
    users: QuerySet[Any],
    *,
    role: ActorRole | None = None,
    concurrency: int = 4,
    rate: float = 5.0,
    max_failures: int = 10,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Provisioning], None] = lambda result: None,
    client: ExamplaryClient | None = None,
) -> Provisioning:
    """Provision those of the active users who have no active actor, also where it failed before.

    Sends at most `concurrency` requests at a time and `rate` a second (0: no limit), and fewer
    when the API asks for that. What fails for one user is noted in the row and gone past. The run
    stops when the API key is refused, after `max_failures` calls in a row that the API did not
    answer properly, and when `should_stop()` says so; a new run goes on from there. `progress` is
    called after each user whom the API was asked about. Any number of runs may work at the same
    time.

    Raises ExamplaryConfigurationError, ExamplaryValidationError for a role that no end user may
    have, and TransactionManagementError inside a transaction.
    """
    refuse_role(role)
    refuse_transaction("provision_actors")
    # The run does its own waiting, so that one refusal slows all threads down.
    client = client or get_client(max_retries=0, pool_size=concurrency)
    with ThreadPoolExecutor(concurrency, thread_name_prefix="examplary") as pool:
        run = _Run(
            users=users,
            role=role,
            concurrency=concurrency,
            rate=rate,
            max_failures=max_failures,
            should_stop=should_stop,
            client=client,
            pool=pool,
        )
        with closing(run.work()) as results:
            for result in results:
                progress(result)
    return run.result


@dataclass(frozen=True)
class _Claim:
    actor: ExamplaryActor
    profile: ActorProfile


@dataclass(kw_only=True)
class _Run:
    users: QuerySet[Any]
    role: ActorRole | None
    concurrency: int
    rate: float
    max_failures: int
    should_stop: Callable[[], bool]
    client: ExamplaryClient
    pool: ThreadPoolExecutor
    result: Provisioning = field(default_factory=Provisioning)

    def __post_init__(self) -> None:
        self._keys = _keys(unprovisioned(self.users))
        self._gate = _Gate(self.rate)
        self._failures = 0
        #: Claimed and not sent.
        self._ready: deque[_Claim] = deque()
        #: Sent and not answered.
        self._calls: dict[Future[User], _Claim] = {}
        self._answers: queue.SimpleQueue[Future[User]] = queue.SimpleQueue()
        #: Answered and not recorded.
        self._settled: deque[tuple[_Claim, Future[User]]] = deque()

    def work(self) -> Generator[Provisioning]:
        """Work, and yield the result whenever it has grown."""
        try:
            self._claim()
            while self._ready or self._calls:
                self._send()
                for claim, call in self._receive():
                    if self._settles(claim, call):
                        self._settled.append((claim, call))
                # The threads need not wait for what the database does next.
                self._send()
                while self._settled:
                    self._record(*self._settled.popleft())
                    yield self.result
                self._claim()
        finally:
            # Whoever ends the run, what Examplary has made by then is kept, or logged where the
            # database keeps nothing: each by itself.
            self._settled += [(claim, call) for call, claim in self._calls.items()]
            with ExitStack() as last:
                for claim, call in self._settled:
                    last.callback(self._save, claim, call)
                last.callback(self._release)
            self.result.pause = self._gate.paused()

    def _claim(self) -> None:
        """Take so many rows that the threads do not run dry, and no more."""
        while not self._is_over() and len(self._ready) <= self.concurrency // 2:
            keys = list(islice(self._keys, self.concurrency - len(self._ready)))
            if not keys:
                return
            users = {user.pk: user for user in self.users.filter(pk__in=keys)}
            actors = _claim_all([user for user in users.values() if user.is_active])
            self.result.skipped += len(keys) - len(actors)
            for actor in actors:
                actor.role = self.role or actor.role
                try:
                    profile = get_profile(actor)
                except ExamplaryError as error:
                    self._fail(actor, error)
                except ExamplaryConfigurationError as error:
                    # The project's code failed for this user, and may do for others.
                    logger.exception("operation=provision-actors actor=%s", actor.pk)
                    self._fail(actor, error)
                else:
                    self._ready.append(_Claim(actor, profile))

    def _is_over(self) -> bool:
        if self.should_stop():
            self._stop(ASKED_TO_STOP)
        return bool(self.result.stopped)

    def _send(self) -> None:
        if self.result.stopped:
            self._release()
        while self._ready and len(self._calls) < self.concurrency and not self._gate.delay():
            claim = self._ready.popleft()
            if not renew_claim(claim.actor):
                self.result.skipped += 1
                continue
            self._gate.count()
            call = self.pool.submit(self._create_user, claim.profile)
            self._calls[call] = claim
            call.add_done_callback(self._answers.put)

    def _create_user(self, profile: ActorProfile) -> User:
        # For as long as this the claim holds, whatever the client would take.
        client = self.client.within(conf.EXAMPLARY_DEADLINE)
        return client.create_user(**asdict(profile))

    def _receive(self) -> Iterator[tuple[_Claim, Future[User]]]:
        """Wait a little for the next answer, and take all that are there."""
        patience = _TICK
        if self._ready and len(self._calls) < self.concurrency:
            patience = min(patience, self._gate.delay())
        with suppress(queue.Empty):
            while True:
                call = self._answers.get(timeout=patience)
                yield self._calls.pop(call), call
                patience = 0.0

    def _settles(self, claim: _Claim, call: Future[User]) -> bool:
        """Learn from an answer how to go on. False: nothing came of the call, so it goes again."""
        error = call.exception()
        if error is None:
            self._failures = 0
            self._gate.speed_up()
            return True
        if isinstance(error, (ExamplaryAuthenticationError, ExamplaryPermissionError)):
            self._stop(str(error))
            return True
        if isinstance(error, ExamplaryUnavailableError):
            self._gate.pause(1.0)
        elif isinstance(error, ExamplaryAPIError) and is_postponed(error):
            self._gate.slow_down(error.retry_after)
            if (error.retry_after or 0.0) > _MAX_WAIT or self._gate.refusals > self.max_failures:
                self._stop(str(error))
        elif is_outage(error) or is_uncertain(error):
            self._failures += 1
            if self._failures >= self.max_failures:
                self._stop(f"{self._failures} calls in a row failed, the last with: {error}")
            if not (isinstance(error, ExamplaryConnectionError) and not error.sent):
                return True
        else:
            self._failures = 0
            return True
        self._ready.appendleft(claim)
        return False

    def _save(self, claim: _Claim, call: Future[User]) -> None:
        error = call.exception()
        if error is None or isinstance(error, ExamplaryError):
            self._record(claim, call)

    def _record(self, claim: _Claim, call: Future[User]) -> None:
        try:
            store_actor(claim.actor, call.result(), claim.profile)
        except ExamplaryError as error:
            self._fail(claim.actor, error)
        else:
            self.result.provisioned += 1

    def _fail(self, actor: ExamplaryActor, error: Exception) -> None:
        # Without effect where `store_actor` failed: it has given the row back.
        release_actor(actor, error)
        failed, reason = self.result.failed, _reason(error)
        if reason not in failed and len(failed) >= _REASONS:
            reason = "other reasons"
        failed[reason] = failed.get(reason, 0) + 1

    def _stop(self, reason: str) -> None:
        self.result.stopped = self.result.stopped or reason

    def _release(self) -> None:
        while self._ready:
            release_actor(self._ready.popleft().actor)


class _Gate:
    """How fast calls go out: as fast as was asked for; slower after a refusal, then by and by
    faster again. One thread asks, so there is nothing to lock."""

    def __init__(self, rate: float) -> None:
        self._limit = self._rate = rate or math.inf
        self._next = self._since = self._resume = time.monotonic()
        self._accepted = 0
        #: How often in a row the API has made us pause.
        self.refusals = 0

    def delay(self) -> float:
        """Return the seconds until the next call may go out."""
        return max(0.0, self._next - time.monotonic())

    def paused(self) -> float:
        """Return the seconds for which the API wants to be left alone."""
        return max(0.0, self._resume - time.monotonic())

    def count(self) -> None:
        """Note that a call goes out. One that is late does not hold up those after it."""
        self._next = max(self._next + 1 / self._rate, time.monotonic())

    def speed_up(self) -> None:
        self.refusals = 0
        self._accepted += 1
        # Once for every call that is accepted: one hundredth a second.
        self._rate = min(self._limit, self._rate + 0.01)

    def slow_down(self, seconds: float | None) -> None:
        """Pause, for as long as the API says, and go on at less than what it last accepted."""
        now = time.monotonic()
        if now < self._resume:
            return  # One that went out together with the first.
        accepted = self._accepted / max(1.0, now - self._since)
        self._rate = max(min(1.0, self._limit), 0.9 * min(self._rate, accepted))
        self.pause(min(_MAX_WAIT, 2.0**self.refusals) if seconds is None else seconds)
        self.refusals += 1
        self._accepted, self._since = 0, self._resume

    def pause(self, seconds: float) -> None:
        self._resume = time.monotonic() + seconds
        self._next = max(self._next, self._resume)


def _has_field(name: str) -> bool:
    return any(each.name == name for each in get_user_model()._meta.get_fields())


def _keys(users: QuerySet[Any]) -> Iterator[Any]:
    """Yield primary keys a page at a time: neither a list of all, nor a cursor held for hours."""
    keys = users.order_by("pk").values_list("pk", flat=True)
    page = list(keys[:_PAGE])
    while page:
        yield from page
        page = list(keys.filter(pk__gt=page[-1])[:_PAGE])


def _claim_all(users: Collection[Any]) -> list[ExamplaryActor]:
    try:
        return claim_actors(users)
    except DatabaseError:
        # A user was deleted at this very moment, or two runs were in each other's way.
        actors = []
        for user in users:
            with suppress(IntegrityError):
                actors += claim_actors([user])
        return actors


def _reason(error: Exception) -> str:
    """Say why in words that are the same for every user; a request's id is not."""
    if isinstance(error, ExamplaryAPIError):
        return f"{error.status_code} {error.message}".strip()
    return describe_error(error)
