"""Make many concurrent calls, at a pace that the API accepts.

Threads only make HTTP calls, on plain values. The calling thread does everything else: it claims a
row when there is room for its call, and stores each outcome before it claims more. So a killed run
leaves only claims of calls under way, which expire.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from django_examplary import clock
from django_examplary.client.retries import is_outage, is_postponed, is_uncertain, is_unprocessed
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryError,
    ExamplaryUnavailableError,
)
from django_examplary.models import DEFAULT_WORKSPACE

T = TypeVar("T")
R = TypeVar("R")

# Seconds to wait for an outcome before checking `should_stop`.
_TICK = 0.1
# The longest pause that a run accepts from the API, in seconds.
_MAX_WAIT = 60.0


class Outcome(NamedTuple, Generic[T, R]):
    """The result of a call: a value or an error."""

    item: T
    call: Future[R]

    @property
    def error(self) -> BaseException | None:
        return self.call.exception()

    @property
    def was_processed(self) -> bool:
        """Whether the API may have acted on the request. If not, the call can be made again."""
        error = self.error
        return error is None or not is_unprocessed(error)


class _LanePace:
    """The pace of a lane."""

    #: When the next call may be sent, after a pause that the API requested.
    resume = 0.0
    #: Failures and pauses in a row.
    failures = 0
    refusals = 0

    def wait(self, seconds: float) -> None:
        self.resume = max(self.resume, clock.monotonic() + seconds)


@dataclass(kw_only=True)
class PacedCalls:
    """A run of calls: at most `concurrency` at a time and `rate` a second (0: no limit).

    The lane of an item is the alias of its workspace. After a 429, or a 503 with Retry-After, the
    lane pauses as long as the API requests; without a Retry-After, longer each time. A lane stops
    after `max_failures` failures in a row, and if its API key is refused. Errors of one item, such
    as a 404, do not count. The run ends early when `should_stop()` returns true.
    """

    concurrency: int
    rate: float
    max_failures: int
    should_stop: Callable[[], bool]
    #: Whether `should_stop()` ended the run.
    interrupted: bool = False
    #: The lanes that ended early, with the reason.
    stopped_lanes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._interval = 1 / self.rate if self.rate else 0.0
        self._next = clock.monotonic()
        #: Until this time only paused lanes have items.
        self._idle_until = 0.0
        self._is_stopped = False
        self._paces: defaultdict[str, _LanePace] = defaultdict(_LanePace)

    @property
    def pause(self) -> float:
        """Remaining seconds of the longest pause that the API requested."""
        latest = max((pace.resume for pace in self._paces.values()), default=0.0)
        return max(0.0, latest - clock.monotonic())

    @property
    def reason(self) -> str:
        """Why some lanes ended early; the lane is named if it has a name."""
        return "; ".join(
            reason if lane == DEFAULT_WORKSPACE else f"{lane}: {reason}"
            for lane, reason in self.stopped_lanes.items()
        )

    @property
    def paused_lanes(self) -> list[str]:
        """The lanes with a pause that the API requested."""
        now = clock.monotonic()
        paused = (lane for lane, pace in self._paces.items() if pace.resume > now)
        return [lane for lane in paused if lane not in self.stopped_lanes]

    def accepts(self, lane: str) -> bool:
        """Return whether a call for the lane may be made now."""
        return lane not in self.stopped_lanes and self._paces[lane].resume <= clock.monotonic()

    def is_over(self) -> bool:
        if not self._is_stopped and self.should_stop():
            self._is_stopped = self.interrupted = True
        return self._is_stopped

    def stop(self) -> None:
        """End the run: finish the calls under way, and make no others."""
        self._is_stopped = True

    def stop_lane(self, lane: str, reason: str) -> None:
        """Make no more calls for the lane."""
        self.stopped_lanes.setdefault(lane, reason)

    def run(
        self,
        take: Callable[[int], Sequence[T]],
        call: Callable[[T], R],
        lane: Callable[[T], str],
    ) -> Generator[list[Outcome[T, R]]]:
        """Make the calls, and yield lists of the outcomes that arrived together.

        `take` claims and returns the next items, at most as many as its argument, or none if there
        are none at the moment; it leaves out the lanes that the run does not accept. The run is
        over when it returns none, no call is under way and no lane pauses. An exception, Ctrl-C
        included, is raised when the outcomes of the calls under way have been yielded, and a second
        one without them.
        """
        calls: dict[Future[R], T] = {}
        failure: BaseException | None = None
        exhausted = False
        with ThreadPoolExecutor(self.concurrency, thread_name_prefix="examplary") as pool:
            while calls or not (exhausted or self.is_over()):
                ended: list[Future[R]] = []
                try:
                    while room := self._count_room(len(calls)):
                        # Before taking items, because a lane may resume meanwhile.
                        paused = [self._paces[lane].resume for lane in self.paused_lanes]
                        items = take(room)
                        if not items:
                            self._idle_until = min(paused, default=0.0)
                            exhausted = not paused
                            break
                        self._next = max(self._next + self._interval, clock.monotonic())
                        for item in items:
                            calls[pool.submit(call, item)] = item
                    ended = self._receive(calls)
                except BaseException as error:  # raised again below
                    if failure is not None:
                        raise
                    failure = error
                    self.stop()
                if ended:
                    exhausted, self._idle_until = False, 0.0
                    outcomes = [Outcome(calls.pop(future), future) for future in ended]
                    for outcome in outcomes:
                        self._adapt_pace(outcome.error, lane(outcome.item))
                    yield outcomes
        if failure is not None:
            raise failure

    def _count_room(self, under_way: int) -> int:
        """Return how many calls may be sent now."""
        if under_way >= self.concurrency or self._delay() or self.is_over():
            return 0
        # With a rate, the calls are sent one by one.
        return 1 if self.rate else self.concurrency - under_way

    def _delay(self) -> float:
        """Return the seconds until the next call may be sent."""
        return max(0.0, max(self._next, self._idle_until) - clock.monotonic())

    def _receive(self, calls: Collection[Future[R]]) -> list[Future[R]]:
        """Wait briefly, and return the calls that have ended."""
        room = len(calls) < self.concurrency and not self.is_over()
        patience = min(_TICK, self._delay() or _TICK) if room else _TICK
        if not calls:
            time.sleep(patience)
        ended = wait(calls, patience, FIRST_COMPLETED).done
        return [call for call in calls if call in ended]

    def _adapt_pace(self, error: BaseException | None, lane: str) -> None:
        pace = self._paces[lane]
        if error is None:
            pace.failures = pace.refusals = 0
        elif isinstance(error, ExamplaryAuthenticationError):
            self.stop_lane(lane, str(error))
        elif isinstance(error, ExamplaryUnavailableError):
            pace.wait(1.0)
        elif isinstance(error, ExamplaryAPIError) and is_postponed(error):
            self._postpone(lane, error)
        elif is_outage(error) or is_uncertain(error):
            pace.failures += 1
            if pace.failures >= self.max_failures:
                reason = f"{pace.failures} calls in a row failed, the last with: {error}"
                self.stop_lane(lane, reason)
        elif isinstance(error, ExamplaryError):
            pace.failures = 0

    def _postpone(self, lane: str, error: ExamplaryAPIError) -> None:
        pace = self._paces[lane]
        seconds = error.retry_after
        if seconds is not None and seconds > _MAX_WAIT:
            self.stop_lane(lane, str(error))
        elif pace.resume > clock.monotonic():
            return  # This call was sent together with the first one.
        pace.refusals += 1
        if pace.refusals > self.max_failures:
            self.stop_lane(lane, str(error))
        pace.wait(min(_MAX_WAIT, 2.0 ** (pace.refusals - 1)) if seconds is None else seconds)
