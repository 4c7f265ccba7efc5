"""A project's Celery, with the recipe of `django_examplary.tasks`. `test_tasks` starts a worker."""

from __future__ import annotations

import os

import django
from celery import Celery, shared_task
from django.db import connection

app = Celery("school", broker=os.environ["CELERY_BROKER"])
django.setup()
connection.settings_dict["NAME"] = os.environ["TEST_DATABASE"]

from django.contrib.auth.models import User  # noqa: E402  # after django.setup()

from django_examplary import services  # noqa: E402
from django_examplary.exceptions import ExamplaryRateLimitError  # noqa: E402


@shared_task(autoretry_for=(ExamplaryRateLimitError,), retry_backoff=True)
def provision_actor(pk):
    services.provision_actor(User.objects.get(pk=pk))
