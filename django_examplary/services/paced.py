"""Many calls to the API at once, at a pace that the API accepts.

Threads only make HTTP calls, on plain values. The thread that called does everything else: it
claims a row when there is room for its call, and stores each outcome before it claims more. So
whatever kills a run leaves no more claims than calls under way, and those end by themselves.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from django_examplary.client.retries import is_outage, is_postponed, is_uncertain
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryUnavailableError,
)

T = TypeVar("T")
R = TypeVar("R")

# Seconds to wait for an outcome before a look at whether to stop.
_TICK = 0.1
# A run waits no longer than this because the API asks for it, in seconds.
_MAX_WAIT = 60.0


@dataclass
class Outcome(Generic[T, R]):
    """How a call ended: a value, or an error."""

    item: T
    call: Future[R]

    @property
    def error(self) -> BaseException | None:
        return self.call.exception()

    @property
    def was_processed(self) -> bool:
        """Whether the API may have acted on the request. If not, the call can be made again."""
        error = self.error
        return not (
            error is not None
            and (
                is_postponed(error)
                or isinstance(error, ExamplaryUnavailableError)
                or (isinstance(error, ExamplaryConnectionError) and not error.sent)
            )
        )


@dataclass(kw_only=True)
class PacedCalls:
    """A run of calls: at most `concurrency` at a time and `rate` a second (0: no limit).

    After a 429, or a 503 with Retry-After, the run pauses as long as the API asks, or ever longer.
    It ends early after `max_failures` failures in a row, and when `should_stop()` returns true.
    Errors of one item, such as a 404, do not count. An API key that is refused stops the lane of
    its item, which is the alias of a workspace.
    """

    concurrency: int
    rate: float
    max_failures: int
    should_stop: Callable[[], bool]
    #: Whether `should_stop()` ended the run.
    interrupted: bool = False
    #: Why the run ended early by itself.
    stopped: str = ""
    #: The lanes that ended early, with the reason.
    stopped_lanes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._interval = 1 / self.rate if self.rate else 0.0
        self._next = self._resume = time.monotonic()
        self._failures = self._refusals = 0

    @property
    def pause(self) -> float:
        """For how many seconds more the API has asked not to be called."""
        return max(0.0, self._resume - time.monotonic())

    def is_over(self) -> bool:
        if not self.interrupted and not self.stopped and self.should_stop():
            self.interrupted = True
        return self.interrupted or bool(self.stopped)

    def stop(self, reason: str) -> None:
        """End the run: calls that are under way are finished, and no other is made."""
        self.stopped = self.stopped or reason

    def run(
        self,
        take: Callable[[], T | None],
        call: Callable[[T], R],
        lane: Callable[[T], str],
    ) -> Generator[Outcome[T, R]]:
        """Make the calls, and yield each outcome.

        `take` claims and returns the next item, or None if there is none at the moment; the run is
        over when it returns None and no call is under way. An exception, Ctrl-C included, is raised
        when the outcomes of the calls under way have been yielded.
        """
        calls: dict[Future[R], T] = {}
        answered: queue.SimpleQueue[Future[R]] = queue.SimpleQueue()
        failure: BaseException | None = None
        exhausted = False
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="examplary") as pool:
            while calls or not (exhausted or self.is_over()):
                ended: list[Future[R]] = []
                try:
                    while len(calls) < self.concurrency and not (self._delay() or self.is_over()):
                        item = take()
                        exhausted = item is None
                        if item is None:
                            break
                        self._next = max(self._next + self._interval, time.monotonic())
                        future = pool.submit(call, item)
                        calls[future] = item
                        future.add_done_callback(answered.put)
                    ended = self._receive(answered, len(calls))
                except BaseException as error:  # raised again below
                    failure = failure or error
                    self.stop("An error ended the run.")
                for future in ended:
                    exhausted = False
                    item = calls.pop(future)
                    self._learn(future.exception(), lane(item))
                    yield Outcome(item, future)
        if failure is not None:
            raise failure

    def _delay(self) -> float:
        """Return the seconds until the next call may go out."""
        return max(0.0, max(self._next, self._resume) - time.monotonic())

    def _receive(self, answered: queue.SimpleQueue[Any], under_way: int) -> list[Any]:
        """Wait for a moment, and return the calls that have ended."""
        room = under_way < self.concurrency and not self.is_over()
        patience = min(_TICK, self._delay() or _TICK) if room else _TICK
        ended = []
        with suppress(queue.Empty):
            while True:
                ended.append(answered.get(timeout=patience))
                patience = 0.0
        return ended

    def _learn(self, error: BaseException | None, lane: str) -> None:
        """Adapt the pace to the outcome of a call."""
        if error is None:
            self._failures = self._refusals = 0
        elif isinstance(error, ExamplaryAuthenticationError):
            self.stopped_lanes.setdefault(lane, str(error))
        elif isinstance(error, ExamplaryUnavailableError):
            self._wait(1.0)
        elif isinstance(error, ExamplaryAPIError) and is_postponed(error):
            self._postpone(error)
        elif is_outage(error) or is_uncertain(error):
            self._failures += 1
            if self._failures >= self.max_failures:
                self.stop(f"{self._failures} calls in a row failed, the last with: {error}")
        elif isinstance(error, ExamplaryError):
            self._failures = 0

    def _postpone(self, error: ExamplaryAPIError) -> None:
        if self.pause:
            return  # A call that went out together with the first.
        seconds = error.retry_after
        self._refusals += 1
        if (seconds or 0.0) > _MAX_WAIT or self._refusals > self.max_failures:
            self.stop(str(error))
        self._wait(min(_MAX_WAIT, 2.0 ** (self._refusals - 1)) if seconds is None else seconds)

    def _wait(self, seconds: float) -> None:
        self._resume = max(self._resume, time.monotonic() + seconds)
