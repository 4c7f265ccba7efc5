"""Workers and database backends that are killed during their work."""

from __future__ import annotations

import os
import random
import signal
from contextlib import suppress

from django.db import connections

from tests.chaos.visitors import Background, Visitor, at_once
from tests.chaos.world import FACTOR, on

# A claim of a dead worker ends 15 seconds after this.
HURRIED = {"EXAMPLARY_TIMEOUT": 2, "EXAMPLARY_DEADLINE": 3}


@on(("gunicorn", "postgresql"), longer=(("gunicorn", "mariadb"),))
def test_killed_workers_lose_and_duplicate_nothing(world):
    world.control(latency=0.5)
    kills = 0
    with world.serve(workers=3, **HURRIED) as address:
        visitors = world.visitors(40, address)

        def kill_worker():
            nonlocal kills
            page = visitors[0].page()
            if page and kills < 8 * FACTOR:
                with suppress(ProcessLookupError):
                    os.kill(page["pid"], signal.SIGKILL)
                    kills += 1

        with Background(kill_worker, every=0.5):
            urls = at_once(Visitor.open, visitors)
        world.control(complete=True)
        world.sweep()

    lost, duplicates = world.lost(visitors, urls), world.duplicates()
    doubles = sum(count - 1 for count in world.signals().values())
    world.note(
        "killed workers",
        users=len(visitors),
        kills=kills,
        broken_launches=sum(visitor.statuses[0] for visitor in visitors),
        lost=lost,
        duplicates=duplicates,
        signals=len(world.signals()),
        doubles=doubles,
        slowest=f"{max(visitor.opened_after for visitor in visitors):.0f} s",
    )
    assert kills
    assert (lost, duplicates, doubles) == (0, 0, 0)
    assert len(world.signals()) == len(visitors)


def kill_backend(alias):
    """Kill a random database connection of the site. Return the number of killed connections."""
    connection = connections[alias]
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [name],
            )
        else:
            cursor.execute(
                "SELECT id FROM information_schema.processlist"
                " WHERE db = %s AND id <> CONNECTION_ID()",
                [name],
            )
        found = [number for (number,) in cursor.fetchall()]
        if not found:
            return 0
        kill = "SELECT pg_terminate_backend(%s)" if connection.vendor == "postgresql" else "KILL %s"
        with suppress(Exception):
            # It may have ended already.
            cursor.execute(kill, [random.choice(found)])  # noqa: S311  # no secret
    return 1


@on(("gunicorn", "postgresql"), ("uvicorn", "mariadb"))
def test_killed_backends_lose_and_duplicate_nothing(world):
    with world.serve(**HURRIED) as address:
        visitors = world.visitors(60, address)

        def use(visitor):
            url = visitor.open()
            world.control(complete=True)
            visitor.sync()
            return url

        def kill():
            # A fixed interval would interrupt a busy machine more often per request.
            return kill_backend(world.alias) if sum(kills.results) < 200 * FACTOR else 0

        with Background(kill, every=0.03) as kills:
            connections[world.alias].close()
            urls = at_once(use, visitors)
        world.sweep()

    lost, duplicates = world.lost(visitors, urls), world.duplicates()
    doubles = sum(count - 1 for count in world.signals().values())
    world.note(
        "killed backends",
        users=len(visitors),
        kills=sum(kills.results),
        failed_launches=sum(visitor.statuses[500] + visitor.statuses[503] for visitor in visitors),
        lost=lost,
        duplicates=duplicates,
        signals=len(world.signals()),
        doubles=doubles,
    )
    assert sum(kills.results)
    assert (lost, duplicates, doubles) == (0, 0, 0)
    assert len(world.signals()) == len(visitors)
