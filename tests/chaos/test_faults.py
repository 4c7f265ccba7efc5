"""An API that is down, forgets connections or limits the rate."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.chaos.visitors import Background, Visitor, at_once
from tests.chaos.world import on

HURRIED = {"EXAMPLARY_TIMEOUT": 2, "EXAMPLARY_DEADLINE": 3}


@pytest.mark.parametrize("honour_keys", [True, False], ids=["keys-honoured", "keys-ignored"])
@on(("gunicorn", "mariadb"), longer=(("uvicorn", "postgresql"),))
def test_outage_loses_nothing_and_duplicates_unanswered_users(world, honour_keys):
    world.control(honour_keys=honour_keys)
    down_at = 0.0

    def break_and_mend():
        """Take the API down for two seconds after some unanswered POSTs."""
        nonlocal down_at
        if not down_at and world.unanswered() >= 2:
            down_at = time.monotonic()
        is_down = time.monotonic() < down_at + 2
        world.control(lose=0 if down_at and not is_down else 3, down=is_down)

    with world.serve(**HURRIED) as address:
        visitors = world.visitors(20, address)
        # Every third POST has taken effect when the connection breaks.
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
        "outage, keys honoured" if honour_keys else "outage, keys ignored",
        users=len(visitors),
        unanswered_posts=unanswered,
        lost=lost,
        duplicates=duplicates,
        pages=len(pages.results),
        failed_pages=failed_pages,
    )
    assert unanswered
    assert (lost, failed_pages) == (0, 0)
    assert duplicates <= (0 if honour_keys else unanswered)


@on(("gunicorn", "postgresql"))
def test_connections_that_a_firewall_dropped_are_not_reused(world):
    with world.serve() as address:
        visitors = world.visitors(32, address)
        half = len(visitors) // 2
        assert all(at_once(Visitor.open, visitors[:half]))
        # The client does not reuse a connection that was idle for 15 seconds.
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


@on(("gunicorn", "postgresql"), ("uvicorn", "mariadb"))
def test_rate_limit_is_respected(world):
    world.control(limit=6)
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
    assert per_success <= 1.2
