"""Tasks for Django's task framework, with any backend.

The framework is part of Django 6.0; for Django 5.2 it is the package `django-tasks`. Without it
this module can still be imported, because Celery and other queues import the `tasks` module of
every app. Only `enqueue()` raises then.

Provision many users::

    for pk in services.unprovisioned(users).values_list("pk", flat=True).iterator():
        provision_actor_task.enqueue(str(pk))

Or in slices, which spare the queue most of the messages::

    keys = [str(pk) for pk in services.unprovisioned(users).values_list("pk", flat=True)]
    for start in range(0, len(keys), 100):
        provision_actors_task.enqueue(keys[start : start + 100])

Any number of workers may share the work, and a task may run twice: each user is provisioned once.
If a task fails, it may be enqueued again. `last_error` of the actor has the reason of a refusal.

Sweep in slices of `limit` sessions. With the same `since` they check each session once::

    due, since = services.sweep_sessions(dry_run=True), timezone.now().isoformat()
    for _ in range(0, due.verified + due.revoked, 500):
        sweep_sessions_task.enqueue(limit=500, since=since)

Celery needs none of these tasks. See `docs/howto/tasks.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from django_examplary import services
from django_examplary.data import ActorRole
from django_examplary.exceptions import ExamplaryConfigurationError

if TYPE_CHECKING:
    from django.tasks import task
else:
    try:
        from django.tasks import task
    except ImportError:
        try:
            from django_tasks import task
        except ImportError:

            class task:  # replaces the decorator
                def __init__(self, function: Callable[..., Any]) -> None:
                    self.func = function

                def enqueue(self, *args: Any, **kwargs: Any) -> None:
                    """Raise ExamplaryConfigurationError."""
                    raise ExamplaryConfigurationError(
                        "django_examplary.tasks needs Django 6.0 or the package django-tasks: "
                        "python -m pip install django-tasks"
                    )

                aenqueue = enqueue


@task
def provision_actor_task(user_pk: str, role: ActorRole | None = None) -> str:
    """Provision one user and return the Examplary id; empty if the user does not exist."""
    user = get_user_model()._default_manager.filter(pk=user_pk).first()
    if user is None:
        return ""
    return services.provision_actor(user, role=role).examplary_id or ""


@task
def provision_actors_task(
    user_pks: list[str],
    role: ActorRole | None = None,
    rate: float = 5.0,
    workspace: str | None = None,
) -> dict[str, Any]:
    """Run `services.provision_actors` for some users and return the fields of its result.

    Sends at most `rate` requests a second (0: no limit), so several workers send several times as
    many.
    """
    users = get_user_model()._default_manager.filter(pk__in=user_pks)
    return asdict(services.provision_actors(users, role=role, rate=rate, workspace=workspace))


@task
def sweep_sessions_task(
    limit: int | None = None,
    workspace: str | None = None,
    rate: float = 0.0,
    since: str = "",
) -> dict[str, Any]:
    """Run `services.sweep_sessions` and return the fields of its result.

    `since` is a time with its time zone in ISO 8601. `rate` is the rate of one process.
    """
    return asdict(
        services.sweep_sessions(
            limit=limit,
            workspace=workspace,
            rate=rate,
            since=datetime.fromisoformat(since) if since else None,
        )
    )
