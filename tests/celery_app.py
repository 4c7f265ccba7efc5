"""The Celery app of a project. `test_celery` starts a worker with it."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import django
from celery import Celery, shared_task
from django.db import connection
from django.dispatch import receiver

for module in os.environ["BLOCKED_MODULES"].split():
    sys.modules[module] = None  # type: ignore[assignment]  # Importing it raises ImportError.

app = Celery("school", broker=os.environ["CELERY_BROKER"])
# Imports the `tasks` module of every installed app when the worker starts.
app.autodiscover_tasks()
django.setup()
connection.settings_dict["NAME"] = os.environ["TEST_DATABASE"]

from django.contrib.auth.models import User  # noqa: E402  # after django.setup()

from django_examplary import services  # noqa: E402
from django_examplary.exceptions import ExamplaryRateLimitError  # noqa: E402
from django_examplary.signals import session_completed  # noqa: E402


@shared_task(autoretry_for=(ExamplaryRateLimitError,), retry_backoff=True)
def provision_actor(pk):
    services.provision_actor(User.objects.get(pk=pk))


@shared_task(acks_late=True, reject_on_worker_lost=True)
def sweep_slice(since):
    """Sweep some sessions; kill the process once in between, as the out-of-memory killer does."""
    services.sweep_sessions(limit=50, since=datetime.fromisoformat(since), progress=die_once)


@shared_task
def provision_slice(keys):
    services.provision_actors(User.objects.filter(pk__in=keys), rate=0)


def die_once(sweep):
    if sweep.verified < 10:
        return
    with suppress(FileExistsError):
        Path(os.environ["FOLDER"], "died").touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)


@receiver(session_completed)
def note_signal(session, **kwargs):
    with Path(os.environ["FOLDER"], "signals").open("a") as file:
        file.write(f"{session.pk}\n")
