"""The client against the fake, over real sockets."""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import pickle
import subprocess
import sys
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO

import pytest

from django_examplary.client import ExamplaryClient
from django_examplary.client.retries import Call, Cooldown, _Pace, is_uncertain, retry_after
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConflictError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryTimeoutError,
    ExamplaryUnavailableError,
    ExamplaryValidationError,
)
from django_examplary.signals import api_call_finished
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from tests import wire
from tests.processes import COVERAGE, PATIENCE, wait_for
from tests.threads import call_at_once


@pytest.fixture
def server():
    with serve(FakeExamplary()) as server:
        yield server


@pytest.fixture
def fake(server):
    return server.fake


@pytest.fixture
def make_client(server, monkeypatch):
    """Create clients of the fake that retry without pauses."""
    monkeypatch.setattr("django_examplary.client.retries.random.uniform", lambda low, high: 0.01)
    clients = []

    def make(**options):
        options = {"base_url": server.url, "timeout": 60, "deadline": 90, **options}
        clients.append(ExamplaryClient(options.pop("api_key", DEFAULT_API_KEY), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def finished():
    """Return the list of calls that `api_call_finished` reports."""
    calls = []

    def receiver(**call):
        calls.append(call)

    api_call_finished.connect(receiver)
    yield calls
    api_call_finished.disconnect(receiver)


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def actor(fake):
    return fake.add_user("teacher@school.example")["id"]


@pytest.fixture
def embed_session(fake, actor):
    return fake.add_session("generate-exam", actor)


# Calls and their results


def test_create_user_sends_its_arguments(client, fake):
    user = client.create_user(email="ann@school.example", name="Ann", role="student")
    assert user.id.startswith("user_")
    assert user.raw["role"] == "student"
    (call,) = fake.calls("POST", "/users")
    assert json.loads(call.body) == {
        "email": "ann@school.example",
        "name": "Ann",
        "role": "student",
    }


def test_create_user_omits_an_empty_name(client, fake):
    client.create_user(email="ann@school.example")
    (call,) = fake.calls("POST", "/users")
    assert json.loads(call.body) == {"email": "ann@school.example", "role": "teacher"}


def test_get_me_reads_the_owner_of_the_key(client, fake):
    assert client.get_me().id == fake.owner_id


def test_create_embed_session_omits_empty_arguments(client, fake, actor):
    session = client.create_embed_session(flow="generate-exam", actor=actor)
    assert session.status == "pending"
    assert session.embed_url.startswith(fake.base_url)
    assert (session.expires_at - session.created_at).days == 7
    (call,) = fake.calls("POST", "/embed-sessions")
    assert json.loads(call.body) == {"flow": "generate-exam", "actor": actor}


def test_create_embed_session_sends_all_arguments(client, fake, actor):
    client.create_embed_session(
        flow="generate-exam",
        actor=actor,
        presets={"subject": "Mathematics"},
        theme={"locale": "nl"},
        metadata={"course": "7"},
        return_url="https://school.example/back/",
        allowed_origin="https://school.example",
    )
    (call,) = fake.calls("POST", "/embed-sessions")
    assert json.loads(call.body) == {
        "flow": "generate-exam",
        "actor": actor,
        "presets": {"subject": "Mathematics"},
        "theme": {"locale": "nl"},
        "metadata": {"course": "7"},
        "returnUrl": "https://school.example/back/",
        "allowedOrigin": "https://school.example",
    }


def test_create_embed_session_checks_actor_before_request(client, fake):
    with pytest.raises(ExamplaryValidationError, match="actor: must be an id that starts with"):
        client.create_embed_session(flow="generate-exam", actor="group_1")
    assert fake.requests == []


def test_get_embed_session_reads_the_outputs(client, fake, embed_session):
    fake.complete(embed_session.id, {"examId": "exam_1"})
    session = client.get_embed_session(embed_session.id)
    assert (session.status, session.outputs) == ("completed", {"examId": "exam_1"})


def test_delete_embed_session_ignores_missing_session(client, fake, embed_session):
    client.delete_embed_session(embed_session.id)
    client.delete_embed_session(embed_session.id)
    assert len(fake.calls("DELETE", "/embed-sessions/{id}")) == 2


def test_exam_is_read_exported_and_downloaded_without_the_key(client, fake):
    exam = fake.add_exam("Sums", questions=[{"type": "single-line-text", "title": "1+1"}])
    assert client.get_exam(exam["id"]).name == "Sums"
    package = client.download_exam_qti3(exam["id"])
    assert "imsmanifest.xml" in zipfile.ZipFile(BytesIO(package)).namelist()
    (download,) = fake.calls("GET", "/exports/{file}")
    assert "Authorization" not in download.headers


def test_export_without_url_raises_response_error(client, fake):
    exam = fake.add_exam()
    fake.fail("POST", "/exams/{id}/export/qti3-zip", edit=lambda body: {"href": body["url"]})
    with pytest.raises(ExamplaryResponseError, match=r"url is missing\. It is an object with href"):
        client.export_exam_qti3(exam["id"])


@pytest.mark.parametrize(
    "url",
    ["http://evil.example/x.zip", "file:///etc/passwd", "https://a@evil.example/x", "//x/y", "é"],
)
def test_export_is_only_downloaded_over_https(client, fake, url):
    exam = fake.add_exam()
    fake.fail("POST", "/exams/{id}/export/qti3-zip", edit=lambda body: {"url": url})
    with pytest.raises(ExamplaryResponseError, match="not at an https URL"):
        client.download_exam_qti3(exam["id"])


def test_export_that_is_too_large_or_refused_raises(client, fake):
    exam = fake.add_exam()
    with pytest.raises(ExamplaryResponseError, match="longer than 10 bytes"):
        client.download_exam_qti3(exam["id"], max_bytes=10)
    fake.fail("GET", "/exports/{file}", status=403)
    with pytest.raises(ExamplaryPermissionError):
        client.download_exam_qti3(exam["id"])


def test_download_respects_the_deadline_of_the_client(client, fake, monkeypatch):
    url = client.export_exam_qti3(fake.add_exam()["id"])
    client = client.within(0)
    monkeypatch.setattr(client, "export_exam_qti3", lambda exam_id: url)
    with pytest.raises(ExamplaryTimeoutError):
        client.download_exam_qti3("exam_1")
    assert fake.calls("GET", "/exports/{file}") == []


def test_connection_of_a_refused_download_is_closed(client, server, fake, monkeypatch):
    opened, closed = [], threading.Event()
    monkeypatch.setattr(server, "opened", opened.append)
    monkeypatch.setattr(server, "closed", lambda connection: closed.set())
    fake.fail("GET", "/exports/{file}", status=403)
    with pytest.raises(ExamplaryPermissionError) as caught:
        client.download_exam_qti3(fake.add_exam()["id"])
    assert closed.wait(PATIENCE)
    # The error is still referenced, and its frames hold the transport.
    assert (caught.value.status_code, len(opened)) == (403, 2)


def test_request_calls_any_operation(client, fake):
    fake.add_source_material("https://school.example/book.pdf", externalId="book 1")
    materials = client.request("GET", "/source-materials", params={"externalId": "book 1"})
    assert [material["externalId"] for material in materials] == ["book 1"]


def test_update_me_renames_the_owner_of_the_key(client, fake):
    assert client.update_me(name="Head").name == "Head"


def test_exam_is_created_with_questions_and_permissions_and_deleted(client, fake, actor):
    exam = client.create_exam(
        "Sums",
        subject="Mathematics",
        intended_duration=30,
        questions=[{"type": "single-line-text", "title": "1+1"}],
        permissions={actor: "editor"},
    )
    assert json.loads(fake.requests[-1].body) == {
        "name": "Sums",
        "subject": "Mathematics",
        "intendedDuration": 30,
        "questions": [{"type": "single-line-text", "title": "1+1"}],
        "permissions": [{"actor": actor, "role": "editor"}],
    }
    client.delete_exam(exam.id)
    client.delete_exam(exam.id)
    assert exam.id not in fake.exams
    client.create_exam("Bare")
    assert json.loads(fake.requests[-1].body) == {"name": "Bare"}


@pytest.mark.parametrize("shape", ["object", "id"])
def test_permissions_are_read_in_both_shapes(client, fake, actor, shape):
    fake.permission_actor = shape
    exam = fake.add_exam()["id"]
    assert client.get_permission(exam, actor) is None
    assert client.create_permission(exam, actor=actor, role="viewer").actor == actor
    permission = client.get_permission(exam, actor)
    assert (permission.actor, permission.role) == (actor, "viewer")
    assert [permission.actor for permission in client.list_permissions(exam)] == [
        fake.owner_id,
        actor,
    ]


def test_list_is_read_from_an_envelope(make_client, fake):
    client = make_client(max_retries=0)
    exam = fake.add_exam()["id"]
    fake.fail("GET", edit=lambda body: {"count": 1, "items": body})
    assert len(client.list_permissions(exam)) == 1
    for body in ({"count": 1}, "text", 7):
        fake.fail("GET", body=json.dumps(body), headers={"Content-Type": "application/json"})
        with pytest.raises(ExamplaryResponseError, match="is not a list"):
            client.list_permissions(exam)


def test_practice_space_is_created(client, fake, actor):
    space = client.create_practice_space(
        name="Equations", mastery_topics=[{"id": "linear-1"}], permissions={actor: "participant"}
    )
    assert space.id in fake.practice_spaces
    assert json.loads(fake.requests[-1].body) == {
        "name": "Equations",
        "masteryTopics": [{"id": "linear-1"}],
        "permissions": [{"actor": actor, "role": "participant"}],
    }


def test_source_material_is_added_found_awaited_and_sliced(client, fake):
    material = client.create_source_material("https://school.example/b.pdf", external_id="b 1")
    assert (material.external_id, material.is_processed) == ("b 1", False)
    assert client.list_source_materials(external_id="b 1") == [material]
    assert client.list_source_materials(external_id="b 2") == []
    assert client.list_source_materials() == [material]
    done = client.wait_for_source_material(material.id, interval=0.01)
    assert (done.processing_status, done.is_processed) == ("completed", True)
    piece = client.slice_source_material(material.id, start_page=1, end_page=2, name="Start")
    assert (piece.name, piece.raw["parentSourceMaterialId"]) == ("Start", material.id)
    client.slice_source_material(material.id, start_page=3, end_page=3)
    assert json.loads(fake.requests[-1].body) == {"startPage": 3, "endPage": 3}


def test_wait_for_source_material_times_out(client, fake):
    material = fake.add_source_material("https://school.example/b.pdf")
    fake.processing_polls = 1000
    with pytest.raises(ExamplaryTimeoutError, match="still pending"):
        client.wait_for_source_material(material["id"], timeout=0.1, interval=0.01)


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 1), (-1, -1)])
def test_page_range_is_checked_before_request(client, fake, first, last):
    with pytest.raises(ExamplaryValidationError, match="start_page"):
        client.slice_source_material("mat_1", start_page=first, end_page=last)
    assert fake.requests == []


@pytest.mark.parametrize(
    "operation",
    ["list_student_levels", "list_taxonomies", "list_question_types", "list_public_question_types"],
)
def test_reference_data_is_returned_unchanged(client, operation):
    assert isinstance(getattr(client, operation)(), list)


def test_every_documented_operation_has_a_method(client):
    paths = client.get_openapi()["paths"]
    operations = {
        operation["operationId"].lower()
        for path, methods in paths.items()
        if not path.startswith("/oauth/")
        for method, operation in methods.items()
        if method != "parameters"
    }
    methods = {name.replace("_", "") for name in dir(client)}
    # This method has another name, after the package that it exports.
    methods.add("exportexamqti3zip")
    assert operations <= methods


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_2xx_status_is_a_success(client, fake, embed_session, status):
    fake.success_status = status
    client.delete_embed_session(embed_session.id)


def test_body_of_a_deletion_is_ignored(client, fake, embed_session):
    fake.fail("DELETE", **wire.GARBAGE, before=False)
    client.delete_embed_session(embed_session.id)
    assert embed_session.revoked


# Refusals

SHAPES = ["message", "error", "error-object", "errors", "detail"]


@pytest.mark.parametrize("shape", SHAPES)
def test_message_is_found_in_every_error_shape(client, fake, shape):
    fake.error_shape = shape
    with pytest.raises(ExamplaryActorIsOwnerError) as caught:
        client.create_embed_session(flow="generate-exam", actor=fake.owner_id)
    assert caught.value.message.startswith("Actor ID cannot be the same as the requesting user.")
    assert caught.value.status_code == 400
    assert str(caught.value).startswith("POST /embed-sessions was answered with 400: Actor ID")
    assert len(fake.requests) == 1


@pytest.mark.parametrize("shape", ["empty", "html"])
def test_refusal_without_message_is_an_error(client, fake, shape):
    fake.error_shape = shape
    with pytest.raises(ExamplaryInvalidRequestError):
        client.create_embed_session(flow="generate-exam", actor=fake.owner_id)


def test_unknown_actor_raises_actor_not_found(client, fake):
    with pytest.raises(ExamplaryActorNotFoundError):
        client.create_embed_session(flow="generate-exam", actor="user_unknown")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (302, ExamplaryAPIError),
        (400, ExamplaryInvalidRequestError),
        (401, ExamplaryAuthenticationError),
        (402, ExamplaryPermissionError),
        (403, ExamplaryPermissionError),
        (404, ExamplaryNotFoundError),
        (405, ExamplaryPermissionError),
        (409, ExamplaryConflictError),
        (410, ExamplaryNotFoundError),
        (415, ExamplaryPermissionError),
        (418, ExamplaryAPIError),
        (422, ExamplaryInvalidRequestError),
        (429, ExamplaryRateLimitError),
        (451, ExamplaryPermissionError),
        (500, ExamplaryServerError),
        (599, ExamplaryServerError),
    ],
)
def test_each_status_code_raises_its_error(make_client, fake, status, error):
    fake.fail(status=status, headers={"X-Request-Id": "req_1"})
    with pytest.raises(error) as caught:
        make_client(max_retries=0).list_taxonomies()
    assert type(caught.value) is error
    assert caught.value.status_code == status
    assert caught.value.request_id == "req_1"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "a\x00b\x1b[31m\u2028c"}, "a b [31m c"),
        ({"message": "ann@school.example is taken"}, "<e-mail> is taken"),
        ({"message": f"{DEFAULT_API_KEY} is revoked"}, "<hidden> is revoked"),
        ({"message": "embed_session_ab-CD_9 is gone"}, "<hidden> is gone"),
        (b'{"at": "https:\\/\\/app.examplary.ai\\/embeds\\/token", ', '{"at": "<hidden>",'),
        ({"message": "x" * 1000}, "x" * 299 + "…"),
        ({"message": 7, "error": {"message": "inner"}}, "inner"),
        ({"errors": [{"message": "first"}, {"message": "second"}]}, "first; second"),
        ({"errors": [7]}, '{"errors": [7]}'),
        (
            {"error": "bad", "error_description": "The role is unknown."},
            "bad; The role is unknown.",
        ),
        ({"issues": [{"path": ["email"], "message": "Invalid"}]}, "email: Invalid"),
        (
            {"errors": {"email": ["is taken"], "name": ["is long"]}},
            "email: is taken; name: is long",
        ),
        ({"detail": [{"loc": ["body", "role"], "type": "?", "title": "no"}]}, "body.role: no"),
        ({"details": {"reason": {"message": "deep"}}}, "deep"),
        ({"statusCode": 400, "message": "Same", "error": "Same"}, "Same"),
        (["list"], "list"),
        ({}, "{}"),
        ({"message": "\ud800 lone"}, "lone"),
        (b"\xff\xfd", "\ufffd\ufffd"),
        # Zod's flattened errors, FastAPI, express-validator, AWS: what was sent is not quoted.
        (
            {"detail": [{"loc": ["body", "name"], "msg": "is long", "input": {"name": "Ann Z"}}]},
            "body.name: is long",
        ),
        (
            {"errors": [{"type": "field", "value": "Ann Z", "msg": "is long", "path": "name"}]},
            "name: is long",
        ),
        ({"__type": "Denied", "Message": "No access"}, "No access"),
        ({"Error": {"Code": "Denied", "Message": "No access"}}, "No access"),
        ({"errorMessage": "No access", "errorType": "Denied"}, "No access"),
        (json.dumps({"message": "é"}).encode("utf-16"), "é"),
        (b'{"message": "caf\xe9"}', "caf\ufffd"),
        ({"message": "ann%40school.example exists"}, "<e-mail> exists"),
        (b"ann&#64;school.example exists", "<e-mail> exists"),
        (
            {"message": "see app.examplary.ai/embeds/55S843 or embeds%2F55S843"},
            "see app.examplary.ai/<hidden> or <hidden>",
        ),
        (b"[" * 100_000, "[" * 299 + "…"),
    ],
)
def test_server_message_is_cleaned(client, fake, body, message):
    fake.fail(status=400, body=body)
    with pytest.raises(ExamplaryInvalidRequestError) as caught:
        client.get_me()
    assert caught.value.message == message


def test_errors_can_be_pickled(client, fake):
    fake.fail(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(ExamplaryRateLimitError) as caught:
        client.get_me()
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(copy), copy.retry_after) == (str(caught.value), 3600)


# Retries

CALLS = {
    "GET": lambda client, actor: client.get_me(),
    "DELETE": lambda client, actor: client.delete_embed_session("embed_session_1"),
    "POST /embed-sessions": lambda client, actor: client.create_embed_session(
        flow="generate-exam", actor=actor
    ),
    "POST /users": lambda client, actor: client.create_user(email="ann@school.example"),
}
# By fault: the outcome and the number of requests of each call.
UNANSWERED = {"GET": 3, "DELETE": 3, "POST /embed-sessions": 2, "POST /users": 1}
WAITED = {"GET": 3, "DELETE": 3, "POST /embed-sessions": 3, "POST /users": 3}
REFUSED = {"GET": 1, "DELETE": 1, "POST /embed-sessions": 1, "POST /users": 1}
FINAL = {"GET": 1, "DELETE": 1, "POST /embed-sessions": 1, "POST /users": 1}
OUTCOMES = {
    "close": ({"transport": "close"}, ExamplaryConnectionError, UNANSWERED),
    "reset": ({"transport": "reset"}, ExamplaryConnectionError, UNANSWERED),
    "truncate": ({"transport": wire.TRUNCATE}, ExamplaryConnectionError, UNANSWERED),
    "bad-chunk": ({"transport": wire.BAD_CHUNK}, ExamplaryConnectionError, UNANSWERED),
    "interim-102": ({"transport": wire.INTERIM_102}, ExamplaryConnectionError, UNANSWERED),
    "interim-103": ({"transport": wire.INTERIM_103}, ExamplaryConnectionError, UNANSWERED),
    "gzip": ({"transport": wire.GZIP}, ExamplaryResponseError, REFUSED),
    "endless": ({"transport": wire.ENDLESS}, ExamplaryResponseError, REFUSED),
    "huge": ({"transport": wire.HUGE_BODY}, ExamplaryResponseError, REFUSED),
    "many-headers": ({"transport": wire.MANY_HEADERS}, ExamplaryConnectionError, UNANSWERED),
    "no-length": ({"transport": wire.NO_LENGTH}, ExamplaryResponseError, UNANSWERED),
    "garbage": (wire.GARBAGE, ExamplaryResponseError, UNANSWERED),
    "500": ({"status": 500}, ExamplaryServerError, UNANSWERED),
    "502": ({"status": 502}, ExamplaryServerError, UNANSWERED),
    "503": ({"status": 503}, ExamplaryServerError, UNANSWERED),
    "408": ({"status": 408}, ExamplaryAPIError, UNANSWERED),
    "429": ({"status": 429}, ExamplaryRateLimitError, WAITED),
    "425": ({"status": 425}, ExamplaryAPIError, WAITED),
    "503 with a wait": (
        {"status": 503, "headers": {"Retry-After": "0"}},
        ExamplaryServerError,
        WAITED,
    ),
    "429 with a long wait": (
        {"status": 429, "headers": {"Retry-After": "86400"}},
        ExamplaryRateLimitError,
        FINAL,
    ),
    "429 with a wait past the deadline": (
        {"status": 429, "headers": {"Retry-After": "30"}},
        ExamplaryRateLimitError,
        FINAL,
    ),
    "401": ({"status": 401}, ExamplaryAuthenticationError, FINAL),
    "403": ({"status": 403}, ExamplaryPermissionError, FINAL),
    "409": ({"status": 409}, ExamplaryConflictError, FINAL),
    "see-other": ({"status": 303, "headers": {"Location": "/me"}}, ExamplaryAPIError, UNANSWERED),
    "423": ({"status": 423}, ExamplaryAPIError, FINAL),
}


@pytest.mark.parametrize(
    ("call", "outcome"),
    [
        (call, outcome)
        for call in CALLS
        for outcome in OUTCOMES
        # Any 2xx is success for DELETE, whatever its body.
        if call != "DELETE" or outcome not in ("garbage", "gzip", "no-length")
    ],
)
def test_retries(make_client, fake, actor, caplog, call, outcome):
    fault, error, attempts = OUTCOMES[outcome]
    client = make_client(deadline=29)
    fake.fail(times=None, **fault)
    with caplog.at_level(logging.DEBUG), pytest.raises(error) as caught:
        CALLS[call](client, actor)
    assert len(fake.requests) == attempts[call]
    assert is_uncertain(caught.value) is (attempts is UNANSWERED or attempts is REFUSED)
    assert DEFAULT_API_KEY not in caplog.text + repr(caught.value) + str(caught.value)
    assert "ann@school.example" not in caplog.text + str(caught.value)
    # A frame of the transport would include the key in an error report.
    assert caught.value.__context__ is None
    assert len([line for line in caplog.records if line.name == "django_examplary"]) == 1
    # The next call gets its own response, whatever the state of the connection.
    fake.heal()
    assert isinstance(client.list_taxonomies(), list)


@pytest.mark.parametrize("call", CALLS)
def test_call_succeeds_after_retry_after(make_client, fake, actor, call):
    fake.fail(status=429, headers={"Retry-After": "0.3"})
    started = time.monotonic()
    CALLS[call](make_client(), actor)
    assert time.monotonic() - started >= 0.3
    assert len(fake.requests) == 2


@pytest.mark.parametrize("call", CALLS)
def test_refused_connection_is_retried_and_was_not_sent(make_client, finished, dead_address, call):
    client = make_client(base_url=dead_address)
    with pytest.raises(ExamplaryConnectionError, match="refused") as caught:
        CALLS[call](client, "user_1")
    assert caught.value.sent is False
    assert not is_uncertain(caught.value)
    assert [each["attempts"] for each in finished] == [3]


@pytest.mark.parametrize(
    "last",
    [
        {"status": 429},
        {"status": 429, "headers": {"Retry-After": "86400"}},
        {"status": 425},
        {"status": 503, "headers": {"Retry-After": "86400"}},
    ],
)
def test_refused_retry_leaves_the_first_attempt_uncertain(make_client, fake, finished, actor, last):
    fake.fail("POST", "/embed-sessions", transport="close", before=False)
    fake.fail("POST", "/embed-sessions", times=None, **last)
    client = make_client()
    with pytest.raises(ExamplaryConnectionError) as caught:
        client.create_embed_session(flow="generate-exam", actor=actor)
    assert is_uncertain(caught.value)
    assert caught.value.__context__ is None
    assert [(call["outcome"], call["status"]) for call in finished] == [
        ("ExamplaryConnectionError", last["status"])
    ]


def make_call(**fields):
    fields = {"method": "GET", "path": "/me", "deadline": 1030.0, "max_attempts": 1, **fields}
    return Call(repeat="always", **fields)


def test_pauses_grow_exponentially_with_jitter(monkeypatch):
    monkeypatch.setattr(
        "django_examplary.client.retries.random.uniform", lambda low, high: (low, high)[1]
    )
    call = make_call(deadline=time.monotonic() + 60, max_attempts=9)
    pauses = []
    for attempts in range(1, 7):
        call.attempts = attempts
        pauses.append(call.pause_after(ExamplaryConnectionError("", sent=False)))
    assert pauses == [0.5, 1, 2, 4, 5, 5]
    monkeypatch.setattr(
        "django_examplary.client.retries.random.uniform", lambda low, high: (low, high)[0]
    )
    assert call.pause_after(ExamplaryConnectionError("", sent=False)) == 2.5


def test_retry_after_applies_to_one_attempt_only(make_client, fake, monkeypatch):
    fake.fail(status=503, headers={"Retry-After": "2"})
    fake.fail(transport="close")
    pauses = []
    monkeypatch.setattr("django_examplary.client.base.time.sleep", pauses.append)
    assert make_client().get_me().id == fake.owner_id
    # The fake also sleeps, for 0 seconds. The second pause is the fixed jitter of these clients.
    assert [pause for pause in pauses if pause] == [2, 0.01]


def test_retry_after_beyond_a_minute_is_left_to_the_caller(make_client, fake):
    fake.fail(status=429, headers={"Retry-After": "61"})
    with pytest.raises(ExamplaryRateLimitError) as caught:
        make_client(deadline=600).get_me()
    assert caught.value.retry_after == 61
    assert len(fake.requests) == 1


def test_calls_of_a_bound_client_share_its_deadline(make_client, fake):
    client = make_client(max_retries=0)
    client.get_me()
    fake.latency = 0.3
    bound = client.within(0.5)
    outcomes = [attempt(bound.get_me) for _ in range(9)]
    # Each call alone would be in time.
    assert outcomes.count(ExamplaryTimeoutError) >= 8
    # Timeouts at a short deadline do not count as an outage.
    client.get_me()


def test_bound_client_keeps_the_earlier_deadline(make_client, monkeypatch):
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: 1000.0)
    client = make_client()
    assert client.time_left == math.inf
    assert client.within(30).within(1).time_left == 1
    assert client.within(1).within(30).time_left == 1
    assert client.within(-1).time_left == 0
    assert client.time_left == math.inf


def test_bound_client_shares_connections_and_cooldown(make_client, server, fake, monkeypatch):
    opened = []
    monkeypatch.setattr(server, "opened", opened.append)
    client = make_client(max_retries=0, base_url=f"{server.url}/")
    bound = client.within(60)
    assert (bound.base_url, bound.max_retries) == (client.base_url, 0)
    client.get_me()
    bound.get_me()
    assert len(opened) == 1
    fake.fail(times=3, transport="close")
    for call in (client.get_me, client.list_taxonomies, client.list_student_levels):
        assert attempt(call) is ExamplaryConnectionError
    assert attempt(bound.get_me) is ExamplaryUnavailableError


def test_unresolved_host_is_an_unsent_request(make_client):
    client = make_client(base_url="https://nowhere.invalid")
    with pytest.raises(ExamplaryConnectionError, match="does not resolve") as caught:
        client.get_me()
    assert caught.value.sent is False


def test_cookies_are_never_sent(client, fake):
    fake.fail(headers={"Set-Cookie": "tracker=1; Path=/"}, times=None)
    client.get_me()
    client.get_me()
    assert "Cookie" not in fake.requests[1].headers


def test_extra_bytes_are_not_the_next_response(client, fake, embed_session):
    fake.fail(transport=wire.EXTRA_BYTES)
    client.get_me()
    assert client.get_embed_session(embed_session.id).id == embed_session.id


def test_interim_response_does_not_shift_the_next_responses(make_client, fake, embed_session):
    client = make_client(max_retries=0)
    fake.fail(transport=wire.INTERIM_103)
    with pytest.raises(ExamplaryConnectionError, match="interim"):
        client.get_me()
    time.sleep(0.1)
    assert client.get_embed_session(embed_session.id).id == embed_session.id
    assert client.get_me().id == fake.owner_id


@pytest.mark.parametrize(
    "transport",
    [wire.HANG, wire.drip_headers(), wire.drip_body()],
    ids=["hang", "drip-headers", "drip-body"],
)
@pytest.mark.parametrize("call", CALLS)
def test_deadline_bounds_slow_responses(make_client, fake, actor, call, transport):
    fake.fail(transport=transport, times=None)
    # Reads of a slow response do not time out. Without the deadline it would arrive eventually.
    client = make_client(timeout=0.5, deadline=1)
    with pytest.raises(ExamplaryTimeoutError) as caught:
        CALLS[call](client, actor)
    assert caught.value.sent is True


# Invalid responses


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"<!doctype html>",
        b"[]",
        b'"text"',
        b"{",
        b'{"id": NaN}',
        b'{"id": "user_1", "n": ' + b"9" * 5000 + b"}",
        b"[" * 200_000,
        b"\xff\xff",
        b'{"id": 7}',
        b'{"id": ""}',
        b'{"id": "exam_1"}',
        b'{"id": "user_../users"}',
        b'{"id": "user_' + b"x" * 10_000 + b'"}',
        b'{"id": "user_1", "email": "someone.else@school.example"}',
    ],
)
def test_unreadable_response_is_uncertain(client, fake, body):
    fake.fail(body=body, headers={"Content-Type": "application/json"})
    with pytest.raises(ExamplaryResponseError) as caught:
        client.create_user(email="ann@school.example")
    assert is_uncertain(caught.value)
    assert len(fake.requests) == 1


@pytest.mark.parametrize("ask", ["create_user", "get_me"])
def test_byte_order_mark_is_ignored(client, fake, ask):
    body = b'\xef\xbb\xbf{"id": "user_1"}'
    fake.fail(body=body, headers={"Content-Type": "application/json"})
    options = {"email": "ann@school.example"} if ask == "create_user" else {}
    assert getattr(client, ask)(**options).id == "user_1"


def test_infinite_number_becomes_a_string(client, fake):
    headers = {"Content-Type": "application/json"}
    fake.fail(body=b'{"id": "user_1", "n": [1e999, -1E999, 1.5]}', headers=headers)
    assert client.get_me().raw["n"] == ["inf", "-inf", 1.5]


def test_response_about_another_exam_closes_the_connection(client, server, fake, monkeypatch):
    opened = []
    monkeypatch.setattr(server, "opened", opened.append)
    exam = fake.add_exam()["id"]
    fake.fail("GET", "/exams/{id}", edit=lambda body: body | {"id": "exam_other"})
    with pytest.raises(ExamplaryResponseError, match="another object's data"):
        client.get_exam(exam)
    assert client.get_exam(exam).id == exam
    assert len(opened) == 2


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("Ann@school.example", "ANN@School.example"),
        ("ann@school.example", " ann@school.example\n"),
        ("o'neil@school.example", "o&#39;neil@school.example"),
        ("o'neil@school.example", "o&#x27;neil@school.example"),
        ("j\xf6rg@school.example", "jo\u0308rg@school.example"),
        ("ann@xn--schler-5ya.example", "ann@sch\xfcler.example"),
        ("ann@xn--schler-5ya.example", "ann@SCHU\u0308LER.example"),
        ("ann@school.example", "a\u2022\u2022@school.example"),
        ("ann@school.example", "an\u2026@school.example"),
    ],
)
def test_echoed_address_may_have_another_form(client, fake, sent, answered):
    fake.fail("POST", "/users", body={"id": "user_1", "email": answered})
    assert client.create_user(email=sent).email == answered


@pytest.mark.parametrize(
    "answered",
    ["ann@school.exampl", "bob@school.example", "ann@b\xfccher.example", "ann@\xad\xfc."],
)
def test_another_address_is_refused(client, fake, answered):
    fake.fail("POST", "/users", body={"id": "user_1", "email": answered})
    with pytest.raises(ExamplaryResponseError, match="its email is not the one") as caught:
        client.create_user(email="ann@school.example")
    assert caught.value.examplary_id == "user_1"


@pytest.mark.parametrize(("field", "value"), [("flow", "edit-rubric"), ("actor", "user_other")])
def test_session_of_another_actor_or_flow_is_refused(client, fake, actor, caplog, field, value):
    fake.fail("POST", "/embed-sessions", edit=lambda session: session | {field: value})
    with pytest.raises(ExamplaryResponseError, match="another object's data"):
        client.create_embed_session(flow="generate-exam", actor=actor)
    assert "foreign-answer" in caplog.text


def test_flow_equal_to_the_actor_is_refused(client, fake, actor):
    fake.fail("POST", "/embed-sessions", edit=lambda session: session | {"flow": actor})
    with pytest.raises(ExamplaryResponseError, match="another object's data"):
        client.create_embed_session(flow="generate-exam", actor=actor)


def test_another_session_is_refused(client, fake, embed_session):
    fake.fail(edit=lambda session: session | {"id": "embed_session_other"})
    with pytest.raises(ExamplaryResponseError, match="another object's data"):
        client.get_embed_session(embed_session.id)


def test_unstorable_characters_are_replaced(client, fake, embed_session):
    fake.complete(embed_session.id, {"a\x00": ["b\x00", {"c": "\ud800"}]})
    session = client.get_embed_session(embed_session.id)
    assert session.outputs == {"a\ufffd": ["b\ufffd", {"c": "\ufffd"}]}
    answer = client.request("GET", "/embed-sessions/{id}", ids={"id": embed_session.id})
    assert answer["outputs"] == session.outputs


# Outgoing requests


@pytest.mark.parametrize(
    "session_id", ["../users", "%2e%2e", "a?b", "a#b", "a/b", "a\r\nX: y", "", "é", "x" * 10_000]
)
def test_id_cannot_reach_another_operation(client, fake, session_id):
    with pytest.raises(ExamplaryValidationError, match="id: must be an Examplary id"):
        client.get_embed_session(session_id)
    assert fake.requests == []


@pytest.mark.parametrize("value", [float("nan"), object()])
def test_unserializable_body_is_refused_before_request(client, fake, value):
    with pytest.raises(ExamplaryValidationError, match="json: cannot be sent"):
        client.request("POST", "/exams", json={"name": value})
    assert fake.requests == []


def test_relative_path_is_refused_before_request(client, fake):
    with pytest.raises(ExamplaryValidationError, match="path: must begin with a slash"):
        client.request("GET", "me")
    assert fake.requests == []


@pytest.mark.parametrize("path", ["/me?name=x", "/me#x", "/%6de"])
def test_path_is_quoted(client, fake, path):
    with pytest.raises(ExamplaryNotFoundError):
        client.request("GET", path)


def test_environment_variables_are_ignored(client, fake, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login other password other")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    client.get_me()
    (call,) = fake.requests
    assert call.headers["Authorization"] == f"Bearer {DEFAULT_API_KEY}"
    assert call.headers["Accept-Encoding"] == "identity"
    assert call.headers["User-Agent"].startswith("django-examplary/")
    assert call.headers["X-Request-Id"]


def test_attempts_of_one_call_share_a_request_id(client, fake):
    fake.fail(status=502)
    client.get_me()
    first, second = fake.requests
    assert first.headers["X-Request-Id"] == second.headers["X-Request-Id"]


@pytest.mark.parametrize("key", ["", "a b", "a\n", "\tkey", "clé"])
def test_invalid_key_is_refused_without_quoting_it(key):
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_KEY") as caught:
        ExamplaryClient(key)
    assert "clé" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.examplary.ai#fragment",
        "https://api.examplary.ai/#",
        "https://app.examplary.ai",
        "https://examplary.ai/api",
        "http://api.examplary.ai",
        "ftp://api.examplary.ai",
        "file:///etc/passwd",
        "https://user:secret@api.examplary.ai",
        "https://",
        "https://api.examplary.ai:port",
        "https://api.examplary.ai/?key=1",
        "https://api.exam\nplary.ai",
        "https://[",
        "http://127.0.0.1.evil.example",
        "api.examplary.ai",
    ],
)
def test_unsafe_base_url_is_refused(url):
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_URL"):
        ExamplaryClient("key", base_url=url)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.9.9.9", "http://[::1]:8000/"])
def test_http_is_accepted_for_localhost(url):
    assert ExamplaryClient("key", base_url=url).base_url == url.rstrip("/")


def test_host_of_the_base_url_ignores_case(make_client, server, fake):
    url = server.url.replace("127.0.0.1", "LOCALHOST")
    assert make_client(base_url=url).get_me().id == fake.owner_id


def test_client_is_a_context_manager_and_hides_the_key(server):
    with ExamplaryClient(DEFAULT_API_KEY, base_url=server.url) as client:
        client.get_me()
    assert repr(client) == f"<ExamplaryClient {server.url}>"
    assert client.get_me().id == server.fake.owner_id
    client.close()
    client.close()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 7 ", 7),
        ("-5", None),
        ("1.5", 1.5),
        ("1.", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("1" + "0" * 35, None),
        ("1, 2", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
    ],
)
def test_retry_after(header, seconds):
    assert retry_after(header) == seconds


@pytest.mark.parametrize(
    ("date", "seconds"),
    [("Wed, 21 Oct 2015 07:27:30 GMT", 30), ("Wed, 21 Oct 2015 07:29:00 GMT", 0), ("?", 0)],
)
def test_retry_after_counts_from_the_date_of_its_response(date, seconds):
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT", date) == seconds


def test_clock_of_the_api_does_not_prolong_a_pause(client, fake):
    headers = {
        "Retry-After": "Wed, 21 Oct 2065 07:28:01 GMT",
        "Date": "Wed, 21 Oct 2065 07:28:00 GMT",
    }
    fake.fail(status=429, headers=headers)
    started = time.monotonic()
    assert client.get_me().id == fake.owner_id
    # A pause of years would exceed the deadline.
    assert time.monotonic() - started >= 1


def test_invalid_date_is_ignored(client, fake):
    fake.fail(headers={"Date": "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"})
    assert client.create_user(email="ann@school.example").id in fake.users


def test_retry_after_accepts_a_future_date():
    assert retry_after("Fri, 31 Dec 2999 23:59:59 GMT") > 10**9


@pytest.mark.parametrize("zone", ["", " -0000"])
def test_date_without_a_time_zone_is_gmt(zone, monkeypatch):
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        in_a_minute = datetime.now(UTC) + timedelta(minutes=1)
        header = f"{in_a_minute:%a, %d %b %Y %H:%M:%S}{zone}"
        assert retry_after(header) == pytest.approx(60, abs=5)
        assert retry_after(f"Fri, 31 Dec 9999 23:59:59{zone}") > 10**9
    finally:
        monkeypatch.undo()
        time.tzset()


# An API that is down


DIFFERENT_CALLS = [
    lambda client: client.get_me(),
    lambda client: client.list_taxonomies(),
    lambda client: client.list_student_levels(),
]


def test_outage_fails_fast_and_sends_one_probe_at_a_time(make_client, fake, monkeypatch):
    clock = [1000.0]
    client = make_client(max_retries=0)
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: clock[0])
    fake.fail(times=None, status=500)
    for call in DIFFERENT_CALLS:
        assert attempt(lambda call=call: call(client)) is ExamplaryServerError
    with pytest.raises(ExamplaryUnavailableError, match="was not sent"):
        client.get_me()
    assert len(fake.requests) == 3
    clock[0] += 6
    outcomes = []
    # The probe gets its response after all other calls have their outcome.
    fake.heal()
    fake.fail(status=500, edit=lambda body: wait_for(lambda: len(outcomes) == 7) and body)

    def ask(number):
        outcomes.append(attempt(lambda: client.get_exam(f"exam_{number}")))

    call_at_once(*(partial(ask, number) for number in range(8)))
    assert outcomes.count(ExamplaryUnavailableError) == 7
    assert len(fake.requests) == 4
    fake.heal()
    clock[0] += 6
    client.get_me()
    client.get_me()


def test_timeouts_at_the_deadline_count_as_outage(make_client, fake):
    client = make_client(max_retries=0, timeout=5, deadline=0.2)
    fake.fail(times=None, transport=wire.HANG)
    # Like all calls of a launch.
    assert attempt(client.within(0.2).get_me) is ExamplaryTimeoutError
    assert attempt(client.list_taxonomies) is ExamplaryTimeoutError
    assert attempt(client.list_student_levels) is ExamplaryTimeoutError
    assert attempt(client.get_me) is ExamplaryUnavailableError


def test_close_clears_the_cooldown(make_client, fake):
    client = make_client(max_retries=0)
    fake.fail(times=3, status=500)
    for call in DIFFERENT_CALLS:
        assert attempt(lambda call=call: call(client)) is ExamplaryServerError
    client.close()
    client.get_me()


def test_probe_lasts_until_its_deadline(monkeypatch):
    """This is longer than the pause between two probes."""
    clock = [1000.0]
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: clock[0])
    cooldown, calls = Cooldown(), [make_call() for _ in range(3)]
    for _ in range(3):
        cooldown.count(calls[0], ExamplaryConnectionError("refused"))
    clock[0] += 6
    cooldown.check(calls[0])
    clock[0] += 6
    with pytest.raises(ExamplaryUnavailableError):
        cooldown.check(calls[1])
    clock[0] = 1031.0
    cooldown.check(calls[2])


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 403}, ExamplaryPermissionError),
        # The API responds, but with a response that is too large.
        ({"transport": wire.HUGE_BODY}, ExamplaryResponseError),
    ],
)
def test_refusals_do_not_count_as_outage(make_client, fake, fault, error):
    client = make_client(max_retries=0)
    fake.fail(times=5, **fault)
    for number in range(5):
        with pytest.raises(error):
            client.get_exam(f"exam_{number}")
    client.get_me()


def test_hanging_call_does_not_block_others(make_client, fake):
    client = make_client(pool_size=1, max_retries=0, timeout=PATIENCE, deadline=PATIENCE)
    answer = threading.Event()
    fake.fail(edit=lambda body: answer.wait(PATIENCE) and body)
    waiting = threading.Thread(target=client.get_me)
    waiting.start()
    wait_for(lambda: fake.requests)
    client.get_me()
    assert waiting.is_alive()
    answer.set()
    waiting.join()


@pytest.mark.parametrize("transport", ["reset", "close"])
def test_post_on_a_broken_connection_is_not_repeated(client, fake, embed_session, transport):
    client.get_me()
    fake.fail("POST", "/users", transport=transport)
    with pytest.raises(ExamplaryConnectionError) as caught:
        client.create_user(email="ann@school.example")
    assert caught.value.sent is True
    assert len(fake.calls("POST", "/users")) == 1
    assert client.get_embed_session(embed_session.id).id == embed_session.id


def test_success_is_logged_in_one_line(client, fake, caplog, finished):
    with caplog.at_level(logging.DEBUG):
        client.get_me()
    (line,) = [record for record in caplog.records if record.name == "django_examplary"]
    assert line.levelno == logging.INFO
    assert line.getMessage().startswith("operation='GET /me' outcome=ok status=200 attempts=1 ms=")
    assert line.getMessage().endswith(f"id={fake.requests[0].headers['X-Request-Id']}")
    assert [(each["outcome"], each["status"]) for each in finished] == [("ok", 200)]


@pytest.mark.parametrize(("status", "level"), [(404, logging.INFO), (403, logging.WARNING)])
def test_missing_object_is_logged_at_info(client, fake, caplog, status, level):
    caplog.set_level(logging.INFO)
    fake.fail("GET", "/exams/{id}", status=status, body={"message": "Look at ann@school.example"})
    with pytest.raises(ExamplaryAPIError):
        client.get_exam("exam_1")
    [line] = [each for each in caplog.records if "operation='GET /exams" in each.getMessage()]
    assert line.levelno == level
    assert line.getMessage().endswith("message='Look at <e-mail>'")


def attempt(call):
    try:
        return call()
    except ExamplaryError as error:
        return type(error)


def count_outcomes(count, call):
    return [attempt(call) for _ in range(count)]


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 504}, {"transport": "close"}, {"transport": wire.HANG}]
)
def test_repeated_failure_of_one_request_is_not_an_outage(make_client, fake, actor, fault):
    client = make_client(max_retries=0, timeout=0.2)
    fake.fail("POST", "/embed-sessions", times=None, **fault)
    for number in range(5):
        # The same launch each time, with different return URLs.
        client_error = attempt(
            lambda number=number: client.create_embed_session(
                flow="generate-exam", actor=actor, return_url=f"https://school.example/{number}/"
            )
        )
        assert client_error in (
            ExamplaryServerError,
            ExamplaryConnectionError,
            ExamplaryTimeoutError,
        )
    client.timeout = 60
    assert client.list_taxonomies()


def test_repeated_failure_of_one_request_does_not_prolong_an_outage(make_client, fake, monkeypatch):
    client = make_client(max_retries=0)
    clock = [1000.0]
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: clock[0])
    fake.fail(times=3, status=500)
    for call in DIFFERENT_CALLS:
        assert attempt(lambda call=call: call(client)) is ExamplaryServerError
    clock[0] += 6
    fake.fail("GET", "/me", status=500)
    assert attempt(client.get_me) is ExamplaryServerError
    # The next call may be sent at once.
    assert client.list_taxonomies()
    assert client.get_me().id == fake.owner_id


def test_unreachable_api_is_an_outage(make_client, dead_address):
    client = make_client(base_url=dead_address, max_retries=0)
    outcomes = count_outcomes(4, client.get_me)
    assert outcomes == [ExamplaryConnectionError] * 3 + [ExamplaryUnavailableError]


def test_refused_key_pauses_all_calls(make_client, fake):
    client = make_client(api_key="examp_wrong", max_retries=0)
    outcomes = count_outcomes(4, client.get_me)
    assert outcomes == [ExamplaryAuthenticationError] * 3 + [ExamplaryUnavailableError]
    assert attempt(lambda: client.get_exam("exam_1")) is ExamplaryUnavailableError
    assert len(fake.requests) == 3


def test_forbidden_operations_pause_all_calls(make_client, fake):
    client = make_client(max_retries=0)
    fake.fail(times=None, status=403)
    for call in DIFFERENT_CALLS:
        assert attempt(lambda call=call: call(client)) is ExamplaryPermissionError
    assert attempt(client.get_me) is ExamplaryUnavailableError


def test_rate_limit_pauses_one_operation(make_client, fake, monkeypatch):
    client = make_client(max_retries=0)
    clock = [1000.0]
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: clock[0])
    fake.fail("GET", "/me", status=429, headers={"Retry-After": "30"})
    assert attempt(client.get_me) is ExamplaryRateLimitError
    clock[0] += 10
    with pytest.raises(ExamplaryRateLimitError, match="not sent") as caught:
        client.get_me()
    assert caught.value.retry_after == 20
    assert not is_uncertain(caught.value)
    assert client.list_taxonomies()
    clock[0] += 21
    assert client.get_me().id == fake.owner_id
    assert len(fake.calls("GET", "/me")) == 2


def run_together(client, fake, monkeypatch, work):
    """Run `work` in two threads whose requests are refused one after the other.

    Both requests arrive before the first is refused. The second gets its response after the client
    has counted that refusal.
    """
    received, lock = threading.Barrier(2), threading.Lock()
    handle, started = fake.handle, itertools.count()

    def handle_in_turn(request):
        if next(started) > 1:
            return handle(request)
        received.wait(PATIENCE)
        with lock:
            if fake.requests:
                wait_for(lambda: client._connections.cooldown._paces)
            return handle(request)

    monkeypatch.setattr(fake, "handle", handle_in_turn)
    call_at_once(work, work)


def test_retry_waits_for_the_longest_pause(client, fake, monkeypatch):
    fake.fail("GET", "/me", status=429, headers={"Retry-After": "0.6"})
    fake.fail("GET", "/me", status=429, headers={"Retry-After": "0.3"})
    seconds = []

    def measure():
        started = time.monotonic()
        client.get_me()
        seconds.append(time.monotonic() - started)

    run_together(client, fake, monkeypatch, measure)
    assert min(seconds) >= 0.6
    assert len(fake.requests) == 4


def test_retry_gives_up_if_the_longest_pause_exceeds_its_deadline(client, fake, monkeypatch):
    fake.fail("GET", "/me", status=429, headers={"Retry-After": "50"})
    fake.fail("GET", "/me", status=429, headers={"Retry-After": "1"})
    client.deadline = 40
    outcomes = []

    run_together(client, fake, monkeypatch, lambda: outcomes.append(attempt(client.get_me)))

    assert outcomes == [ExamplaryRateLimitError] * 2
    assert len(fake.requests) == 2


def test_busy_api_without_retry_after_gets_one_request_a_second(make_client, fake, monkeypatch):
    client = make_client(max_retries=0)
    clock = [1000.0]
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: clock[0])
    fake.fail("GET", "/me", status=429)
    assert count_outcomes(20, client.get_me) == [ExamplaryRateLimitError] * 20
    assert len(fake.requests) == 1
    clock[0] += 1.1
    assert client.get_me().id == fake.owner_id


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("django_examplary.clock.monotonic", lambda: now[0])
    return now


BUSY = ExamplaryRateLimitError("GET /me", status_code=429, message="Too many requests")


def test_one_request_is_sent_first_after_a_pause(clock):
    cooldown, calls = Cooldown(), [make_call() for _ in range(3)]
    assert [cooldown.take_turn(call) for call in calls] == [0, 0, 0]
    for call in calls:
        clock[0] += 0.01
        cooldown.count(call, BUSY)
    assert cooldown.take_turn(calls[0]) == pytest.approx(1.0)
    clock[0] += 1.0
    assert cooldown.take_turn(calls[0]) == 0
    # Requests that were refused together count as one refusal.
    assert cooldown.take_turn(calls[1]) == pytest.approx(0.25, rel=0.21)
    assert cooldown.take_turn(make_call(path="/users")) == 0


def test_interval_between_requests_follows_the_limit(clock):
    cooldown, call = Cooldown(), make_call()

    def interval():
        clock[0] += 60
        assert cooldown.take_turn(call) == 0
        return cooldown.take_turn(call)

    intervals = []
    for _ in range(8):
        cooldown.take_turn(call)
        cooldown.count(call, BUSY)
        intervals.append(interval())
    doubled = [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    assert intervals == [pytest.approx(each, rel=0.21) for each in doubled]
    for _ in range(100):
        cooldown.count(call, "a result")
    assert interval() < 0.3


@pytest.mark.parametrize("deadline", [0.5, 60])
def test_call_waits_for_its_turn_until_its_deadline(client, fake, deadline):
    started = time.monotonic()
    turn = started + (1 if deadline > 1 else PATIENCE)
    client._connections.cooldown._paces["GET /me"] = pace = _Pace()
    pace.next = turn
    if deadline < 1:
        with pytest.raises(ExamplaryRateLimitError, match="not sent") as caught:
            client.within(deadline).get_me()
        assert 0 < caught.value.retry_after <= PATIENCE
        assert fake.requests == []
    else:
        assert client.within(deadline).get_me().id == fake.owner_id
        assert time.monotonic() - started >= 1


# Arguments of one call


@pytest.mark.parametrize("call", ["users", "sessions"])
def test_idempotency_key_is_sent_with_every_attempt(client, fake, actor, call):
    fake.fail(status=429)
    options = {"idempotency_key": "a1b2"}
    if call == "users":
        client.create_user(email="ann@school.example", **options)
    else:
        client.create_embed_session(flow="generate-exam", actor=actor, **options)
    assert [request.headers["Idempotency-Key"] for request in fake.requests] == ["a1b2"] * 2
    client.request("POST", "/exams", json={"name": "Sums"}, **options)
    assert fake.requests[-1].headers["Idempotency-Key"] == "a1b2"
    client.get_me()
    assert "Idempotency-Key" not in fake.requests[-1].headers


@pytest.mark.parametrize("key", ["a b", "a\r\nX: y", "é", "x" * 256])
def test_idempotency_key_that_cannot_be_sent_is_refused(client, fake, key):
    with pytest.raises(ExamplaryValidationError, match="idempotency_key: must be at most 255"):
        client.create_user(email="ann@school.example", idempotency_key=key)
    assert fake.requests == []


def test_largest_response_is_an_argument(make_client, fake):
    fake.fail(body={"id": "user_1", "name": "x" * 2000}, times=None)
    assert make_client(max_answer_bytes=3000).get_me().id == "user_1"
    with pytest.raises(ExamplaryResponseError, match="longer than 1000 bytes"):
        make_client(max_answer_bytes=1000).get_me()


def test_large_openapi_document_is_loaded_without_a_key(client, fake):
    deep = "leaf"
    for _ in range(60):
        deep = {"in": deep}
    document = {"paths": {}, "deep": deep, "padding": "x" * (2 * 1024 * 1024)}
    fake.fail(body=document)
    assert client.get_openapi() == document
    assert "Authorization" not in fake.requests[-1].headers


# Threads, processes and leftovers


def test_threads_get_their_own_responses(make_client, fake, actor):
    client = make_client()
    sessions = [fake.add_session("generate-exam", actor).id for _ in range(32)]

    def ask(session_id):
        return [client.get_embed_session(session_id).id for _ in range(20)]

    answers = call_at_once(*(partial(ask, session_id) for session_id in sessions))
    assert answers == [[session_id] * 20 for session_id in sessions]
    assert len(fake.requests) == 32 * 20


def test_calls_share_a_connection(client, server, monkeypatch):
    opened = []
    monkeypatch.setattr(server, "opened", opened.append)
    for _ in range(50):
        client.get_me()
    assert len(opened) == 1


def test_connection_closed_by_the_server_is_reopened(client, server, fake, monkeypatch):
    closed = threading.Event()
    shut = server.shutdown_request
    monkeypatch.setattr(server, "shutdown_request", lambda request: (shut(request), closed.set()))
    fake.fail(transport=wire.CLOSE_AFTER)
    client.get_me()
    assert closed.wait(PATIENCE)
    client.create_user(email="ann@school.example")
    assert len(fake.requests) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_child_does_not_wait_for_a_lock_of_its_parent(server, fake):
    script = """
import os, sys
from django_examplary.client import ExamplaryClient
url, key = sys.argv[1:]
client = ExamplaryClient(key, base_url=url)
bound = client.within(30)
with client._connections._lock, client._connections.cooldown._lock:
    pid = os.fork()
    if not pid:
        os._exit(0 if client.get_me().id == bound.get_me().id else 1)
import signal, time
for _ in range(600):
    ended, status = os.waitpid(pid, os.WNOHANG)
    if ended:
        sys.exit(status != 0)
    time.sleep(0.1)
os.kill(pid, signal.SIGKILL)
sys.exit("the child hangs")
"""
    command = [sys.executable, "-c", script, server.url, DEFAULT_API_KEY]
    environment = {**os.environ, **COVERAGE}
    ended = subprocess.run(command, env=environment, check=False, capture_output=True)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert len(fake.requests) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_processes_do_not_read_responses_of_each_other(server, fake, actor):
    script = """
import os, sys
from django_examplary.client import ExamplaryClient
url, key, *sessions = sys.argv[1:]
client = ExamplaryClient(key, base_url=url)
client.get_me()
children = []
for session in sessions:
    pid = os.fork()
    if not pid:
        ok = all(client.get_embed_session(session).id == session for _ in range(100))
        os._exit(0 if ok else 1)
    children.append(pid)
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in children))
"""
    sessions = [fake.add_session("generate-exam", actor).id for _ in range(4)]
    command = [sys.executable, "-c", script, server.url, DEFAULT_API_KEY, *sessions]
    assert subprocess.run(command, check=False).returncode == 0
    assert len(fake.requests) == 401


def test_importing_the_client_does_not_import_requests():
    script = "import sys, django_examplary.client; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_interpreter_exits_during_a_call(server, fake):
    script = """
import sys, threading
from django_examplary.client import ExamplaryClient
client = ExamplaryClient(sys.argv[2], base_url=sys.argv[1])
threading.Thread(target=client.get_me, daemon=True).start()
sys.stdin.read()
"""
    fake.fail(transport=wire.HANG)
    command = [sys.executable, "-W", "error", "-c", script, server.url, DEFAULT_API_KEY]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, text=True, **pipes) as process:
        wait_for(lambda: fake.requests, process)
        # The program ends at the end of its input.
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
