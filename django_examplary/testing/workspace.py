"""One Examplary workspace in memory: its content, its sessions and their outcomes."""

from __future__ import annotations

import copy
import secrets
import string
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django_examplary.testing import content
from django_examplary.testing.messages import Request, Response, json_response
from django_examplary.testing.routes import Handler
from django_examplary.testing.rules import CONTENT_ROLES, Json, Refusal
from django_examplary.testing.sessions import FLOWS, Session, timestamp
from django_examplary.testing.switches import Switches
from django_examplary.testing.texts import choose_language, texts
from django_examplary.testing.traffic import Traffic

DEFAULT_API_KEY = "examp_0123456789abcdefghijklmnopqrstuv"

_SESSION_LIFETIME = timedelta(days=7)
_ALPHABET = string.ascii_letters + string.digits


def new_token(length: int = 20) -> str:
    """Return an unguessable part of an identifier."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(kw_only=True, eq=False, repr=False)
class Workspace(Switches, Traffic):
    """A workspace, which belongs to one API key (section 3)."""

    api_key: str = DEFAULT_API_KEY
    owner_id: str = "user_owner"
    org_id: str = "org_fake"
    # The URL of the fake, set by the server. Embeds may have another origin (section 2).
    base_url: str = "http://127.0.0.1:8001"
    embed_origin: str | None = None

    users: dict[str, Json] = field(default_factory=dict, init=False)
    groups: dict[str, Json] = field(default_factory=dict, init=False)
    sessions: dict[str, Session] = field(default_factory=dict, init=False)
    exams: dict[str, Json] = field(default_factory=dict, init=False)
    practice_spaces: dict[str, Json] = field(default_factory=dict, init=False)
    source_materials: dict[str, Json] = field(default_factory=dict, init=False)
    # Number of reads by source material.
    material_reads: Counter[str] = field(default_factory=Counter, init=False)
    # By resource, then by actor.
    permissions: dict[str, dict[str, Json]] = field(default_factory=dict, init=False)
    # Resources that the user of the key cannot access.
    forbidden: set[str] = field(default_factory=set, init=False)
    # The exported exams, by the token in the URL of the package.
    exports: dict[str, str] = field(default_factory=dict, init=False)
    # The requests with an Idempotency-Key, and their first responses.
    replies: dict[tuple[str, str, str], tuple[bytes, Response]] = field(
        default_factory=dict, init=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lock = threading.RLock()
        self.users[self.owner_id] = {
            "id": self.owner_id,
            "email": "owner@example.com",
            "name": "Owner",
            "role": "owner",
        }

    # Methods for tests.

    def add_user(
        self, email: str = "", *, name: str = "", role: str = "teacher", user_id: str = ""
    ) -> Json:
        """Add a user to the workspace."""
        with self.lock:
            user_id = user_id or f"user_{new_token()}"
            user = {"id": user_id, "email": email or f"{user_id}@example.com", "role": role}
            if name:
                user["name"] = name
            self.users[user_id] = user
            return user

    def add_group(
        self, name: str = "Group", *, members: Iterable[str] = (), group_id: str = ""
    ) -> Json:
        """Add a group of users; its members have the roles granted to the group."""
        with self.lock:
            group_id = group_id or f"group_{new_token()}"
            self.groups[group_id] = {"id": group_id, "name": name, "members": list(members)}
            return self.groups[group_id]

    def add_exam(self, name: str = "Exam", *, exam_id: str = "", **fields: Any) -> Json:
        """Add an exam, with the fields of ``POST /exams``."""
        with self.lock:
            exam_id = exam_id or f"exam_{new_token()}"
            fields = {"name": name, **fields}
            grants = fields.pop("permissions", None) or []
            fields["questions"] = [
                {"id": f"q_{new_token(16)}", "v": 1, **question}
                for question in copy.deepcopy(fields.get("questions") or [])
            ]
            exam = {"id": exam_id, **fields}
            self.exams[exam_id] = exam
            self._own(exam_id, grants)
            return exam

    def add_practice_space(
        self, name: str = "Practice", *, space_id: str = "", **fields: Any
    ) -> Json:
        """Add a practice space, with the fields of ``POST /practice-spaces``."""
        with self.lock:
            space_id = space_id or f"space_{new_token()}"
            grants = fields.pop("permissions", [])
            space = {"id": space_id, "name": name, **fields}
            self.practice_spaces[space_id] = space
            self._own(space_id, grants)
            return space

    def add_source_material(self, url: str = "", *, material_id: str = "", **fields: Any) -> Json:
        """Add a source material that is not processed yet."""
        with self.lock:
            material_id = material_id or f"mat_{new_token()}"
            now = timestamp(self.clock())
            material = {
                "org": self.org_id,
                "id": material_id,
                "createdBy": self.owner_id,
                "originalSource": {"url": url},
                "createdAt": now,
                "updatedAt": now,
                "processingStatus": "pending",
                **fields,
            }
            self.source_materials[material_id] = material
            self._own(material_id, [])
            return material

    def add_session(self, flow: str, actor: str, **fields: Any) -> Session:
        """Open an embed session, without the checks of ``POST /embed-sessions``.

        ``fields`` are those of ``Session``, such as ``presets``.
        """
        with self.lock:
            token = new_token(60)
            now = self.clock()
            session = Session(
                # In the examples the token of the URL begins with that of the id (section 7).
                id=f"embed_session_{token[:48]}",
                token=token,
                embed_url=f"{self.embed_origin or self.base_url}/embeds/{token}",
                flow=flow,
                actor=actor,
                created_at=now,
                expires_at=now + _SESSION_LIFETIME,
                **fields,
            )
            self.sessions[session.id] = session
            return session

    def grant(self, resource: str, actor: str, role: str) -> Json:
        """Set the role of an actor on a resource; return the permission."""
        with self.lock:
            if actor.startswith("user_") and actor != self.owner_id:
                actor = self._grantee(actor)
            now = timestamp(self.clock())
            existing = self.permissions.setdefault(resource, {}).get(actor)
            permission = {
                "actor": self._permission_actor(actor),
                "role": role,
                "createdAt": existing["createdAt"] if existing else now,
                "updatedAt": now,
                "createdBy": self.owner_id,
            }
            self.permissions[resource][actor] = permission
            return permission

    def complete(self, session_id: str, outputs: Json | None = None) -> Session:
        """Complete a session as its user would, with these outputs or those of section 8."""
        with self.lock:
            session = self._ending(session_id)
            session.outputs = self._outputs(session) if outputs is None else outputs
            session.status = "completed"
            return session

    def cancel(self, session_id: str) -> Session:
        """Cancel a session, as its user or, in flows without a button, as the service might."""
        with self.lock:
            session = self._ending(session_id)
            session.status = "cancelled"
            return session

    def expire(self, session_id: str) -> Session:
        """Expire a session, as after its seven days."""
        with self.lock:
            session = self.sessions[session_id]
            session.expires_at = self.clock()
            return session

    def save(self, session_id: str, answers: Json) -> Session:
        """Store a user's typed values; in edit-exam they change the exam itself (section 9.5)."""
        with self.lock:
            session = self._pending(session_id)
            session.answers |= answers
            if session.flow == "edit-exam":
                exam = self.exams.get(session.presets["examId"], {})
                for question in exam.get("questions", []):
                    title = answers.get(question["id"], question.get("title"))
                    if title != question.get("title"):
                        question["title"] = title
                        question["v"] += 1
            return session

    # Methods for the endpoints.

    def find_user(self, email: str) -> Json | None:
        """Return the user with an e-mail address, ignoring case."""
        for user in self.users.values():
            if user["email"].casefold() == email.casefold():
                return user
        return None

    def session_by_token(self, token: str) -> Session | None:
        """Return the session behind an embed URL."""
        return next((each for each in self.sessions.values() if each.token == token), None)

    def content_of(self, session: Session) -> Json:
        """Return the exam or practice space of a session, or an empty object."""
        resource = session.presets.get(FLOWS[session.flow].content or "", "")
        return self.exams.get(resource) or self.practice_spaces.get(resource) or {}

    def knows_actor(self, actor: str) -> bool:
        """Return whether a user, a group or the organisation with this id exists here."""
        return actor in self.users or actor in self.groups or actor == self.org_id

    def role_of(self, user_id: str, resource: str) -> str | None:
        """Return a user's highest role on a resource, own or through groups and the workspace."""
        actors = [user_id, self.org_id]
        actors += [group["id"] for group in self.groups.values() if user_id in group["members"]]
        granted = self.permissions.get(resource, {})
        roles = [granted[actor]["role"] for actor in actors if actor in granted]
        return min(roles, key=CONTENT_ROLES.index, default=None)

    def has_token(self, token: str) -> bool:
        """Return whether the token belongs to a page or a download of this workspace."""
        return token in self.exports or self.session_by_token(token) is not None

    def is_open(self, session: Session) -> bool:
        """Return whether the session still exists, so it is neither deleted nor expired."""
        return not session.revoked and self.clock() < session.expires_at

    def succeed(self, content: object, *, status: int = 200) -> Response:
        """Return a success whose status code is not documented."""
        return json_response(self.success_status or status, content)

    def succeed_with_list(self, request: Request, items: list[Json]) -> Response:
        """Return a list, or a page of it; see ``page_size``."""
        if self.page_size is None:
            return json_response(200, items)
        start = int(request.query.get("cursor", 0))
        end = start + self.page_size
        following = str(end) if end < len(items) else None
        return json_response(200, {"items": items[start:end], "nextCursor": following})

    def once(self, request: Request, handler: Handler, arguments: tuple[str, ...]) -> Response:
        """Process a request, or return the first response for its ``Idempotency-Key``."""
        key = request.headers.get("Idempotency-Key")
        if key is None or not self.honour_idempotency_keys:
            return handler(self, request, *arguments)
        place = (request.method, request.path, key)
        if place not in self.replies:
            self.replies[place] = request.body, handler(self, request, *arguments)
        body, response = self.replies[place]
        if body != request.body:
            raise Refusal(422, "This Idempotency-Key was sent with another body.")
        return response

    def _own(self, resource: str, grants: list[Json]) -> None:
        self.grant(resource, self.owner_id, "owner")
        for grant in grants:
            self.grant(resource, grant["actor"], grant["role"])

    def _grantee(self, user_id: str) -> str:
        """Return the actor that gets a role granted to a user; see ``access_through``."""
        if self.access_through == "org":
            return self.org_id
        if self.access_through == "user":
            return user_id
        groups = self.groups.values()
        found = next((group["id"] for group in groups if group["members"] == [user_id]), None)
        return found or str(self.add_group(members=[user_id])["id"])

    def _permission_actor(self, actor: str) -> object:
        if self.permission_actor == "id":
            return actor
        known = self.users.get(actor) or self.groups.get(actor) or {}
        shown = {"id": actor, "type": actor.partition("_")[0]}
        if "name" in known:
            shown["name"] = known["name"]
        if "role" in known:
            shown["orgRole"] = known["role"]
        return shown

    def _pending(self, session_id: str) -> Session:
        session = self.sessions[session_id]
        if not self.is_open(session) or session.status != "pending":
            msg = "The session has ended."
            raise ValueError(msg)
        return session

    def _ending(self, session_id: str) -> Session:
        session = self._pending(session_id)
        if not FLOWS[session.flow].completes:
            msg = f"{session.flow} never completes and cannot be cancelled."
            raise ValueError(msg)
        return session

    def _outputs(self, session: Session) -> Json:
        """Return the outputs of section 8, from the presets and the typed values."""
        presets, answers = session.presets, session.answers
        language = choose_language(presets.get("language") or session.locale)
        if session.flow == "generate-exam":
            fields = presets | {name: text for name, text in answers.items() if text}
            if "intendedDuration" in fields:
                fields["intendedDuration"] = int(fields["intendedDuration"])
            subject = fields.get("subject")
            role = self.generated_exam_role
            exam = self.add_exam(
                **{"name": subject or texts(language)["exam"], **fields},
                questions=content.questions(subject, language),
                permissions=[{"actor": session.actor, "role": role}] if role else [],
            )
            return {"examId": exam["id"]}
        if session.flow == "generate-question":
            question = content.questions(presets.get("subject"), language)[0]
            question |= {"id": f"q_{new_token()}", "v": 1}
            question["type"] = presets.get("questionType", question["type"])
            question["title"] = answers.get("title") or question["title"]
            output_format = presets.get("outputFormat", "examplary_json")
            if output_format == "examplary_json":
                return {"question": question}
            return {"question": content.qti_item(question, output_format)}
        if session.flow == "edit-rubric":
            rubric = copy.deepcopy(presets.get("rubric")) or content.rubric(language)
            return {"rubric": content.edited(rubric, answers)}
        # The outputs of mark-answer and take-exam are unknown.
        return {}
