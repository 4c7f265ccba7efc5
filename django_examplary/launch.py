"""The launch request: what a page's author decided, signed so that the browser cannot change it.

The template tag signs one, the launch view reads it back. A token is signed, not encrypted: the
user it names can read its presets and metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from django.core import signing

from django_examplary.data import UNSTORABLE, is_storable
from django_examplary.exceptions import ExamplaryValidationError, InvalidLaunchToken
from django_examplary.origins import is_local_path

Mode = Literal["frame", "redirect"]

#: Servers cap a request line at about 4,000 bytes; this leaves room for the rest of the URL.
MAX_TOKEN_LENGTH = 3000

_LAUNCH_SALT = "django_examplary.launch"
_RETURN_SALT = "django_examplary.return"


@dataclass(frozen=True, kw_only=True)
class LaunchRequest:
    """One embed on one page, for one user.

    `presets` and `theme` have the API's names. With `session_id` the request is for that stored
    session and everything else but `user_id` is ignored. Requests that differ in `nonce` alone do
    not share a session.
    """

    user_id: str
    flow: str = ""
    presets: Mapping[str, Any] = field(default_factory=dict)
    theme: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    next_url: str = ""
    mode: Mode = "frame"
    grant_access: bool = False
    nonce: str = ""
    session_id: str = ""

    def __post_init__(self) -> None:
        if self.next_url and not is_local_path(self.next_url):
            raise ExamplaryValidationError("next", "must be a path on this site, such as '/exams/'")
        if not all(isinstance(text, str) for item in self.metadata.items() for text in item):
            raise ExamplaryValidationError("metadata", "must be a flat mapping of texts to texts")
        for name in ("presets", "theme", "metadata", "next_url"):
            if not is_storable(getattr(self, name)):
                raise ExamplaryValidationError(name.removesuffix("_url"), UNSTORABLE)

    def sign(self) -> str:
        """Return the token for the launch URL.

        Raises ExamplaryValidationError when it would not fit into one.
        """
        values = {key: value for key, value in vars(self).items() if value}
        try:
            token = signing.dumps(values, salt=_LAUNCH_SALT)
            if len(token) > MAX_TOKEN_LENGTH:
                # Not sooner: it takes as long as all the rest.
                token = signing.dumps(values, salt=_LAUNCH_SALT, compress=True)
        except TypeError as error:
            raise ExamplaryValidationError("presets", f"cannot be sent: {error}") from error
        if len(token) > MAX_TOKEN_LENGTH:
            raise ExamplaryValidationError(
                "presets",
                f"make a launch token of {len(token)} characters, and {MAX_TOKEN_LENGTH} is the "
                "most a URL can hold: open the session in the view with services.open_session() "
                "and give it to the tag instead",
            )
        return token

    @classmethod
    def unsign(cls, token: str, *, max_age: int) -> Self:
        """Read a token back. Raises InvalidLaunchToken if it is not ours or older than `max_age`
        seconds."""
        try:
            return cls(**signing.loads(token, salt=_LAUNCH_SALT, max_age=max_age))
        except (signing.BadSignature, TypeError, ExamplaryValidationError) as error:
            # Another release signed it, with an argument or a value that this one does not take.
            raise InvalidLaunchToken(str(error)) from error

    def fingerprint(self, origin: str) -> str:
        """Return what two launches must share to share a session: all that the API, or the user
        who finishes, could tell apart. Raises ExamplaryValidationError if it is not JSON."""
        facts = {**vars(self), "origin": origin}
        try:
            canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        except TypeError as error:
            raise ExamplaryValidationError("presets", f"cannot be sent: {error}") from error
        return hashlib.sha256(canonical.encode()).hexdigest()


def sign_return(session_id: str) -> str:
    """Return the reference that a `returnUrl` carries in its path."""
    return signing.Signer(salt=_RETURN_SALT).sign(session_id)


def unsign_return(reference: str) -> str:
    """Return the session's id. Raises InvalidLaunchToken if we did not sign the reference."""
    try:
        return signing.Signer(salt=_RETURN_SALT).unsign(reference)
    except signing.BadSignature as error:
        raise InvalidLaunchToken(str(error)) from error
