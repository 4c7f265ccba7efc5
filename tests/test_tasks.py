from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from django_examplary import tasks
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.models import ExamplaryActor

REDIS = ("127.0.0.1", 6379)

User = get_user_model()


def make_users(count):
    return User.objects.bulk_create(
        User(username=f"user{number:03}", email=f"user{number:03}@school.example")
        for number in range(count)
    )


def test_user_is_provisioned_once(db, fake, teacher):
    first = tasks.provision_actor_task.enqueue(str(teacher.pk), role="student")
    second = tasks.provision_actor_task.enqueue(str(teacher.pk))

    actor = ExamplaryActor.objects.get()
    assert (actor.is_active, actor.role) == (True, "student")
    assert first.return_value == second.return_value == actor.examplary_id
    assert len(fake.requests) == 1


def test_deleted_user_is_skipped(db, fake):
    assert tasks.provision_actor_task.enqueue("17").return_value == ""
    assert fake.requests == []


def test_failure_is_in_the_result_and_in_the_row(db, fake, teacher):
    User.objects.update(email="no address")

    result = tasks.provision_actor_task.enqueue(str(teacher.pk))

    assert result.status == "FAILED"
    assert "ExamplaryValidationError" in result.errors[0].exception_class_path
    assert ExamplaryActor.objects.get().last_error.startswith("email: ")


def test_sweep_returns_its_result(db, fake):
    result = tasks.sweep_sessions_task.enqueue(limit=5)

    assert result.return_value["verified"] == 0


def load_tasks(monkeypatch, **modules):
    """Load the module again, with these task frameworks installed."""
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, modules.get(name.replace(".", "_")))
    spec = importlib.util.spec_from_file_location("another_tasks", tasks.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_backport_is_used_on_django_5(monkeypatch):
    backport = ModuleType("django_tasks")
    backport.task = lambda function: ("a task of the backport", function.__name__)

    module = load_tasks(monkeypatch, django_tasks=backport)

    assert module.sweep_sessions_task == ("a task of the backport", "sweep_sessions_task")


def test_without_framework_only_enqueue_raises(monkeypatch):
    module = load_tasks(monkeypatch)

    assert module.sweep_sessions_task.func.__name__ == "sweep_sessions_task"
    for enqueue in (module.provision_actor_task.enqueue, module.sweep_sessions_task.aenqueue):
        with pytest.raises(ExamplaryConfigurationError, match="pip install django-tasks"):
            enqueue()


@pytest.mark.parametrize("module", ["celery", "django.tasks", "django_tasks"])
def test_app_needs_no_queue(module):
    script = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "import django; django.setup(); import django_examplary.admin, django_examplary.views\n"
        "assert 'django_examplary.tasks' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )


# A real Celery worker


class Worker:
    """A Celery worker of four processes, with a queue of its own."""

    def __init__(self, process: subprocess.Popen[bytes], app: Any, output: Path) -> None:
        self._process, self._app, self._output = process, app, output

    def send(self, name: str, *args: Any) -> None:
        self._app.send_task(f"tests.celery_app.{name}", args)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait up to two minutes. Raise AssertionError with the worker's output."""
        end = time.monotonic() + 120
        while not condition():
            alive = self._process.poll() is None
            assert alive and time.monotonic() < end, self._output.read_text()  # noqa: PT018
            time.sleep(0.1)


@pytest.fixture
def celery(request, transactional_db, fake, tmp_path):
    """A worker. Its parameter names modules that it cannot import."""
    library = pytest.importorskip("celery")
    try:
        socket.create_connection(REDIS, timeout=5).close()
    except OSError as error:  # pragma: no cover  # Most machines have one.
        pytest.skip(f"There is no Redis at {REDIS[0]}:{REDIS[1]}: {error}")
    broker = f"redis://{REDIS[0]}:{REDIS[1]}/15"
    queue = f"django_examplary-{uuid.uuid4().hex}"
    environment = {
        **os.environ,
        "BLOCKED_MODULES": request.param,
        "CELERY_BROKER": broker,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "EXAMPLARY_API_URL": fake.base_url,
        "TEST_DATABASE": str(connection.settings_dict["NAME"]),
    }
    command = ["celery", "-A", "tests.celery_app", "worker", "--concurrency", "4", "-Q", queue]
    with (tmp_path / "output").open("wb") as output:
        # A process group, to end all processes at once.
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Not the current app, which other tests use.
    app = library.Celery(broker=broker, set_as_current=False)
    app.conf.task_default_queue = queue
    yield Worker(process, app, tmp_path / "output")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with app.connection() as broker_connection:
        broker_connection.default_channel.client.delete(queue)
    app.close()


@pytest.mark.parametrize("celery", [""], indirect=True, ids=["with all modules"])
def test_celery_workers_provision_each_user_once(celery, fake):
    fake.duplicates = "create"  # So that a second user would be seen.
    users = make_users(100)

    # Everything twice: a queue may deliver a message again.
    for user in [*users, *users]:
        celery.send("provision_actor", user.pk)
    active = ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE)
    celery.wait_for(lambda: active.count() == len(users))

    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == len(users)


# On Django 5.2 this is a site without django-tasks; later versions have a framework of their own.
@pytest.mark.parametrize("celery", ["django.tasks django_tasks"], indirect=True, ids=str)
def test_celery_worker_starts_without_task_framework(celery, teacher):
    celery.send("provision_actor", teacher.pk)

    celery.wait_for(ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE).exists)
