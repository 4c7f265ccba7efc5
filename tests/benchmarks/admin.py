"""Measure the database time of the admin pages of a large school."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from tests.benchmarks.measuring import report
from tests.benchmarks.site import site

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"
DAYS = 90

#: By page: the goal for its database time in milliseconds, if any, and for its queries.
PAGES = {
    f"{SESSIONS}activity/?days={DAYS}": ("<= 300", "<= 8"),
    SESSIONS: ("", "<= 12"),
    f"{SESSIONS}?workspace=south": ("", "<= 12"),
    f"{SESSIONS}?q=user-17": ("", "<= 12"),
    ACTORS: ("", "<= 12"),
    f"{ACTORS}?workspace=south": ("", "<= 12"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with site():
        from django.conf import settings  # noqa: PLC0415  # after django.setup()
        from django.contrib.auth.models import User  # noqa: PLC0415
        from django.db import connection  # noqa: PLC0415
        from django.test import Client  # noqa: PLC0415

        settings.ROOT_URLCONF = "tests.urls"
        settings.EXAMPLARY_WORKSPACE = lambda user: "south" if user.pk % 2 else "north"
        settings.EXAMPLARY_WORKSPACES = {"north": {}, "south": {}}
        fill(options.users, options.sessions)
        browser = Client()
        browser.force_login(User.objects.create_superuser("head"))
        for path, (goal, queries) in PAGES.items():
            browser.get(path)
            timings: list[list[float]] = []
            for _ in range(options.rounds):
                with database_time(timings):
                    assert browser.get(path).status_code == 200
            report(
                f"ms in the database, {path}, {connection.vendor}",
                statistics.median(sum(times) for times in timings) * 1000,
                goal=goal,
                ms=[round(seconds * 1000, 1) for seconds in timings[-1]],
            )
            # The first two read the session and the user.
            report(f"queries, {path}, {connection.vendor}", len(timings[-1]), goal=queries)


@contextmanager
def database_time(timings: list[list[float]]) -> Iterator[None]:
    """Append the seconds of each query."""
    from django.db import connection  # noqa: PLC0415

    seconds: list[float] = []

    def measure(execute: Any, *query: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(*query)
        finally:
            seconds.append(time.perf_counter() - started)

    with connection.execute_wrapper(measure):
        yield
    timings.append(seconds)


def fill(users: int, sessions: int) -> None:
    """Create a school in which one actor in ten has failed, each with a different message."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.db import connection  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from django_examplary.models import ExamplaryActor, ExamplarySession  # noqa: PLC0415

    State, Status = ExamplaryActor.State, ExamplarySession.Status
    workspaces = ("north", "south")
    people = User.objects.bulk_create(
        User(username=f"user-{number}", email=f"user-{number}@school.example")
        for number in range(users)
    )
    actors = ExamplaryActor.objects.bulk_create(
        ExamplaryActor(
            user=user,
            workspace=workspaces[number % 2],
            state=State.ACTIVE if number % 10 else State.FAILED,
            examplary_id=f"user_row{number}" if number % 10 else None,
            last_error="" if number % 10 else f"user-{number}@school.example exists.",
        )
        for number, user in enumerate(people)
    )
    flows = ("generate-exam", "take-exam", "edit-rubric", "practice-space-student", "mark-answer")
    outcomes = (Status.COMPLETED, Status.CANCELLED, Status.EXPIRED, Status.CLOSED)
    now = timezone.now()
    for start in range(0, sessions, 1000):
        ExamplarySession.objects.bulk_create(
            ExamplarySession(
                actor=actors[number % users],
                workspace=workspaces[number % 2],
                examplary_id=f"embed_session_row{number}",
                flow=flows[number // 7 % len(flows)],
                presets={"subject": "Mathematics", "studentLevel": "us_high_school_lower"},
                outputs={"examId": f"exam_row{number}"},
                fingerprint=f"{number:064x}",
                status=outcomes[number // 3 % len(outcomes)],
                created_at=created,
                expires_at=created + timedelta(days=7),
                ended_at=created + timedelta(seconds=30 + number * 7919 % 3600),
            )
            for number in range(start, min(start + 1000, sessions))
            for created in [now - timedelta(days=DAYS - 1) * (number / sessions)]
        )
    with connection.cursor() as cursor:
        # In production the database does this in the background.
        table = ExamplarySession._meta.db_table
        for command in {
            "postgresql": ["VACUUM ANALYZE"],
            "mysql": [f"ANALYZE TABLE {table}"],
        }.get(connection.vendor, ["ANALYZE"]):
            cursor.execute(command)


if __name__ == "__main__":
    main()
