"""An API that is down, forgets connections, or is asked too often."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.chaos.visitors import Background, Visitor, at_once

HURRIED = {"EXAMPLARY_TIMEOUT": 2, "EXAMPLARY_DEADLINE": 3}


@pytest.mark.parametrize("honour", [True, False], ids=["keys-honoured", "keys-ignored"])
@pytest.mark.parametrize(
    "world", [("gunicorn", "mariadb"), ("uvicorn", "postgresql")], indirect=True, ids="-".join
)
def test_outage_loses_nothing_and_duplicates_what_was_not_answered(world, honour):
    world.control(honour=honour)
    started = time.monotonic()

    def break_and_mend():
        seconds = time.monotonic() - started
        # At first every third POST has done its work when the connection breaks.
        world.control(lose=3 if seconds < 6 else 0, down=2 < seconds < 4)

    with world.serve(**HURRIED) as address:
        visitors = world.visitors(20, address)
        started = time.monotonic()
        world.control(lose=3)
        with (
            Background(break_and_mend, every=0.2),
            Background(visitors[0].page, every=0.2) as pages,
        ):
            urls = at_once(Visitor.open, visitors)

    lost, duplicates, unanswered = (
        world.lost(visitors, urls),
        world.duplicates(),
        world.unanswered(),
    )
    failed_pages = sum(not page for page in pages.results)
    world.note(
        "outage, keys honoured" if honour else "outage, keys ignored",
        users=len(visitors),
        unanswered_posts=unanswered,
        lost=lost,
        duplicates=duplicates,
        pages=len(pages.results),
        failed_pages=failed_pages,
    )
    assert unanswered
    assert (lost, failed_pages) == (0, 0)
    assert duplicates <= (0 if honour else unanswered)


@pytest.mark.parametrize("world", [("gunicorn", "postgresql")], indirect=True, ids="-".join)
def test_connections_that_a_device_forgets_are_not_used(world):
    with world.serve() as address:
        visitors = world.visitors(32, address)
        half = len(visitors) // 2
        assert all(at_once(Visitor.open, visitors[:half]))
        # The client does not use a connection again that was idle for 15 seconds.
        world.control(forget_after=15.5)
        time.sleep(16.5)
        urls = at_once(Visitor.open, visitors[half:])

    forgotten = world.control()["counts"].get("forgotten", 0)
    slowest = max(visitor.opened_after for visitor in visitors[half:])
    world.note(
        "idle connections",
        new_users=half,
        requests_on_forgotten_connections=forgotten,
        slowest=f"{slowest:.1f} s",
    )
    assert all(urls)
    assert forgotten == 0


@pytest.mark.parametrize(
    "world", [("gunicorn", "postgresql"), ("uvicorn", "mariadb")], indirect=True, ids="-".join
)
def test_rate_limit_is_respected(world):
    world.control(limit=12)
    with world.serve() as address:
        visitors = world.visitors(40, address)
        urls = at_once(Visitor.open, visitors)

    counts = Counter(world.control()["counts"])
    requests = counts["POST /users"] + counts["POST /embed-sessions"]
    per_success = requests / counts["accepted"]
    lost, duplicates = world.lost(visitors, urls), world.duplicates()
    world.note(
        "Retry-After storm",
        users=len(visitors),
        requests=requests,
        refused=counts["refused"],
        requests_per_success=f"{per_success:.2f}",
        lost=lost,
        duplicates=duplicates,
    )
    assert (lost, duplicates) == (0, 0)
    assert counts["refused"]
    # Each process learns of the limit by itself, by up to four launches that are refused at once.
    assert per_success <= 1.5
