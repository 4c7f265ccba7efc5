from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from types import ModuleType

import pytest
from django.contrib.auth import get_user_model
from django.utils import timezone

from django_examplary import services, tasks
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor

REDIS = ("127.0.0.1", 6379)

User = get_user_model()


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


def test_users_are_provisioned_in_one_task(db, fake, make_users):
    keys = [str(user.pk) for user in make_users(3)]

    result = tasks.provision_actors_task.enqueue(keys, role="student", rate=0)

    assert result.return_value["provisioned"] == 3
    assert {user["role"] for user in fake.users.values()} == {"owner", "student"}


def test_slice_of_one_workspace(fake, settings, make_users):
    first, second = make_users(2)
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": settings.EXAMPLARY_API_KEY}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user == first else "default"
    keys = [str(user.pk) for user in (first, second)]

    result = tasks.provision_actors_task.enqueue(keys, workspace="north")

    assert result.return_value["provisioned"] == 1
    assert ExamplaryActor.objects.get(state="active").user == first


def test_sweep_returns_its_result(db, fake):
    result = tasks.sweep_sessions_task.enqueue(limit=5)

    assert result.return_value["verified"] == 0


def test_slices_of_a_sweep_share_a_moment(db, fake, teacher):
    services.open_session(teacher, GenerateExam(), origin="https://school.example")
    since = timezone.now().isoformat()

    results = [tasks.sweep_sessions_task.enqueue(limit=5, since=since) for _ in range(2)]

    assert [result.return_value["verified"] for result in results] == [1, 0]


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


def test_app_needs_no_queue():
    script = (
        "import sys; queues = ['celery', 'django.tasks', 'django_tasks']\n"
        "sys.modules.update(dict.fromkeys(queues))\n"
        "import django; django.setup(); import django_examplary.admin, django_examplary.views\n"
        "assert 'django_examplary.tasks' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
    )
