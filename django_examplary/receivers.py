"""Receivers of signals about users. `apps.py` connects them."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, router, transaction
from django.db.models import QuerySet

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.exceptions import ExamplarySessionEndedError
from django_examplary.models import ExamplaryActor, ExamplarySession

logger = logging.getLogger("django_examplary")

# How long somebody who signs out may have to wait for us, in seconds.
_PATIENCE = 2.0


def revoke_when_deleted(instance: ExamplaryActor, **kwargs: Any) -> None:
    """The actor goes with its user. Its sessions stay, without it, for a sweep to revoke them."""
    services.revoke_sessions(instance)


def revoke_when_deactivated(instance: Any, **kwargs: Any) -> None:
    # Every row that is saved in the project comes by, and another model's property may fail.
    if isinstance(instance, get_user_model()) and not instance.is_active:
        for actor in _actors(instance):
            services.revoke_sessions(actor)


def revoke_when_signed_out(user: Any, **kwargs: Any) -> None:
    """At Examplary too, and at once: the next person may sit down at the same computer."""
    try:
        if user is None or not conf.EXAMPLARY_REVOKE_ON_LOGOUT:
            return
        with transaction.atomic(using=router.db_for_write(ExamplaryActor)):
            sessions = [each for actor in _actors(user) for each in services.revoke_sessions(actor)]
        transaction.on_commit(
            # Not a partial: Django 5.2 asks for the name of what went wrong.
            lambda: _revoke(sessions),
            using=router.db_for_write(ExamplaryActor),
            # Outside of a transaction this is before Django signs the user out.
            robust=True,
        )
    except (Error, ImproperlyConfigured):
        # Raised from here it would keep the user signed in.
        logger.exception("operation=revoke")


def _actors(user: Any) -> QuerySet[ExamplaryActor]:
    return ExamplaryActor.objects.using(router.db_for_write(ExamplaryActor)).filter(user=user)


def _revoke(sessions: list[ExamplarySession]) -> None:
    """Tell Examplary. A sweep does so again where that fails or takes too long."""
    from django_examplary.client import time_limit  # noqa: PLC0415  # slow, and rarely needed

    try:
        with time_limit(_PATIENCE):
            for session in sessions:
                # One may have been erased meanwhile.
                with contextlib.suppress(ExamplarySessionEndedError):
                    services.revoke_session(session)
    except ImproperlyConfigured as error:
        logger.warning("operation=revoke error=%s", error)
