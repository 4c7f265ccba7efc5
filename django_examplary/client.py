"""The Examplary REST API over HTTP. Knows neither Django's settings nor the models.

`requests` and everything built on it is imported when the first call is made.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote, urlsplit

from django.views.decorators.debug import sensitive_variables

import django_examplary
from django_examplary.answers import Readable, api_error, connection_error, parse, read_json
from django_examplary.data import (
    ContentRole,
    EmbedSession,
    Exam,
    Permission,
    PracticeSpace,
    SourceMaterial,
    User,
    WorkspaceRole,
    to_camel,
)
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryNotFoundError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
    ExamplaryValidationError,
)
from django_examplary.retries import Call, Cooldown, Repeat, is_outage, retry_after, seconds_until

if TYPE_CHECKING:
    from django_examplary.transport import Answer, BearerAuth, Transport

T = TypeVar("T", bound=Readable)

logger = logging.getLogger("django_examplary")

PRODUCTION_URL = "https://api.examplary.ai"

_limit: ContextVar[float] = ContextVar("examplary_time_limit", default=math.inf)


@contextlib.contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Let all calls made in the context take no longer than this together. None: nor any less, in
    code that has nothing to do with why its caller has a limit."""
    token = _limit.set(math.inf if seconds is None else latest(seconds))
    try:
        yield
    finally:
        _limit.reset(token)


def latest(seconds: float) -> float:
    """Return by when (`time.monotonic()`) what may take so many seconds has to be over."""
    return min(_limit.get(), time.monotonic() + seconds)


class ExamplaryClient:
    """One workspace of Examplary.

    `timeout` bounds the wait for the next byte and `deadline` a whole call, retries and pauses
    included, both in seconds. Name resolution is the operating system's and is not bounded.

    Raises ExamplaryConfigurationError when the key or the URL cannot be right. Every method raises
    ExamplaryError: an ExamplaryConnectionError when no usable answer came, an ExamplaryAPIError
    when the API refused, an ExamplaryResponseError when its answer cannot be read.

    Threads may share a client. After a fork it opens connections of its own.
    """

    @sensitive_variables("api_key")
    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = PRODUCTION_URL,
        timeout: float = 10.0,
        deadline: float = 15.0,
        max_retries: int = 2,
        pool_size: int = 10,
    ) -> None:
        self._api_key = checked_key(api_key)
        self.base_url = checked_url(base_url)
        self.timeout = timeout
        self.deadline = deadline
        self.max_retries = max_retries
        self.pool_size = pool_size
        self._cooldown = Cooldown()
        self._transport: tuple[int, Transport, BearerAuth] | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Tells this API and key from others without giving them away. 64 characters."""
        return hashlib.sha256(f"{self.base_url} {self._api_key}".encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and forget what failed. The next call opens new ones."""
        self._cooldown.count(failed=False)
        with self._lock:
            if self._transport is not None:
                self._transport[1].close()
            self._transport = None

    # Users

    @sensitive_variables()
    def create_user(self, *, email: str, name: str = "", role: WorkspaceRole = "teacher") -> User:
        """Make a user in the workspace: `POST /users`.

        Repeated only when nothing was sent, or when the answer is to come back later (425, 429,
        503 with Retry-After), since what the API does with an address it knows is not documented.
        `retries.is_uncertain(error)` tells whether a call that failed may have made the user all
        the same.
        """
        body = {"email": email, "role": role, **({"name": name} if name else {})}
        user = self._get(User, "POST", "/users", json=body)
        self._check_echo("POST /users", (user.email.lower(), email.lower()))
        return user

    def get_me(self) -> User:
        """Read the user who owns the API key: `GET /me`."""
        return self._get(User, "GET", "/me")

    def update_me(self, *, name: str) -> User:
        """Rename the user who owns the API key: `PATCH /me`."""
        return self._get(User, "PATCH", "/me", json={"name": name}, repeat="always")

    # Embed sessions

    def create_embed_session(
        self,
        *,
        flow: str,
        actor: str,
        presets: Mapping[str, Any] | None = None,
        theme: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        return_url: str = "",
        allowed_origin: str = "",
    ) -> EmbedSession:
        """Open a session: `POST /embed-sessions`. `presets` and `theme` have the API's names.

        Sent a second time when the first may have been acted on: the cost is a session that
        nobody opens and that expires by itself.
        """
        if not actor.startswith("user_"):
            raise ExamplaryValidationError("actor", "must be an id that starts with 'user_'")
        optional = {
            "presets": presets,
            "theme": theme,
            "metadata": metadata,
            "returnUrl": return_url,
            "allowedOrigin": allowed_origin,
        }
        body = {"flow": flow, "actor": actor, **{k: v for k, v in optional.items() if v}}
        session = self._get(EmbedSession, "POST", "/embed-sessions", json=body, repeat="once")
        self._check_echo("POST /embed-sessions", (session.flow, flow), (session.actor, actor))
        return session

    @sensitive_variables("session_id")
    def get_embed_session(self, session_id: str) -> EmbedSession:
        """Read status and outputs: `GET /embed-sessions/{id}`."""
        session = self._get(EmbedSession, "GET", "/embed-sessions/{id}", ids={"id": session_id})
        self._check_echo("GET /embed-sessions/{id}", (session.id, session_id))
        return session

    @sensitive_variables("session_id")
    def delete_embed_session(self, session_id: str, *, missing_ok: bool = True) -> None:
        """Make a session's URL stop working: `DELETE /embed-sessions/{id}`.

        One that is gone is fine; with `missing_ok=False` it is an ExamplaryNotFoundError, as any is
        for the key of another workspace.
        """
        try:
            self.request("DELETE", "/embed-sessions/{id}", ids={"id": session_id})
        except ExamplaryNotFoundError:
            if not missing_ok:
                raise

    # Exams

    def create_exam(
        self,
        name: str,
        *,
        questions: Sequence[Mapping[str, Any]] = (),
        permissions: Mapping[str, ContentRole] | None = None,
        **fields: Any,
    ) -> Exam:
        """Make an exam: `POST /exams`.

        `permissions` maps actors to their roles; `fields` are the operation's others in snake_case
        (`subject`, `student_level`, `intended_duration`, `metadata`, ...). 200 a minute at most.
        """
        body = {"name": name, **{to_camel(key): value for key, value in fields.items()}}
        if questions:
            body["questions"] = list(questions)
        return self._get(Exam, "POST", "/exams", json={**body, **_grants(permissions)})

    def get_exam(self, exam_id: str) -> Exam:
        """Read an exam: `GET /exams/{id}`. Its format is not documented, see `Exam.raw`."""
        exam = self._get(Exam, "GET", "/exams/{id}", ids={"id": exam_id})
        self._check_echo("GET /exams/{id}", (exam.id, exam_id))
        return exam

    def delete_exam(self, exam_id: str) -> None:
        """Delete an exam: `DELETE /exams/{id}`. Gone is fine."""
        with contextlib.suppress(ExamplaryNotFoundError):
            self.request("DELETE", "/exams/{id}", ids={"id": exam_id})

    def export_exam_qti3(self, exam_id: str) -> str:
        """Export an exam as a QTI 3 package: `POST /exams/{id}/export/qti3-zip`.

        Returns the URL of the package. How long it lasts is not documented: fetch it at once with
        `download_exam_qti3`, and do not store it.
        """
        path = "/exams/{id}/export/qti3-zip"
        # Repeated freely: an export makes nothing that anyone could see twice.
        answer = self.request("POST", path, ids={"id": exam_id}, repeat="always")
        url = answer.get("url") if isinstance(answer, dict) else None
        if not isinstance(url, str):
            raise ExamplaryResponseError(f"POST {path} was answered without a URL.")
        return url

    def download_exam_qti3(self, exam_id: str, *, max_bytes: int = 50 * 1024 * 1024) -> bytes:
        """Export an exam and fetch the ZIP package, without the API key.

        Only over https, or over http from this machine while the API is on this machine.
        """
        url = self.export_exam_qti3(exam_id)
        if not _is_https_or_loopback(url, loopback=is_loopback(self.base_url)):
            raise ExamplaryResponseError("The export is not at an https URL.")
        from django_examplary.transport import (  # noqa: PLC0415  # slow, and not needed before
            Exchange,
            Transport,
            TransportError,
        )

        failure = None
        transport = Transport(_origin(url), user_agent=_user_agent(), pool_size=1)
        exchange = Exchange(latest(self.deadline), self.timeout, max_bytes)
        try:
            answer = transport.send(exchange, "GET", url, headers={"Accept": "*/*"})
        except TransportError as error:
            failure = connection_error("GET the QTI 3 export", error, exchange)
        finally:
            transport.close()
        if failure is not None:
            raise failure
        if answer.status != 200:
            raise api_error("GET the QTI 3 export", answer, api_key=self._api_key)
        return answer.body

    # Permissions

    def list_permissions(self, resource: str) -> list[Permission]:
        """Read who has access to a resource, an exam or a space: `GET /permissions/{resource}`."""
        return self._list(Permission, "/permissions/{resource}", ids={"resource": resource})

    def get_permission(self, resource: str, actor: str) -> Permission | None:
        """Read one actor's role: `GET /permissions/{resource}/{actor}`. None: no access."""
        try:
            return self._get(
                Permission,
                "GET",
                "/permissions/{resource}/{actor}",
                ids={"resource": resource, "actor": actor},
            )
        except ExamplaryNotFoundError:
            return None

    def create_permission(self, resource: str, *, actor: str, role: ContentRole) -> Permission:
        """Give an actor a role, whatever it had before: `POST /permissions/{resource}`.

        Of the operation's two forms the one by id; the one by e-mail makes users of unknown role.
        """
        return self._get(
            Permission,
            "POST",
            "/permissions/{resource}",
            ids={"resource": resource},
            json={"actor": actor, "role": role},
            # Said twice it is the same.
            repeat="always",
        )

    # Practice spaces

    def create_practice_space(
        self, *, permissions: Mapping[str, ContentRole] | None = None, **fields: Any
    ) -> PracticeSpace:
        """Make a practice space: `POST /practice-spaces`.

        Its fields are only known from the start of an example: `name`, `student_notes`,
        `source_material_ids`, `mastery_topics`. That it takes `permissions` is inferred.
        """
        body = {to_camel(key): value for key, value in fields.items()}
        return self._get(
            PracticeSpace, "POST", "/practice-spaces", json={**body, **_grants(permissions)}
        )

    # Source materials

    def create_source_material(self, url: str, **fields: Any) -> SourceMaterial:
        """Add a material and start processing it: `POST /source-materials`. 10 a minute.

        `fields` in snake_case: `type`, `name`, `size`, `content_type`, `expires`, `external_id`.
        To add one only once, look for its `external_id` with `list_source_materials` first.
        """
        body = {"url": url, **{to_camel(key): value for key, value in fields.items()}}
        return self._get(SourceMaterial, "POST", "/source-materials", json=body)

    def list_source_materials(self, *, external_id: str = "") -> list[SourceMaterial]:
        """Read the organisation's materials, or those of one id of yours."""
        params = {"externalId": external_id} if external_id else None
        return self._list(SourceMaterial, "/source-materials", params=params)

    def get_source_material(self, material_id: str) -> SourceMaterial:
        """Read a material: `GET /source-materials/{id}`."""
        return self._get(SourceMaterial, "GET", "/source-materials/{id}", ids={"id": material_id})

    def wait_for_source_material(
        self, material_id: str, *, timeout: float = 300.0, interval: float = 5.0
    ) -> SourceMaterial:
        """Read a material until its processing is over, well or not, and return it.

        Waits `interval` seconds at first, then ever longer up to a minute. Raises
        ExamplaryTimeoutError after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (material := self.get_source_material(material_id)).is_processed:
            if time.monotonic() + interval > deadline:
                raise ExamplaryTimeoutError(
                    f"The material is still {material.processing_status or 'unprocessed'}."
                )
            time.sleep(interval)
            interval = min(interval * 1.5, 60.0)
        return material

    def slice_source_material(
        self, material_id: str, *, start_page: int, end_page: int, name: str = ""
    ) -> SourceMaterial:
        """Make a material of some pages, counted from 1 and both included."""
        if not 1 <= start_page <= end_page:
            raise ExamplaryValidationError(
                "start_page", "must be at least 1, and not come after end_page"
            )
        body = {"startPage": start_page, "endPage": end_page, **({"name": name} if name else {})}
        return self._get(
            SourceMaterial,
            "POST",
            "/source-materials/{id}/slice",
            ids={"id": material_id},
            json=body,
        )

    # Reference data, whose shape is not documented

    def list_student_levels(self) -> Any:
        """Read what the preset `student_level` may be: `GET /student-levels`."""
        return self.request("GET", "/student-levels")

    def list_taxonomies(self) -> Any:
        """Read what the preset `taxonomy_id` may be: `GET /taxonomies`."""
        return self.request("GET", "/taxonomies")

    def list_question_types(self) -> Any:
        """Read the question types that the key may use: `GET /question-types`."""
        return self.request("GET", "/question-types")

    def list_public_question_types(self) -> Any:
        """Read everybody's question types: `GET /question-types/public`."""
        return self.request("GET", "/question-types/public")

    def get_openapi(self) -> Any:
        """Read the API's own OpenAPI document: `GET /openapi`. Sent without the API key."""
        return self.request("GET", "/openapi", authenticated=False)

    # Everything else

    @sensitive_variables()
    def request(
        self,
        method: str,
        path: str,
        *,
        ids: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        repeat: Repeat | None = None,
        authenticated: bool = True,
        on_answer: Callable[[Answer], object] | None = None,
    ) -> Any:
        """Call any operation and return the parsed JSON, or None for an empty answer.

        `path` is a template such as `/exams/{id}`, filled from `ids`: logs and errors show the
        template alone. `repeat` says when the call may be sent again although the API may have
        acted on it: by default `"always"` for GET and DELETE and `"never"` for the rest.
        With `authenticated=False` the API key is not sent. `on_answer` is called with each HTTP
        answer (`status`, `headers`, `body`) before it is read, also when it is an error.
        """
        operation = f"{method} {path}"
        url = self.base_url + _fill(path, ids or {})
        body = _dump(json)
        call = Call(
            operation=operation,
            repeat=repeat or ("always" if method in ("GET", "DELETE") else "never"),
            deadline=latest(self.deadline),
            max_attempts=self.max_retries + 1,
        )
        headers = {"X-Request-Id": call.id}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._cooldown.check(call)
        while True:
            outcome = self._attempt(
                call,
                method,
                url,
                authenticated=authenticated,
                on_answer=on_answer,
                params=params,
                data=body,
                headers=headers,
            )
            if not isinstance(outcome, ExamplaryError):
                break
            pause = call.pause_after(outcome)
            if pause is None:
                break
            time.sleep(pause)
        # A call that was given much less time than an answer may take says nothing of the API.
        hurried = _limit.get() - call.started < min(self.timeout, self.deadline) / 2
        if not (hurried and isinstance(outcome, ExamplaryTimeoutError)):
            self._cooldown.count(failed=is_outage(outcome))
        if isinstance(outcome, ExamplaryError):
            # That something is not there is an answer, to a question more often than not.
            absent = isinstance(outcome, ExamplaryNotFoundError)
            call.finish(logging.INFO if absent else logging.WARNING, type(outcome).__name__)
            # Raised here and not where it was found, so that it is not chained to an error whose
            # frames hold the key.
            raise outcome
        call.finish(logging.INFO, "ok")
        return outcome

    @sensitive_variables()
    def _get(self, cls: type[T], method: str, path: str, **options: Any) -> T:
        """Call an operation that answers with one object."""
        answer = self.request(method, path, **options)
        return parse(cls, answer, f"{method} {path}")

    @sensitive_variables()
    def _list(self, cls: type[T], path: str, **options: Any) -> list[T]:
        """Call an operation that answers with a list; an envelope around it is tolerated."""
        answer = self.request("GET", path, **options)
        if isinstance(answer, dict):
            answer = next((item for item in answer.values() if isinstance(item, list)), None)
        if not isinstance(answer, list):
            raise ExamplaryResponseError(f"The answer to GET {path} is not a list.")
        return [parse(cls, item, f"GET {path}") for item in answer]

    @sensitive_variables()
    def _attempt(
        self,
        call: Call,
        method: str,
        url: str,
        *,
        authenticated: bool,
        on_answer: Callable[[Answer], object] | None,
        **options: Any,
    ) -> Any:
        """Send once. Return the parsed answer, or the error."""
        from django_examplary.transport import Exchange, TransportError  # noqa: PLC0415  # slow

        transport, auth = self._connected()
        exchange = Exchange(call.deadline, self.timeout)
        call.attempts += 1
        call.retry_after = None
        try:
            answer = transport.send(
                exchange, method, url, auth=auth if authenticated else None, **options
            )
        except TransportError as error:
            failure = connection_error(call.operation, error, exchange)
            call.final = error.final
            return failure
        if on_answer is not None:
            on_answer(answer)
        call.status = answer.status
        call.clock_difference = seconds_until(answer.headers.get("Date"))
        if not 200 <= answer.status < 300:
            call.retry_after = retry_after(answer.headers.get("Retry-After"))
            return api_error(
                call.operation, answer, api_key=self._api_key, retry_after=call.retry_after
            )
        parsed = read_json(call.operation, answer)
        if method == "DELETE" and isinstance(parsed, ExamplaryError):
            return None  # What DELETE answers is not documented, beyond that any 2xx is success.
        return parsed

    def _connected(self) -> tuple[Transport, BearerAuth]:
        """Return the pool of this process: one that came through a fork gives wrong answers."""
        from django_examplary.transport import BearerAuth, Transport  # noqa: PLC0415  # slow

        with self._lock:
            if self._transport is None or self._transport[0] != os.getpid():
                transport = Transport(
                    _origin(self.base_url), user_agent=_user_agent(), pool_size=self.pool_size
                )
                self._transport = (os.getpid(), transport, BearerAuth(self._api_key))
            return self._transport[1:]

    @sensitive_variables("echoed")
    def _check_echo(self, operation: str, *echoed: tuple[str, str]) -> None:
        """Refuse an answer to somebody else's question: it would show a user another's session.

        `echoed` are pairs of what came and what was asked; what did not come is not compared.
        """
        if all(came in ("", asked) for came, asked in echoed):
            return
        self.close()
        logger.error("operation=%r outcome=foreign-answer", operation)
        raise ExamplaryResponseError(f"{operation} was answered with another object's data.")


@sensitive_variables("api_key")
def checked_key(api_key: str) -> str:
    """Return the key if it can be sent. Raises ExamplaryConfigurationError, without the key."""
    if not api_key:
        raise ExamplaryConfigurationError(
            "Set EXAMPLARY_API_KEY, in the settings or in the environment, to an API key from "
            "https://app.examplary.ai/account/developer."
        )
    if not re.fullmatch(r"[!-~]+", api_key):
        raise ExamplaryConfigurationError(
            "EXAMPLARY_API_KEY may only hold visible ASCII characters: no blanks, no line ends."
        )
    return api_key


def checked_url(url: str) -> str:
    """Return the base URL if it is safe. Raises ExamplaryConfigurationError."""
    if not _is_https_or_loopback(url, loopback=True) or urlsplit(url).query:
        raise ExamplaryConfigurationError(
            "EXAMPLARY_API_URL must be an https URL without credentials or query; http is only "
            "taken for this machine."
        )
    return url.rstrip("/")


def _is_https_or_loopback(url: str, *, loopback: bool) -> bool:
    try:
        parts = urlsplit(url)
        credentials = "@" in parts.netloc
        parts.port  # noqa: B018  # raises for a port that is no number
    except ValueError:
        return False
    if credentials or not parts.hostname or re.search(r"[\x00-\x20\\]", url):
        return False
    return parts.scheme == "https" or (loopback and parts.scheme == "http" and is_loopback(url))


def is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _user_agent() -> str:
    return f"django-examplary/{django_examplary.__version__}"


def _fill(path: str, ids: Mapping[str, str]) -> str:
    if not path.startswith("/"):
        raise ExamplaryValidationError("path", "must begin with a slash")
    for name, value in ids.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,512}", value):
            raise ExamplaryValidationError(
                name, "must be an Examplary id: letters, digits, _ and - only"
            )
        path = path.replace(f"{{{name}}}", value)
    return quote(path, safe="/{}")


def _grants(permissions: Mapping[str, ContentRole] | None) -> dict[str, Any]:
    grants = [{"actor": actor, "role": role} for actor, role in (permissions or {}).items()]
    return {"permissions": grants} if grants else {}


def _dump(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ExamplaryValidationError("json", f"cannot be sent: {error}") from None
