"""The engine of bulk runs and sweeps, without the API and the database."""

from __future__ import annotations

import threading
import time
from collections import deque
from copy import deepcopy
from itertools import chain

import pytest

from django_examplary.exceptions import (
    ExamplaryAuthenticationError,
    ExamplaryConnectionError,
    ExamplaryInvalidRequestError,
    ExamplaryRateLimitError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)
from django_examplary.services.paced import PacedCalls


def api_error(cls, status, retry_after=None):
    error = cls("GET /", status_code=status)
    error.retry_after = retry_after
    return error


def paced(**options):
    defaults = {"concurrency": 2, "rate": 0, "max_failures": 3, "should_stop": lambda: False}
    return PacedCalls(**{**defaults, **options})


class Work:
    """Items for calls: each is the value to return, or the error to raise."""

    def __init__(self, *items, call=None):
        self.waiting = deque(items)
        self.calls = []
        self.taken = []
        self._call = call or (lambda item: item)

    def take(self, room):
        """Return the next items of lanes that are not paused."""
        open_ = [item for item in self.waiting if self.paced.accepts(self.lane(item))]
        items = open_[:room]
        for item in items:
            self.waiting.remove(item)
        self.taken.append(len(items))
        return items

    def call(self, item):
        self.calls.append((item, time.monotonic()))
        if isinstance(item, BaseException):
            raise item
        return self._call(item)

    def start(self, paced, lane=lambda item: "default"):
        self.paced, self.lane = paced, lane
        return paced.run(self.take, self.call, lane)

    def run(self, paced, **options):
        return list(chain.from_iterable(self.start(paced, **options)))


def values(outcomes):
    return sorted(outcome.call.result() for outcome in outcomes if outcome.error is None)


def test_every_item_is_called_once():
    work = Work(*range(20))

    outcomes = work.run(paced())

    assert values(outcomes) == list(range(20))
    assert [outcome.item for outcome in outcomes if outcome.item != outcome.call.result()] == []


def test_no_item_ends_the_run_at_once():
    assert Work().run(paced()) == []


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_is_reached_and_never_exceeded(concurrency):
    lock, under_way, most = threading.Lock(), [], []
    together = threading.Barrier(concurrency)

    def call(item):
        with lock:
            under_way.append(item)
            most.append(len(under_way))
        together.wait(60)
        with lock:
            under_way.remove(item)

    Work(*range(1, 1 + 4 * concurrency), call=call).run(paced(concurrency=concurrency))

    assert max(most) == concurrency


def test_items_are_taken_only_when_there_is_room():
    """Items are claimed just before their calls, so a killed run leaves few claims."""
    work = Work(*range(1, 9))
    left = [len(work.waiting) for _ in work.start(paced(concurrency=2))]

    assert left[0] == 6
    assert left[-1] == 0
    assert max(work.taken) == 2


def test_calls_are_made_in_other_threads_and_items_taken_in_this_one():
    threads = []
    work = Work(1, call=lambda item: threads.append(threading.current_thread()))
    take = work.take
    work.take = lambda room: threads.append(threading.current_thread()) or take(room)
    work.run(paced())

    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


def test_rate_is_respected():
    work = Work(*range(1, 7))
    # The first call is excluded, because its thread may start late.
    started = time.monotonic()
    work.run(paced(rate=20, concurrency=6))

    moments = [moment for _, moment in work.calls]
    # Six calls have five gaps of 50 ms.
    assert moments[-1] - started >= 0.24


def test_rate_is_not_exceeded_after_a_pause():
    """After a slow response only one of the delayed calls follows immediately."""
    ended = []

    def call(item):
        time.sleep(0.3 if item == 1 else 0)
        ended.append(time.monotonic())

    Work(*range(1, 6), call=call).run(paced(rate=10, concurrency=1))

    assert ended[4] - ended[0] >= 0.19


# Stopping


def test_should_stop_ends_the_run():
    work = Work(*range(1, 100))
    calls = paced(concurrency=1, should_stop=lambda: len(work.calls) >= 2)

    outcomes = work.run(calls)

    assert len(outcomes) == len(work.calls) == 2
    assert calls.interrupted


def test_run_stopped_before_it_begins_takes_no_items():
    work = Work(1)
    calls = paced(should_stop=lambda: True)

    assert work.run(calls) == []
    assert len(work.waiting) == 1
    assert calls.interrupted


def test_stopped_run_finishes_calls_under_way():
    calls = paced(should_stop=lambda: True)
    calls.stop()

    assert calls.is_over()
    assert not calls.interrupted


def test_outcomes_of_calls_under_way_are_yielded_before_an_error_is_raised():
    together = threading.Barrier(2)
    work = Work(1, 2, call=lambda item: (together.wait(60), time.sleep(0.2), item)[2])

    take = work.take

    def take_or_stop(room):
        if not work.waiting:
            raise KeyboardInterrupt
        return take(room)

    work.take = take_or_stop
    outcomes = []
    batches = chain.from_iterable(work.start(paced(concurrency=3)))
    with pytest.raises(KeyboardInterrupt):
        outcomes.extend(batches)

    assert values(outcomes) == [1, 2]


def test_second_error_is_raised_without_the_outcomes(monkeypatch):
    work, run = Work(1), paced()
    errors = [KeyboardInterrupt("second"), KeyboardInterrupt("first")]
    receive = run._receive

    def receive_or_raise(*arguments):
        if errors:
            raise errors.pop()
        return receive(*arguments)  # pragma: no cover  # if the guard fails

    monkeypatch.setattr(run, "_receive", receive_or_raise)
    outcomes = []
    batches = work.start(run)
    with pytest.raises(KeyboardInterrupt, match="second"):
        outcomes.extend(batches)
    assert outcomes == []


@pytest.mark.parametrize(
    "error",
    [
        api_error(ExamplaryServerError, 500),
        ExamplaryConnectionError("no route", sent=False),
        ExamplaryConnectionError("reset", sent=True),
    ],
)
def test_failures_in_a_row_end_the_run(error):
    work = Work(*[error] * 20)
    calls = paced(concurrency=1, max_failures=3)
    work.run(calls)

    assert len(work.calls) == 3
    assert "3 calls in a row failed" in calls.reason


@pytest.mark.parametrize("between", [1, api_error(ExamplaryInvalidRequestError, 404)])
def test_failures_that_are_not_in_a_row_do_not_end_the_run(between):
    error = api_error(ExamplaryServerError, 500)
    work = Work(error, error, between, error, error)
    calls = paced(concurrency=1, max_failures=3)
    work.run(calls)

    assert (len(work.calls), calls.reason) == (5, "")


def test_errors_of_single_items_do_not_end_the_run():
    work = Work(*[api_error(ExamplaryInvalidRequestError, 404)] * 20, 1)
    calls = paced(max_failures=3)

    assert values(work.run(calls)) == [1]
    assert calls.reason == ""


def test_error_of_another_kind_is_not_counted():
    work = Work(*[ZeroDivisionError()] * 5)
    calls = paced(max_failures=3)
    outcomes = work.run(calls)

    assert {type(outcome.error) for outcome in outcomes} == {ZeroDivisionError}
    assert all(outcome.was_processed for outcome in outcomes)
    assert calls.reason == ""


def test_refused_key_stops_its_lane_only():
    work = Work(api_error(ExamplaryAuthenticationError, 401), 1)
    calls = paced(concurrency=1)
    work.run(calls, lane=lambda item: "south" if item == 1 else "north")

    assert list(calls.stopped_lanes) == ["north"]
    assert calls.reason.startswith("north: ")
    assert "401" in calls.reason
    assert not calls.is_over()


def of_school(item):
    return "south" if isinstance(item, int) else "north"


@pytest.mark.parametrize("concurrency", [1, 3])
def test_failures_in_a_row_stop_their_lane_only(concurrency):
    errors = [api_error(ExamplaryServerError, 500) for _ in range(20)]
    work = Work(*errors, *range(1, 21))
    calls = paced(concurrency=concurrency, max_failures=3)

    assert values(work.run(calls, lane=of_school)) == list(range(1, 21))
    assert list(calls.stopped_lanes) == ["north"]
    # Calls that were under way are finished.
    assert len(work.calls) - 20 < 3 + concurrency


@pytest.mark.parametrize(
    "error",
    [api_error(ExamplaryRateLimitError, 429, 60), api_error(ExamplaryServerError, 503, 60)],
)
def test_pause_applies_to_its_lane_only(error):
    first = deepcopy(error)
    work = Work(first, "north", 1, 2, 3)
    calls = paced(concurrency=1, should_stop=lambda: len(work.calls) == 4)

    outcomes = work.run(calls, lane=of_school)

    assert [outcome.item for outcome in outcomes] == [first, 1, 2, 3]


def test_lanes_pause_for_their_own_time():
    long = api_error(ExamplaryRateLimitError, 429, 60)
    short = api_error(ExamplaryRateLimitError, 429, 0.2)
    lanes = {long: "north", "north": "north", short: "south", "south": "south"}
    work = Work(long, short, "north", "south")
    calls = paced(concurrency=1, should_stop=lambda: len(work.calls) == 3)

    outcomes = work.run(calls, lane=lanes.get)

    assert [outcome.item for outcome in outcomes] == [long, short, "south"]
    moments = [moment for _, moment in work.calls]
    assert moments[2] - moments[1] >= 0.19
    assert calls.pause > 0


def test_no_items_are_taken_while_their_lane_pauses():
    """Each attempt to take items costs a query."""
    work = Work(api_error(ExamplaryRateLimitError, 429, 1), 1)
    work.run(paced(concurrency=1))

    # One attempt each for the call, no item, the item, no item, and a few in between.
    assert len(work.taken) <= 6


def test_long_pause_of_one_lane_ends_that_lane_only():
    work = Work(api_error(ExamplaryRateLimitError, 429, 3600), "north", 1)
    calls = paced(concurrency=1)

    assert values(work.run(calls, lane=of_school)) == [1]
    assert "north: " in calls.reason


# Pauses


@pytest.mark.parametrize(
    "error",
    [
        api_error(ExamplaryRateLimitError, 429, 0.3),
        api_error(ExamplaryServerError, 503, 0.3),
    ],
)
def test_run_pauses_as_long_as_the_api_requests(error):
    work = Work(error, 1, 2)
    outcomes = work.run(paced(concurrency=1))

    assert [outcome.was_processed for outcome in outcomes] == [False, True, True]
    moments = [moment for _, moment in work.calls]
    assert moments[1] - moments[0] >= 0.29
    assert values(outcomes) == [1, 2]


def test_refusals_without_a_time_double_the_pause():
    refusal = api_error(ExamplaryRateLimitError, 429)
    work = Work(refusal, refusal, 1)
    work.run(paced(concurrency=1))

    moments = [moment for _, moment in work.calls]
    assert moments[1] - moments[0] >= 0.99
    assert moments[2] - moments[1] >= 1.99


def test_refusals_of_calls_sent_together_count_once():
    together = threading.Barrier(3)

    def call(item):
        together.wait(60)
        raise api_error(ExamplaryRateLimitError, 429, 0.2)

    work = Work(1, 2, 3, call=call)
    calls = paced(concurrency=3, max_failures=1)
    work.run(calls)

    assert calls.reason == ""


def test_client_in_cooldown_is_called_again_after_a_second():
    work = Work(ExamplaryUnavailableError("not sent"), 1)
    outcomes = work.run(paced(concurrency=1))

    assert [outcome.was_processed for outcome in outcomes] == [False, True]
    assert work.calls[1][1] - work.calls[0][1] >= 0.99


def test_long_pause_ends_the_run():
    work = Work(api_error(ExamplaryRateLimitError, 429, 3600), 1)
    calls = paced(concurrency=1)
    work.run(calls)

    assert len(work.calls) == 1
    assert "was answered with 429" in calls.reason
    assert 3590 < calls.pause <= 3600


def test_long_pause_ends_the_run_although_the_lane_pauses_already():
    refusals = [api_error(ExamplaryRateLimitError, 429, seconds) for seconds in (0.5, 3600)]
    calls = paced(concurrency=2)
    Work(*refusals).run(calls)

    assert "was answered with 429" in calls.reason
    assert 3590 < calls.pause <= 3600


def test_endless_refusals_end_the_run():
    work = Work(*[api_error(ExamplaryRateLimitError, 429, 0)] * 20)
    calls = paced(concurrency=1, max_failures=3)
    work.run(calls)

    assert len(work.calls) == 4
    assert "was answered with 429" in calls.reason


def test_item_that_is_postponed_again_is_taken_again():
    """`take` may return None while calls are under way, and an item after their outcomes."""
    refusal = api_error(ExamplaryRateLimitError, 429, 0)
    work = Work(refusal)
    outcomes = []
    for batch in work.start(paced(concurrency=2)):
        outcomes += batch
        if not batch[0].was_processed:
            work.waiting.append(1)

    assert values(outcomes) == [1]
