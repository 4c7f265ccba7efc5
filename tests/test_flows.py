from __future__ import annotations

import doctest
import inspect
import warnings
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy

from django_examplary import flows
from django_examplary.data import Theme
from django_examplary.encoding import to_camel, to_snake
from django_examplary.exceptions import (
    ExamplaryResponseError,
    ExamplaryValidationError,
    ExamplaryWarning,
)
from django_examplary.flows import (
    FLOWS,
    Access,
    EditExam,
    EditRubric,
    EditRubricOutputs,
    GenerateExam,
    GenerateExamOutputs,
    GenerateQuestion,
    GenerateQuestionOutputs,
    MarkAnswer,
    Outputs,
    PracticeSpaceStudent,
    TakeExam,
    UnknownFlow,
    get_flow,
)
from django_examplary.presets import checked_grant

TEXTS = (["Mathematics", "<b>", "x" * 10_000], [7, ["Mathematics"], True])
LISTS = ([["mat_1", "mat_2"], ("mat_1",), []], ["mat_1", [7], [None], {"mat_1"}])
ID_LISTS = (LISTS[0], [*LISTS[1], [""], ["mat_1/.."], ["mat 1"], ["x" * 256]])
IDS = (["taxonomy_bloom_revised", "bloom-2"], ["../users", "a b", "é", "x" * 256, 7, True])
BOOLEANS = ([True, False], ["true", 1, 0, ""])
EXAM_IDS = (
    ["exam_abc", "exam_A-1_b"],
    ["exam_", "abc", "xexam_abc", "", 7, None, "exam_1/../users", "exam_1\n", "exam_é"],
)

# From the tables of the API documentation: valid and invalid values of each preset.
PRESETS: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {
    "generate-exam": {
        "name": TEXTS,
        "subject": TEXTS,
        "studentLevel": TEXTS,
        "intendedDuration": ([15, 45, 600], [0, -15, 40, 7.5, 15.0, "15", True]),
        "taxonomyId": IDS,
        "language": TEXTS,
        "sourceMaterialIds": ID_LISTS,
        "allowedGenerationQuestionTypes": LISTS,
        "context": TEXTS,
    },
    "generate-question": {
        "subject": TEXTS,
        "studentLevel": TEXTS,
        "language": TEXTS,
        "context": TEXTS,
        "sourceMaterialIds": ID_LISTS,
        "questionType": TEXTS,
        "hideSubject": BOOLEANS,
        "hideStudentLevel": BOOLEANS,
        "outputFormat": (["examplary_json", "qti_v2p1", "qti_v3p0"], ["qti", "", ["qti_v3p0"]]),
    },
    "edit-rubric": {
        "showDoneButton": BOOLEANS,
        "rubric": ([{"rubricType": "analytical"}, {}], ["{}", [{}]]),
    },
    "mark-answer": {},
    # Without a prefix: the page of this flow does not document one.
    "edit-exam": {"examId": (["exam_abc", "abc"], ["", 7, None, "exam_1/../users", "a b"])},
    "take-exam": {"examId": EXAM_IDS},
    "practice-space-student": {
        "practiceSpaceId": (["space_abc"], ["space_", "abc", "exam_abc", "", 7, None, "space_1?x"])
    },
}
REQUIRED = {
    "edit-exam": {"examId": "exam_abc"},
    "take-exam": {"examId": "exam_abc"},
    "practice-space-student": {"practiceSpaceId": "space_abc"},
}
ACCEPTED = [
    (slug, name, value)
    for slug, presets in PRESETS.items()
    for name, (values, _) in presets.items()
    for value in values
]
REFUSED = [
    (slug, name, value)
    for slug, presets in PRESETS.items()
    for name, (_, values) in presets.items()
    for value in values
]


def test_every_documented_flow_exists():
    assert {slug: cls.slug for slug, cls in FLOWS.items()} == {slug: slug for slug in PRESETS}


@pytest.mark.parametrize("slug", PRESETS)
def test_every_documented_preset_exists(slug):
    presets = {to_camel(field.name) for field in fields(FLOWS[slug])} - {"extra"}

    assert presets == set(PRESETS[slug])


@pytest.mark.parametrize(("slug", "name", "value"), ACCEPTED)
def test_valid_preset_is_accepted(slug, name, value):
    flow = get_flow(slug, {**REQUIRED.get(slug, {}), name: value})

    assert flow.presets[name] == value


@pytest.mark.parametrize(("slug", "name", "value"), REFUSED)
def test_invalid_preset_is_refused_by_name(slug, name, value):
    with pytest.raises(ExamplaryValidationError) as caught:
        get_flow(slug, {**REQUIRED.get(slug, {}), name: value})

    assert caught.value.field == to_snake(name)
    assert caught.value.problem.startswith("must be ")


@pytest.mark.parametrize(
    ("slug", "name"), [(slug, name) for slug, presets in PRESETS.items() for name in presets]
)
def test_preset_accepts_snake_case(slug, name):
    value = PRESETS[slug][name][0][0]
    camel = FLOWS[slug].from_presets({**REQUIRED.get(slug, {}), name: value})

    assert FLOWS[slug].from_presets({to_snake(name): value}) == camel
    assert FLOWS[slug](**{to_snake(name): value}) == camel
    assert camel.presets == {name: value}


@pytest.mark.parametrize("slug", REQUIRED)
def test_preset_is_required(slug):
    (name,) = REQUIRED[slug]

    with pytest.raises(ExamplaryValidationError) as caught:
        get_flow(slug, {})

    assert str(caught.value) == f"{to_snake(name)}: is required by {slug}"


@pytest.mark.parametrize("slug", [slug for slug in PRESETS if slug not in REQUIRED])
def test_presets_are_optional(slug):
    assert get_flow(slug, {}).presets == {}


def test_empty_presets_are_omitted():
    flow = GenerateExam(subject="Mathematics", name="", language=None)

    assert flow.presets == {"subject": "Mathematics"}


def test_false_and_empty_lists_are_sent():
    flow = GenerateQuestion(hide_subject=False, source_material_ids=[])

    assert flow.presets == {"hideSubject": False, "sourceMaterialIds": []}


def test_error_shortens_a_long_value():
    with pytest.raises(ExamplaryValidationError) as caught:
        TakeExam(exam_id="x" * 10_000)

    assert str(caught.value) == (
        "exam_id: must be an id that starts with 'exam_', of letters, digits, _ and -, not '"
        + "x" * 58
        + "…"
    )


@pytest.mark.parametrize(
    ("name", "sent"), [("due_date", "dueDate"), ("dueDate", "dueDate"), ("slug", "slug")]
)
def test_unknown_preset_warns_once(name, sent):
    with pytest.warns(ExamplaryWarning) as caught:
        flow = get_flow("generate-exam", {"subject": "Mathematics", name: "tomorrow"})

    assert [str(warning.message) for warning in caught] == [
        f"generate-exam has no documented preset {sent}; sent unchanged."
    ]
    assert flow.presets == {"subject": "Mathematics", sent: "tomorrow"}


def test_unknown_presets_share_one_warning():
    with pytest.warns(ExamplaryWarning, match="no documented preset a, b; sent") as caught:
        get_flow("generate-exam", {"b": 1, "a": 2})

    assert len(caught) == 1


def test_same_warning_is_shown_once_by_default():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            get_flow("generate-exam", {"a": 1})

    assert len(caught) == 1


@pytest.mark.parametrize(
    "build",
    [
        Theme.from_mapping,
        GenerateExam.from_presets,
        lambda presets: get_flow("new-flow", presets),
        lambda presets: GenerateExam(extra=presets),
    ],
    ids=["theme", "known flow", "unknown flow", "extra"],
)
@pytest.mark.filterwarnings("ignore:There is no documented flow")
def test_name_that_is_not_a_string_is_refused(build):
    with pytest.raises(ExamplaryValidationError, match=r"^7: must be a string"):
        build({7: "Art"})


def test_extra_does_not_warn():
    assert GenerateExam(extra={"dueDate": "tomorrow"}).presets == {"dueDate": "tomorrow"}


def test_extra_does_not_override_a_preset():
    assert GenerateExam(subject="Art", extra={"subject": "Music"}).presets == {"subject": "Art"}


def test_undocumented_flow_accepts_any_preset():
    flow = get_flow("mark-answer", {"exam_id": "exam_abc", "studentSessionId": "abc"})

    assert flow == MarkAnswer(extra={"examId": "exam_abc", "studentSessionId": "abc"})
    assert flow.presets == {"examId": "exam_abc", "studentSessionId": "abc"}


@pytest.mark.parametrize(
    "slug", ["generate_exam", "Generate-Exam", "genrate-exam", "generate-exams", "generateexam"]
)
def test_misspelt_flow_is_an_error(slug):
    with pytest.raises(
        ExamplaryValidationError, match=f"flow: must be 'generate-exam', not '{slug}'"
    ):
        get_flow(slug, {})


@pytest.mark.parametrize(
    ("slug", "name", "meant"),
    [
        ("generate-exam", "subjct", "subject"),
        ("generate-exam", "lanuage", "language"),
        ("generate-exam", "langauge", "language"),
        ("generate-exam", "studentlevel", "student_level"),
        ("generate-exam", "studentLevl", "student_level"),
        ("generate-question", "outputformat", "output_format"),
        ("edit-rubric", "show_done_buton", "show_done_button"),
        ("take-exam", "exam_ids", "exam_id"),
    ],
)
def test_misspelt_preset_is_an_error(slug, name, meant):
    with pytest.raises(ExamplaryValidationError) as caught:
        get_flow(slug, {**REQUIRED.get(slug, {}), name: "x"})

    assert str(caught.value) == f"{name}: is not a preset of {slug}; did you mean {meant!r}?"


@pytest.mark.parametrize(
    "value", ["a\x00b", "\ud800", ["\udfff"], {"a": float("nan")}, {"\x00": 1}]
)
def test_unstorable_preset_is_refused(value):
    with pytest.raises(ExamplaryValidationError, match="due_date: holds U\\+0000"):
        GenerateExam(extra={"dueDate": value})


@pytest.mark.parametrize("slug", ["generate-exam", "mark-answer"])
def test_lazy_text_is_read_when_the_flow_is_made(slug):
    with translation.override("nl"):
        flow = get_flow(slug, {"name": gettext_lazy("Yes"), "subject": "Maths"})

    assert flow.presets == {"name": "Ja", "subject": "Maths"}


def test_lazy_id_is_refused():
    """It is a proxy of any type, which neither JSON nor a path can contain."""
    with pytest.raises(ExamplaryValidationError, match=r"exam_id: .* not <SimpleLazy"):
        TakeExam(exam_id=SimpleLazyObject(lambda: "exam_1"))


@pytest.mark.parametrize("exam", ["exam_1/../users", "a b", "é"])
def test_exam_of_an_undocumented_flow_must_be_an_id(exam):
    with pytest.raises(ExamplaryValidationError, match="exam_id: must be an id"):
        MarkAnswer(extra={"examId": exam})


@pytest.mark.parametrize("resource", ["exam_1", "space_a-B_2"])
def test_access_to_exams_and_spaces_may_be_granted(resource):
    assert checked_grant(resource) == resource


@pytest.mark.parametrize("resource", ["org_1", "abc", "", "exam_", "exam_1/..", "xexam_1"])
def test_access_to_other_resources_is_not_granted(resource):
    with pytest.raises(ExamplaryValidationError, match="grant_access: needs an exam or a space"):
        checked_grant(resource)


@pytest.mark.parametrize(
    ("outputs", "is_complete"),
    [
        (Outputs(), True),
        (GenerateExamOutputs({"examId": "exam_a"}), True),
        (GenerateExamOutputs({"examId": None}), False),
        (GenerateExamOutputs({"examId": ""}), False),
        (GenerateQuestionOutputs({"question": {}}), True),
        (EditRubricOutputs({"criteria": []}), False),
    ],
)
def test_outputs_are_complete_with_the_documented_one(outputs, is_complete):
    assert outputs.is_complete is is_complete


def test_unknown_flow_warns_once():
    with pytest.warns(ExamplaryWarning) as caught:
        flow = get_flow("draw-graph", {"axis_names": ["x", "y"], "gridSize": 2})

    assert [str(warning.message) for warning in caught] == [
        "There is no documented flow 'draw-graph' (known: generate-exam, edit-rubric, "
        "generate-question, mark-answer, edit-exam, take-exam, practice-space-student); sent "
        "unchanged."
    ]
    assert flow == UnknownFlow(slug="draw-graph", extra={"axisNames": ["x", "y"], "gridSize": 2})
    assert flow.slug == "draw-graph"
    assert flow.presets == {"axisNames": ["x", "y"], "gridSize": 2}


@pytest.mark.parametrize(
    ("flow", "completes"),
    [
        (GenerateExam(), True),
        (GenerateQuestion(), True),
        (EditRubric(), True),
        (EditRubric(show_done_button=True), True),
        (EditRubric(show_done_button=False), False),
        (MarkAnswer(), False),
        (EditExam(exam_id="exam_abc"), False),
        (TakeExam(exam_id="exam_abc"), True),
        (PracticeSpaceStudent(practice_space_id="space_abc"), False),
        (UnknownFlow(slug="draw-graph"), False),
    ],
)
def test_completes(flow, completes):
    assert flow.completes is completes


@pytest.mark.parametrize(
    ("flow", "audience", "needs", "resource"),
    [
        (GenerateExam(), "teacher", None, ""),
        (GenerateQuestion(), "teacher", None, ""),
        (EditRubric(), "teacher", None, ""),
        (MarkAnswer(), "teacher", Access("exam_id", "editor"), ""),
        (
            MarkAnswer(extra={"examId": "exam_a"}),
            "teacher",
            Access("exam_id", "editor"),
            "exam_a",
        ),
        (EditExam(exam_id="exam_a"), "teacher", Access("exam_id", "editor"), "exam_a"),
        (TakeExam(exam_id="exam_a"), "student", Access("exam_id", "participant"), "exam_a"),
        (
            PracticeSpaceStudent(practice_space_id="space_a"),
            "student",
            Access("practice_space_id", "participant"),
            "space_a",
        ),
        (UnknownFlow(slug="draw-graph"), "teacher", None, ""),
    ],
)
def test_audience_and_needs(flow, audience, needs, resource):
    assert flow.audience == audience
    assert flow.needs == needs
    assert flow.resource == resource


def test_only_take_exam_is_not_released_yet():
    assert [slug for slug, cls in FLOWS.items() if cls.prerelease] == ["take-exam"]


def test_only_mark_answer_has_no_documented_presets():
    assert [slug for slug, cls in FLOWS.items() if not cls.documented] == ["mark-answer"]


def test_permissions_policy():
    assert {
        slug: cls.permissions_policy for slug, cls in FLOWS.items() if cls.permissions_policy
    } == {
        "take-exam": ("fullscreen", "microphone"),
        "practice-space-student": ("microphone",),
    }


def test_flows_are_frozen():
    with pytest.raises(FrozenInstanceError):
        TakeExam(exam_id="exam_abc").exam_id = "exam_other"


@pytest.mark.parametrize(
    ("slug", "cls", "raw", "name", "value"),
    [
        ("generate-exam", GenerateExamOutputs, {"examId": "exam_a"}, "exam_id", "exam_a"),
        ("generate-question", GenerateQuestionOutputs, {"question": {}}, "question", {}),
        ("generate-question", GenerateQuestionOutputs, {"question": "<i/>"}, "question", "<i/>"),
        (
            "edit-rubric",
            EditRubricOutputs,
            {"rubric": {"criteria": []}},
            "rubric",
            {"criteria": []},
        ),
    ],
)
def test_outputs_are_typed(slug, cls, raw, name, value):
    assert FLOWS[slug].outputs_class is cls
    outputs = cls({**raw, "new": 1})

    assert getattr(outputs, name) == value
    assert outputs.raw == {**raw, "new": 1}


@pytest.mark.parametrize(
    ("cls", "raw", "name"),
    [
        (GenerateExamOutputs, {}, "exam_id"),
        (GenerateExamOutputs, {"examId": None}, "exam_id"),
        (GenerateExamOutputs, {"examId": ["exam_a"]}, "exam_id"),
        (GenerateQuestionOutputs, {"question": []}, "question"),
        (EditRubricOutputs, {"rubric": "{}"}, "rubric"),
    ],
)
def test_unusable_output_is_named(cls, raw, name):
    with pytest.raises(ExamplaryResponseError, match=f"no usable '{to_camel(name)}'"):
        getattr(cls(raw), name)


@pytest.mark.parametrize(
    "slug", ["mark-answer", "edit-exam", "take-exam", "practice-space-student"]
)
def test_outputs_without_documentation_are_raw(slug):
    assert FLOWS[slug].outputs_class is Outputs
    assert Outputs({"score": 7}).raw == {"score": 7}


def test_docstring_example():
    (example,) = doctest.DocTestParser().get_examples(inspect.getdoc(flows) or "")

    with pytest.raises(ExamplaryValidationError) as caught:
        eval(example.source, vars(flows))  # noqa: S307  # our own docstring

    assert f"{type(caught.value).__name__}: {caught.value}\n" == example.exc_msg
