"""Compare warm launches with a hand-written view, and cold launches with two plain requests."""

from __future__ import annotations

import functools
import itertools

import requests

from tests.benchmarks.measuring import Timing, interleave, report, report_ratio
from tests.benchmarks.site import Visitor, launch_path, site
from tests.chaos.stub import serve_stub


def main() -> None:
    with serve_stub() as stub, site(stub.url):
        measure_warm(stub.requests)
        measure_workspaces()
    # A new process would measure the same: the client is created again for another address.
    with serve_stub(0.1) as stub, site(stub.url):
        measure_cold(stub.url)


def measure_warm(count_requests) -> None:
    from django.urls import reverse  # noqa: PLC0415  # after django.setup()

    from django_examplary.models import ExamplarySession  # noqa: PLC0415

    visitor = Visitor()
    path = launch_path(visitor.user)
    visitor.launch(path)
    session = ExamplarySession.objects.get()
    by_hand = reverse("redirect", args=[session.pk])
    before = count_requests()
    queries = visitor.queries(path)
    timings = interleave(
        {"warm": lambda: visitor.launch(path), "by hand": lambda: visitor.launch(by_hand)},
        rounds=100,
        calls=10,
    )
    report_ratio(
        "warm launch / a view by hand",
        timings["warm"],
        timings["by hand"],
        goal="<= 1.15",
        queries_by_hand=visitor.queries(by_hand),
    )
    report("queries of a warm launch", queries, goal="<= 3")
    report("HTTP calls of a warm launch", count_requests() - before, goal="<= 0")


def measure_workspaces() -> None:
    """Compare launches of a user of one workspace and of a user of several."""
    from django.conf import settings  # noqa: PLC0415  # after django.setup()
    from django.test import override_settings  # noqa: PLC0415

    one, several = Visitor("one"), Visitor("several")
    schools = {
        "EXAMPLARY_WORKSPACES": {"south": {"API_KEY": settings.EXAMPLARY_API_KEY}},
        "EXAMPLARY_WORKSPACE": lambda user: "south",
    }
    configure = {"with": override_settings(**schools), "without": override_settings()}
    visitors = {"with": several, "without": one}
    paths = {name: launch_path(each.user) for name, each in visitors.items()}
    timings = {name: Timing() for name in configure}
    queries = {}
    for number in range(200):
        # The order differs each time. The settings change outside the timed block.
        for name in sorted(configure, reverse=bool(number % 2)):
            launch = functools.partial(visitors[name].launch, paths[name])
            with configure[name]:
                queries[name] = visitors[name].queries(paths[name])
                timing = interleave({name: launch}, rounds=1, calls=5)[name]
            timings[name].wall += timing.wall
            timings[name].cpu += timing.cpu
    report_ratio(
        "warm launch with workspaces / without",
        timings["with"],
        timings["without"],
        goal="<= 1.05",
        queries=[queries["with"], queries["without"]],
    )
    report(
        "queries that workspaces add to a warm launch",
        queries["with"] - queries["without"],
        goal="<= 0",
    )


def measure_cold(url: str) -> None:
    numbers = itertools.count()
    pool = requests.Session()
    rounds = 15
    visitors = [Visitor(f"new-{next(numbers)}") for _ in range(rounds + 1)]
    newcomers = iter(visitors)

    def cold() -> None:
        visitor = next(newcomers)
        visitor.launch(launch_path(visitor.user))

    def two_round_trips() -> None:
        for path in ("/users", "/embed-sessions"):
            pool.post(url + path, json={"flow": "generate-exam"}, timeout=10).json()

    timings = interleave({"cold": cold, "bare": two_round_trips}, rounds=rounds)
    report_ratio(
        "cold launch / two round trips at 100 ms", timings["cold"], timings["bare"], goal="<= 1.10"
    )


if __name__ == "__main__":
    main()
