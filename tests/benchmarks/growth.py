"""Compare a warm launch on a small database with one on a large database."""

from __future__ import annotations

import argparse
import functools
import os
from datetime import timedelta

from tests.benchmarks.databases import switch
from tests.benchmarks.measuring import interleave, report_ratio
from tests.benchmarks.site import Visitor, launch_path, site
from tests.chaos.stub import serve_stub


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[10, 100_000])
    few, many = parser.parse_args().rows
    os.environ["BENCHMARK_DATABASES"] = "2"
    with serve_stub() as stub, site(stub.url):
        from django.db import connection  # noqa: PLC0415  # after django.setup()

        from django_examplary.models import ExamplarySession  # noqa: PLC0415

        launches = {}
        for alias, rows in (("default", few), ("second", many)):
            switch(alias)
            fill(alias, rows)
            visitor = Visitor()
            launches[alias] = functools.partial(visitor.launch, launch_path(visitor.user))

        def launch(alias: str) -> None:
            switch(alias)
            launches[alias]()

        timings = interleave(
            {alias: functools.partial(launch, alias) for alias in launches}, rounds=150, calls=5
        )
        report_ratio(
            f"warm launch with {many:,} rows / with {few:,}, {connection.vendor}",
            timings["second"],
            timings["default"],
            goal="<= 1.1",
            sessions=[
                ExamplarySession.objects.using(each).count() for each in ("second", "default")
            ],
        )


def fill(alias: str, rows: int) -> None:
    """Create users, each with an actor and a session like that of the launch."""
    from django.contrib.auth.models import User  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415
    from django.utils import timezone  # noqa: PLC0415

    from django_examplary.models import ExamplaryActor, ExamplarySession  # noqa: PLC0415

    now = timezone.now()
    for start in range(0, rows, 1000):
        numbers = range(start, min(start + 1000, rows))
        users = User.objects.bulk_create(
            User(username=f"user-{number}", email=f"user-{number}@school.example")
            for number in numbers
        )
        actors = ExamplaryActor.objects.bulk_create(
            ExamplaryActor(
                user=user,
                examplary_id=f"user_row{number}",
                state=ExamplaryActor.State.ACTIVE,
                provisioned_at=now,
            )
            for user, number in zip(users, numbers, strict=True)
        )
        ExamplarySession.objects.bulk_create(
            ExamplarySession(
                actor=actor,
                examplary_id=f"embed_session_row{number}",
                embed_url=f"https://app.examplary.ai/embeds/row{number}",
                flow="generate-exam",
                presets={"subject": "Mathematics", "studentLevel": "us_high_school_lower"},
                fingerprint=f"{number:064x}",
                open_key=f"{number:064x}",
                status=ExamplarySession.Status.PENDING,
                remote_status="pending",
                expires_at=now + timedelta(days=7),
            )
            for actor, number in zip(actors, numbers, strict=True)
        )
    with connections[alias].cursor() as cursor:
        # In production the database does this in the background.
        cursor.execute("ANALYZE")


if __name__ == "__main__":
    main()
