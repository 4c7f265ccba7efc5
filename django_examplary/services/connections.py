"""What every service needs first: a client for the API, and the database that it commits to."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import InterfaceError, OperationalError, connections, router, transaction
from django.db.models import Model, QuerySet
from django.db.transaction import TransactionManagementError
from django.dispatch import Signal
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables

from django_examplary.conf import conf
from django_examplary.models import (
    ExamplaryActor,
    ExamplarySession,
    ExamplarySessionQuerySet,
)

if TYPE_CHECKING:
    from django_examplary.client import ExamplaryClient

T = TypeVar("T")
View = TypeVar("View", bound=Callable[..., Any])

#: Why a long run ended early that was asked to.
ASKED_TO_STOP = "asked to stop"


@sensitive_variables("api_key")
def get_client(
    *,
    api_key: str | None = None,
    deadline: float | None = None,
    max_retries: int | None = None,
    pool_size: int = 10,
) -> ExamplaryClient:
    """Return the client that the settings describe; the same one as long as they stay the same.

    What is given here takes the place of the setting of that name. Raises
    ExamplaryConfigurationError when the key or the URL cannot be right.
    """
    return _client(
        conf.EXAMPLARY_API_KEY if api_key is None else api_key,
        conf.EXAMPLARY_API_URL,
        conf.EXAMPLARY_TIMEOUT,
        conf.EXAMPLARY_DEADLINE if deadline is None else deadline,
        conf.EXAMPLARY_MAX_RETRIES if max_retries is None else max_retries,
        pool_size,
    )


@functools.lru_cache(maxsize=8)
@sensitive_variables("api_key")
def _client(
    api_key: str,
    base_url: str,
    timeout: float,
    deadline: float,
    max_retries: int,
    pool_size: int,
) -> ExamplaryClient:
    from django_examplary.client import ExamplaryClient  # noqa: PLC0415  # slow; the admin needs none

    return ExamplaryClient(
        api_key,
        base_url=base_url,
        timeout=timeout,
        deadline=deadline,
        max_retries=max_retries,
        pool_size=pool_size,
    )


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork.
    # A lock that some thread holds at that moment is never released in the child.
    os.register_at_fork(after_in_child=_client.cache_clear)


def database() -> str:
    """Return the alias of the database that holds our rows."""
    return router.db_for_write(ExamplaryActor)


def actor_rows() -> QuerySet[ExamplaryActor]:
    """All actors as they are now: a replica that reads are routed to may be behind."""
    return ExamplaryActor.objects.using(database())


def session_rows() -> ExamplarySessionQuerySet:
    """All sessions as they are now."""
    return ExamplarySession.objects.using(database())


def commit(work: Callable[[], T]) -> T:
    """Run a short piece of work in a transaction, and again if the database gave up on it.

    Every database does when many want the same rows: it ends a deadlock, or waits in vain for a
    lock. It may also have closed the connection while Examplary was asked.
    """
    for pause in (0.01, 0.05, 0.1, 0.2, 0.4):
        with (
            contextlib.suppress(OperationalError, InterfaceError),
            transaction.atomic(using=database()),
        ):
            return work()
        connection = transaction.get_connection(database())
        lost = connection.connection is not None and not connection.is_usable()
        if lost and not connection.in_atomic_block:
            # MariaDB says so before the transaction has begun, where Django does not close it.
            connection.close()
        time.sleep(random.uniform(0, pause))  # noqa: S311  # jitter, no secret
    with transaction.atomic(using=database()):
        return work()


def update_rows(rows: QuerySet[Any], **values: Any) -> int:
    """Change rows as `commit` does, and return how many they were."""
    return commit(lambda: rows.update(**values))


def announce(signal: Signal, sender: type[Model], **facts: Any) -> None:
    """Send a signal. What its receivers ask of the API is not in the time that the caller has."""
    from django_examplary.client import time_limit  # noqa: PLC0415  # as above

    with time_limit(None):
        signal.send_robust(sender, **facts)


def lapsed_before() -> datetime:
    """Return when a claim must have been made for its holder to be dead by now."""
    return timezone.now() - timedelta(seconds=conf.EXAMPLARY_DEADLINE + 30)


def refuse_transaction(service: str) -> None:
    """Raise TransactionManagementError if the caller has a transaction open.

    A rollback would lose the id of what the API has made by then, and a slow answer would hold the
    caller's locks.
    """
    connection = transaction.get_connection(database())
    # With autocommit off there is a transaction outside of any atomic().
    if connection.in_atomic_block or connection.get_autocommit():
        try:
            # Django's own test; it knows the transaction that a TestCase wraps around a test.
            with transaction.atomic(using=database(), durable=True):
                return
        except RuntimeError:
            pass
    raise TransactionManagementError(
        f"{service}() asks Examplary and must not run inside a transaction. Call it outside "
        "atomic(), after the commit with transaction.on_commit(), or, under ATOMIC_REQUESTS, from "
        "a view decorated with @transaction.non_atomic_requests."
    )


def non_atomic(view: View) -> View:
    """Keep ATOMIC_REQUESTS off a view, whichever database our rows are in."""
    for alias in connections:
        view = transaction.non_atomic_requests(using=alias)(view)
    return view
