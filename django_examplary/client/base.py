"""Send calls: connections, deadline, attempts and errors. Reads no settings."""

from __future__ import annotations

import copy
import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote

from django.views.decorators.debug import sensitive_variables

from django_examplary import clock
from django_examplary.client.connections import Connections, checked_key, checked_proxy
from django_examplary.client.errors import (
    Answer,
    TransportError,
    api_error,
    connection_error,
    created_id,
    explained,
)
from django_examplary.client.responses import has_next_page, read_json, read_list, read_object
from django_examplary.client.retries import (
    Call,
    Repeat,
    is_unprocessed,
    not_sent,
    retry_after,
    seconds_until,
)
from django_examplary.data import RemoteObject
from django_examplary.encoding import storable
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryNotFoundError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
)
from django_examplary.origins import PRODUCTION_URL, checked_url, origin_of

T = TypeVar("T", bound=RemoteObject)

logger = logging.getLogger("django_examplary")

# A 404 with only such a message, or with a web page, means that the path is wrong.
_NO_SUCH_PATH = re.compile(r"(404:? ?)?((page |route )?not found|cannot \w+ /|<|$)", re.IGNORECASE)


class BaseClient:
    """The part of `ExamplaryClient` that is independent of the operations."""

    @sensitive_variables("api_key", "proxy")
    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = PRODUCTION_URL,
        timeout: float = 10.0,
        deadline: float = 15.0,
        max_retries: int = 2,
        pool_size: int = 10,
        max_answer_bytes: int = 1024 * 1024,
        ca_bundle: str = "",
        proxy: str = "",
    ) -> None:
        self.base_url = checked_url(base_url)
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.max_answer_bytes = max_answer_bytes
        self._ends_at = math.inf
        self._before_call: Callable[[], object] | None = None
        self._connections = Connections(
            checked_key(api_key),
            origin_of(self.base_url),
            proxy=checked_proxy(proxy),
            pool_size=pool_size,
            ca_bundle=ca_bundle,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and forget past failures. The next call opens new connections."""
        self._connections.close()

    def within(self, seconds: float, *, before_call: Callable[[], object] | None = None) -> Self:
        """Return a client whose calls all end within this number of seconds from now.

        It shares connections, cool-down and configuration with this one. If both clients have a
        limit, the earlier one applies. `before_call` runs before each call, so that a web request
        can release its database connection. A call without time left raises
        ExamplaryTimeoutError.
        """
        bound = copy.copy(self)
        bound._before_call = before_call or self._before_call
        bound._ends_at = min(self._ends_at, clock.monotonic() + seconds)
        return bound

    @property
    def time_left(self) -> float:
        """The seconds until the limit of `within`; `math.inf` without a limit."""
        return max(0.0, self._ends_at - clock.monotonic())

    @sensitive_variables()
    def request(
        self,
        method: str,
        path: str,
        *,
        ids: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        repeat: Repeat | None = None,
        idempotency_key: str = "",
        on_answer: Callable[[Any], object] | None = None,
    ) -> Any:
        """Call any operation and return the parsed JSON, or None for an empty response.

        `path` is a template such as `/exams/{id}`, filled from `ids`: logs and errors show only the
        template. `repeat` is whether the call may be sent again although the API may have acted on
        it. It defaults to `"always"` for GET and DELETE and to `"never"` for the rest. A repeated
        call has the same `X-Request-Id`, and the same `Idempotency-Key` if one is given.
        `on_answer` is called with each HTTP response (`status`, `headers`, `body`) before it is
        read, also for an error.
        """
        call = Call(
            method,
            path,
            ids=ids or {},
            params=params,
            json=json,
            repeat=repeat,
            idempotency_key=idempotency_key,
            read=storable,
            on_answer=on_answer,
        )
        return self._run(call)

    @sensitive_variables()
    def _get_object(self, cls: type[T], call: Call, default: T | None = None) -> T:
        """Run a call that returns one object; `default` if a success shows none."""
        call.read = lambda answer: read_object(cls, answer, call.operation, default=default)
        return cast("T", self._run(call))

    @sensitive_variables()
    def _get_list(self, cls: type[T], call: Call) -> list[T]:
        answers: list[Answer] = []
        call.on_answer = answers.append
        call.read = lambda parsed: read_list(
            cls, parsed, call.operation, incomplete=has_next_page(answers[-1])
        )
        return cast("list[T]", self._run(call))

    @sensitive_variables()
    def _run(self, call: Call) -> Any:
        """Send the call, again if it may be, and return its result."""
        call.encode()
        call.deadline = min(self._ends_at, clock.monotonic() + self.deadline)
        call.max_attempts = self.max_retries + 1
        cooldown = self._connections.cooldown
        cooldown.check(call)
        if self._before_call is not None:
            self._before_call()
        outcome: Any = None
        while True:
            # Another call may get a longer pause while this one waits.
            while 0 < (turn := cooldown.take_turn(call)) < call.deadline - clock.monotonic():
                time.sleep(turn)
            if turn > 0:
                outcome = outcome or not_sent(call, turn)
                break
            outcome = self._attempt(call)
            if isinstance(outcome, ExamplaryRateLimitError):
                cooldown.count(call, outcome)
            pause = call.pause_after(outcome) if isinstance(outcome, ExamplaryError) else None
            if pause is None:
                break
            time.sleep(pause)
        # A timeout of a call with little time is not an outage of the API.
        hurried = self._ends_at - call.started < min(self.timeout, self.deadline) / 2
        if not (
            isinstance(outcome, ExamplaryRateLimitError)
            or (hurried and isinstance(outcome, ExamplaryTimeoutError))
        ):
            cooldown.count(call, outcome)
        if call.uncertain and isinstance(outcome, ExamplaryError) and is_unprocessed(outcome):
            # The earlier attempt may have taken effect, whatever the outcome of the last one.
            outcome = call.uncertain
        if isinstance(outcome, ExamplaryError | ExamplaryConfigurationError):
            # A missing object is a normal response.
            absent = isinstance(outcome, ExamplaryNotFoundError)
            call.finish(
                logging.INFO if absent else logging.WARNING,
                type(outcome).__name__,
                getattr(outcome, "message", "") or str(outcome),
            )
            # Raised here and not where it was created, so that it is not chained to an exception
            # whose frames hold the key.
            raise outcome
        call.finish(logging.INFO, "ok")
        return outcome

    @sensitive_variables()
    def _attempt(self, call: Call) -> Any:
        """Send the request once. Return the result or the error."""
        from requests import Request  # noqa: PLC0415  # slow

        from django_examplary.client.transport import BearerAuth, Exchange  # noqa: PLC0415  # slow

        transport = self._connections.transport()
        exchange = Exchange(
            call.deadline, self.timeout, call.max_bytes or self.max_answer_bytes, call.ids
        )
        url = self.base_url + quote(call.path, safe="/")
        request = Request(call.method, url, call.headers, data=call.data, params=call.params)
        if call.authorized:
            request.auth = BearerAuth(self._connections.api_key.value)
        call.attempts += 1
        call.retry_after = None
        try:
            answer = transport.send(exchange, request)
        except TransportError as error:
            failure = connection_error(call.operation, error, sent=exchange.sent)
            call.final = error.final
            return failure
        if call.on_answer is not None:
            call.on_answer(answer)
        secrets = (self._connections.api_key.value, *call.tokens)
        call.status = answer.status
        call.clock_difference = seconds_until(answer.headers.get("Date"))
        if not 200 <= answer.status < 300:
            call.retry_after = retry_after(
                answer.headers.get("Retry-After"), answer.headers.get("Date")
            )
            refusal = api_error(call.operation, answer, secrets=secrets)
            if answer.status in (429, 503):
                refusal.retry_after = call.retry_after
            if call.creates:
                refusal.examplary_id = created_id(answer, call.creates)
            return self._wrong_url(call, refusal) or refusal
        if call.method == "DELETE":
            return None  # The response is not documented; any 2xx is a success.
        parsed = read_json(call.operation, answer)
        if not isinstance(parsed, ExamplaryError):
            parsed = call.read(parsed)
            # Another attempt would get the same response.
            call.final = True
        if isinstance(parsed, ExamplaryResponseError):
            return explained(parsed, answer, secrets=secrets, creates=call.creates)
        return parsed

    def _wrong_url(
        self, call: Call, error: ExamplaryAPIError
    ) -> ExamplaryConfigurationError | None:
        """Return an error if the base URL is wrong: every API has these operations."""
        # A 404 of this operation may also be about the exam, the space or the actor.
        redirected = error.status_code in (301, 302, 307, 308)
        vague = redirected or _NO_SUCH_PATH.match(error.message)
        if not (redirected or error.status_code in (404, 405)) or not (
            call.path in ("/users", "/me") or (vague and call.path == "/embed-sessions")
        ):
            return None
        return ExamplaryConfigurationError(
            f"{str(error).rstrip('.')}. EXAMPLARY_API_URL is {self.base_url!r}, which is not the "
            f"address of the API. Set it to {PRODUCTION_URL!r} or to that of your own installation."
        )

    def _mismatch_error(
        self, operation: str, field: str, *, examplary_id: str = ""
    ) -> ExamplaryResponseError:
        """Return the error for a response with another object's data, and close all connections.

        Accepting such a response would show a user another user's session.
        """
        self.close()
        logger.error("operation=%r outcome=foreign-answer field=%s", operation, field)
        return ExamplaryResponseError(
            f"{operation} was answered with another object's data: its {field} is not the one of "
            "the request.",
            examplary_id=examplary_id,
        )
