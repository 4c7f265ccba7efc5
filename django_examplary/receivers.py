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


def revoke_when_deleted(instance: ExamplaryActor, **kwargs: Any) -> None:
    """End the sessions of a deleted user. A sweep revokes them at Examplary."""
    services.revoke_sessions(instance)


def revoke_when_user_changes(instance: Any, using: str | None = None, **kwargs: Any) -> None:
    """Revoke sessions of a user who is deactivated or has a new password."""
    # Every saved row of the project comes here, and the property of another model may fail.
    if not isinstance(instance, get_user_model()):
        return
    # Django has no signal for this, but keeps the new raw password until it is saved.
    has_new_password = getattr(instance, "_password", None) is not None
    if is_active(instance) and not (has_new_password and _revokes_on_logout()):
        return
    if using != database():
        return  # Users in another database have no actors here.
    key = instance.pk
    _after_commit(lambda: _end_sessions(key))


def revoke_when_signed_out(
    user: Any, request: Any = None, *, seconds: float = 2.0, **kwargs: Any
) -> None:
    """Revoke at Examplary, too, because the next person may use the same computer.

    Signing out waits for the API for at most `seconds`.
    """
    if user is None or not _revokes_on_logout():
        return
    session = getattr(request, "session", None) or {}
    if any(session.get(name) for name in _IMPERSONATIONS):
        return  # A staff member ends an impersonation. The user may be working elsewhere.
    key = user.pk
    _after_commit(lambda: _end_and_revoke(key, seconds))


def _revokes_on_logout() -> bool:
    try:
        return conf.EXAMPLARY_REVOKE_ON_LOGOUT
    except ImproperlyConfigured as error:
        # An exception would prevent the user from signing out.
        logger.error("operation=revoke error=%s", error)
        return False


def _after_commit(action: Callable[[], object]) -> None:
    """Run the action after the commit of the project, without raising errors.

    In the transaction of the project it could break that: MariaDB resolves a deadlock by rolling
    back the whole transaction, and PostgreSQL refuses every query after a failed one.
    """
    try:
        connection = transaction.get_connection(database())
        if connection.in_atomic_block or connection.get_autocommit():
            # Outside a transaction it runs now, before Django signs out the user.
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
        # For example, the tables do not exist yet. A sweep also revokes sessions of inactive users.
        logger.error("operation=revoke error=%s", type(error).__name__)
        return []


def _end_and_revoke(user_pk: Any, seconds: float) -> None:
    """Revoke at Examplary, too. A sweep retries if this fails or takes too long."""
    sessions = _end_sessions(user_pk)
    clients = {}
    for workspace in {session.workspace for session in sessions}:
        try:
            clients[workspace] = services.get_client(workspace).within(seconds)
        except ImproperlyConfigured as error:
            logger.warning("operation=revoke error=%s", error)
    for session in sessions:
        if client := clients.get(session.workspace):
            # It may have been erased meanwhile.
            with contextlib.suppress(ExamplarySessionEndedError):
                services.revoke_session(session, client=client)
    if sessions:
        # The user may have launched another session during the calls.
        _end_sessions(user_pk)
