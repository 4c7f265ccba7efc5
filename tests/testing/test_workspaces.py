"""Several workspaces on one server, each with its own API key."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, Workspace, serve
from django_examplary.testing.api import ACTOR_IS_OWNER, ACTOR_IS_UNKNOWN
from django_examplary.testing.messages import Request, Response


@pytest.fixture
def fake() -> FakeExamplary:
    return FakeExamplary()


@pytest.fixture
def south(fake: FakeExamplary) -> Workspace:
    return fake.add_workspace("examp_south")


def call(
    fake: FakeExamplary, workspace: Workspace, method: str, path: str, body: object = None
) -> Response:
    headers = {"Authorization": f"Bearer {workspace.api_key}"}
    return fake.handle(Request(method, path, {}, headers, json.dumps(body).encode()))


def error_of(response: Response) -> tuple[int, Any]:
    return response.status, response.json["message"]


def test_key_selects_the_workspace(fake, south):
    for workspace in (fake, south):
        assert call(fake, workspace, "GET", "/me").json["id"] == workspace.owner_id
        created = call(fake, workspace, "POST", "/users", {"email": "ada@example.com"})
        assert created.json["id"] in workspace.users
    assert fake.owner_id != south.owner_id
    assert fake.org_id != south.org_id
    assert fake.workspaces == [fake, south]


def test_workspace_has_its_own_key_and_options(fake):
    first = fake.add_workspace(staging=True)
    second = fake.add_workspace()
    assert len({fake.api_key, first.api_key, second.api_key}) == 3
    assert len(first.api_key) == len(DEFAULT_API_KEY)
    assert (fake.staging, first.staging, second.staging) == (False, True, False)


def test_actor_of_another_workspace_is_refused(fake, south):
    actor = fake.add_user("ada@example.com")["id"]
    body = {"flow": "edit-rubric", "actor": actor}
    assert call(fake, fake, "POST", "/embed-sessions", body).status == 200
    assert error_of(call(fake, south, "POST", "/embed-sessions", body)) == (400, ACTOR_IS_UNKNOWN)
    body["actor"] = south.owner_id
    assert error_of(call(fake, south, "POST", "/embed-sessions", body)) == (400, ACTOR_IS_OWNER)
    assert error_of(call(fake, fake, "POST", "/embed-sessions", body)) == (400, ACTOR_IS_UNKNOWN)


def test_content_of_another_workspace_does_not_exist(fake, south):
    exam_id = fake.add_exam()["id"]
    session = fake.add_session("edit-rubric", fake.add_user()["id"])
    assert call(fake, south, "GET", f"/exams/{exam_id}").status == 404
    assert call(fake, south, "GET", f"/permissions/{exam_id}").status == 403
    assert call(fake, south, "GET", f"/embed-sessions/{session.id}").status == 404
    assert call(fake, south, "DELETE", f"/embed-sessions/{session.id}").status == 404


def test_embeds_and_downloads_need_no_key(fake, south):
    with serve(fake) as server:
        south = fake.add_workspace()
        session = south.add_session("edit-rubric", south.add_user(name="Ada")["id"])
        assert session.embed_url.startswith(f"{server.url}/embeds/")
        assert ">Ada<" in requests.get(session.embed_url, timeout=60).text
        done = requests.post(f"{session.embed_url}/complete", json={}, timeout=60).json()
        assert done["status"] == south.sessions[session.id].status == "completed"

        exam_id = south.add_exam()["id"]
        package = call(fake, south, "POST", f"/exams/{exam_id}/export/qti3-zip").json["url"]
        assert requests.get(package, timeout=60).headers["Content-Type"] == "application/zip"


def test_server_moves_every_workspace():
    fake = FakeExamplary()
    south = fake.add_workspace()
    with serve(fake) as server:
        assert fake.base_url == south.base_url == server.url


def test_key_is_revoked_in_one_workspace_only(fake, south):
    old = call(fake, south, "GET", "/me")
    assert old.status == 200
    revoked = Workspace(api_key=south.api_key)
    south.api_key = "examp_new"
    assert call(fake, revoked, "GET", "/me").status == 401
    assert call(fake, south, "GET", "/me").json == old.json
    assert call(fake, fake, "GET", "/me").status == 200


def test_faults_and_calls_of_one_workspace(fake, south):
    south.fail(status=503, times=None)
    assert call(fake, south, "GET", "/me").status == 503
    assert call(fake, fake, "GET", "/me").status == 200
    assert (len(fake.calls("GET", "/me")), len(south.calls("GET", "/me"))) == (2, 1)
    south.heal()
    fake.fail(status=500, times=2)
    assert [call(fake, each, "GET", "/me").status for each in (fake, south)] == [500, 500]
    # Both faults apply, and the more specific one determines the response.
    fake.fail(status=500)
    south.fail(status=418)
    assert call(fake, south, "GET", "/me").status == 418
    assert call(fake, south, "GET", "/me").status == 200


def test_rate_limit_of_one_workspace(fake, south):
    moment = fake.clock()
    fake.clock = lambda: moment
    south.rate_limit(1)
    assert [call(fake, south, "GET", "/me").status for _ in range(2)] == [200, 429]
    assert call(fake, fake, "GET", "/me").status == 200
    fake.rate_limit(1)
    south.rate_limit(None)
    assert [call(fake, each, "GET", "/me").status for each in (fake, south)] == [200, 429]


def test_added_workspace_uses_the_same_clock(fake, south):
    session = south.add_session("edit-rubric", south.add_user()["id"])
    later = session.created_at + timedelta(days=7)
    fake.clock = lambda: later
    assert call(fake, south, "GET", f"/embed-sessions/{session.id}").status == 404


def test_answers_are_set_for_one_workspace(fake, south):
    south.answers = "envelope-data"
    assert "data" in call(fake, south, "GET", "/me").json
    assert "id" in call(fake, fake, "GET", "/me").json


def test_embed_url_of_a_workspaces_own_domain(fake):
    west = fake.add_workspace(embed_origin="https://exams.west.example")
    url = west.add_session("edit-rubric", west.add_user()["id"]).embed_url
    assert urlsplit(url).netloc == "exams.west.example"
