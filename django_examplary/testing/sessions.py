"""Embed sessions and the flows they launch (sections 7 to 9 of the contract)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

from django_examplary.testing.rules import CONTENT_ROLES, Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The properties of a flow."""

    completes: bool = True
    cancels: bool = True
    # The preset with the id of the content, and the lowest role on it that the actor needs.
    content: str | None = None
    role: str = ""

    def allows(self, role: str | None) -> bool:
        """Return whether an actor with this content role may use the flow."""
        return role in CONTENT_ROLES[: CONTENT_ROLES.index(self.role) + 1]


FLOWS = {
    "generate-exam": Flow(),
    "generate-question": Flow(),
    "edit-rubric": Flow(cancels=False),
    # Its presets are unknown, so access is only checked if the caller passes an exam.
    "mark-answer": Flow(content="examId", role="editor"),
    "edit-exam": Flow(completes=False, cancels=False, content="examId", role="editor"),
    "take-exam": Flow(cancels=False, content="examId", role="participant"),
    "practice-space-student": Flow(
        completes=False, cancels=False, content="practiceSpaceId", role="participant"
    ),
}


def timestamp(moment: datetime) -> str:
    """Return a time in the format of the API: UTC, milliseconds, a final Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(kw_only=True, slots=True)
class Session:
    """An embed session, with fields that its JSON doesn't have."""

    id: str
    token: str = field(repr=False)
    embed_url: str = field(repr=False)
    flow: str
    actor: str
    presets: Json = field(default_factory=dict)
    theme: Json = field(default_factory=dict)
    metadata: Json = field(default_factory=dict)
    return_url: str | None = None
    allowed_origin: str | None = None
    created_at: datetime
    expires_at: datetime
    status: str = "pending"
    outputs: Json = field(default_factory=dict)
    revoked: bool = False
    # Number of reads since the session completed.
    reads: int = 0
    # The values that the user typed into the embed page. Not part of the API.
    answers: Json = field(default_factory=dict)

    @property
    def shows_done(self) -> bool:
        """Whether the embed page offers a way to finish (section 9.3)."""
        return FLOWS[self.flow].completes and self.presets.get("showDoneButton") is not False

    @property
    def locale(self) -> str:
        """The language of the theme, if set."""
        locale: str = self.theme.get("locale", "")
        return locale

    def as_json(self) -> Json:
        """Return the documented embed session object."""
        modes = {"return_url": self.return_url, "post_message": self.allowed_origin}
        return {
            "id": self.id,
            "status": self.status,
            "embedUrl": self.embed_url,
            "flow": self.flow,
            "actor": self.actor,
            "enabledResponseModes": [mode for mode, target in modes.items() if target],
            "createdAt": timestamp(self.created_at),
            "expiresAt": timestamp(self.expires_at),
            "presets": self.presets,
            "outputs": self.outputs,
            "theme": self.theme,
            "metadata": self.metadata,
        }

    def redirect_url(self, *, keep_query: bool) -> str | None:
        """Return the URL that the browser is redirected to with the result (section 8), or None."""
        if self.return_url is None:
            return None
        result = {"status": self.status} | {
            name: output if isinstance(output, str) else json.dumps(output, separators=(",", ":"))
            for name, output in self.outputs.items()
        }
        parts = urlsplit(self.return_url)
        query = urlencode(result)
        if keep_query and parts.query:
            query = f"{parts.query}&{query}"
        return urlunsplit(parts._replace(query=query))
