"""Decide when calls are retried, and when calls are paused."""

from __future__ import annotations

import email.utils
import hashlib
import json
import logging
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC
from typing import Any, Literal

from django.views.decorators.debug import sensitive_variables

from django_examplary import clock, signals
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
    ExamplaryValidationError,
)

logger = logging.getLogger("django_examplary")

#: Whether a call may be retried even if the API may have acted on it.
Repeat = Literal["always", "once", "never"]

# Longer waits are left to the caller, in seconds.
_MAX_WAIT = 60.0

# After a 429 an operation is called at intervals, at first of this length in seconds. Each further
# 429 doubles them, and each success shortens them.
_FIRST_INTERVAL = 0.25
_MAX_INTERVAL = 5.0
_SHORTEN = 0.97


def is_postponed(error: BaseException) -> bool:
    """Return whether the API has not acted on the request and requests a retry."""
    return isinstance(error, ExamplaryAPIError) and (
        error.status_code in (425, 429)
        or (error.status_code == 503 and error.retry_after is not None)
    )


def is_unprocessed(error: BaseException) -> bool:
    """Return whether the API has not acted on the request, so that it can be retried."""
    if isinstance(error, ExamplaryConnectionError):
        return not error.sent
    return is_postponed(error) or isinstance(error, ExamplaryUnavailableError)


def is_uncertain(error: BaseException) -> bool:
    """Return whether the call that raised this may have taken effect."""
    if isinstance(error, ExamplaryConnectionError):
        return error.sent
    if isinstance(error, ExamplaryAPIError):
        # 303 names the object that a POST created.
        return error.status_code in (303, 408) or (
            error.status_code >= 500 and not is_postponed(error)
        )
    return isinstance(error, ExamplaryResponseError)


def is_outage(outcome: Any) -> bool:
    """Return whether the API did not respond, or with a server error."""
    return isinstance(outcome, (ExamplaryConnectionError, ExamplaryServerError))


@dataclass
class Call:
    """One logical call: its request, and its past and allowed attempts."""

    method: str
    #: A template such as `/exams/{id}`. The ids are not in the repr: those of sessions are secrets.
    path: str
    _: KW_ONLY
    ids: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] | None = field(default=None, repr=False)
    json: Any = field(default=None, repr=False)
    #: None is "always" for GET and DELETE, and "never" for the rest.
    repeat: Repeat | None = None
    idempotency_key: str = field(default="", repr=False)
    authorized: bool = True
    #: The prefix of the id in a successful response, if the call creates an object.
    creates: str = ""
    #: The largest response that is read; 0 is the limit of the client.
    max_bytes: int = 0
    #: Returns the result, or an error, for the JSON of the response.
    read: Callable[[Any], Any] = lambda answer: answer
    on_answer: Callable[[Any], object] | None = None

    # Set by the client when it sends the call.
    deadline: float = 0.0
    max_attempts: int = 1
    data: bytes | None = field(default=None, repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    attempts: int = 0
    #: When the last attempt was sent.
    sent_at: float = 0.0
    #: The first error of an attempt that may have taken effect.
    uncertain: ExamplaryError | None = field(default=None, repr=False)
    status: int = 0
    retry_after: float | None = None
    #: Seconds by which the clock of the API is ahead of this one, if known.
    clock_difference: float | None = None
    #: Whether another attempt would have the same outcome.
    final: bool = False

    def __post_init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.started = clock.monotonic()
        self.repeat = self.repeat or ("always" if self.method in ("GET", "DELETE") else "never")

    @sensitive_variables()
    def encode(self) -> None:
        """Set the body and the headers. Raises ExamplaryValidationError naming the argument."""
        if not self.path.startswith("/"):
            raise ExamplaryValidationError("path", "must begin with a slash")
        for name, value in self.ids.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,512}", value):
                raise ExamplaryValidationError(
                    name, "must be an Examplary id: letters, digits, _ and - only"
                )
        if not re.fullmatch(r"[!-~]{0,255}", self.idempotency_key):
            raise ExamplaryValidationError(
                "idempotency_key", "must be at most 255 visible ASCII characters"
            )
        self.headers = {"X-Request-Id": self.id}
        if self.idempotency_key:
            self.headers["Idempotency-Key"] = self.idempotency_key
        if self.json is None:
            return
        try:
            self.data = json.dumps(self.json, allow_nan=False).encode()
        except (TypeError, ValueError) as error:
            raise ExamplaryValidationError("json", f"cannot be sent: {error}") from None
        self.headers["Content-Type"] = "application/json"

    @property
    @sensitive_variables()
    def identity(self) -> bytes:
        """Equal for equal requests of different launches; `Cooldown` compares it."""
        body = self.json
        if isinstance(body, Mapping):
            # Identifies one attempt of a launch.
            body = {name: value for name, value in body.items() if name != "returnUrl"}
        request = json.dumps([self.operation, dict(self.ids), self.params, body], default=str)
        return hashlib.sha256(request.encode()).digest()

    @property
    def operation(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def tokens(self) -> list[str]:
        """The tokens in ids of sessions, which are also part of their embed URLs."""
        found = [value.removeprefix("embed_session_") for value in self.ids.values()]
        # A shorter token could match unrelated words.
        return [each for each in found if each not in self.ids.values() and len(each) >= 16]

    def pause_after(self, error: ExamplaryError) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up."""
        if self.final or self.attempts >= self.max_attempts or not self._may_repeat(error):
            return None
        pause = min(5.0, 0.5 * 2 ** (self.attempts - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
        if self.retry_after is not None:
            if self.retry_after > _MAX_WAIT:
                return None
            pause = max(self.retry_after, pause)
        return pause if clock.monotonic() + pause < self.deadline else None

    def _may_repeat(self, error: ExamplaryError) -> bool:
        if is_unprocessed(error):
            return True
        if not is_uncertain(error):
            return False
        is_first = self.uncertain is None
        self.uncertain = self.uncertain or error
        return self.repeat == "always" or (self.repeat == "once" and is_first)

    def finish(self, level: int, outcome: str, message: str = "") -> None:
        """Write the log line of the call and send `api_call_finished`."""
        seconds = clock.monotonic() - self.started
        logger.log(
            level,
            "operation=%r outcome=%s status=%s attempts=%d ms=%d id=%s%s",
            self.operation,
            outcome,
            self.status or "-",
            self.attempts,
            seconds * 1000,
            self.id,
            f" message={message!r}" if message else "",
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


class _Pace:
    """The pace of an operation after a 429."""

    refused_at = 0.0
    #: End of the pause that the API requested.
    until = 0.0
    #: Seconds between two requests.
    interval = 0.0
    #: When the next request may be sent.
    next = 0.0


class Cooldown:
    """Stops calls for a while if the API is down, refuses the key or is busy.

    After three failures in a row, of different calls, nothing is sent for some seconds. Then one
    call at a time is sent, until one succeeds.

    A 429 pauses only its operation, for Retry-After or a second. Then its requests are sent one by
    one, at intervals that adapt to the limit of the API. Processes of a site share no memory, so
    each adapts by itself.
    """

    FAILURES = 3
    SECONDS = 5.0

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: list[bytes] = []
        self._until = 0.0
        self._paces: dict[str, _Pace] = {}

    def check(self, call: Call) -> None:
        """Raise ExamplaryUnavailableError or ExamplaryRateLimitError if the call must wait."""
        now = clock.monotonic()
        with self._lock:
            pace = self._paces.get(call.operation)
            paused = pace.until - now if pace else 0.0
            if paused <= 0 and len(self._failed) < self.FAILURES:
                return
            if paused <= 0 and now >= self._until:
                # The current call will have ended by its deadline.
                self._until = call.deadline
                return
        if paused > 0:
            raise not_sent(call, paused)
        raise ExamplaryUnavailableError(
            f"{call.operation} was not sent: several calls to Examplary failed in a row just now."
        )

    def take_turn(self, call: Call) -> float:
        """Return 0 if the call may be sent now, or the seconds until the next attempt."""
        now = clock.monotonic()
        with self._lock:
            if pace := self._paces.get(call.operation):
                pause = max(pace.until, pace.next) - now
                if pause > 0:
                    return pause
                pace.next = now + pace.interval * random.uniform(0.8, 1.2)  # noqa: S311  # jitter
            call.sent_at = now
        return 0.0

    def count(self, call: Call, outcome: Any) -> None:
        now = clock.monotonic()
        with self._lock:
            if isinstance(outcome, ExamplaryRateLimitError):
                pause = 1.0 if outcome.retry_after is None else outcome.retry_after
                pace = self._paces.setdefault(call.operation, _Pace())
                pace.until = max(pace.until, now + min(pause, _MAX_WAIT))
                # Requests that were sent together are refused together.
                if call.sent_at >= pace.refused_at:
                    pace.interval = min(max(_FIRST_INTERVAL, pace.interval * 2), _MAX_INTERVAL)
                    pace.refused_at = now
                return
            # The key may lack access to one resource, but be accepted for others.
            refused = isinstance(outcome, ExamplaryAuthenticationError) or (
                isinstance(outcome, ExamplaryPermissionError) and not call.ids
            )
            if not (refused or is_outage(outcome)):
                if call.operation in self._paces:
                    self._paces[call.operation].interval *= _SHORTEN
                self._failed.clear()
                return
            if _depends_on_request(outcome) and call.identity in self._failed:
                # This request always fails, which is not an outage.
                self._until = min(self._until, now)
                return
            # A few digests suffice to recognise requests that fail again.
            self._failed = [*self._failed[-63:], call.identity]
            self._until = now + self.SECONDS

    def clear(self) -> None:
        """Forget all failures and pauses."""
        with self._lock:
            self._failed.clear()
            self._paces.clear()


def not_sent(call: Call, pause: float) -> ExamplaryRateLimitError:
    """Return the error of a call that was not sent because of a pause, in seconds."""
    error = ExamplaryRateLimitError(
        call.operation,
        status_code=429,
        message="not sent, because the API has just requested a pause",
    )
    error.retry_after = pause
    return error


def _depends_on_request(outcome: Any) -> bool:
    if isinstance(outcome, ExamplaryConnectionError):
        return outcome.sent
    return not isinstance(outcome, ExamplaryAuthenticationError)


def retry_after(header: str | None, date: str | None = None) -> float | None:
    """Return the seconds of a Retry-After header; None for an invalid one.

    An HTTP date counts from `date`, the Date header of the same response, if there is one.
    """
    header = (header or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header):
        return float(header)
    moment = _parse_date(header)
    if moment is None:
        return None
    return max(0.0, moment - (_parse_date(date) or time.time()))


def seconds_until(http_date: str | None) -> float | None:
    """Return the seconds from now until an HTTP date; None for an invalid one."""
    moment = _parse_date(http_date)
    return None if moment is None else moment - time.time()


def _parse_date(http_date: str | None) -> float | None:
    """Parse a date of servers and proxies, with more formats than Django's function."""
    try:
        moment = email.utils.parsedate_to_datetime(http_date or "")
        # Without a zone it is GMT, like all dates of HTTP.
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
