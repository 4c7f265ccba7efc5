"""The engine of bulk runs and sweeps, without API and database."""

from __future__ import annotations

import threading
import time
from collections import deque

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
    """Items to call about: each is the value to return, or the error to raise."""

    def __init__(self, *items, call=None):
        self.waiting = deque(items)
        self.calls = []
        self._call = call or (lambda item: item)

    def take(self):
        return self.waiting.popleft() if self.waiting else None

    def call(self, item):
        self.calls.append((item, time.monotonic()))
        if isinstance(item, BaseException):
            raise item
        return self._call(item)

    def run(self, paced, lane=lambda item: "default"):
        return list(paced.run(self.take, self.call, lane))


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


def test_items_are_taken_when_there_is_room_only():
    """A claim is taken when its call is sent, so a killed run leaves few."""
    work = Work(*range(1, 9))
    left = [len(work.waiting) for _ in paced(concurrency=2).run(work.take, work.call, str)]

    assert left[0] >= 4
    assert left[-1] == 0


def test_calls_are_made_in_other_threads_and_items_taken_in_this_one():
    threads = []
    work = Work(1, call=lambda item: threads.append(threading.current_thread()))
    take = work.take
    work.take = lambda: threads.append(threading.current_thread()) or take()
    work.run(paced())

    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


def test_rate_is_kept():
    work = Work(*range(1, 7))
    # Not since the first call, whose thread may begin late.
    started = time.monotonic()
    work.run(paced(rate=20, concurrency=6))

    moments = [moment for _, moment in work.calls]
    # Six calls have five gaps of 50 ms.
    assert moments[-1] - started >= 0.24


def test_rate_is_not_made_up_for_after_a_pause():
    """Of the calls that were not made while the API was slow, one follows at once."""
    work = Work(*range(1, 6), call=lambda item: time.sleep(0.3 if item == 1 else 0))
    work.run(paced(rate=10, concurrency=1))

    moments = [moment for _, moment in work.calls]
    assert moments[4] - moments[1] >= 0.19


# Stopping


def test_should_stop_ends_the_run():
    work = Work(*range(1, 100))
    calls = paced(concurrency=1, should_stop=lambda: len(work.calls) >= 2)

    outcomes = work.run(calls)

    assert len(outcomes) == len(work.calls) == 2
    assert (calls.interrupted, calls.stopped) == (True, "")


def test_run_that_is_asked_to_stop_before_it_begins_takes_nothing():
    work = Work(1)
    calls = paced(should_stop=lambda: True)

    assert work.run(calls) == []
    assert len(work.waiting) == 1
    assert calls.interrupted


def test_reason_to_stop_is_the_first():
    calls = paced()
    calls.stop("one")
    calls.stop("two")

    assert calls.is_over()
    assert (calls.stopped, calls.interrupted) == ("one", False)


def test_outcomes_of_calls_under_way_are_yielded_before_an_error_is_raised():
    together = threading.Barrier(2)
    work = Work(1, 2, call=lambda item: (together.wait(60), time.sleep(0.2), item)[2])
    taken = []

    def take():
        taken.append(work.take())
        if taken[-1] is None or len(taken) > 2:
            raise KeyboardInterrupt
        return taken[-1]

    outcomes = []
    with pytest.raises(KeyboardInterrupt):
        outcomes.extend(paced(concurrency=3).run(take, work.call, str))

    assert values(outcomes) == [1, 2]
    assert len(taken) == 3


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
    assert "3 calls in a row failed" in calls.stopped


@pytest.mark.parametrize("between", [1, api_error(ExamplaryInvalidRequestError, 404)])
def test_failures_that_are_not_in_a_row_do_not_end_the_run(between):
    error = api_error(ExamplaryServerError, 500)
    work = Work(error, error, between, error, error)
    calls = paced(concurrency=1, max_failures=3)
    work.run(calls)

    assert (len(work.calls), calls.stopped) == (5, "")


def test_errors_of_single_items_do_not_end_the_run():
    work = Work(*[api_error(ExamplaryInvalidRequestError, 404)] * 20, 1)
    calls = paced(max_failures=3)

    assert values(work.run(calls)) == [1]
    assert calls.stopped == ""


def test_error_of_another_kind_is_not_counted():
    work = Work(*[ZeroDivisionError()] * 5)
    calls = paced(max_failures=3)
    outcomes = work.run(calls)

    assert {type(outcome.error) for outcome in outcomes} == {ZeroDivisionError}
    assert all(outcome.was_processed for outcome in outcomes)
    assert calls.stopped == ""


def test_refused_key_stops_its_lane_alone():
    work = Work(api_error(ExamplaryAuthenticationError, 401), 1)
    calls = paced(concurrency=1)
    work.run(calls, lane=lambda item: "south" if item == 1 else "north")

    assert list(calls.stopped_lanes) == ["north"]
    assert "401" in calls.stopped_lanes["north"]
    assert not calls.is_over()


# Pauses


@pytest.mark.parametrize(
    "error",
    [
        api_error(ExamplaryRateLimitError, 429, 0.3),
        api_error(ExamplaryServerError, 503, 0.3),
    ],
)
def test_run_pauses_as_long_as_the_api_asks(error):
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

    assert calls.stopped == ""


def test_client_that_sends_nothing_is_called_again_after_a_second():
    work = Work(ExamplaryUnavailableError("not sent"), 1)
    outcomes = work.run(paced(concurrency=1))

    assert [outcome.was_processed for outcome in outcomes] == [False, True]
    assert work.calls[1][1] - work.calls[0][1] >= 0.99


def test_long_pause_ends_the_run():
    work = Work(api_error(ExamplaryRateLimitError, 429, 3600), 1)
    calls = paced(concurrency=1)
    work.run(calls)

    assert len(work.calls) == 1
    assert "was answered with 429" in calls.stopped
    assert 3590 < calls.pause <= 3600


def test_endless_refusals_end_the_run():
    work = Work(*[api_error(ExamplaryRateLimitError, 429, 0)] * 20)
    calls = paced(concurrency=1, max_failures=3)
    work.run(calls)

    assert len(work.calls) == 4
    assert "was answered with 429" in calls.stopped


def test_item_that_waits_again_is_taken_again():
    """`take` may return None while calls are under way, and an item after their outcomes."""
    refusal = api_error(ExamplaryRateLimitError, 429, 0)
    work = Work(refusal)
    outcomes = []
    for outcome in paced(concurrency=2).run(work.take, work.call, str):
        outcomes.append(outcome)
        if not outcome.was_processed:
            work.waiting.append(1)

    assert values(outcomes) == [1]
