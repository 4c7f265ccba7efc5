"""Receivers of signals about users. `apps.py` connects them."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error, transaction

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.exceptions import ExamplarySessionEndedError
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.database import actor_rows, database

logger = logging.getLogger("django_examplary")

# The session keys of django-hijack, django-loginas and django-impersonate.
_IMPERSONATIONS = ("hijack_history", "loginas_from_user", "_impersonate")

# How long a user who signs out may have to wait for the API, in seconds.
_PATIENCE = 2.0


def revoke_when_deleted(instance: ExamplaryActor, **kwargs: Any) -> None:
    """The actor goes with its user. Its sessions stay, without it, for a sweep to revoke them."""
    services.revoke_sessions(instance)


def revoke_when_user_changes(instance: Any, using: str | None = None, **kwargs: Any) -> None:
    """Revoke when a user is deactivated, or has a new password, which signs out elsewhere."""
    # Every row that is saved in the project comes here, and another model's property may fail.
    if not isinstance(instance, get_user_model()):
        return
    if instance.is_active and not _has_new_password(instance):
        return
    if using != database():
        return  # Rows in another database belong to no actor here.
    try:
        # A savepoint, so that a missing table does not break the transaction of the project.
        with transaction.atomic(using=database()):
            for actor in actor_rows().filter(user=instance):
                services.revoke_sessions(actor)
    except DatabaseError as error:
        # Saving a user must work before this app's tables exist. A sweep revokes the sessions of
        # inactive users too.
        logger.warning("operation=revoke error=%s", type(error).__name__)


def _has_new_password(user: Any) -> bool:
    # Django sends no signal, but keeps the new password until it has saved it.
    if getattr(user, "_password", None) is None:
        return False
    try:
        return conf.EXAMPLARY_REVOKE_ON_LOGOUT
    except ImproperlyConfigured as error:
        logger.error("operation=revoke error=%s", error)
        return False


def revoke_when_signed_out(user: Any, request: Any = None, **kwargs: Any) -> None:
    """Revoke at Examplary too, at once: the next person may use the same computer."""
    try:
        if user is None or not conf.EXAMPLARY_REVOKE_ON_LOGOUT:
            return
        session = getattr(request, "session", None) or {}
        if any(session.get(name) for name in _IMPERSONATIONS):
            return  # A staff member ends an impersonation. The user may be at work elsewhere.
        with transaction.atomic(using=database()):
            sessions = [
                session
                for actor in actor_rows().filter(user=user)
                for session in services.revoke_sessions(actor)
            ]
        if sessions:
            transaction.on_commit(
                # Not a partial: Django 5.2 logs the name of a function that fails.
                lambda: _revoke(sessions),
                using=database(),
                # Outside of a transaction this runs before Django signs the user out.
                robust=True,
            )
    # An exception would keep the user signed in.
    except Error as error:
        logger.error("operation=revoke error=%s", type(error).__name__)
    except ImproperlyConfigured as error:
        logger.error("operation=revoke error=%s", error)


def _revoke(sessions: list[ExamplarySession]) -> None:
    """Revoke at Examplary. A sweep repeats it if it fails or takes too long."""
    try:
        client = services.get_client(sessions[0].workspace).within(_PATIENCE)
        for session in sessions:
            # It may have been erased meanwhile.
            with contextlib.suppress(ExamplarySessionEndedError):
                services.revoke_session(session, client=client)
    except ImproperlyConfigured as error:
        logger.warning("operation=revoke error=%s", error)
