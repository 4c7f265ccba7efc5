from __future__ import annotations

import gc
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.dispatch import Signal
from django.test.signals import reset_template_engines, setting_changed
from django.test.utils import override_settings
from django.utils import timezone, translation

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryError, ExamplaryNotReadyError
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.testing import FakeExamplary, serve
from tests.processes import COVERAGE
from tests.threads import call_at_once


def pytest_sessionstart() -> None:
    """Exit if the selected database has no server."""
    database: dict[str, Any] = settings.DATABASES["default"]
    if database.get("PORT"):  # pragma: no cover  # SQLite has none.
        address = f"{database['HOST']}:{database['PORT']}"
        try:
            socket.create_connection((database["HOST"], int(database["PORT"])), timeout=60).close()
        except OSError as error:
            pytest.exit(
                f"Every test was skipped: no database server at {address} ({error})",
                # CI must have all servers.
                returncode=1 if os.environ.get("CI") else 0,
            )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use two more processes than processors, because the tests often wait."""
    return (os.cpu_count() or 1) + 2


def pytest_collection_finish() -> None:
    """Exempt the collected tests from garbage collection: they all stay."""
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the properties that tests recorded, because worker processes cannot print."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") != "call":
                continue
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(autouse=True, scope="session")
def _unmeasured_children() -> Iterator[None]:
    """Disable coverage in child processes, because it nearly doubles their time."""
    with mock.patch.dict(os.environ):
        for name in COVERAGE:
            del os.environ[name]
        yield


@pytest.fixture(autouse=True, scope="session")
def _keep_templates() -> Iterator[None]:
    """Keep the compiled templates when a test sets DEBUG, on which no template depends."""

    def reset(*, setting: str, **kwargs: Any) -> None:
        if setting != "DEBUG":
            reset_template_engines(setting=setting, **kwargs)

    setting_changed.disconnect(reset_template_engines)
    setting_changed.connect(reset)
    yield
    setting_changed.disconnect(reset)
    setting_changed.connect(reset_template_engines)


@pytest.fixture(autouse=True)
def _reset_language() -> Iterator[None]:
    """Deactivate the language that requests of the test activated in this thread."""
    yield
    translation.deactivate()


@pytest.fixture(scope="module")
def module_urls(request) -> Iterator[None]:
    """Use the URLs of the test module, which Django compiles once for all its tests."""
    with override_settings(ROOT_URLCONF=request.module.__name__):
        yield


@pytest.fixture(scope="module")
def quick_collection() -> None:
    """Let `gc.collect()` examine only the objects that the module's own tests create."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def fake(settings) -> Iterator[FakeExamplary]:
    """A fake Examplary on localhost, configured in the settings."""
    with serve() as server:
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [server.url]
        settings.DEBUG = True  # Allows embeds over http from localhost.
        yield server.fake


@pytest.fixture
def dead_address() -> Iterator[str]:
    """A URL that refuses connections: its port is reserved, so that no other process gets it."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.fixture
def wrong_key(fake, settings) -> Callable[[], AbstractContextManager[None]]:
    """Return a context in which the settings have the key of another workspace."""

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
def staff(client, db) -> User:
    """A signed-in staff member with all view permissions and no others."""
    user = User.objects.create_user("staff", "staff@school.example", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(user)
    return user


@pytest.fixture
def student(db) -> User:
    return User.objects.create_user("student", "student@school.example", first_name="Stu")


@pytest.fixture
def announced() -> Iterator[list[tuple[str, Any]]]:
    """The received signals about ended sessions, as (name, primary key)."""
    received: list[tuple[str, Any]] = []

    def receiver(signal: Signal, session: ExamplarySession, **kwargs: Any) -> None:
        received.append((names[signal], session.pk))

    names: dict[Signal, str] = {
        signals.session_completed: "completed",
        signals.session_cancelled: "cancelled",
        signals.session_closed: "closed",
    }
    for signal in names:
        signal.connect(receiver)
    yield received
    for signal in names:
        signal.disconnect(receiver)


@pytest.fixture
def lapse() -> Callable[[], None]:
    """Set the end of every claim to the past."""

    def end_claims() -> None:
        past = timezone.now() - timedelta(minutes=5)
        ExamplaryActor.objects.filter(lapses_at__isnull=False).update(lapses_at=past)
        ExamplarySession.objects.filter(lapses_at__isnull=False).update(lapses_at=past)

    return end_claims


@pytest.fixture
def attempt() -> Callable[[Callable[[], Any]], Any]:
    """Return the result of a call, or the ExamplaryError that it raises."""

    def run(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ExamplaryError as error:
            return error

    return run


@pytest.fixture
def patiently() -> Callable[[Callable[[], Any]], Any]:
    """Repeat a call while another caller holds the claim, as a page does.

    On a busy machine a caller may hold the claim for longer than the others wait.
    """

    def run(call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except ExamplaryNotReadyError:  # pragma: no cover  # on a busy machine only
                continue

    return run


@pytest.fixture
def in_threads(
    attempt: Callable[[Callable[[], Any]], Any],
) -> Callable[[int, Callable[[], Any]], list[Any]]:
    """Run a call in several threads at once, and return the results and errors."""

    def run(count: int, call: Callable[[], Any]) -> list[Any]:
        return call_at_once(*[lambda: attempt(call)] * count)

    return run


@pytest.fixture
def during_call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run an action during the next call of a client method.

    With `answered` it runs after the API has processed the request, otherwise before.
    """

    def arrange(method: str, action: Callable[[], object], *, answered: bool = True) -> None:
        original = getattr(ExamplaryClient, method)

        def call(client: ExamplaryClient, *args: Any, **options: Any) -> Any:
            monkeypatch.setattr(ExamplaryClient, method, original)
            if not answered:
                action()
            result = original(client, *args, **options)
            if answered:
                action()
            return result

        monkeypatch.setattr(ExamplaryClient, method, call)

    return arrange


@pytest.fixture
def before_query() -> Callable[..., AbstractContextManager[None]]:
    """Return a context that runs an action before the first query that contains some words.

    If the action raises, the query does not run. `times` is the number of queries.
    """

    @contextmanager
    def arrange(action: Callable[[], object], *words: str, times: int = 1) -> Iterator[None]:
        left = [action] * times

        def wrapper(execute: Callable[..., Any], sql: str, *args: Any) -> Any:
            if left and all(word in sql for word in words):
                left.pop()()
            return execute(sql, *args)

        with connection.execute_wrapper(wrapper):
            yield
        assert len(left) < times, f"no query had the words {words}"

    return arrange


@pytest.fixture
def make_users(db: None) -> Callable[..., list[User]]:
    """Create users named user000, user001 and so on."""

    def make(count: int, **fields: Any) -> list[User]:
        return User.objects.bulk_create(
            User(username=f"user{number:03}", email=f"user{number:03}@school.example", **fields)
            for number in range(count)
        )

    return make
