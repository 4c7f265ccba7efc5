"""Read an OpenAPI document, of version 3.0 or 3.1, and tolerate its mistakes.

Missing descriptions, unknown keywords and references without a target are not errors: they only
make a schema less specific, never stricter.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

Schema = Mapping[str, Any]
#: Schemas that all apply to one value: `allOf` and references are resolved.
Variant = list[Schema]

METHODS = ("get", "put", "post", "delete", "patch", "options", "head", "trace")

_VERSION = re.compile(r"((?:/(?:api|v\d[\w.-]*)(?=/))*).*", re.DOTALL)

# More alternatives than any known document has, but few enough to compare all of them.
_MAX_VARIANTS = 64


class DocumentError(ValueError):
    """The content is not an OpenAPI 3 document."""


@dataclass(frozen=True)
class Operation:
    """One method of one path; `parameters` include those of the path."""

    method: str
    path: str
    spec: Schema
    parameters: tuple[Schema, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, kw_only=True)
class Field:
    """One property of an object, over all alternatives that the document declares.

    `types` and `values` are empty if the document does not define them.
    """

    types: frozenset[str]
    values: tuple[Any, ...]
    schemas: tuple[Schema, ...]
    required: bool
    deprecated: bool
    read_only: bool


class Document:
    """An OpenAPI document whose references are resolved on demand."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        # By id(). A variant references its schemas, so their ids are not reused.
        self._variants: dict[int, list[Variant]] = {}
        self._fields: dict[tuple[tuple[int, ...], ...], dict[str, Field]] = {}
        versions = {_VERSION.sub(r"\1", path) for path in content["paths"]}
        #: The version that all paths begin with, such as "/v1", or an empty string.
        self.prefix = versions.pop() if len(versions) == 1 else ""
        self.operations = {
            (each.method, without_names(each.path.removeprefix(self.prefix))): each
            for each in self._operations()
        }

    @classmethod
    def parse(cls, text: bytes | str) -> Self:
        """Parse a document. Raises DocumentError if it is not a valid one."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DocumentError(f"The content is not JSON: {error}") from None
        return cls.from_content(content)

    @classmethod
    def from_content(cls, content: Any) -> Self:
        """Check parsed JSON. Raises DocumentError if it is not an OpenAPI 3 document."""
        if not isinstance(content, dict) or not isinstance(content.get("paths"), dict):
            raise DocumentError("The content is not an OpenAPI document: it has no `paths` object.")
        version = content.get("openapi")
        if not isinstance(version, str) or not version.startswith("3."):
            raise DocumentError("The document must be OpenAPI 3.0 or 3.1.")
        document = cls(content)
        if not document.operations:
            raise DocumentError("The document has no operations.")
        return document

    @property
    def version(self) -> str:
        """The version of the API in the document."""
        return str(as_mapping(self.content.get("info")).get("version", ""))

    @property
    def security_schemes(self) -> Mapping[str, Any]:
        """The ways to authenticate, by name."""
        return as_mapping(as_mapping(self.content.get("components")).get("securitySchemes"))

    def _operations(self) -> Iterator[Operation]:
        for path, item in self.content["paths"].items():
            methods = self.resolve(item)
            for method in METHODS:
                if isinstance(spec := methods.get(method), dict):
                    named = objects(methods.get("parameters")) + objects(spec.get("parameters"))
                    parameters = tuple(map(self.resolve, named))
                    yield Operation(method.upper(), path, spec, parameters)

    def find(self, method: str, path: str) -> Operation | None:
        """Return an operation; the names of the parameters in its path may differ."""
        return self.operations.get((method, without_names(path)))

    def resolve(self, node: Any) -> Schema:
        """Follow the references of a node other than a schema. Without a target it is empty."""
        followed = set()
        while isinstance(node, dict) and isinstance(reference := node.get("$ref"), str):
            if reference in followed:
                return {}
            followed.add(reference)
            node = self._target(reference)
        return as_mapping(node)

    def _target(self, reference: str) -> Any:
        """Return the node of a JSON pointer into this document, or None."""
        if not reference.startswith("#/"):
            return None
        node: Any = self.content
        for key in reference[2:].split("/"):
            node = as_mapping(node).get(key.replace("~1", "/").replace("~0", "~"))
        return node

    def broken_references(self) -> Iterator[str]:
        """Yield each reference without a target in this document once."""
        seen: set[str] = set()
        nodes: list[Any] = [self.content]
        while nodes:
            node = nodes.pop()
            if isinstance(node, list):
                nodes += node
            elif isinstance(node, dict):
                nodes += node.values()
                reference = node.get("$ref")
                if isinstance(reference, str) and reference not in seen:
                    seen.add(reference)
                    if self._target(reference) is None:
                        yield reference

    # Requests and responses

    def request_body(self, operation: Operation) -> tuple[Schema | None, list[str]]:
        """Return the schema of a JSON request body, and the media types of other kinds of body."""
        media = as_mapping(self.resolve(operation.spec.get("requestBody")).get("content"))
        return _json_schema(media), [name for name in media if not _is_json(name)]

    def responses(self, operation: Operation) -> dict[str, Schema]:
        """Return the responses by status: `200`, `2XX`, `default`."""
        responses = as_mapping(operation.spec.get("responses")).items()
        return {status.replace("x", "X"): self.resolve(response) for status, response in responses}

    def answers(self, operation: Operation) -> list[Schema]:
        """Return the schemas of the successful JSON responses."""
        return [
            schema
            for status, response in self.responses(operation).items()
            if status.startswith("2")
            and (schema := _json_schema(as_mapping(response.get("content")))) is not None
        ]

    def unwrap(self, schema: Schema) -> Schema:
        """Return the schema of the object in an envelope without an id, next to others or not."""
        fields = self.fields_of(schema)
        inner = [each.schemas[0] for each in fields.values() if each.types == {"object"}]
        if len(fields) > 1:
            inner = [each for each in inner if "id" in self.fields_of(each)]
        return inner[0] if len(inner) == 1 and "id" not in fields else schema

    # Schemas

    def parts(self, schema: Any) -> list[Schema]:
        """Return the schemas that all apply: the schema, its `$ref` target, and its `allOf`."""
        return [part for part, _ in self._parts(schema, frozenset())]

    def _parts(
        self, schema: Any, followed: frozenset[str]
    ) -> Iterator[tuple[Schema, frozenset[str]]]:
        """Return each part with the references to it."""
        waiting: list[tuple[Any, frozenset[str]]] = [(schema, followed)]
        while waiting:
            node, followed = waiting.pop()
            if not isinstance(node, dict):
                continue
            reference = node.get("$ref")
            if isinstance(reference, str):
                if reference in followed:
                    # A schema that refers to itself adds no further requirements.
                    continue
                followed |= {reference}
                waiting.append((self._target(reference), followed))
            yield node, followed
            waiting += [(each, followed) for each in objects(node.get("allOf"))]

    def variants(self, schema: Any) -> list[Variant]:
        """Return the alternatives of a schema, from its `anyOf` and `oneOf`; at least one."""
        if id(schema) not in self._variants:
            self._variants[id(schema)] = self._find_variants(schema, frozenset())
        return self._variants[id(schema)]

    def _find_variants(self, schema: Any, followed: frozenset[str]) -> list[Variant]:
        variants: list[Variant] = [[]]
        for part, seen in self._parts(schema, followed):
            variants = [[*variant, part] for variant in variants]
            for keyword in ("anyOf", "oneOf"):
                inner: list[Variant] = []
                for option in objects(part.get(keyword)):
                    if str(option.get("$ref")) not in seen and len(inner) < _MAX_VARIANTS:
                        inner += self._find_variants(option, seen)
                if inner:
                    variants = [[*variant, *each] for variant in variants for each in inner]
                    variants = variants[:_MAX_VARIANTS]
        return variants

    def types(self, schemas: Iterable[Any]) -> frozenset[str]:
        """Return the JSON types that the schemas allow, including `null`; empty means any."""
        found: set[str] = set()
        for schema in schemas:
            for variant in self.variants(schema):
                types = [types for part in variant if (types := part_types(part))]
                if not types:
                    return frozenset()
                found |= set.intersection(*map(set, types))
                if any(part.get("nullable") is True for part in variant):
                    found.add("null")
        return frozenset(found)

    def values(self, variants: Iterable[Variant]) -> tuple[Any, ...]:
        """Return the values that the alternatives allow, without null; empty means any."""
        found: list[Any] = []
        for variant in variants:
            lists = [values for part in variant if (values := part_values(part)) is not None]
            if not lists and _is_null(variant):
                continue
            if not lists:
                return ()
            found += [value for value in lists[0] if value is not None and value not in found]
        return tuple(found)

    def fields_of(self, schema: Any) -> dict[str, Field]:
        """Return the declared properties of an object in all its alternatives."""
        return self.fields(self.variants(schema))

    def fields(self, variants: Iterable[Variant]) -> dict[str, Field]:
        """Return the declared properties of an object, ignoring alternatives that are null."""
        found = list(variants)
        key = tuple(tuple(map(id, variant)) for variant in found)
        if key not in self._fields:
            self._fields[key] = self._find_fields([each for each in found if not _is_null(each)])
        return dict(self._fields[key])

    def _find_fields(self, objects: list[Variant]) -> dict[str, Field]:
        schemas: dict[str, list[Schema]] = {}
        for variant in objects:
            for part in variant:
                for name, schema in as_mapping(part.get("properties")).items():
                    schemas.setdefault(name, []).append(as_mapping(schema))
        return {
            name: Field(
                types=self.types(found),
                values=self.values(
                    variant for schema in found for variant in self.variants(schema)
                ),
                schemas=tuple(found),
                required=all(
                    any(name in as_list(part.get("required")) for part in variant)
                    for variant in objects
                ),
                deprecated=self._is_marked("deprecated", found),
                read_only=self._is_marked("readOnly", found),
            )
            for name, found in schemas.items()
        }

    def _is_marked(self, keyword: str, schemas: Iterable[Schema]) -> bool:
        return any(part.get(keyword) is True for each in schemas for part in self.parts(each))


def without_names(path: str) -> str:
    """Normalise a path: `/exams/{examId}/` becomes `/exams/{}`."""
    return re.sub(r"\{[^}]*\}", "{}", path).rstrip("/")


def part_types(schema: Schema) -> set[str]:
    """Return the types in one schema. A number may be an integer."""
    named = schema.get("type")
    types = {each for each in (*as_list(named), named) if isinstance(each, str)}
    if not types and (values := part_values(schema)):
        types = {json_type(value) for value in values}
    return types | {"integer"} if "number" in types else types


def part_values(schema: Schema) -> list[Any] | None:
    """Return the `enum` or the `const` of one schema."""
    if "const" in schema:
        return [schema["const"]]
    return schema["enum"] if isinstance(schema.get("enum"), list) else None


def json_type(value: Any) -> str:
    """Return the JSON type of a parsed value."""
    return _JSON_TYPES.get(type(value), "null")


_JSON_TYPES = {
    bool: "boolean",
    str: "string",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
}


def _is_null(variant: Variant) -> bool:
    return any(part_types(part) == {"null"} for part in variant)


def _is_json(media_type: str) -> bool:
    return "json" in media_type.lower() or media_type.startswith("*/")


def _json_schema(content: Mapping[str, Any]) -> Schema | None:
    media = next((media for media_type, media in content.items() if _is_json(media_type)), None)
    return None if media is None else as_mapping(as_mapping(media).get("schema"))


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one for any other node."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return a JSON array, or an empty one for any other node."""
    return value if isinstance(value, list) else []


def objects(value: Any) -> list[Schema]:
    """Return the objects of an array."""
    return [each for each in as_list(value) if isinstance(each, dict)]
