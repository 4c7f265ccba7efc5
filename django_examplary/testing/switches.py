"""The behaviours of a workspace that the contract does not define, one attribute each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from django_examplary.testing.answers import profile


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True, eq=False, repr=False)
class Switches:
    """Attributes that a test may pass to the constructor, or set later from any thread."""

    # POST /users with a known address (section 14, 4).
    duplicates: Literal["refuse", "return", "create"] = "refuse"
    duplicate_status: int = 400

    # A workspace that isn't approved for embed sessions (section 14, 7).
    approved: bool = True
    unapproved_status: int = 403
    # take-exam outside staging (section 14, 12).
    staging: bool = False
    take_exam_status: int = 400
    take_exam_message: str = "This flow is available on staging only."
    # Unknown presets (section 14, 28), and theme.locale (section 18).
    refuse_unknown_presets: bool = False
    refuse_locale: bool = False
    # Statuses for GET and DELETE of a session that has expired or was deleted (section 14, 10),
    # and for DELETE of one that has finished; None deletes it.
    gone_status: int = 404
    delete_ended_status: int | None = None
    # The status with which an expired session is still returned; None for none (section 14, 9).
    expired_status: str | None = None
    # Number of reads of a completed session before its outputs are present (section 18).
    reads_before_outputs: int = 0
    # The actor's role on an exam generated in an embed; None for none (section 14, 16).
    generated_exam_role: str | None = "owner"
    # An existing query in returnUrl (section 14, 19).
    keep_return_query: bool = True

    # Whether an embed page refuses an actor without the role it needs (section 14, 31).
    check_permissions: bool = True
    # The actor that gets a role granted to a user (section 18).
    access_through: Literal["user", "group", "org"] = "user"
    # The workspace role of a user that the e-mail form of POST /permissions creates (section 6).
    permission_user_role: str = "member"
    # The older format of the actor of a permission is a plain id (section 15).
    permission_actor: Literal["object", "id"] = "object"

    # Number of reads of a source material before it is ready (section 12).
    processing_polls: int = 2

    # The body of an error, by the names in `errors.py` (section 14, 1).
    error_shape: str = "message"
    # The status of a success, where it isn't documented (section 14, 2).
    success_status: int | None = None
    # The length of a page of a list; None for bare lists (section 14, 25).
    page_size: int | None = None
    # Whether a repeated Idempotency-Key returns the first response (section 4).
    honour_idempotency_keys: bool = False
    # Headers that are added to every embed page, for example to refuse framing.
    embed_headers: dict[str, str] = field(default_factory=dict)
    clock: Callable[[], datetime] = _now

    # A profile of `django_examplary.testing.answers`, which sets some of these switches.
    answers: str = "documented"

    def __setattr__(self, name: str, value: object) -> None:
        if name == "answers":
            new = profile(str(value))
            for switch in profile(self.answers).switches:
                # Reset the switches of the previous profile to their defaults.
                setattr(self, switch, getattr(Switches, switch))
            for switch, setting in new.switches.items():
                setattr(self, switch, setting)
        super().__setattr__(name, value)
