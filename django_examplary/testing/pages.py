"""Render the pages of ``embedUrl``: stand-ins for the seven flows, from ``templates/``.

Only their messages to the surrounding page are documented (section 8). Their design is invented.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from django.template import Context, Engine

from django_examplary.testing import content as samples
from django_examplary.testing.rules import Json
from django_examplary.testing.sessions import FLOWS, Session
from django_examplary.testing.texts import choose_language, texts

_PRIMARY = "#4f46e5"


@functools.cache
def _engine() -> Engine:
    # A separate engine needs no settings, and ignores those of a project.
    return Engine(dirs=[str(Path(__file__).parent / "templates")])


def _render(name: str, context: Json) -> str:
    # Localised formatting would read the settings.
    page = _engine().get_template(f"{name}.html")
    return page.render(Context(context, use_l10n=False, use_tz=False))


def message(name: str, locale: str = "") -> str:
    """Return a page that shows the text with this name, or ``name`` itself if there is none."""
    language = choose_language(locale)
    names = texts(language)
    return _render(
        "message",
        {
            "lang": language,
            "primary": _PRIMARY,
            "title": names.get(name, name),
            "stand_in": names["stand-in"],
            "real": names["message real"],
        },
    )


def embed(session: Session, *, actor: Json, content: Json) -> str:
    """Return the page of a session; ``content`` is its exam or practice space, or ``{}``."""
    language = choose_language(session.locale)
    names = texts(language)
    flow, presets = session.flow, session.presets
    known = session.locale.lower().startswith(language)
    subject = presets.get("subject") or content.get("name")
    # How this flow completes is unknown (section 9.4), so the site's Done button ends it.
    offers_done = session.shows_done and flow != "mark-answer"
    questions = content.get("questions", [])
    if flow not in ("edit-exam", "take-exam"):
        questions = questions or samples.questions(subject, language)
    return _render(
        flow,
        {
            # The language of the page, for screen readers.
            "lang": session.locale if known else language,
            "primary": _colour(session.theme.get("primaryColor", "")),
            "t": names,
            "stand_in": names["stand-in"],
            "real": names[f"{flow} real"],
            "title": names[f"{flow} heading"],
            "lead": names[f"{flow} lead"],
            "complete": names[f"{flow} complete"] if offers_done else "",
            "cancels": FLOWS[flow].cancels,
            "saves": flow in ("edit-exam", "take-exam", "practice-space-student", "mark-answer"),
            "actor": actor.get("name") or actor["email"],
            "flow": flow,
            "presets": presets,
            "facts": _facts(flow, presets),
            "content": content,
            "levels": _options(
                {each["id"]: each["name"] for each in samples.STUDENT_LEVELS},
                presets.get("studentLevel", ""),
            ),
            "question_types": _options(
                {each["id"]: names[f"type {each['id']}"] for each in samples.QUESTION_TYPES}
            ),
            "questions": [
                _question(question, session.answers.get(question.get("id"), ""), session.answers)
                for question in questions
            ],
            "rubric": presets.get("rubric") or samples.rubric(language),
            # Only the id of a topic is documented (section 9.7), so the progress is invented.
            "topics": [
                {"id": topic.get("id", ""), "done": 80 // number}
                for number, topic in enumerate(content.get("masteryTopics", []), start=1)
            ],
            "answer": session.answers.get("answer", ""),
        },
    )


def _colour(value: str) -> str:
    # Only a colour may go into the style attribute.
    return value if re.fullmatch(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]+", value) else _PRIMARY


# The presets that a page shows as a list because it has no field for them.
_LISTED = {
    "generate-exam": (
        "taxonomyId",
        "language",
        "sourceMaterialIds",
        "allowedGenerationQuestionTypes",
    ),
    "generate-question": (
        "questionType",
        "language",
        "context",
        "sourceMaterialIds",
        "outputFormat",
    ),
}


def _facts(flow: str, presets: Json) -> list[tuple[str, str]]:
    # The presets of mark-answer are unknown, so its page lists all but the exam that it shows.
    listed = presets.keys() - {"examId"} if flow == "mark-answer" else _LISTED.get(flow, ())
    return [(name, _readable(presets[name])) for name in presets if name in listed]


def _readable(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_readable, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _options(names: dict[str, str], chosen: str = "") -> list[tuple[str, str]]:
    """Return the options of a select: empty, these names, and the chosen id if it is unknown."""
    return list({"": "", **names, chosen: names.get(chosen, chosen)}.items())


def _question(question: Json, answer: str, marks: Json) -> dict[str, Any]:
    """Return a question with its points as text, in total and for each level.

    ``marks`` are the levels that the teacher chose: ``{"c0": "2"}`` selects the second level of the
    first criterion.
    """
    criteria = [
        {
            **criterion,
            "levels": [
                {
                    **level,
                    "points": f"{level.get('points', 0):g}",
                    "chosen": marks.get(f"c{c}") == str(number),
                }
                for number, level in enumerate(criterion.get("levels", []), start=1)
            ],
        }
        for c, criterion in enumerate(question.get("scoring", {}).get("criteria", []))
    ]
    total = sum(
        max((float(level["points"]) for level in criterion["levels"]), default=0)
        for criterion in criteria
    )
    scoring = {"criteria": criteria}
    return {**question, "scoring": scoring, "points": f"{total:g}", "answer": answer}
