"""Limits of how many embeds of a process use the database, or wait for the API, at a time.

An embed launches, or reports its end. Beyond a limit it gets an ExamplaryNotReadyError, and its
script sends the request again after a pause.
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
# requests at once would use up the connections that the database accepts.
_CONNECTIONS = 8
_PATIENCE = 2.0


#: The semaphores of this process, by purpose and size. A setting may change its size.
_semaphores: dict[tuple[str, int], threading.Semaphore] = {}

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork.
    # A semaphore that a thread holds at that moment is never released in the child.
    os.register_at_fork(after_in_child=_semaphores.clear)


def _semaphore(purpose: str, size: int) -> threading.Semaphore:
    return _semaphores.setdefault((purpose, size), threading.Semaphore(size))


@contextmanager
def embed_with_connection() -> Iterator[None]:
    """Wait until few other embeds use a database connection, and close it in the end."""
    semaphore = _semaphore("connection", _CONNECTIONS)
    if not semaphore.acquire(timeout=_PATIENCE):
        raise ExamplaryNotReadyError("Too many embeds of this process use the database.")
    with ExitStack() as stack:
        stack.callback(semaphore.release)
        # A connection that was lost may fail to close.
        stack.callback(release_obsolete_connections)
        yield


@contextmanager
def embed_that_waits() -> Iterator[None]:
    """Count an embed that waits for the API. A site with few threads serves its other pages."""
    semaphore = _semaphore("wait", conf.EXAMPLARY_CONCURRENT_LAUNCHES)
    if not semaphore.acquire(blocking=False):
        raise ExamplaryNotReadyError(
            "EXAMPLARY_CONCURRENT_LAUNCHES embeds of this process wait for Examplary."
        )
    try:
        yield
    finally:
        semaphore.release()
