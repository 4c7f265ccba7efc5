"""A database, a stub and the servers of a site, and what they must agree about in the end."""

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

from django.contrib.auth.models import User
from django.db import connections

from django_examplary.models import ExamplaryActor, ExamplarySession
from tests import processes
from tests.chaos import stub
from tests.chaos.settings import SERVERS
from tests.chaos.visitors import Visitor

#: How many times as many users, kills and rounds there are.
FACTOR = int(os.environ.get("CHAOS_FACTOR", "1"))

COMMANDS = {
    "gunicorn": ("gunicorn", "tests.chaos.wsgi", "--bind=127.0.0.1:0", "--worker-class=gthread"),
    "uvicorn": (
        *("uvicorn", "tests.chaos.asgi:application", "--port=0"),
        *("--no-access-log", "--backlog=1024"),
    ),
}


@dataclass
class World:
    server: str
    alias: str
    api: str
    signals_file: Path
    figures: list[str]
    settings: dict[str, str] = field(default_factory=dict)

    def environment(self, **settings: object) -> dict[str, str]:
        name, url = SERVERS[self.alias]
        base = os.environ.get(name, url).rpartition("/")[0]
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
            "DATABASE_URL": f"{base}/{connections[self.alias].settings_dict['NAME']}",
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
        # uvicorn ends by the signal that it was sent.
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

    def sweep(self) -> None:
        process = self.start("examplary_sweep")
        output = processes.finish(process)
        assert process.returncode == 0, output

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
        """Return how many signals were sent about each session."""
        return Counter(self.signals_file.read_text().split())

    def unanswered(self) -> int:
        """Return how many POSTs have done their work and were not answered."""
        counts = self.control()["counts"]
        return int(sum(n for name, n in counts.items() if name.startswith("unanswered POST")))

    def duplicates(self) -> int:
        """Return how many users and sessions Examplary has that no row knows."""
        state = self.control()
        actors = ExamplaryActor.objects.using(self.alias).exclude(examplary_id=None)
        known = {row.examplary_id.value for row in self.rows().exclude(examplary_id=None)}
        known |= set(actors.values_list("examplary_id", flat=True))
        return len({*state["users"], *state["sessions"]} - known)

    def lost(self, visitors: list[Visitor], urls: list[str]) -> int:
        """Return how many visitors have no session, or another one than Examplary created."""
        urls_of = {each["embedUrl"] for each in self.control()["sessions"].values()}
        stored = {row.actor.user_id for row in self.rows().select_related("actor")}
        return sum(
            url not in urls_of or visitor.user.pk not in stored
            for visitor, url in zip(visitors, urls, strict=True)
        )

    def note(self, scenario: str, **figures: object) -> None:
        values = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
        self.figures.append(f"{scenario}, {self.server}, {self.alias}: {values}")
