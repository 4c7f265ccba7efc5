"""Compare this app's use of the API with a document, from the consumer's side.

A difference is an ERROR where calls would fail or results would be lost, a WARN where something
works less well or may fail, and NEWS where the document offers more than this release knows. An
unknown of the API contract that the document settles is SETTLED, with its number in section 14.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from django_examplary.contract import settled
from django_examplary.contract.baseline import CALLS, UNUSED_OPERATIONS, Call, Read
from django_examplary.contract.document import (
    Document,
    Field,
    Operation,
    Schema,
    Variant,
    json_type,
    without_names,
)
from django_examplary.contract.validation import Validator
from django_examplary.flows import FLOWS

Group = Literal["ERROR", "WARN", "SETTLED", "NEWS"]
GROUPS: tuple[Group, ...] = ("ERROR", "WARN", "SETTLED", "NEWS")


@dataclass(frozen=True)
class Finding:
    """One difference. `where` is an operation and a field; `unknown` a number of section 14."""

    group: Group
    where: str
    text: str
    unknown: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(document: Document) -> list[Finding]:
    """Return every difference once, the groups in their order."""
    found = [
        *_compare_servers(document),
        *(finding for call in CALLS for finding in _compare_call(document, call)),
        *(
            Finding("SETTLED", each.where, each.text, each.number)
            for each in settled.find(document)
        ),
        *_find_operations(document),
    ]
    return sorted(dict.fromkeys(found), key=lambda finding: GROUPS.index(finding.group))


def _compare_servers(document: Document) -> Iterator[Finding]:
    servers = document.content.get("servers")
    for server in servers if isinstance(servers, list) else ():
        url = server.get("url") if isinstance(server, dict) else None
        if isinstance(url, str) and urlsplit(url).path.strip("/"):
            text = f"all paths are below {url}: EXAMPLARY_API_URL must end with that path"
            yield Finding("WARN", "servers", text)


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
    yield from _Requests(document, call, operation).findings()
    yield from _Answers(document, call, operation).findings()


def _compare_security(document: Document, call: Call, operation: Operation) -> Iterator[Finding]:
    required = operation.spec.get("security", document.content.get("security"))
    schemes = document.resolve(document.content.get("components")).get("securitySchemes")
    if not isinstance(required, list) or not isinstance(schemes, dict):
        return
    names = [list(each) for each in required if isinstance(each, dict)]
    if names and not any(
        all(_takes_bearer(document.resolve(schemes.get(name))) for name in each) for each in names
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


class _Requests:
    """The bodies that one operation is sent."""

    def __init__(self, document: Document, call: Call, operation: Operation) -> None:
        self._document = document
        self._validator = Validator(document)
        self._call = call
        self._operation = operation
        self._names: dict[tuple[str, ...], set[str]] = {}
        self._values: dict[tuple[str, ...], set[str]] = {}

    def findings(self) -> Iterator[Finding]:
        schema, others = self._document.request_body(self._operation)
        call = self._call
        if schema is None and others:
            yield Finding("ERROR", str(call), f"the body must be {', '.join(others)}, not JSON")
        if schema is None:
            if call.bodies and not others:
                yield Finding("WARN", str(call), "a body is sent, and not in the document")
            return
        required = self._document.resolve(self._operation.spec.get("requestBody")).get("required")
        if not call.bodies:
            if required is True:
                yield Finding("ERROR", str(call), "a body is required, and not sent")
            return
        for body in call.bodies:
            self._collect(body, self._start(body))
        for body in call.bodies:
            for problem in self._validator.problems(schema, body):
                lenient = self._is_opaque(problem.path) or self._is_prerelease(body)
                path = self._labelled(problem.path, body)
                yield Finding("WARN" if lenient else "ERROR", self._where(path), problem.text)
            yield from self._further(schema, body, self._start(body), ())

    def _start(self, body: Mapping[str, Any]) -> str:
        return str(body.get("flow", ""))

    def _labelled(self, path: tuple[str, ...], body: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the flow whose presets a path leads to."""
        if path[:1] == ("presets",):
            return (f"presets[{self._start(body)}]", *path[1:])
        return path

    def _where(self, path: tuple[str, ...]) -> str:
        return f"{self._call} {'.'.join(path).replace('.[]', '[]')}".rstrip()

    def _is_opaque(self, path: tuple[str, ...]) -> bool:
        return not self._call.opaque.isdisjoint(path)

    def _is_prerelease(self, body: Mapping[str, Any]) -> bool:
        flow = FLOWS.get(self._start(body))
        return flow is not None and flow.prerelease

    def _collect(self, value: Any, flow: str, path: tuple[str, ...] = ()) -> None:
        """Note each name and each text that is sent, by its path."""
        key = (flow, *path) if path[:1] == ("presets",) else path
        if isinstance(value, dict):
            self._names.setdefault(key, set()).update(value)
            for name, item in value.items():
                self._collect(item, flow, (*path, name))
        elif isinstance(value, list):
            for item in value:
                self._collect(item, flow, (*path, "[]"))
        else:
            self._values.setdefault(key, set()).add(str(value))

    def _further(
        self, schema: Any, value: Any, flow: str, path: tuple[str, ...]
    ) -> Iterator[Finding]:
        """Compare the names that are sent with those that are declared, and the values too."""
        if self._is_opaque(path):
            return
        key = (flow, *path) if path[:1] == ("presets",) else path
        where = self._where((f"presets[{flow}]", *path[1:]) if key != path else path)
        variant = self._validator.matching(schema, value)
        if isinstance(value, list):
            for item in value:
                for part in variant:
                    yield from self._further(part.get("items"), item, flow, (*path, "[]"))
        elif isinstance(value, dict):
            yield from self._compare_names(variant, value, key, where)
            for name, field in self._document.fields([variant]).items():
                if name in value:
                    for each in field.schemas:
                        yield from self._further(each, value[name], flow, (*path, name))
        else:
            for known in self._document.values([variant]):
                if str(known) not in self._values[key] | self._call.unused:
                    yield Finding("NEWS", where, f"new value: {known}")

    def _compare_names(
        self, variant: Variant, value: Mapping[str, Any], key: tuple[str, ...], where: str
    ) -> Iterator[Finding]:
        declared = self._document.fields([variant])
        for name, field in declared.items():
            at = f"{where}.{name}" if key else f"{where} {name}"
            if name not in self._names[key] | self._call.unused:
                yield Finding("NEWS", at, "new field")
            elif field.deprecated and name in value:
                yield Finding("WARN", at, "the field is deprecated")
        for name in value if declared else ():
            if name not in declared:
                at = f"{where}.{name}" if key else f"{where} {name}"
                yield Finding("WARN", at, "the field is sent, and not in the document")


class _Answers:
    """The successful answers of one operation."""

    def __init__(self, document: Document, call: Call, operation: Operation) -> None:
        self._document = document
        self._call = call
        self._operation = operation

    def findings(self) -> Iterator[Finding]:
        if not self._call.reads:
            return
        for schema in self._document.answers(self._operation).values():
            found = self._unwrap(schema)
            if found is None:
                yield Finding("ERROR", str(self._call), "the answer is not a list")
            elif types := self._document.types([found]) - {"null"}:
                if "object" in types:
                    yield from self._compare(found)
                else:
                    text = f"the answer is {' or '.join(sorted(types))}, not an object"
                    yield Finding("ERROR", str(self._call), text)
            else:
                yield from self._compare(found)

    def _unwrap(self, schema: Schema) -> Any:
        """Return the schema of one object, out of a list or an envelope with a single key."""
        if self._call.many:
            return self._item(schema)
        return self._document.unwrap(schema)

    def _item(self, schema: Schema) -> Any:
        """Return the schema of a list's items; the list may be in an object."""
        fields = self._document.fields(self._document.variants(schema)).values()
        for each in (schema, *(field.schemas[0] for field in fields)):
            if "array" in self._document.types([each]):
                for part in self._document.parts(each):
                    if "items" in part:
                        return part["items"]
                return {}
        return None if self._document.types([schema]) else {}

    def _compare(self, schema: Any) -> Iterator[Finding]:
        declared = self._declared(schema)
        if not declared:
            # An object without declared properties may hold all of them.
            return
        # Without a single required field the document says nothing about what may be absent.
        demanding = any(field.required for field in declared.values())
        for read in self._call.reads:
            yield from self._compare_field(read, declared, demanding=demanding)
        known = {read.name for read in self._call.reads} | self._call.unused
        for name in declared:
            if name not in known:
                yield Finding("NEWS", f"{self._call} answer {name}", "new field")

    def _declared(self, schema: Any) -> dict[str, Field]:
        """Return the fields of the answer, and those of `outputs` as `outputs.examId`."""
        fields = self._document.fields(self._document.variants(schema))
        if outputs := fields.get("outputs"):
            for each in outputs.schemas:
                inner = self._document.fields(self._document.variants(each))
                fields |= {f"outputs.{name}": field for name, field in inner.items()}
        return fields

    def _compare_field(
        self, read: Read, declared: Mapping[str, Field], *, demanding: bool
    ) -> Iterator[Finding]:
        where = f"{self._call} answer {read.name}"
        field = declared.get(read.name)
        if field is None:
            yield from self._compare_absent(read, declared, where)
            return
        types = field.types - {"null"}
        if types and not types & read.types:
            text = (
                f"is {' or '.join(sorted(types))}, where {' or '.join(sorted(read.types))} is read"
            )
            yield Finding("ERROR" if read.needed else "WARN", where, text)
            return
        if read.needed and ("null" in field.types or (demanding and not field.required)):
            yield Finding("WARN", where, "is needed, and may be absent or null")
        if field.deprecated:
            yield Finding("WARN", where, "the field is deprecated")
        yield from _compare_values(read, field, where)
        if read.name == "id":
            yield from self._compare_ids(field, where)

    def _compare_absent(
        self, read: Read, declared: Mapping[str, Field], where: str
    ) -> Iterator[Finding]:
        if not read.name.startswith("outputs."):
            group: Group = "ERROR" if read.needed else "WARN"
            yield Finding(group, where, "is read, and not in the document")
        elif any(name.startswith("outputs.") for name in declared):
            text = "is not in the document: finished sessions would have no usable result"
            yield Finding("ERROR", where, text)

    def _compare_ids(self, field: Field, where: str) -> Iterator[Finding]:
        """Read the document's own examples as this app would."""
        reader = self._call.reader
        for schema in field.schemas:
            for part in self._document.parts(schema):
                if part.get("format") == "uuid":
                    yield Finding("ERROR", where, "is a UUID, where a prefixed id is read")
                examples = part.get("examples")
                for example in (
                    *(examples if isinstance(examples, list) else ()),
                    part.get("example"),
                ):
                    if isinstance(example, str) and reader is not None:
                        try:
                            reader.from_json({**_LEAST, "id": example})
                        except ValueError:
                            yield Finding("WARN", where, f"the example {example!r} is refused")


#: What the readers need beside an id.
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
        for spellings in (("completed",), ("cancelled", "canceled")):
            if not set(spellings) & set(lower):
                text = f"is never {spellings[0]!r}: such an end would not be recognised"
                yield Finding("ERROR", where, text)
    for value, each in zip(values, lower, strict=True):
        if each not in read.known:
            text = f"may be {value!r}, which this release does not know"
            yield Finding("WARN" if read.strict else "NEWS", where, text)
