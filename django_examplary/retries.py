"""When a call is sent again, and when nothing is sent for a while."""

from __future__ import annotations

import email.utils
import logging
import random
import re
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Literal

from django_examplary import signals
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)

logger = logging.getLogger("django_examplary")

#: When a call may be sent again although the API may already have acted on it.
Repeat = Literal["always", "once", "never"]

# A longer wait than this is left to the caller, in seconds.
_MAX_WAIT = 60.0


def is_postponed(error: BaseException) -> bool:
    """Return whether the API has done nothing, and wants to be asked again later."""
    return isinstance(error, ExamplaryAPIError) and (
        error.status_code in (425, 429)
        or (error.status_code == 503 and error.retry_after is not None)
    )


def is_uncertain(error: BaseException) -> bool:
    """Return whether the call that failed so may have taken effect."""
    if isinstance(error, ExamplaryConnectionError):
        return error.sent
    if isinstance(error, ExamplaryAPIError):
        return error.status_code == 408 or (error.status_code >= 500 and not is_postponed(error))
    return isinstance(error, ExamplaryResponseError)


def is_outage(outcome: Any) -> bool:
    return isinstance(outcome, (ExamplaryConnectionError, ExamplaryServerError))


@dataclass
class Call:
    """One logical call: how often it was sent, and whether it may be sent again."""

    operation: str
    repeat: Repeat
    deadline: float
    max_attempts: int
    attempts: int = 0
    uncertain: int = 0
    status: int = 0
    retry_after: float | None = None
    #: How many seconds the API's clock is ahead of ours, if it said.
    clock_difference: float | None = None
    final: bool = False

    def __post_init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.started = time.monotonic()

    def pause_after(self, error: ExamplaryError) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up."""
        if self.final or self.attempts >= self.max_attempts or not self._may_repeat(error):
            return None
        pause = min(5.0, 0.5 * 2 ** (self.attempts - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if self.retry_after is not None:
            if self.retry_after > _MAX_WAIT:
                return None
            pause = max(self.retry_after, pause)
        return pause if time.monotonic() + pause < self.deadline else None

    def _may_repeat(self, error: ExamplaryError) -> bool:
        if isinstance(error, ExamplaryConnectionError) and not error.sent:
            return True
        if is_postponed(error):
            return True
        if not is_uncertain(error):
            return False
        self.uncertain += 1
        return self.repeat == "always" or (self.repeat == "once" and self.uncertain == 1)

    def finish(self, level: int, outcome: str) -> None:
        """Tell the log and whoever measures."""
        seconds = time.monotonic() - self.started
        logger.log(
            level,
            "operation=%r outcome=%s status=%s attempts=%d ms=%d id=%s",
            self.operation,
            outcome,
            self.status or "-",
            self.attempts,
            seconds * 1000,
            self.id,
        )
        signals.api_call_finished.send_robust(
            Call,
            operation=self.operation,
            outcome=outcome,
            status=self.status,
            attempts=self.attempts,
            seconds=seconds,
            clock_difference=self.clock_difference,
        )


class Cooldown:
    """Keeps workers from piling up behind an API that is down.

    After three failed calls in a row nothing is sent for some seconds; then one call at a time
    tries, until one gets through.
    """

    FAILURES = 3
    SECONDS = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._until = 0.0

    def check(self, call: Call) -> None:
        """Raise ExamplaryUnavailableError if this is no time to call."""
        with self._lock:
            if self._failures < self.FAILURES:
                return
            if time.monotonic() >= self._until:
                # By then the one that tries has come to an end.
                self._until = call.deadline
                return
        raise ExamplaryUnavailableError(
            f"{call.operation} was not sent: Examplary failed several times in a row a moment ago."
        )

    def count(self, *, failed: bool) -> None:
        with self._lock:
            self._failures = self._failures + 1 if failed else 0
            if failed:
                self._until = time.monotonic() + self.SECONDS


def retry_after(header: str | None) -> float | None:
    """Read seconds or an HTTP date; whatever else is taken for no word at all."""
    header = (header or "").strip()
    if re.fullmatch(r"\d{1,9}", header):
        return float(header)
    seconds = seconds_until(header)
    return None if seconds is None else max(0.0, seconds)


def seconds_until(http_date: str | None) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(http_date or "")
        # Without a zone it is GMT, as all dates of HTTP are.
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
