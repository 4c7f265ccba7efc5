"""The exception of this package that a failure of the API means.

Errors are returned, not raised. If they were raised here, they would be chained to an exception
whose frames contain the API key, and error reports show frames.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

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

# The two documented refusals of an actor (contract, section 7), in lower case.
_ACTOR_MESSAGES: tuple[tuple[str, type[ExamplaryInvalidRequestError]], ...] = (
    ("actor id cannot be the same as the requesting user", ExamplaryActorIsOwnerError),
    ("actor with the given id does not exist as a user", ExamplaryActorNotFoundError),
)
_ERRORS: Mapping[int, type[ExamplaryAPIError]] = {
    400: ExamplaryInvalidRequestError,
    401: ExamplaryAuthenticationError,
    402: ExamplaryPermissionError,
    403: ExamplaryPermissionError,
    404: ExamplaryNotFoundError,
    405: ExamplaryPermissionError,
    409: ExamplaryConflictError,
    410: ExamplaryNotFoundError,
    415: ExamplaryPermissionError,
    422: ExamplaryInvalidRequestError,
    429: ExamplaryRateLimitError,
    451: ExamplaryPermissionError,
}
# The format of errors is not documented (contract, section 13). These are common names of fields
# for messages, and for the invalid field of the request, in lower case.
_TEXTS = (
    *("message", "msg", "error", "errors", "errormessage", "issues", "error_description"),
    *("detail", "details", "description", "reason", "title"),
)
_FIELDS = ("field", "path", "param", "loc")
# The fields in which a success states an error, and those in which it may.
REFUSALS = ("error", "errors", "errormessage")
_STATEMENTS = (*REFUSALS, "message", "msg", "issues", "detail", "title")
_REQUEST_IDS = (
    *("X-Request-Id", "Request-Id", "X-Correlation-Id", "X-Amzn-RequestId", "X-Amz-Request-Id"),
    *("Apigw-Requestid", "X-Amz-Apigw-Id", "X-Amz-Cf-Id", "CF-Ray"),
)


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class TransportError(Exception):
    """The request failed before a whole response was received.

    `final`: another attempt would fail in the same way. `answered`: a response was received and
    refused. The error is not chained to its cause, whose frames contain the Authorization header.
    """

    def __init__(
        self, reason: str, *, timeout: bool = False, final: bool = False, answered: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.timeout = timeout
        self.final = final
        self.answered = answered


def connection_error(operation: str, error: TransportError, *, sent: bool) -> ExamplaryError:
    if error.answered:
        return ExamplaryResponseError(f"The response to {operation} is refused: {error.reason}.")
    cls = ExamplaryTimeoutError if error.timeout else ExamplaryConnectionError
    return cls(f"{operation} got no usable response: {error.reason}.", sent=sent)


@sensitive_variables()
def api_error(operation: str, answer: Answer, *, secrets: Sequence[str]) -> ExamplaryAPIError:
    """Return the error for a response other than 2xx, without the secrets of the request."""
    text = _decoded(answer.body)
    try:
        data = _redacted(json.loads(text), secrets)
    except (ValueError, RecursionError):
        data, body = None, _redacted(text, secrets)
    else:
        body = json.dumps(data, ensure_ascii=False)
    found = list(_messages(data, top=True)) if isinstance(data, dict | list) else []
    challenge = answer.headers.get("WWW-Authenticate", "")
    if "error" in challenge:
        # Gateways put the reason here, and only the status into the body.
        found += [*([body] if body and not found else []), _redacted(challenge, secrets)]
    cls = _ERRORS.get(
        answer.status, ExamplaryServerError if answer.status >= 500 else ExamplaryAPIError
    )
    if answer.status in (400, 403, 404, 409, 422):
        haystack = " ".join(" ".join([*found, body]).lower().split())
        cls = next((error for words, error in _ACTOR_MESSAGES if words in haystack), cls)
    request_id = next((answer.headers[name] for name in _REQUEST_IDS if name in answer.headers), "")
    return cls(
        operation,
        status_code=answer.status,
        message=_redirect(answer) or cleaned("; ".join(dict.fromkeys(found)) or body, 300),
        body=cleaned(body, 2000),
        request_id=cleaned(_redacted(request_id, secrets), 64),
    )


def _redirect(answer: Answer) -> str:
    """Describe the target of a redirect without its path, which can contain the id of a session."""
    location = answer.headers.get("Location", "")
    if not (300 <= answer.status < 400 and location):
        return ""
    host = re.match(r"(?:https?:)?//([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:]+\])(?=[:/?#]|$)", location)
    slash = " with a slash at its end" if location.endswith("/") else ""
    return f"a redirect to {host[1] if host else 'another path'}{slash}, which is not followed"


@sensitive_variables()
def _redacted(value: Any, secrets: Sequence[str], levels: int = 30) -> Any:
    """Return a copy without the secrets, which a refusal may quote with any escaping."""
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, "<hidden>")
        # Without the lookbehinds, long strings would take quadratic time here and in `cleaned`.
        code = r"(?<!\\)\\+u([0-9a-fA-F]{4})"
        unescaped = re.sub(code, lambda found: chr(int(found[1], 16)), value)
        forms = (unescaped, unescaped.replace("\\", ""), unquote(value), html.unescape(value))
        return "<hidden>" if any(secret in form for form in forms for secret in secrets) else value
    if not levels and isinstance(value, dict | list):
        return "…"
    if isinstance(value, list):
        return [_redacted(item, secrets, levels - 1) for item in value]
    if isinstance(value, dict):
        return {
            _redacted(key, secrets): _redacted(item, secrets, levels - 1)
            for key, item in value.items()
        }
    return value


def _messages(data: Any, label: str = "", *, top: bool = False) -> Iterator[str]:
    """Yield the messages of an error, each with the invalid field of the request."""
    if isinstance(data, str) and data.strip():
        yield f"{label}: {data.strip()}" if label else data.strip()
    elif isinstance(data, list):
        for item in data:
            yield from _messages(item, label)
    elif isinstance(data, dict):
        named = _lowered(data)
        path = next((named[name] for name in _FIELDS if named.get(name)), label)
        path = ".".join(map(str, path)) if isinstance(path, list) else str(path)
        texts = [named[name] for name in _TEXTS if named.get(name)]
        for item in texts:
            yield from _messages(item, path)
        if not texts and not top:
            # A mapping from the fields of the request to their messages.
            for name, item in data.items():
                yield from _messages(item, name)


def _lowered(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with its names in lower case, because `Message` is also common."""
    return {name.lower(): value for name, value in data.items()}


def _decoded(body: bytes) -> str:
    """Return the text of a body in any encoding that JSON may have."""
    return body.decode(json.detect_encoding(body), "replace")


def cleaned(text: str, length: int) -> str:
    """Shorten a string of the server; remove control characters, addresses and session ids."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+", " ", text[: length * 4])
    # In JSON that cannot be parsed a slash may be escaped.
    text = re.sub(
        r"https?:(\\?/){2}[^\s\"']+|embed_session_[\w-]+|\bembeds(\\?/|%2F)[\w-]+", "<hidden>", text
    )
    at = r"(@|%40|&#64;|\\u0040)"
    part = r"[^\s@<>\"']"
    text = re.sub(rf"(?<!{part}){part}+{at}{part}+", "<e-mail>", text).strip()
    return text if len(text) <= length else f"{text[: length - 1]}…"


def stated_errors(answer: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Return the errors in fields with these names of a successful response."""
    named = _lowered(answer)
    return [named[name] for name in names if named.get(name)]


@sensitive_variables()
def explained(
    error: ExamplaryResponseError, answer: Answer, *, secrets: Sequence[str], creates: str
) -> ExamplaryResponseError:
    """Add the error messages of an unusable success, and the id of a created object."""
    # The name of a field may be a secret, too.
    text = _redacted(str(error), secrets)
    is_json = False
    with suppress(ValueError, RecursionError):
        data = _redacted(json.loads(answer.body), secrets)
        is_json = True
        stated = stated_errors(data, _STATEMENTS) if isinstance(data, dict) else []
        if texts := "; ".join(dict.fromkeys(_messages(stated))):
            text += f" Its message: {cleaned(texts, 300)}"
    shown = created_id(answer, creates) if creates else ""
    return ExamplaryResponseError(text, examplary_id=shown, is_json=is_json)


@sensitive_variables()
def created_id(answer: Answer, prefix: str) -> str:
    """Return the id of the created object, if the body or the Location header contains one.

    A refusal may contain the id of the existing object. An id with another prefix is returned only
    for a success that does not look like an embed session, whose id is a secret.
    """
    text = f"{answer.headers.get('Location', '')}\n{_decoded(answer.body)}"
    name, known = prefix.rstrip("_"), f"({prefix}[A-Za-z0-9_-]{{1,250}})"
    patterns = [
        rf'"(?i:{name}(?:_?id)?)"\s*:\s*"{known}"',
        rf'"(?i:_?id)"\s*:\s*"{known}"',
        # Exclude error codes such as user_already_exists.
        rf"\b(?=\w*(?:\d|[a-z][A-Z])){known}",
    ]
    if answer.status < 300 and not re.search(r"embed_?(session|url)", text, re.IGNORECASE):
        patterns.append(r'"(?i:_?id)"\s*:\s*"?([A-Za-z0-9_-]{1,255})"?\s*[,}]')
    for pattern in patterns:
        found = set(re.findall(pattern, text))
        if found:
            return found.pop() if len(found) == 1 else ""
    return ""
