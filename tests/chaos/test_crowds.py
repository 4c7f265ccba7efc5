"""Many users, many tabs, and an API that is slow."""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.visitors import Background, Visitor, at_once

EVERYWHERE = [
    ("gunicorn", "postgresql"),
    ("gunicorn", "mariadb"),
    ("uvicorn", "postgresql"),
    ("uvicorn", "mariadb"),
]


@pytest.mark.parametrize("world", EVERYWHERE, indirect=True, ids="-".join)
def test_crowd_opens_and_finishes_everything_once(world):
    with world.serve() as address:
        visitors = world.visitors(60, address)
        with Background(visitors[0].page, every=0.2) as pages:
            urls = at_once(Visitor.open, visitors)
            world.control(complete=True)
            # Both a message and a click report the end.
            ended = at_once(Visitor.sync, [each for each in visitors for _ in range(2)])
        assert set(ended) == {200}
        world.sweep()

    failed_pages = sum(not page for page in pages.results)
    lost, duplicates = world.lost(visitors, urls), world.duplicates()
    doubles = sum(count - 1 for count in world.signals().values())
    world.note(
        "crowd",
        users=len(visitors),
        lost=lost,
        duplicates=duplicates,
        signals=len(world.signals()),
        doubles=doubles,
        pages=len(pages.results),
        failed_pages=failed_pages,
    )
    assert (lost, duplicates, doubles, failed_pages) == (0, 0, 0, 0)
    assert len(world.signals()) == len(visitors)
    assert len(set(urls)) == len(visitors)


@pytest.mark.parametrize(
    "world", [("gunicorn", "postgresql"), ("gunicorn", "mariadb")], indirect=True, ids="-".join
)
def test_tabs_of_one_user_leave_threads_to_others(world):
    world.control(latency=2.0)
    with world.serve(workers=1) as address:
        user, other = world.users(2)
        tabs = [Visitor(user, address) for _ in range(30)]
        stranger = Visitor(other, address)
        waits = []

        def read_page():
            started = time.monotonic()
            page = stranger.page()
            waits.append(time.monotonic() - started)
            return page

        with Background(read_page, every=0.1) as pages:
            urls = at_once(Visitor.open, tabs)

    state = world.control()
    failed_pages = sum(not page for page in pages.results)
    world.note(
        "tabs",
        tabs=len(tabs),
        sessions=len(state["sessions"]),
        pages=len(waits),
        failed_pages=failed_pages,
        slowest_page=f"{max(waits):.1f} s",
    )
    assert len(set(urls)) == 1
    assert urls[0]
    assert (len(state["users"]), len(state["sessions"]), failed_pages) == (1, 1, 0)
    # The launches of the tabs wait for about two seconds each.
    assert max(waits) < 5


ROUNDS = 3
PAGES = 60
LAUNCHES = 200
LATENCY = 2.0


@pytest.mark.parametrize(
    "world", [("gunicorn", "postgresql"), ("uvicorn", "postgresql")], indirect=True, ids="-".join
)
def test_ordinary_pages_do_not_wait_for_a_slow_api(world):
    world.control(latency=LATENCY)
    with world.serve() as address, ThreadPoolExecutor(LAUNCHES) as pool:
        reader, *visitors = [Visitor(u, address) for u in world.users(LAUNCHES * ROUNDS + 1)]
        failed = 0

        def p95():
            nonlocal failed
            waits = []
            for _ in range(PAGES):
                started = time.monotonic()
                failed += not reader.page()
                waits.append(time.monotonic() - started)
                time.sleep(0.02)
            return statistics.quantiles(waits, n=20)[-1]

        def arrive(visitor):
            # So that the processor is not what all wait for.
            time.sleep(random.uniform(0, 4))  # noqa: S311  # no secret
            visitor.open(patience=9)

        p95()
        alone, beside = [], []
        for number in range(ROUNDS):
            alone.append(p95())
            crowd = visitors[number * LAUNCHES : (number + 1) * LAUNCHES]
            launches = [pool.submit(arrive, visitor) for visitor in crowd]
            # Until each has been told to come again, and does so every four seconds.
            time.sleep(7)
            beside.append(p95())
            for launch in launches:
                launch.result()

    # Other programs of the machine only add to the time of a round, so the quietest round counts.
    ratio = min(beside) / min(alone)
    rounds = zip(alone, beside, strict=True)
    world.note(
        "slow API",
        launches=LAUNCHES,
        pages=PAGES * ROUNDS * 2,
        failed_pages=failed,
        p95_beside_over_alone=f"{ratio:.2f}",
        ms_of_each_round=" ".join(f"{1000 * one:.0f}/{1000 * two:.0f}" for one, two in rounds),
    )
    assert failed == 0
    # A figure and no bound for the ratio: the launches take processor time from the pages, and how
    # much depends on the machine. A page that waited for the API would take as long as a call.
    assert min(beside) < LATENCY
