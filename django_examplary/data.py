"""What the API takes and gives, as values. The wire's camelCase is translated here, once.

Every class is frozen and takes keywords only. `from_json` raises `ValueError` naming the field when
an answer lacks what the contract promises. Whatever the contract leaves open is optional, and `raw`
keeps the answer whole, so that a field added tomorrow can be read today.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Self

from django.utils.dateparse import parse_datetime

from django_examplary.exceptions import ExamplaryValidationError, ExamplaryWarning

WorkspaceRole = Literal["owner", "admin", "teacher", "student", "member"]
#: The workspace roles of those whom embeds are for; the others manage the workspace.
ActorRole = Literal["teacher", "student", "member"]
ContentRole = Literal["owner", "manager", "editor", "viewer", "participant"]

#: Content roles, the mightiest first.
CONTENT_ROLES: tuple[ContentRole, ...] = ("owner", "manager", "editor", "viewer", "participant")

# An old example of the API's documentation has that name in an answer (contract, section 15).
_FORMER_FLOWS = {"generate-questions": "generate-exam"}


@functools.lru_cache(maxsize=512)
def to_camel(name: str) -> str:
    """`source_material_ids` -> `sourceMaterialIds`; camelCase stays as it is."""
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


@functools.lru_cache(maxsize=512)
def to_snake(name: str) -> str:
    """`sourceMaterialIds` -> `source_material_ids`; snake_case stays as it is."""
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


@dataclass(frozen=True, kw_only=True)
class ActorProfile:
    """What `POST /users` is told about a Django user."""

    email: str = field(repr=False)
    name: str = field(default="", repr=False)
    #: None: `student` when the actor is first needed for a student flow, else `teacher`.
    role: WorkspaceRole | None = None


@dataclass(frozen=True, kw_only=True)
class Theme:
    """Colour and language of an embed. `extra` takes keys that are not documented (yet)."""

    primary_color: str = ""
    locale: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what is no text, and warn of what the API is not known to take."""
        for name in ("primary_color", "locale"):
            if not isinstance(value := getattr(self, name), str):
                raise ExamplaryValidationError(f"theme.{name}", f"must be a text, not {value!r}")
        if self.primary_color and not re.fullmatch(
            r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})", self.primary_color
        ):
            _warn(f"The theme's primary_color {self.primary_color!r} is not a hex colour")
        if self.extra:
            _warn(f"A theme has no documented key {', '.join(sorted(self.extra))}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Read a theme in snake_case or camelCase."""
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
class User:
    """An Examplary user. Only `id` is certain to be there (contract, section 5)."""

    id: str
    email: str = field(default="", repr=False)
    name: str = field(default="", repr=False)
    role: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=_identifier(data, "user_"),
            email=_text(data, "email"),
            name=_text(data, "name"),
            role=_text(data, "role"),
            raw=data,
        )


@dataclass(frozen=True, kw_only=True)
class EmbedSession:
    """An embed session (contract, section 7). `id` and `embed_url` are secrets: both open it."""

    id: str = field(repr=False)
    status: str
    flow: str
    actor: str = ""
    embed_url: str = field(default="", repr=False)
    #: None when the API sent none, or one without a time zone.
    created_at: datetime | None = None
    expires_at: datetime | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict, repr=False)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        outputs = data.get("outputs") or {}
        if not isinstance(outputs, dict):
            raise ValueError("outputs is not an object")
        flow = _text(data, "flow", required=True)
        return cls(
            id=_identifier(data, "embed_session_"),
            status=_text(data, "status", required=True),
            flow=_FORMER_FLOWS.get(flow, flow),
            actor=_text(data, "actor"),
            embed_url=_text(data, "embedUrl"),
            created_at=_timestamp(data, "createdAt"),
            expires_at=_timestamp(data, "expiresAt"),
            outputs=outputs,
            raw=data,
        )


@dataclass(frozen=True, kw_only=True)
class Exam:
    """An exam in Examplary's own format, which is not documented: see `raw`."""

    id: str
    name: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(id=_identifier(data), name=_text(data, "name"), raw=data)


@dataclass(frozen=True, kw_only=True)
class Permission:
    """What one actor may do with one exam or space (contract, section 6)."""

    actor: str
    role: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        actor = data.get("actor")
        # Older material shows the id alone where newer has an object.
        return cls(
            actor=_text(actor if isinstance(actor, dict) else {"id": actor}, "id", required=True),
            role=_text(data, "role", required=True),
            raw=data,
        )

    def covers(self, role: ContentRole) -> bool:
        """Whether this role includes the other; one that we do not know includes none."""
        roles: Sequence[str] = CONTENT_ROLES
        return self.role in roles and roles.index(self.role) <= roles.index(role)


@dataclass(frozen=True, kw_only=True)
class PracticeSpace:
    """A practice space; only its id is known."""

    id: str
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(id=_identifier(data, "space_"), raw=data)


@dataclass(frozen=True, kw_only=True)
class SourceMaterial:
    """A source material (contract, section 12)."""

    id: str
    name: str = ""
    external_id: str = ""
    processing_status: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=_identifier(data),
            name=_text(data, "name"),
            external_id=_text(data, "externalId"),
            processing_status=_text(data, "processingStatus"),
            raw=data,
        )

    @property
    def is_processed(self) -> bool:
        """Whether Examplary is done with it, be it in vain."""
        return self.processing_status in ("completed", "failed")


def _warn(message: str) -> None:
    warnings.warn(f"{message}; sent as it is.", ExamplaryWarning, stacklevel=4)


def _text(data: Mapping[str, Any], key: str, *, required: bool = False) -> str:
    value = data.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise ValueError(f"{key} is not a text")
    return value


def _identifier(data: Mapping[str, Any], prefix: str = "") -> str:
    value = _text(data, "id", required=True)
    if not re.fullmatch(rf"{prefix}[A-Za-z0-9_-]{{1,{255 - len(prefix)}}}", value):
        raise ValueError(f"id is not an identifier{f' that starts with {prefix}' * bool(prefix)}")
    return value


def _timestamp(data: Mapping[str, Any], key: str) -> datetime | None:
    try:
        moment = parse_datetime(_text(data, key))
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo else None
