"""Each answer profile changes the documented part of responses, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from typing import Any

import pytest
import requests

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from django_examplary.testing.answers import PROFILES
from django_examplary.testing.messages import Request
from django_examplary.testing.sessions import Session
from django_examplary.testing.switches import Switches
from tests.testing.test_fake import call, create, open_embed

EMAIL = "ada@example.com"


@pytest.fixture
def fake() -> FakeExamplary:
    return FakeExamplary()


@pytest.fixture
def actor(fake: FakeExamplary) -> str:
    return str(fake.add_user(EMAIL, name="Ada")["id"])


@pytest.fixture
def completed(fake: FakeExamplary, actor: str) -> Session:
    return fake.complete(fake.add_session("generate-exam", actor).id)


def me(fake: FakeExamplary) -> Any:
    return call(fake, "GET", "/me").json


def read(fake: FakeExamplary, session: Session) -> Any:
    return call(fake, "GET", f"/embed-sessions/{session.id}").json


def open_session(fake: FakeExamplary, actor: str) -> Any:
    return create(fake, "/embed-sessions", {"flow": "edit-rubric", "actor": actor})


# The table


def test_switches_of_profiles_exist():
    known = {each.name for each in fields(Switches)}
    for name, profile in PROFILES.items():
        assert profile.switches.keys() <= known, name


def test_unknown_profile_is_refused_at_once(fake):
    with pytest.raises(ValueError, match=r"answers must be one of documented, .*; not 'plain'"):
        fake.answers = "plain"
    with pytest.raises(ValueError, match="answers must be one of"):
        FakeExamplary(answers="plain")


def test_profile_is_an_argument_too():
    assert FakeExamplary(answers="duplicate-409").duplicate_status == 409


def test_next_profile_resets_the_switches_of_the_previous(fake):
    fake.answers = "unapproved-451"
    assert (fake.approved, fake.unapproved_status) == (False, 451)
    fake.answers = "text-plain"
    assert (fake.approved, fake.unapproved_status) == (True, 403)


@pytest.mark.parametrize("name", PROFILES)
def test_fake_works_under_every_profile(fake, actor, name):
    """Under each of them a session is opened, completed in its page, read and deleted."""
    fake.answers = name
    refused = name.startswith("unapproved-")
    response = call(fake, "POST", "/embed-sessions", {"flow": "generate-exam", "actor": actor})
    assert (response.status < 300) is not refused
    session = fake.add_session("generate-exam", actor)
    assert open_embed(fake, session).status == 200
    fake.complete(session.id)
    assert call(fake, "GET", f"/embed-sessions/{session.id}").status == 200
    deleted = call(fake, "DELETE", f"/embed-sessions/{session.id}").status
    assert deleted == (fake.delete_ended_status or fake.success_status or 204)
    exam_id = fake.add_exam(permissions=[{"actor": actor, "role": "editor"}])["id"]
    assert call(fake, "GET", f"/permissions/{exam_id}").status == 200
    assert call(fake, "GET", "/exams/exam_unknown").status == 404


# Media types, over real HTTP


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("documented", "application/json"),
        ("no-content-type", None),
        ("text-plain", "text/plain; charset=utf-8"),
        ("text-html", "text/html"),
        ("octet-stream", "application/octet-stream"),
        ("upper-case-type", "APPLICATION/JSON; CHARSET=UTF-8"),
        ("vendor-type", "application/vnd.examplary+json"),
    ],
)
def test_media_type(name, expected):
    headers = {"Authorization": DEFAULT_API_KEY}
    with serve(FakeExamplary(answers=name)) as server:
        found = requests.get(f"{server.url}/me", headers=headers, timeout=60)
        missing = requests.get(f"{server.url}/exams/exam_1", headers=headers, timeout=60)
        document = requests.get(f"{server.url}/openapi", timeout=60)
    assert found.headers.get("Content-Type") == missing.headers.get("Content-Type") == expected
    assert found.json()["id"] == "user_owner"
    assert missing.json() == {"message": "Not found."}
    assert document.headers["Content-Type"] == "application/json"


# Envelopes


def test_envelopes(fake, actor, completed):
    fake.answers = "envelope-data"
    assert me(fake)["data"]["id"] == fake.owner_id
    assert read(fake, completed)["data"]["outputs"]
    assert [each["id"] for each in call(fake, "GET", "/question-types").json["data"]]
    fake.answers = "envelope-named"
    assert me(fake)["user"]["id"] == fake.owner_id
    assert read(fake, completed)["embedSession"]["outputs"]
    assert call(fake, "GET", f"/permissions/{fake.add_exam()['id']}").json["permissions"]


def test_lists_in_pages(fake, actor):
    fake.answers = "lists-in-pages"
    exam_id = fake.add_exam(permissions=[{"actor": actor, "role": "editor"}])["id"]
    path = f"/permissions/{exam_id}"
    first = call(fake, "GET", path).json
    last = call(fake, "GET", path, query={"cursor": first["nextCursor"]}).json
    assert [each["role"] for each in first["items"] + last["items"]] == ["owner", "editor"]
    assert last["nextCursor"] is None


# Users


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user-id-only", {"id": "user_owner"}),
        ("user-role-list", {"role": ["owner"]}),
        ("user-name-object", {"name": {"full": "Owner"}}),
        ("user-email-masked", {"email": "o***@example.com"}),
    ],
)
def test_user(fake, name, expected):
    documented = me(fake)
    fake.answers = name
    if name == "user-id-only":
        assert me(fake) == expected
    else:
        assert me(fake) == documented | expected


def test_user_without_an_address(fake):
    fake.answers = "user-email-absent"
    assert "email" not in create(fake, "/users", {"email": EMAIL})
    # A user without a name does not get one.
    fake.answers = "user-name-object"
    assert "name" not in create(fake, "/users", {"email": "bob@example.com"})


def test_duplicates(fake, actor):
    fake.answers = "duplicate-returned"
    assert create(fake, "/users", {"email": EMAIL})["id"] == actor
    for status in (400, 403, 409, 422, 500):
        fake.answers = f"duplicate-{status}"
        assert call(fake, "POST", "/users", {"email": EMAIL}).status == status


# Embed sessions


SESSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "session-minimal": lambda body: {
        name: body[name] for name in ("id", "status", "embedUrl", "outputs")
    },
    "session-actor-object": lambda body: body | {"actor": {"id": body["actor"], "type": "user"}},
    "session-actor-absent": lambda body: {k: v for k, v in body.items() if k != "actor"},
    "session-flow-absent": lambda body: {k: v for k, v in body.items() if k != "flow"},
    "expires-null": lambda body: body | {"expiresAt": None},
    "expires-absent": lambda body: {k: v for k, v in body.items() if k != "expiresAt"},
    "expires-local": lambda body: body | {"expiresAt": body["expiresAt"].removesuffix("Z")},
    "expires-past": lambda body: body | {"expiresAt": "2020-01-01T00:00:00Z"},
    "status-upper-case": lambda body: body | {"status": "COMPLETED"},
    "outputs-null": lambda body: body | {"outputs": None},
    "outputs-object": lambda body: body | {"outputs": {}},
    "outputs-list": lambda body: body | {"outputs": []},
    "outputs-beside": lambda body: body | {"outputs": {}, "examId": body["outputs"]["examId"]},
}


@pytest.mark.parametrize("name", SESSIONS)
def test_session(fake, completed, name):
    documented = read(fake, completed)
    fake.answers = name
    assert read(fake, completed) == SESSIONS[name](documented)


@pytest.mark.parametrize("name", ["outputs-null", "outputs-list", "outputs-beside"])
def test_outputs_of_an_unfinished_session_are_as_documented(fake, actor, name):
    fake.answers = name
    assert read(fake, fake.add_session("generate-exam", actor))["outputs"] == {}


def test_expiry_as_a_number(fake, completed):
    moment = datetime.fromisoformat(read(fake, completed)["expiresAt"])
    fake.answers = "expires-seconds"
    assert read(fake, completed)["expiresAt"] == moment.timestamp()
    fake.answers = "expires-milliseconds"
    assert read(fake, completed)["expiresAt"] == int(moment.timestamp() * 1000)


def test_canceled_with_one_l(fake, actor, completed):
    fake.answers = "status-canceled"
    session = fake.cancel(fake.add_session("generate-exam", actor).id)
    assert read(fake, session)["status"] == "canceled"
    assert read(fake, completed)["status"] == "completed"


@pytest.mark.parametrize("word", ["expired", "failed", "error", "deleted", "archived"])
def test_session_with_another_final_status(fake, actor, completed, word):
    fake.answers = f"status-{word}"
    created = open_session(fake, actor)
    assert created["status"] == "pending"
    assert read(fake, fake.sessions[created["id"]])["status"] == word
    assert read(fake, completed)["status"] == "completed"


def test_late_outputs(fake, completed):
    fake.answers = "outputs-late"
    outputs = [read(fake, completed)["outputs"] for _ in range(3)]
    assert outputs == [{}, {}, completed.outputs]


@pytest.mark.parametrize("status", [400, 403, 405, 409, 410])
def test_ended_session(fake, actor, completed, status):
    fake.answers = f"ended-{status}"
    path = f"/embed-sessions/{completed.id}"
    assert call(fake, "GET", path).status == 200
    assert call(fake, "DELETE", path).status == status
    fake.expire(completed.id)
    assert call(fake, "GET", path).status == call(fake, "DELETE", path).status == status
    pending = fake.add_session("generate-exam", actor)
    assert call(fake, "DELETE", f"/embed-sessions/{pending.id}").status == 204


# Errors


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("error-errors-strings", {"errors": ["Not found."]}),
        ("error-errors-fields", {"errors": {"body": ["Not found."]}}),
        ("error-issues", {"issues": [{"path": ["body"], "message": "Not found."}]}),
        ("error-details", {"error": "invalid", "details": [{"message": "Not found."}]}),
        ("error-error_description", {"error": "invalid", "error_description": "Not found."}),
        (
            "error-nested",
            {"error": {"code": "invalid", "data": {"reason": {"message": "Not found."}}}},
        ),
        ("error-list", [{"message": "Not found."}]),
    ],
)
def test_error(fake, name, body):
    fake.answers = name
    assert call(fake, "GET", "/exams/exam_1").json == body
    assert call(fake, "GET", "/nowhere").json == body


@pytest.mark.parametrize("status", [402, 403, 405, 415, 451])
def test_unapproved_workspace(fake, actor, status):
    fake.answers = f"unapproved-{status}"
    body = {"flow": "edit-rubric", "actor": actor}
    assert call(fake, "POST", "/embed-sessions", body).status == status


def test_refused_locale(fake, actor):
    fake.answers = "locale-refused"
    body: dict[str, object] = {"flow": "edit-rubric", "actor": actor}
    refused = call(fake, "POST", "/embed-sessions", body | {"theme": {"locale": "nl"}})
    assert (refused.status, refused.json) == (400, {"message": "theme.locale is not supported."})
    create(fake, "/embed-sessions", body | {"theme": {"primaryColor": "#000000"}})


# Permissions


@pytest.mark.parametrize(
    ("name", "kind"), [("access-through-group", "group"), ("access-through-organisation", "org")]
)
def test_access_of_a_group(fake, actor, name, kind):
    fake.answers = name
    exam_id = fake.add_exam()["id"]
    path = f"/permissions/{exam_id}"
    for role in ("viewer", "editor"):
        granted = call(fake, "POST", path, {"actor": actor, "role": role})
        assert granted.json["actor"]["type"] == kind
    assert call(fake, "GET", f"{path}/{actor}").status == 404
    # The second grant changed the role of the same group.
    assert [each["role"] for each in call(fake, "GET", path).json] == ["owner", "editor"]
    session = fake.add_session("edit-exam", actor, presets={"examId": exam_id})
    assert open_embed(fake, session).status == 200


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("permission-actor-id", lambda body: body["actor"].startswith("user_")),
        ("permission-actor-absent", lambda body: "actor" not in body),
        ("permission-role-list", lambda body: body["role"] == ["editor"]),
    ],
)
def test_permission(fake, actor, name, expected):
    fake.answers = name
    exam_id = fake.add_exam(permissions=[{"actor": actor, "role": "editor"}])["id"]
    assert expected(call(fake, "GET", f"/permissions/{exam_id}/{actor}").json)


def test_idempotency(fake):
    def post():
        headers = {"Authorization": DEFAULT_API_KEY, "Idempotency-Key": "1"}
        body = b'{"email": "new@example.com"}'
        return fake.handle(Request("POST", "/users", {}, headers, body))

    fake.answers = "idempotency-ignored"
    assert [post().status, post().status] == [200, 400]
    fake.answers = "idempotency-honoured"
    fake.users.clear()
    assert post().json == post().json
