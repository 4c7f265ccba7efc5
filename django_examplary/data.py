"""The values that the API accepts and returns, with their conversion from camelCase.

Every class is frozen and has keyword-only arguments. `from_json` raises `ValueError`, naming the
field, if a response lacks a required field: an id, and the status of a session. Any other field
with an unexpected type counts as absent and is logged once. `raw` contains the whole response, so
that new fields can be read.
"""

from __future__ import annotations

import abc
import contextlib
import functools
import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self, get_args

from django.utils.dateparse import parse_datetime

from django_examplary.encoding import is_id, to_camel, to_snake
from django_examplary.exceptions import ExamplaryValidationError, ExamplaryWarning

logger = logging.getLogger("django_examplary")

WorkspaceRole = Literal["owner", "admin", "teacher", "student", "member"]
#: The workspace roles of end users; the others manage the workspace.
ActorRole = Literal["teacher", "student", "member"]
#: The most powerful first.
ContentRole = Literal["owner", "manager", "editor", "viewer", "participant"]
CONTENT_ROLES: tuple[ContentRole, ...] = get_args(ContentRole)

#: The documented outputs of all flows (contract, section 8).
OUTPUT_KEYS = ("examId", "question", "rubric")

# An old example of the API's documentation returns this name (contract, section 15).
_FORMER_FLOWS = {"generate-questions": "generate-exam"}

# The statuses of a session by meaning, in lower case. `pending`, `completed` and `cancelled` are
# documented; the others are plausible synonyms (contract, section 14).
PENDING = frozenset(
    {"pending", "created", "new", "open", "opened", "active", "started", "in_progress"}
)
COMPLETED = frozenset({"completed", "complete", "done", "finished", "succeeded", "success"})
CANCELLED = frozenset({"cancelled", "canceled"})
OVER = frozenset(
    {
        *("aborted", "archived", "closed", "deleted", "disabled", "ended", "error", "errored"),
        *("expired", "failed", "gone", "inactive", "invalid", "rejected", "removed", "revoked"),
        *("terminated", "timed_out", "timeout"),
    }
)


class Secret:
    """A string that is only readable as `value`.

    Error reports, error collectors, templates and exports show an empty string. JSON cannot encode
    it. It is equal to its string.
    """

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Secret) else other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "''"


@dataclass(frozen=True, kw_only=True)
class ActorProfile:
    """The fields of a Django user that `POST /users` receives."""

    email: str = field(repr=False)
    name: str = field(default="", repr=False)
    #: None selects `student` if the first flow is for students, else `teacher`.
    role: WorkspaceRole | None = None


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colour and language of an embed. `extra` accepts keys that are not documented."""

    primary_color: str = ""
    locale: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Reject values of a wrong type, and warn about undocumented values."""
        for name in ("primary_color", "locale"):
            if not isinstance(value := getattr(self, name), str):
                raise ExamplaryValidationError(f"theme.{name}", f"must be a string, not {value!r}")
        if self.primary_color and not re.fullmatch(
            r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", self.primary_color
        ):
            _warn(f"The theme's primary_color {self.primary_color!r} is not a hex colour")
        if self.extra:
            _warn(f"A theme has no documented key {', '.join(sorted(self.extra))}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Return the theme of a mapping in snake_case or camelCase."""
        known = {to_snake(key): value for key, value in values.items()}
        return cls(
            primary_color=known.pop("primary_color", ""),
            locale=known.pop("locale", ""),
            extra={to_camel(key): value for key, value in known.items()},
        )

    def to_json(self) -> dict[str, Any]:
        theme = {**self.extra, "primaryColor": self.primary_color, "locale": self.locale}
        return {key: value for key, value in theme.items() if value not in (None, "")}


@dataclass(frozen=True, kw_only=True)
class RemoteObject(abc.ABC):
    """An object of the API; `raw` is the whole response."""

    #: The required field of a response; if it is missing, an envelope is unwrapped.
    key: ClassVar[str] = "id"

    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    @abc.abstractmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return the object of a response. Raises ValueError, naming the field."""


@dataclass(frozen=True, kw_only=True)
class User(RemoteObject):
    """An Examplary user. Only `id` is certain to be present (contract, section 5)."""

    id: str
    email: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    #: Multiple roles are separated by commas.
    role: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=_identifier(data, "user_"),
            email=_text(data, "email"),
            name=_text(data, "name"),
            role=_label(data, "role"),
            raw=data,
        )


@dataclass(frozen=True, kw_only=True)
class EmbedSession(RemoteObject):
    """An embed session (contract, section 7). `id` and `embed_url` are secrets: both open it."""

    id: str = field(repr=False)
    #: In lower case; `canceled` and `complete` are converted to `cancelled` and `completed`.
    status: str
    flow: str = ""
    actor: str = ""
    embed_url: str = field(default="", repr=False)
    #: None if missing. A time without a time zone is in UTC.
    created_at: datetime | None = None
    expires_at: datetime | None = None
    #: Includes documented outputs that the API sent beside its `outputs`.
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        flow = re.sub(r"[\s_]+", "-", to_snake(_label(data, "flow")))
        status = re.sub(r"[\s-]+", "_", _label(data, "status").strip().lower())
        if not status:
            known = isinstance(data.get("status"), str | None)
            raise ValueError(f"status is {'missing' if known else 'not a string'}")
        if status in COMPLETED:
            status = "completed"
        elif status in CANCELLED:
            status = "cancelled"
        return cls(
            id=_identifier(data, "embed_session_"),
            status=status,
            flow=_FORMER_FLOWS.get(flow, flow),
            actor=_label(data, "actor", names=("id",)),
            embed_url=_text(data, "embedUrl"),
            created_at=_timestamp(data, "createdAt"),
            expires_at=_timestamp(data, "expiresAt"),
            outputs=_outputs(data),
            raw=data,
        )

    @property
    def is_pending(self) -> bool:
        """Whether the user can still work in the embed."""
        return self.status in PENDING

    @property
    def is_completed(self) -> bool:
        return self.status == "completed"

    @property
    def is_cancelled(self) -> bool:
        return self.status == "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether the session ended in another way, for example `expired`, `failed` or `deleted`.

        A status for which all four properties are False is unknown.
        """
        return self.status in OVER

    @property
    def is_final(self) -> bool:
        """Whether the session has ended in any of these ways."""
        return self.is_completed or self.is_cancelled or self.is_over


@dataclass(frozen=True, kw_only=True)
class Exam(RemoteObject):
    """An exam in Examplary's own format, which is not documented: see `raw`."""

    id: str
    name: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(id=_identifier(data), name=_text(data, "name"), raw=data)


@dataclass(frozen=True, kw_only=True)
class Export(RemoteObject):
    """The location of an exported exam."""

    key = "url"

    #: It may work without an API key.
    url: str = field(repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if url := _text(data, "url"):
            return cls(url=url, raw=data)
        raise ValueError("url is missing")


@dataclass(frozen=True, kw_only=True)
class Permission(RemoteObject):
    """The role of one actor on one exam or space (contract, section 6)."""

    key = "role"

    actor: str
    #: The highest of several roles.
    role: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        label = _label(data, "role")
        if not label:
            raise ValueError("role is missing")
        named = label.lower().split(",")
        role = next((role for role in CONTENT_ROLES if role in named), label)
        # Older examples have a plain id, newer ones an object.
        return cls(actor=_label(data, "actor", names=("id",)), role=role, raw=data)

    def covers(self, role: ContentRole) -> bool:
        """Return whether this role includes another; an unknown role includes none."""
        roles: Sequence[str] = CONTENT_ROLES
        return self.role in roles and roles.index(self.role) <= roles.index(role)


@dataclass(frozen=True, kw_only=True)
class PracticeSpace(RemoteObject):
    """A practice space; only its id is known."""

    id: str

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(id=_identifier(data, "space_"), raw=data)


@dataclass(frozen=True, kw_only=True)
class SourceMaterial(RemoteObject):
    """A source material (contract, section 12)."""

    id: str
    name: str = ""
    external_id: str = ""
    processing_status: str = ""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=_identifier(data),
            name=_text(data, "name"),
            external_id=_text(data, "externalId"),
            processing_status=_text(data, "processingStatus").lower(),
            raw=data,
        )

    @property
    def is_processed(self) -> bool:
        """Whether Examplary has finished processing, with or without success."""
        return self.processing_status in ("completed", "failed")


def _warn(message: str) -> None:
    warnings.warn(f"{message}; sent unchanged.", ExamplaryWarning, stacklevel=4)


@functools.lru_cache(maxsize=256)
def _report_shape(key: str, kind: str) -> None:
    """Log a field with an unexpected type, once per process."""
    logger.warning("operation='read response' outcome=unexpected-shape field=%s type=%s", key, kind)


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    if isinstance(value, str):
        return value
    if value is not None:
        _report_shape(key, type(value).__name__)
    return ""


def _label(
    data: Mapping[str, Any],
    key: str,
    *,
    names: Sequence[str] = ("id", "slug", "code", "state", "status", "value", "name"),
) -> str:
    """Return a field that names something: a string, a list of strings, or an object with an id."""
    value = data.get(key)
    if isinstance(value, dict):
        value = next((value[name] for name in names if value.get(name)), value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return _text({key: value}, key)


def _identifier(data: Mapping[str, Any], prefix: str = "") -> str:
    value = data.get("id")
    if not isinstance(value, str) or not value:
        raise ValueError("id is missing" if value in (None, "") else "id is not a string")
    if not is_id(value, prefix):
        raise ValueError(f"id is not an identifier{f' that starts with {prefix}' * bool(prefix)}")
    return value


def _outputs(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the outputs, wherever the API puts them."""
    found = {key: data[key] for key in OUTPUT_KEYS if isinstance(data.get(key), str | dict)}
    for key in ("results", "result", "output", "outputs"):
        value = data.get(key)
        if isinstance(value, str):
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(value)
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            found |= {k: v for k, v in value.items() if v is not None or k not in found}
        elif value not in (None, []):
            _report_shape(key, type(value).__name__)
    return found


def _timestamp(data: Mapping[str, Any], key: str) -> datetime | None:
    """Return an ISO 8601 time, or one in seconds or milliseconds since 1970."""
    value = data.get(key)
    moment: datetime | None = None
    with contextlib.suppress(ValueError, OverflowError, OSError):
        if isinstance(value, str) and re.fullmatch(r"\d{9,13}(\.\d+)?", value):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            # In seconds this would be the year 5138.
            moment = datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        else:
            moment = parse_datetime(_text(data, key))
    # Earlier times are durations or placeholders.
    if moment is None or moment.year < 2000:
        if value not in (None, ""):
            _report_shape(key, "not a time")
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)
