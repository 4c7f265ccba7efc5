"""Call the running service like an integration, and report its responses without values.

A report contains status codes, media types, keys and JSON types. It contains no ids, no addresses
and no URLs except origins, so it can be attached to a public bug report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.views.decorators.debug import sensitive_variables

from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import Answer
from django_examplary.client.responses import unwrap
from django_examplary.contract.document import json_type
from django_examplary.exceptions import ExamplaryError

_HIDDEN = "<hidden>"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call. `status` is 0 without a response; `error` is the class of the exception.

    `body` maps keys to types, at all levels. `notes` are comparisons and origins.
    """

    name: str
    operation: str
    status: int = 0
    content_type: str = ""
    body: Any = None
    error: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


class Probe:
    """A run of six calls: one user created twice, and one session opened, read and deleted twice.

    The user cannot be deleted, because the API documents no operation for this.
    """

    def __init__(self, client: ExamplaryClient, *, email: str, origin: str) -> None:
        self._client = client
        self._email = email
        self._origin = origin
        #: Every string that was sent or received, none of which may appear as a key.
        self._strings = {email}
        self.steps: list[Step] = []

    @property
    def complete(self) -> bool:
        """Whether all six calls got a response."""
        return len(self.steps) == 6 and all(step.status for step in self.steps)

    @sensitive_variables()
    def run(self) -> list[Step]:
        """Make the calls. Never raises ExamplaryError: a call without a response is also a step."""
        user = self._create_user("create a user")
        again = self._create_user("create the same user again", first=user)
        actor = _unwrapped_text(user, "id") or _unwrapped_text(again, "id")
        if actor:
            self._try_session(actor)
        return self.steps

    @sensitive_variables()
    def _create_user(self, name: str, *, first: Any = None) -> Any:
        body = {"email": self._email, "name": "Examplary Probe", "role": "teacher"}
        answer = self._call(name, "POST", "/users", json=body)
        if _unwrapped_text(answer, "id") and _unwrapped_text(first, "id"):
            same = _unwrapped_text(answer, "id") == _unwrapped_text(first, "id")
            self._note(id="the same as before" if same else "another one than before")
        return answer

    @sensitive_variables()
    def _try_session(self, actor: str) -> None:
        body = {"flow": "generate-exam", "actor": actor, "allowedOrigin": self._origin}
        session = self._call("open a session", "POST", "/embed-sessions", json=body)
        if origin := _origin(_unwrapped_text(session, "embedUrl")):
            self._note(embed_origin=origin)
        session_id = _unwrapped_text(session, "id")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,512}", session_id):
            return
        path, ids = "/embed-sessions/{id}", {"id": session_id}
        try:
            self._call("read the session", "GET", path, ids=ids)
        finally:
            # Also after Ctrl-C, because an open session gives access to the workspace.
            self._call("delete the session", "DELETE", path, ids=ids)
        self._call("read the deleted session", "GET", path, ids=ids)

    @sensitive_variables()
    def _call(self, name: str, method: str, path: str, **options: Any) -> Any:
        """Make a call, record its step, and return the parsed body of the response."""
        answers: list[Answer] = []
        step = Step(name=name, operation=f"{method} {path}")
        try:
            self._client.request(method, path, on_answer=answers.append, **options)
        except ExamplaryError as error:
            step = replace(step, error=type(error).__name__)
        body = None
        if answers:
            # The client retries some calls.
            answer = answers[-1]
            try:
                body = json.loads(answer.body)
            except (ValueError, RecursionError):
                shape: Any = "not JSON" if answer.body.strip() else "empty"
            else:
                self._strings |= set(_strings(body))
                shape = self._shape(body)
            media_type = _media_type(answer.headers.get("Content-Type", ""))
            step = replace(step, status=answer.status, content_type=media_type, body=shape)
        self.steps.append(step)
        return body

    def _note(self, **notes: str) -> None:
        self.steps.append(replace(self.steps.pop(), notes=notes))

    def _shape(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self._key(key): self._shape(item) for key, item in value.items()}
        if isinstance(value, list):
            # Items of the same kind have the same structure, so the first represents all.
            shapes: list[Any] = []
            for item in value:
                if (shape := self._shape(item)) not in shapes:
                    shapes.append(shape)
            return shapes
        return json_type(value)

    def _key(self, key: str) -> str:
        """Return a key if it is a name, and hide it if it may be a value."""
        is_name = re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$-]{0,39}", key)
        # Ids have a prefix for the kind of object, or many digits.
        is_id = re.match(r"(user|embed_session|exam|space|org|group|examp|mat)_|(.*\d){4}", key)
        return key if is_name and not is_id and key not in self._strings else _HIDDEN


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def _unwrapped_text(answer: Any, key: str) -> str:
    """Return a string from a response or its envelope, as the client does."""
    answer = unwrap(answer, "id")
    value = answer.get(key) if isinstance(answer, dict) else None
    return value if isinstance(value, str) else ""


def _origin(url: str) -> str:
    match = re.match(r"https?://([A-Za-z0-9.-]{1,253}|\[[0-9a-f:]+\])(:\d{1,5})?(?=[/?#]|$)", url)
    return match[0] if match else ""


def _media_type(header: str) -> str:
    if not header:
        return "none"
    usual = re.fullmatch(r"[\w.+-]{1,60}/[\w.+-]{1,60}(; ?charset=\"?[\w-]{1,20}\"?)?", header)
    return header if usual else "unusual"
