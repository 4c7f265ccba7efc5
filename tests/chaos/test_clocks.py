"""Servers whose clocks differ or stand still."""

from __future__ import annotations

from contextlib import ExitStack

from tests.chaos.visitors import Visitor, at_once
from tests.chaos.world import on

CLOCKS = ("0", "3600", "-3600", "frozen")


@on(("gunicorn", "mariadb"), longer=(("gunicorn", "postgresql"),))
def test_different_clocks_neither_duplicate_nor_block(world):
    world.control(latency=0.5)
    with ExitStack() as servers:
        addresses = [
            servers.enter_context(world.serve(workers=1, CHAOS_CLOCK=clock)) for clock in CLOCKS
        ]
        # Each user comes to all machines at once.
        users = world.users(10)
        visitors = [Visitor(user, address) for user in users for address in addresses]
        urls = at_once(Visitor.open, visitors)
        world.control(complete=True)
        ended = at_once(Visitor.sync, visitors)
        world.sweep()

    state = world.control()
    doubles = sum(count - 1 for count in world.signals().values())
    slowest = max(visitor.opened_after for visitor in visitors)
    world.note(
        "clocks",
        machines=len(CLOCKS),
        users=len(users),
        users_created=len(state["users"]),
        sessions_created=len(state["sessions"]),
        signals=len(world.signals()),
        doubles=doubles,
        slowest=f"{slowest:.1f} s",
    )
    assert world.lost(visitors, urls) == 0
    assert (len(state["users"]), len(state["sessions"])) == (len(users), len(users))
    assert set(ended) == {200}
    assert (len(world.signals()), doubles) == (len(users), 0)
    # A claim that ends by the clock of another machine would block for an hour.
    assert slowest < 60
