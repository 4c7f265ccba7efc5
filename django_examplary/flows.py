"""The seven flows: their presets, the access they need, and their outputs.

A flow is a frozen dataclass whose fields are the documented presets in snake_case. The annotation
of a field contains the rule for its value, which is checked before a request is sent:

    >>> GenerateExam(subject="Mathematics", intended_duration=40)
    Traceback (most recent call last):
    ...
    ExamplaryValidationError: intended_duration: must be a multiple of 15 (minutes), not 40

Presets and flows that Examplary adds later are accepted with a warning: presets as `extra`, flows
as `UnknownFlow`. A misspelt preset or flow is an error. All facts are from sections 8 and 9 of the
API contract.
"""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Self, cast, get_args

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from django_examplary.data import ContentRole
from django_examplary.encoding import UNSTORABLE, is_id, is_storable, to_camel, to_snake
from django_examplary.exceptions import (
    ExamplaryResponseError,
    ExamplaryValidationError,
    ExamplaryWarning,
)
from django_examplary.presets import (
    ID,
    AnyExamId,
    ExamId,
    IdList,
    Minutes,
    OptionalId,
    OutputFormat,
    PracticeSpaceId,
    Rubric,
    Rule,
    Text,
    TextList,
    YesNo,
    refusal,
)

# The outputs of flows


@dataclass(frozen=True)
class Outputs:
    """The outputs of a session; `raw` has every key, documented or not."""

    #: The API name of the documented output; empty if none is documented.
    key: ClassVar[str] = ""
    _types: ClassVar[tuple[type, ...]] = ()

    raw: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_complete(self) -> bool:
        """Whether the documented output is present, if there is one."""
        value = self.raw.get(self.key)
        return not self.key or (isinstance(value, self._types) and value != "")

    def _required(self) -> Any:
        if not self.is_complete:
            raise ExamplaryResponseError(f"The outputs of the session have no usable {self.key!r}.")
        return self.raw[self.key]


class GenerateExamOutputs(Outputs):
    key = "examId"
    _types = (str,)

    @property
    def exam_id(self) -> str:
        """Raises ExamplaryResponseError if the API sent none."""
        return str(self._required())


class GenerateQuestionOutputs(Outputs):
    key = "question"
    _types = (dict, str)

    @property
    def question(self) -> dict[str, Any] | str:
        """A Question object, or QTI XML for the two QTI formats: parse it with a hardened parser.

        Raises ExamplaryResponseError if the API sent none.
        """
        return cast("dict[str, Any] | str", self._required())


class EditRubricOutputs(Outputs):
    key = "rubric"
    _types = (dict,)

    @property
    def rubric(self) -> dict[str, Any]:
        """Raises ExamplaryResponseError if the API sent none."""
        return cast("dict[str, Any]", self._required())


# The flows


class Access(NamedTuple):
    """The content role that the actor needs on the exam or the space of one of the presets."""

    preset: str
    role: ContentRole


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One of the flows with its presets.

    Raises ExamplaryValidationError, naming the preset, on construction.
    """

    slug: ClassVar[str]
    #: The translated name, for people.
    title: ClassVar[str | Promise]
    audience: ClassVar[Literal["teacher", "student"]] = "teacher"
    needs: ClassVar[Access | None] = None
    outputs_class: ClassVar[type[Outputs]] = Outputs
    #: Whether its presets are documented; if not, any preset may be passed as `extra`.
    documented: ClassVar[bool] = True
    #: Whether the flow is only available in Examplary's staging environment.
    prerelease: ClassVar[bool] = False
    #: Whether the API documents that the session ends by itself.
    completes: ClassVar[bool] = True
    #: Browser features that the frame is allowed to use (its `allow` attribute).
    permissions_policy: ClassVar[tuple[str, ...]] = ()

    #: Presets that this release does not know, by their name in the API.
    extra: Mapping[str, Any] = field(default_factory=dict)

    _rules: ClassVar[Mapping[str, Rule]] = {}
    _required: ClassVar[Sequence[str]] = ()

    def __init_subclass__(cls) -> None:
        """Read the rule of each preset from its annotation, `Annotated[..., Rule]`."""
        rules, required = {}, []
        for name, hint in inspect.get_annotations(cls, eval_str=True).items():
            for part in (hint, *get_args(hint)):
                for rule in getattr(part, "__metadata__", ()):
                    rules[name] = rule
            if name in rules and type(None) not in get_args(hint):
                required.append(name)
        cls._rules, cls._required = rules, required

    def __post_init__(self) -> None:
        # Like the fields of models, presets accept the lazy strings of `gettext_lazy`.
        lazy = {name: str(each) for name, each in self.extra.items() if isinstance(each, Promise)}
        object.__setattr__(self, "extra", {**self.extra, **lazy})
        for name, rule in self._rules.items():
            value = getattr(self, name)
            if isinstance(value, Promise):
                value = str(value)
                object.__setattr__(self, name, value)
            if value is None and name not in self._required:
                continue
            if not rule.accepts(value):
                raise refusal(name, rule, value)
        for name, value in self.presets.items():
            if not is_storable({name: value}):
                raise ExamplaryValidationError(to_snake(name), UNSTORABLE)
        # There is no rule for presets in `extra`.
        if self.resource and not is_id(self.resource) and self.needs:
            raise refusal(self.needs.preset, ID, self.resource)

    @classmethod
    def from_presets(cls, presets: Mapping[str, Any]) -> Self:
        """Return the flow with presets in snake_case or camelCase, including unknown ones.

        Raises ExamplaryValidationError, naming the preset, also for one that is misspelt.
        """
        known: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        for name, value in presets.items():
            if to_snake(name) in cls._rules:
                known[to_snake(name)] = value
            elif cls.documented and (close := _closest(to_snake(name), cls._rules)):
                raise ExamplaryValidationError(
                    name, f"is not a preset of {cls.slug}; did you mean {close!r}?"
                )
            else:
                extra[to_camel(name)] = value
        for name in cls._required:
            if name not in known:
                raise ExamplaryValidationError(name, f"is required by {cls.slug}")
        if extra and cls.documented:
            warnings.warn(
                f"{cls.slug} has no documented preset {', '.join(sorted(extra))}; sent unchanged.",
                ExamplaryWarning,
                stacklevel=2,
            )
        return cls(**known, extra=extra)

    @property
    def presets(self) -> dict[str, Any]:
        """The presets by their names in the API, without None and empty strings."""
        given = {name: getattr(self, name) for name in self._rules}
        return {
            **self.extra,
            **{to_camel(name): each for name, each in given.items() if each not in (None, "")},
        }

    @property
    def resource(self) -> str:
        """The id of the exam or space that the actor needs access to; empty if none is known."""
        return str(self.presets.get(to_camel(self.needs.preset), "")) if self.needs else ""


@dataclass(frozen=True, kw_only=True)
class GenerateExam(Flow):
    slug = "generate-exam"
    title = gettext_lazy("Generate an exam")
    outputs_class = GenerateExamOutputs

    name: Text | None = None
    subject: Text | None = None
    student_level: Text | None = None
    intended_duration: Minutes | None = None
    taxonomy_id: OptionalId | None = None
    language: Text | None = None
    source_material_ids: IdList | None = None
    allowed_generation_question_types: TextList | None = None
    context: Text | None = None


@dataclass(frozen=True, kw_only=True)
class EditRubric(Flow):
    slug = "edit-rubric"
    title = gettext_lazy("Edit a rubric")
    outputs_class = EditRubricOutputs

    show_done_button: YesNo | None = None
    rubric: Rubric | None = None

    @property
    def completes(self) -> bool:  # type: ignore[override]  # the one flow whose presets decide it
        # Without its Done button there is no documented way to finish.
        return self.show_done_button is not False


@dataclass(frozen=True, kw_only=True)
class GenerateQuestion(Flow):
    slug = "generate-question"
    title = gettext_lazy("Generate a question")
    outputs_class = GenerateQuestionOutputs

    subject: Text | None = None
    student_level: Text | None = None
    language: Text | None = None
    context: Text | None = None
    source_material_ids: IdList | None = None
    question_type: Text | None = None
    hide_subject: YesNo | None = None
    hide_student_level: YesNo | None = None
    output_format: OutputFormat | None = None


class MarkAnswer(Flow):
    """Experimental: presets, outputs and completion are not documented. Pass presets as `extra`."""

    slug = "mark-answer"
    title = gettext_lazy("Mark an answer")
    documented = False
    # The page requires this role on the exam. The preset `examId` is an assumption.
    needs = Access("exam_id", "editor")
    completes = False


@dataclass(frozen=True, kw_only=True)
class EditExam(Flow):
    slug = "edit-exam"
    title = gettext_lazy("Edit an exam")
    needs = Access("exam_id", "editor")
    completes = False

    exam_id: AnyExamId


@dataclass(frozen=True, kw_only=True)
class TakeExam(Flow):
    """One sitting of a student. Outputs are not documented."""

    slug = "take-exam"
    title = gettext_lazy("Take an exam")
    audience = "student"
    needs = Access("exam_id", "participant")
    prerelease = True
    permissions_policy = ("fullscreen", "microphone")

    exam_id: ExamId


@dataclass(frozen=True, kw_only=True)
class PracticeSpaceStudent(Flow):
    slug = "practice-space-student"
    title = gettext_lazy("Practise")
    audience = "student"
    needs = Access("practice_space_id", "participant")
    completes = False
    permissions_policy = ("microphone",)

    practice_space_id: PracticeSpaceId


@dataclass(frozen=True, kw_only=True)
class UnknownFlow(Flow):
    """A flow released after this package: presets are in `extra`, outputs in `raw`."""

    completes = False

    slug: str  # type: ignore[misc]  # the one flow whose slug is data


#: The flows by their name in the API.
FLOWS: Mapping[str, type[Flow]] = {
    cls.slug: cls
    for cls in (
        GenerateExam,
        EditRubric,
        GenerateQuestion,
        MarkAnswer,
        EditExam,
        TakeExam,
        PracticeSpaceStudent,
    )
}


def flow_name(slug: str) -> str:
    """Return the translated name of a flow; an unknown flow is returned unchanged."""
    return str(FLOWS[slug].title) if slug in FLOWS else slug


def get_flow(slug: str, presets: Mapping[str, Any]) -> Flow:
    """Return the flow named `slug` with its presets. An unknown flow causes a warning.

    Raises ExamplaryValidationError, naming the preset or a misspelt flow.
    """
    if cls := FLOWS.get(slug):
        return cls.from_presets(presets)
    if meant := _closest(str(slug).lower().replace("_", "-"), FLOWS):
        raise ExamplaryValidationError("flow", f"must be {meant!r}, not {slug!r}")
    warnings.warn(
        f"There is no documented flow {slug!r} (known: {', '.join(FLOWS)}); sent unchanged.",
        ExamplaryWarning,
        stacklevel=2,
    )
    return UnknownFlow(slug=slug, extra={to_camel(key): value for key, value in presets.items()})


def _closest(name: str, names: Iterable[str]) -> str:
    """Return the known name most similar to a misspelt one; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.85)), "")
