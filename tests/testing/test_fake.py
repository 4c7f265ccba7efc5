from __future__ import annotations

import html
import io
import json
import re
import threading
import time
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, Fault, pages
from django_examplary.testing import content as samples
from django_examplary.testing.api import ACTOR_IS_OWNER, ACTOR_IS_UNKNOWN
from django_examplary.testing.messages import Request, Response
from django_examplary.testing.sessions import FLOWS, Session
from django_examplary.testing.texts import LANGUAGES, texts
from tests import wire
from tests.threads import call_at_once

BEARER = {"authorization": f"Bearer {DEFAULT_API_KEY}"}
ALL_ACTIONS = {"complete", "cancel"}
WRONG_RUBRICS: list[object] = [
    [],
    {"criteria": {}},
    {"criteria": [1]},
    {"criteria": [{"levels": 1}]},
    {"criteria": [{"levels": [1]}]},
    {"criteria": [{"levels": [{"points": "1"}]}]},
]


@pytest.fixture
def fake() -> FakeExamplary:
    return FakeExamplary()


@pytest.fixture
def actor(fake: FakeExamplary) -> str:
    return str(fake.add_user("ada@example.com", name="Ada")["id"])


def call(
    fake: FakeExamplary,
    method: str,
    path: str,
    body: object = None,
    *,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> Response:
    content = b"" if body is None else json.dumps(body).encode()
    return fake.handle(
        Request(method, path, query or {}, BEARER if headers is None else headers, content)
    )


def create(fake: FakeExamplary, path: str, body: object) -> dict[str, Any]:
    response = call(fake, "POST", path, body)
    assert response.status in (200, 201), response.body
    created: dict[str, Any] = response.json
    return created


def refused(response: Response, status: int = 400) -> str:
    assert response.status == status, response.body
    return str(response.json["message"])


def open_embed(fake: FakeExamplary, session: Session, **query: str) -> Response:
    path = urlsplit(session.embed_url).path
    return call(fake, "GET", path, query=query, headers={})


def press(fake: FakeExamplary, session: Session, action: str, typed: object = None) -> Response:
    path = f"{urlsplit(session.embed_url).path}/{action}"
    return call(fake, "POST", path, typed, headers={})


def presets_for(fake: FakeExamplary, flow: str, actor: str) -> dict[str, Any]:
    if flow == "practice-space-student":
        grants = [{"actor": actor, "role": "participant"}]
        return {"practiceSpaceId": fake.add_practice_space(permissions=grants)["id"]}
    if FLOWS[flow].content:
        grants = [{"actor": actor, "role": "editor"}]
        questions = samples.questions("Algebra", "en")
        exam = fake.add_exam("Algebra", questions=questions, permissions=grants)
        return {"examId": exam["id"]}
    return {}


# The key (section 3).


@pytest.mark.parametrize("credentials", [f"Bearer {DEFAULT_API_KEY}", DEFAULT_API_KEY])
def test_key_is_accepted_with_and_without_bearer(fake, credentials):
    assert call(fake, "GET", "/me", headers={"Authorization": credentials}).status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": ""}])
def test_wrong_key_is_refused(fake, headers):
    refused(call(fake, "GET", "/me", headers=headers), 401)


def test_key_has_the_documented_format():
    assert len(DEFAULT_API_KEY) == 38
    assert DEFAULT_API_KEY.removeprefix("examp_").isalnum()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/users", 405),
        ("GET", "/embed-sessions", 405),
        ("PATCH", "/embed-sessions/embed_session_1", 405),
        ("DELETE", "/permissions/exam_1", 405),
        ("GET", "/users/user_1", 404),
        ("GET", "/webhooks", 404),
        ("GET", "/me/", 404),
    ],
)
def test_undocumented_endpoints_do_not_exist(fake, method, path, status):
    refused(call(fake, method, path), status)


# The OpenAPI document.


def test_openapi_document_is_the_written_contract(fake):
    yaml = pytest.importorskip("yaml")
    written = Path(__file__).parents[1] / "examplary-openapi.yaml"
    response = call(fake, "GET", "/openapi", headers={})
    assert response.json == yaml.safe_load(written.read_text(encoding="utf-8"))


def test_request_bodies_are_found_by_simple_tools(fake):
    """Some tools ignore the ``properties`` beside an ``allOf``, others ignore the ``allOf``."""
    document = call(fake, "GET", "/openapi").json
    for item in document["paths"].values():
        for operation in item.values():
            if not isinstance(operation, dict) or "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            if "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            assert "allOf" not in schema, operation["operationId"]
            assert schema["properties"], operation["operationId"]


@pytest.mark.parametrize("flow", FLOWS)
def test_document_accepts_sessions_as_the_fake_does(fake, actor, flow):
    document = call(fake, "GET", "/openapi").json
    registry = Registry().with_resource("api", DRAFT202012.create_resource(document))
    validator = jsonschema.Draft202012Validator(
        {"$ref": "api#/components/schemas/EmbedSessionCreate"}, registry=registry
    )
    fake.staging = True
    body = {"flow": flow, "actor": actor, "presets": presets_for(fake, flow, actor)}
    validator.validate(body)
    create(fake, "/embed-sessions", body)
    if flow == "mark-answer" or FLOWS[flow].content is None:
        return
    del body["presets"]
    assert not validator.is_valid(body)
    refused(call(fake, "POST", "/embed-sessions", body))


def test_every_documented_operation_exists_except_oauth(fake):
    document = call(fake, "GET", "/openapi").json
    operations = [
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method in {"get", "post", "patch", "put", "delete"} and not path.startswith("/oauth/")
    ]
    assert len(operations) > 20
    for method, path in operations:
        response = call(fake, method, path.replace("{", "").replace("}", ""), {})
        assert response.status != 405, (method, path)
        # The id may be unknown, but the endpoint must exist.
        assert response.status != 404 or "{" in path, (method, path)


# Users (section 5).


def test_new_user_is_a_teacher_by_default(fake):
    user = create(fake, "/users", {"email": "ada@example.com"})
    assert user["id"].startswith("user_")
    assert user["role"] == "teacher"
    assert fake.users[user["id"]] == user


def test_new_user_has_the_sent_fields(fake):
    sent = {"email": "a+b@x.org", "name": "A", "role": "student", "sendInvite": True}
    user = create(fake, "/users", sent)
    assert user["email"] == "a+b@x.org"
    assert user["name"] == "A"
    assert user["role"] == "student"


@pytest.mark.parametrize(
    "email", ["a+b@x.org", "o'neil@x.org", "A@X.ORG", "_@x.org", "a@xn--bcher-kva.example"]
)
def test_address_is_accepted(fake, email):
    create(fake, "/users", {"email": email})


@pytest.mark.parametrize(
    "email",
    [
        *("user@localhost", "a@1.2.3.4", "a@[127.0.0.1]", "a!b@x.org", "a%b@x.org", "a&b@x.org"),
        *('"q"@x.org', ".a@x.org", "a.@x.org", "a..b@x.org", "o'@x.org", "jörg@x.org"),
        *("a@bücher.example", "a@x_y.org", "a@-x.org", "a@x.c", "a@x.org\n", "", None, 1),
    ],
)
def test_address_is_refused(fake, email):
    assert "email" in refused(call(fake, "POST", "/users", {"email": email}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", ""), ("name", "x" * 101), ("name", None), ("name", 1)),
        *(("role", "boss"), ("role", None), ("role", ["teacher"]), ("sendInvite", "yes")),
    ],
)
def test_user_field_is_refused(fake, field, value):
    body = {"email": "ada@example.com", field: value}
    assert field in refused(call(fake, "POST", "/users", body))


@pytest.mark.parametrize("name", ["x", "x" * 100, "two\nlines"])
def test_name_is_accepted(fake, name):
    assert create(fake, "/users", {"email": "ada@example.com", "name": name})["name"] == name


@pytest.mark.parametrize("role", ["owner", "admin", "teacher", "student", "member"])
def test_role_is_accepted(fake, role):
    assert create(fake, "/users", {"email": "ada@example.com", "role": role})["role"] == role


@pytest.mark.parametrize("body", [None, [], "text", 1, {}])
def test_user_needs_an_object_with_an_address(fake, body):
    refused(call(fake, "POST", "/users", body))


def test_body_that_is_not_json_is_refused(fake):
    refused(fake.handle(Request("POST", "/users", {}, BEARER, b"{oops")))


def test_known_address_is_refused(fake, actor):
    refused(call(fake, "POST", "/users", {"email": "ADA@example.com"}))
    fake.duplicate_status = 409
    refused(call(fake, "POST", "/users", {"email": "ada@example.com"}), 409)


def test_known_address_returns_the_user(fake, actor):
    fake.duplicates = "return"
    assert create(fake, "/users", {"email": "ADA@example.com", "role": "student"})["id"] == actor
    assert fake.users[actor]["role"] == "teacher"


def test_known_address_creates_another_user(fake, actor):
    fake.duplicates = "create"
    assert create(fake, "/users", {"email": "ada@example.com"})["id"] != actor


def test_me(fake):
    assert call(fake, "GET", "/me").json["id"] == fake.owner_id
    assert call(fake, "PATCH", "/me", {"name": "New"}).json["name"] == "New"
    assert call(fake, "PATCH", "/me", {}).json["name"] == "New"
    assert "name" in refused(call(fake, "PATCH", "/me", {"name": 1}))


# Embed sessions (sections 7 and 8).


def test_session_is_as_documented(fake, actor):
    fake.clock = lambda: datetime(2026, 3, 1, 12, 0, 0, 120000, tzinfo=UTC)
    session = create(
        fake,
        "/embed-sessions",
        {
            "flow": "generate-exam",
            "actor": actor,
            "presets": {"subject": "Mathematics"},
            "theme": {"primaryColor": "#4f46e5", "locale": "en"},
            "metadata": {"ref": "abc"},
            "returnUrl": "https://site.example/return",
            "allowedOrigin": "https://site.example",
        },
    )
    session_id, embed_url = session.pop("id"), session.pop("embedUrl")
    assert session == {
        "status": "pending",
        "flow": "generate-exam",
        "actor": actor,
        "enabledResponseModes": ["return_url", "post_message"],
        "createdAt": "2026-03-01T12:00:00.120Z",
        "expiresAt": "2026-03-08T12:00:00.120Z",
        "presets": {"subject": "Mathematics"},
        "outputs": {},
        "theme": {"primaryColor": "#4f46e5", "locale": "en"},
        "metadata": {"ref": "abc"},
    }
    token = session_id.removeprefix("embed_session_")
    assert token != session_id
    assert embed_url.startswith(f"{fake.base_url}/embeds/{token}")
    assert call(fake, "GET", f"/embed-sessions/{session_id}").json["id"] == session_id


@pytest.mark.parametrize(
    ("modes", "expected"),
    [
        ({}, []),
        ({"returnUrl": "http://localhost:8000/?a=1#b"}, ["return_url"]),
        ({"allowedOrigin": "http://localhost:8000"}, ["post_message"]),
    ],
)
def test_response_modes_are_returned_as_sent(fake, actor, modes, expected):
    body = {"flow": "edit-rubric", "actor": actor, **modes}
    assert create(fake, "/embed-sessions", body)["enabledResponseModes"] == expected


def test_actor_rules_apply_in_order(fake):
    def answer(actor: object) -> str:
        body = {"flow": "edit-rubric", "actor": actor}
        return refused(call(fake, "POST", "/embed-sessions", body))

    assert "actor" in answer("ada")
    assert "actor" in answer(None)
    assert answer(fake.owner_id) == ACTOR_IS_OWNER
    assert answer("user_stranger") == ACTOR_IS_UNKNOWN
    # The prefix is checked before the look-up.
    fake.owner_id = "owner"
    assert "user_" in answer("owner")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"flow": "generate-questions"}, "flow"),
        ({"flow": None}, "flow"),
        ({"presets": []}, "presets"),
        ({"theme": "dark"}, "theme"),
        ({"theme": {"primaryColor": 1}}, "theme.primaryColor"),
        ({"metadata": "x"}, "metadata"),
        *(
            ({"allowedOrigin": origin}, "allowedOrigin")
            for origin in (
                *("*", "https://site.example/", "https://site.example/path", "site.example"),
                *("https://*.site.example", "https://a.example,https://b.example", 1),
                "https://user@site.example",
            )
        ),
        *(
            ({"returnUrl": url}, "returnUrl")
            for url in ("/return", "javascript:alert(1)", "https://", "https://[", 1)
        ),
        ({"presets": {"subject": 1}}, "presets.subject"),
        ({"presets": {"sourceMaterialIds": "mat_1"}}, "presets.sourceMaterialIds"),
        ({"presets": {"sourceMaterialIds": [1]}}, "presets.sourceMaterialIds[]"),
        *(
            ({"presets": {"intendedDuration": minutes}}, "presets.intendedDuration")
            for minutes in (20, "30", True, 15.5)
        ),
        ({"flow": "generate-question", "presets": {"hideSubject": 1}}, "presets.hideSubject"),
        ({"flow": "generate-question", "presets": {"outputFormat": "x"}}, "presets.outputFormat"),
        *(
            ({"flow": "edit-rubric", "presets": {"rubric": rubric}}, "presets.rubric")
            for rubric in WRONG_RUBRICS
        ),
        ({"flow": "edit-exam"}, "presets"),
        ({"flow": "edit-exam", "presets": {"examId": 1}}, "presets.examId"),
        ({"flow": "take-exam"}, "presets"),
        ({"flow": "take-exam", "presets": {"examId": "space_1"}}, "presets.examId"),
        ({"flow": "practice-space-student"}, "presets"),
        (
            {"flow": "practice-space-student", "presets": {"practiceSpaceId": "exam_1"}},
            "presets.practiceSpaceId",
        ),
    ],
)
def test_session_is_refused_naming_the_field(fake, actor, change, named):
    body = {"flow": "generate-exam", "actor": actor, **change}
    assert refused(call(fake, "POST", "/embed-sessions", body)).startswith(named)


@pytest.mark.parametrize("missing", ["flow", "actor"])
def test_session_needs_a_flow_and_an_actor(fake, actor, missing):
    body = {"flow": "edit-rubric", "actor": actor}
    del body[missing]
    assert missing in refused(call(fake, "POST", "/embed-sessions", body))


def test_unknown_presets_are_accepted_or_refused(fake, actor):
    body = {"flow": "generate-exam", "actor": actor, "presets": {"mood": "good"}}
    assert create(fake, "/embed-sessions", body)["presets"] == {"mood": "good"}
    fake.refuse_unknown_presets = True
    assert "mood" in refused(call(fake, "POST", "/embed-sessions", body))
    # The presets of mark-answer are not documented.
    create(fake, "/embed-sessions", body | {"flow": "mark-answer"})


def test_take_exam_needs_staging(fake, actor):
    body = {"flow": "take-exam", "actor": actor, "presets": {"examId": "exam_1"}}
    refused(call(fake, "POST", "/embed-sessions", body))
    fake.take_exam_status, fake.take_exam_message = 403, "Soon."
    assert refused(call(fake, "POST", "/embed-sessions", body), 403) == "Soon."
    fake.staging = True
    create(fake, "/embed-sessions", body)


def test_workspace_needs_approval(fake, actor):
    fake.approved = False
    refused(call(fake, "POST", "/embed-sessions", {"flow": "edit-rubric", "actor": actor}), 403)


def test_deleted_session_does_not_exist(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    path = f"/embed-sessions/{session.id}"
    assert call(fake, "DELETE", path).status == 204
    refused(call(fake, "GET", path), 404)
    fake.gone_status = 410
    fake.expired_status = "expired"
    refused(call(fake, "GET", path), 410)
    refused(call(fake, "DELETE", path), 410)
    assert open_embed(fake, session).status == 410


def test_expired_session_is_missing_or_expired(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    fake.expire(session.id)
    path = f"/embed-sessions/{session.id}"
    refused(call(fake, "GET", path), 404)
    fake.expired_status = "expired"
    assert call(fake, "GET", path).json["status"] == "expired"
    with pytest.raises(ValueError, match="ended"):
        fake.complete(session.id)


def test_session_expires_after_seven_days(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    now = session.created_at
    fake.clock = lambda: now + timedelta(days=7, seconds=-1)
    assert call(fake, "GET", f"/embed-sessions/{session.id}").status == 200
    fake.clock = lambda: now + timedelta(days=7)
    assert call(fake, "GET", f"/embed-sessions/{session.id}").status == 404


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_session_is_not_found(fake, method):
    fake.gone_status = 410
    refused(call(fake, method, "/embed-sessions/embed_session_1"), 404)


def test_generated_exam_belongs_to_the_actor(fake, actor):
    presets = {"subject": "Algebra", "intendedDuration": 30}
    session = fake.add_session("generate-exam", actor, presets=presets)
    exam_id = fake.complete(session.id).outputs["examId"]
    exam = call(fake, "GET", f"/exams/{exam_id}").json
    assert exam["subject"] == "Algebra"
    assert exam["intendedDuration"] == 30
    assert {question["id"][:2] for question in exam["questions"]} == {"q_"}
    assert fake.permissions[exam_id][actor]["role"] == "owner"
    found = call(fake, "GET", f"/embed-sessions/{session.id}").json
    assert (found["status"], found["outputs"]) == ("completed", {"examId": exam_id})


def test_generated_exam_without_a_permission_for_the_actor(fake, actor):
    fake.generated_exam_role = None
    session = fake.complete(fake.add_session("generate-exam", actor).id)
    assert actor not in fake.permissions[session.outputs["examId"]]


def test_generated_question_is_an_object(fake, actor):
    presets = {"subject": "Algebra", "questionType": "essay"}
    session = fake.add_session("generate-question", actor, presets=presets)
    question = fake.complete(session.id).outputs["question"]
    assert question["id"].startswith("q_")
    assert question["type"] == "essay"
    assert "Algebra" in question["title"]


@pytest.mark.parametrize("output_format", ["qti_v2p1", "qti_v3p0"])
def test_generated_question_is_xml(fake, actor, output_format):
    presets = {"subject": "<R&D>", "outputFormat": output_format}
    session = fake.add_session("generate-question", actor, presets=presets)
    item = ET.fromstring(fake.complete(session.id).outputs["question"].encode())  # noqa: S314
    assert "<R&D>" in item.attrib["title"]


def test_edited_rubric_keeps_unknown_fields(fake, actor):
    rubric: dict[str, Any] = {
        "rubricType": "holistic",
        "criteria": [{"id": "a", "mine": 1}],
        "also": "mine",
    }
    session = fake.add_session("edit-rubric", actor, presets={"rubric": rubric})
    edited = fake.complete(session.id).outputs["rubric"]
    assert edited["also"] == "mine"
    assert edited["criteria"][0]["mine"] == 1
    assert edited is not rubric


def test_rubric_from_scratch(fake, actor):
    session = fake.complete(fake.add_session("edit-rubric", actor).id)
    assert session.outputs["rubric"]["criteria"]


@pytest.mark.parametrize("flow", ["mark-answer", "take-exam"])
def test_unknown_outputs_are_empty_unless_given(fake, actor, flow):
    assert fake.complete(fake.add_session(flow, actor).id).outputs == {}
    assert fake.complete(fake.add_session(flow, actor).id, {"x": 1}).outputs == {"x": 1}


@pytest.mark.parametrize("flow", ["edit-exam", "practice-space-student"])
def test_open_ended_flows_do_not_end(fake, actor, flow):
    session = fake.add_session(flow, actor)
    with pytest.raises(ValueError, match="never completes"):
        fake.complete(session.id)
    with pytest.raises(ValueError, match="cannot be cancelled"):
        fake.cancel(session.id)
    assert session.status == "pending"


def test_session_ends_once(fake, actor):
    session = fake.cancel(fake.add_session("generate-exam", actor).id)
    assert session.status == "cancelled"
    with pytest.raises(ValueError, match="ended"):
        fake.complete(session.id)
    with pytest.raises(KeyError):
        fake.cancel("embed_session_unknown")


# Exams (section 10).


def test_exam_has_the_sent_fields(fake, actor):
    body = {
        "name": "Algebra",
        "questions": [{"type": "essay", "title": "Why?", "externalId": "7"}],
        "permissions": [{"actor": actor, "role": "editor"}],
        "metadata": {"ref": "abc"},
        "subject": None,
    }
    exam = create(fake, "/exams", body)
    assert exam["id"].startswith("exam_")
    assert exam["metadata"] == {"ref": "abc"}
    question = exam["questions"][0]
    assert question["id"].startswith("q_")
    assert question["externalId"] == "7"
    assert fake.permissions[exam["id"]][actor]["role"] == "editor"
    assert call(fake, "DELETE", f"/exams/{exam['id']}").status == 204
    refused(call(fake, "GET", f"/exams/{exam['id']}"), 404)
    refused(call(fake, "DELETE", f"/exams/{exam['id']}"), 404)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("subject", 1),
        ("sourceMaterialIds", [1]),
        ("questions", [{}]),
        ("questions", [{"type": "essay", "scoring": 1}]),
        ("questions", [{"type": "essay", "settings": 1}]),
        ("permissions", [{"actor": "user_1"}]),
        ("permissions", ["user_1"]),
        ("metadata", "x"),
    ],
)
def test_exam_field_is_refused(fake, field, value):
    assert field in refused(call(fake, "POST", "/exams", {"name": "Algebra", field: value}))


def test_exam_needs_a_name(fake):
    assert "name" in refused(call(fake, "POST", "/exams", {}))


def test_exported_package_needs_no_key(fake):
    exam = fake.add_exam(questions=samples.questions(None, "nl"))
    url = create(fake, f"/exams/{exam['id']}/export/qti3-zip", None)["url"]
    path = urlsplit(url).path
    package = call(fake, "GET", path, headers={})
    with zipfile.ZipFile(io.BytesIO(package.body)) as archive:
        manifest = ET.fromstring(archive.read("imsmanifest.xml"))  # noqa: S314
        hrefs = [element.attrib["href"] for element in manifest.iter() if "href" in element.attrib]
        assert hrefs == [f"items/{question['id']}.xml" for question in exam["questions"]]
        assert all(b"qti-assessment-item" in archive.read(href) for href in hrefs)
    (download,) = fake.calls("GET", "/exports/{token}.zip")
    assert "Authorization" not in download.headers


def test_unknown_export_is_not_found(fake):
    assert call(fake, "GET", "/exports/unknown.zip", headers={}).status == 404
    refused(call(fake, "POST", "/exams/exam_1/export/qti3-zip"), 404)


# Permissions (section 6).


def test_permission_is_granted_and_changed(fake, actor):
    exam_id = fake.add_exam()["id"]
    path = f"/permissions/{exam_id}"
    refused(call(fake, "GET", f"{path}/{actor}"), 404)
    first = call(fake, "POST", path, {"actor": actor, "role": "viewer"})
    assert first.status == 201
    assert first.json["actor"] == {
        "id": actor,
        "name": "Ada",
        "type": "user",
        "orgRole": "teacher",
    }
    assert first.json["createdBy"] == fake.owner_id
    later = datetime.now(UTC) + timedelta(hours=1)
    fake.clock = lambda: later
    second = call(fake, "POST", path, {"actor": actor, "role": "editor"}).json
    assert second["createdAt"] == first.json["createdAt"]
    assert second["updatedAt"] > first.json["updatedAt"]
    assert call(fake, "GET", f"{path}/{actor}").json["role"] == "editor"
    roles = [permission["role"] for permission in call(fake, "GET", path).json]
    assert roles == ["owner", "editor"]


def test_permission_by_address_creates_the_user(fake, actor):
    exam_id = fake.add_exam()["id"]
    path = f"/permissions/{exam_id}"
    body = {"email": "ADA@example.com", "role": "viewer"}
    assert call(fake, "POST", path, body).json["actor"]["id"] == actor
    fresh = call(fake, "POST", path, body | {"email": "new@example.com"}).json["actor"]
    assert fake.users[fresh["id"]]["role"] == fake.permission_user_role
    assert "name" not in fresh


def test_permission_for_a_group_is_one_for_its_members(fake, actor):
    group = fake.add_group("Class 3", members=[actor])
    exam_id = fake.add_exam()["id"]
    path = f"/permissions/{exam_id}"
    granted = call(fake, "POST", path, {"actor": group["id"], "role": "editor"})
    assert granted.status == 201
    assert granted.json["actor"] == {"id": group["id"], "type": "group", "name": "Class 3"}
    # As documented, the permission of the actor does not include it.
    refused(call(fake, "GET", f"{path}/{actor}"), 404)
    assert [each["actor"]["id"] for each in call(fake, "GET", path).json][1:] == [group["id"]]
    session = fake.add_session("edit-exam", actor, presets={"examId": exam_id})
    assert open_embed(fake, session).status == 200


def test_highest_role_applies(fake, actor):
    group = fake.add_group(members=[actor])
    exam_id = fake.add_exam()["id"]
    fake.grant(exam_id, actor, "viewer")
    fake.grant(exam_id, group["id"], "participant")
    assert fake.role_of(actor, exam_id) == "viewer"
    fake.grant(exam_id, fake.org_id, "manager")
    assert fake.role_of(actor, exam_id) == "manager"
    assert fake.role_of(actor, "exam_other") is None


def test_permission_for_the_organisation(fake, actor):
    exam_id = fake.add_exam()["id"]
    body = {"actor": fake.org_id, "role": "viewer"}
    granted = call(fake, "POST", f"/permissions/{exam_id}", body)
    assert granted.json["actor"] == {"id": fake.org_id, "type": "org"}
    assert fake.role_of(actor, exam_id) == "viewer"


@pytest.mark.parametrize("path", ["/exams", "/practice-spaces"])
@pytest.mark.parametrize(
    "wrong", ["", "ada", "user_", "user_stranger", "group_stranger", "org_stranger", None, 1]
)
def test_content_for_unknown_actors_is_refused(fake, path, wrong):
    body = {"name": "Algebra", "permissions": [{"actor": wrong, "role": "editor"}]}
    assert "permissions" in refused(call(fake, "POST", path, body))
    assert not fake.exams
    assert not fake.practice_spaces


def test_ids_of_questions_are_assigned(fake):
    body = {"name": "Algebra", "questions": [{"type": "essay", "id": "q_mine", "v": 7}]}
    question = create(fake, "/exams", body)["questions"][0]
    assert question["id"] != "q_mine"
    assert question["v"] == 1


def test_permission_actor_in_the_older_format(fake, actor):
    fake.permission_actor = "id"
    exam_id = fake.add_exam()["id"]
    body = {"actor": actor, "role": "viewer"}
    assert call(fake, "POST", f"/permissions/{exam_id}", body).json["actor"] == actor


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"actor": "ada", "role": "viewer"},
        {"actor": "user_stranger", "role": "viewer"},
        {"actor": "group_stranger", "role": "viewer"},
        {"actor": "org_stranger", "role": "viewer"},
        {"actor": "user_owner"},
        {"actor": "user_owner", "role": "boss"},
        {"email": "nobody", "role": "viewer"},
        {"email": "ada@example.com"},
    ],
)
def test_permission_is_refused(fake, body):
    exam_id = fake.add_exam()["id"]
    refused(call(fake, "POST", f"/permissions/{exam_id}", body))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/{}"), ("POST", "/{}"), ("GET", "/{}/user_1")],
)
def test_resource_without_access_is_forbidden(fake, method, path):
    exam_id = fake.add_exam()["id"]
    fake.forbidden.add(exam_id)
    refused(call(fake, method, f"/permissions{path.format(exam_id)}"), 403)
    refused(call(fake, method, f"/permissions{path.format('exam_unknown')}"), 403)


# Practice spaces, source materials and reference data.


def test_practice_space_has_the_sent_fields(fake, actor):
    grants = [{"actor": actor, "role": "participant"}]
    body = {"name": "Lines", "masteryTopics": [{"id": "linear-1"}], "permissions": grants}
    space = create(fake, "/practice-spaces", body)
    assert space["id"].startswith("space_")
    assert space["masteryTopics"] == [{"id": "linear-1"}]
    assert fake.permissions[space["id"]][actor]["role"] == "participant"
    assert "name" in refused(call(fake, "POST", "/practice-spaces", {"name": 1}))


def test_source_material_is_processed_in_time(fake):
    fake.processing_polls = 2
    body = {"url": "https://site.example/a.pdf", "externalId": "7", "size": 1, "expires": "x"}
    created = call(fake, "POST", "/source-materials", body)
    assert created.status == 201
    material = created.json
    assert material["processingStatus"] == "pending"
    assert material["externalId"] == "7"
    path = f"/source-materials/{material['id']}"
    statuses = [call(fake, "GET", path).json["processingStatus"] for _ in range(3)]
    assert statuses == ["pending", "pending", "completed"]


def test_source_materials_are_found_by_external_id(fake):
    wanted = fake.add_source_material("https://site.example/a.pdf", externalId="7")
    fake.add_source_material("https://site.example/b.pdf")
    assert len(call(fake, "GET", "/source-materials").json) == 2
    found = call(fake, "GET", "/source-materials", query={"externalId": "7"}).json
    assert [material["id"] for material in found] == [wanted["id"]]


def test_source_material_is_sliced(fake):
    material = fake.add_source_material("https://site.example/a.pdf")
    path = f"/source-materials/{material['id']}/slice"
    piece = call(fake, "POST", path, {"startPage": 2, "endPage": 2, "name": "Chapter 1"})
    assert piece.status == 201
    assert piece.json["parentSourceMaterialId"] == material["id"]
    assert piece.json["name"] == "Chapter 1"
    assert "name" not in call(fake, "POST", path, {"startPage": 1, "endPage": 2}).json
    refused(call(fake, "POST", path, {"startPage": 0, "endPage": 2}))
    refused(call(fake, "POST", path, {"startPage": 3, "endPage": 2}))
    refused(call(fake, "POST", path, {"startPage": 3}))


def test_source_material_is_refused(fake):
    refused(call(fake, "POST", "/source-materials", {}))
    refused(call(fake, "POST", "/source-materials", {"url": "a.pdf"}))
    refused(call(fake, "GET", "/source-materials/mat_1"), 404)


@pytest.mark.parametrize("path", ["/student-levels", "/taxonomies", "/question-types"])
def test_reference_data(fake, path):
    assert all("id" in entry for entry in call(fake, "GET", path).json)
    refused(call(fake, "GET", path, headers={}), 401)


def test_public_question_types_need_no_key(fake):
    types = call(fake, "GET", "/question-types/public", headers={}).json
    assert all(each["trusted"] for each in types)
    for each in types:
        assert set(each["name"]) == set(each["description"]) == {"en", "nl"}


def test_question_types_of_the_key_owner_are_translated(fake):
    names = {each["id"]: each["name"] for each in call(fake, "GET", "/question-types").json}
    assert names["true-false"] == {"en": "True or false", "nl": "Waar of niet waar"}


# Parts that the contract does not define.


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("message", {"message": "Not found."}),
        ("error", {"error": "Not found."}),
        ("error-object", {"error": {"message": "Not found."}}),
        ("errors", {"errors": [{"message": "Not found."}]}),
        ("detail", {"detail": "Not found."}),
    ],
)
def test_error_shapes(fake, shape, body):
    fake.error_shape = shape
    assert call(fake, "GET", "/exams/exam_1").json == body


def test_errors_that_are_not_json(fake):
    fake.error_shape = "empty"
    assert call(fake, "GET", "/exams/exam_1") == Response(404)
    fake.error_shape = "html"
    answer = call(fake, "GET", "/exams/exam_1")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert b"Not found." in answer.body


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_status(fake, actor, status):
    fake.success_status = status
    for method, path, body in [
        ("POST", "/users", {"email": f"new{status}@example.com"}),
        ("POST", "/embed-sessions", {"flow": "edit-rubric", "actor": actor}),
        ("DELETE", f"/exams/{fake.add_exam()['id']}", None),
    ]:
        response = call(fake, method, path, body)
        assert response.status == status
        assert (response.body == b"") is (status == 204)


# Faults, limits and records.


def test_requests_are_recorded(fake):
    call(fake, "POST", "/users", {"email": "ada@example.com"})
    call(fake, "GET", "/embed-sessions/embed_session_1")
    (created,) = fake.calls("POST", "/users")
    assert created.json == {"email": "ada@example.com"}
    assert created.headers["Authorization"] == f"Bearer {DEFAULT_API_KEY}"
    assert len(fake.calls(path="/embed-sessions/{id}")) == 1
    assert len(fake.calls("GET")) == 1
    assert len(fake.calls()) == len(fake.requests) == 2


def test_requests_do_not_show_the_key():
    assert DEFAULT_API_KEY not in repr(Request("GET", "/me", {}, BEARER))


def test_path_parts_are_decoded(fake):
    space = fake.add_exam(exam_id="exam_a b")
    assert call(fake, "GET", "/exams/exam_a%20b").json["id"] == space["id"]


def test_fault_replaces_the_response_once(fake):
    fake.fail("POST", "/users", status=503, headers={"Retry-After": "1"})
    body = {"email": "ada@example.com"}
    answer = call(fake, "POST", "/users", body)
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert answer.json == {"message": "Service Unavailable"}
    assert fake.find_user("ada@example.com") is None
    create(fake, "/users", body)


def test_fault_after_processing_loses_only_the_response(fake):
    fake.fail("POST", "/users", status=500, body="<h1>Oops</h1>", before=False)
    answer = call(fake, "POST", "/users", {"email": "ada@example.com"})
    assert (answer.status, answer.body) == (500, b"<h1>Oops</h1>")
    assert fake.find_user("ada@example.com")


def test_faults_are_used_in_order(fake):
    fake.fail("GET", "/me", times=2, status=500)
    fake.fail("GET", "/embed-sessions/{id}", status=501)
    fake.fail("GET", "/me", status=502)
    statuses = [call(fake, "GET", "/me").status for _ in range(4)]
    assert statuses == [500, 500, 502, 200]
    assert call(fake, "GET", "/embed-sessions/x").status == 501


def test_fault_lasts_until_healed(fake):
    fault = fake.fail(times=None, status=429)
    assert isinstance(fault, Fault)
    answers = [call(fake, "GET", "/me") for _ in range(3)]
    assert {answer.status for answer in answers} == {429}
    # With Retry-After only when a test asks for it.
    assert "Retry-After" not in answers[0].headers
    fake.heal()
    assert call(fake, "GET", "/me").status == 200


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b"\xff", b"\xff"), ("text", b"text"), ({"id": "odd"}, b'{"id": "odd"}'), ([], b"[]")],
)
def test_fault_with_another_body(fake, body, expected):
    fake.fail("GET", "/me", body=body)
    answer = call(fake, "GET", "/me")
    assert (answer.status, answer.body) == (200, expected)


def test_fault_that_edits_the_response(fake, actor):
    fake.fail("POST", "/embed-sessions", edit=lambda answer: answer | {"embedUrl": "javascript:0"})
    session = create(fake, "/embed-sessions", {"flow": "edit-rubric", "actor": actor})
    assert session["embedUrl"] == "javascript:0"
    assert session["id"] in fake.sessions


def test_fault_with_an_unusual_status(fake):
    fake.fail("GET", "/me", status=302, headers={"Location": "https://elsewhere.example/"})
    fake.fail("GET", "/me", status=599)
    assert call(fake, "GET", "/me").headers["Location"] == "https://elsewhere.example/"
    assert call(fake, "GET", "/me").json == {"message": "Error"}


def test_transport_that_drops_the_response(fake):
    body = {"email": "ada@example.com"}
    fake.fail("POST", "/users", transport="reset")
    fake.fail("POST", "/users", transport="reset", before=False)
    assert call(fake, "POST", "/users", body).transport == "reset"
    assert fake.find_user("ada@example.com") is None
    assert call(fake, "POST", "/users", body).transport == "reset"
    assert fake.find_user("ada@example.com")


def test_transport_that_damages_the_response(fake):
    fake.fail("POST", "/users", transport=wire.TRUNCATE)
    answer = call(fake, "POST", "/users", {"email": "ada@example.com"})
    assert (answer.status, answer.transport) == (200, wire.TRUNCATE)
    assert fake.find_user("ada@example.com")


def test_unknown_transport_is_refused(fake):
    with pytest.raises(ValueError, match='transport must be "close", "reset" or a Transport'):
        fake.fail(transport="explode")


def test_delay_and_latency(fake):
    fake.latency = 0.02
    fake.fail("GET", "/me", delay=0.03)
    start = time.monotonic()
    assert call(fake, "GET", "/me").status == 200
    assert time.monotonic() - start >= 0.05


def test_latency_is_not_shared(fake, monkeypatch):
    together = threading.Barrier(40)
    # Each call ends only after all of them sleep.
    monkeypatch.setattr(time, "sleep", lambda seconds: together.wait(60))
    call_at_once(*[lambda: call(fake, "GET", "/me")] * 40)
    assert not together.broken
    assert len(fake.calls("GET", "/me")) == 40


def test_rate_limit(fake):
    now = datetime(2026, 3, 1, tzinfo=UTC)
    fake.clock = lambda: now
    fake.rate_limit(2)
    answers = [call(fake, "GET", "/me") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[-1].headers["Retry-After"] == "1"
    fake.clock = lambda: now + timedelta(seconds=1)
    assert call(fake, "GET", "/me").status == 200
    fake.rate_limit(None)
    assert {call(fake, "GET", "/me").status for _ in range(5)} == {200}


# Idempotency keys (section 4).


def with_key(fake: FakeExamplary, key: str, email: str = "ada@example.com") -> Response:
    body = json.dumps({"email": email}).encode()
    return fake.handle(Request("POST", "/users", {}, BEARER | {"idempotency-key": key}, body))


def test_idempotency_key_is_ignored_by_default(fake):
    assert with_key(fake, "1").status == 200
    assert refused(with_key(fake, "1")).startswith("A user with this")


def test_idempotency_key_repeats_the_first_response(fake):
    fake.honour_idempotency_keys = True
    # The first response is lost.
    fake.fail("POST", "/users", status=503, before=False)
    assert with_key(fake, "1").status == 503
    second = with_key(fake, "1")
    assert second.json["id"] in fake.users
    assert with_key(fake, "1") == second
    assert len(fake.users) == 2
    assert "Idempotency-Key" in refused(with_key(fake, "1", "bob@example.com"), 422)
    assert with_key(fake, "2", "bob@example.com").status == 200


def test_refusal_is_not_kept_for_an_idempotency_key(fake, actor):
    fake.honour_idempotency_keys = True
    refused(with_key(fake, "1"))
    del fake.users[actor]
    assert with_key(fake, "1").status == 200


# The embed pages (section 8).


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_text_exists_in_every_language(language):
    assert all(texts(language).values())
    assert set(texts(language)) == set(texts("en"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("flow", FLOWS)
def test_page_is_labelled_as_a_stand_in(fake, actor, flow, language):
    presets = presets_for(fake, flow, actor)
    session = fake.add_session(flow, actor, presets=presets, theme={"locale": language})
    text = html.unescape(open_embed(fake, session).body.decode())
    assert f"<strong>{texts(language)['stand-in']}</strong>" in text
    assert texts(language)[f"{flow} real"] in text


@pytest.mark.parametrize(
    ("language", "points", "kind"),
    [("de", "2 Pkt.", "Kurze Antwort"), ("fr", "2 pt", "Réponse courte")],
)
def test_points_and_types_are_in_the_language(fake, actor, language, points, kind):
    session = fake.add_session("generate-question", actor, theme={"locale": language})
    text = html.unescape(open_embed(fake, session).body.decode())
    assert f">{points}</span>" in text
    assert f">{kind}</option>" in text
    assert "Short answer" not in text


def test_templates_name_existing_texts():
    templates = Path(pages.__file__).parent / "templates"
    named = {
        name
        for template in templates.glob("*.html")
        for name in re.findall(r"\bt\.(\w+)", template.read_text(encoding="utf-8"))
    }
    assert len(named) > 20
    assert named <= set(texts("en"))
    # Every flow has a page.
    assert {f"{flow}.html" for flow in FLOWS} <= {each.name for each in templates.iterdir()}


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("fr-CA,fr;q=0.9", "Cette session est terminée."),
        ("pl, de;q=0.5", "Diese Sitzung ist"),
        ("", "ended"),
    ],
)
def test_page_without_a_session_has_the_language_of_the_browser(fake, accepted, expected):
    page = call(fake, "GET", "/embeds/unknown", headers={"Accept-Language": accepted})
    assert expected in page.body.decode()


def test_ended_page_has_the_locale_of_the_session(fake, actor):
    session = fake.add_session("edit-rubric", actor, theme={"locale": "es"})
    fake.expire(session.id)
    assert "Esta sesión ha terminado." in open_embed(fake, session).body.decode()


@pytest.mark.parametrize("language", LANGUAGES)
def test_generated_content_is_in_the_language(fake, actor, language):
    presets = {"language": language, "subject": "Algebra"}
    session = fake.complete(fake.add_session("generate-exam", actor, presets=presets).id)
    exam = fake.exams[session.outputs["examId"]]
    expected = texts(language)["single-line-text"].format(subject="Algebra")
    assert exam["questions"][0]["title"] == expected


@pytest.mark.parametrize(
    ("flow", "actions"),
    [
        ("generate-exam", ALL_ACTIONS),
        ("generate-question", ALL_ACTIONS),
        ("edit-rubric", {"complete"}),
        ("mark-answer", set()),
        ("edit-exam", set()),
        ("take-exam", {"complete"}),
        ("practice-space-student", set()),
    ],
)
def test_page_offers_the_actions_of_the_flow(fake, actor, flow, actions):
    presets = presets_for(fake, flow, actor)
    page = open_embed(fake, fake.add_session(flow, actor, presets=presets))
    assert page.status == 200
    assert "Set-Cookie" not in page.headers
    text = page.body.decode()
    for action in ALL_ACTIONS:
        assert (f'data-examplary-action="{action}"' in text) is (action in actions)
    assert ">Ada<" in text
    assert "http://" not in text
    assert "https://" not in text


def test_rubric_page_without_a_done_button(fake, actor):
    session = fake.add_session("edit-rubric", actor, presets={"showDoneButton": False})
    assert b"data-examplary-action=" not in open_embed(fake, session).body


@pytest.mark.parametrize(
    ("locale", "lang", "title"),
    [
        ("en", "en", "Edit the rubric"),
        ("nl", "nl", "Rubric bewerken"),
        ("nl-BE", "nl-BE", "Rubric bewerken"),
        ("de", "de", "Bewertungsraster bearbeiten"),
        ("fr-CA", "fr-CA", "Modifier la grille d’évaluation"),
        ("es", "es", "Editar la rúbrica"),
        ("pl", "en", "Edit the rubric"),
    ],
)
def test_page_has_the_locale_of_the_session(fake, actor, locale, lang, title):
    session = fake.add_session("edit-rubric", actor, theme={"locale": locale})
    text = open_embed(fake, session).body.decode()
    assert f'<html lang="{lang}"' in text
    assert f"<h1>{title}</h1>" in text


@pytest.mark.parametrize(
    ("colour", "shown"),
    [
        ("#facc15", "#facc15"),
        ("pink", "pink"),
        ("red; background: url(//evil.example)", "#4f46e5"),
        ('"><script>', "#4f46e5"),
    ],
)
def test_page_has_the_primary_colour(fake, actor, colour, shown):
    session = fake.add_session("edit-rubric", actor, theme={"primaryColor": colour})
    assert f'style="--primary: {shown}"' in open_embed(fake, session).body.decode()


def test_page_shows_the_presets_escaped(fake, actor):
    fake.users[actor]["name"] = "<b>Ada</b>"
    presets = {
        "subject": '"><script>alert(1)</script>',
        "studentLevel": "my_level",
        "sourceMaterialIds": ["mat_1", "mat_2"],
        "taxonomyId": "{braces}",
    }
    session = fake.add_session("generate-exam", actor, presets=presets)
    text = open_embed(fake, session).body.decode()
    assert "<script>alert" not in text
    assert "<b>Ada" not in text
    assert "my_level" in text
    assert "mat_1, mat_2" in text
    assert "{braces}" in text


def test_question_page_hides_the_presets(fake, actor):
    presets = {"hideSubject": True, "hideStudentLevel": True, "questionType": "essay"}
    session = fake.add_session("generate-question", actor, presets=presets)
    text = open_embed(fake, session).body.decode()
    for name in ("subject", "studentLevel", "questionType"):
        assert f'name="{name}"' not in text


def test_mark_page_shows_free_presets(fake, actor):
    session = fake.add_session("mark-answer", actor, presets={"answers": {"q": "né"}})
    assert "{&quot;q&quot;: &quot;né&quot;}" in open_embed(fake, session).body.decode()


def test_mark_page_keeps_the_marks_and_hides_ids(fake, actor):
    exam_id = fake.add_exam(permissions=[{"actor": actor, "role": "editor"}])["id"]
    session = fake.add_session("mark-answer", actor, presets={"examId": exam_id})
    press(fake, session, "save", {"c0": "2"})
    text = open_embed(fake, session).body.decode()
    assert re.findall(r'value="(\d)" checked', text) == ["2"]
    assert exam_id not in text


def test_exam_page_without_questions(fake, actor):
    grants = [{"actor": actor, "role": "editor"}]
    exam_id = fake.add_exam(permissions=grants)["id"]
    session = fake.add_session("edit-exam", actor, presets={"examId": exam_id})
    assert b"no questions" in open_embed(fake, session).body


def test_practice_page_shows_topics_and_notes(fake, actor):
    grants = [{"actor": actor, "role": "participant"}]
    topics = [{"id": "linear-1"}, {"id": "linear-2"}]
    space = fake.add_practice_space(masteryTopics=topics, studentNotes="Read!", permissions=grants)
    session = fake.add_session(
        "practice-space-student", actor, presets={"practiceSpaceId": space["id"]}
    )
    text = open_embed(fake, session).body.decode()
    assert "linear-2" in text
    assert "Read!" in text


@pytest.mark.parametrize(
    ("flow", "role", "status"),
    [
        ("edit-exam", None, 403),
        ("edit-exam", "viewer", 403),
        ("edit-exam", "editor", 200),
        ("edit-exam", "owner", 200),
        ("mark-answer", "participant", 403),
        ("mark-answer", "editor", 200),
        ("take-exam", None, 403),
        ("take-exam", "participant", 200),
        ("take-exam", "manager", 200),
    ],
)
def test_page_checks_the_actors_role(fake, actor, flow, role, status):
    grants = [{"actor": actor, "role": role}] if role else []
    exam_id = fake.add_exam(permissions=grants)["id"]
    session = fake.add_session(flow, actor, presets={"examId": exam_id})
    page = open_embed(fake, session)
    assert page.status == status
    assert (b"You do not have access" in page.body) is (status == 403)
    fake.check_permissions = False
    assert open_embed(fake, session).status == 200


def test_page_of_an_actor_who_left(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    del fake.users[actor]
    assert open_embed(fake, session).status == 403


def test_page_of_a_missing_session(fake):
    page = call(fake, "GET", "/embeds/unknown", headers={})
    assert page.status == 404
    assert b"This session has ended." in page.body


def test_page_of_a_finished_session(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    fake.complete(session.id)
    page = open_embed(fake, session)
    assert page.status == 200
    assert b"finished" in page.body
    assert b"data-examplary-action=" not in page.body
    assert press(fake, session, "complete").status == 409


def test_completing_returns_the_next_step(fake, actor):
    session = fake.add_session(
        "generate-exam",
        actor,
        return_url="https://site.example/return/?a=1#top",
        allowed_origin="https://site.example",
    )
    answer = press(fake, session, "complete").json
    assert answer["status"] == "completed"
    assert answer["targetOrigin"] == "https://site.example"
    url = urlsplit(answer["redirect"])
    exam_id = session.outputs["examId"]
    assert parse_qs(url.query) == {"a": ["1"], "status": ["completed"], "examId": [exam_id]}
    assert url.fragment == "top"


def test_return_url_without_its_query(fake, actor):
    fake.keep_return_query = False
    session = fake.add_session("generate-exam", actor, return_url="https://site.example/?a=1")
    answer = press(fake, session, "cancel").json
    assert answer["redirect"] == "https://site.example/?status=cancelled"
    assert answer["targetOrigin"] is None


def test_redirect_carries_whole_objects(fake, actor):
    session = fake.add_session("edit-rubric", actor, return_url="https://site.example/")
    query = parse_qs(urlsplit(press(fake, session, "complete").json["redirect"]).query)
    assert json.loads(query["rubric"][0]) == session.outputs["rubric"]


def test_typed_text_is_returned(fake, actor):
    session = fake.add_session("generate-exam", actor)
    press(fake, session, "complete", {"name": "Mine", "subject": "", "intendedDuration": "45"})
    exam = fake.exams[session.outputs["examId"]]
    assert (exam["name"], exam["intendedDuration"]) == ("Mine", 45)

    session = fake.add_session("generate-question", actor, theme={"locale": "nl"})
    press(fake, session, "complete", {"title": "Waarom?"})
    assert session.outputs["question"]["title"] == "Waarom?"

    session = fake.add_session("edit-rubric", actor)
    typed = {"c0.title": "Style", "c0.l0.title": "Good", "c0.l0.points": "3", "c0.l1.points": ".5"}
    press(fake, session, "complete", typed)
    (criterion,) = session.outputs["rubric"]["criteria"]
    assert criterion["title"] == "Style"
    assert criterion["levels"][0] == {"id": "c1l1", "title": "Good", "points": 3}
    assert criterion["levels"][1]["points"] == 0.5


def test_edit_exam_saves_in_real_time(fake, actor):
    presets = presets_for(fake, "edit-exam", actor)
    session = fake.add_session("edit-exam", actor, presets=presets)
    first, second = fake.exams[presets["examId"]]["questions"][:2]
    assert press(fake, session, "save", {first["id"]: "Why?"}).status == 200
    assert (first["title"], first["v"]) == ("Why?", 2)
    assert second["v"] == 1
    assert press(fake, session, "complete").status == 409


def test_take_exam_saves_answers(fake, actor):
    presets = presets_for(fake, "take-exam", actor)
    session = fake.add_session("take-exam", actor, presets=presets)
    questions = fake.exams[presets["examId"]]["questions"]
    press(fake, session, "save", {questions[0]["id"]: "42", questions[1]["id"]: "false"})
    text = open_embed(fake, session).body.decode()
    assert ">42</textarea>" in text
    assert 'value="false" checked' in text


def test_unknown_action_is_not_found(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    assert press(fake, session, "explode", ["not", "an", "object"]).status == 404
    assert session.status == "pending"


def test_embed_headers_and_origin(fake, actor):
    fake.embed_headers["X-Frame-Options"] = "DENY"
    fake.embed_origin = "https://exams.school.example"
    session = fake.add_session("edit-rubric", actor)
    assert session.embed_url.startswith("https://exams.school.example/embeds/")
    page = open_embed(fake, session)
    assert page.headers["X-Frame-Options"] == "DENY"
    assert page.headers["Cache-Control"] == "no-store"


def test_embed_page_is_broken_by_a_fault(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    fake.fail("GET", "/embeds/{token}", status=500)
    assert open_embed(fake, session).status == 500
    assert open_embed(fake, session).status == 200


def test_sessions_do_not_show_their_secrets(fake, actor):
    session = fake.add_session("edit-rubric", actor)
    assert session.token not in repr(session)
