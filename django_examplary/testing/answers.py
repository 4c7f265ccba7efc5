"""Profiles of plausible responses of the real service: ``fake.answers = "text-plain"``.

The contract does not define these details (sections 13, 14 and 18), so clients must handle all of
them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django_examplary.testing.errors import ERROR_BODIES
from django_examplary.testing.messages import JSON_TYPE, Response

Edit = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """A way in which the real service may respond."""

    #: Attributes of the fake that the profile sets.
    switches: Mapping[str, object] = field(default_factory=dict)
    #: Changes to the JSON of successes, by operation: ``"GET /me"``.
    edits: Mapping[str, Edit] = field(default_factory=dict)
    #: The media type of every JSON body; None for none.
    media_type: str | None = JSON_TYPE

    def shape(self, operation: str, response: Response) -> Response:
        """Return an API response changed by this profile."""
        if response.headers.get("Content-Type") != JSON_TYPE or operation == "GET /openapi":
            return response
        body = response.body
        edit = self.edits.get(operation)
        if edit is not None and response.status < 300:
            body = json.dumps(edit(response.json)).encode()
        headers = {**response.headers, "Content-Type": self.media_type or ""}
        return dataclasses.replace(response, headers=headers, body=body)


_READ: Final = "GET /embed-sessions/{id}"
_SESSIONS: Final = ("POST /embed-sessions", _READ)
_USERS: Final = ("POST /users", "GET /me", "PATCH /me")
_PERMISSIONS: Final = ("POST /permissions/{resource}", "GET /permissions/{resource}/{actor}")
_ENVELOPE_KEYS: Final = {
    **dict.fromkeys(_USERS, "user"),
    **dict.fromkeys(_SESSIONS, "embedSession"),
    **dict.fromkeys(_PERMISSIONS, "permission"),
    "POST /exams": "exam",
    "GET /exams/{examId}": "exam",
    "GET /permissions/{resource}": "permissions",
    "GET /source-materials": "sourceMaterials",
    "GET /question-types": "questionTypes",
}
_ABSENT: Final = object()


def _changed(operations: Iterable[str], **changes: object) -> dict[str, Edit]:
    """Return a function that changes or removes fields; a callable gets the old value."""

    def edit(body: dict[str, Any]) -> dict[str, Any]:
        for name, change in changes.items():
            if change is _ABSENT:
                body.pop(name, None)
            elif callable(change):
                if name in body:
                    body[name] = change(body[name])
            else:
                body[name] = change
        return body

    return dict.fromkeys(operations, edit)


def _if_completed(change: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Edit]:
    return {_READ: lambda body: change(body) if body["status"] == "completed" else body}


def _wrap(name: str) -> Edit:
    return lambda body: {name: body}


def _only(*names: str) -> Edit:
    return lambda body: {name: body[name] for name in names if name in body}


def _replace(old: str, new: str) -> Edit:
    return lambda value: new if value == old else value


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _mask(email: str) -> str:
    return f"{email[0]}***@{email.partition('@')[2]}"


#: The profiles by name. Everything else stays as documented.
PROFILES: Mapping[str, Answers] = {
    "documented": Answers(),
    # Statuses and media types (section 14, 2; section 18).
    "success-200": Answers(switches={"success_status": 200}),
    "success-201": Answers(switches={"success_status": 201}),
    "no-content-type": Answers(media_type=None),
    "text-plain": Answers(media_type="text/plain; charset=utf-8"),
    "text-html": Answers(media_type="text/html"),
    "octet-stream": Answers(media_type="application/octet-stream"),
    "upper-case-type": Answers(media_type="APPLICATION/JSON; CHARSET=UTF-8"),
    "vendor-type": Answers(media_type="application/vnd.examplary+json"),
    # Envelopes: {"data": …}, or one named after its content, such as {"user": {…}}.
    "envelope-data": Answers(edits=dict.fromkeys(_ENVELOPE_KEYS, _wrap("data"))),
    "envelope-named": Answers(edits={each: _wrap(kind) for each, kind in _ENVELOPE_KEYS.items()}),
    # Pages of one, with nextCursor for ?cursor=.
    "lists-in-pages": Answers(switches={"page_size": 1}),
    # Users.
    "user-id-only": Answers(edits=dict.fromkeys(_USERS, _only("id"))),
    "user-role-list": Answers(edits=_changed(_USERS, role=lambda role: [role])),
    "user-name-object": Answers(edits=_changed(_USERS, name=lambda name: {"full": name})),
    "user-email-masked": Answers(edits=_changed(_USERS, email=_mask)),
    "user-email-absent": Answers(edits=_changed(_USERS, email=_ABSENT)),
    "duplicate-returned": Answers(switches={"duplicates": "return"}),
    **{
        f"duplicate-{status}": Answers(
            switches={"duplicates": "refuse", "duplicate_status": status}
        )
        for status in (400, 403, 409, 422, 500)
    },
    # Embed sessions.
    "session-minimal": Answers(
        edits=dict.fromkeys(_SESSIONS, _only("id", "status", "embedUrl", "outputs"))
    ),
    "session-actor-object": Answers(
        edits=_changed(_SESSIONS, actor=lambda actor: {"id": actor, "type": "user"})
    ),
    "session-actor-absent": Answers(edits=_changed(_SESSIONS, actor=_ABSENT)),
    "session-flow-absent": Answers(edits=_changed(_SESSIONS, flow=_ABSENT)),
    "expires-null": Answers(edits=_changed(_SESSIONS, expiresAt=lambda _: None)),
    "expires-absent": Answers(edits=_changed(_SESSIONS, expiresAt=_ABSENT)),
    "expires-seconds": Answers(edits=_changed(_SESSIONS, expiresAt=_seconds)),
    "expires-milliseconds": Answers(
        edits=_changed(_SESSIONS, expiresAt=lambda moment: int(_seconds(moment) * 1000))
    ),
    "expires-local": Answers(edits=_changed(_SESSIONS, expiresAt=lambda text: text.rstrip("Z"))),
    "expires-past": Answers(edits=_changed(_SESSIONS, expiresAt="2020-01-01T00:00:00Z")),
    "status-upper-case": Answers(edits=_changed(_SESSIONS, status=str.upper)),
    "status-canceled": Answers(edits=_changed(_SESSIONS, status=_replace("cancelled", "canceled"))),
    **{
        f"status-{word}": Answers(edits=_changed([_READ], status=_replace("pending", word)))
        for word in ("expired", "failed", "error", "deleted", "archived")
    },
    # DELETE of a session that has ended, and GET of a deleted one.
    **{
        f"ended-{status}": Answers(switches={"gone_status": status, "delete_ended_status": status})
        for status in (400, 403, 405, 409, 410)
    },
    # Outputs of a completed session.
    "outputs-null": Answers(edits=_if_completed(lambda body: body | {"outputs": None})),
    "outputs-object": Answers(edits=_if_completed(lambda body: body | {"outputs": {}})),
    "outputs-list": Answers(edits=_if_completed(lambda body: body | {"outputs": []})),
    "outputs-late": Answers(switches={"reads_before_outputs": 2}),
    "outputs-beside": Answers(
        edits=_if_completed(lambda body: body | body["outputs"] | {"outputs": {}})
    ),
    # Errors (section 13).
    **{
        f"error-{shape}": Answers(switches={"error_shape": shape})
        for shape in (*ERROR_BODIES, "empty", "html")
        if shape != "message"
    },
    **{
        f"unapproved-{status}": Answers(switches={"approved": False, "unapproved_status": status})
        for status in (402, 403, 405, 415, 451)
    },
    "locale-refused": Answers(switches={"refuse_locale": True}),
    # Permissions (section 6). Users whose access comes from others get 404 for their own.
    "permission-actor-id": Answers(switches={"permission_actor": "id"}),
    "permission-actor-absent": Answers(edits=_changed(_PERMISSIONS, actor=_ABSENT)),
    "permission-role-list": Answers(edits=_changed(_PERMISSIONS, role=lambda role: [role])),
    "access-through-group": Answers(switches={"access_through": "group"}),
    "access-through-organisation": Answers(switches={"access_through": "org"}),
    # Idempotency keys (section 4).
    "idempotency-honoured": Answers(switches={"honour_idempotency_keys": True}),
    "idempotency-ignored": Answers(switches={"honour_idempotency_keys": False}),
}


def profile(name: str) -> Answers:
    """Return a profile; raise ValueError with the known names if there is none."""
    try:
        return PROFILES[name]
    except KeyError:
        msg = f"answers must be one of {', '.join(PROFILES)}; not {name!r}."
        raise ValueError(msg) from None
