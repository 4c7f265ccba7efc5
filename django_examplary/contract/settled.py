"""The unknowns of the API contract that a document settles, by their numbers in section 14."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django_examplary.contract.baseline import OUTPUTS
from django_examplary.contract.document import Document, Field, Operation, Schema
from django_examplary.contract.validation import Validator

#: The unknowns that some document could settle.
NUMBERS = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 23, 24, 25, 26, 28, 29, 31)


@dataclass(frozen=True)
class Settled:
    number: int
    where: str
    text: str


def find(document: Document) -> Iterator[Settled]:
    """Return what the document states about each unknown, in the order of the numbers."""
    found = [each for rule in _RULES for each in rule(document)]
    return iter(sorted(found, key=lambda each: each.number))


def _error_bodies(document: Document) -> Iterator[Settled]:
    for operation in document.operations.values():
        for status, response in document.responses(operation).items():
            content = response.get("content")
            for media in content.values() if isinstance(content, dict) else ():
                schema = media.get("schema") if isinstance(media, dict) else None
                names = sorted(_fields(document, schema))
                if names and not status.startswith(("2", "3")):
                    text = f"an error ({status}) has the fields {', '.join(names)}"
                    yield Settled(1, str(operation), text)
                    return


def _statuses(document: Document) -> Iterator[Settled]:
    # GET is not in doubt; the statuses of permissions and source materials are documented.
    for method, path in (
        ("POST", "/users"),
        ("POST", "/embed-sessions"),
        ("DELETE", "/embed-sessions/{}"),
        ("POST", "/exams"),
        ("DELETE", "/exams/{}"),
        ("POST", "/practice-spaces"),
    ):
        if operation := document.find(method, path):
            statuses = [each for each in document.responses(operation) if each.startswith("2")]
            exact = [each for each in statuses if each.isdecimal()]
            if exact:
                yield Settled(2, str(operation), f"success is {' or '.join(exact)}")


def _users(document: Document) -> Iterator[Settled]:
    if operation := document.find("POST", "/users"):
        names = sorted(_answer_fields(document, operation).keys() - {"id"})
        if names:
            yield Settled(3, str(operation), f"the answer also has {', '.join(names)}")
        for status in ("409", "422"):
            if status in document.responses(operation):
                text = f"{_described(document, operation, status)}: may be a known address"
                yield Settled(4, str(operation), text)
    for method, path in (
        ("GET", "/users"),
        ("GET", "/users/{}"),
        ("PATCH", "/users/{}"),
        ("PUT", "/users/{}"),
        ("DELETE", "/users/{}"),
    ):
        if operation := document.find(method, path):
            yield Settled(5, str(operation), "users can be listed, read, changed or deleted")


def _sessions(document: Document) -> Iterator[Settled]:
    if operation := document.find("GET", "/embed-sessions"):
        yield Settled(6, str(operation), "sessions can be listed")
    if operation := document.find("GET", "/embed-sessions/{}"):
        status = _answer_fields(document, operation).get("status")
        if status is not None and status.values:
            text = f"the status is one of {', '.join(map(str, status.values))}"
            yield Settled(9, str(operation), text)
        for code in ("404", "410"):
            if code in document.responses(operation):
                yield Settled(10, str(operation), _described(document, operation, code))
        outputs = _answer_fields(document, operation).get("outputs")
        known = {read.name.removeprefix("outputs.") for read in OUTPUTS}
        names = {name for each in _schemas(outputs) for name in _fields(document, each)}
        if names - known:
            text = f"outputs also has {', '.join(sorted(names - known))}"
            yield Settled(11, str(operation), text)


def _creation(document: Document) -> Iterator[Settled]:
    operation = document.find("POST", "/embed-sessions")
    if operation is None:
        return
    for extension in ("x-role-required", "x-scope-required"):
        if names := operation.spec.get(extension):
            yield Settled(7, str(operation), f"{extension} is {_joined(names)}")
    for status in ("401", "402", "403"):
        if status in document.responses(operation):
            yield Settled(7, str(operation), _described(document, operation, status))
    for status in ("404", "422"):
        if status in document.responses(operation):
            yield Settled(31, str(operation), _described(document, operation, status))
    yield from _creation_fields(document, operation)


def _creation_fields(document: Document, operation: Operation) -> Iterator[Settled]:
    schema, _ = document.request_body(operation)
    validator = Validator(document)
    for flow in ("edit-rubric", "mark-answer", "generate-exam"):
        fields = document.fields([validator.matching(schema, {"flow": flow, "actor": "user_1"})])
        presets = fields.get("presets")
        names = {
            name: each
            for item in _schemas(presets)
            for name, each in _fields(document, item).items()
        }
        where = f"{operation} presets[{flow}]"
        if flow == "mark-answer" and names:
            yield Settled(11, where, f"the presets are {', '.join(sorted(names))}")
        if any(_is_closed(document, item) for item in _schemas(presets)):
            yield Settled(28, where, "unknown presets are refused")
        if rubric := names.get("rubric"):
            inner = [field for each in rubric.schemas for field in _fields(document, each).values()]
            if any(field.required or field.values for field in inner):
                yield Settled(15, f"{where}.rubric", "the schema names required fields or values")
    yield from _limits(document, operation, fields)


def _limits(
    document: Document, operation: Operation, fields: Mapping[str, Field]
) -> Iterator[Settled]:
    for schema in _schemas(fields.get("metadata")):
        for part in document.parts(schema):
            if "maxProperties" in part or isinstance(part.get("additionalProperties"), dict):
                yield Settled(18, f"{operation} metadata", "the size or the values are limited")
    for schema in _schemas(fields.get("theme")):
        theme = _fields(document, schema)
        if more := sorted(theme.keys() - {"primaryColor", "locale"}):
            yield Settled(18, f"{operation} theme", f"the theme also has {', '.join(more)}")
        if (locale := theme.get("locale")) and locale.values:
            text = f"the locale is one of {_joined(locale.values)}"
            yield Settled(18, f"{operation} theme", text)
    for number, name in ((19, "returnUrl"), (20, "allowedOrigin")):
        field = fields.get(name)
        if field is not None and "array" in field.types:
            yield Settled(number, f"{operation} {name}", "may be a list")
        for schema in _schemas(field):
            for part in document.parts(schema):
                if isinstance(part.get("pattern"), str):
                    text = f"must match {part['pattern']}"
                    yield Settled(number, f"{operation} {name}", text)


def _further_operations(document: Document) -> Iterator[Settled]:
    for (method, path), operation in document.operations.items():
        if path.startswith("/practice-spaces") and (method, path) != ("POST", "/practice-spaces"):
            yield Settled(13, str(operation), "practice spaces and progress can be read or changed")
        if path.startswith("/exams/{}/") and ("session" in path or "answer" in path):
            yield Settled(11, str(operation), "answers or their sessions have an operation")
        if "webhook" in path:
            yield Settled(24, str(operation), "webhooks have an operation")
        if method == "GET" and (names := _paging(operation)):
            yield Settled(25, str(operation), f"pages with {', '.join(names)}")
        if operation.spec.get("deprecated") is True:
            yield Settled(29, str(operation), "deprecated operations are marked")
    if document.content.get("webhooks"):
        yield Settled(24, "webhooks", f"the document has {_joined(document.content['webhooks'])}")
    for method, path, number in (
        ("POST", "/practice-spaces", 13),
        ("GET", "/exams/{}", 16),
        ("POST", "/exams/{}/export/qti3-zip", 17),
    ):
        if found := document.find(method, path):
            names = sorted(_answer_fields(document, found).keys() - {"url"})
            if names:
                yield Settled(number, str(found), f"the answer has {', '.join(names)}")


def _access(document: Document) -> Iterator[Settled]:
    for method, path in (
        ("POST", "/users"),
        ("POST", "/embed-sessions"),
        ("GET", "/embed-sessions/{}"),
        ("DELETE", "/embed-sessions/{}"),
    ):
        operation = document.find(method, path)
        limit = operation.spec.get("x-ratelimit") if operation else None
        if isinstance(limit, dict):
            text = (
                f"{limit.get('limit')} requests in {limit.get('window')} s, by {limit.get('scope')}"
            )
            yield Settled(23, f"{method} {path}", text)
    components = document.content.get("components")
    schemes = components.get("securitySchemes") if isinstance(components, dict) else None
    for name, scheme in schemes.items() if isinstance(schemes, dict) else ():
        flows = document.resolve(scheme).get("flows")
        for flow in flows.values() if isinstance(flows, dict) else ():
            if isinstance(flow, dict) and (scopes := flow.get("scopes")):
                yield Settled(26, f"securitySchemes {name}", f"the scopes are {_joined(scopes)}")


_RULES: tuple[Callable[[Document], Iterator[Settled]], ...] = (
    _error_bodies,
    _statuses,
    _users,
    _sessions,
    _creation,
    _further_operations,
    _access,
)


def _fields(document: Document, schema: Any) -> dict[str, Field]:
    """Return the declared properties, without those that the document marks as inferred.

    The document of the testing kit does so: it restates the contract, and settles nothing.
    """
    return {
        name: field
        for name, field in document.fields(document.variants(schema)).items()
        if not any(
            part.get("x-provenance") == "inferred"
            for each in field.schemas
            for variant in document.variants(each)
            for part in variant
        )
    }


def _answer_fields(document: Document, operation: Operation) -> dict[str, Field]:
    schemas = document.answers(operation).values()
    return {
        name: field
        for each in schemas
        for name, field in _fields(document, document.unwrap(each)).items()
    }


def _schemas(field: Field | None) -> tuple[Schema, ...]:
    return field.schemas if field is not None else ()


def _is_closed(document: Document, schema: Schema) -> bool:
    return any(part.get("additionalProperties") is False for part in document.parts(schema))


def _described(document: Document, operation: Operation, status: str) -> str:
    description = document.responses(operation)[status].get("description")
    return f"{status}, {description}" if description else status


def _paging(operation: Operation) -> list[str]:
    names = [str(each.get("name")) for each in operation.parameters if each.get("in") == "query"]
    return [name for name in names if name.lower() in _PAGING]


_PAGING = (
    "cursor",
    "page",
    "limit",
    "offset",
    "after",
    "before",
    "pagesize",
    "page_size",
    "perpage",
)


def _joined(values: Any) -> str:
    return ", ".join(map(str, values)) if isinstance(values, list | tuple | dict) else str(values)
