"""Calls in several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

R = TypeVar("R")


def call_at_once(*calls: Callable[[], R]) -> list[R]:
    """Make each call in a thread of its own, and return the results in the order of the calls.

    An error of a call is raised when all of them have ended.
    """

    def work(call: Callable[[], R]) -> R:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(work, calls))
