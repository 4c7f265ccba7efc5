"""Database access of the services: current rows, short transactions, released connections."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, TypeVar

from django.db import Error, InterfaceError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, ProtectedError, RestrictedError
from django.db.transaction import TransactionManagementError
from django.utils.crypto import get_random_string

from django_examplary import clock
from django_examplary.conf import conf
from django_examplary.exceptions import ExamplaryDatabaseError
from django_examplary.models import (
    DatabaseNow,
    ExamplaryActor,
    ExamplaryActorQuerySet,
    ExamplarySession,
    ExamplarySessionQuerySet,
)

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])

#: Seconds between reads of a row that another caller has claimed, about two seconds in total.
PAUSES = (0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.4, 0.5)


def database() -> str:
    """Return the alias of the database with the rows of this app."""
    return router.db_for_write(ExamplaryActor)


def actor_rows() -> ExamplaryActorQuerySet:
    """Return all actors from the primary database, because a replica may lag behind."""
    return ExamplaryActor.objects.using(database())


def session_rows() -> ExamplarySessionQuerySet:
    """Return all sessions from the primary database."""
    return ExamplarySessionQuerySet(ExamplarySession, using=database())


def set_values(row: Model, values: Mapping[str, Any]) -> None:
    """Set the values of an update on the instance, without another query."""
    for name, value in values.items():
        setattr(row, name, value)


def new_token() -> str:
    """Return a random token that identifies the holder of a claim."""
    return get_random_string(32)


def lease() -> Any:
    """Return the end of a new claim, as a database expression.

    A claim lasts longer than all calls of its holder, so it only expires if the holder has died.
    """
    return DatabaseNow() + timedelta(seconds=conf.EXAMPLARY_DEADLINE + 15)


#: By vendor: SQL that sets a lock timeout of five seconds unless that of the project is lower, and
#: SQL that restores it after the transaction. SQLite has a timeout by default.
_LOCK_TIMEOUTS = {
    "postgresql": (
        "SELECT set_config('lock_timeout', '5s', true) WHERE current_setting('lock_timeout')"
        "::interval NOT BETWEEN interval '1 ms' AND interval '5 s'",
        "",
    ),
    "mysql": (
        "SET @examplary_wait = @@innodb_lock_wait_timeout,"
        " SESSION innodb_lock_wait_timeout = LEAST(@@innodb_lock_wait_timeout, 5)",
        "SET SESSION innodb_lock_wait_timeout = @examplary_wait",
    ),
}


@contextmanager
def _short_transaction() -> Iterator[None]:
    """Open a transaction with a short timeout for locks."""
    connection = transaction.get_connection(database())
    bound, restore = _LOCK_TIMEOUTS.get(connection.vendor, ("", ""))
    if connection.in_atomic_block:
        # The timeout would apply until the end of the caller's transaction.
        bound = restore = ""
    try:
        with transaction.atomic(using=database()):
            _execute(connection, bound)
            yield
    finally:
        # After a lost connection there is nothing to restore.
        with suppress(Error):
            _execute(connection, restore)


def _execute(connection: BaseDatabaseWrapper, sql: str) -> None:
    if sql:
        with connection.cursor() as cursor:
            cursor.execute(sql)


def commit(work: Callable[[], T], *, patience: float = 3.0) -> T:
    """Run short work in a transaction, and again after a deadlock or a lost connection.

    Databases resolve a deadlock by failing one of the transactions, and may have closed an idle
    connection. The work must be idempotent: a commit may have succeeded although the connection
    dropped before it was acknowledged.

    Work that took longer than `patience` seconds has waited for a lock, and would probably wait
    again. PostgreSQL takes a second to recognize a deadlock.
    """
    started = clock.monotonic()
    pauses = iter((0.01, 0.05, 0.1, 0.2, 0.4))
    while True:
        try:
            with _short_transaction():
                return work()
        except (OperationalError, InterfaceError):
            connection = transaction.get_connection(database())
            pause = next(pauses, None)
            # Nothing can be repeated in a transaction of the caller that the database has ended.
            late = clock.monotonic() - started > patience
            if pause is None or connection.needs_rollback or late:
                raise
        lost = connection.connection is not None and not connection.is_usable()
        if lost and not connection.in_atomic_block:
            # MariaDB reports this before the transaction has begun, so Django does not close it.
            connection.close()
        time.sleep(random.uniform(0, pause))  # noqa: S311  # jitter, no secret


def delete_unprotected(rows: ExamplarySessionQuerySet) -> int:
    """Delete sessions, except for those that rows of the project protect, and count them."""
    try:
        return _delete(rows)
    except (ProtectedError, RestrictedError):
        deleted = 0
        for pk in list(rows.values_list("pk", flat=True)):
            with suppress(ProtectedError, RestrictedError):
                deleted += _delete(session_rows().filter(pk=pk))
        return deleted


def _delete(rows: ExamplarySessionQuerySet) -> int:
    # Rows of the project that are deleted with them do not count.
    return commit(rows.delete)[1].get(rows.model._meta.label, 0)


def release_connections() -> None:
    """Close the connections of this thread, or return them to their pool, before a call.

    The next query reopens them. Connections with an open transaction stay open.
    """
    for connection in _idle_connections():
        connection.close()


def release_obsolete_connections() -> None:
    """Close this thread's connections that Django would close at the end of the request."""
    for connection in _idle_connections():
        connection.close_if_unusable_or_obsolete()


def _idle_connections() -> Iterator[BaseDatabaseWrapper]:
    """Yield the open connections of this thread that have no transaction open."""
    for connection in connections.all(initialized_only=True):
        # `get_autocommit` would open a closed connection.
        if (
            connection.connection is not None
            and not connection.in_atomic_block
            and connection.get_autocommit()
        ):
            yield connection


def refuse_transaction(service: str) -> None:
    """Raise TransactionManagementError if the caller has a transaction open.

    A rollback would lose the ids of objects that the API has created, and locks would be held
    during slow responses.
    """
    connection = transaction.get_connection(database())
    # With autocommit off there is a transaction outside atomic().
    if connection.in_atomic_block or connection.get_autocommit():
        try:
            # The check of Django, which ignores the transaction of a TestCase.
            with transaction.atomic(using=database(), durable=True):
                return
        except RuntimeError:
            pass
    raise TransactionManagementError(
        f"{service}() calls Examplary and must not run inside a transaction. Call it outside "
        "atomic(), after the commit with transaction.on_commit(), or, under ATOMIC_REQUESTS, from "
        "a view decorated with @transaction.non_atomic_requests. A middleware that opens "
        "transactions must leave out the URLs of django_examplary."
    )


def non_atomic(view: View) -> View:
    """Exempt a view from ATOMIC_REQUESTS for every database."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view


def database_error(what: str, error: Exception) -> ExamplaryDatabaseError:
    """Return an error for a failed write, which names the constraint and quotes no values.

    Raise it outside the `except` block, because frames of the original contain the row.
    """
    constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    if constraint is None:
        # The messages of SQLite and MariaDB.
        found = re.search(
            r"constraint failed: ([\w., ]+)|CONSTRAINT `(\w+)`|for key '([\w.]+)'", str(error)
        )
        constraint = next(filter(None, found.groups()), "") if found else ""
    detail = f" ({constraint})" if constraint else ""
    return ExamplaryDatabaseError(f"{what} could not be stored: {type(error).__name__}{detail}.")
