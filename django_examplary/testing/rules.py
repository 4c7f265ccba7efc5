"""The rules for request bodies, transcribed from the OpenAPI document beside this file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

WORKSPACE_ROLES = ("owner", "admin", "teacher", "student", "member")
# From the most powerful to the least.
CONTENT_ROLES = ("owner", "manager", "editor", "viewer", "participant")

# Verbatim from the reference of POST /users.
EMAIL_PATTERN = (
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}$"
)


class Refusal(Exception):
    """The API refuses a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule for one field, as a test and in words."""

    accepts: Callable[[Any], bool]
    expected: str


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_origin(value: object) -> bool:
    # A wildcard, a list or "null" is nowhere documented.
    return isinstance(value, str) and bool(re.fullmatch(r"https?://[^\s/?#@\\*,]+", value))


def _is_absolute_url(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _is_list(value: object, accepts: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(accepts, value))


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _has(value: object, fields: Mapping[str, Callable[[Any], bool]]) -> bool:
    """Whether it is an object whose fields, where present, pass these tests."""
    return isinstance(value, dict) and all(
        accepts(value[name]) for name, accepts in fields.items() if name in value
    )


def _is_level(value: object) -> bool:
    texts = dict.fromkeys(("id", "title", "description"), _is_text)
    return _has(value, {**texts, "points": _is_number})


def _is_criterion(value: object) -> bool:
    levels = {"levels": lambda levels: _is_list(levels, _is_level)}
    return _has(value, {"id": _is_text, "title": _is_text, **levels})


def _is_rubric(value: object) -> bool:
    criteria = {"criteria": lambda criteria: _is_list(criteria, _is_criterion)}
    return _has(value, {"rubricType": _is_text, "modelAnswer": _is_text, **criteria})


def _is_question(value: object) -> bool:
    return isinstance(value, dict) and "type" in value and _has(value, _QUESTION)


_QUESTION: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("id", "type", "title", "description", "externalId"), _is_text),
    **dict.fromkeys(("settings", "metadata"), _is_object),
    "v": _is_number,
    "tags": lambda tags: _is_list(tags, _is_text),
    "scoring": _is_rubric,
}


def _is_grant(value: object) -> bool:
    return (
        isinstance(value, dict)
        and ACTOR.accepts(value.get("actor"))
        and value.get("role") in CONTENT_ROLES
    )


def _text(pattern: str, expected: str) -> Rule:
    return Rule(
        lambda value: isinstance(value, str) and bool(re.fullmatch(pattern, value)), expected
    )


def _one_of(*values: str) -> Rule:
    return Rule(lambda value: value in values, f"one of {', '.join(values)}")


def _list_of(accepts: Callable[[Any], bool], expected: str) -> Rule:
    return Rule(lambda value: _is_list(value, accepts), expected)


def _or_null(rule: Rule) -> Rule:
    return Rule(lambda value: value is None or rule.accepts(value), f"{rule.expected} or null")


STRING = Rule(_is_text, "a string")
BOOLEAN = Rule(lambda value: isinstance(value, bool), "a boolean")
OBJECT = Rule(_is_object, "an object")
STRINGS = _list_of(_is_text, "an array of strings")
OBJECTS = _list_of(_is_object, "an array of objects")
URL = Rule(_is_absolute_url, "an absolute URL")
ORIGIN = Rule(_is_origin, "an origin, without a path")
ACTOR = _text(r"(user|group|org)_.+", "the id of a user, a group or an organisation")
EMAIL = _text(EMAIL_PATTERN, "an e-mail address")
PAGE = Rule(lambda value: _is_number(value) and value >= 1, "a number of at least 1")
RUBRIC = Rule(_is_rubric, "a rubric")
QUESTIONS = _list_of(_is_question, "an array of questions, each with a type")
GRANTS = _list_of(_is_grant, "an array of actors, each with a role")

USER = {
    "email": EMAIL,
    "name": _text(r"(?s).{1,100}", "a string of 1 to 100 characters"),
    "role": _one_of(*WORKSPACE_ROLES),
    "sendInvite": BOOLEAN,
}
ME = {"name": USER["name"]}
PERMISSION_BY_ID = {
    "actor": ACTOR,
    "role": _one_of(*CONTENT_ROLES),
}
PERMISSION_BY_EMAIL = {
    "email": EMAIL,
    "role": _one_of(*CONTENT_ROLES),
    "sendInvite": BOOLEAN,
}
EXAM = {
    "name": _text(r"(?s).+", "a string of at least 1 character"),
    **dict.fromkeys(
        ("context", "studentLevel", "subject", "language", "taxonomyId"), _or_null(STRING)
    ),
    "sourceMaterialIds": _or_null(STRINGS),
    "allowedGenerationQuestionTypes": _or_null(STRINGS),
    "metadata": _or_null(OBJECT),
    "questions": _or_null(QUESTIONS),
    "permissions": _or_null(GRANTS),
}
PRACTICE_SPACE = {
    "name": STRING,
    "studentNotes": STRING,
    "sourceMaterialIds": STRINGS,
    "masteryTopics": OBJECTS,
    "permissions": GRANTS,
}
SOURCE_MATERIAL = {
    **dict.fromkeys(("type", "name", "contentType", "expires", "externalId"), STRING),
    "url": URL,
    "size": Rule(_is_number, "a number"),
}
SLICE = {"startPage": PAGE, "endPage": PAGE, "name": STRING}
THEME = {"primaryColor": STRING, "locale": STRING}

# The presets of each flow (section 9). Those of mark-answer are unknown, so it accepts any.
PRESETS: dict[str, dict[str, Rule]] = {
    "generate-exam": {
        **dict.fromkeys(
            ("name", "subject", "studentLevel", "taxonomyId", "language", "context"), STRING
        ),
        "intendedDuration": Rule(
            # Whether the real API insists on the steps of 15 is unknown.
            lambda value: _is_number(value) and value % 15 == 0,
            "a number of minutes in steps of 15",
        ),
        "sourceMaterialIds": STRINGS,
        "allowedGenerationQuestionTypes": STRINGS,
    },
    "edit-rubric": {"showDoneButton": BOOLEAN, "rubric": RUBRIC},
    "generate-question": {
        **dict.fromkeys(("subject", "studentLevel", "language", "context", "questionType"), STRING),
        "sourceMaterialIds": STRINGS,
        "hideSubject": BOOLEAN,
        "hideStudentLevel": BOOLEAN,
        "outputFormat": _one_of("examplary_json", "qti_v2p1", "qti_v3p0"),
    },
    "mark-answer": {},
    "edit-exam": {"examId": STRING},
    "take-exam": {"examId": _text(r"exam_.+", "the id of an exam, starting with exam_")},
    "practice-space-student": {
        "practiceSpaceId": _text(r"space_.+", "the id of a practice space, starting with space_")
    },
}
EMBED_SESSION = {
    "flow": _one_of(*PRESETS),
    "actor": _text(r"user_.+", "the id of a user, starting with user_"),
    "presets": OBJECT,
    "theme": OBJECT,
    "metadata": OBJECT,
    "returnUrl": URL,
    "allowedOrigin": ORIGIN,
}


def check(
    content: object,
    rules: Mapping[str, Rule],
    *,
    required: Collection[str] = (),
    within: str = "",
) -> Json:
    """Return ``content`` if it keeps the rules; otherwise raise Refusal, naming the field."""
    if not isinstance(content, dict):
        raise Refusal(400, "The body must be a JSON object.")
    for name in required:
        if name not in content:
            raise Refusal(400, f"{within}{name} is required.")
    for name, rule in rules.items():
        if name in content and not rule.accepts(content[name]):
            raise Refusal(400, f"{within}{name} must be {rule.expected}.")
    return content
