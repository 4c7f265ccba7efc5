"""Work for a task queue, through Django's own task framework and whatever backend the site has.

Built into Django 6.0; on Django 5.2 it is the package `django-tasks`. Nothing in this app imports
this module, so a site without a queue need not install anything. Provisioning many users is::

    for pk in services.unprovisioned(users).values_list("pk", flat=True).iterator():
        provision_actor_task.enqueue(str(pk))

Any number of workers may share the work, and a task may run twice: each user is provisioned once.
One that fails leaves its reason in the actor's row too, and may be enqueued again.

Celery does not need this module::

    @shared_task(autoretry_for=(ExamplaryRateLimitError,), retry_backoff=True, rate_limit="5/s")
    def provision_actor(pk):
        services.provision_actor(User.objects.get(pk=pk))

    @shared_task
    def sweep_sessions():
        services.sweep_sessions(limit=500)
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model

from django_examplary import services
from django_examplary.data import ActorRole

if TYPE_CHECKING:
    from django.tasks import task
else:
    try:
        from django.tasks import task
    except ImportError:
        try:
            from django_tasks import task
        except ImportError:
            raise ImportError(
                "django_examplary.tasks needs Django 6.0, or the package django-tasks: "
                "python -m pip install django-tasks"
            ) from None


@task
def provision_actor_task(user_pk: str, role: ActorRole | None = None) -> str:
    """Provision one user, if there still is such a user; return the id at Examplary."""
    user = get_user_model()._default_manager.filter(pk=user_pk).first()
    if user is None:
        return ""
    return services.provision_actor(user, role=role).examplary_id or ""


@task
def sweep_sessions_task(limit: int | None = None) -> dict[str, Any]:
    """Sweep as `services.sweep_sessions` does, and return what it did."""
    return asdict(services.sweep_sessions(limit=limit))
