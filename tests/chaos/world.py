"""A database, a stub and the servers of a site, with checks that their data agrees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections

from django_examplary.models import ExamplaryActor, ExamplarySession
from tests import processes
from tests.chaos import stub
from tests.chaos.settings import SERVERS
from tests.chaos.visitors import Visitor

#: Multiplies the users, kills and rounds.
FACTOR = int(os.environ.get("CHAOS_FACTOR", "1"))

COMMANDS = {
    "gunicorn": ("gunicorn", "tests.chaos.wsgi", "--bind=127.0.0.1:0", "--worker-class=gthread"),
    "uvicorn": (
        *("uvicorn", "tests.chaos.asgi:application", "--port=0"),
        *("--no-access-log", "--backlog=1024"),
    ),
}


def on(*pairs: tuple[str, str], longer: tuple[tuple[str, str], ...] = ()) -> pytest.MarkDecorator:
    """Run a test on pairs of server and database; on `longer` too if CHAOS_FACTOR is above 1."""
    chosen = [*pairs, *(longer if FACTOR > 1 else ())]
    return pytest.mark.parametrize("world", chosen, indirect=True, ids="-".join)


@dataclass
class World:
    server: str
    alias: str
    api: str
    signals_file: Path
    figures: list[str]
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        name, url = SERVERS[self.alias]
        base = os.environ.get(name, url).rpartition("/")[0]
        return f"{base}/{connections[self.alias].settings_dict['NAME']}"

    def environment(self, **settings: object) -> dict[str, str]:
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": self.database_url,
            "EXAMPLARY_API_URL": self.api,
            "CHAOS_SIGNALS": str(self.signals_file),
            **{name: str(value) for name, value in settings.items()},
        }

    def serve(
        self, *, workers: int = 2, threads: int = 8, **settings: object
    ) -> AbstractContextManager[str]:
        """Run the site with these settings while the context lasts; return its address."""
        command = [sys.executable, "-m", *COMMANDS[self.server]]
        if self.server == "gunicorn":
            command += [f"--workers={workers}", f"--threads={threads}"]
        # uvicorn re-raises the signal after its shutdown.
        exit_code = 0 if self.server == "gunicorn" else -signal.SIGTERM
        return processes.serve(
            *command, environment=self.environment(**settings), exit_code=exit_code
        )

    def start(self, *arguments: str, **settings: object) -> subprocess.Popen[str]:
        """Start a command of the project."""
        return subprocess.Popen(
            [sys.executable, "-m", "django", *arguments],
            env=self.environment(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **settings: object) -> tuple[int, str]:
        """Run a command of the project. Return its exit code and its output."""
        process = self.start(*arguments, **settings)
        output = processes.finish(process)
        return process.returncode, output

    def execute(self, *statements: str) -> None:
        """Change the schema, as an operator or another app does."""
        with connections[self.alias].cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def connections(self) -> int:
        """Return how many connections to its database PostgreSQL has."""
        with connections[self.alias].cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            return int(cursor.fetchone()[0])

    def sweep(self) -> None:
        code, output = self.run("examplary_sweep")
        assert code == 0, output

    def control(self, **changes: Any) -> Any:
        return stub.control(self.api, **changes)

    def users(self, count: int) -> list[User]:
        users = [User(username=f"u{n}", email=f"u{n}@school.example") for n in range(count)]
        User.objects.using(self.alias).bulk_create(users)
        return list(User.objects.using(self.alias).order_by("pk"))

    def visitors(self, count: int, address: str) -> list[Visitor]:
        return [Visitor(user, address) for user in self.users(count * FACTOR)]

    def rows(self) -> Any:
        return ExamplarySession.objects.using(self.alias)

    def signals(self) -> Counter[str]:
        """Return the number of signals by session."""
        return Counter(self.signals_file.read_text().split())

    def unanswered(self) -> int:
        """Return the number of POSTs that had an effect but no response."""
        counts = self.control()["counts"]
        return int(sum(n for name, n in counts.items() if name.startswith("unanswered POST")))

    def duplicates(self) -> int:
        """Return the number of remote users and open sessions without a row."""
        state = self.control()
        remote = {*state["users"], *(i for i, s in state["sessions"].items() if "deleted" not in s)}
        actors = ExamplaryActor.objects.using(self.alias).exclude(examplary_id=None)
        known = {row.examplary_id.value for row in self.rows().exclude(examplary_id=None)}
        known |= set(actors.values_list("examplary_id", flat=True))
        return len(remote - known)

    def lost(self, visitors: list[Visitor], urls: list[str]) -> int:
        """Return the number of visitors who lack a remote session or a row."""
        urls_of = {each["embedUrl"] for each in self.control()["sessions"].values()}
        stored = {row.actor.user_id for row in self.rows().select_related("actor")}
        return sum(
            url not in urls_of or visitor.user.pk not in stored
            for visitor, url in zip(visitors, urls, strict=True)
        )

    def note(self, scenario: str, **figures: object) -> None:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        self.figures.append(f"{scenario}, {self.server}, {self.alias}: {values}")
