"""The launch: the options of an embed, signed so that the browser cannot change them.

The template tag signs a launch, and the launch view verifies it. A token is signed, not
encrypted: the user it names can read its presets and metadata.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal, Self, get_args

from django.core import signing

from django_examplary.encoding import UNSTORABLE, is_storable
from django_examplary.exceptions import ExamplaryValidationError, InvalidLaunchToken
from django_examplary.flows import Flow, get_flow
from django_examplary.origins import is_local_path

Mode = Literal["frame", "window"]

#: Servers limit a request line to about 4,000 bytes. The rest of the URL needs some of them.
MAX_TOKEN_LENGTH = 3000

#: Seconds after which an unused one-time link expires.
TICKET_MAX_AGE = 300

_LAUNCH_SALT = "django_examplary.launch"
_REPORT_SALT = "django_examplary.report"
_RETURN_SALT = "django_examplary.return"


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One embed on one page, for one user.

    `theme` has the names of the API. `origin` is that of this site: an embed in a frame reports to
    it, and the browser returns to it from a whole window. `language` is the Django language code of
    the page. With `session_id` the launch opens that stored session, and the token only contains
    the user, the session and the language. Launches with different `nonce` do not share a session.
    `ticket` makes the token a one-time link: it is the time of `new_ticket()`, and `credentials`
    ends the link when the user gets a new password.

    Raises ExamplaryValidationError naming the argument.
    """

    user_id: str
    flow: Flow | None = None
    theme: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    next_url: str = ""
    origin: str = ""
    mode: Mode = "frame"
    grant_access: bool = False
    once: bool = False
    nonce: str = ""
    language: str = ""
    session_id: str = ""
    ticket: int = 0
    credentials: str = ""

    def __post_init__(self) -> None:
        if self.next_url and not is_local_path(self.next_url):
            raise ExamplaryValidationError("next", "must be a path on this site, such as '/exams/'")
        # Templates may pass any type.
        metadata: Any = self.metadata
        if not isinstance(metadata, Mapping) or not all(
            isinstance(text, str) for item in metadata.items() for text in item
        ):
            raise ExamplaryValidationError("metadata", "must be a flat mapping of strings")
        # A flow refuses such presets itself.
        for name in ("theme", "metadata", "next_url"):
            if not is_storable(self._facts[name]):
                raise ExamplaryValidationError(name.removesuffix("_url"), UNSTORABLE)

    def sign(self) -> str:
        """Return the token for the launch URL.

        Raises ExamplaryValidationError if the token would be too long for a URL.
        """
        facts = {name: value for name, value in self._facts.items() if value}
        token = signing.dumps(facts, salt=_LAUNCH_SALT)
        if len(token) > MAX_TOKEN_LENGTH:
            # Compress only if necessary, because compression is slow.
            token = signing.dumps(facts, salt=_LAUNCH_SALT, compress=True)
        if len(token) > MAX_TOKEN_LENGTH:
            raise ExamplaryValidationError(
                "presets",
                f"make a launch token of {len(token)} characters; a URL holds {MAX_TOKEN_LENGTH}. "
                "Open the session in the view with services.open_session() and pass it to the tag",
            )
        return token

    @classmethod
    def unsign(cls, token: str, *, max_age: int) -> Self:
        """Verify and parse a token.

        Raises InvalidLaunchToken if it was not signed by this site, or more than `max_age` seconds
        ago; a one-time link also if that was more than TICKET_MAX_AGE seconds ago.
        """
        try:
            facts = signing.loads(token, salt=_LAUNCH_SALT, max_age=max_age)
            if "ticket" in facts:
                signing.loads(token, salt=_LAUNCH_SALT, max_age=TICKET_MAX_AGE)
            if slug := facts.pop("flow", ""):
                facts["flow"] = get_flow(slug, facts.pop("presets", {}))
            return cls(**facts)
        except (signing.BadSignature, TypeError, ExamplaryValidationError) as error:
            # Signed by another release, with an argument or a value that this one does not accept.
            raise InvalidLaunchToken(str(error)) from error

    @cached_property
    def key(self) -> str:
        """Identify the session of this launch among the sessions of its user.

        Two launches share a session if they are equal for the API and for the user at the end.
        The key of a launch of a stored session is the id of that session.
        """
        if self.session_id:
            return self.session_id
        facts = {**self._facts, "language": "", "ticket": 0, "credentials": ""}
        canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def keys(self) -> set[str]:
        """Return the keys of this launch in a frame and in a whole window."""
        return {replace(self, mode=mode).key for mode in get_args(Mode)}

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        facts["flow"] = self.flow.slug if self.flow else ""
        facts["presets"] = self.flow.presets if self.flow else {}
        # Templates pass None, or an empty string for an undefined variable. The token omits both,
        # so the key must not depend on them.
        facts |= {"grant_access": bool(self.grant_access), "once": bool(self.once)}
        return facts


_links = itertools.count()


def new_ticket() -> int:
    """Return the time in nanoseconds, which distinguishes the one-time links of a launch.

    Values are unique in a process, even if a test has stopped the clock.
    """
    return time.time_ns() + next(_links)


def one_time_options(user: Any) -> dict[str, Any]:
    """Return the arguments that make a launch of the user a one-time link."""
    return {"ticket": new_ticket(), "credentials": credentials_of(user)[0]}


def credentials_of(user: Any) -> list[str]:
    """Return digests that a new password changes, like those in Django's sessions.

    The first is of SECRET_KEY, and the others of SECRET_KEY_FALLBACKS. It is empty for a user
    without a password, such as one that a JSON Web Token describes.
    """
    if not hasattr(user, "get_session_auth_hash"):
        return [""]
    former: Iterable[str] = getattr(user, "get_session_auth_fallback_hash", list)()
    hashes = [user.get_session_auth_hash(), *former]
    return [hashlib.sha256(each.encode()).hexdigest()[:16] for each in hashes]


def sign_report(launch: Launch) -> str:
    """Return the token that identifies the launch's session for a page without a session cookie."""
    return signing.dumps([launch.user_id, launch.key, launch.credentials], salt=_REPORT_SALT)


def unsign_report(token: str, *, max_age: int) -> tuple[str, str, str]:
    """Return the id of the user, the key of the launch, and the digest of the user's password.

    Raises InvalidLaunchToken if it was not signed by this site, or more than `max_age` seconds ago.
    """
    try:
        user_id, key, credentials = signing.loads(token, salt=_REPORT_SALT, max_age=max_age)
    except signing.BadSignature as error:
        raise InvalidLaunchToken(str(error)) from error
    return user_id, key, credentials


def sign_return(session_id: str) -> str:
    """Return the reference that a `returnUrl` carries in its path."""
    return signing.Signer(salt=_RETURN_SALT).sign(session_id)


def unsign_return(reference: str) -> str:
    """Return the session's id. Raises InvalidLaunchToken if this site did not sign it."""
    try:
        return signing.Signer(salt=_RETURN_SALT).unsign(reference)
    except signing.BadSignature as error:
        raise InvalidLaunchToken(str(error)) from error
