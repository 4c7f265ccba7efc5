"""Measure requests per second of gunicorn, on the database of DATABASE_URL, such as PostgreSQL.

Server, database, stub and visitors share the machine, so only the ratios are comparable.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from tests import processes
from tests.benchmarks.measuring import report
from tests.benchmarks.site import Visitor, launch_path, site
from tests.chaos.stub import serve_stub

LATENCY = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--visitors", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with serve_stub(LATENCY) as stub, site(stub.url):
        from django.db import connection  # noqa: PLC0415  # after django.setup()
        from django.urls import reverse  # noqa: PLC0415

        from django_examplary.models import ExamplarySession  # noqa: PLC0415

        visitors = [Visitor(f"visitor-{number}") for number in range(options.visitors)]
        paths: dict[str, list[str]] = {
            "warm launch": [launch_path(visitor.user) for visitor in visitors],
        }
        for visitor, path in zip(visitors, paths["warm launch"], strict=True):
            visitor.launch(path)
        paths["by hand"] = [
            reverse("redirect", args=[ExamplarySession.objects.get(actor__user=visitor.user).pk])
            for visitor in visitors
        ]
        for name in ("with", "without", "plain"):
            paths[name] = [reverse(name)] * len(visitors)
        jobs: dict[str, list[Iterator[str]]] = {
            name: [itertools.repeat(path) for path in each] for name, each in paths.items()
        }
        jobs["cold launch"] = [new_launches(visitor) for visitor in visitors]
        rates: dict[str, list[float]] = {name: [] for name in jobs}
        with serve(connection.settings_dict["NAME"], options) as address:
            server = urlsplit(address).netloc
            for number in range(-1, options.rounds):
                for name, job in jobs.items():
                    rate = load(server, visitors, job, 1.0 if number < 0 else options.seconds)
                    if number >= 0:
                        rates[name].append(rate)

    def compare(what: str, one: str, other: str) -> None:
        pairs = zip(rates[one], rates[other], strict=True)
        report(
            what,
            statistics.median(first / second for first, second in pairs),
            per_second=[round(statistics.median(rates[name]), 1) for name in (one, other)],
        )

    stack = f"gunicorn {options.workers} x {options.threads}, {connection.vendor}"
    compare(f"warm launches a second / by hand, {stack}", "warm launch", "by hand")
    compare(f"cold launches a second / plain integration, {stack}", "cold launch", "plain")
    compare(f"page views a second with the tag / without, {stack}", "with", "without")
    compare(f"page views a second / plain integration, {stack}", "with", "plain")


def new_launches(visitor: Visitor) -> Iterator[str]:
    """Yield paths that each open a new session."""
    for number in itertools.count():
        yield launch_path(visitor.user, nonce=str(number))


def serve(database: str, options: argparse.Namespace) -> AbstractContextManager[str]:
    """Run gunicorn on a free port while the context lasts; return its address."""
    url = os.environ["DATABASE_URL"].rpartition("/")[0]
    return processes.serve(
        *(sys.executable, "-m", "gunicorn", "tests.benchmarks.wsgi"),
        *("--bind", "127.0.0.1:0", "--worker-class", "gthread"),
        *("--workers", str(options.workers), "--threads", str(options.threads)),
        environment={**os.environ, "DATABASE_URL": f"{url}/{database}"},
    )


def load(server: str, visitors: list[Visitor], job: list[Iterator[str]], seconds: float) -> float:
    """Let each visitor send requests one by one, and return the responses per second."""
    started = time.perf_counter()

    def visit(visitor: Visitor, paths: Iterator[str]) -> int:
        connection = http.client.HTTPConnection(server, timeout=processes.PATIENCE)
        headers = {"Cookie": visitor.cookie_header, "Sec-Fetch-Dest": "iframe"}
        count = 0
        while time.perf_counter() < started + seconds:
            connection.request("GET", next(paths), headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (200, 302):
                raise RuntimeError(f"{answer.status} {answer.reason}")
            count += 1
        connection.close()
        return count

    with ThreadPoolExecutor(len(visitors)) as pool:
        answers = sum(pool.map(visit, visitors, job))
    return answers / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
