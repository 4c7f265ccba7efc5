"""Store the content of a fake in a file, as a seed or across restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from django_examplary.testing import FakeExamplary, Workspace
from django_examplary.testing.messages import Request
from django_examplary.testing.store import StoreError, StoringExamplary, load, save
from tests.testing.test_fake import BEARER, call, create, open_embed


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.json"


def content_of(workspace: Workspace) -> dict[str, Any]:
    return {
        name: getattr(workspace, name)
        for name in (
            *("api_key", "owner_id", "org_id", "users", "groups", "sessions", "exams"),
            *("practice_spaces", "source_materials", "permissions", "exports", "material_reads"),
        )
    }


def test_everything_is_restored(path):
    fake = FakeExamplary()
    for workspace in (fake, fake.add_workspace("examp_south")):
        actor = workspace.add_user("ada@example.com", name="Ada", role="student")["id"]
        group = workspace.add_group("Class 3", members=[actor])
        grants = [{"actor": group["id"], "role": "editor"}]
        questions = [{"type": "essay", "title": "Why?"}]
        exam = workspace.add_exam("Algebra", questions=questions, permissions=grants)
        workspace.add_practice_space("Lines", masteryTopics=[{"id": "linear-1"}])
        workspace.add_source_material("https://site.example/a.pdf", externalId="7")
        finished = workspace.add_session(
            "generate-exam", actor, metadata={"ref": "1"}, return_url="https://site.example/"
        )
        workspace.complete(finished.id)
        session = workspace.add_session("edit-exam", actor, presets={"examId": exam["id"]})
        workspace.save(session.id, {exam["questions"][0]["id"]: "How?"})
    call(fake, "POST", f"/exams/{exam['id']}/export/qti3-zip")
    create(fake, f"/exams/{next(iter(fake.exams))}/export/qti3-zip", None)
    for material_id in fake.source_materials:
        call(fake, "GET", f"/source-materials/{material_id}")

    save(fake, path)
    restored = FakeExamplary()
    load(restored, path)

    assert len(restored.workspaces) == 2
    for before, after in zip(fake.workspaces, restored.workspaces, strict=True):
        assert content_of(after) == content_of(before)


def test_seed_needs_little(path):
    path.write_text(
        json.dumps(
            {
                "users": [
                    {"id": "user_ada", "email": "ada@example.com", "name": "Ada"},
                    {"email": "bob@example.com", "role": "student"},
                ],
                "groups": [{"id": "group_3", "name": "Class 3", "members": ["user_ada"]}],
                "exams": [{"id": "exam_1", "name": "Algebra", "questions": [{"type": "essay"}]}],
                "practiceSpaces": [{"name": "Lines"}],
                "sourceMaterials": [{"url": "https://site.example/a.pdf"}],
                "permissions": [{"resource": "exam_1", "actor": "group_3", "role": "editor"}],
                "workspaces": [{"apiKey": "examp_south", "exams": [{"name": "Geometry"}]}],
            }
        )
    )
    fake = FakeExamplary()
    load(fake, path)

    assert call(fake, "GET", "/exams/exam_1").json["questions"][0]["id"].startswith("q_")
    bob = fake.find_user("bob@example.com")
    assert bob
    assert (bob["id"][:5], bob["role"]) == ("user_", "student")
    session = fake.add_session("edit-exam", "user_ada", presets={"examId": "exam_1"})
    assert open_embed(fake, session).status == 200
    assert fake.owner_id in fake.users
    [south] = fake.workspaces[1:]
    assert [exam["name"] for exam in south.exams.values()] == ["Geometry"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "wrong type"),
        ('{"exam": []}', "exam is unknown."),
        ('{"users": [{"name": "Ada"}]}', "'email' is missing."),
        ('{"users": ["ada@example.com"]}', "wrong type"),
        ('{"exams": 1}', "wrong type"),
        ('{"permissions": [{"resource": "exam_1", "actor": "user_1"}]}', "'role' is missing."),
        ('{"workspaces": [{}]}', "'apiKey' is missing."),
    ],
)
def test_file_with_another_structure_is_refused(path, content, reason):
    path.write_text(content)
    with pytest.raises(StoreError) as caught:
        load(FakeExamplary(), path)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_every_change_is_stored(path):
    fake = StoringExamplary(path=path)
    call(fake, "GET", "/me")
    assert not path.exists()
    create(fake, "/users", {"email": "ada@example.com"})
    restored = FakeExamplary()
    load(restored, path)
    assert restored.users == fake.users
    # Buttons of embed pages also change the content.
    session = fake.add_session("edit-rubric", fake.add_user()["id"])
    fake.handle(Request("POST", f"/embeds/{session.token}/complete", {}, BEARER, b"{}"))
    restored = FakeExamplary()
    load(restored, path)
    assert restored.sessions[session.id].status == "completed"
    assert [each.name for each in path.parent.iterdir()] == ["store.json"]
