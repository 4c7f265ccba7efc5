"""Limit the embeds of a process that use the database or wait for the API concurrently.

Launches and reports count. Beyond a limit they get an ExamplaryNotReadyError, and the script of the
embed retries after a pause.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from django_examplary.conf import conf
from django_examplary.exceptions import ExamplaryNotReadyError
from django_examplary.services.database import release_obsolete_connections

# An async server runs each request in a thread, and each thread opens a database connection. Many
# concurrent requests would exceed the connection limit of the database.
_CONNECTIONS = 8

#: The semaphores of this process, by purpose and size. A setting may change its size.
_semaphores: dict[tuple[str, int], threading.Semaphore] = {}

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork.
    # A semaphore that another thread holds during the fork would never be released in the child.
    os.register_at_fork(after_in_child=_semaphores.clear)


def _semaphore(purpose: str, size: int) -> threading.Semaphore:
    return _semaphores.setdefault((purpose, size), threading.Semaphore(size))


@contextmanager
def embed_with_connection() -> Iterator[None]:
    """Wait, for at most two seconds, until few other embeds use a database connection.

    The connection is closed afterwards if Django would close it at the end of the request.
    """
    semaphore = _semaphore("connection", _CONNECTIONS)
    if not semaphore.acquire(timeout=2.0):
        raise ExamplaryNotReadyError("Too many embeds of this process use the database.")
    with ExitStack() as stack:
        stack.callback(semaphore.release)
        # Closing a lost connection may fail.
        stack.callback(release_obsolete_connections)
        yield


@contextmanager
def embed_that_waits() -> Iterator[None]:
    """Limit the embeds that wait for the API, so that the site can serve other pages."""
    semaphore = _semaphore("wait", conf.EXAMPLARY_CONCURRENT_LAUNCHES)
    if not semaphore.acquire(blocking=False):
        raise ExamplaryNotReadyError(
            "EXAMPLARY_CONCURRENT_LAUNCHES embeds of this process wait for Examplary."
        )
    try:
        yield
    finally:
        semaphore.release()
