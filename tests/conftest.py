from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from django_examplary.testing import FakeExamplary, serve


def pytest_sessionstart() -> None:
    """Where the chosen database has no server, say so and test nothing."""
    database: dict[str, Any] = settings.DATABASES["default"]
    if database.get("PORT"):  # pragma: no cover  # SQLite has none.
        address = f"{database['HOST']}:{database['PORT']}"
        try:
            socket.create_connection((database["HOST"], int(database["PORT"])), timeout=5).close()
        except OSError as error:
            pytest.exit(
                f"Every test was skipped: no database server at {address} ({error})",
                # A machine that is there to test must have its servers.
                returncode=1 if os.environ.get("CI") else 0,
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: the tests wait a good part of their time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish() -> None:
    """What is there by now stays: the garbage collector need not look through it again."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have recorded; their processes cannot print it themselves."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture
def fake(settings) -> Iterator[FakeExamplary]:
    """A fake Examplary on this machine, which the settings point to."""
    with serve() as server:
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [server.url]
        settings.DEBUG = True  # Embeds may come over http then, from this machine.
        yield server.fake


@pytest.fixture
def wrong_key(fake, settings) -> Callable[[], AbstractContextManager[None]]:
    """Give a context in which the settings have a key that is of another workspace."""

    @contextmanager
    def change() -> Iterator[None]:
        right, sessions = settings.EXAMPLARY_API_KEY, dict(fake.sessions)
        fake.api_key = settings.EXAMPLARY_API_KEY = "examp_of_another_workspace_00000000"
        fake.sessions.clear()
        yield
        fake.api_key = settings.EXAMPLARY_API_KEY = right
        fake.sessions.clear()
        fake.sessions |= sessions

    return change


@pytest.fixture
def teacher(db) -> User:
    return User.objects.create_user("teacher", "teacher@school.example", first_name="Tea")


@pytest.fixture
def student(db) -> User:
    return User.objects.create_user("student", "student@school.example", first_name="Stu")


@pytest.fixture
def make_users(db) -> Callable[..., list[User]]:
    """Create so many users, named user000, user001 and so on."""

    def make(count: int, **fields: Any) -> list[User]:
        return User.objects.bulk_create(
            User(username=f"user{number:03}", email=f"user{number:03}@school.example", **fields)
            for number in range(count)
        )

    return make
