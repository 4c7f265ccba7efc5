"""The Celery of a project. `test_celery` starts a worker with it."""

from __future__ import annotations

import os
import sys

import django
from celery import Celery, shared_task
from django.db import connection

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


@shared_task(autoretry_for=(ExamplaryRateLimitError,), retry_backoff=True)
def provision_actor(pk):
    services.provision_actor(User.objects.get(pk=pk))
