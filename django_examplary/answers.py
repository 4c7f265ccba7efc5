"""What an answer of the API means: a value, or one of our errors.

What the API refuses is returned, not raised: raised here it would be chained to an error whose
frames hold the API key, and error reports show frames.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from django.views.decorators.debug import sensitive_variables

from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConflictError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryTimeoutError,
)

if TYPE_CHECKING:
    from django_examplary.transport import Answer, Exchange, TransportError

T = TypeVar("T", bound="Readable")

# The two documented refusals of an actor (contract, section 7). They only refine a 400.
_ACTOR_MESSAGES: tuple[tuple[str, type[ExamplaryInvalidRequestError]], ...] = (
    ("Actor ID cannot be the same as the requesting user", ExamplaryActorIsOwnerError),
    ("Actor with the given ID does not exist as a user", ExamplaryActorNotFoundError),
)
_ERRORS: Mapping[int, type[ExamplaryAPIError]] = {
    400: ExamplaryInvalidRequestError,
    401: ExamplaryAuthenticationError,
    403: ExamplaryPermissionError,
    404: ExamplaryNotFoundError,
    409: ExamplaryConflictError,
    410: ExamplaryNotFoundError,
    422: ExamplaryInvalidRequestError,
    429: ExamplaryRateLimitError,
}


def connection_error(operation: str, error: TransportError, exchange: Exchange) -> ExamplaryError:
    if error.answered:
        return ExamplaryResponseError(f"The answer to {operation} is refused: {error.reason}.")
    cls = ExamplaryTimeoutError if error.timeout else ExamplaryConnectionError
    return cls(f"{operation} got no usable answer: {error.reason}.", sent=exchange.sent)


@sensitive_variables("api_key")
def api_error(
    operation: str, answer: Answer, *, api_key: str, retry_after: float | None = None
) -> ExamplaryAPIError:
    # A refusal may well quote the key that it refuses.
    body = answer.body.decode("utf-8", "replace").replace(api_key, "<hidden>")
    message = _find_message(body)
    cls = _ERRORS.get(
        answer.status, ExamplaryServerError if answer.status >= 500 else ExamplaryAPIError
    )
    if answer.status == 400:
        cls = next((actor for start, actor in _ACTOR_MESSAGES if start in message), cls)
    error = cls(
        operation,
        status_code=answer.status,
        message=message,
        body=cleaned(body, 2000),
        request_id=cleaned(answer.headers.get("X-Request-Id", ""), 64),
    )
    if answer.status in (429, 503):
        error.retry_after = retry_after
    return error


def _find_message(body: str) -> str:
    """Find what the API says. The shape of an error is not documented (contract, section 13)."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return cleaned(body, 200)
    error, errors = data.get("error"), data.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else None
    candidates = (
        data.get("message"),
        error,
        error.get("message") if isinstance(error, dict) else None,
        first,
        first.get("message") if isinstance(first, dict) else None,
        data.get("detail"),
        body,
    )
    return cleaned(next(text for text in candidates if isinstance(text, str) and text), 200)


def cleaned(text: str, length: int) -> str:
    """Shorten a server's text: no control characters, addresses, or what opens a session."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text[: length * 4])
    # In JSON that could not be read a slash may be escaped.
    text = re.sub(r"https?:(\\?/){2}[^\s\"']+|embed_session_[\w-]+", "<hidden>", text)
    text = re.sub(r"[^\s@<>\"']+@[^\s@<>\"']+", "<e-mail>", text).strip()
    return text if len(text) <= length else f"{text[: length - 1]}…"


def read_json(operation: str, answer: Answer) -> Any:
    """Return the JSON of a 2xx, None when empty, or the error."""
    if not answer.body.strip():
        return None
    problem = ""
    if "json" not in answer.headers.get("Content-Type", ""):
        problem = "is not JSON"
    else:
        try:
            return _storable(
                json.loads(answer.body, parse_constant=_refuse_constant, parse_float=_number)
            )
        except (ValueError, RecursionError):
            problem = "is not valid JSON"
    return ExamplaryResponseError(f"The answer to {operation} {problem}.")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _number(digits: str) -> float | str:
    """Read a number; one that is too large for any computer's stays a text."""
    number = float(digits)
    return digits if math.isinf(number) else number


def _storable(value: Any) -> Any:
    """Replace what no database column can hold: U+0000 and lone surrogates."""
    if isinstance(value, str):
        return re.sub(r"[\x00\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_storable(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(item) for key, item in value.items()}
    return value


class Readable(Protocol):
    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self: ...


@sensitive_variables("answer")
def parse(cls: type[T], answer: Any, operation: str) -> T:
    """Read one object. Raises ExamplaryResponseError, without a cause: it holds nothing secret."""
    problem = "is not an object"
    if isinstance(answer, dict):
        try:
            return cls.from_json(answer)
        except ValueError as error:
            problem = f"has a fault: {error}"
    raise ExamplaryResponseError(f"The answer to {operation} {problem}.")
