"""Plausible answers of the real service, one named profile each: ``fake.answers = "text-plain"``.

The contract leaves their shape open (sections 13, 14 and 18), so a client must survive all of them.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django_examplary.testing.messages import JSON_TYPE, Response

Edit = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One way in which the real service may answer."""

    about: str
    #: Attributes of the fake that the profile sets.
    switches: Mapping[str, object] = field(default_factory=dict)
    #: Changes to the JSON of successes, by operation: ``"GET /me"``.
    edits: Mapping[str, Edit] = field(default_factory=dict)
    #: The media type of every JSON body; None for none.
    media_type: str | None = JSON_TYPE

    def shape(self, operation: str, response: Response) -> Response:
        """Return an API response in the shape of this profile."""
        if response.headers.get("Content-Type") != JSON_TYPE or operation == "GET /openapi":
            return response
        body = response.body
        edit = self.edits.get(operation)
        if edit is not None and response.status < 300:
            body = json.dumps(edit(response.json)).encode()
        headers = {**response.headers, "Content-Type": self.media_type or ""}
        return dataclasses.replace(response, headers=headers, body=body)


_READ: Final = "GET /embed-sessions/{id}"
_SESSION: Final = ("POST /embed-sessions", _READ)
_USER: Final = ("POST /users", "GET /me", "PATCH /me")
_PERMISSION: Final = ("POST /permissions/{resource}", "GET /permissions/{resource}/{actor}")
_KINDS: Final = {
    **dict.fromkeys(_USER, "user"),
    **dict.fromkeys(_SESSION, "embedSession"),
    **dict.fromkeys(_PERMISSION, "permission"),
    "POST /exams": "exam",
    "GET /exams/{examId}": "exam",
    "GET /permissions/{resource}": "permissions",
    "GET /source-materials": "sourceMaterials",
    "GET /question-types": "questionTypes",
}
_ABSENT: Final = object()


def _everywhere(operations: Iterable[str], edit: Edit) -> dict[str, Edit]:
    return dict.fromkeys(operations, edit)


def _fields(operations: Iterable[str], **changes: object) -> dict[str, Edit]:
    """Change fields of an object: to a value, with a function of the old value, or to absence."""

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

    return _everywhere(operations, edit)


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


#: The profiles by name. Each leaves all else as documented.
PROFILES: Mapping[str, Answers] = {
    "documented": Answers(about="As the contract documents it."),
    # Statuses and media types (section 14, 2; section 18).
    "success-200": Answers(about="Every success is a 200.", switches={"success_status": 200}),
    "success-201": Answers(about="Every success is a 201.", switches={"success_status": 201}),
    "no-content-type": Answers(about="JSON without a media type.", media_type=None),
    "text-plain": Answers(about="JSON as plain text.", media_type="text/plain; charset=utf-8"),
    "text-html": Answers(about="JSON as HTML.", media_type="text/html"),
    "octet-stream": Answers(about="JSON as bytes.", media_type="application/octet-stream"),
    "upper-case-type": Answers(
        about="The media type in capitals.", media_type="APPLICATION/JSON; CHARSET=UTF-8"
    ),
    "vendor-type": Answers(
        about="A media type of the vendor's own.", media_type="application/vnd.examplary+json"
    ),
    # Envelopes.
    "envelope-data": Answers(
        about='Every object and list is in {"data": …}.',
        edits=_everywhere(_KINDS, _wrap("data")),
    ),
    "envelope-named": Answers(
        about='Every object and list is in an envelope of its kind, such as {"user": {…}}.',
        edits={operation: _wrap(kind) for operation, kind in _KINDS.items()},
    ),
    "lists-in-pages": Answers(
        about="Lists come in pages of one, with nextCursor for ?cursor=.",
        switches={"page_size": 1},
    ),
    # Users.
    "user-id-only": Answers(about="A user has an id only.", edits=_everywhere(_USER, _only("id"))),
    "user-role-list": Answers(
        about="A user has a list of roles.", edits=_fields(_USER, role=lambda role: [role])
    ),
    "user-name-object": Answers(
        about="A user's name is an object.", edits=_fields(_USER, name=lambda name: {"full": name})
    ),
    "user-email-masked": Answers(
        about="A user's address is masked.", edits=_fields(_USER, email=_mask)
    ),
    "user-email-absent": Answers(
        about="A user has no address.", edits=_fields(_USER, email=_ABSENT)
    ),
    "duplicate-returned": Answers(
        about="A known address is answered with its user.", switches={"duplicates": "return"}
    ),
    **{
        f"duplicate-{status}": Answers(
            about=f"A known address is answered {status}.",
            switches={"duplicates": "refuse", "duplicate_status": status},
        )
        for status in (400, 403, 409, 422, 500)
    },
    # Embed sessions.
    "session-minimal": Answers(
        about="A session has an id, a status, a URL and outputs only.",
        edits=_everywhere(_SESSION, _only("id", "status", "embedUrl", "outputs")),
    ),
    "session-actor-object": Answers(
        about="A session's actor is an object.",
        edits=_fields(_SESSION, actor=lambda actor: {"id": actor, "type": "user"}),
    ),
    "session-actor-absent": Answers(
        about="A session has no actor.", edits=_fields(_SESSION, actor=_ABSENT)
    ),
    "session-flow-absent": Answers(
        about="A session has no flow.", edits=_fields(_SESSION, flow=_ABSENT)
    ),
    "expires-null": Answers(
        about="expiresAt is null.", edits=_fields(_SESSION, expiresAt=lambda _: None)
    ),
    "expires-absent": Answers(
        about="There is no expiresAt.", edits=_fields(_SESSION, expiresAt=_ABSENT)
    ),
    "expires-seconds": Answers(
        about="expiresAt is a Unix time.", edits=_fields(_SESSION, expiresAt=_seconds)
    ),
    "expires-milliseconds": Answers(
        about="expiresAt is a Unix time in milliseconds.",
        edits=_fields(_SESSION, expiresAt=lambda moment: int(_seconds(moment) * 1000)),
    ),
    "expires-local": Answers(
        about="expiresAt has no time zone.",
        edits=_fields(_SESSION, expiresAt=lambda moment: moment.rstrip("Z")),
    ),
    "expires-past": Answers(
        about="expiresAt is long over.", edits=_fields(_SESSION, expiresAt="2020-01-01T00:00:00Z")
    ),
    "status-upper-case": Answers(
        about="Statuses are in capitals.", edits=_fields(_SESSION, status=str.upper)
    ),
    "status-canceled": Answers(
        about="cancelled is spelled canceled.",
        edits=_fields(_SESSION, status=_replace("cancelled", "canceled")),
    ),
    **{
        f"status-{word}": Answers(
            about=f"An unfinished session reads {word}.",
            edits=_fields(
                [_READ], status=lambda status, word=word: word if status == "pending" else status
            ),
        )
        for word in ("expired", "failed", "error", "deleted", "archived")
    },
    **{
        f"ended-{status}": Answers(
            about=f"DELETE of an ended session, and GET of one that is gone, are a {status}.",
            switches={"gone_status": status, "delete_ended_status": status},
        )
        for status in (400, 403, 405, 409, 410)
    },
    # Outputs of a completed session.
    "outputs-null": Answers(
        about="outputs is null.", edits=_if_completed(lambda body: body | {"outputs": None})
    ),
    "outputs-object": Answers(
        about="outputs stays empty.", edits=_if_completed(lambda body: body | {"outputs": {}})
    ),
    "outputs-list": Answers(
        about="outputs is an empty list.", edits=_if_completed(lambda body: body | {"outputs": []})
    ),
    "outputs-late": Answers(
        about="The first two reads of a completed session have no outputs.",
        switches={"reads_before_outputs": 2},
    ),
    "outputs-beside": Answers(
        about="The results are beside an empty outputs.",
        edits=_if_completed(lambda body: body | body["outputs"] | {"outputs": {}}),
    ),
    # Errors (section 13).
    **{
        f"error-{shape}": Answers(
            about=f"An error has the shape {shape!r}.", switches={"error_shape": shape}
        )
        for shape in (
            "error",
            "error-object",
            "errors",
            "errors-strings",
            "errors-fields",
            "detail",
            "issues",
            "details",
            "error_description",
            "nested",
            "list",
            "empty",
            "html",
        )
    },
    **{
        f"unapproved-{status}": Answers(
            about=f"The workspace isn't approved, which is answered {status}.",
            switches={"approved": False, "unapproved_status": status},
        )
        for status in (402, 403, 405, 415, 451)
    },
    "locale-refused": Answers(about="theme.locale is refused.", switches={"refuse_locale": True}),
    # Permissions (section 6).
    "permission-actor-id": Answers(
        about="A permission's actor is an id.", switches={"permission_actor": "id"}
    ),
    "permission-actor-absent": Answers(
        about="A permission has no actor.", edits=_fields(_PERMISSION, actor=_ABSENT)
    ),
    "permission-role-list": Answers(
        about="A permission has a list of roles.",
        edits=_fields(_PERMISSION, role=lambda role: [role]),
    ),
    "access-through-group": Answers(
        about="Users have their access through a group, so a user's own permission is a 404.",
        switches={"access_through": "group"},
    ),
    "access-through-organisation": Answers(
        about="Users have their access through the organisation, as with a group.",
        switches={"access_through": "org"},
    ),
    # Idempotency keys (section 4).
    "idempotency-honoured": Answers(
        about="A repeated Idempotency-Key is answered with the first response.",
        switches={"honour_idempotency_keys": True},
    ),
    "idempotency-ignored": Answers(
        about="Idempotency-Key is ignored.", switches={"honour_idempotency_keys": False}
    ),
}


def profile(name: str) -> Answers:
    """Return a profile; raise ValueError with the known names if there is none."""
    try:
        return PROFILES[name]
    except KeyError:
        msg = f"answers must be one of {', '.join(PROFILES)}; not {name!r}."
        raise ValueError(msg) from None
