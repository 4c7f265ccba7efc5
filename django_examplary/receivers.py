"""Receivers of signals about users. `apps.py` connects them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import Error, transaction

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.exceptions import ExamplarySessionEndedError
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.database import actor_rows, database
from django_examplary.services.profiles import is_active

logger = logging.getLogger("django_examplary")

# The session keys of django-hijack, django-loginas, django-impersonate and django-su.
_IMPERSONATIONS = ("hijack_history", "loginas_from_user", "_impersonate", "exit_users_pk")

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
    # Django sends no signal, but keeps the new password until it has saved it.
    has_new_password = getattr(instance, "_password", None) is not None
    if is_active(instance) and not (has_new_password and _revokes_on_logout()):
        return
    if using != database():
        return  # Rows in another database belong to no actor here.
    key = instance.pk
    _after_commit(lambda: _end_sessions(key))


def revoke_when_signed_out(user: Any, request: Any = None, **kwargs: Any) -> None:
    """Revoke at Examplary too, at once: the next person may use the same computer."""
    if user is None or not _revokes_on_logout():
        return
    session = getattr(request, "session", None) or {}
    if any(session.get(name) for name in _IMPERSONATIONS):
        return  # A staff member ends an impersonation. The user may be at work elsewhere.
    key = user.pk
    _after_commit(lambda: _end_and_revoke(key))


def _revokes_on_logout() -> bool:
    try:
        return conf.EXAMPLARY_REVOKE_ON_LOGOUT
    except ImproperlyConfigured as error:
        # An exception would keep the user signed in.
        logger.error("operation=revoke error=%s", error)
        return False


def _after_commit(action: Callable[[], object]) -> None:
    """Run the action when the project has committed, and never raise.

    Part of the project's transaction, it could lose that: MariaDB ends a deadlock by rolling back
    the whole transaction, and PostgreSQL refuses every query after one that failed.
    """
    try:
        connection = transaction.get_connection(database())
        if connection.in_atomic_block or connection.get_autocommit():
            # Outside of a transaction it runs now, before Django signs the user out.
            transaction.on_commit(action, using=database(), robust=True)
        else:
            action()
    except Error as error:
        logger.error("operation=revoke error=%s", type(error).__name__)


def _end_sessions(user_pk: Any) -> list[ExamplarySession]:
    actors = actor_rows().filter(user_id=user_pk)
    try:
        return [session for actor in actors for session in services.revoke_sessions(actor)]
    except Error as error:
        # As before this app's tables exist. A sweep revokes the sessions of inactive users too.
        logger.error("operation=revoke error=%s", type(error).__name__)
        return []


def _end_and_revoke(user_pk: Any) -> None:
    if sessions := _end_sessions(user_pk):
        _revoke(sessions)
        # Until now the user is signed in, and may have launched during the wait for the API.
        _end_sessions(user_pk)


def _revoke(sessions: list[ExamplarySession]) -> None:
    """Revoke at Examplary. A sweep repeats it if it fails or takes too long."""
    clients = {}
    for workspace in {session.workspace for session in sessions}:
        try:
            clients[workspace] = services.get_client(workspace).within(_PATIENCE)
        except ImproperlyConfigured as error:
            logger.warning("operation=revoke error=%s", error)
    for session in sessions:
        if client := clients.get(session.workspace):
            # It may have been erased meanwhile.
            with contextlib.suppress(ExamplarySessionEndedError):
                services.revoke_session(session, client=client)
