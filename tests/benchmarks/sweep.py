"""Measure the time and memory of sweeps over 2,000 and 20,000 open sessions.

The sweeps run in their own processes, so their memory excludes the rows that fill the tables.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import django

from tests.benchmarks.growth import fill
from tests.benchmarks.measuring import report
from tests.benchmarks.site import site
from tests.chaos.stub import serve_stub

LATENCY = 0.1
CONCURRENCY = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[2000, 20_000])
    parser.add_argument("--child", metavar="DATABASE", help="only sweep this database")
    options = parser.parse_args()
    if options.child:
        sweep(options.child)
        return
    few, many = options.rows
    with serve_stub(LATENCY) as stub, site(stub.url):
        fill("default", few)
        before = stub.requests()
        result = sweep_in_child(stub.url)
        calls = stub.requests() - before
    shortest = math.ceil(few / CONCURRENCY) * LATENCY
    report(
        f"sweep of {few:,} sessions, {CONCURRENCY} threads / the shortest time possible",
        result["seconds"] / shortest,
        goal="<= 1.15",
        calls=calls,
        **result,
    )
    with serve_stub() as stub, site(stub.url):
        fill("default", many)
        larger = sweep_in_child(stub.url)
    report(
        f"MiB that a sweep of {many:,} sessions takes more than one of {few:,}",
        larger["growth_mib"] - result["growth_mib"],
        goal="<= 5",
        **larger,
    )


def sweep_in_child(url: str) -> dict[str, Any]:
    from django.db import connection  # noqa: PLC0415  # after django.setup()

    name = str(connection.settings_dict["NAME"])
    output = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.sweep", "--child", name],
        env={**os.environ, "EXAMPLARY_API_URL": url},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def sweep(database: str) -> None:
    django.setup()

    from django.conf import settings  # noqa: PLC0415  # after django.setup()

    settings.DATABASES["default"]["NAME"] = database

    from django_examplary import services  # noqa: PLC0415

    # Warm up: imports, caches and connections.
    services.sweep_sessions(limit=CONCURRENCY, concurrency=CONCURRENCY)
    before = peak()
    started, cpu = time.perf_counter(), time.process_time()
    result = services.sweep_sessions(concurrency=CONCURRENCY)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    growth = peak() - before
    sys.stdout.write(
        json.dumps(
            {
                "verified": result.verified,
                "failed": result.failed,
                "seconds": round(seconds, 2),
                "cpu": round(cpu, 2),
                "growth_mib": round(growth / 1024, 1),
            }
        )
    )


def peak() -> int:
    """Return the peak memory of this process in KiB.

    `getrusage` includes the memory of the parent at the time of the fork.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
