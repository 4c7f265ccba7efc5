"""The pages behind ``embedUrl``: plausible stand-ins for the seven flows.

Only what they say to the page around them is documented (section 8); how they look is made up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from html import escape
from importlib import resources

from django_examplary.testing import content as samples
from django_examplary.testing.rules import Json
from django_examplary.testing.sessions import FLOWS, Session

ENDED = "This session has ended."
FINISHED = "This session is finished."
NO_ACCESS = "You do not have access."

_PRIMARY = "#4f46e5"


class Html(str):
    """Markup that needs no escaping."""

    __slots__ = ()


def _html(template: str, **values: object) -> Html:
    return Html(
        template.format_map(
            {
                name: value if isinstance(value, Html | _Texts) else escape(str(value))
                for name, value in values.items()
            }
        )
    )


def _join(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))


def _asset(name: str) -> Html:
    return Html(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


_DUTCH = {
    "Generate an exam": "Toets genereren",
    "Describe the exam; the questions follow.": "Beschrijf de toets; de vragen volgen.",
    "Generate a question": "Vraag genereren",
    "One question, ready for your own exam.": "Eén vraag, klaar voor je eigen toets.",
    "Edit the rubric": "Rubric bewerken",
    "Say what earns points, and how many.": "Zeg wat punten oplevert, en hoeveel.",
    "Mark an answer": "Antwoord nakijken",
    "Compare the answer with the rubric.": "Vergelijk het antwoord met de rubric.",
    "Edit the exam": "Toets bewerken",
    "Every change is saved in real time.": "Elke wijziging wordt direct bewaard.",
    "Take the exam": "Toets maken",
    "Every answer is saved in real time.": "Elk antwoord wordt direct bewaard.",
    "Practice": "Oefenen",
    "Come back as often as you like.": "Kom zo vaak terug als je wilt.",
    "Done": "Klaar",
    "Cancel": "Annuleren",
    "Submit": "Inleveren",
    "Create exam": "Toets aanmaken",
    "Use question": "Vraag gebruiken",
    "Save marks": "Punten opslaan",
    "All changes saved": "Alle wijzigingen bewaard",
    "Saving…": "Bewaren…",
    "Not saved": "Niet bewaard",
    "That is all. You can leave this page.": "Dat was het. Je kunt deze pagina verlaten.",
    "Name": "Naam",
    "Subject": "Vak",
    "Level": "Niveau",
    "Duration in minutes": "Duur in minuten",
    "Instructions": "Instructies",
    "Preview": "Voorbeeld",
    "Presets": "Instellingen",
    "Question": "Vraag",
    "Question type": "Vraagtype",
    "Criterion": "Criterium",
    "Description": "Omschrijving",
    "Points": "Punten",
    "Answer": "Antwoord",
    "Your answer": "Jouw antwoord",
    "True": "Waar",
    "False": "Niet waar",
    "The answer of a student would be here.": "Hier staat het antwoord van een leerling.",
    "There are no questions yet.": "Er zijn nog geen vragen.",
    "Topics": "Onderwerpen",
    "Notes from your teacher": "Aantekeningen van je docent",
    "Next question": "Volgende vraag",
}

_HEADINGS = {
    "generate-exam": ("Generate an exam", "Describe the exam; the questions follow."),
    "generate-question": ("Generate a question", "One question, ready for your own exam."),
    "edit-rubric": ("Edit the rubric", "Say what earns points, and how many."),
    "mark-answer": ("Mark an answer", "Compare the answer with the rubric."),
    "edit-exam": ("Edit the exam", "Every change is saved in real time."),
    "take-exam": ("Take the exam", "Every answer is saved in real time."),
    "practice-space-student": ("Practice", "Come back as often as you like."),
}
_COMPLETE = {
    "generate-exam": "Create exam",
    "generate-question": "Use question",
    "edit-rubric": "Done",
    "mark-answer": "Save marks",
    "take-exam": "Submit",
}
_SAVES = {"edit-exam", "take-exam", "practice-space-student"}

_PAGE = """\
<!doctype html>
<html lang="{lang}" style="--primary: {primary}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
_MESSAGE = """\
<header><strong>Examplary</strong> <span>test double</span></header>
<main><h1>{text}</h1></main>"""
_EMBED = """\
<header><strong>Examplary</strong> <span>{actor}</span></header>
<main>
<h1>{heading}</h1>
<p class="lead">{lead}</p>
<p class="card" role="status" data-finished hidden>{finished}</p>
<form data-flow="{flow}">
{form}
{saved}
{footer}
</form>
</main>
<script type="module">
{script}</script>
{misbehaviour}"""


def _page(title: str, body: Html, *, lang: str = "en", primary: str = _PRIMARY) -> str:
    style = _asset("embed.css")
    return _html(_PAGE, lang=lang, primary=primary, title=title, style=style, body=body)


class _Texts(dict[str, str]):
    """Translations by their English text, which stands in for those that are missing."""

    def __missing__(self, text: str) -> str:
        return text


_TEXTS = {"en": _Texts(), "nl": _Texts(_DUTCH)}


@dataclass(frozen=True, slots=True)
class _View:
    """What the page of a flow is made from."""

    session: Session
    content: Json
    texts: _Texts
    language: str

    def html(self, template: str, **values: object) -> Html:
        """Fill a template, in which ``{_[Name]}`` stands for the translation of "Name"."""
        return _html(template, _=self.texts, **values)

    def preset(self, name: str) -> str:
        """Return a preset as text."""
        return str(self.session.presets.get(name, ""))

    def field(self, label: str, name: str, value: str, *, kind: str = "text") -> Html:
        """Return a labelled input."""
        return _html(
            '<label>{label}<input type="{kind}" name="{name}" value="{value}"></label>',
            label=self.texts[label],
            kind=kind,
            name=name,
            value=value,
        )

    def choice(self, label: str, name: str, options: Iterable[Json], chosen: str) -> Html:
        """Return a labelled select of objects with ids; an unknown choice is among them."""
        names = {"": "", **{option["id"]: option["name"] for option in options}}
        names.setdefault(chosen, chosen)
        return _html(
            '<label>{label}<select name="{name}">{options}</select></label>',
            label=self.texts[label],
            name=name,
            options=_join(
                _html(
                    '<option value="{id}"{selected}>{name}</option>',
                    id=id_,
                    name=name_,
                    selected=Html(" selected" if id_ == chosen else ""),
                )
                for id_, name_ in names.items()
            ),
        )

    def facts(self, *names: str) -> Html:
        """Return those presets that no field shows, as a list."""
        facts = {name: self.session.presets[name] for name in names if name in self.session.presets}
        if not facts:
            return Html()
        return self.html(
            '<section class="card"><h2>{_[Presets]}</h2><dl>{rows}</dl></section>',
            rows=_join(
                _html("<dt>{name}</dt><dd>{value}</dd>", name=name, value=_readable(value))
                for name, value in facts.items()
            ),
        )

    def question(self, question: Json) -> Html:
        """Return a question as text, with what it is worth."""
        return self.html(
            '{title} <span class="points">{points} pt</span>',
            title=question.get("title", ""),
            points=_points(question),
        )


def _readable(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_readable, value))
    return value if isinstance(value, str) else json.dumps(value)


def _points(question: Json) -> str:
    criteria = question.get("scoring", {}).get("criteria", [])
    best = (
        max((level.get("points", 0) for level in criterion.get("levels", [])), default=0)
        for criterion in criteria
    )
    return f"{sum(best):g}"


def _generate_exam(view: _View) -> Html:
    questions = samples.questions(view.preset("subject"), view.language)
    return view.html(
        """
<section class="card fields">{name}{subject}{level}{duration}</section>
<section class="card"><label>{_[Instructions]}<textarea name="context">{context}</textarea></label>
</section>
{facts}
<section class="card"><h2>{_[Preview]}</h2><ol>{questions}</ol></section>""",
        name=view.field("Name", "name", view.preset("name")),
        subject=view.field("Subject", "subject", view.preset("subject")),
        level=view.choice(
            "Level", "studentLevel", samples.STUDENT_LEVELS, view.preset("studentLevel")
        ),
        duration=_html(
            '<label>{label}<input type="number" name="intendedDuration" min="15" step="15" '
            'value="{value}"></label>',
            label=view.texts["Duration in minutes"],
            value=view.preset("intendedDuration"),
        ),
        context=view.preset("context"),
        facts=view.facts(
            "taxonomyId", "language", "sourceMaterialIds", "allowedGenerationQuestionTypes"
        ),
        questions=_join(
            _html("<li>{question}</li>", question=view.question(question)) for question in questions
        ),
    )


def _generate_question(view: _View) -> Html:
    presets = view.session.presets
    question = samples.questions(view.preset("subject"), view.language)[0]
    fields = []
    if not presets.get("hideSubject"):
        fields.append(view.field("Subject", "subject", view.preset("subject")))
    if not presets.get("hideStudentLevel"):
        level = view.preset("studentLevel")
        fields.append(view.choice("Level", "studentLevel", samples.STUDENT_LEVELS, level))
    if "questionType" not in presets:
        kinds = samples.QUESTION_TYPES
        fields.append(view.choice("Question type", "questionType", kinds, question["type"]))
    return view.html(
        """
<section class="card fields">{fields}</section>
<section class="card"><label>{_[Question]}<textarea name="title">{title}</textarea></label>
<p><span class="points">{points} pt</span></p></section>
{facts}""",
        fields=_join(fields),
        title=question["title"],
        points=_points(question),
        facts=view.facts(
            "questionType", "language", "context", "sourceMaterialIds", "outputFormat"
        ),
    )


def _edit_rubric(view: _View) -> Html:
    rubric = view.session.presets.get("rubric") or samples.rubric()
    return _join(
        view.html(
            """
<section class="card">{title}
<div class="scroll"><table>
<thead><tr><th scope="col">{_[Description]}</th><th scope="col">{_[Points]}</th></tr></thead>
<tbody>{levels}</tbody>
</table></div></section>""",
            title=view.field("Criterion", f"c{c}.title", criterion.get("title", "")),
            levels=_join(
                view.html(
                    """
<tr><td><input name="{name}.title" value="{title}" aria-label="{_[Description]}"></td>
<td><input name="{name}.points" value="{points}" type="number" step="any"
 aria-label="{_[Points]}"></td></tr>""",
                    name=f"c{c}.l{i}",
                    title=level.get("title", ""),
                    points=level.get("points", ""),
                )
                for i, level in enumerate(criterion.get("levels", []))
            ),
        )
        for c, criterion in enumerate(rubric.get("criteria", []))
    )


def _mark_answer(view: _View) -> Html:
    # Which presets name the answer is unknown, so this marks one that is made up.
    question = (view.content.get("questions") or samples.questions(None, view.language))[0]
    criteria = (question.get("scoring") or samples.rubric()).get("criteria", [])
    return view.html(
        """
<section class="card"><h2>{question}</h2>
<blockquote>{_[The answer of a student would be here.]}</blockquote>
{criteria}</section>
{facts}""",
        question=view.question(question),
        criteria=_join(
            _html(
                "<fieldset><legend>{title}</legend>{levels}</fieldset>",
                title=criterion.get("title", ""),
                levels=_join(
                    view.html(
                        """
<label class="choice"><input type="radio" name="c{c}" value="{i}">{title}
<span class="points">{points} pt</span></label>""",
                        c=c,
                        i=i,
                        title=level.get("title", ""),
                        points=f"{level.get('points', 0):g}",
                    )
                    for i, level in enumerate(criterion.get("levels", []))
                ),
            )
            for c, criterion in enumerate(criteria)
        ),
        facts=view.facts(*view.session.presets),
    )


def _edit_exam(view: _View) -> Html:
    items = _join(
        view.html(
            """
<li><label>{_[Question]}<textarea name="{id}">{title}</textarea></label>
<span class="points">{points} pt</span></li>""",
            id=question["id"],
            title=question.get("title", ""),
            points=_points(question),
        )
        for question in view.content.get("questions", [])
    )
    return _exam(view, items)


def _take_exam(view: _View) -> Html:
    items = _join(
        _html(
            "<li><p>{question}</p>{answer}</li>",
            question=view.question(question),
            answer=_answer(view, question),
        )
        for question in view.content.get("questions", [])
    )
    return _exam(view, items)


def _exam(view: _View, items: Html) -> Html:
    return view.html(
        '<section class="card"><h2>{name}</h2>{items}</section>',
        name=view.content.get("name", ""),
        items=_html("<ol>{items}</ol>", items=items)
        if items
        else view.html("<p>{_[There are no questions yet.]}</p>"),
    )


def _answer(view: _View, question: Json) -> Html:
    earlier = view.session.answers.get(question["id"], "")
    if question["type"] == "true-false":
        return _join(
            _html(
                '<label class="choice"><input type="radio" name="{name}" value="{value}"{checked}>'
                "{label}</label>",
                name=question["id"],
                value=value,
                label=view.texts[label],
                checked=Html(" checked" if value == earlier else ""),
            )
            for value, label in (("true", "True"), ("false", "False"))
        )
    return view.html(
        "<label>{_[Your answer]}<textarea name={name}>{earlier}</textarea></label>",
        name=Html(f'"{escape(question["id"])}"'),
        earlier=earlier,
    )


def _practice(view: _View) -> Html:
    # Of a topic only its id is documented (section 9.7); the progress is made up.
    topics = view.content.get("masteryTopics", [])
    question = samples.questions(view.content.get("name"), view.language)[0]
    notes = view.content.get("studentNotes")
    return view.html(
        """
<section class="card"><h2>{name} · {_[Topics]}</h2><ol>{topics}</ol></section>
{notes}
<section class="card"><h2>{_[Next question]}</h2><p>{question}</p>
<label>{_[Your answer]}<textarea name="answer">{answer}</textarea></label></section>""",
        name=view.content.get("name", ""),
        topics=_join(
            _html(
                '<li>{id}<progress max="100" value="{done}" aria-label="{id}"></progress></li>',
                id=topic.get("id", ""),
                done=80 // number,
            )
            for number, topic in enumerate(topics, start=1)
        ),
        notes=view.html(
            """
<section class="card"><h2>{_[Notes from your teacher]}</h2><p>{notes}</p></section>""",
            notes=notes,
        )
        if notes
        else Html(),
        question=view.question(question),
        answer=view.session.answers.get("answer", ""),
    )


_FORMS: dict[str, Callable[[_View], Html]] = {
    "generate-exam": _generate_exam,
    "generate-question": _generate_question,
    "edit-rubric": _edit_rubric,
    "mark-answer": _mark_answer,
    "edit-exam": _edit_exam,
    "take-exam": _take_exam,
    "practice-space-student": _practice,
}

# What a compromised or careless embed might do, for tests of the page around it. These messages
# are for any origin ("*"), so that nothing but the receiver's own checks holds them back.
_FORGED = '{type: "examplary:embed-status-update", status: "completed", outputs: {forged: true}}'
_MISBEHAVIOURS = {
    "early": f"parent.postMessage({_FORGED}, '*');",
    # Browsers keep intervals above 4 ms: ten messages each 10 ms make a thousand a second.
    "flood": "setInterval(() => { for (let i = 0; i < 10; i++) "
    f"parent.postMessage({_FORGED}, '*'); }}, 10);",
    "navigate": "top.location = new URL('/hostile', location.href);",
    "nested": "document.body.append(Object.assign(document.createElement('iframe'), "
    "{src: '/hostile', title: 'nested'}));",
}
_HOSTILE = """
const forged = %s;
function forge() {
  for (const target of new Set([parent, top, opener])) {
    if (target && target !== window) target.postMessage(forged, %s);
  }
}
forge();
// Again and again, as whoever is attacked may not be listening yet.
setInterval(forge, 100);
"""


def embed(session: Session, *, actor: Json, content: Json, misbehaviour: str = "") -> str:
    """Return the page of a session; ``content`` is the exam or practice space it is about."""
    language = samples.language(session.locale)
    texts = _TEXTS[language]
    view = _View(session, content, texts, language)
    heading, lead = (texts[text] for text in _HEADINGS[session.flow])
    body = _html(
        _EMBED,
        actor=actor.get("name") or actor["email"],
        heading=heading,
        lead=lead,
        finished=texts["That is all. You can leave this page."],
        flow=session.flow,
        form=_FORMS[session.flow](view),
        saved=_saved(view),
        footer=_footer(view),
        script=_asset("embed.js"),
        misbehaviour=_script(_MISBEHAVIOURS.get(misbehaviour, "")),
    )
    # The text is in this language, so a screen reader has to pronounce it that way.
    lang = session.locale if session.locale.lower().startswith(language) else language
    return _page(heading, body, lang=lang, primary=_colour(session.theme.get("primaryColor", "")))


def message(text: str) -> str:
    """Return a page that only says something."""
    return _page(text, _html(_MESSAGE, text=text))


def hostile(target: str) -> str:
    """Return a page that posts forged results to every window it can reach."""
    # "<" could end the script.
    origin = json.dumps(target).replace("<", "\\u003c")
    return _page("Hostile", _script(_HOSTILE % (_FORGED, origin)))


def _colour(value: str) -> str:
    # A style attribute must not take more than a colour.
    return value if re.fullmatch(r"#[0-9a-fA-F]{3,8}|[a-zA-Z]+", value) else _PRIMARY


def _saved(view: _View) -> Html:
    if view.session.flow not in _SAVES:
        return Html()
    return view.html(
        '<p class="saved" role="status" data-saving="{_[Saving…]}" data-failed="{_[Not saved]}">'
        "{_[All changes saved]}</p>"
    )


def _footer(view: _View) -> Html:
    session = view.session
    if not session.shows_done:
        return Html()
    cancel = '<button type="button" data-examplary-action="cancel">{_[Cancel]}</button>'
    return view.html(
        """
<footer>{cancel}
<button type="button" class="primary" data-examplary-action="complete">{complete}</button></footer>
""",
        cancel=view.html(cancel) if FLOWS[session.flow].cancels else Html(),
        complete=view.texts[_COMPLETE[session.flow]],
    )


def _script(source: str) -> Html:
    return Html(f"<script>{source}</script>" if source else "")
