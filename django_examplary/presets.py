"""Rules for the values of presets, and for ids to which access may be granted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, get_args

from django_examplary.encoding import is_id
from django_examplary.exceptions import ExamplaryValidationError


class Rule(NamedTuple):
    """`expected` completes the sentence "<preset> must be ..."."""

    accepts: Callable[[Any], bool]
    expected: str
    #: All accepted values, if they are few.
    values: tuple[Any, ...] = ()


def _starting_with(prefix: str) -> Rule:
    return Rule(
        lambda value: is_id(value, prefix),
        f"an id that starts with {prefix!r}, of letters, digits, _ and -",
    )


def _list_of(accepts: Callable[[Any], bool], items: str) -> Rule:
    return Rule(
        lambda value: isinstance(value, (list, tuple)) and all(map(accepts, value)),
        f"a list of {items}",
    )


ID = Rule(is_id, "an id, of letters, digits, _ and -")
TEXT = Rule(lambda value: isinstance(value, str), "a string")

Text = Annotated[str, TEXT]
TextList = Annotated[Sequence[str], _list_of(TEXT.accepts, "strings")]
# An empty string counts as no preset.
OptionalId = Annotated[str, Rule(lambda value: value == "" or is_id(value), ID.expected)]
IdList = Annotated[Sequence[str], _list_of(is_id, "ids, of letters, digits, _ and -")]
YesNo = Annotated[bool, Rule(lambda value: isinstance(value, bool), "True or False")]
Minutes = Annotated[
    int,
    Rule(
        lambda value: type(value) is int and value > 0 and value % 15 == 0,
        "a multiple of 15 (minutes)",
    ),
]
Rubric = Annotated[Mapping[str, Any], Rule(lambda value: isinstance(value, Mapping), "an object")]
_Format = Literal["examplary_json", "qti_v2p1", "qti_v3p0"]
_FORMATS = get_args(_Format)
OutputFormat = Annotated[
    _Format,
    Rule(lambda value: value in _FORMATS, f"one of {', '.join(map(repr, _FORMATS))}", _FORMATS),
]
ExamId = Annotated[str, _starting_with("exam_")]
# `edit-exam` has the same ids, but its page does not state the prefix as a rule (section 9.5).
AnyExamId = Annotated[str, ID]
PracticeSpaceId = Annotated[str, _starting_with("space_")]


def checked_grant(resource: str) -> str:
    """Return the id of an exam or a space to which this app may grant access.

    Raises ExamplaryValidationError for other resources, such as an organisation: an id from a
    browser must not give more access than an embed needs.
    """
    if not (is_id(resource, "exam_") or is_id(resource, "space_")):
        raise ExamplaryValidationError(
            "grant_access",
            "needs an exam or a space, whose id starts with 'exam_' or 'space_', not "
            f"{_shortened(resource)}",
        )
    return resource


def refusal(name: str, rule: Rule, value: Any) -> ExamplaryValidationError:
    return ExamplaryValidationError(name, f"must be {rule.expected}, not {_shortened(value)}")


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
