"""What can go wrong, as one tree.

::

    ExamplaryError                        catch this: everything that can fail at run time
    ├─ ExamplaryValidationError           a preset, theme or profile that the API would refuse
    ├─ ExamplaryConnectionError           no usable answer; `sent` says if the request got out
    │  └─ ExamplaryTimeoutError           ... within the deadline
    ├─ ExamplaryUnavailableError          not asked: the API failed too often a moment ago
    ├─ ExamplaryResponseError             an answer that cannot be read or trusted
    │  └─ ExamplaryEmbedURLError          ... for its embed URL, of an unlisted origin, say
    ├─ ExamplaryAPIError                  an answer that says no: status_code, message, body
    │  ├─ ExamplaryInvalidRequestError    400, 422
    │  │  ├─ ExamplaryActorIsOwnerError   documented 400: the actor owns the API key
    │  │  └─ ExamplaryActorNotFoundError  documented 400: the actor is not in the workspace
    │  ├─ ExamplaryAuthenticationError    401
    │  ├─ ExamplaryPermissionError        403
    │  ├─ ExamplaryNotFoundError          404, 410
    │  ├─ ExamplaryConflictError          409
    │  ├─ ExamplaryRateLimitError         429: retry_after
    │  └─ ExamplaryServerError            5xx
    ├─ ExamplaryNotProvisionedError       the user has no actor, and cannot get one now
    ├─ ExamplaryAccessError               the actor may not use the exam or the space
    ├─ ExamplaryNotReadyError             another request is preparing the same thing
    ├─ ExamplaryBusyError                 a limit of this site: too many sessions, too many at once
    ├─ ExamplaryDatabaseError             the database could not store what the API created
    └─ ExamplarySessionEndedError         the session came to its end and cannot be opened again
    ExamplaryConfigurationError           ours to fix; an ImproperlyConfigured, outside the tree
    InvalidLaunchToken                    a SuspiciousOperation; our views answer 400 or 404
    ExamplaryWarning                      a UserWarning: something unknown is sent as it is

No text of these errors holds an API key, an embed URL, a remote session id or an e-mail address
of ours; server messages are shortened and cleaned before they get here.
"""

from __future__ import annotations

import copyreg
from typing import Any

from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation


class ExamplaryError(Exception):
    """Base of every run-time failure of this package."""


class ExamplaryValidationError(ExamplaryError, ValueError):
    """A value that Examplary would refuse, found before anything was sent."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class ExamplaryConnectionError(ExamplaryError):
    """No usable answer came.

    `sent` tells whether the request may have reached the API: a call that creates something and
    was sent may have taken effect.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class ExamplaryTimeoutError(ExamplaryConnectionError):
    """No answer came within EXAMPLARY_TIMEOUT, or not all of it by the deadline of the call."""


class ExamplaryUnavailableError(ExamplaryError):
    """The call was not made, because the API failed several times in a row a moment ago."""


class ExamplaryResponseError(ExamplaryError):
    """A successful answer that cannot be read or trusted: what was asked may have happened."""


class ExamplaryEmbedURLError(ExamplaryResponseError):
    """An embed URL that is not safe to put into a frame."""


class ExamplaryAPIError(ExamplaryError):
    """The API refused.

    `status_code` is the HTTP status, `message` what the API said (cleaned, at most 200
    characters), `body` the answer's start as text, `request_id` the server's if it sent one,
    `retry_after` the wait in seconds that a 429 or 503 asked for.
    """

    retry_after: float | None = None

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
        # Its keywords are in there too.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # not in typeshed


class ExamplaryInvalidRequestError(ExamplaryAPIError):
    """400 or 422: the request itself is wrong."""


class ExamplaryActorIsOwnerError(ExamplaryInvalidRequestError):
    """The actor is the user who owns the API key. Never retried."""


class ExamplaryActorNotFoundError(ExamplaryInvalidRequestError):
    """The actor is not a user of the key's workspace (any more)."""


class ExamplaryAuthenticationError(ExamplaryAPIError):
    """401: the API key is not accepted."""


class ExamplaryPermissionError(ExamplaryAPIError):
    """403: the key, its owner or the workspace may not do this."""


class ExamplaryNotFoundError(ExamplaryAPIError):
    """404 or 410."""


class ExamplaryConflictError(ExamplaryAPIError):
    """409."""


class ExamplaryRateLimitError(ExamplaryAPIError):
    """429: `retry_after` is the wait in seconds that the API asked for, or None."""


class ExamplaryServerError(ExamplaryAPIError):
    """5xx: a call that creates something may have taken effect."""


class ExamplaryNotProvisionedError(ExamplaryError):
    """The user has no Examplary actor and this call could not make one."""


class ExamplaryAccessError(ExamplaryError):
    """The user's actor lacks `role` on `resource`, the exam or the space that the flow needs."""

    def __init__(self, resource: str, role: str) -> None:
        super().__init__(resource, role)
        self.resource = resource
        self.role = role

    def __str__(self) -> str:
        return (
            f"The user is not {self.role} of {self.resource} or more. Give the permission with "
            "services.grant_access(), or let the embed do so with grant_access=True."
        )


class ExamplaryNotReadyError(ExamplaryError):
    """Another request is preparing the same actor or session; try again in a moment."""


class ExamplaryBusyError(ExamplaryError):
    """A limit of this site was reached: sessions of a user within an hour, or launches at once."""


class ExamplaryDatabaseError(ExamplaryError):
    """The database could not store a row. The message names the constraint, and no values."""


class ExamplarySessionEndedError(ExamplaryError):
    """The session came to its end; a new one must be opened."""


class ExamplaryWarning(UserWarning):
    """A flow, preset or theme that this release does not know; it is sent as it is."""


class ExamplaryConfigurationError(ImproperlyConfigured):
    """A setting is missing or wrong. Deliberately not an ExamplaryError: never swallow it."""


class InvalidLaunchToken(SuspiciousOperation):
    """A launch token that we did not sign, or that is too old; or the reference of a return.

    Our views catch it: `launch` answers 400, with a page that says to reload, the others 404.
    Out of a view of your own Django answers it with 400, as every SuspiciousOperation.
    """
