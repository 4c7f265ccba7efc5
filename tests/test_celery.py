"""Tests with a real Celery worker. They need Redis and are excluded from coverage."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.utils import timezone

from django_examplary import services
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.testing import FakeExamplary
from tests.processes import PATIENCE, wait_for

REDIS = ("127.0.0.1", 6379)


class Worker:
    """A Celery worker with four processes and its own queue."""

    def __init__(self, process: subprocess.Popen[str], app: Any, log: Path) -> None:
        self._process, self._app, self._log = process, app, log

    def send(self, name: str, *args: Any) -> None:
        self._app.send_task(f"tests.celery_app.{name}", args)

    def wait_for(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait, and add the output of the worker to an error."""
        try:
            wait_for(condition, self._process, patience=patience)
        except AssertionError as error:
            error.add_note(self._log.read_text())
            raise


@pytest.fixture
def celery(request, transactional_db, fake, tmp_path):
    """A worker. The parameter lists modules that it cannot import."""
    library = pytest.importorskip("celery")
    try:
        socket.create_connection(REDIS, timeout=60).close()
    except OSError as error:
        pytest.skip(f"There is no Redis at {REDIS[0]}:{REDIS[1]}: {error}")
    broker = f"redis://{REDIS[0]}:{REDIS[1]}/15"
    queue = f"django_examplary-{uuid.uuid4().hex}"
    environment = {
        **os.environ,
        "BLOCKED_MODULES": request.param,
        "CELERY_BROKER": broker,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "EXAMPLARY_API_URL": fake.base_url,
        "EXAMPLARY_REVOKE_ON_COMPLETION": "false",
        "FOLDER": str(tmp_path),
        "TEST_DATABASE": str(connection.settings_dict["NAME"]),
    }
    command = ["celery", "-A", "tests.celery_app", "worker", "--concurrency", "4", "-Q", queue]
    command += ["--prefetch-multiplier", "1"]
    log = tmp_path / "output.log"
    with log.open("wb") as output:
        # A process group, to end all processes at once.
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Neither the current app nor, by the fixup for Django, the default one: other tests use them.
    app = library.Celery(broker=broker, set_as_current=False, fixups=[])
    app.conf.task_default_queue = queue
    yield Worker(process, app, log)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with app.connection() as broker_connection:
        broker_connection.default_channel.client.delete(queue)
    app.close()


@pytest.mark.parametrize("celery", [""], indirect=True, ids=["nothing blocked"])
def test_workers_provision_each_user_once(celery, fake):
    fake.duplicates = "create"  # Makes duplicates visible.
    users = get_user_model()._default_manager.bulk_create(
        get_user_model()(username=f"user{number:03}", email=f"user{number:03}@school.example")
        for number in range(100)
    )

    # Everything twice: a queue may deliver a message again.
    for user in [*users, *users]:
        celery.send("provision_actor", user.pk)
    active = ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE)
    celery.wait_for(lambda: active.count() == len(users))

    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == len(users)


@pytest.mark.parametrize("celery", [""], indirect=True, ids=["nothing blocked"])
def test_workers_provision_slices(celery, fake, make_users):
    fake.duplicates = "create"
    keys = [user.pk for user in make_users(100)]

    # Every slice twice, as above.
    for start in [*range(0, 100, 25), *range(0, 100, 25)]:
        celery.send("provision_slice", keys[start : start + 25])
    active = ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE)
    celery.wait_for(lambda: active.count() == 100)

    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == 100


@pytest.mark.parametrize("celery", [""], indirect=True, ids=["nothing blocked"])
def test_workers_share_a_sweep_while_one_is_killed(celery, fake, settings, tmp_path, teacher):
    """CELERY_SESSIONS overrides the number of sessions."""
    settings.EXAMPLARY_REVOKE_ON_COMPLETION = False
    count = int(os.environ.get("CELERY_SESSIONS", "500"))
    add_sessions(fake, services.provision_actor(teacher), count)
    rows = ExamplarySession.objects
    signals = tmp_path / "signals"
    due, since = services.sweep_sessions(dry_run=True), timezone.now()

    for _ in range(0, due.verified, 50):
        celery.send("sweep_slice", since.isoformat())
    # Some calls of the killed process were under way.
    patience = max(PATIENCE, count / 4)
    celery.wait_for(lambda: rows.filter(asked_at__gte=since).count() == count, patience)
    celery.wait_for(lambda: rows.open().count() <= 4)

    assert (tmp_path / "died").exists()
    asked = Counter(call.path for call in fake.calls("GET", "/embed-sessions/{id}"))
    assert set(asked.values()) == {1}

    # The next sweep finishes these, and skips those that a worker is finishing.
    swept = services.sweep_sessions().verified
    assert swept <= 4
    celery.wait_for(lambda: rows.filter(status="completed").count() == count)
    celery.wait_for(lambda: len(set(signals.read_text().split())) >= count - swept)
    assert set(Counter(signals.read_text().split()).values()) == {1}


def add_sessions(fake: FakeExamplary, actor: ExamplaryActor, count: int) -> None:
    """Add open sessions that their user has completed at Examplary."""
    remote = [fake.add_session("edit-rubric", str(actor.examplary_id)) for _ in range(count)]
    for session in remote:
        fake.complete(session.id, {"rubric": {}})
    ExamplarySession.objects.bulk_create(
        ExamplarySession(
            actor=actor,
            examplary_id=session.id,
            flow="edit-rubric",
            status=ExamplarySession.Status.PENDING,
        )
        for session in remote
    )


# On Django 5.2 this is a site without django-tasks; later versions include a framework.
@pytest.mark.parametrize("celery", ["django.tasks django_tasks"], indirect=True, ids=str)
def test_worker_starts_without_task_framework(celery, teacher):
    celery.send("provision_actor", teacher.pk)

    celery.wait_for(ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE).exists)
