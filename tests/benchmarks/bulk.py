"""Measure the time, the memory and the request rate of bulk provisioning.

    python -m tests.benchmarks.bulk                       # time at 1 to 32 threads, latency 100 ms
    python -m tests.benchmarks.bulk --limit 50            # requests per user at a rate limit
    python -m tests.benchmarks.bulk --memory 100000       # growth of the command's memory

Uses its own database: SQLite in a temporary file, or a new one beside DATABASE_URL's. The fake runs
in its own process.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import resource
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import django


def serve_fake(pipe: Connection, latency: float, limit: int | None) -> None:
    from django_examplary.testing import serve  # noqa: PLC0415  # in the child

    with serve() as server:
        server.fake.latency = latency
        server.fake.rate_limit(limit)
        # A linear search among 100,000 users would dominate the measurement.
        server.fake.find_user = lambda email: None  # type: ignore[method-assign]
        pipe.send(server.url)
        while pipe.recv():
            calls = server.fake.calls("POST", "/users")
            pipe.send((len(calls), len(server.fake.users) - 1))
            server.fake.requests.clear()
            server.fake.users.clear()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.1)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--limit", type=int, help="what the fake accepts a second")
    parser.add_argument("--memory", type=int, help="how many users to provision for that")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=serve_fake, args=(theirs, options.latency, options.limit), daemon=True
    )
    process.start()
    # Lets `recv` end if the child fails.
    theirs.close()
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    os.environ["EXAMPLARY_API_URL"] = ours.recv()
    django.setup()

    from django.db import connection  # noqa: PLC0415  # after django.setup()

    name = connection.settings_dict["NAME"]
    connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        if options.memory:
            print_json(measure_memory(options.memory, ours))
        else:
            for concurrency in options.concurrency:
                print_json(measure_time(options, concurrency, ours))
    finally:
        connection.creation.destroy_test_db(name, verbosity=0)
        ours.send(False)
        process.join()


def make_users(count: int) -> None:
    from django.contrib.auth.models import User  # noqa: PLC0415

    User.objects.all().delete()
    for start in range(0, count, 1000):
        User.objects.bulk_create(
            User(username=f"user{number}", email=f"user{number}@school.example")
            for number in range(start, min(count, start + 1000))
        )


def measure_time(options: argparse.Namespace, concurrency: int, fake: Connection) -> dict[str, Any]:
    from django.contrib.auth.models import User  # noqa: PLC0415

    from django_examplary import services  # noqa: PLC0415

    make_users(options.users)
    started, cpu = time.perf_counter(), time.process_time()
    result = services.provision_actors(
        User.objects.all(), concurrency=concurrency, rate=options.rate
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    fake.send(True)
    calls, _ = fake.recv()
    shortest = math.ceil(options.users / concurrency) * options.latency
    if options.limit:
        shortest = max(shortest, options.users / options.limit)
    return {
        "concurrency": concurrency,
        "provisioned": result.provisioned,
        "stopped": result.stopped,
        "failed": result.failed,
        "seconds": round(seconds, 2),
        "times_the_shortest": round(seconds / shortest, 3) if shortest else None,
        "cpu": round(cpu, 2),
        "requests_per_user": round(calls / options.users, 3),
    }


def measure_memory(count: int, fake: Connection) -> dict[str, Any]:
    from django.core.management import call_command  # noqa: PLC0415

    # The first thousand users also pay for imports and caches.
    make_users(1000)
    call_command("examplary_provision", rate=0, concurrency=32)
    fake.send(True)
    fake.recv()
    make_users(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call_command("examplary_provision", rate=0, concurrency=32)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"users": count, "growth_mib": round((after - before) / 1024, 1)}


def print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
