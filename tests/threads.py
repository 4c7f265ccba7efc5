"""Make calls in several threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connections

R = TypeVar("R")


def call_at_once(*calls: Callable[[], R]) -> list[R]:
    """Make each call in its own thread, and return the results in the order of the calls.

    If a call raises, the error is raised after all calls have ended.
    """

    def work(call: Callable[[], R]) -> R:
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(work, calls))
