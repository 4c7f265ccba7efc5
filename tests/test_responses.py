"""Every plausible response of the API works, or raises an error with its content."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from itertools import count

import pytest

from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import Answer, api_error, cleaned
from django_examplary.client.responses import Incomplete
from django_examplary.client.retries import is_uncertain
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConflictError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplaryServerError,
)
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from tests import wire

JSON = {"Content-Type": "application/json"}
USER = {"id": "user_1", "email": "ann@school.example", "name": "Ann", "role": "teacher"}
SESSION = {
    "id": "embed_session_1",
    "status": "pending",
    "flow": "generate-exam",
    "actor": "user_1",
    "embedUrl": "https://app.examplary.ai/embeds/1",
    "createdAt": "2025-12-09T16:00:00Z",
    "expiresAt": "2025-12-16T16:00:00Z",
    "outputs": {},
}
DONE = {**SESSION, "status": "completed", "outputs": {"examId": "exam_1"}}
PERMISSION = {"actor": {"id": "user_1"}, "role": "editor"}
OWNER = "Actor ID cannot be the same as the requesting user. Create a new user."
STRANGER = "Actor with the given ID does not exist as a user within your workspace."

CALLS = {
    "GET /me": lambda client: client.get_me(),
    "POST /users": lambda client: client.create_user(email="ann@school.example", role="teacher"),
    "POST /embed-sessions": lambda client: client.create_embed_session(
        flow="generate-exam", actor="user_1"
    ),
    "GET session": lambda client: client.get_embed_session("embed_session_1"),
    "DELETE session": lambda client: client.delete_embed_session("embed_session_1"),
    "GET permissions": lambda client: client.list_permissions("exam_1"),
    "GET permission": lambda client: client.get_permission("exam_1", "user_1"),
    "POST permission": lambda client: client.create_permission(
        "exam_1", actor="user_1", role="editor"
    ),
    "GET materials": lambda client: client.list_source_materials(),
    "POST /exams": lambda client: client.create_exam("Sums"),
    "export": lambda client: client.export_exam_qti3("exam_1"),
}


class Works:
    """The call succeeds, and its result has these attributes."""

    def __init__(self, **attributes):
        self.attributes = attributes


class Reported:
    """The call raises, and the message has this text."""

    def __init__(self, error, text, **attributes):
        self.error = error
        self.text = text
        self.attributes = attributes


def text(body, kind="text/plain", status=200):
    return {"status": status, "body": json.dumps(body).encode(), "headers": {"Content-Type": kind}}


def answer(body, status=200):
    return text(body, "application/json", status)


def refused(body, status=400):
    return answer(body, status)


def without(body, *names):
    return {name: value for name, value in body.items() if name not in names}


def redirect(status, location):
    return {"status": status, "body": b"<p>Moved", "headers": {"Location": location}}


NOT = "which is not followed"
OK = Works(id="user_1")
OPEN = Works(id="embed_session_1", status="pending", is_pending=True)
RESULT = Works(outputs={"examId": "exam_1"}, is_completed=True)
HTML = {"body": b"<!doctype html><title>x</title>", "headers": {"Content-Type": "text/html"}}
WRONG_URL = "EXAMPLARY_API_URL is"

ROWS = [
    # Media types
    ("POST /users", text(USER, "text/plain"), OK),
    ("POST /users", text(USER, ""), OK),
    ("POST /users", text(USER, "application/octet-stream"), OK),
    ("POST /users", text(USER, "APPLICATION/JSON; Charset=UTF-8"), OK),
    ("POST /users", text(USER, "text/html"), OK),
    ("POST /users", answer(USER, 200), OK),
    ("POST /users", answer(USER, 201), OK),
    ("POST /users", answer(USER, 202), OK),
    ("GET session", text(DONE, "text/plain"), RESULT),
    # Users
    ("POST /users", answer({"id": "user_1"}), Works(id="user_1", email="", name="", role="")),
    ("POST /users", answer({**USER, "role": ["teacher"]}), Works(role="teacher")),
    ("POST /users", answer({**USER, "role": {"slug": "teacher"}}), Works(role="teacher")),
    ("POST /users", answer({**USER, "name": {"first": "Ann"}}), Works(id="user_1", name="")),
    ("POST /users", answer({**USER, "email": "a**@school.example"}), OK),
    ("POST /users", answer({**USER, "email": "hidden"}), OK),
    ("POST /users", answer({**USER, "email": None}), OK),
    ("POST /users", answer({**USER, "email": 7}), OK),
    ("POST /users", answer({"user": USER}), OK),
    ("POST /users", answer({"data": USER}), OK),
    ("POST /users", answer({"data": {"user": USER}}), OK),
    ("POST /users", answer({"success": True, "data": USER, "meta": {}}), OK),
    ("POST /users", answer([USER]), OK),
    (
        "POST /users",
        answer({**USER, "email": "other@school.example"}),
        Reported(
            ExamplaryResponseError,
            "another object's data: its email is not the one",
            examplary_id="user_1",
        ),
    ),
    (
        "POST /users",
        answer({"userId": "user_9", "ok": True}),
        Reported(
            ExamplaryResponseError,
            "id is missing. It is an object with userId (str), ok (bool).",
            examplary_id="user_9",
        ),
    ),
    (
        "POST /users",
        answer({"id": 7, "createdBy": "user_8", "user": "user_9"}),
        Reported(ExamplaryResponseError, "id is not a string", examplary_id="user_9"),
    ),
    (
        "POST /users",
        {"body": b'{"id": "user_9", "na', "headers": JSON},
        Reported(ExamplaryResponseError, "not valid JSON (application", examplary_id="user_9"),
    ),
    ("POST /users", answer("user_9"), Reported(ExamplaryResponseError, "but a str")),
    ("POST /users", answer([]), Reported(ExamplaryResponseError, "but a list of 0")),
    ("POST /users", answer(None), Reported(ExamplaryResponseError, "but empty")),
    ("POST /users", answer({}), Reported(ExamplaryResponseError, "an object with no fields")),
    (
        "POST /users",
        answer({"success": False, "error": "busy"}),
        Reported(ExamplaryResponseError, "success (bool), error (str)"),
    ),
    ("POST /users", HTML, Reported(ExamplaryResponseError, "a web page (text/html)")),
    ("GET /me", HTML, Reported(ExamplaryResponseError, "EXAMPLARY_API_URL is the address")),
    ("POST /users", answer({"result": {"response": {"data": {"user": USER}}}}), OK),
    ("POST /users", answer({"data": [USER], "meta": {"id": "req_1"}}), OK),
    ("POST /users", answer({"user": USER, "organization": {"id": "org_1"}}), OK),
    ("POST /users", answer({"results": [{"status": 201, "user": USER}]}, 207), OK),
    ("POST /users", answer({**USER, "email": " Ann@School.Example "}), OK),
    ("POST /users", {**answer(USER), "transport": wire.CHUNKED}, OK),
    ("POST /users", answer(USER) | {"headers": {"Content-Encoding": "utf-8"}}, OK),
    ("POST /users", {"body": b"\xef\xbb\xbf" + json.dumps(USER).encode(), "headers": JSON}, OK),
    ("POST /users", {"body": json.dumps(USER).encode("utf-16"), "headers": JSON}, OK),
    ("POST /users", {"body": b'{"id": "user_8", "id": "user_1"}', "headers": JSON}, OK),
    (
        "POST /users",
        answer({"userId": "user_9", "createdBy": {"id": "user_8"}}),
        Reported(
            ExamplaryResponseError, "userId (str), createdBy (dict: id).", examplary_id="user_9"
        ),
    ),
    *(
        (
            "POST /users",
            {"status": status, "body": b"", "headers": {"Location": "/users/user_9"}},
            Reported(ExamplaryResponseError, "but empty", examplary_id="user_9"),
        )
        for status in (201, 202, 204)
    ),
    (
        "POST /users",
        answer({"id": 17}),
        Reported(ExamplaryResponseError, "id is not a string", examplary_id="17"),
    ),
    (
        "POST /users",
        answer({"id": "usr_17"}),
        Reported(ExamplaryResponseError, "starts with user_", examplary_id="usr_17"),
    ),
    (
        "POST /users",
        answer({"statusCode": 400, "message": "Quota exceeded for ann@school.example"}),
        Reported(ExamplaryResponseError, "Its message: Quota exceeded for <e-mail>"),
    ),
    (
        "POST /users",
        answer({"error": {"message": f"Key {DEFAULT_API_KEY} is old"}}),
        Reported(ExamplaryResponseError, "Its message: Key <hidden> is old"),
    ),
    *(
        (
            "POST /users",
            {"body": b"x", "headers": {"Content-Encoding": encoding}},
            Reported(ExamplaryResponseError, f"is compressed with {encoding}"),
        )
        for encoding in ("gzip", "br")
    ),
    (
        "POST /users",
        {"status": 409, "body": b"x", "headers": {"Content-Encoding": "br"}},
        Reported(ExamplaryConflictError, "was answered with 409"),
    ),
    *(
        ("POST /users", answer(body), Reported(ExamplaryResponseError, f"Its message: {words}"))
        for body, words in (
            ({"Message": "Exists"}, "Exists"),
            ({"title": "Conflict", "status": 409, "detail": "Exists"}, "Exists; Conflict"),
            ({"issues": [{"path": ["email"], "message": "Exists"}]}, "email: Exists"),
            (
                {"data": None, "errors": [{"message": "Exists", "path": ["createUser"]}]},
                "createUser",
            ),
        )
    ),
    *(
        (
            "POST /users",
            {"body": b"x", "headers": {"Content-Encoding": encoding}},
            Reported(ExamplaryResponseError, f"is compressed with {encoding}"),
        )
        for encoding in ("gzip, identity", "identity, x-gzip")
    ),
    ("POST /users", answer({"_embedded": {"user": USER}, "_links": {"self": {"href": "/x"}}}), OK),
    (
        "POST /users",
        {"status": 201, "body": json.dumps({"userId": "user_9"}).encode("utf-16")},
        Reported(ExamplaryResponseError, "userId (str)", examplary_id="user_9"),
    ),
    # Users: refusals
    *(
        (
            "POST /users",
            refused(body, 422),
            Reported(ExamplaryInvalidRequestError, "", examplary_id=""),
        )
        for body in (
            {"code": "user_already_exists"},
            {"code": "USER_EXISTS"},
            {"message": "user_name is required"},
        )
    ),
    (
        "POST /users",
        refused({"message": "The address belongs to user_aBcDefghijk"}, 409),
        Reported(ExamplaryConflictError, "user_aBcDefghijk", examplary_id="user_aBcDefghijk"),
    ),
    (
        "POST /users",
        {
            "status": 401,
            "body": {"message": "Unauthorized"},
            "headers": {"WWW-Authenticate": f'Bearer error="expired {DEFAULT_API_KEY}"'},
        },
        Reported(
            ExamplaryAuthenticationError, '401: Unauthorized; Bearer error="expired <hidden>"'
        ),
    ),
    *(
        (
            "GET /me",
            {"status": 401, "body": body, "headers": {"WWW-Authenticate": challenge}},
            Reported(ExamplaryAuthenticationError, words),
        )
        for body, challenge, words in (
            (b"", 'Bearer error="expired"', '401: Bearer error="expired"'),
            (b"no", 'Bearer error="expired"', '401: no; Bearer error="expired"'),
            (b"no", 'Bearer realm="x"', "401: no"),
        )
    ),
    (
        "POST /users",
        refused({"error": "validation", "issues": [{"path": ["role"], "message": "Unknown"}]}),
        Reported(ExamplaryInvalidRequestError, "400: validation; role: Unknown"),
    ),
    (
        "POST /users",
        refused({"message": "exists"}, 409),
        Reported(ExamplaryConflictError, "409: exists"),
    ),
    ("POST /users", refused({"message": "exists"}, 500), Reported(ExamplaryServerError, "exists")),
    (
        "POST /users",
        text({"message": "no"}, "text/plain", 422),
        Reported(ExamplaryInvalidRequestError, "422: no"),
    ),
    (
        "POST /users",
        refused({"message": "Not Found"}, 404),
        Reported(ExamplaryConfigurationError, WRONG_URL),
    ),
    ("GET /me", refused({}, 405), Reported(ExamplaryConfigurationError, WRONG_URL)),
    ("GET /me", refused({}, 301), Reported(ExamplaryConfigurationError, WRONG_URL)),
    *(
        (call, redirect(status, location), Reported(ExamplaryConfigurationError, words))
        for call in ("GET /me", "POST /users", "POST /embed-sessions")
        for status, location, words in (
            (302, "https://login.school.example/?next=/x", f"to login.school.example, {NOT}"),
            (307, "/users/", f"another path with a slash at its end, {NOT}"),
            (308, "//[::1]/", f"to [::1] with a slash at its end, {NOT}"),
        )
    ),
    (
        "POST /users",
        redirect(303, "/users/user_9"),
        Reported(
            ExamplaryAPIError, f"303: a redirect to another path, {NOT}", examplary_id="user_9"
        ),
    ),
    (
        "POST /users",
        refused({"message": "Locked"}, 423),
        Reported(ExamplaryAPIError, "423: Locked"),
    ),
    ("POST /users", refused({"message": "Early"}, 425), Reported(ExamplaryAPIError, "425: Early")),
    # Unapproved workspaces
    *(
        (
            "POST /embed-sessions",
            refused({"message": "Contact us"}, status),
            Reported(ExamplaryPermissionError, f"{status}: Contact us"),
        )
        for status in (402, 403, 415, 451)
    ),
    (
        "POST /embed-sessions",
        refused({"message": "Forbidden flow"}, 405),
        Reported(ExamplaryPermissionError, "405: Forbidden flow"),
    ),
    # Opening a session
    ("POST /embed-sessions", answer(SESSION), OPEN),
    ("POST /embed-sessions", answer({"embedSession": SESSION}), OPEN),
    ("POST /embed-sessions", answer({"data": SESSION, "links": {}}), OPEN),
    ("POST /embed-sessions", answer(without(SESSION, "actor", "flow")), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "actor": {"id": "user_1"}}), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "actor": "ann"}), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "flow": "GENERATE_EXAM"}), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "status": "PENDING"}), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "expiresAt": None}), Works(expires_at=None)),
    (
        "POST /embed-sessions",
        answer({**SESSION, "expiresAt": 1765900800}),
        Works(expires_at=datetime(2025, 12, 16, 16, tzinfo=UTC)),
    ),
    (
        "POST /embed-sessions",
        answer({**SESSION, "expiresAt": 1765900800000}),
        Works(expires_at=datetime(2025, 12, 16, 16, tzinfo=UTC)),
    ),
    (
        "POST /embed-sessions",
        answer({**SESSION, "expiresAt": "2025-12-16T16:00:00"}),
        Works(expires_at=datetime(2025, 12, 16, 16, tzinfo=UTC)),
    ),
    ("POST /embed-sessions", answer({**SESSION, "outputs": None}), Works(outputs={})),
    ("POST /embed-sessions", answer({**SESSION, "outputs": []}), Works(outputs={})),
    ("POST /embed-sessions", answer({**SESSION, "expiresAt": "soon"}), Works(expires_at=None)),
    (
        "POST /embed-sessions",
        answer({**SESSION, "expiresAt": "1765900800000"}),
        Works(expires_at=datetime(2025, 12, 16, 16, tzinfo=UTC)),
    ),
    ("POST /embed-sessions", answer({**SESSION, "status": {"state": "pending"}}), OPEN),
    ("POST /embed-sessions", answer({**SESSION, "flow": "generateExam"}), OPEN),
    ("POST /embed-sessions", answer({"items": [SESSION], "count": 1}), OPEN),
    ("POST /embed-sessions", answer({"session": SESSION, "actor": {"id": "user_1"}}), OPEN),
    (
        "POST /embed-sessions",
        answer({**SESSION, "status": "openstaand"}),
        Works(status="openstaand", is_pending=False, is_final=False),
    ),
    *(
        (
            "POST /embed-sessions",
            answer({**SESSION, "status": status}),
            Reported(ExamplaryResponseError, f"returned a session that is {status}."),
        )
        for status in ("completed", "cancelled", "expired")
    ),
    (
        "POST /embed-sessions",
        answer({"status": "error", "message": "Quota"}),
        Reported(ExamplaryResponseError, "Its message: Quota"),
    ),
    (
        "POST /embed-sessions",
        {"status": 201, "body": b"", "headers": {"Location": "/embed-sessions/embed_session_1"}},
        Reported(ExamplaryResponseError, "but empty", examplary_id=""),
    ),
    (
        "POST /embed-sessions",
        answer({"jobId": "job_1", "status": "queued"}, 202),
        Reported(ExamplaryResponseError, "jobId (str), status (str)"),
    ),
    ("POST /embed-sessions", HTML, Reported(ExamplaryResponseError, "a web page (text/html)")),
    (
        "POST /embed-sessions",
        refused({"message": "Locked"}, 423),
        Reported(ExamplaryAPIError, "423: Locked"),
    ),
    (
        "POST /embed-sessions",
        answer(without(SESSION, "embedUrl")),
        Reported(
            ExamplaryResponseError,
            "has no usable embedUrl. It is an object with id (str), status (str)",
        ),
    ),
    (
        "POST /embed-sessions",
        answer(without(SESSION, "status")),
        Reported(ExamplaryResponseError, "status is missing"),
    ),
    (
        "POST /embed-sessions",
        answer({**SESSION, "actor": "user_2"}),
        Reported(ExamplaryResponseError, "another object's data"),
    ),
    (
        "POST /embed-sessions",
        refused({"message": "Not Found"}, 404),
        Reported(ExamplaryConfigurationError, WRONG_URL),
    ),
    (
        "POST /embed-sessions",
        {**HTML, "status": 404},
        Reported(ExamplaryConfigurationError, WRONG_URL),
    ),
    (
        "POST /embed-sessions",
        refused({"message": "Exam not found"}, 404),
        Reported(ExamplaryNotFoundError, "404: Exam not found"),
    ),
    *(
        (
            "POST /embed-sessions",
            refused(shape, status),
            Reported(error, "was answered with"),
        )
        for status, shape, error in (
            (400, {"message": OWNER}, ExamplaryActorIsOwnerError),
            (400, {"errors": [{"message": OWNER}]}, ExamplaryActorIsOwnerError),
            (422, {"issues": [{"path": ["actor"], "message": OWNER}]}, ExamplaryActorIsOwnerError),
            (403, {"details": {"reason": STRANGER}}, ExamplaryActorNotFoundError),
            (404, {"detail": STRANGER.upper()}, ExamplaryActorNotFoundError),
            (400, {"error_description": STRANGER}, ExamplaryActorNotFoundError),
            (400, {"hint": [{"why": STRANGER}]}, ExamplaryActorNotFoundError),
            (400, STRANGER, ExamplaryActorNotFoundError),
            (500, {"message": STRANGER}, ExamplaryServerError),
        )
    ),
    *(
        ("POST /embed-sessions", refused(shape, status), Reported(ExamplaryActorIsOwnerError, ""))
        for status, shape in (
            (409, {"Message": OWNER}),
            (400, {"message": OWNER.replace(" cannot be", "\n  cannot  be")}),
        )
    ),
    (
        "POST /embed-sessions",
        {"status": 400, "body": json.dumps({"message": OWNER}).encode("utf-16")},
        Reported(ExamplaryActorIsOwnerError, OWNER),
    ),
    (
        "POST /embed-sessions",
        answer({**SESSION, "embedUrl": {"href": SESSION["embedUrl"]}}),
        Reported(ExamplaryResponseError, "embedUrl (dict: href), createdAt (str)"),
    ),
    (
        "POST /embed-sessions",
        answer({"id": SESSION["id"], "status": "pending", SESSION["embedUrl"]: "a\nb"}),
        Reported(ExamplaryResponseError, "status (str), <hidden> (str)."),
    ),
    # Reading a session
    ("GET session", answer(DONE), RESULT),
    ("GET session", answer({"data": DONE}), RESULT),
    ("GET session", answer({**DONE, "status": "COMPLETED"}), RESULT),
    ("GET session", answer({**DONE, "status": "complete"}), RESULT),
    ("GET session", answer({**DONE, "outputs": {}, "examId": "exam_1"}), RESULT),
    ("GET session", answer({**DONE, "outputs": None, "result": {"examId": "exam_1"}}), RESULT),
    ("GET session", answer({**DONE, "outputs": [{"examId": "exam_1"}]}), RESULT),
    ("GET session", answer({**DONE, "outputs": []}), Works(outputs={}, is_completed=True)),
    ("GET session", answer({**DONE, "outputs": '{"examId": "exam_1"}'}), RESULT),
    ("GET session", answer({**DONE, "outputs": "exam_1"}), Works(outputs={}, is_completed=True)),
    ("GET session", answer({**DONE, "status": {"code": "completed", "label": "Klaar"}}), RESULT),
    (
        "GET session",
        answer({**DONE, "status": "voltooid"}),
        Works(status="voltooid", is_final=False, is_pending=False),
    ),
    (
        "GET session",
        answer({**DONE, "status": 2}),
        Reported(ExamplaryResponseError, "status is not a string. It is an object with id (str)"),
    ),
    (
        "GET session",
        answer({"error": {"code": 404, "message": "No such session"}}),
        Reported(ExamplaryResponseError, "Its message: No such session"),
    ),
    ("GET session", {**answer(DONE), "transport": wire.CHUNKED}, RESULT),
    (
        "GET session",
        redirect(308, "/embed-sessions/embed_session_1/"),
        Reported(ExamplaryAPIError, "308: a redirect to another path with a slash at its end"),
    ),
    ("GET session", answer({**SESSION, "status": "canceled"}), Works(is_cancelled=True)),
    ("GET session", answer({**SESSION, "status": "Expired"}), Works(is_over=True)),
    ("GET session", answer({**SESSION, "status": "failed"}), Works(is_over=True)),
    (
        "GET session",
        answer({**SESSION, "status": "grading"}),
        Works(is_over=False, is_pending=False, status="grading"),
    ),
    (
        "GET session",
        answer({**SESSION, "id": "embed_session_2"}),
        Reported(ExamplaryResponseError, "another object's data"),
    ),
    ("GET session", refused({"error": "gone"}, 410), Reported(ExamplaryNotFoundError, "gone")),
    ("GET session", refused({"error": "no"}, 403), Reported(ExamplaryPermissionError, "no")),
    # Revoking a session
    ("DELETE session", {"status": 204, "body": b"", "headers": JSON}, None),
    ("DELETE session", HTML, None),
    ("DELETE session", refused({}, 404), None),
    ("DELETE session", {"body": b"x", "headers": {"Content-Encoding": "gzip"}}, None),
    ("DELETE session", refused({}, 410), None),
    (
        "DELETE session",
        refused({"message": "Session has ended"}, 409),
        Reported(ExamplaryConflictError, "Session has ended"),
    ),
    ("DELETE session", refused({}, 405), Reported(ExamplaryPermissionError, "405")),
    ("DELETE session", refused({}, 400), Reported(ExamplaryInvalidRequestError, "400")),
    # Lists and permissions
    ("GET permissions", answer([PERMISSION]), ["user_1"]),
    ("GET permissions", answer({"permissions": [PERMISSION]}), ["user_1"]),
    ("GET permissions", answer({"data": {"items": [PERMISSION]}, "links": {}}), ["user_1"]),
    ("GET permissions", answer({"data": {"items": [PERMISSION]}}), ["user_1"]),
    ("GET permissions", answer({"roles": ["editor"], "items": [PERMISSION]}), ["user_1"]),
    ("GET permissions", answer({"items": [], "count": 0}), []),
    ("GET permissions", answer({"data": {"items": [PERMISSION]}, "meta": {"at": 1}}), ["user_1"]),
    (
        "GET permissions",
        answer({"_embedded": {"items": [PERMISSION]}, "_links": {"self": {"href": "/x"}}}),
        ["user_1"],
    ),
    ("GET permissions", answer({"items": [PERMISSION], "nextCursor": "abc"}), ["user_1"]),
    (
        "GET permissions",
        answer({"users": [PERMISSION], "groups": [PERMISSION]}),
        Reported(ExamplaryResponseError, "users (list), groups (list)"),
    ),
    (
        "GET permissions",
        answer({"count": 0}),
        Reported(ExamplaryResponseError, "not a list but an object with count (int)"),
    ),
    (
        "GET permissions",
        answer([{"actor": "user_1"}]),
        Reported(ExamplaryResponseError, "role is missing"),
    ),
    ("GET permission", answer({"permission": PERMISSION}), Works(actor="user_1", role="editor")),
    ("GET permission", answer({**PERMISSION, "role": ["editor"]}), Works(role="editor")),
    ("GET permission", refused({}, 404), None),
    ("POST permission", answer({"data": PERMISSION}, 201), Works(actor="user_1", role="editor")),
    *(
        ("POST permission", {"status": status, "body": body}, Works(actor="user_1", role="editor"))
        for status, body in ((204, b""), (200, {}), (200, {"success": True}), (200, {"id": "p_1"}))
    ),
    *(
        ("POST permission", answer(body), Reported(ExamplaryResponseError, "role is missing"))
        for body in ({"success": False}, {"errors": ["no"]})
    ),
    ("GET materials", answer({"sourceMaterials": [{"id": "mat_1"}], "hasMore": True}), None),
    ("export", answer({"data": {"url": "https://files.example/x.zip"}}), None),
    (
        "export",
        answer({"error": "The exam is empty"}),
        Reported(ExamplaryResponseError, "url is missing. It is an object with error (str). Its"),
    ),
    (
        "POST /exams",
        answer({"examId": "exam_9"}),
        Reported(ExamplaryResponseError, "id is missing", examplary_id="exam_9"),
    ),
]


@pytest.fixture(scope="module")
def server():
    with serve(FakeExamplary()) as server:
        yield server


@pytest.fixture
def client(server):
    server.fake.heal()
    with ExamplaryClient(DEFAULT_API_KEY, base_url=server.url, max_retries=0) as client:
        yield client


@pytest.mark.parametrize(("call", "response", "outcome"), ROWS, ids=count())
def test_plausible_response(client, server, call, response, outcome):
    server.fake.fail(**response)
    if isinstance(outcome, Reported):
        with pytest.raises(outcome.error) as caught:
            CALLS[call](client)
        assert type(caught.value) is outcome.error
        assert outcome.text in str(caught.value)
        result, attributes = caught.value, outcome.attributes
        assert is_uncertain(result) or not isinstance(result, ExamplaryResponseError)
        # The id and the URL of a session are secrets.
        assert "embed_session_" not in str(result)
    else:
        result = CALLS[call](client)
        attributes = outcome.attributes if isinstance(outcome, Works) else {}
        if isinstance(outcome, list):
            assert [each.actor for each in result] == outcome
    assert {key: getattr(result, key) for key in attributes} == attributes


@pytest.mark.parametrize(
    ("envelope", "fields"),
    [
        ({"items": [PERMISSION], "nextCursor": "abc"}, "nextCursor"),
        ({"items": [PERMISSION], "pagination": {"next": "/x?cursor=1"}}, "next"),
        ({"items": [PERMISSION], "has_more": True}, "has_more"),
        ({"items": [PERMISSION], "nextPageToken": "x"}, "nextPageToken"),
        ({"items": [PERMISSION], "pageInfo": {"hasNextPage": True}}, "hasNextPage"),
        ({"Items": [PERMISSION], "LastEvaluatedKey": {"pk": "x"}}, "LastEvaluatedKey"),
        ({"items": [PERMISSION], "_links": {"next": {"href": "/x"}}}, "next"),
        ({"value": [PERMISSION], "@odata.nextLink": "/x"}, "@odata.nextLink"),
        ({"items": [PERMISSION], "isTruncated": True, "total": 2}, "isTruncated,total"),
        ({"items": [PERMISSION], "meta": {"totalCount": 2}}, "totalCount"),
        ({"items": [PERMISSION], "total": 1, "pageInfo": {"endCursor": "x"}}, ""),
        ({"items": [PERMISSION], "nextCursor": None, "hasMore": False}, ""),
    ],
)
def test_list_with_more_pages_is_logged(client, server, caplog, envelope, fields):
    server.fake.fail(**answer(envelope))
    permissions = client.list_permissions("exam_1")
    assert len(permissions) == 1
    assert isinstance(permissions, Incomplete) == bool(fields)
    logged = [
        each.getMessage() for each in caplog.records if "incomplete-list" in each.getMessage()
    ]
    assert [line.rpartition("fields=")[2] for line in logged] == ([fields] if fields else [])


@pytest.mark.parametrize("rel", ['rel="next"', "rel=next", "REL='Next'"])
def test_list_with_a_link_header_is_logged(client, server, caplog, rel):
    server.fake.fail(body=[PERMISSION], headers={"Link": f"</x?page=2>; {rel}"})
    assert isinstance(client.list_permissions("exam_1"), Incomplete)
    assert "incomplete-list fields=Link" in caplog.text


@pytest.mark.parametrize(
    "header", ["X-Request-Id", "apigw-requestid", "x-amzn-requestid", "X-Amz-Cf-Id", "cf-ray"]
)
def test_request_id_of_the_server_is_reported(client, server, header):
    server.fake.fail(status=400, headers={header: "req-1"})
    with pytest.raises(ExamplaryAPIError, match=r"\(request req-1\)") as caught:
        client.get_me()
    assert caught.value.request_id == "req-1"


ESCAPED = [
    "examp_secret/+1",
    r"\u0065xamp_secret\u002f+1",
    r"examp_secret\/+1",
    r"examp_secret\\u002f+1",
    "examp_secret%2F%2B1",
    "examp_secret&#47;+1",
]


@pytest.mark.parametrize("key", ESCAPED)
@pytest.mark.parametrize(
    "body",
    ['{{"message": "The key {} is wrong"}}', '{{"{}": 1}}', "The key {} is wrong", '{{"a": "{}'],
)
def test_key_is_redacted_in_every_escaping(key, body):
    answer = Answer(401, {"X-Request-Id": "examp_secret/+1"}, body.format(key).encode())
    error = api_error("GET /me", answer, secrets=["examp_secret/+1"])
    for text in (error.body, error.message, error.request_id, str(error)):
        assert "secret" not in text
    assert "hidden" in error.body


def test_name_of_a_field_that_is_the_token_is_redacted(client, server):
    token = "55S843D7HfNf55S843D7HfNf"
    server.fake.fail("GET", body={token: 1})
    with pytest.raises(ExamplaryResponseError, match="an object with <hidden>") as caught:
        client.get_embed_session(f"embed_session_{token}")
    assert token not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("form", ["{}", "EMBED_SESSION_{}", "https%3A%2F%2Fapp%2F{}"])
def test_token_of_the_session_is_redacted(client, server, status, form):
    token = "55S843D7HfNf55S843D7HfNf"
    message = f"There is no embed {form.format(token)}"
    server.fake.fail("GET", status=status, body={"message": message})
    with pytest.raises((ExamplaryNotFoundError, ExamplaryResponseError)) as caught:
        client.get_embed_session(f"embed_session_{token}")
    assert "There is no embed" in str(caught.value)
    assert token not in f"{caught.value!s} {vars(caught.value)}"


def test_other_ids_are_reported(client, server):
    server.fake.fail("GET", status=404, body={"message": "No exam exam_aaaaaaaaaaaaaaaaaa"})
    with pytest.raises(ExamplaryNotFoundError, match=r"No exam exam_a{18}"):
        client.get_exam("exam_aaaaaaaaaaaaaaaaaa")


def test_deeply_nested_error_is_cut():
    body = b'{"a":' * 100 + b"1" + b"}" * 100
    error = api_error("GET /me", Answer(400, {}, body), secrets=["key"])
    assert error.body.endswith("…" + '"' + "}" * 30)


def test_server_text_is_logged(client, server, caplog):
    caplog.set_level(logging.INFO)
    server.fake.fail(**refused({"message": "The role is unknown", "details": ["ann@x.org"]}))
    with pytest.raises(ExamplaryInvalidRequestError):
        client.get_exam("exam_1")
    assert "message='The role is unknown; <e-mail>'" in caplog.text


def test_text_is_shortened():
    assert cleaned("x" * 50, 10) == "x" * 9 + "…"


def test_long_word_is_cleaned_quickly():
    started = time.thread_time()

    assert cleaned("x" * 40_000, 10_000) == "x" * 9_999 + "…"

    assert time.thread_time() - started < 1


def test_long_run_of_backslashes_is_redacted_quickly():
    started = time.thread_time()

    error = api_error("GET /me", Answer(400, {}, b"\\" * 100_000), secrets=["key"])

    assert time.thread_time() - started < 1
    assert error.message == "\\" * 299 + "…"
