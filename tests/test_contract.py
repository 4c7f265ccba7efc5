"""Validate the requests of the client and the responses of the fake against the contract."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import hypothesis
import jsonschema
import pytest
import schemathesis
import yaml
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
)

from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryAPIError
from django_examplary.flows import (
    EditExam,
    EditRubric,
    GenerateExam,
    GenerateQuestion,
    MarkAnswer,
    PracticeSpaceStudent,
    TakeExam,
)
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve

CONTRACT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "examplary-openapi.yaml").read_text()
)
REGISTRY = Registry().with_resource("contract", DRAFT202012.create_resource(CONTRACT))
EVERY_PRESET = [
    GenerateExam(
        name="Sums",
        subject="Mathematics",
        student_level="us_high_school_lower",
        intended_duration=45,
        taxonomy_id="taxonomy_bloom_revised",
        language="en",
        source_material_ids=["mat_1"],
        allowed_generation_question_types=["single-line-text"],
        context="No calculators.",
    ),
    GenerateQuestion(
        subject="Mathematics",
        student_level="us_high_school_lower",
        language="en",
        context="Easy.",
        source_material_ids=["mat_1"],
        question_type="essay",
        hide_subject=True,
        hide_student_level=True,
        output_format="qti_v3p0",
    ),
    EditRubric(show_done_button=False, rubric={"rubricType": "analytical", "criteria": []}),
    MarkAnswer(extra={"examId": "exam_1"}),
    EditExam(exam_id="exam_1"),
    TakeExam(exam_id="exam_1"),
    PracticeSpaceStudent(practice_space_id="space_1"),
]


class Recorder(FakeExamplary):
    """A fake that records its responses with the requests."""

    def handle(self, request):
        response = super().handle(request)
        self.exchanges.append((request, response))
        return response

    def __post_init__(self):
        super().__post_init__()
        self.exchanges = []


def operation_for(method: str, path: str) -> dict[str, Any]:
    operation: dict[str, Any] = next(
        methods[method.lower()]
        for template, methods in CONTRACT["paths"].items()
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path) and method.lower() in methods
    )
    return operation


def validate(instance: object, schema: dict[str, Any]) -> None:
    """Validate against a schema with references into the contract."""
    absolute = json.loads(json.dumps(schema).replace('"#/', '"contract#/'))
    jsonschema.Draft202012Validator(absolute, registry=REGISTRY).validate(instance)


def response_schema(operation: dict[str, Any], status: int) -> dict[str, Any] | None:
    responses = operation["responses"]
    response = responses.get(str(status)) or responses[f"{status // 100}XX"]
    schema: dict[str, Any] | None = (
        response.get("content", {}).get("application/json", {}).get("schema")
    )
    return schema


def exercise(client: ExamplaryClient, fake: FakeExamplary) -> None:
    """Call every operation with all its arguments."""
    user = client.create_user(email="ann@school.example", name="Ann", role="student")
    client.get_me()
    client.update_me(name="Head")
    for flow in EVERY_PRESET:
        session = client.create_embed_session(
            flow=flow.slug,
            actor=user.id,
            presets=flow.presets,
            theme={"primaryColor": "#4f46e5", "locale": "en"},
            metadata={"course": "7"},
            return_url="https://school.example/examplary/return/1:x/",
            allowed_origin="https://school.example",
        )
        client.get_embed_session(session.id)
        if flow.completes and flow.slug != "take-exam":
            fake.complete(session.id)
            client.get_embed_session(session.id)
        client.delete_embed_session(session.id)
    exam = client.create_exam(
        "Sums",
        subject="Mathematics",
        questions=[{"type": "essay", "title": "Why?", "scoring": {"rubricType": "analytical"}}],
        permissions={user.id: "viewer"},
        metadata={"course": "7"},
    )
    client.get_exam(exam.id)
    client.export_exam_qti3(exam.id)
    client.list_permissions(exam.id)
    client.create_permission(exam.id, actor=user.id, role="editor")
    client.get_permission(exam.id, user.id)
    client.get_permission(exam.id, "user_other")
    client.delete_exam(exam.id)
    client.create_practice_space(
        name="Practice",
        student_notes="Do your best.",
        source_material_ids=["mat_1"],
        mastery_topics=[{"id": "linear-1"}],
        permissions={user.id: "participant"},
    )
    material = client.create_source_material(
        "https://school.example/book.pdf",
        type="file",
        name="Book",
        size=10,
        content_type="application/pdf",
        expires="2030-01-01T00:00:00Z",
        external_id="book-1",
    )
    client.list_source_materials(external_id="book-1")
    client.get_source_material(material.id)
    client.slice_source_material(material.id, start_page=1, end_page=2, name="Start")
    client.list_student_levels()
    client.list_taxonomies()
    client.list_question_types()
    client.list_public_question_types()
    client.get_openapi()


@pytest.mark.parametrize("permission_actor", ["object", "id"])
@pytest.mark.parametrize("success_status", [None, 201])
def test_requests_and_responses_match_the_contract(permission_actor, success_status):
    fake = Recorder(staging=True, permission_actor=permission_actor, success_status=success_status)
    with serve(fake) as server, ExamplaryClient(DEFAULT_API_KEY, base_url=server.url) as client:
        exercise(client, fake)
    used = set()
    for request, response in fake.exchanges:
        operation = operation_for(request.method, request.path)
        used.add(operation["operationId"])
        if "requestBody" in operation:
            content = operation["requestBody"]["content"]["application/json"]
            validate(json.loads(request.body), content["schema"])
        else:
            assert request.body == b""
        schema = response_schema(operation, response.status)
        if schema is not None:
            validate(json.loads(response.body), schema)
    documented = {
        operation["operationId"]
        for path, methods in CONTRACT["paths"].items()
        for method, operation in methods.items()
        if method != "parameters" and not path.startswith("/oauth/")
    }
    assert used == documented


@pytest.mark.parametrize(
    "shape", ["message", "error", "error-object", "errors", "detail", "empty", "html"]
)
def test_every_refusal_of_the_fake_raises(shape):
    fake = FakeExamplary(error_shape=shape)
    with serve(fake) as server, ExamplaryClient(DEFAULT_API_KEY, base_url=server.url) as client:
        for call in (
            lambda: client.get_exam("exam_unknown"),
            lambda: client.list_permissions("exam_unknown"),
            lambda: client.create_exam(""),
            lambda: client.create_embed_session(flow="no-such-flow", actor="user_1"),
        ):
            with pytest.raises(ExamplaryAPIError):
                call()


def test_presets_of_the_flows_match_the_contract():
    """The flows and the contract have the same presets."""
    names = {
        "PresetsGenerateExam": GenerateExam,
        "PresetsGenerateQuestion": GenerateQuestion,
        "PresetsEditRubric": EditRubric,
        "PresetsEditExam": EditExam,
        "PresetsTakeExam": TakeExam,
        "PresetsPracticeSpaceStudent": PracticeSpaceStudent,
    }
    presets = {type(flow): set(flow.presets) for flow in EVERY_PRESET}
    for name, flow in names.items():
        schema = CONTRACT["components"]["schemas"][name]
        assert set(schema["properties"]) == presets[flow]
    for flow in EVERY_PRESET:
        validate(
            {"flow": flow.slug, "actor": "user_1", "presets": flow.presets},
            {"$ref": "#/components/schemas/EmbedSessionCreate"},
        )


# Generated requests, against the fake itself

schema = schemathesis.openapi.from_dict(CONTRACT).exclude(path_regex="^/oauth/")
schema.config.phases.update(phases=["fuzzing"])


@pytest.fixture(scope="module")
def fake_url():
    with serve(FakeExamplary(staging=True)) as server:
        yield server.url


@schema.parametrize()
@hypothesis.settings(max_examples=10, deadline=None, derandomize=True)
def test_fake_matches_the_contract_for_generated_requests(case, fake_url):
    case.call_and_validate(
        base_url=fake_url,
        headers={"Authorization": f"Bearer {DEFAULT_API_KEY}"},
        checks=[not_a_server_error, content_type_conformance, response_schema_conformance],
    )
