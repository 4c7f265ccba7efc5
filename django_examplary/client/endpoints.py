"""The Examplary REST API, one method per documented operation."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from django.views.decorators.debug import sensitive_variables

from django_examplary import clock
from django_examplary.client.base import BaseClient
from django_examplary.client.errors import TransportError, api_error, connection_error
from django_examplary.client.locales import send_with_locale
from django_examplary.client.responses import described
from django_examplary.client.retries import Call
from django_examplary.data import (
    ContentRole,
    EmbedSession,
    Exam,
    Export,
    Permission,
    PracticeSpace,
    Secret,
    SourceMaterial,
    User,
    WorkspaceRole,
)
from django_examplary.encoding import comparable_address, to_camel
from django_examplary.exceptions import (
    ExamplaryError,
    ExamplaryNotFoundError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
    ExamplaryValidationError,
)
from django_examplary.origins import is_https_or_loopback, is_loopback, origin_of


class ExamplaryClient(BaseClient):
    """A client of one workspace of Examplary.

    `timeout` limits the wait for the next byte, and `deadline` a whole call with its retries and
    pauses, both in seconds. Name resolution is done by the operating system and not limited.
    `max_answer_bytes` is the largest response that is read. `ca_bundle` is a PEM file or a
    directory of certificates to trust instead of those of certifi. `proxy` is the URL of a proxy,
    or `"environment"` for that of HTTPS_PROXY and NO_PROXY; by default there is none.

    Raises ExamplaryConfigurationError for an invalid argument. Every method raises
    ExamplaryError: ExamplaryConnectionError without a usable response, ExamplaryAPIError if the API
    refuses, ExamplaryResponseError if its response cannot be read. An ExamplaryConfigurationError
    is raised if the response shows that the base URL is wrong.

    Threads may share a client. After a fork it opens new connections.
    """

    # Users

    @sensitive_variables()
    def create_user(
        self,
        *,
        email: str,
        name: str = "",
        role: WorkspaceRole = "teacher",
        idempotency_key: str = "",
    ) -> User:
        """Create a user in the workspace: `POST /users`.

        Retried only if nothing was sent, or if the API requests a retry (425, 429, 503 with
        Retry-After), because its behaviour for a known address is not documented.
        """
        body = {"email": email, "role": role, **({"name": name} if name else {})}
        call = Call("POST", "/users", json=body, idempotency_key=idempotency_key, creates="user_")
        user = self._get_object(User, call)
        # A masked address cannot be compared.
        masked = re.search(r"[*•…]|\.\.", user.email) or "@" not in user.email
        if not masked and comparable_address(user.email) != comparable_address(email):
            raise self._mismatch_error(call.operation, "email", examplary_id=user.id)
        return user

    def get_me(self) -> User:
        """Read the user who owns the API key: `GET /me`."""
        return self._get_object(User, Call("GET", "/me"))

    def update_me(self, *, name: str) -> User:
        """Rename the user who owns the API key: `PATCH /me`."""
        call = Call("PATCH", "/me", json={"name": name}, repeat="always")
        return self._get_object(User, call)

    # Embed sessions

    @sensitive_variables()
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
        idempotency_key: str = "",
    ) -> EmbedSession:
        """Open a session: `POST /embed-sessions`.

        `presets` and `theme` have the names of the API. The request is retried even if the first
        one may have taken effect, because an unused session expires by itself. If the API refuses a
        request with `theme.locale`, it is sent once without the locale, within the same deadline.
        If that succeeds, this client does not send that locale again, which is logged once as a
        warning.
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
        bound = self.within(self.deadline)
        return send_with_locale(
            body, idempotency_key, self._connections.refused_locales, bound._open_embed_session
        )

    @sensitive_variables()
    def _open_embed_session(self, body: Mapping[str, Any], idempotency_key: str) -> EmbedSession:
        path = "/embed-sessions"
        call = Call("POST", path, json=body, repeat="once", idempotency_key=idempotency_key)
        session = self._get_object(EmbedSession, call)
        same_actor = not session.actor.startswith("user_") or session.actor == body["actor"]
        if not same_actor or session.flow not in ("", body["flow"]):
            raise self._mismatch_error(call.operation, "flow" if same_actor else "actor")
        if session.is_final:
            raise ExamplaryResponseError(
                f"POST {path} returned a session that is {session.status}."
            )
        if not session.embed_url:
            raise ExamplaryResponseError(
                f"The response to POST {path} has no usable embedUrl. It is "
                f"{described(session.raw)}."
            )
        return session

    @sensitive_variables()
    def get_embed_session(self, session_id: str | Secret) -> EmbedSession:
        """Read status and outputs: `GET /embed-sessions/{id}`.

        Error collectors show the id if it is a string, but not if it is a `Secret`.
        """
        call = Call("GET", "/embed-sessions/{id}", ids=_session_ids(session_id))
        session = self._get_object(EmbedSession, call)
        if session.id != session_id:
            raise self._mismatch_error(call.operation, "id")
        return session

    @sensitive_variables()
    def delete_embed_session(self, session_id: str | Secret) -> None:
        """Invalidate the URL of a session: `DELETE /embed-sessions/{id}`.

        A session that is already gone is not an error.
        """
        call = Call("DELETE", "/embed-sessions/{id}", ids=_session_ids(session_id))
        with contextlib.suppress(ExamplaryNotFoundError):
            self._run(call)

    # Exams

    def create_exam(
        self,
        name: str,
        *,
        questions: Sequence[Mapping[str, Any]] = (),
        permissions: Mapping[str, ContentRole] | None = None,
        **fields: Any,
    ) -> Exam:
        """Create an exam: `POST /exams`. At most 200 a minute.

        `permissions` maps actors to their roles. `fields` are the other fields of the operation in
        snake_case (`subject`, `student_level`, `intended_duration`, `metadata`, ...).
        """
        body = {"name": name, **_to_api_fields(fields, permissions)}
        if questions:
            body["questions"] = list(questions)
        return self._get_object(Exam, Call("POST", "/exams", json=body, creates="exam_"))

    def get_exam(self, exam_id: str) -> Exam:
        """Read an exam: `GET /exams/{id}`. Its format is not documented, see `Exam.raw`."""
        exam = self._get_object(Exam, Call("GET", "/exams/{id}", ids={"id": exam_id}))
        if exam.id != exam_id:
            raise self._mismatch_error("GET /exams/{id}", "id")
        return exam

    def delete_exam(self, exam_id: str) -> None:
        """Delete an exam: `DELETE /exams/{id}`. An exam that is already gone is not an error."""
        with contextlib.suppress(ExamplaryNotFoundError):
            self.request("DELETE", "/exams/{id}", ids={"id": exam_id})

    def export_exam_qti3(self, exam_id: str) -> str:
        """Export an exam as a QTI 3 package: `POST /exams/{id}/export/qti3-zip`.

        Returns the URL of the package. Its lifetime is not documented: fetch the package at once
        with `download_exam_qti3`, and do not store the URL.
        """
        path = "/exams/{id}/export/qti3-zip"
        # Retrying is harmless: an export creates nothing that users see.
        call = Call("POST", path, ids={"id": exam_id}, repeat="always")
        return self._get_object(Export, call).url

    @sensitive_variables()
    def download_exam_qti3(self, exam_id: str, *, max_bytes: int = 50 * 1024 * 1024) -> bytes:
        """Export an exam and fetch the ZIP package, without the API key.

        The download uses https, or http from localhost if the API is on localhost.
        """
        from requests import Request  # noqa: PLC0415  # slow

        from django_examplary.client.transport import Exchange  # noqa: PLC0415  # slow

        url = self.export_exam_qti3(exam_id)
        if not is_https_or_loopback(url, http_loopback=is_loopback(self.base_url)):
            raise ExamplaryResponseError("The export is not at an https URL.")
        origin, parts = origin_of(url), urlsplit(url)
        # The URL may work without a key, so it is hidden like the id of a session.
        target = quote(
            f"{parts.path}?{parts.query}".lstrip("/").rstrip("?"), safe="%/:=&?~+!$,;'@()*"
        )
        deadline = clock.monotonic() + min(self.deadline, self.time_left)
        exchange = Exchange(deadline, self.timeout, max_bytes, {"export": target})
        del url, parts, target
        failure: ExamplaryError | None = None
        transport = self._connections.open_transport(origin)
        try:
            request = Request("GET", f"{origin}/%7Bexport%7D", {"Accept": "*/*"})
            answer = transport.send(exchange, request)
        except TransportError as error:
            failure = connection_error("GET the QTI 3 export", error, sent=exchange.sent)
        finally:
            transport.close()
        if failure is not None:
            raise failure
        if answer.status != 200:
            key = self._connections.api_key.value
            raise api_error("GET the QTI 3 export", answer, secrets=[key])
        return answer.body

    # Permissions

    def list_permissions(self, resource: str) -> list[Permission]:
        """Read the permissions on an exam or a space: `GET /permissions/{resource}`.

        An incomplete list is logged as a warning, because paging is not documented.
        """
        call = Call("GET", "/permissions/{resource}", ids={"resource": resource})
        return self._get_list(Permission, call)

    def get_permission(self, resource: str, actor: str) -> Permission | None:
        """Read an actor's role, or None: `GET /permissions/{resource}/{actor}`."""
        path = "/permissions/{resource}/{actor}"
        call = Call("GET", path, ids={"resource": resource, "actor": actor})
        try:
            return self._get_object(Permission, call)
        except ExamplaryNotFoundError:
            return None

    def create_permission(self, resource: str, *, actor: str, role: ContentRole) -> Permission:
        """Set an actor's role on an exam or a space: `POST /permissions/{resource}`.

        The operation has two forms; this is the one by id. The form by e-mail creates users
        whose workspace role is not documented.
        """
        call = Call(
            "POST",
            "/permissions/{resource}",
            ids={"resource": resource},
            json={"actor": actor, "role": role},
            # Idempotent, so safe to retry.
            repeat="always",
        )
        return self._get_object(Permission, call, Permission(actor=actor, role=role))

    # Practice spaces

    def create_practice_space(
        self, *, permissions: Mapping[str, ContentRole] | None = None, **fields: Any
    ) -> PracticeSpace:
        """Create a practice space: `POST /practice-spaces`.

        Its fields are only known from a truncated example: `name`, `student_notes`,
        `source_material_ids`, `mastery_topics`. That it accepts `permissions` is inferred.
        """
        body = _to_api_fields(fields, permissions)
        call = Call("POST", "/practice-spaces", json=body, creates="space_")
        return self._get_object(PracticeSpace, call)

    # Source materials

    def create_source_material(self, url: str, **fields: Any) -> SourceMaterial:
        """Add a material and start processing it: `POST /source-materials`. 10 a minute.

        `fields` in snake_case: `type`, `name`, `size`, `content_type`, `expires`, `external_id`.
        To add a material only once, look for its `external_id` with `list_source_materials` first.
        """
        call = Call("POST", "/source-materials", json={"url": url, **_to_api_fields(fields)})
        return self._get_object(SourceMaterial, call)

    def list_source_materials(self, *, external_id: str = "") -> list[SourceMaterial]:
        """Read the materials of the organisation, or those with your own `external_id`.

        An incomplete list is logged as a warning, because paging is not documented.
        """
        params = {"externalId": external_id} if external_id else None
        call = Call("GET", "/source-materials", params=params)
        return self._get_list(SourceMaterial, call)

    def get_source_material(self, material_id: str) -> SourceMaterial:
        """Read a material: `GET /source-materials/{id}`."""
        call = Call("GET", "/source-materials/{id}", ids={"id": material_id})
        return self._get_object(SourceMaterial, call)

    def wait_for_source_material(
        self, material_id: str, *, timeout: float = 300.0, interval: float = 5.0
    ) -> SourceMaterial:
        """Read a material until its processing has ended, with or without success.

        Waits `interval` seconds at first, then longer each time, up to a minute. Raises
        ExamplaryTimeoutError after `timeout` seconds.
        """
        deadline = clock.monotonic() + timeout
        while not (material := self.get_source_material(material_id)).is_processed:
            if clock.monotonic() + interval > deadline:
                raise ExamplaryTimeoutError(
                    f"The material is still {material.processing_status or 'unprocessed'}."
                )
            time.sleep(interval)
            interval = min(interval * 1.5, 60.0)
        return material

    def slice_source_material(
        self, material_id: str, *, start_page: int, end_page: int, name: str = ""
    ) -> SourceMaterial:
        """Create a material from a range of pages, counted from 1 and inclusive."""
        if not 1 <= start_page <= end_page:
            raise ExamplaryValidationError(
                "start_page", "must be at least 1, and not come after end_page"
            )
        body = {"startPage": start_page, "endPage": end_page, **({"name": name} if name else {})}
        call = Call("POST", "/source-materials/{id}/slice", ids={"id": material_id}, json=body)
        return self._get_object(SourceMaterial, call)

    # Reference data, whose format is not documented

    def list_student_levels(self) -> Any:
        """Read the possible values of the preset `student_level`: `GET /student-levels`."""
        return self.request("GET", "/student-levels")

    def list_taxonomies(self) -> Any:
        """Read the possible values of the preset `taxonomy_id`: `GET /taxonomies`."""
        return self.request("GET", "/taxonomies")

    def list_question_types(self) -> Any:
        """Read the question types available to the key: `GET /question-types`."""
        return self.request("GET", "/question-types")

    def list_public_question_types(self) -> Any:
        """Read the question types available to every workspace: `GET /question-types/public`."""
        return self.request("GET", "/question-types/public")

    def get_openapi(self) -> Any:
        """Read the OpenAPI document of the API: `GET /openapi`. Sent without the API key."""
        # The document of a large API has several MiB.
        call = Call("GET", "/openapi", authorized=False, max_bytes=32 * 1024 * 1024)
        return self._run(call)


def _session_ids(session_id: str | Secret) -> dict[str, str]:
    return {"id": session_id.value if isinstance(session_id, Secret) else session_id}


def _to_api_fields(
    fields: Mapping[str, Any], permissions: Mapping[str, ContentRole] | None = None
) -> dict[str, Any]:
    """Return the fields of a request by their names in the API."""
    body = {to_camel(name): value for name, value in fields.items()}
    if permissions:
        body["permissions"] = [{"actor": key, "role": role} for key, role in permissions.items()]
    return body
