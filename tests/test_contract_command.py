"""`examplary_contract`: every kind of difference, dialects of documents, and the probe."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from importlib import resources
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_examplary.client import ExamplaryClient
from django_examplary.contract import settled
from django_examplary.contract.baseline import CALLS, Call
from django_examplary.contract.comparison import compare
from django_examplary.contract.document import Document, DocumentError
from django_examplary.contract.examples import EMAILS, presets_of
from django_examplary.contract.probe import Probe
from django_examplary.contract.validation import Validator
from django_examplary.encoding import to_camel
from django_examplary.flows import FLOWS, TakeExam
from django_examplary.services.profiles import EMAIL_PATTERN
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from tests.test_contract import exercise

WRITTEN: dict[str, Any] = json.loads(
    resources.files("django_examplary.testing").joinpath("openapi.json").read_bytes()
)
KNOWN = set(compare(Document.from_content(WRITTEN)))
JSON = "application/json"


def run(*arguments, **options):
    """Return the exit code, the output, and the error message."""
    stdout, stderr = io.StringIO(), io.StringIO()
    try:
        call_command("examplary_contract", *arguments, stdout=stdout, stderr=stderr, **options)
    except CommandError as error:
        return error.returncode, stdout.getvalue(), str(error)
    return 0, stdout.getvalue(), stderr.getvalue()


def changed(*edits):
    """Return the written contract with changes."""
    document = copy.deepcopy(WRITTEN)
    for edit in edits:
        edit(document)
    return document


def findings(document):
    """Return the findings that the written contract does not have."""
    return [each for each in compare(Document.from_content(document)) if each not in KNOWN]


def schema(name):
    return lambda document: document["components"]["schemas"][name]


def put(target, **values):
    """Return an edit that sets keys of a node."""
    return lambda document: target(document).update(values)


def drop(target, key):
    """Return an edit that removes a key of a node."""
    return lambda document: target(document).pop(key)


def properties(name):
    return lambda document: schema(name)(document)["properties"]


def operation(method, path):
    return lambda document: document["paths"][path][method]


def body(method, path):
    return lambda document: operation(method, path)(document)["requestBody"]["content"][JSON]


def answer(method, path, status="2XX"):
    return lambda document: operation(method, path)(document)["responses"][status]["content"][JSON]


def responses(method, path):
    return lambda document: operation(method, path)(document)["responses"]


# The baseline against the code


@pytest.fixture(scope="module")
def recorded():
    """A fake that has recorded every call of the client."""
    fake = FakeExamplary(staging=True)
    with serve(fake) as server, ExamplaryClient(DEFAULT_API_KEY, base_url=server.url) as client:
        exercise(client, fake)
    return fake


def test_baseline_has_every_operation_of_the_client(recorded):
    assert all(recorded.calls(call.method, call.path) for call in CALLS)
    assert all(
        any(request.matches(call.method, call.path) for call in CALLS)
        # The export is downloaded from its own address.
        for request in recorded.requests
        if not request.path.startswith("/exports/")
    )


@pytest.mark.parametrize("call", [call for call in CALLS if call.bodies], ids=str)
def test_baseline_sends_the_fields_of_the_client(call, recorded):
    """Compare top-level fields only; the presets come from the flows."""
    sent = {name for request in recorded.calls(call.method, call.path) for name in request.json}

    assert sent <= {name for example in call.bodies for name in example}


@pytest.mark.parametrize("flow", FLOWS.values(), ids=FLOWS)
def test_baseline_sends_every_preset(flow):
    least, *every = presets_of(flow)

    names = {to_camel(field.name) for field in dataclasses.fields(flow)} - {"extra"}
    assert {name for presets in every for name in presets} == names
    assert all(least.items() <= presets.items() for presets in every)


def test_baseline_addresses_match_the_email_pattern():
    assert all(EMAIL_PATTERN.match(email) for email in EMAILS)


READABLE = {
    "id": {
        "/users": "user_1",
        "/me": "user_1",
        "/embed-sessions": "embed_session_1",
        "/embed-sessions/{id}": "embed_session_1",
        "/practice-spaces": "space_1",
    },
    "status": "pending",
    "flow": "generate-exam",
    "embedUrl": "https://app.examplary.ai/embeds/1",
    "actor": "user_1",
    "role": "viewer",
}


@pytest.mark.parametrize("call", [call for call in CALLS if call.resource.reader], ids=str)
def test_readers_require_the_needed_fields_of_the_baseline(call: Call):
    ids: Any = READABLE["id"]
    least = {**READABLE, "id": ids.get(call.path, "exam_1")}
    reader: Any = call.resource.reader
    needed = {read.name for read in call.resource.reads if read.needed} - {"embedUrl"}

    assert reader.from_json(least)
    for name in needed:
        with pytest.raises(ValueError, match="is missing"):
            reader.from_json({key: value for key, value in least.items() if key != name})


# The document that the fake serves


def test_written_contract_has_only_one_difference():
    found = compare(Document.from_content(WRITTEN))

    # The URL is not documented as required, but launches need it.
    assert [(each.group, each.where) for each in found] == [
        ("WARN", "POST /embed-sessions answer embedUrl")
    ]


# One row for each kind of difference: the change, the group, the location and the text

SESSION_BODY = schema("EmbedSessionCreate")
SESSIONS = ("/embed-sessions", "/embed-sessions/{embedSessionId}")
DIFFERENCES = {
    "essential operation removed": (
        [lambda document: document["paths"].pop("/users")],
        "ERROR POST /users: the operation is not in the document",
    ),
    "optional operation removed": (
        [lambda document: document["paths"].pop("/taxonomies")],
        "WARN GET /taxonomies: the operation is not in the document",
    ),
    "operation deprecated": (
        [put(operation("post", "/users"), deprecated=True)],
        "WARN POST /users: the operation is deprecated",
    ),
    "operation added": (
        [put(lambda document: document["paths"], **{"/results": {"get": {"summary": "Results"}}})],
        "NEWS GET /results: new operation: Results",
    ),
    "operation added without a summary": (
        [put(lambda document: document["paths"], **{"/results": {"get": {}}})],
        "NEWS GET /results: new operation",
    ),
    "paths below a version": (
        [put(lambda document: document, servers=[{"url": "https://api.examplary.ai/v2"}, 1])],
        "WARN servers: all paths are below https://api.examplary.ai/v2",
    ),
    "all paths with a version": (
        [
            lambda document: document.update(
                paths={f"/api/v2{path}": item for path, item in document["paths"].items()}
            )
        ],
        "WARN paths: all paths are below /api/v2",
    ),
    "server with a stage of AWS": (
        [
            put(
                lambda document: document,
                servers=[{"url": "https://x/{a}", "variables": {"a": {"default": "prod"}}}],
            )
        ],
        "WARN servers: all paths are below https://x/prod",
    ),
    "another kind of key": (
        [
            put(
                lambda document: document["components"]["securitySchemes"],
                bearerAuth={"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            )
        ],
        "ERROR GET /me: the operation takes no bearer token",
    ),
    "basic authentication": (
        [
            put(
                lambda document: document["components"]["securitySchemes"],
                bearerAuth={"type": "http", "scheme": "basic"},
            )
        ],
        "ERROR GET /me: the operation takes no bearer token",
    ),
    "header parameter required": (
        [
            put(
                operation("post", "/users"),
                parameters=[{"name": "X-Workspace", "in": "header", "required": True}],
            )
        ],
        "ERROR POST /users X-Workspace: the header parameter is required, and not sent",
    ),
    "query parameter added": (
        [put(operation("get", "/me"), parameters=[{"name": "expand", "in": "query"}])],
        "NEWS GET /me expand: new query parameter",
    ),
    "query parameter removed": (
        [put(operation("get", "/source-materials"), parameters=[])],
        "WARN GET /source-materials externalId: the query parameter is sent",
    ),
    "body is a form": (
        [
            put(
                operation("post", "/users"),
                requestBody={"content": {"multipart/form-data": {"schema": {}}}},
            )
        ],
        "ERROR POST /users: the body must be multipart/form-data, not JSON",
    ),
    "body not declared": (
        [drop(operation("post", "/users"), "requestBody")],
        "WARN POST /users: a body is sent, and not in the document",
    ),
    "body required": (
        [
            put(
                operation("post", "/exams/{examId}/export/qti3-zip"),
                requestBody={"required": True, "content": {JSON: {"schema": {"type": "object"}}}},
            )
        ],
        "ERROR POST /exams/{id}/export/qti3-zip: a body is required, and not sent",
    ),
    "request field required": (
        [put(schema("UserCreate"), required=["email", "name", "locale"])],
        "ERROR POST /users locale: is required, and not sent",
    ),
    "request field that may be left out required": (
        [put(schema("UserCreate"), required=["email", "name"])],
        "ERROR POST /users name: is required, and not sent",
    ),
    "request field of another type": (
        [put(properties("UserCreate"), name={"type": "object"})],
        "ERROR POST /users name: must be object, not string",
    ),
    "request field shorter": (
        [put(properties("UserCreate"), name={"type": "string", "maxLength": 50})],
        "ERROR POST /users name: maxLength is 50, and 100 may be sent",
    ),
    "request field longer": (
        [put(properties("UserCreate"), name={"type": "string", "minLength": 2})],
        "ERROR POST /users name: minLength is 2, and 1 may be sent",
    ),
    "pattern of an address": (
        [put(schema("Email"), pattern="^[a-z.]+@[a-z.]+$")],
        'ERROR POST /users email: must match ^[a-z.]+@[a-z.]+$, which "o\'neil-1@a.b.org"',
    ),
    "actor is a UUID": (
        [put(properties("EmbedSessionCreate"), actor={"type": "string", "format": "uuid"})],
        "ERROR POST /embed-sessions actor: must be a UUID",
    ),
    "role removed": (
        [put(schema("WorkspaceRole"), enum=["owner", "admin", "teacher", "member"])],
        "ERROR POST /users role: must be one of admin or member or owner or teacher, not 'student'",
    ),
    "role added": (
        [lambda document: schema("WorkspaceRole")(document)["enum"].append("assistant")],
        "NEWS POST /users role: new value: assistant",
    ),
    "content role removed": (
        [put(schema("ContentRole"), enum=["owner", "manager", "editor", "viewer"])],
        "ERROR POST /permissions/{resource} role: must be one of",
    ),
    "flow removed": (
        [lambda document: schema("Flow")(document)["enum"].remove("edit-exam")],
        "ERROR POST /embed-sessions flow: must be one of",
    ),
    "pre-release flow removed": (
        [lambda document: schema("Flow")(document)["enum"].remove("take-exam")],
        "WARN POST /embed-sessions flow: must be one of",
    ),
    "flow added": (
        [lambda document: schema("Flow")(document)["enum"].append("grade-exam")],
        "NEWS POST /embed-sessions flow: new value: grade-exam",
    ),
    "preset added": (
        [put(properties("PresetsGenerateExam"), difficulty={"type": "string"})],
        "NEWS POST /embed-sessions presets[generate-exam].difficulty: new field",
    ),
    "preset removed": (
        [drop(properties("PresetsGenerateExam"), "context")],
        "WARN POST /embed-sessions presets[generate-exam].context: the field is sent",
    ),
    "preset required": (
        [put(schema("PresetsGenerateExam"), required=["subject"])],
        "ERROR POST /embed-sessions presets[generate-exam].subject: is required",
    ),
    "unknown preset refused": (
        [
            drop(properties("PresetsGenerateQuestion"), "hideSubject"),
            put(schema("PresetsGenerateQuestion"), additionalProperties=False),
        ],
        "ERROR POST /embed-sessions presets[generate-question].hideSubject: is sent, and not",
    ),
    "preset of another type": (
        [put(properties("PresetsEditRubric"), showDoneButton={"type": "string"})],
        "ERROR POST /embed-sessions presets[edit-rubric].showDoneButton: must be string",
    ),
    "preset with another step": (
        [
            put(
                properties("PresetsGenerateExam"),
                intendedDuration={"type": "number", "multipleOf": 10},
            )
        ],
        "ERROR POST /embed-sessions presets[generate-exam].intendedDuration: multipleOf is 10",
    ),
    "preset with an inclusive range": (
        [put(properties("PresetsGenerateExam"), intendedDuration={"minimum": 20, "maximum": 10})],
        "ERROR POST /embed-sessions presets[generate-exam].intendedDuration: minimum is 20",
    ),
    "preset with an inclusive maximum": (
        [put(properties("PresetsGenerateExam"), intendedDuration={"maximum": 10})],
        "ERROR POST /embed-sessions presets[generate-exam].intendedDuration: maximum is 10",
    ),
    "preset with exclusive limits of 3.1": (
        [put(properties("PresetsGenerateExam"), intendedDuration={"exclusiveMinimum": 15})],
        "ERROR POST /embed-sessions presets[generate-exam].intendedDuration: exclusiveMinimum is",
    ),
    "preset with exclusive limits of 3.0": (
        [
            put(
                properties("PresetsGenerateExam"),
                intendedDuration={"maximum": 15, "exclusiveMaximum": True},
            )
        ],
        "ERROR POST /embed-sessions presets[generate-exam].intendedDuration: exclusiveMaximum is",
    ),
    "list of other items": (
        [
            put(
                properties("PresetsGenerateExam"),
                sourceMaterialIds={"type": "array", "items": {"type": "integer"}},
            )
        ],
        "ERROR POST /embed-sessions presets[generate-exam].sourceMaterialIds[]: must be integer",
    ),
    "list of more items": (
        [put(properties("PresetsGenerateExam"), sourceMaterialIds={"minItems": 2})],
        "ERROR POST /embed-sessions presets[generate-exam].sourceMaterialIds: minItems is 2",
    ),
    "value of a preset removed": (
        [
            put(
                properties("PresetsGenerateQuestion"),
                outputFormat={"enum": ["examplary_json", "qti_v3p0"]},
            )
        ],
        "ERROR POST /embed-sessions presets[generate-question].outputFormat: must be one of",
    ),
    "value of a preset added": (
        [
            lambda document: properties("PresetsGenerateQuestion")(document)["outputFormat"][
                "enum"
            ].append("qti_v4p0")
        ],
        "NEWS POST /embed-sessions presets[generate-question].outputFormat: new value: qti_v4p0",
    ),
    "rubric of another shape": (
        [put(schema("Scoring"), required=["version"])],
        "WARN POST /embed-sessions presets[edit-rubric].rubric.version: is required",
    ),
    "request field deprecated": (
        [put(properties("EmbedSessionCreate"), returnUrl={"deprecated": True})],
        "WARN POST /embed-sessions returnUrl: the field is deprecated",
    ),
    "request field removed": (
        [drop(properties("EmbedSessionCreate"), "returnUrl")],
        "WARN POST /embed-sessions returnUrl: the field is sent, and not in the document",
    ),
    "metadata limited": (
        [put(properties("EmbedSessionCreate"), metadata={"additionalProperties": False})],
        "WARN POST /embed-sessions metadata.course: is sent, and not allowed",
    ),
    "metadata of numbers": (
        [
            put(
                properties("EmbedSessionCreate"),
                metadata={"additionalProperties": {"type": "number"}},
            )
        ],
        "WARN POST /embed-sessions metadata.course: must be integer or number, not string",
    ),
    "answer is a list": (
        [put(answer("post", "/users"), schema={"type": "array", "items": {}})],
        "ERROR POST /users: the answer is array, not an object",
    ),
    "answer is not a list": (
        [put(answer("get", "/permissions/{resource}", "200"), schema={"type": "string"})],
        "ERROR GET /permissions/{resource}: the answer is not a list",
    ),
    "needed answer field removed": (
        [drop(properties("EmbedSession"), "embedUrl")],
        "ERROR POST /embed-sessions answer embedUrl: is read, and not in the document",
    ),
    "answer field removed": (
        [drop(properties("EmbedSession"), "expiresAt")],
        "WARN GET /embed-sessions/{id} answer expiresAt: is read, and not in the document",
    ),
    "needed answer field of another type": (
        [put(properties("User"), id={"type": "integer"})],
        "ERROR POST /users answer id: is integer, where string is read",
    ),
    "answer field of another type": (
        [put(properties("User"), role={"type": "array", "items": {"type": "string"}})],
        "WARN POST /users answer role: is array, where string is read",
    ),
    "needed answer field may be null": (
        [put(properties("EmbedSession"), status={"type": ["string", "null"]})],
        "WARN GET /embed-sessions/{id} answer status: is needed, and may be absent or null",
    ),
    "needed answer field optional": (
        [put(schema("EmbedSession"), required=["id"])],
        "WARN GET /embed-sessions/{id} answer status: is needed, and may be absent or null",
    ),
    "answer field deprecated": (
        [put(properties("EmbedSession"), expiresAt={"type": "string", "deprecated": True})],
        "WARN GET /embed-sessions/{id} answer expiresAt: the field is deprecated",
    ),
    "answer field added": (
        [put(properties("EmbedSession"), progress={"type": "number"})],
        "NEWS GET /embed-sessions/{id} answer progress: new field",
    ),
    "status removed": (
        [put(properties("EmbedSession"), status={"enum": ["pending", "completed"]})],
        "ERROR GET /embed-sessions/{id} answer status: is never 'cancelled'",
    ),
    "status added": (
        [
            put(
                properties("EmbedSession"),
                status={"enum": ["pending", "done", "canceled", "expired", "graded"]},
            )
        ],
        "WARN GET /embed-sessions/{id} answer status: may be 'graded'",
    ),
    "role added to answers": (
        [lambda document: schema("ContentRole")(document)["enum"].append("grader")],
        "NEWS GET /permissions/{resource}/{actor} answer role: may be 'grader'",
    ),
    "id is a UUID": (
        [put(properties("User"), id={"type": "string", "format": "uuid"})],
        "ERROR POST /users answer id: is a UUID, where a prefixed id is read",
    ),
    "id with another prefix": (
        [
            put(
                properties("User"),
                id={"type": "string", "example": "usr_1", "examples": ["user_1"]},
            )
        ],
        "WARN POST /users answer id: the example 'usr_1' is refused",
    ),
    "output removed": (
        [drop(properties("EmbedOutputs"), "examId")],
        "ERROR GET /embed-sessions/{id} answer outputs.examId: is not in the document",
    ),
    "output added": (
        [put(properties("EmbedOutputs"), score={"type": "number"})],
        "NEWS GET /embed-sessions/{id} answer outputs.score: new field",
    ),
    "output of another type": (
        [put(properties("EmbedOutputs"), examId={"type": "object"})],
        "WARN GET /embed-sessions/{id} answer outputs.examId: is object, where string is read",
    ),
}


@pytest.mark.parametrize("kind", DIFFERENCES)
def test_difference(kind):
    edits, expected = DIFFERENCES[kind]
    found = [
        f"{each.group} {each.where}: {each.text}"
        for each in findings(changed(*edits))
        if each.group != "SETTLED"
    ]

    assert any(each.startswith(expected) for each in found), found


def test_difference_is_reported_once():
    """A removed flow is not also reported as a change of other flows or presets."""
    document = changed(lambda document: schema("Flow")(document)["enum"].remove("edit-exam"))

    assert [each.where for each in findings(document)] == ["POST /embed-sessions flow"]


@pytest.mark.parametrize(
    "edit",
    [
        put(
            schema("EmbedSessionCreate"),
            allOf=[
                {
                    "required": ["id"],
                    "properties": {"id": {"type": "string", "readOnly": True}},
                }
            ],
        ),
        put(
            properties("EmbedSession"),
            createdAt={"type": "integer"},
            expiresAt={"type": "number"},
        ),
        put(
            lambda document: document,
            servers=[{"url": "https://x/{a}", "variables": {"a": {"default": ""}}}],
        ),
        put(
            answer("get", "/me"),
            schema={
                "properties": {
                    "data": {"$ref": "#/components/schemas/User"},
                    "meta": {"type": "object"},
                    "ok": {"type": "boolean"},
                }
            },
        ),
    ],
    ids=["required and read-only", "times as numbers", "server without a path", "envelope"],
)
def test_document_that_the_client_can_use_is_not_reported(edit):
    found = [each for each in findings(changed(edit)) if each.group != "SETTLED"]

    assert found == []


# One row for each unknown that a document can settle

SETTLED = {
    1: (
        [put(schema("Error"), type="object", properties={"message": {}, "code": {}})],
        "POST /users: an error (default) has the fields code, message",
    ),
    2: (
        [put(responses("post", "/users"), **{"201": {}})],
        "POST /users: success is 201",
    ),
    3: (
        [put(properties("User"), avatar={"type": "string"})],
        "POST /users: the answer has avatar",
    ),
    4: (
        [put(responses("post", "/users"), **{"409": {"description": "Known address."}})],
        "POST /users: 409, Known address.",
    ),
    5: (
        [put(lambda document: document["paths"]["/users"], get={})],
        "GET /users: users can be listed, read, changed or deleted",
    ),
    6: (
        [put(lambda document: document["paths"]["/embed-sessions"], get={})],
        "GET /embed-sessions: sessions can be listed",
    ),
    7: (
        [
            put(
                operation("post", "/embed-sessions"),
                **{"x-role-required": ["admin"], "x-scope-required": "embeds:write"},
            ),
            put(responses("post", "/embed-sessions"), **{"402": {"description": "Upgrade."}}),
        ],
        "POST /embed-sessions: 402, Upgrade.",
    ),
    9: (
        [put(properties("EmbedSession"), status={"enum": ["pending", "completed", "cancelled"]})],
        "GET /embed-sessions/{embedSessionId}: the status is one of pending, completed, cancelled",
    ),
    10: (
        [put(responses("get", SESSIONS[1]), **{"410": {}})],
        "GET /embed-sessions/{embedSessionId}: 410",
    ),
    11: (
        [
            put(lambda document: document["paths"], **{"/exams/{id}/sessions": {"post": {}}}),
            put(properties("EmbedOutputs"), grade={}),
            put(
                SESSION_BODY,
                allOf=[
                    {
                        "if": {"properties": {"flow": {"const": "mark-answer"}}},
                        "then": {
                            "properties": {"presets": {"properties": {"answerId": {}}}},
                        },
                        "else": {},
                    }
                ],
            ),
        ],
        "POST /embed-sessions presets[mark-answer]: the presets are answerId",
    ),
    13: (
        [
            put(
                lambda document: document["paths"],
                **{"/practice-spaces/{id}/progress": {"get": {}}},
            )
        ],
        "GET /practice-spaces/{id}/progress: practice spaces and progress can be read or changed",
    ),
    15: (
        [put(schema("Scoring"), required=["criteria"])],
        "POST /embed-sessions presets[edit-rubric].rubric: the schema names required fields",
    ),
    16: (
        [put(properties("Exam"), owner={"type": "string"})],
        "GET /exams/{examId}: the answer has owner",
    ),
    17: (
        [
            lambda document: answer("post", "/exams/{examId}/export/qti3-zip")(document)["schema"][
                "properties"
            ].update(expiresAt={})
        ],
        "POST /exams/{examId}/export/qti3-zip: the answer has expiresAt",
    ),
    18: (
        [
            put(properties("EmbedSessionCreate"), metadata={"maxProperties": 50}),
            put(properties("EmbedTheme"), font={}, locale={"enum": ["en", "nl"]}),
        ],
        "POST /embed-sessions theme: the locale is one of en, nl",
    ),
    19: (
        [put(properties("EmbedSessionCreate"), returnUrl={"pattern": "^https:"})],
        "POST /embed-sessions returnUrl: must match ^https:",
    ),
    20: (
        [put(properties("EmbedSessionCreate"), allowedOrigin={"type": ["string", "array"]})],
        "POST /embed-sessions allowedOrigin: may be a list",
    ),
    23: (
        [
            put(
                operation("post", "/users"),
                **{"x-ratelimit": {"limit": 60, "window": 60, "scope": "user"}},
            )
        ],
        "POST /users: 60 requests in 60 s, by user",
    ),
    24: (
        [
            put(lambda document: document, webhooks={"session.completed": {}}),
            put(lambda document: document["paths"], **{"/webhooks": {"post": {}}}),
        ],
        "webhooks: the document has session.completed",
    ),
    25: (
        [
            put(
                operation("get", "/source-materials"),
                parameters=[{"name": "cursor", "in": "query"}, {"$ref": "#/nowhere"}],
            )
        ],
        "GET /source-materials: pages with cursor",
    ),
    26: (
        [
            put(
                lambda document: document["components"]["securitySchemes"],
                oauth={
                    "type": "oauth2",
                    "flows": {"authorizationCode": {"scopes": {"users:write": ""}}, "x": 1},
                },
            )
        ],
        "securitySchemes oauth: the scopes are users:write",
    ),
    28: (
        [put(schema("PresetsGenerateExam"), additionalProperties=False)],
        "POST /embed-sessions presets[generate-exam]: unknown presets are refused",
    ),
    29: (
        [put(operation("get", "/me"), deprecated=True)],
        "GET /me: deprecated operations are marked",
    ),
    31: (
        [
            put(
                responses("post", "/embed-sessions"),
                **{"404": {"description": "No such exam."}, "422": {"description": 5}},
            )
        ],
        "POST /embed-sessions: 404, No such exam.",
    ),
}


@pytest.mark.parametrize("number", SETTLED)
def test_settled(number):
    edits, expected = SETTLED[number]
    found = [
        f"{each.where}: {each.text}" for each in findings(changed(*edits)) if each.unknown == number
    ]

    assert any(each.startswith(expected) for each in found), found


def test_every_settled_number_has_a_test():
    assert tuple(SETTLED) == settled.NUMBERS


# Dialects


def as_3_0(node):
    """Rewrite a document as generators of OpenAPI 3.0 write it."""
    if isinstance(node, list):
        return [as_3_0(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: as_3_0(value) for key, value in node.items() if key != "description"}
    types = node.get("type")
    if isinstance(types, list) and "null" in types:
        node |= {"type": next(each for each in types if each != "null"), "nullable": True}
    return node


def test_openapi_3_0_without_descriptions():
    document = {**as_3_0(WRITTEN), "openapi": "3.0.3"}

    assert findings(document) == []


def any_of_null(node):
    """Rewrite each type with null as `anyOf`."""
    if isinstance(node, list):
        return [any_of_null(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: any_of_null(value) for key, value in node.items()}
    types = node.get("type")
    if isinstance(types, list) and "null" in types:
        kind = {**node, "type": next(each for each in types if each != "null")}
        return {"anyOf": [kind, {"type": "null"}]}
    return node


def test_any_of_with_null():
    assert findings(any_of_null(copy.deepcopy(WRITTEN))) == []


def test_null_is_not_an_enumeration_value():
    """An optional enumeration, and an optional answer field."""
    roles = ["owner", "admin", "teacher", "student", "member"]
    role = {"anyOf": [{"enum": roles}, {"type": "null"}]}
    email = {"type": "string", "nullable": True, "x-provenance": "inferred"}
    document = changed(
        put(properties("UserCreate"), role=role),
        put(properties("User"), email=email),
    )

    assert findings(document) == []


def test_all_of_joins_objects():
    parts = [{"type": "object", "required": ["email"], "properties": {"email": {}}}]
    parts.append({"properties": {"name": {}, "role": {}}, "additionalProperties": False})
    document = changed(put(body("post", "/users"), schema={"allOf": parts}))

    assert findings(document) == []


def test_cyclic_references():
    document = changed(
        put(
            lambda document: document["components"]["schemas"],
            Loop={"$ref": "#/components/schemas/Loop"},
            Self={"allOf": [{"$ref": "#/components/schemas/Self"}], "type": "string"},
            Either={"anyOf": [{"$ref": "#/components/schemas/Either"}, {"type": "string"}]},
            Tree={"properties": {"children": {"items": {"$ref": "#/components/schemas/Tree"}}}},
        ),
        put(properties("UserCreate"), name={"$ref": "#/components/schemas/Self"}),
        put(
            properties("User"),
            name={"$ref": "#/components/schemas/Loop", "x-provenance": "inferred"},
        ),
        put(properties("EmbedSession"), actor={"$ref": "#/components/schemas/Either"}),
        put(properties("EmbedOutputs"), rubric={"$ref": "#/components/schemas/Tree"}),
        put(operation("get", "/me"), responses={"200": {"$ref": "#/components/responses/Loop"}}),
        put(
            lambda document: document["components"]["responses"],
            Loop={"$ref": "#/components/responses/Loop"},
        ),
    )

    assert findings(document) == []


def test_deep_and_wide_schemas_are_compared():
    deep: Any = {}
    for _ in range(150):
        deep = {"allOf": [deep]}
    wide: Any = {"$ref": "#/components/schemas/Wide"}
    document = changed(
        put(lambda document: document["components"]["schemas"], Wide={"anyOf": [wide] * 9, **deep}),
        put(properties("UserCreate"), name=wide),
    )

    assert findings(document) == []


def test_references_without_a_target_are_reported():
    document = changed(
        put(body("post", "/users"), schema={"$ref": "https://schemas.example/user.json"}),
        put(answer("post", "/users"), schema={"$ref": "#/components/schemas/Missing/a~1b"}),
        put(answer("get", "/source-materials", "200"), schema={"$ref": "#/components/x"}),
    )

    text = "has no target in the document, so it is not compared"
    assert {(each.group, each.where, each.text) for each in findings(document)} == {
        ("WARN", reference, text)
        for reference in (
            "https://schemas.example/user.json",
            "#/components/schemas/Missing/a~1b",
            "#/components/x",
        )
    }


def test_patterns_that_python_cannot_compile_are_ignored():
    document = changed(put(schema("Email"), pattern=r"^[\p{L}]+@(?<domain>.+)$"))

    assert findings(document) == []


@pytest.mark.parametrize(
    ("pattern", "value", "problems"),
    [("^a$", "a", 0), ("^a$", "a\n", 1), (r"^a\$", "a$", 0), (r"^a\$", "a", 1)],
)
def test_patterns_end_as_in_javascript(pattern, value, problems):
    validator = Validator(Document({"paths": {}}))
    assert len(validator.problems({"pattern": pattern}, value)) == problems


def test_envelopes():
    """The client reads nested users and lists in objects."""
    document = changed(
        lambda document: answer("post", "/users")(document).update(
            schema={"properties": {"user": {"$ref": "#/components/schemas/User", "type": "object"}}}
        ),
        put(
            answer("get", "/permissions/{resource}", "200"),
            schema={
                "type": "object",
                "properties": {
                    "total": {"type": "integer"},
                    "items": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/Permission"},
                    },
                },
            },
        ),
        put(
            answer("get", "/source-materials", "200"),
            schema={"type": "array"},
        ),
        put(answer("get", "/me"), schema={"properties": {"ok": {"type": "boolean"}}}),
    )

    assert {each.where for each in findings(document)} == {
        "GET /me answer ok",
        "GET /me answer id",
        "GET /me answer email",
        "GET /me answer name",
        "GET /me answer role",
    }


def test_alternatives_of_a_request():
    """The alternative for the flow is compared, even if there is one for each flow."""
    options = [
        {
            "type": "object",
            "required": ["flow", "actor"],
            "properties": {
                **WRITTEN["components"]["schemas"]["EmbedSessionCreate"]["properties"],
                "flow": {"const": slug},
                "presets": {"type": "object", "properties": {"examId": {"type": "integer"}}},
            },
        }
        for slug in FLOWS
    ]
    document = changed(put(body("post", "/embed-sessions"), schema={"oneOf": options}))
    found = findings(document)

    assert {each.where for each in found if each.group == "ERROR"} == {
        "POST /embed-sessions presets[edit-exam].examId"
    }
    assert {each.where for each in found if each.text.startswith("must be integer")} == {
        "POST /embed-sessions presets[edit-exam].examId",
        f"POST /embed-sessions presets[{TakeExam.slug}].examId",
    }


def test_unexpected_nodes_are_ignored():
    """Booleans, numbers and strings in place of schemas or lists."""
    document = changed(
        put(properties("UserCreate"), name=True, sendInvite=7),
        put(schema("UserCreate"), required="email", allOf={"type": "string"}),
        put(schema("PresetsGenerateExam"), required=[{}]),
        put(
            properties("User"),
            email={
                "type": ["string", {}],
                "anyOf": [{"$ref": {}}, {}],
                "x-provenance": "inferred",
            },
        ),
        put(schema("Scoring"), properties=None),
        put(responses("get", "/me"), **{"200": {"content": {JSON: 5}}, "204": {"content": 5}}),
        put(operation("get", "/taxonomies"), responses=[], parameters=[5]),
        put(operation("get", "/student-levels"), responses={"500": {"content": {JSON: None}}}),
        put(
            lambda document: document["components"],
            securitySchemes=["bearer"],
        ),
        put(lambda document: document, info=None),
    )

    assert Document.from_content(document).version == ""
    assert {each.group for each in findings(document)} <= {"NEWS"}


def test_document_of_another_api():
    """All operations are missing, and no unknown is settled."""
    found = compare(Document.from_content({"openapi": "3.0.0", "paths": {"/cats": {"get": {}}}}))

    assert {each.group for each in found} == {"ERROR", "WARN", "NEWS"}
    assert sum(each.group == "NEWS" for each in found) == 1
    assert len(found) == len(CALLS) + 1


def test_optional_body_and_open_outputs():
    export = "/exams/{examId}/export/qti3-zip"
    document = changed(
        put(operation("post", export), requestBody={"content": {JSON: {"schema": {}}}}),
        put(answer("post", export), schema={"type": "object"}),
        put(properties("EmbedSession"), outputs={"type": "object"}),
    )

    assert findings(document) == []


def test_values_of_every_type():
    document = Document.from_content(WRITTEN)
    validator = Validator(document)

    assert validator.problems({"enum": [True, None, 1.5, [], {}]}, value=None) == []
    assert validator.problems({"type": "number"}, 1) == []
    assert [each.text for each in validator.problems({"type": "integer"}, 1.5)] == [
        "must be integer, not number"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no `paths` object"),
        ('{"openapi": "3.1.0"}', "no `paths` object"),
        ('{"swagger": "2.0", "paths": {}}', "must be OpenAPI 3.0 or 3.1"),
        ('{"openapi": "3.1.0", "paths": {"/users": 5}}', "has no operations"),
    ],
)
def test_other_content_is_refused(content, message):
    with pytest.raises(DocumentError, match=message):
        Document.parse(content)


# The command


@pytest.fixture
def document(tmp_path):
    """Write a document to a file, and return its path."""

    def write(content, name="openapi.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def test_document_is_fetched_without_the_key(fake, settings):
    settings.EXAMPLARY_API_KEY = ""

    code, text, message = run()

    assert (code, message) == (0, "")
    assert f"{fake.base_url}/openapi, OpenAPI 3.1.0, version 2026-03" in text
    assert "ERROR (0)\n" in text
    (request,) = fake.requests
    assert (request.method, request.path) == ("GET", "/openapi")
    assert "Authorization" not in request.headers


def test_configured_key_is_not_sent_with_the_download(fake):
    assert run()[0] == 0
    assert "Authorization" not in fake.requests[0].headers


def test_differing_document_of_a_server(fake):
    edits, expected = DIFFERENCES["needed answer field removed"]
    fake.fail("GET", "/openapi", body=changed(*edits), status=200)

    code, text, message = run()

    assert (code, message) == (1, "Differences that count as failures: 1.")
    assert f"  {expected.removeprefix('ERROR ')}" in text


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"status": 500}, "was answered with 500"),
        ({"status": 200, "body": []}, "no `paths` object"),
        ({"status": 200, "body": "<html>"}, "could not be loaded"),
        ({"status": 204}, "could not be loaded"),
        ({"transport": "reset"}, "could not be loaded"),
    ],
)
@pytest.mark.parametrize("fail_on", ["error", "news"])
def test_failed_load_exits_with_an_error(fake, settings, fault, message, fail_on):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", "/openapi", times=None, **fault)

    code, text, error = run(fail_on=fail_on)

    assert (code, text) == (3, "")
    assert message in error


@pytest.mark.parametrize("content", ["", "{}", '{"openapi": "3.0.0", "paths": {}}'])
@pytest.mark.parametrize("option", ["file", "against"])
def test_unusable_file(document, option, content):
    files = {"file": document(WRITTEN), option: document(content, "other.json")}

    code, text, message = run(**files)

    assert (code, text) == (3, "")
    assert "other.json could not be loaded" in message


def test_missing_file(tmp_path):
    code, _, message = run(file=str(tmp_path / "missing.json"))

    assert code == 3
    assert "missing.json could not be loaded" in message


def test_deeply_nested_document(document):
    """One depth is refused by the JSON parser, the other by this package."""
    for depth in (900, 100_000):
        nested = '{"if": ' * depth + "{}" + "}" * depth
        text = json.dumps(changed(put(properties("UserCreate"), name="nested")))

        code, _, message = run(file=document(text.replace('"nested"', nested)))

        assert code == 3, depth
        assert "nested too deeply" in message or "could not be loaded" in message


@pytest.mark.parametrize(
    ("kind", "codes"),
    [
        ("status removed", {"error": 1, "warn": 1, "news": 1}),
        ("answer field deprecated", {"error": 0, "warn": 1, "news": 1}),
        ("operation added", {"error": 0, "warn": 0, "news": 1}),
    ],
)
def test_fail_on(document, kind, codes):
    edits, _ = DIFFERENCES[kind]
    files = {"file": document(changed(*edits)), "against": document(WRITTEN, "earlier.json")}

    for choice, code in codes.items():
        assert run(fail_on=choice, **files)[0] == code


def test_saved_document_is_used_for_the_next_comparison(fake, tmp_path):
    saved = str(tmp_path / "saved.json")

    assert run(save=saved)[0] == 0
    assert json.loads((tmp_path / "saved.json").read_text()) == WRITTEN
    assert run(against=saved, fail_on="news")[0] == 0
    fake.fail("GET", "/openapi", body=changed(*DIFFERENCES["status added"][0]), status=200)
    code, text, _ = run(against=saved, fail_on="warn")
    assert code == 1
    assert "may be 'graded'" in text
    # It is in both documents.
    assert "embedUrl" not in text


def test_file_that_cannot_be_written(fake, tmp_path):
    code, _, message = run(save=str(tmp_path / "missing" / "saved.json"))

    assert code == 2
    assert "cannot be written" in message


def test_json(document):
    file = document(changed(*SETTLED[6][0]))

    code, text, _ = run("--json", file=file)

    result = json.loads(text)
    assert code == 0
    assert result["document"] == {
        "source": file,
        "openapi": "3.1.0",
        "version": "2026-03",
        "operations": 26,
    }
    assert result["counts"] == {"ERROR": 0, "WARN": 1, "SETTLED": 1, "NEWS": 1}
    assert result["findings"][1] == {
        "group": "SETTLED",
        "where": "GET /embed-sessions",
        "text": "sessions can be listed",
        "unknown": 6,
    }
    assert 6 not in result["open"]
    assert 5 in result["open"]


def test_strings_of_the_document_are_escaped(document):
    """A document cannot clear the screen or imitate the output of the command."""
    hostile = "\x1b[2J\rERROR (0)\nNEWS (0)\x9b\u202e\u2028\ud800"
    content = changed(
        put(lambda document: document["paths"], **{"/x": {"get": {"summary": hostile}}}),
        put(lambda document: document["info"], version="1\n\x1b[2J"),
    )
    file = document(json.dumps(content))

    text = run(file=file)[1]

    assert not set(text) & set("\x1b\r\x9b\u202e\u2028\ud800")
    assert r"new operation: \x1b[2J\rERROR (0)\nNEWS (0)\x9b\u202e\u2028\ud800" in text
    assert r"version 1\n\x1b[2J" in text


# The probe


@pytest.fixture
def probe(tmp_path):
    """Run the probe; return the exit code, the output, the message and the report."""
    path = tmp_path / "probe.json"

    def start(*arguments, **options):
        options = {"domain": "school.example", "yes": True, "report": str(path), **options}
        code, text, message = run("--probe", *arguments, **options)
        return code, text, message, json.loads(path.read_text()) if path.exists() else None

    return start


def test_probe(fake, probe, settings):
    settings.EXAMPLARY_API_KEY = fake.api_key
    settings.EXAMPLARY_SITE_ORIGIN = "https://school.example"
    fake.duplicates = "return"

    code, text, message, report = probe()

    assert (code, message) == (0, "")
    assert [(step["operation"], step["status"]) for step in report["steps"]] == [
        ("POST /users", 200),
        ("POST /users", 200),
        ("POST /embed-sessions", 200),
        ("GET /embed-sessions/{id}", 200),
        ("DELETE /embed-sessions/{id}", 204),
        ("GET /embed-sessions/{id}", 404),
    ]
    assert report["steps"][0]["body"] == dict.fromkeys(["id", "email", "name", "role"], "string")
    assert report["steps"][0]["content_type"] == "application/json"
    assert report["steps"][1]["notes"] == {"id": "the same as before"}
    assert report["steps"][2]["notes"] == {"embed_origin": fake.base_url}
    assert report["steps"][2]["body"]["enabledResponseModes"] == ["string"]
    assert report["steps"][4]["body"] == "empty"
    assert report["steps"][5]["error"] == "ExamplaryNotFoundError"
    assert report["complete"] is True
    assert "delete the session: DELETE /embed-sessions/{id}: 204 none" in text
    user = json.loads(fake.calls("POST", "/users")[0].body)
    assert user["email"].endswith("@school.example")
    assert json.loads(fake.calls("POST", "/embed-sessions")[0].body)["allowedOrigin"] == (
        "https://school.example"
    )


@pytest.mark.parametrize("duplicates", ["refuse", "create"])
def test_probe_of_a_known_address(fake, probe, duplicates):
    fake.duplicates = duplicates

    _, _, _, report = probe()

    again = report["steps"][1]
    assert (again["status"], again["notes"]) == (
        (400, {}) if duplicates == "refuse" else (200, {"id": "another one than before"})
    )
    assert report["complete"] is True


@pytest.mark.parametrize("shape", ["message", "error-object", "empty", "html"])
def test_probe_shows_no_values(fake, probe, shape):
    """The report and the output contain no id, address, URL or key."""
    fake.error_shape = shape

    _, text, _, report = probe("--json", email="ann@school.example", domain=None)

    (session,) = fake.sessions.values()
    (user,) = (user for user in fake.users.values() if user["email"] == "ann@school.example")
    secrets = {fake.api_key, session.id, session.token, user["id"], user["email"], user["name"]}
    for output in (text, json.dumps(report)):
        assert not [secret for secret in secrets if secret in output]
        assert output.count("http") == output.count(fake.base_url)
    assert json.loads(text) == report


def test_probe_hides_values_that_are_keys(fake, probe):
    fake.fail(
        "POST",
        "/users",
        edit=lambda user: {
            **user,
            user["email"]: 1,
            "nested": [{"user_abc": {}}, {"user_abd": {}}, {"k3y9876": True}],
            "alias": "Ann",
            "Ann": 1.5,
            "a b": None,
            "x": [],
        },
    )

    _, _, _, report = probe()

    assert report["steps"][0]["body"] == {
        **dict.fromkeys(["id", "email", "name", "role", "alias"], "string"),
        "<hidden>": "null",
        "nested": [{"<hidden>": {}}, {"<hidden>": "boolean"}],
        "x": [],
    }


@pytest.mark.parametrize("beside", [{}, {"meta": {"at": 1}}])
def test_probe_reads_envelopes(fake, probe, beside):
    fake.fail("POST", "/users", edit=lambda user: {"user": user, **beside})
    fake.fail("POST", "/embed-sessions", edit=lambda session: {"data": session, **beside})

    assert probe()[3]["complete"] is True
    assert all(session.revoked for session in fake.sessions.values())


@pytest.mark.parametrize(
    ("fault", "step"),
    [
        ({"headers": {"Content-Type": ""}}, {"content_type": "none"}),
        ({"headers": {"Content-Type": "text/plain"}}, {"content_type": "text/plain"}),
        ({"headers": {"Content-Type": "a/b; secret=user_1"}}, {"content_type": "unusual"}),
        ({"transport": "reset"}, {"status": 0, "error": "ExamplaryConnectionError"}),
        ({"status": 200, "body": {"id": 5}}, {"body": {"id": "integer"}}),
        ({"status": 200, "body": "text"}, {"body": "not JSON"}),
    ],
)
def test_probe_with_unexpected_responses(fake, probe, settings, fault, step):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/users", times=2, **fault)

    code, _, _, report = probe()

    assert report["steps"][0] | step == report["steps"][0]
    assert code == (0 if report["complete"] else 1)


def test_probe_without_a_session(fake, probe):
    fake.approved = False

    code, text, message, report = probe()

    assert (code, message) == (1, "Not every call was answered.")
    assert report["steps"][-1]["status"] == 403
    assert "open a session: POST /embed-sessions: 403" in text


def test_probe_without_an_answer(fake, probe, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", "/embed-sessions/{id}", transport="close")

    code, text, _, _ = probe()

    assert code == 1
    assert "read the session: GET /embed-sessions/{id}: no answer, Examplary" in text
    # The session was deleted anyway.
    assert len(fake.calls("DELETE", "/embed-sessions/{id}")) == 1


def test_probe_reports_the_last_answer(fake, probe):
    fake.fail("GET", "/embed-sessions/{id}", status=503, headers={"Retry-After": "0"})

    assert probe()[3]["steps"][3]["status"] == 200
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 3


def test_probe_deletes_its_session_after_ctrl_c(fake):
    class Interrupted(ExamplaryClient):
        def request(self, method, path, **options):
            if method == "GET":
                raise KeyboardInterrupt
            return super().request(method, path, **options)

    with Interrupted(fake.api_key, base_url=fake.base_url) as client:
        probe = Probe(client, email="ann@school.example", origin="https://school.example")
        with pytest.raises(KeyboardInterrupt):
            probe.run()

    (session,) = fake.sessions.values()
    assert session.revoked


@pytest.mark.parametrize(
    ("reply", "sent"), [("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False), ("", False)]
)
def test_probe_asks_for_confirmation(fake, probe, monkeypatch, reply, sent):
    monkeypatch.setattr("sys.stdin", io.StringIO(reply))

    code, text, message, _ = probe(yes=False)

    assert bool(fake.requests) == sent
    assert (code, message) == (
        (0, message) if sent else (2, "Nothing was sent. Pass --yes to skip the question.")
    )
    assert sent is False or f"at {fake.base_url}, who cannot be deleted" in message
    # The question is not part of the output.
    assert "Continue?" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"domain": None}, "pass --email ADDRESS, or --domain DOMAIN"),
        ({"domain": "localhost"}, "pass --email ADDRESS, or --domain DOMAIN"),
        ({"domain": None, "email": "ann"}, "pass --email ADDRESS, or --domain DOMAIN"),
        ({"report": "/dev/null/probe.json"}, "cannot be written"),
    ],
)
def test_probe_with_wrong_arguments(fake, probe, options, message):
    assert message in probe(**options)[2]
    assert fake.requests == []


def test_probe_refuses_production(settings, probe):
    code, _, message, report = probe()

    assert (code, report) == (2, None)
    assert "Set EXAMPLARY_API_URL to https://api-staging.examplary.ai" in message
