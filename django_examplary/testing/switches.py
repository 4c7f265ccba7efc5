"""The behaviours of a workspace that the contract leaves open, one attribute each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True, eq=False, repr=False)
class Switches:
    """Attributes that a test may pass to the constructor, or set later from any thread."""

    # POST /users with a known address (section 14, 4).
    duplicates: Literal["refuse", "return", "create"] = "refuse"
    duplicate_status: int = 400
    # The workspace role of a user that the e-mail form of POST /permissions creates (section 6).
    permission_user_role: str = "member"
    # The older shape of a permission's actor is a plain id (section 15).
    permission_actor: Literal["object", "id"] = "object"

    # take-exam outside staging (section 14, 12).
    staging: bool = False
    take_exam_status: int = 400
    take_exam_message: str = "This flow is available on staging only."
    # A workspace that isn't approved for embed sessions (section 14, 7).
    approved: bool = True
    # Unknown presets (section 14, 28).
    refuse_unknown_presets: bool = False
    # Whether an embed page refuses an actor without the role it needs (section 14, 31).
    check_permissions: bool = True
    # Status for expired and deleted sessions (section 14, 10).
    gone_status: int = 404
    # The session status that an expired session still reads; None for none (section 14, 9).
    expired_status: str | None = None
    # The actor's role on an exam generated in an embed; None for none (section 14, 16).
    generated_exam_role: str | None = "owner"
    # An existing query in returnUrl (section 14, 19).
    keep_return_query: bool = True
    # How many times a source material is read before it is ready (section 12).
    processing_polls: int = 2

    # The body of an error (section 14, 1).
    error_shape: Literal[
        "message", "error", "error-object", "errors", "detail", "empty", "html"
    ] = "message"
    # The status of a success, where it isn't documented (section 14, 2).
    success_status: int | None = None
    # Headers that are added to every embed page, for example to refuse framing.
    embed_headers: dict[str, str] = field(default_factory=dict)
    clock: Callable[[], datetime] = _now
