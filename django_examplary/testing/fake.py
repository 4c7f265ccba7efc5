"""The Examplary API as a state machine, without sockets."""

from __future__ import annotations

import copy
import dataclasses
import http.client
import secrets
import string
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from django_examplary.testing import api, content, embeds, pages
from django_examplary.testing.faults import Fault, Transport
from django_examplary.testing.messages import Request, Response, html_response, json_response
from django_examplary.testing.routes import Route, Routes
from django_examplary.testing.rules import Json, Refusal
from django_examplary.testing.sessions import FLOWS, Session, timestamp

DEFAULT_API_KEY = "examp_0123456789abcdefghijklmnopqrstuv"
DEFAULT_OWNER_ID = "user_owner"
ORG_ID = "org_fake"

_LIFETIME = timedelta(days=7)
_ALPHABET = string.ascii_letters + string.digits
_ROUTES = Routes([*api.routes, *embeds.routes])


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True, eq=False, repr=False)
class FakeExamplary:
    """Examplary in memory, as section 17 of the API contract asks for.

    What the contract leaves open is an attribute, so that a test can try every answer. All of them
    may be given to the constructor or set later, from any thread.
    """

    api_key: str = DEFAULT_API_KEY
    owner_id: str = DEFAULT_OWNER_ID

    # POST /users with a known address (section 14, 4).
    duplicates: Literal["refuse", "return", "create"] = "refuse"
    duplicate_status: int = 400
    # The workspace role of a user made by the e-mail form of POST /permissions (section 6).
    permission_user_role: str = "member"
    # The older shape of a permission's actor is a plain id (section 15).
    permission_actor: Literal["object", "id"] = "object"

    # take-exam outside staging (section 14, 12).
    staging: bool = False
    take_exam_status: int = 400
    take_exam_message: str = "This flow is available on staging only."
    # A workspace that was not approved for embed sessions (section 14, 7).
    approved: bool = True
    # Unknown presets (section 14, 28).
    refuse_unknown_presets: bool = False
    # Whether an embed page turns away an actor without the role it needs (section 14, 31).
    check_permissions: bool = True
    # Expired and deleted sessions (section 14, 10), and whether an expired one can still be read,
    # with which status (section 14, 9).
    gone_status: int = 404
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
    # The status of a success, where it is not documented (section 14, 2).
    success_status: int | None = None
    # Seconds that every API call takes.
    latency: float = 0
    # Seconds between two bytes of a dripping answer.
    drip_interval: float = 0.02
    clock: Callable[[], datetime] = _now

    # Where the fake is reached; the server sets it. Embeds may live elsewhere (section 2).
    base_url: str = "http://127.0.0.1:8001"
    embed_origin: str | None = None
    # Added to every embed page, to refuse framing for one.
    embed_headers: dict[str, str] = field(default_factory=dict)

    users: dict[str, Json] = field(default_factory=dict, init=False)
    sessions: dict[str, Session] = field(default_factory=dict, init=False)
    exams: dict[str, Json] = field(default_factory=dict, init=False)
    practice_spaces: dict[str, Json] = field(default_factory=dict, init=False)
    source_materials: dict[str, Json] = field(default_factory=dict, init=False)
    # By resource, then by actor.
    permissions: dict[str, dict[str, Json]] = field(default_factory=dict, init=False)
    # Resources that the key's own user is kept out of.
    forbidden: set[str] = field(default_factory=set, init=False)
    # Packages that await their download, by the token in their address.
    exports: dict[str, bytes] = field(default_factory=dict, init=False)
    requests: list[Request] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._faults: list[Fault] = []
        self._rate: int | None = None
        self._recent: deque[datetime] = deque()
        self.users[self.owner_id] = {
            "id": self.owner_id,
            "email": "owner@example.com",
            "name": "Owner",
            "role": "owner",
        }

    # What a test does.

    def calls(self, method: str | None = None, path: str | None = None) -> list[Request]:
        """Return the requests so far; ``path`` may be a template: ``/embed-sessions/{id}``."""
        with self._lock:
            return [request for request in self.requests if request.matches(method, path)]

    def fail(
        self,
        method: str | None = None,
        path: str | None = None,
        *,
        times: int | None = 1,
        status: int | None = None,
        body: object = None,
        edit: Callable[[Any], object] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0,
        before: bool = True,
        transport: Transport | None = None,
    ) -> Fault:
        """Let the next ``times`` matching requests fail; None lasts until ``heal``.

        ``status``, ``body`` and ``headers`` replace the answer's own, ``edit`` changes its JSON,
        ``delay`` holds it up and ``transport`` damages it on the wire. A fault that brings its own
        answer, or takes the answer away, strikes before the request is processed; with
        ``before=False`` the request is processed and only the answer is lost. Faults are used up
        in the order they were asked for.
        """
        fault = Fault(
            method=method,
            path=path,
            times=times,
            status=status,
            body=body,
            edit=edit,
            headers=headers or {},
            delay=delay,
            before=before,
            transport=transport,
        )
        with self._lock:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget the faults that are left, and the rate limit."""
        with self._lock:
            self._faults.clear()
            self._rate = None

    def rate_limit(self, per_second: int | None) -> None:
        """Answer 429 with ``Retry-After`` above so many API calls in any second."""
        with self._lock:
            self._rate = per_second
            self._recent.clear()

    def add_user(
        self, email: str = "", *, name: str = "", role: str = "teacher", user_id: str = ""
    ) -> Json:
        """Add a user to the workspace, as if by hand."""
        with self._lock:
            user_id = user_id or f"user_{self.new_token(20)}"
            user = {"id": user_id, "email": email or f"{user_id}@example.com", "role": role}
            if name:
                user["name"] = name
            self.users[user_id] = user
            return user

    def add_exam(self, name: str = "Exam", *, exam_id: str = "", **fields: Any) -> Json:
        """Add an exam, with the fields of ``POST /exams``."""
        with self._lock:
            exam_id = exam_id or f"exam_{self.new_token(20)}"
            fields = {"name": name, **fields}
            grants = fields.pop("permissions", None) or []
            fields["questions"] = [
                {**question, "id": f"q_{self.new_token(16)}", "v": 1}
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
        with self._lock:
            space_id = space_id or f"space_{self.new_token(20)}"
            grants = fields.pop("permissions", [])
            space = {"id": space_id, "name": name, **fields}
            self.practice_spaces[space_id] = space
            self._own(space_id, grants)
            return space

    def add_source_material(self, url: str, **fields: Any) -> Json:
        """Add a source material that is still to be processed."""
        with self._lock:
            material_id = f"mat_{self.new_token(20)}"
            now = timestamp(self.clock())
            material = {
                "org": ORG_ID,
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

    def add_session(
        self,
        flow: str,
        actor: str,
        *,
        presets: Json | None = None,
        theme: Json | None = None,
        metadata: Json | None = None,
        return_url: str | None = None,
        allowed_origin: str | None = None,
    ) -> Session:
        """Open an embed session, without the checks of ``POST /embed-sessions``."""
        with self._lock:
            token = self.new_token(60)
            now = self.clock()
            session = Session(
                # In the examples the URL's token begins with the id's own (section 7).
                id=f"embed_session_{token[:48]}",
                token=token,
                embed_url=f"{self.embed_origin or self.base_url}/embeds/{token}",
                flow=flow,
                actor=actor,
                presets=presets or {},
                theme=theme or {},
                metadata=metadata or {},
                return_url=return_url,
                allowed_origin=allowed_origin,
                created_at=now,
                expires_at=now + _LIFETIME,
            )
            self.sessions[session.id] = session
            return session

    def grant(self, resource: str, actor: str, role: str) -> Json:
        """Give an actor a role on a resource, or change it."""
        with self._lock:
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
        """Finish a session as its user would, with the outputs of section 8 or these."""
        with self._lock:
            session = self._pending(session_id)
            if not FLOWS[session.flow].completes:
                msg = f"{session.flow} never completes."
                raise ValueError(msg)
            session.outputs = self._outputs(session) if outputs is None else outputs
            session.status = "completed"
            return session

    def cancel(self, session_id: str) -> Session:
        """Cancel a session as its user would; where a flow has no button, as the service might."""
        with self._lock:
            session = self._pending(session_id)
            if not FLOWS[session.flow].completes:
                msg = f"{session.flow} is never cancelled."
                raise ValueError(msg)
            session.status = "cancelled"
            return session

    def expire(self, session_id: str) -> Session:
        """Let a session's seven days be over."""
        with self._lock:
            session = self.sessions[session_id]
            session.expires_at = self.clock()
            return session

    def save(self, session_id: str, answers: Json) -> Session:
        """Keep what a user typed; in edit-exam that changes the exam itself (section 9.5)."""
        with self._lock:
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

    # What the endpoints share.

    def find_user(self, email: str) -> Json | None:
        """Return the user with an address, whatever its case."""
        wanted = email.casefold()
        for user in self.users.values():
            if user["email"].casefold() == wanted:
                return user
        return None

    def is_open(self, session: Session) -> bool:
        """Whether the session was neither deleted nor has expired."""
        return not session.revoked and self.clock() < session.expires_at

    def new_token(self, length: int = 20) -> str:
        """Return an unguessable piece of an identifier."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(length))

    def succeed(self, content: object, *, status: int = 200) -> Response:
        """Answer a call whose success status is not documented."""
        return json_response(self.success_status or status, content)

    def _own(self, resource: str, grants: list[Json]) -> None:
        self.grant(resource, self.owner_id, "owner")
        for grant in grants:
            self.grant(resource, grant["actor"], grant["role"])

    def _permission_actor(self, actor: str) -> object:
        if self.permission_actor == "id":
            return actor
        user = self.users.get(actor)
        if user is None:
            return {"id": actor, "type": actor.partition("_")[0]}
        name = {"name": user["name"]} if "name" in user else {}
        return {"id": actor, **name, "type": "user", "orgRole": user["role"]}

    def _pending(self, session_id: str) -> Session:
        session = self.sessions[session_id]
        if not self.is_open(session) or session.status != "pending":
            msg = "The session has ended."
            raise ValueError(msg)
        return session

    def _outputs(self, session: Session) -> Json:
        """Return the outputs of section 8, made from the presets and what the user typed."""
        presets, answers = session.presets, session.answers
        language = content.language(presets.get("language") or session.locale)
        if session.flow == "generate-exam":
            fields = presets | {name: text for name, text in answers.items() if text}
            if "intendedDuration" in fields:
                fields["intendedDuration"] = int(fields["intendedDuration"])
            subject = fields.get("subject")
            role = self.generated_exam_role
            exam = self.add_exam(
                **{"name": subject or "Exam", **fields},
                questions=content.questions(subject, language),
                permissions=[{"actor": session.actor, "role": role}] if role else [],
            )
            return {"examId": exam["id"]}
        if session.flow == "generate-question":
            question = content.questions(presets.get("subject"), language)[0]
            question |= {"id": f"q_{self.new_token()}", "v": 1}
            question["type"] = presets.get("questionType", question["type"])
            question["title"] = answers.get("title") or question["title"]
            output_format = presets.get("outputFormat", "examplary_json")
            if output_format == "examplary_json":
                return {"question": question}
            return {"question": content.qti_item(question, output_format)}
        if session.flow == "edit-rubric":
            rubric = copy.deepcopy(presets.get("rubric")) or content.rubric()
            return {"rubric": content.edited(rubric, answers)}
        # The outputs of mark-answer and take-exam are unknown.
        return {}

    # How a request is answered.

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        route, arguments = _ROUTES.find(request)
        is_api = route is None or route.is_api
        with self._lock:
            self.requests.append(request)
            fault = self._next_fault(request)
            limited = is_api and self._is_over_the_limit()
        if is_api:
            time.sleep(self.latency)
        if fault is not None:
            time.sleep(fault.delay)
            if fault.prevents:
                return fault.spoil(self._failure(fault.status or 200))
        response = self._too_many() if limited else self._answer(request, route, arguments)
        return response if fault is None else fault.spoil(response)

    def _answer(
        self, request: Request, route: Route | None, arguments: tuple[str, ...]
    ) -> Response:
        try:
            return self._dispatch(request, route, arguments)
        except Refusal as refusal:
            if route is None or route.is_api:
                return self._error(refusal.status, refusal.message)
            page = pages.message(refusal.message)
            return html_response(refusal.status, page, self.embed_headers)

    def _dispatch(
        self, request: Request, route: Route | None, arguments: tuple[str, ...]
    ) -> Response:
        if route is None:
            if _ROUTES.knows(request):
                raise Refusal(405, "Method not allowed.")
            raise Refusal(404, "Not found.")
        credentials = request.headers.get("Authorization")
        # The raw key is what the official demo sends (section 3).
        if route.needs_key and credentials not in (self.api_key, f"Bearer {self.api_key}"):
            raise Refusal(401, "Unauthorized.")
        with self._lock:
            return route.handler(self, request, *arguments)

    def _next_fault(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if request.matches(fault.method, fault.path):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times < 1:
                        self._faults.remove(fault)
                return fault
        return None

    def _is_over_the_limit(self) -> bool:
        if self._rate is None:
            return False
        now = self.clock()
        while self._recent and now - self._recent[0] >= timedelta(seconds=1):
            self._recent.popleft()
        if len(self._recent) >= self._rate:
            return True
        self._recent.append(now)
        return False

    def _too_many(self) -> Response:
        response = self._error(429, "Too many requests.")
        return dataclasses.replace(response, headers={**response.headers, "Retry-After": "1"})

    def _error(self, status: int, message: str) -> Response:
        if self.error_shape == "empty":
            return Response(status)
        if self.error_shape == "html":
            return html_response(status, pages.message(message))
        bodies: dict[str, Json] = {
            "message": {"message": message},
            "error": {"error": message},
            "error-object": {"error": {"message": message}},
            "errors": {"errors": [{"message": message}]},
            "detail": {"detail": message},
        }
        return json_response(status, bodies[self.error_shape])

    def _failure(self, status: int) -> Response:
        if status < 400:
            return json_response(status, {})
        return self._error(status, http.client.responses.get(status, "Error"))
