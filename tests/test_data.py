from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from django_examplary.data import (
    CONTENT_ROLES,
    ActorProfile,
    EmbedSession,
    Exam,
    Permission,
    PracticeSpace,
    SourceMaterial,
    Theme,
    User,
)
from django_examplary.encoding import is_storable, storable, to_camel, to_snake
from django_examplary.exceptions import ExamplaryValidationError, ExamplaryWarning

SESSION: dict[str, Any] = {
    "id": "embed_session_abc",
    "status": "completed",
    "embedUrl": "https://app.examplary.ai/embeds/abc",
    "flow": "generate-exam",
    "actor": "user_abc",
    "createdAt": "2025-12-09T16:52:52.120Z",
    "expiresAt": "2025-12-16T16:52:52Z",
    "outputs": {"examId": "exam_abc"},
    "somethingNew": 1,
}


@pytest.mark.parametrize(
    ("snake", "camel"),
    [
        ("name", "name"),
        ("exam_id", "examId"),
        ("source_material_ids", "sourceMaterialIds"),
        ("allowed_generation_question_types", "allowedGenerationQuestionTypes"),
        ("qti3_format", "qti3Format"),
    ],
)
def test_names_are_converted_both_ways(snake, camel):
    assert to_camel(snake) == to_camel(camel) == camel
    assert to_snake(camel) == to_snake(snake) == snake


def test_uppercase_letters_are_kept():
    assert to_camel("export_as_QTI") == "exportAsQTI"
    assert to_camel("source_materialIds") == "sourceMaterialIds"


def test_content_roles_are_sorted_by_rank():
    assert CONTENT_ROLES == ("owner", "manager", "editor", "viewer", "participant")


@pytest.mark.parametrize(
    "value",
    [
        ActorProfile(email="ada@school.example"),
        Theme(locale="en"),
        User(id="user_abc"),
        EmbedSession.from_json(SESSION),
        Exam(id="exam_abc"),
        Permission(actor="user_abc", role="editor"),
        PracticeSpace(id="space_abc"),
        SourceMaterial(id="mat_abc"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_frozen_and_take_keywords_only(value):
    field = next(iter(value.__dataclass_fields__))

    with pytest.raises(FrozenInstanceError):
        setattr(value, field, "changed")
    with pytest.raises(TypeError, match="positional"):
        type(value)("by position")


@pytest.mark.parametrize(
    ("values", "theme"),
    [
        ({}, Theme()),
        (
            {"primary_color": "#4338ca", "locale": "nl"},
            Theme(primary_color="#4338ca", locale="nl"),
        ),
        ({"primaryColor": "#4338ca"}, Theme(primary_color="#4338ca")),
    ],
)
def test_theme_from_mapping(values, theme):
    assert Theme.from_mapping(values) == theme


def test_theme_does_not_change_its_mapping():
    values = {"primary_color": "#4338ca"}

    Theme.from_mapping(values)

    assert values == {"primary_color": "#4338ca"}


@pytest.mark.parametrize(
    ("theme", "json"),
    [
        (Theme(), {}),
        (Theme(primary_color="#4338ca"), {"primaryColor": "#4338ca"}),
        (Theme(locale="nl"), {"locale": "nl"}),
    ],
)
def test_theme_to_json(theme, json):
    assert theme.to_json() == json


@pytest.mark.parametrize("name", ["font_family", "fontFamily"])
def test_unknown_theme_key_warns_once(name):
    with pytest.warns(ExamplaryWarning) as caught:
        theme = Theme.from_mapping({"locale": "nl", name: "Inter"})

    assert [str(warning.message) for warning in caught] == [
        "A theme has no documented key fontFamily; sent unchanged."
    ]
    assert theme.extra == {"fontFamily": "Inter"}
    assert theme.to_json() == {"locale": "nl", "fontFamily": "Inter"}


@pytest.mark.filterwarnings("ignore::django_examplary.exceptions.ExamplaryWarning")
def test_extra_does_not_override_the_theme():
    theme = Theme(locale="nl", extra={"locale": "en", "dark": False, "font": None})

    assert theme.to_json() == {"locale": "nl", "dark": False}


@pytest.mark.parametrize("colour", ["#4338ca", "#4338CA", "#fff"])
def test_colour_is_accepted(colour):
    assert Theme(primary_color=colour).to_json() == {"primaryColor": colour}


@pytest.mark.parametrize("colour", ["pink", "4338ca", "#4338c", "#4338cag", "#fff\n", "rgb(0 0 0)"])
def test_colour_that_is_not_hex_warns(colour):
    with pytest.warns(ExamplaryWarning, match="is not a hex colour; sent unchanged"):
        theme = Theme(primary_color=colour)

    assert theme.to_json() == {"primaryColor": colour}


@pytest.mark.parametrize(
    ("data", "user"),
    [
        ({"id": "user_abc"}, ("user_abc", "", "", "")),
        (
            {"id": "user_abc", "email": "ada@x.org", "name": "Ada", "role": "teacher", "new": 1},
            ("user_abc", "ada@x.org", "Ada", "teacher"),
        ),
        ({"id": "user_abc", "email": None, "name": None, "role": None}, ("user_abc", "", "", "")),
    ],
)
def test_user(data, user):
    read = User.from_json(data)

    assert (read.id, read.email, read.name, read.role) == user
    assert read.raw == data


def test_embed_session():
    session = EmbedSession.from_json(SESSION)

    assert session.id == "embed_session_abc"
    assert session.status == "completed"
    assert session.flow == "generate-exam"
    assert session.actor == "user_abc"
    assert session.embed_url == "https://app.examplary.ai/embeds/abc"
    assert session.created_at == datetime(2025, 12, 9, 16, 52, 52, 120_000, tzinfo=UTC)
    assert session.expires_at == datetime(2025, 12, 16, 16, 52, 52, tzinfo=UTC)
    assert session.outputs == {"examId": "exam_abc"}
    assert session.raw == SESSION


def test_embed_session_with_required_fields_only():
    session = EmbedSession.from_json(
        {"id": "embed_session_abc", "status": "pending", "flow": "edit-exam", "outputs": None}
    )

    assert session == EmbedSession(
        id="embed_session_abc", status="pending", flow="edit-exam", raw=session.raw
    )


def test_embed_session_keeps_its_secrets_out_of_its_repr():
    text = repr(EmbedSession.from_json(SESSION))

    assert "generate-exam" in text
    for secret in ("embed_session_abc", "embeds/abc", "exam_abc"):
        assert secret not in text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-12-09T16:52:52Z", datetime(2025, 12, 9, 16, 52, 52, tzinfo=UTC)),
        (
            "2025-12-09T16:52:52+01:00",
            datetime(2025, 12, 9, 16, 52, 52, tzinfo=timezone(timedelta(hours=1))),
        ),
        # Without a time zone it counts as UTC.
        ("2025-12-09T16:52:52", datetime(2025, 12, 9, 16, 52, 52, tzinfo=UTC)),
        (1765299172, datetime(2025, 12, 9, 16, 52, 52, tzinfo=UTC)),
        (1765299172.5, datetime(2025, 12, 9, 16, 52, 52, 500_000, tzinfo=UTC)),
        (1765299172120, datetime(2025, 12, 9, 16, 52, 52, 120_000, tzinfo=UTC)),
        ("2025-02-30T16:52:52Z", None),
        ("tomorrow", None),
        ("", None),
        (None, None),
        (True, None),
        ({"seconds": 1}, None),
        # Durations, and the zero times of some languages.
        (604800, None),
        (0, None),
        ("0001-01-01T00:00:00Z", None),
        (10**400, None),
        (-(10**20), None),
    ],
)
def test_timestamp(text, moment):
    assert EmbedSession.from_json({**SESSION, "expiresAt": text}).expires_at == moment


def test_exam():
    data = {"id": "exam_abc", "name": "Fractions", "questions": []}

    assert Exam.from_json(data) == Exam(id="exam_abc", name="Fractions", raw=data)


def test_exam_id_may_have_any_prefix():
    assert Exam.from_json({"id": "abc"}).id == "abc"


@pytest.mark.parametrize(
    ("actor", "expected"),
    [("user_abc", "user_abc"), ({"id": "user_abc", "name": "Ada"}, "user_abc")],
    ids=["id", "object"],
)
def test_permission(actor, expected):
    data = {"actor": actor, "role": "editor", "createdAt": "2025-12-09T16:52:52Z"}

    assert Permission.from_json(data) == Permission(actor=expected, role="editor", raw=data)


@pytest.mark.parametrize("actor", [None, {}, {"name": "Ada"}, 7, [7]])
def test_permission_of_an_unknown_actor(actor):
    assert Permission.from_json({"actor": actor, "role": "editor"}).actor == ""


@pytest.mark.parametrize("role", ["Editor", ["viewer", "editor"], {"name": "EDITOR"}])
def test_role_is_read_from_several_formats(role):
    assert Permission.from_json({"actor": "user_abc", "role": role}).role == "editor"


@pytest.mark.parametrize("role", [None, "", 7, {}])
def test_permission_without_a_role_is_refused(role):
    with pytest.raises(ValueError, match="role is missing"):
        Permission.from_json({"actor": "user_abc", "role": role})


@pytest.mark.parametrize(
    ("role", "covered"),
    [
        ("owner", {"owner", "manager", "editor", "viewer", "participant"}),
        ("manager", {"manager", "editor", "viewer", "participant"}),
        ("editor", {"editor", "viewer", "participant"}),
        ("viewer", {"viewer", "participant"}),
        ("participant", {"participant"}),
        ("auditor", set()),
    ],
)
def test_permission_covers_lesser_roles(role, covered):
    permission = Permission(actor="user_abc", role=role)

    assert {each for each in CONTENT_ROLES if permission.covers(each)} == covered


def test_practice_space():
    data = {"id": "space_abc", "masteryTopics": []}

    assert PracticeSpace.from_json(data) == PracticeSpace(id="space_abc", raw=data)


@pytest.mark.parametrize(
    ("data", "material", "processed"),
    [
        ({"id": "mat_abc"}, SourceMaterial(id="mat_abc"), False),
        (
            {
                "id": "material_abc",
                "name": "Chapter 1",
                "externalId": "7",
                "processingStatus": "summarizing",
            },
            SourceMaterial(
                id="material_abc",
                name="Chapter 1",
                external_id="7",
                processing_status="summarizing",
            ),
            False,
        ),
        (
            {"id": "mat_abc", "processingStatus": "completed"},
            SourceMaterial(id="mat_abc", processing_status="completed"),
            True,
        ),
        (
            {"id": "mat_abc", "processingStatus": "failed"},
            SourceMaterial(id="mat_abc", processing_status="failed"),
            True,
        ),
    ],
)
def test_source_material(data, material, processed):
    read = SourceMaterial.from_json(data)

    assert read == replace(material, raw=data)
    assert read.is_processed is processed


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"id": None}, "id is missing"),
        ({"id": ""}, "id is missing"),
        ({"id": 7}, "id is not a string"),
        ({"id": "abc"}, "id is not an identifier that starts with embed_session_"),
        ({"id": "embed_session_"}, "id is not an identifier"),
        ({"id": "embed_session_../users"}, "id is not an identifier"),
        ({"id": "embed_session_abc\n"}, "id is not an identifier"),
        ({"id": "embed_session_" + "a" * 242}, "id is not an identifier"),
        ({"status": None}, "status is missing"),
        ({"status": " "}, "status is missing"),
        ({"status": 7}, "status is not a string"),
    ],
)
def test_field_that_every_caller_needs_is_required(change, problem):
    with pytest.raises(ValueError, match=problem):
        EmbedSession.from_json({**SESSION, **change})


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"flow": None}, "flow", ""),
        ({"flow": ["edit-exam"]}, "flow", "edit-exam"),
        ({"flow": "GENERATE_EXAM"}, "flow", "generate-exam"),
        ({"flow": "Generate Exam"}, "flow", "generate-exam"),
        ({"flow": "generate-questions"}, "flow", "generate-exam"),
        ({"actor": {"id": "user_1", "name": "Ada"}}, "actor", "user_1"),
        ({"actor": {"name": "Ada"}}, "actor", ""),
        ({"actor": 7}, "actor", ""),
        ({"embedUrl": {}}, "embed_url", ""),
        ({"status": "COMPLETED"}, "status", "completed"),
        ({"status": " Complete "}, "status", "completed"),
        ({"status": "canceled"}, "status", "cancelled"),
        ({"status": "Timed Out"}, "status", "timed_out"),
        ({"outputs": None}, "outputs", {}),
        ({"outputs": []}, "outputs", {}),
        ({"outputs": ["exam_abc"]}, "outputs", {}),
        ({"outputs": [{"examId": "exam_1"}]}, "outputs", {"examId": "exam_1"}),
        ({"outputs": "exam_abc"}, "outputs", {}),
        ({"outputs": None, "examId": "exam_1"}, "outputs", {"examId": "exam_1"}),
        ({"outputs": {}, "result": {"examId": "exam_1"}}, "outputs", {"examId": "exam_1"}),
        ({"outputs": {"examId": "exam_1"}, "examId": "x"}, "outputs", {"examId": "exam_1"}),
        ({"outputs": {"examId": None}, "examId": "x"}, "outputs", {"examId": "x"}),
        ({"outputs": {"examId": None}}, "outputs", {"examId": None}),
        ({"outputs": {}, "question": "<xml/>"}, "outputs", {"question": "<xml/>"}),
        ({"outputs": {}, "rubric": {"criteria": []}}, "outputs", {"rubric": {"criteria": []}}),
        ({"outputs": {}, "examId": 7}, "outputs", {}),
    ],
)
def test_session_is_read_from_several_formats(change, field, value):
    assert getattr(EmbedSession.from_json({**SESSION, **change}), field) == value


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"role": ["teacher"]}, "role", "teacher"),
        ({"role": ["admin", "teacher"]}, "role", "admin,teacher"),
        ({"role": {"slug": "teacher"}}, "role", "teacher"),
        ({"role": 7}, "role", ""),
        ({"name": {"first": "Ada"}}, "name", ""),
        ({"email": ["ada@x.org"]}, "email", ""),
        ({"email": "a***@x.org"}, "email", "a***@x.org"),
    ],
)
def test_user_is_read_from_several_formats(change, field, value):
    assert getattr(User.from_json({"id": "user_1", **change}), field) == value


def test_unexpected_type_is_logged_once_without_its_value(caplog):
    class Unexpected(list):
        """A type that no other test has logged."""

    for _ in range(2):
        User.from_json({"id": "user_1", "name": Unexpected(["Ada", "1815"])})
    assert [record.getMessage() for record in caplog.records] == [
        "operation='read response' outcome=unexpected-shape field=name type=Unexpected"
    ]


@pytest.mark.parametrize(
    ("status", "properties"),
    [
        ("pending", {"is_pending"}),
        ("IN-PROGRESS", {"is_pending"}),
        ("completed", {"is_completed"}),
        ("Done", {"is_completed"}),
        ("cancelled", {"is_cancelled"}),
        ("Canceled", {"is_cancelled"}),
        ("expired", {"is_over"}),
        ("FAILED", {"is_over"}),
        ("error", {"is_over"}),
        ("deleted", {"is_over"}),
        ("archived", {"is_over"}),
        ("grading", set()),
    ],
)
def test_status_has_at_most_one_meaning(status, properties):
    session = EmbedSession.from_json({**SESSION, "status": status})
    names = ("is_pending", "is_completed", "is_cancelled", "is_over")

    assert {name for name in names if getattr(session, name)} == properties


def nested(levels):
    value = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\x00b\ud800", "a\ufffdb\ufffd"),
        ({"a\x00": ["\udfff", {"b": "\x00"}]}, {"a\ufffd": ["\ufffd", {"b": "\ufffd"}]}),
        (float("inf"), "inf"),
        ([float("nan"), 1.5], ["nan", 1.5]),
        (nested(31), None),
        ({"a": nested(30)}, None),
    ],
)
def test_unstorable_value_is_replaced(value, stored):
    assert not is_storable(value)
    copied = storable(value)
    assert stored in (None, copied)
    assert is_storable(copied)
    json.dumps(copied, allow_nan=False).encode()


@pytest.mark.parametrize(
    "value", [None, True, 7, 1.5, "é😀", (), ("a", ["b"]), {"a": {"b": None}}, nested(30)]
)
def test_storable_value_is_kept(value):
    assert is_storable(value)
    assert type(storable(value)) is type(value)


def test_deep_value_is_kept_as_json():
    value = storable(nested(32))
    for _ in range(30):
        [value] = value
    assert value == '[["x"]]'


@pytest.mark.parametrize(
    ("cls", "prefix"),
    [
        (User, "user_"),
        (EmbedSession, "embed_session_"),
        (PracticeSpace, "space_"),
        (Exam, ""),
        (SourceMaterial, ""),
    ],
)
def test_longest_identifier_fits_its_column(cls, prefix):
    longest = prefix + "a" * (255 - len(prefix))

    assert cls.from_json({**SESSION, "id": longest}).id == longest
    with pytest.raises(ValueError, match="id is not an identifier"):
        cls.from_json({**SESSION, "id": f"{longest}a"})


@pytest.mark.parametrize("name", ["primary_color", "locale"])
def test_theme_of_a_wrong_type_is_refused(name):
    with pytest.raises(ExamplaryValidationError, match=f"theme.{name}: must be a string, not 5"):
        Theme(**{name: 5})
