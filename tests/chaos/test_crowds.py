"""Many users, many tabs and a slow API."""

from __future__ import annotations

import os
import statistics
import time

import pytest

from tests.chaos.visitors import (
    Background,
    Visitor,
    at_once,
    crowd_process,
    send,
)
from tests.chaos.world import FACTOR, on

# Slow enough that launches mostly wait for the API, and hardly use the processor.
LATENCY = 5.0


@on(
    ("gunicorn", "postgresql"),
    ("uvicorn", "mariadb"),
    longer=(("gunicorn", "mariadb"), ("uvicorn", "postgresql")),
)
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


@on(("gunicorn", "postgresql"), longer=(("gunicorn", "mariadb"),))
def test_tabs_of_one_user_leave_threads_to_others(world):
    world.control(latency=LATENCY)
    pages_before = []
    with world.serve(workers=1) as address:
        user, other = world.users(2)
        tabs = [Visitor(user, address) for _ in range(30)]
        stranger = Visitor(other, address)
        with Background(stranger.page, every=0.1) as pages:

            def open_tab(tab):
                url = tab.open()
                pages_before.append(len(pages.results))
                return url

            urls = at_once(open_tab, tabs)

    state = world.control()
    failed_pages = sum(not page for page in pages.results)
    world.note(
        "tabs",
        tabs=len(tabs),
        sessions=len(state["sessions"]),
        pages=len(pages.results),
        pages_before_the_first_launch=pages_before[0],
        failed_pages=failed_pages,
    )
    assert len(set(urls)) == 1
    assert urls[0]
    assert (len(state["users"]), len(state["sessions"]), failed_pages) == (1, 1, 0)
    # In this time only two pages could be served if the tabs blocked all threads.
    assert pages_before[0] >= 5


LAUNCHES = 200
ENDS = 100
# The users launch again every eight seconds, as the script of the embed does after its first tries.
RATE = LAUNCHES / 8
SECONDS = 2.0
KINDS = ("alone", "pages", "launches")
CYCLES = 4 * FACTOR
ATTEMPTS = 3
BUSY = 4


def p95(waits):
    return sorted(waits)[int(0.95 * len(waits))]


def measure_pages(reader, visitors, crowd):
    """Return the p95 of each turn by kind, the failed pages, and the responses of the crowd.

    The kinds of turns: `visitors` do nothing, request pages, or launch.
    """
    count = int(RATE * SECONDS)
    start = time.monotonic() + 0.5
    turns = [(start + turn * SECONDS, KINDS[turn % 3]) for turn in range(3 * CYCLES)]
    requests = []
    for number, (begin, kind) in enumerate(turns):
        group = visitors[number // 3 * count :][: count * (kind != "alone")]
        path = "/page/" if kind == "pages" else ""
        requests += [(each, path, begin + n / RATE) for n, each in enumerate(group)]
    sent = crowd.submit(send, requests)
    waits = {kind: [] for kind in KINDS}
    failed = 0
    for begin, kind in turns:
        time.sleep(max(0.0, begin - time.monotonic()))
        turn = []
        while not turn or time.monotonic() < begin + SECONDS:
            started = time.monotonic()
            failed += not reader.page()
            turn.append(time.monotonic() - started)
            time.sleep(0.02)
        waits[kind].append(p95(turn))
    return waits, failed, sent.result()


@on(("gunicorn", "postgresql"), ("uvicorn", "postgresql"))
def test_ordinary_pages_do_not_wait_for_a_slow_api(world):
    """Compare page times during launches with page times during other page requests.

    Requests of any kind take processor time from the reader's pages. Launches may not take much
    more than pages do. The two loads take turns every two seconds, so that other programs disturb
    both, and the median of the turns counts. Other programs only increase the ratio, so a busy
    machine gets further attempts. With more than BUSY programs per processor, launches take so
    long that the threads don't suffice: then the test only verifies that no page fails.
    """
    world.control(latency=LATENCY)
    users = CYCLES * int(RATE * SECONDS)
    with world.serve(threads=16) as address, crowd_process() as crowd:
        reader, *visitors = [Visitor(user, address) for user in world.users(ATTEMPTS * users + 1)]
        # Signing the cookies and starting the process take time.
        assert all(visitor.cookies for visitor in visitors)
        assert crowd.submit(send, [(reader, "/page/", 0.0)] * 20).result() == {200: 20}
        for attempt in range(ATTEMPTS):
            group = visitors[attempt * users :][:users]
            waits, failed, statuses = measure_pages(reader, group, crowd)
            alone, pages, launches = (statistics.median(waits[kind]) for kind in KINDS)
            world.note(
                "slow API",
                launches=users,
                statuses=dict(statuses),
                failed_pages=failed,
                p95_beside_launches_over_beside_pages=f"{launches / pages:.2f}",
                p95_beside_launches_over_alone=f"{launches / alone:.2f}",
                ms_alone_beside_pages_beside_launches=" ".join(
                    "/".join(f"{1000 * wait:.0f}" for wait in cycle)
                    for cycle in zip(*waits.values(), strict=True)
                ),
            )
            assert failed == 0
            assert set(statuses) == {200, 302, 409}
            if launches <= 2 * pages:
                return

    if os.getloadavg()[0] > BUSY * (os.cpu_count() or 1):
        pytest.skip("the machine is too busy to compare the times of pages")
    assert launches <= 2 * pages


@on(("gunicorn", "postgresql"), ("uvicorn", "postgresql"))
def test_concurrent_launches_leave_connections_to_pages(world):
    world.control(latency=LATENCY)
    with world.serve() as address, crowd_process() as crowd:
        reader, *visitors = [Visitor(user, address) for user in world.users(LAUNCHES + 1)]
        with Background(reader.page, every=0.05) as pages:
            statuses = crowd.submit(send, [(visitor, "", 0.0) for visitor in visitors]).result()

    failed = sum(not page for page in pages.results)
    world.note(
        "launches at once",
        launches=LAUNCHES,
        statuses=dict(statuses),
        pages=len(pages.results),
        failed_pages=failed,
    )
    # Without a free database connection the response would be a 503.
    assert set(statuses) == {302, 409}
    assert failed == 0


@on(("gunicorn", "postgresql"), ("uvicorn", "postgresql"))
def test_concurrent_ends_leave_connections_to_pages(world):
    """The sweep does not run: each result comes from the browser that reports the end."""
    with world.serve() as address:
        reader, *visitors = [Visitor(user, address) for user in world.users(ENDS + 1)]
        urls = at_once(Visitor.open, visitors)
        world.control(complete=True, latency=1.0)
        with (
            Background(reader.page, every=0.05) as pages,
            Background(world.connections, every=0.05) as connected,
        ):
            ended = at_once(Visitor.sync, visitors)

    failed = sum(not page for page in pages.results)
    doubles = sum(count - 1 for count in world.signals().values())
    world.note(
        "ends at once",
        ends=ENDS,
        lost=ENDS - world.rows().filter(status="completed").count(),
        signals=len(world.signals()),
        doubles=doubles,
        pages=len(pages.results),
        failed_pages=failed,
        connections=max(connected.results),
    )
    assert all(urls)
    assert set(ended) == {200}
    assert (len(world.signals()), doubles, failed) == (ENDS, 0, 0)
    # The limits, and some connections that are about to close.
    assert max(connected.results) <= 40
