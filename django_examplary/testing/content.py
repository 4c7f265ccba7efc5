"""Sample content: the lists, questions, rubrics and exports of the fake."""

from __future__ import annotations

import io
import zipfile
from xml.sax.saxutils import escape, quoteattr

from django_examplary.testing.rules import Json
from django_examplary.testing.texts import texts

# The format of these lists is not documented (section 1); the ids are from examples.
STUDENT_LEVELS = [
    {"id": "us_high_school_lower", "name": "High school, lower years (US)"},
    {"id": "us_undergraduate", "name": "Undergraduate (US)"},
]
TAXONOMIES = [{"id": "taxonomy_bloom_revised", "name": "Bloom's taxonomy (revised)"}]
# Some of the built-in types of section 10.
_QUESTION_TYPES = (
    "single-line-text",
    "multi-line-text",
    "essay",
    "multiple-choice-single-answer",
    "multiple-choice-multiple-answers",
    "true-false",
    "examplary.expansion.matching",
)
# Names and descriptions are translated into English and Dutch (section 18).
QUESTION_TYPES: list[Json] = [
    {
        "id": kind,
        "name": {"en": name_en, "nl": name_nl},
        "description": {"en": f"{name_en}: a built-in type.", "nl": f"{name_nl}: ingebouwd type."},
    }
    for kind in _QUESTION_TYPES
    for name_en, name_nl in [(texts("en")[f"type {kind}"], texts("nl")[f"type {kind}"])]
]

# The types of the questions that the fake generates, and their points.
_QUESTIONS = {"single-line-text": 2, "true-false": 1, "multi-line-text": 4}


def rubric(language: str, points: float = 2) -> Json:
    """Return a small rubric in the format of section 11."""
    names = texts(language)
    levels = {"correct": points, "partly correct": _number(points / 2), "incorrect": 0}
    return {
        "rubricType": "analytical",
        "criteria": [
            {
                "id": "c1",
                "title": names["correctness"],
                "levels": [
                    {"id": f"c1l{number}", "title": names[name], "points": worth}
                    for number, (name, worth) in enumerate(levels.items(), start=1)
                ],
            },
        ],
    }


def edited(rubric: Json, answers: Json) -> Json:
    """Return a rubric with typed values; ``c0.l1.points`` is a field of the rubric page."""
    for c, criterion in enumerate(rubric.get("criteria", [])):
        criterion["title"] = answers.get(f"c{c}.title", criterion.get("title", ""))
        for i, level in enumerate(criterion.get("levels", [])):
            level["title"] = answers.get(f"c{c}.l{i}.title", level.get("title", ""))
            typed = answers.get(f"c{c}.l{i}.points")
            if typed:
                level["points"] = _number(float(typed))
    return rubric


def _number(value: float) -> float:
    """Return whole numbers as integers, so that JSON and pages show them without a fraction."""
    return int(value) if value.is_integer() else value


def questions(subject: str | None, language: str) -> list[Json]:
    """Return the questions that the fake generates for a subject, without ids."""
    names = texts(language)
    subject = subject or names["any subject"]
    return [
        {
            "type": kind,
            "title": names[kind].format(subject=subject),
            "scoring": rubric(language, points),
        }
        for kind, points in _QUESTIONS.items()
    ]


_QTI_2 = """\
<?xml version="1.0" encoding="UTF-8"?>
<assessmentItem xmlns="http://www.imsglobal.org/xsd/imsqti_v2p1" identifier={identifier} \
title={title} adaptive="false" timeDependent="false">
  <responseDeclaration identifier="RESPONSE" cardinality="single" baseType="string"/>
  <itemBody>
    <extendedTextInteraction responseIdentifier="RESPONSE">
      <prompt>{prompt}</prompt>
    </extendedTextInteraction>
  </itemBody>
</assessmentItem>
"""
_QTI_3 = """\
<?xml version="1.0" encoding="UTF-8"?>
<qti-assessment-item xmlns="http://www.imsglobal.org/xsd/imsqtiasi_v3p0" \
identifier={identifier} title={title} adaptive="false" time-dependent="false">
  <qti-response-declaration identifier="RESPONSE" cardinality="single" base-type="string"/>
  <qti-item-body>
    <qti-extended-text-interaction response-identifier="RESPONSE">
      <qti-prompt>{prompt}</qti-prompt>
    </qti-extended-text-interaction>
  </qti-item-body>
</qti-assessment-item>
"""
_QTI = {"qti_v2p1": _QTI_2, "qti_v3p0": _QTI_3}

_MANIFEST = """\
<?xml version="1.0" encoding="UTF-8"?>
<manifest xmlns="http://www.imsglobal.org/xsd/qti/qtiv3p0/imscp_v1p1" identifier={identifier}>
  <organizations/>
  <resources>
{resources}
  </resources>
</manifest>
"""
_RESOURCE = '    <resource identifier={identifier} type="imsqti_item_xmlv3p0" href={href}/>'


def qti_item(question: Json, output_format: str) -> str:
    """Return a question as sample QTI XML, always as an open question."""
    title = str(question.get("title", ""))
    return _QTI[output_format].format(
        identifier=quoteattr(question["id"]), title=quoteattr(title), prompt=escape(title)
    )


def qti_package(exam: Json) -> bytes:
    """Return an exam as a QTI 3 package: a manifest, and one item for each question."""
    items = {f"items/{question['id']}.xml": question for question in exam["questions"]}
    manifest = _MANIFEST.format(
        identifier=quoteattr(exam["id"]),
        resources="\n".join(
            _RESOURCE.format(identifier=quoteattr(question["id"]), href=quoteattr(path))
            for path, question in items.items()
        ),
    )
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("imsmanifest.xml", manifest)
        for path, question in items.items():
            archive.writestr(path, qti_item(question, "qti_v3p0"))
    return package.getvalue()
