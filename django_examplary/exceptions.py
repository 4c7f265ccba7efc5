"""The exceptions of this package, as one tree:

    ExamplaryError                        catch this: every failure at run time
    ├─ ExamplaryValidationError           a preset, theme or profile that the API would refuse
    ├─ ExamplaryConnectionError           no usable response; `sent`: the request may have arrived
    │  └─ ExamplaryTimeoutError           ... within the deadline
    ├─ ExamplaryUnavailableError          not sent: the API failed several times a moment ago
    ├─ ExamplaryResponseError             a response that cannot be read or trusted
    │  └─ ExamplaryEmbedURLError          ... because of its embed URL, e.g. an unlisted origin
    ├─ ExamplaryAPIError                  the API refused: status_code, message, body
    │  ├─ ExamplaryInvalidRequestError    400, 422
    │  │  ├─ ExamplaryActorIsOwnerError   documented 400: the actor owns the API key
    │  │  └─ ExamplaryActorNotFoundError  documented 400: the actor is not in the workspace
    │  ├─ ExamplaryAuthenticationError    401
    │  ├─ ExamplaryPermissionError        402, 403, 405, 415, 451
    │  ├─ ExamplaryNotFoundError          404, 410
    │  ├─ ExamplaryConflictError          409
    │  ├─ ExamplaryRateLimitError         429: retry_after
    │  └─ ExamplaryServerError            5xx
    ├─ ExamplaryNotProvisionedError       the user has no actor and cannot get one now
    ├─ ExamplaryAccessError               the actor may not use the exam or the space
    ├─ ExamplaryNotReadyError             another request is in progress; try again in a moment
    ├─ ExamplaryBusyError                 the user has opened too many sessions
    ├─ ExamplaryDatabaseError             the database could not store a row
    └─ ExamplarySessionEndedError         the session has ended and cannot be opened again
    ExamplaryConfigurationError           a setting to fix; an ImproperlyConfigured, not in the tree
    InvalidLaunchToken                    a SuspiciousOperation; the views return 400 or 404
    ExamplaryWarning                      a UserWarning: an unknown value is sent unchanged

The text of these errors never contains an API key, an embed URL, a remote session id or an e-mail
address. Messages of the server are shortened and cleaned first.
"""

from __future__ import annotations

import copyreg
import traceback
from typing import Any, TypeVar

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation


class ExamplaryError(Exception):
    """Base of every run-time failure of this package."""


class ExamplaryValidationError(ExamplaryError, ValueError):
    """A value that Examplary would refuse, detected before a request is sent."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class ExamplaryConnectionError(ExamplaryError):
    """No usable response was received.

    `sent` is whether the request may have reached the API: a POST that was sent may have taken
    effect.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class ExamplaryTimeoutError(ExamplaryConnectionError):
    """No byte came within EXAMPLARY_TIMEOUT, or no whole response by the deadline of the call."""


class ExamplaryUnavailableError(ExamplaryError):
    """The request was not sent, because several calls failed in a row a moment ago."""


class ExamplaryResponseError(ExamplaryError):
    """A successful response that cannot be read or trusted; the call may have taken effect.

    `examplary_id` is the id of the created user, exam, space or material if the response shows one;
    an operator can link that user. It is never the id of an embed session. `is_json` is whether the
    response is JSON, so that it comes from the API and not from a proxy, but is not what the call
    expects.
    """

    def __init__(self, message: str, *, examplary_id: str = "", is_json: bool = False) -> None:
        super().__init__(message)
        self.examplary_id = examplary_id
        self.is_json = is_json


class ExamplaryEmbedURLError(ExamplaryResponseError):
    """An embed URL that is not safe to put into a frame. `origin` is its origin, if it has one."""

    def __init__(self, message: str, *, origin: str = "") -> None:
        super().__init__(message)
        self.origin = origin


class ExamplaryAPIError(ExamplaryError):
    """The API refused.

    `status_code` is the HTTP status. `message` contains the error messages of the response
    (cleaned, at most 300 characters), `body` its start, `request_id` the id that the server sent,
    and `retry_after` the wait in seconds that a 429 or 503 requests. `examplary_id` is the id that
    the refusal of a creation shows, which may be that of an object that exists already.
    """

    retry_after: float | None = None
    examplary_id: str = ""

    def __init__(
        self,
        operation: str,
        *,
        status_code: int,
        message: str = "",
        body: str = "",
        request_id: str = "",
    ) -> None:
        super().__init__(operation)
        self.operation = operation
        self.status_code = status_code
        self.message = message
        self.body = body
        self.request_id = request_id

    def __str__(self) -> str:
        text = f"{self.operation} was answered with {self.status_code}"
        if self.message:
            text += f": {self.message}"
        if self.request_id:
            text += f" (request {self.request_id})"
        return text

    def __reduce__(self) -> tuple[Any, ...]:
        # The keyword arguments are in `__dict__`.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not in typeshed


class ExamplaryInvalidRequestError(ExamplaryAPIError):
    """400 or 422: the request itself is wrong."""


class ExamplaryActorIsOwnerError(ExamplaryInvalidRequestError):
    """The actor is the user who owns the API key. Never retried."""


class ExamplaryActorNotFoundError(ExamplaryInvalidRequestError):
    """The actor is not a user of the key's workspace, or no longer one."""


class ExamplaryAuthenticationError(ExamplaryAPIError):
    """401: the API key is not accepted."""


class ExamplaryPermissionError(ExamplaryAPIError):
    """402, 403, 405, 415 or 451: the key, its owner or the workspace is not allowed to do this.

    Sending the same request again has the same result.
    """


class ExamplaryNotFoundError(ExamplaryAPIError):
    """404 or 410."""


class ExamplaryConflictError(ExamplaryAPIError):
    """409."""


class ExamplaryRateLimitError(ExamplaryAPIError):
    """429: `retry_after` is the wait in seconds that the API requests, or None."""


class ExamplaryServerError(ExamplaryAPIError):
    """5xx: a call that creates something may have taken effect."""


class ExamplaryNotProvisionedError(ExamplaryError):
    """The user has no Examplary actor and this call could not create one."""


class ExamplaryAccessError(ExamplaryError):
    """The user's actor lacks `role` on `resource`, the exam or the space that the flow needs."""

    def __init__(self, resource: str, role: str) -> None:
        super().__init__(resource, role)
        self.resource = resource
        self.role = role

    def __str__(self) -> str:
        return (
            f"The user lacks the role {self.role} on {self.resource}. Grant it with "
            "services.grant_access(), or pass grant_access=True to the embed."
        )


class ExamplaryNotReadyError(ExamplaryError):
    """Another request prepares the same actor or session, or too many embeds wait; try again."""


class ExamplaryBusyError(ExamplaryError):
    """The user has opened EXAMPLARY_SESSIONS_PER_HOUR sessions within an hour."""


class ExamplaryDatabaseError(ExamplaryError):
    """The database could not store a row. The message names the constraint, and no values."""


class ExamplarySessionEndedError(ExamplaryError):
    """The session has ended; a new one must be opened."""


class ExamplaryWarning(UserWarning):
    """A flow, preset or theme that this release does not know; it is sent unchanged."""


class ExamplaryConfigurationError(ImproperlyConfigured):
    """A setting is missing or wrong. Intentionally not an ExamplaryError, to avoid catching it."""


class InvalidLaunchToken(SuspiciousOperation):
    """A launch token, or the reference of a return, that is not signed by this site or too old.

    The views of this package catch it: `launch` and `report` return 400 with a page that offers to
    reload, and `return` 404. Raised from your own view, Django returns 400 as for every
    SuspiciousOperation.
    """


E = TypeVar("E", bound=BaseException)


def without_frames(error: E) -> E:
    """Return the error without its traceback frames, whose variables contain secrets.

    Error collectors store the variables of frames. A note keeps the lines of the traceback.
    """
    lines = "".join(traceback.format_tb(error.__traceback__))
    error.add_note(f"Frames that are hidden because they hold secrets:\n{lines}")
    return error.with_traceback(None)
