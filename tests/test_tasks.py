from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import uuid
from types import ModuleType

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from django_examplary import tasks
from django_examplary.models import ExamplaryActor
from tests.processes import wait_for

REDIS = ("127.0.0.1", 6379)

User = get_user_model()


def test_provisioning(db, fake, teacher):
    first = tasks.provision_actor_task.enqueue(str(teacher.pk), role="student")
    second = tasks.provision_actor_task.enqueue(str(teacher.pk))

    actor = ExamplaryActor.objects.get()
    assert (actor.is_active, actor.role) == (True, "student")
    assert first.return_value == second.return_value == actor.examplary_id
    assert len(fake.requests) == 1


def test_user_who_is_gone_meanwhile(db, fake):
    assert tasks.provision_actor_task.enqueue("17").return_value == ""
    assert fake.requests == []


def test_failure_is_told_to_the_queue_and_in_the_row(db, fake, teacher):
    User.objects.update(email="no address")

    result = tasks.provision_actor_task.enqueue(str(teacher.pk))

    assert result.status == "FAILED"
    assert "ExamplaryValidationError" in result.errors[0].exception_class_path
    assert ExamplaryActor.objects.get().last_error.startswith("email: ")


def test_sweep(db, fake):
    result = tasks.sweep_sessions_task.enqueue(limit=5)

    assert result.return_value["verified"] == 0


def load_tasks(monkeypatch, **modules):
    """Load the module anew, where these modules are what there is."""
    for name in ("django.tasks", "django_tasks"):
        monkeypatch.setitem(sys.modules, name, modules.get(name.replace(".", "_")))
    spec = importlib.util.spec_from_file_location("another_tasks", tasks.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_backport(monkeypatch):
    backport = ModuleType("django_tasks")
    backport.task = lambda function: ("a task of the backport", function.__name__)

    module = load_tasks(monkeypatch, django_tasks=backport)

    assert module.sweep_sessions_task == ("a task of the backport", "sweep_sessions_task")


def test_no_framework(monkeypatch):
    with pytest.raises(ImportError, match="pip install django-tasks"):
        load_tasks(monkeypatch)


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


# Celery, for real


@pytest.fixture
def celery(transactional_db, fake):  # pragma: no cover  # for machines with Redis
    """A queue, and the worker whose four processes take from it."""
    library = pytest.importorskip("celery")
    try:
        socket.create_connection(REDIS, timeout=60).close()
    except OSError as error:
        pytest.skip(f"There is no Redis: {error}")
    broker = f"redis://{REDIS[0]}:{REDIS[1]}/15"
    queue = f"django_examplary-{uuid.uuid4().hex}"
    environment = {
        **os.environ,
        "CELERY_BROKER": broker,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "EXAMPLARY_API_URL": fake.base_url,
        "TEST_DATABASE": str(connection.settings_dict["NAME"]),
    }
    command = ["celery", "-A", "tests.celery_app", "worker", "--concurrency", "4", "-Q", queue]
    # A group of processes, to be ended together: how long Celery takes for that is not tested.
    worker = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, start_new_session=True
    )
    # Not the current one: what other tests have for tasks is not for this.
    app = library.Celery(broker=broker, set_as_current=False)
    app.conf.task_default_queue = queue
    yield app, worker
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    with app.connection() as broker_connection:
        broker_connection.default_channel.client.delete(queue)
    app.close()


def test_celery_workers_create_each_user_once(
    celery, fake, make_users
):  # pragma: no cover  # for machines with Redis
    app, worker = celery
    fake.duplicates = "create"  # So that a second one would show.
    users = make_users(100)

    # Everything twice: a queue may deliver a message again.
    for user in [*users, *users]:
        app.send_task("tests.celery_app.provision_actor", [user.pk])
    active = ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE)
    wait_for(lambda: active.count() == len(users), worker)

    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == len(users)
