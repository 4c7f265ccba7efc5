"""Compare this app's use of the API with an OpenAPI document.

The groups of differences: ERROR if calls would fail or results would be lost, WARN if something may
fail or work less well, NEWS if the document has more than this release supports. SETTLED is an open
question of the API contract that the document answers, with its number in section 14.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from django_examplary.contract import settled
from django_examplary.contract.baseline import CALLS, UNUSED_OPERATIONS, Call, Read
from django_examplary.contract.document import (
    Document,
    Field,
    Operation,
    Schema,
    as_list,
    as_mapping,
    json_type,
    objects,
    without_names,
)
from django_examplary.contract.validation import Validator
from django_examplary.data import CANCELLED, COMPLETED
from django_examplary.flows import FLOWS

Group = Literal["ERROR", "WARN", "SETTLED", "NEWS"]
GROUPS: tuple[Group, ...] = ("ERROR", "WARN", "SETTLED", "NEWS")
Path = tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One difference. `where` is an operation and a field; `unknown` a number of section 14."""

    group: Group
    where: str
    text: str
    unknown: int | None = None


def compare(document: Document) -> list[Finding]:
    """Return the differences without duplicates, sorted by group."""
    found = [
        *_compare_servers(document),
        *(
            Finding("WARN", reference, "has no target in the document, so it is not compared")
            for reference in document.broken_references()
        ),
        *(finding for call in CALLS for finding in _compare_call(document, call)),
        *(
            Finding("SETTLED", where, text, number)
            for number, where, text in settled.find(document)
        ),
        *_find_operations(document),
    ]
    return sorted(dict.fromkeys(found), key=lambda finding: GROUPS.index(finding.group))


def _compare_servers(document: Document) -> Iterator[Finding]:
    urls = map(_server_url, objects(document.content.get("servers")))
    for where, url in [*(("servers", url) for url in urls), ("paths", document.prefix)]:
        if urlsplit(url).path.strip("/"):
            text = f"all paths are below {url}: EXAMPLARY_API_URL must end with that path"
            yield Finding("WARN", where, text)


def _server_url(server: Schema) -> str:
    """Return the URL of a server, with the defaults of its variables."""
    url = str(server.get("url", ""))
    for name, variable in as_mapping(server.get("variables")).items():
        url = url.replace(f"{{{name}}}", str(as_mapping(variable).get("default", "")))
    return url


def _find_operations(document: Document) -> Iterator[Finding]:
    used = {(call.method, without_names(call.path)) for call in CALLS}
    for key, operation in document.operations.items():
        if key not in used | UNUSED_OPERATIONS:
            summary = operation.spec.get("summary")
            text = f"new operation: {summary}" if isinstance(summary, str) else "new operation"
            yield Finding("NEWS", str(operation), text)


def _compare_call(document: Document, call: Call) -> Iterator[Finding]:
    operation = document.find(call.method, call.path)
    if operation is None:
        group: Group = "ERROR" if call.essential else "WARN"
        yield Finding(group, str(call), "the operation is not in the document")
        return
    if operation.spec.get("deprecated") is True:
        yield Finding("WARN", str(call), "the operation is deprecated")
    yield from _compare_security(document, call, operation)
    yield from _compare_parameters(call, operation)
    yield from _compare_requests(document, call, operation)
    yield from _compare_answers(document, call, operation)


def _compare_security(document: Document, call: Call, operation: Operation) -> Iterator[Finding]:
    required = objects(operation.spec.get("security", document.content.get("security")))
    schemes = document.security_schemes
    if required and not any(
        all(_takes_bearer(document.resolve(schemes.get(name))) for name in names)
        for names in required
    ):
        text = "the operation takes no bearer token, which is how the API key is sent"
        yield Finding("ERROR", str(call), text)


def _takes_bearer(scheme: Schema) -> bool:
    kind = scheme.get("type")
    if kind == "apiKey":
        return scheme.get("in") == "header" and str(scheme.get("name")).lower() == "authorization"
    return kind != "http" or str(scheme.get("scheme")).lower() == "bearer"


def _compare_parameters(call: Call, operation: Operation) -> Iterator[Finding]:
    names = set()
    for parameter in operation.parameters:
        name = str(parameter.get("name"))
        names.add(name)
        if parameter.get("in") == "path" or name.lower() == "authorization":
            continue
        if parameter.get("required") is True and name not in call.query:
            text = f"the {parameter.get('in')} parameter is required, and not sent"
            yield Finding("ERROR", f"{call} {name}", text)
        elif name not in call.query and name not in call.unused:
            yield Finding("NEWS", f"{call} {name}", f"new {parameter.get('in')} parameter")
    for name in call.query:
        if name not in names:
            text = "the query parameter is sent, and not in the document"
            yield Finding("WARN", f"{call} {name}", text)


def _compare_requests(document: Document, call: Call, operation: Operation) -> Iterator[Finding]:
    schema, others = document.request_body(operation)
    required = document.resolve(operation.spec.get("requestBody")).get("required")
    if schema is None and others:
        yield Finding("ERROR", str(call), f"the body must be {', '.join(others)}, not JSON")
    elif schema is None and call.bodies:
        yield Finding("WARN", str(call), "a body is sent, and not in the document")
    elif schema is not None and call.bodies:
        yield from _Requests(document, call).compare(schema)
    elif schema is not None and required is True:
        yield Finding("ERROR", str(call), "a body is required, and not sent")


class _Requests:
    """The example bodies of one operation, with the names and values at each path."""

    def __init__(self, document: Document, call: Call) -> None:
        self._document = document
        self._validator = Validator(document)
        self._call = call
        self._names: dict[Path, set[str]] = defaultdict(set)
        self._values: dict[Path, set[str]] = defaultdict(set)
        for body in call.bodies:
            self._collect(body, ())

    def compare(self, schema: Schema) -> Iterator[Finding]:
        for body in self._call.bodies:
            flow = FLOWS.get(body.get("flow", ""))
            prerelease = flow is not None and flow.prerelease
            for problem in self._validator.problems(schema, body):
                lenient = prerelease or self._is_opaque(problem.path)
                where = self._where(_labelled(problem.path, body))
                yield Finding("WARN" if lenient else "ERROR", where, problem.text)
            yield from self._compare(schema, body, ())

    def _where(self, path: Path) -> str:
        return f"{self._call} {'.'.join(path).replace('.[]', '[]')}".rstrip()

    def _is_opaque(self, path: Path) -> bool:
        return not self._call.opaque.isdisjoint(path)

    def _collect(self, value: Any, path: Path) -> None:
        if isinstance(value, dict):
            self._names[path].update(value)
            for name, item in value.items():
                self._collect(item, _labelled((*path, name), value))
        elif isinstance(value, list):
            for item in value:
                self._collect(item, (*path, "[]"))
        else:
            self._values[path].add(str(value))

    def _compare(self, schema: Any, value: Any, path: Path) -> Iterator[Finding]:
        """Compare the sent names and values with the declared ones."""
        if self._is_opaque(path):
            return
        variant = self._validator.matching(schema, value)
        if isinstance(value, list):
            for item in value:
                for part in variant:
                    yield from self._compare(part.get("items"), item, (*path, "[]"))
        elif isinstance(value, dict):
            declared = self._document.fields([variant])
            for name, field in declared.items():
                if field.read_only:
                    continue
                if name not in self._names[path] | self._call.unused:
                    yield Finding("NEWS", self._where((*path, name)), "new field")
                elif name in value:
                    inner = _labelled((*path, name), value)
                    if field.deprecated:
                        yield Finding("WARN", self._where(inner), "the field is deprecated")
                    for each in field.schemas:
                        yield from self._compare(each, value[name], inner)
            for name in value if declared else ():
                if name not in declared:
                    text = "the field is sent, and not in the document"
                    yield Finding("WARN", self._where((*path, name)), text)
        else:
            for known in self._document.values([variant]):
                if str(known) not in self._values[path] | self._call.unused:
                    yield Finding("NEWS", self._where(path), f"new value: {known}")


def _labelled(path: Path, body: Mapping[str, Any]) -> Path:
    """Add the name of the flow to paths of presets."""
    return (f"presets[{body.get('flow')}]", *path[1:]) if path[:1] == ("presets",) else path


def _compare_answers(document: Document, call: Call, operation: Operation) -> Iterator[Finding]:
    for schema in document.answers(operation) if call.resource.reads else ():
        found = _item(document, schema) if call.many else document.unwrap(schema)
        types = document.types([found]) - {"null"}
        if found is None:
            yield Finding("ERROR", str(call), "the answer is not a list")
        elif types and "object" not in types:
            text = f"the answer is {' or '.join(sorted(types))}, not an object"
            yield Finding("ERROR", str(call), text)
        else:
            yield from _compare_fields(document, call, found)


def _item(document: Document, schema: Schema) -> Schema | None:
    """Return the schema of the items of a list, which may be in an object."""
    fields = document.fields_of(schema).values()
    for each in (schema, *(field.schemas[0] for field in fields)):
        if "array" in document.types([each]):
            parts = document.parts(each)
            return next((as_mapping(part["items"]) for part in parts if "items" in part), {})
    return None if document.types([schema]) else {}


def _compare_fields(document: Document, call: Call, schema: Schema) -> Iterator[Finding]:
    declared = document.fields_of(schema)
    if not declared:
        # An object without declared properties may contain all of them.
        return
    # If no field is required, the document does not state which fields may be absent.
    demanding = any(field.required for field in declared.values())
    if outputs := declared.get("outputs"):
        for each in outputs.schemas:
            inner = document.fields_of(each).items()
            declared |= {f"outputs.{name}": field for name, field in inner}
    for read in call.resource.reads:
        where = f"{call} answer {read.name}"
        if field := declared.get(read.name):
            yield from _compare_field(read, field, where, demanding=demanding)
            if read.name == "id":
                yield from _compare_ids(document, call, field, where)
        elif not read.name.startswith("outputs."):
            group: Group = "ERROR" if read.needed else "WARN"
            yield Finding(group, where, "is read, and not in the document")
        elif any(name.startswith("outputs.") for name in declared):
            text = "is not in the document: finished sessions would have no usable result"
            yield Finding("ERROR", where, text)
    known = {read.name for read in call.resource.reads} | call.resource.unused
    for name in declared:
        if name not in known:
            yield Finding("NEWS", f"{call} answer {name}", "new field")


def _compare_field(read: Read, field: Field, where: str, *, demanding: bool) -> Iterator[Finding]:
    types = field.types - {"null"}
    if types and not types & read.types:
        text = f"is {' or '.join(sorted(types))}, where {' or '.join(sorted(read.types))} is read"
        yield Finding("ERROR" if read.needed else "WARN", where, text)
        return
    if read.needed and ("null" in field.types or (demanding and not field.required)):
        yield Finding("WARN", where, "is needed, and may be absent or null")
    if field.deprecated:
        yield Finding("WARN", where, "the field is deprecated")
    yield from _compare_values(read, field, where)


def _compare_ids(document: Document, call: Call, field: Field, where: str) -> Iterator[Finding]:
    """Verify that this app would accept the examples of the document."""
    reader = call.resource.reader
    for part in (part for schema in field.schemas for part in document.parts(schema)):
        if part.get("format") == "uuid":
            yield Finding("ERROR", where, "is a UUID, where a prefixed id is read")
        for example in (*as_list(part.get("examples")), part.get("example")):
            if isinstance(example, str) and reader is not None:
                try:
                    reader.from_json({**_LEAST, "id": example})
                except ValueError:
                    yield Finding("WARN", where, f"the example {example!r} is refused")


#: The required fields of the readers besides an id.
_LEAST = {
    "status": "pending",
    "flow": "generate-exam",
    "actor": "user_5S843D7HfNf",
    "role": "viewer",
}


def _compare_values(read: Read, field: Field, where: str) -> Iterator[Finding]:
    values = [value for value in field.values if json_type(value) == "string"]
    if not values or not read.known:
        return
    lower = [value.lower() for value in values]
    if read.strict:
        for status, spellings in (("completed", COMPLETED), ("cancelled", CANCELLED)):
            if spellings.isdisjoint(lower):
                text = f"is never {status!r}: such an end would not be recognised"
                yield Finding("ERROR", where, text)
    for value, each in zip(values, lower, strict=True):
        if each not in read.known:
            text = f"may be {value!r}, which this release does not know"
            yield Finding("WARN" if read.strict else "NEWS", where, text)
