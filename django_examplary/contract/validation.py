"""Find the reasons why a schema rejects a value.

Supports the keywords of JSON Schema that OpenAPI documents use, and ignores the others.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django_examplary.contract.document import (
    Document,
    Field,
    Schema,
    Variant,
    as_list,
    as_mapping,
    json_type,
    part_types,
    part_values,
)


@dataclass(frozen=True)
class Problem:
    """A rejected value, with its path such as `("presets", "subject")`."""

    path: tuple[str, ...]
    text: str
    #: A wrong discriminator has more weight against an alternative than another mismatch.
    weight: int = 1


class Validator:
    """Validate values that this app sends with the schemas of a document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def problems(self, schema: Any, value: Any, path: tuple[str, ...] = ()) -> list[Problem]:
        """Return the reasons why the schema rejects the value, from the closest alternative."""
        return list(self._check_all(self.matching(schema, value), value, path))

    def matching(self, schema: Any, value: Any) -> Variant:
        """Return the alternative that matches a value best, with `if` and `then` applied."""
        variants = [self._with_conditions(each, value) for each in self._document.variants(schema)]
        if len(variants) == 1:
            return variants[0]
        return min(
            variants,
            key=lambda variant: sum(each.weight for each in self._check_all(variant, value)),
        )

    def _with_conditions(self, variant: Variant, value: Any) -> Variant:
        found = list(variant)
        for part in variant:
            if "if" in part:
                branch = "else" if self.problems(part["if"], value) else "then"
                if branch in part:
                    found += self.matching(part[branch], value)
        return found

    def _check_all(
        self, variant: Variant, value: Any, path: tuple[str, ...] = ()
    ) -> Iterator[Problem]:
        declared = self._document.fields([variant]) if isinstance(value, dict) else {}
        for part in variant:
            yield from self._check(part, value, path, declared)

    def _check(
        self, part: Schema, value: Any, path: tuple[str, ...], declared: Mapping[str, Field]
    ) -> Iterator[Problem]:
        types = part_types(part)
        if types and json_type(value) not in types:
            yield Problem(path, f"must be {_either(types)}, not {json_type(value)}", weight=2)
            return
        values = part_values(part)
        if values is not None and value not in values:
            yield Problem(path, f"must be one of {_either(values)}, not {value!r}", weight=3)
        if isinstance(value, str):
            yield from _check_string(part, value, path)
        elif isinstance(value, dict):
            yield from self._check_object(part, value, path, declared)
        elif isinstance(value, list):
            yield from _check_limits(part, len(value), path, _of_size("Items"))
            for item in value:
                yield from self.problems(part.get("items"), item, (*path, "[]"))
        elif not isinstance(value, bool):
            yield from _check_limits(part, value, path, _OF_NUMBERS)

    def _check_object(
        self,
        part: Schema,
        value: dict[str, Any],
        path: tuple[str, ...],
        declared: Mapping[str, Field],
    ) -> Iterator[Problem]:
        yield from _check_limits(part, len(value), path, _of_size("Properties"))
        for name in as_list(part.get("required")):
            # A read-only field is required in responses only.
            read_only = isinstance(name, str) and name in declared and declared[name].read_only
            if isinstance(name, str) and name not in value and not read_only:
                yield Problem((*path, name), "is required, and not sent")
        properties = as_mapping(part.get("properties"))
        for name, item in value.items():
            if name in properties:
                yield from self.problems(properties[name], item, (*path, name))
            elif name not in declared:
                # Schemas in `allOf` are treated as one object, as intended by authors.
                further = part.get("additionalProperties", part.get("unevaluatedProperties"))
                if further is False:
                    yield Problem((*path, name), "is sent, and not allowed")
                elif isinstance(further, dict):
                    yield from self.problems(further, item, (*path, name))


def _check_string(part: Schema, value: str, path: tuple[str, ...]) -> Iterator[Problem]:
    yield from _check_limits(part, len(value), path, _of_size("Length"))
    pattern = part.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        yield Problem(path, f"must match {pattern}, which {value!r} does not")
    if part.get("format") == "uuid" and not re.fullmatch(r"[0-9a-fA-F-]{36}", value):
        yield Problem(path, f"must be a UUID, which {value!r} is not")


def _matches(pattern: str, value: str) -> bool:
    try:
        # Patterns of JavaScript are similar enough, but $ in Python also matches before a final
        # line feed.
        return re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), value) is not None
    except re.error:
        # Ignore patterns that Python cannot compile.
        return True


# The comparison rejects a value; its second operand is the limit of the keyword.
_Limits = dict[str, Callable[[Any, Any], Any]]
_OF_NUMBERS: _Limits = {
    "minimum": operator.lt,
    "maximum": operator.gt,
    "exclusiveMinimum": operator.le,
    "exclusiveMaximum": operator.ge,
    "multipleOf": lambda value, step: step and value % step,
}


def _of_size(what: str) -> _Limits:
    return {f"min{what}": operator.lt, f"max{what}": operator.gt}


def _check_limits(
    part: Schema, value: float, path: tuple[str, ...], limits: _Limits
) -> Iterator[Problem]:
    for keyword, refuses in limits.items():
        limit = part.get(keyword)
        if limit is True:
            # OpenAPI 3.0: the limit beside it is exclusive.
            limit = part.get(keyword.removeprefix("exclusive").lower())
        if json_type(limit) in ("integer", "number") and refuses(value, limit):
            yield Problem(path, f"{keyword} is {limit}, and {value} may be sent")


def _either(values: Any) -> str:
    return " or ".join(sorted(map(str, values)))
