"""Find the open questions of the API contract that a document answers, by number in section 14."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django_examplary.contract.baseline import OUTPUTS
from django_examplary.contract.document import Document, Field, Operation, Schema, as_mapping
from django_examplary.contract.validation import Validator

#: A number of section 14, the location in the document, and its statement.
Fact = tuple[int, str, str]

#: The open questions that a document could answer.
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 23, 24, 25, 26, 28, 29, 31)

# The success of GET, permissions and source materials is documented.
_UNKNOWN_SUCCESSES = (
    ("POST", "/users"),
    ("POST", "/embed-sessions"),
    ("DELETE", "/embed-sessions/{}"),
    ("POST", "/exams"),
    ("DELETE", "/exams/{}"),
    ("POST", "/practice-spaces"),
)
_REFUSALS = {
    ("POST", "/users"): ((4, ("409", "422")),),
    ("POST", "/embed-sessions"): ((7, ("401", "402", "403")), (31, ("404", "422"))),
    ("GET", "/embed-sessions/{}"): ((10, ("404", "410")),),
}
# The documented fields of these responses.
_ANSWERS = {
    ("POST", "/users"): (3, {"id"}),
    ("POST", "/practice-spaces"): (13, set[str]()),
    ("GET", "/exams/{}"): (16, set[str]()),
    ("POST", "/exams/{}/export/qti3-zip"): (17, {"url"}),
}
_PAGING = r"cursor|page|limit|offset|after|before|page_?size|perpage"


def find(document: Document) -> list[Fact]:
    """Return the statements of the document about each open question, sorted by number."""
    found = [*_find_error(document), *_find_presets(document), *_find_elsewhere(document)]
    for key, operation in document.operations.items():
        facts = [*_find_responses(document, key, operation), *_find_features(key, operation)]
        found += [(number, str(operation), text) for number, text in facts]
    return sorted(found, key=lambda fact: fact[0])


def _find_error(document: Document) -> Iterator[Fact]:
    for operation in document.operations.values():
        for status, response in document.responses(operation).items():
            for media in as_mapping(response.get("content")).values():
                names = sorted(_declared_fields(document, as_mapping(media).get("schema")))
                if names and not status.startswith(("2", "3")):
                    text = f"an error ({status}) has the fields {', '.join(names)}"
                    yield 1, str(operation), text
                    return


def _find_responses(
    document: Document, key: tuple[str, str], operation: Operation
) -> Iterator[tuple[int, str]]:
    responses = document.responses(operation)
    successes = [each for each in responses if each.startswith("2") and each.isdecimal()]
    if successes and key in _UNKNOWN_SUCCESSES:
        yield 2, f"success is {' or '.join(successes)}"
    for number, statuses in _REFUSALS.get(key, ()):
        for status in (each for each in statuses if each in responses):
            description = responses[status].get("description")
            yield number, f"{status}, {description}" if description else status
    fields = {
        name: field
        for schema in document.answers(operation)
        for name, field in _declared_fields(document, document.unwrap(schema)).items()
    }
    if key in _ANSWERS:
        number, documented = _ANSWERS[key]
        if further := sorted(fields.keys() - documented):
            yield number, f"the answer has {', '.join(further)}"
    if key == ("GET", "/embed-sessions/{}"):
        if (field := fields.get("status")) and field.values:
            yield 9, f"the status is one of {_joined(field.values)}"
        read = {each.name.removeprefix("outputs.") for each in OUTPUTS}
        if further := sorted(_inner(document, fields.get("outputs")).keys() - read):
            yield 11, f"outputs also has {', '.join(further)}"


def _find_features(key: tuple[str, str], operation: Operation) -> Iterator[tuple[int, str]]:
    method, path = key
    if path in ("/users", "/users/{}") and key != ("POST", "/users"):
        yield 5, "users can be listed, read, changed or deleted"
    if key == ("GET", "/embed-sessions"):
        yield 6, "sessions can be listed"
    if key == ("POST", "/embed-sessions"):
        for extension in ("x-role-required", "x-scope-required"):
            if names := operation.spec.get(extension):
                yield 7, f"{extension} is {_joined(names)}"
    if path.startswith("/exams/{}/") and ("session" in path or "answer" in path):
        yield 11, "answers or their sessions have an operation"
    if path.startswith("/practice-spaces") and key != ("POST", "/practice-spaces"):
        yield 13, "practice spaces and progress can be read or changed"
    limit = as_mapping(operation.spec.get("x-ratelimit"))
    if limit and path.startswith(("/users", "/embed-sessions")):
        window, scope = limit.get("window"), limit.get("scope")
        yield 23, f"{limit.get('limit')} requests in {window} s, by {scope}"
    if "webhook" in path:
        yield 24, "webhooks have an operation"
    names = [str(each.get("name")) for each in operation.parameters if each.get("in") == "query"]
    paging = [name for name in names if re.fullmatch(_PAGING, name, re.IGNORECASE)]
    if method == "GET" and paging:
        yield 25, f"pages with {', '.join(paging)}"
    if operation.spec.get("deprecated") is True:
        yield 29, "deprecated operations are marked"


def _find_presets(document: Document) -> Iterator[Fact]:
    operation = document.find("POST", "/embed-sessions")
    if operation is None:
        return
    schema, _ = document.request_body(operation)
    validator = Validator(document)
    for flow in ("edit-rubric", "mark-answer", "generate-exam"):
        fields = document.fields([validator.matching(schema, {"flow": flow, "actor": "user_1"})])
        presets = _inner(document, fields.get("presets"))
        where = f"{operation} presets[{flow}]"
        if flow == "mark-answer" and presets:
            yield 11, where, f"the presets are {', '.join(sorted(presets))}"
        parts = _parts(document, fields.get("presets"))
        if any(part.get("additionalProperties") is False for part in parts):
            yield 28, where, "unknown presets are refused"
        rubric = _inner(document, presets.get("rubric")).values()
        if any(field.required or field.values for field in rubric):
            yield 15, f"{where}.rubric", "the schema names required fields or values"
    # The other fields of the body are the same for all flows.
    for part in _parts(document, fields.get("metadata")):
        if "maxProperties" in part or isinstance(part.get("additionalProperties"), dict):
            yield 18, f"{operation} metadata", "the size or the values are limited"
    theme = _inner(document, fields.get("theme"))
    if more := sorted(theme.keys() - {"primaryColor", "locale"}):
        yield 18, f"{operation} theme", f"the theme also has {', '.join(more)}"
    if (locale := theme.get("locale")) and locale.values:
        yield 18, f"{operation} theme", f"the locale is one of {_joined(locale.values)}"
    for number, name in ((19, "returnUrl"), (20, "allowedOrigin")):
        field = fields.get(name)
        if field is not None and "array" in field.types:
            yield number, f"{operation} {name}", "may be a list"
        for part in _parts(document, field):
            if isinstance(part.get("pattern"), str):
                yield number, f"{operation} {name}", f"must match {part['pattern']}"


def _find_elsewhere(document: Document) -> Iterator[Fact]:
    if webhooks := document.content.get("webhooks"):
        yield 24, "webhooks", f"the document has {_joined(webhooks)}"
    for name, scheme in document.security_schemes.items():
        for flow in as_mapping(document.resolve(scheme).get("flows")).values():
            if scopes := as_mapping(flow).get("scopes"):
                yield 26, f"securitySchemes {name}", f"the scopes are {_joined(scopes)}"


def _declared_fields(document: Document, schema: Any) -> dict[str, Field]:
    """Return the declared properties, without those that the document marks as inferred.

    The document of the testing kit does this: it repeats the contract and answers nothing.
    """
    return {
        name: field
        for name, field in document.fields_of(schema).items()
        if not any(
            part.get("x-provenance") == "inferred"
            for each in field.schemas
            for variant in document.variants(each)
            for part in variant
        )
    }


def _inner(document: Document, field: Field | None) -> dict[str, Field]:
    """Return the declared properties of a field that is an object."""
    return {
        name: inner
        for schema in (field.schemas if field else ())
        for name, inner in _declared_fields(document, schema).items()
    }


def _parts(document: Document, field: Field | None) -> list[Schema]:
    return [part for schema in (field.schemas if field else ()) for part in document.parts(schema)]


def _joined(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list | tuple | dict) else str(values)
