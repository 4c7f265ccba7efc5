"""Find the reasons why a schema refuses a value.

Covers the keywords of JSON Schema that OpenAPI documents use; others refuse nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django_examplary.contract.document import (
    Document,
    Schema,
    Variant,
    json_type,
    part_types,
    part_values,
)


@dataclass(frozen=True)
class Problem:
    """One refused value; `path` leads to it: `("presets", "subject")`."""

    path: tuple[str, ...]
    text: str
    #: A wrong discriminator speaks more against an alternative than a wrong detail does.
    weight: int = 1


class Validator:
    """Checks values that this app sends against the schemas of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def problems(self, schema: Any, value: Any, path: tuple[str, ...] = ()) -> list[Problem]:
        """Return the reasons why the schema refuses the value, from its closest alternative."""
        variant = self.matching(schema, value)
        names = {name for part in variant for name in _properties(part)}
        return [problem for part in variant for problem in self._check(part, value, path, names)]

    def matching(self, schema: Any, value: Any) -> Variant:
        """Return the alternative that fits a value best, its `if` and `then` applied."""
        variants = [self._with_conditions(each, value) for each in self._document.variants(schema)]
        if len(variants) == 1:
            return variants[0]
        return min(variants, key=lambda variant: self._distance(variant, value))

    def _distance(self, variant: Variant, value: Any) -> int:
        names = {name for part in variant for name in _properties(part)}
        return sum(
            problem.weight for part in variant for problem in self._check(part, value, (), names)
        )

    def _with_conditions(self, variant: Variant, value: Any) -> Variant:
        found = list(variant)
        for part in variant:
            if "if" in part:
                branch = "else" if self.problems(part["if"], value) else "then"
                if branch in part:
                    found += self.matching(part[branch], value)
        return found

    def _check(
        self, part: Schema, value: Any, path: tuple[str, ...], names: set[str]
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
            yield from self._check_object(part, value, path, names)
        elif isinstance(value, list):
            yield from _check_size(part, len(value), path, "Items")
            for item in value:
                yield from self.problems(part.get("items"), item, (*path, "[]"))
        elif not isinstance(value, bool):
            yield from _check_number(part, value, path)

    def _check_object(
        self, part: Schema, value: dict[str, Any], path: tuple[str, ...], names: set[str]
    ) -> Iterator[Problem]:
        yield from _check_size(part, len(value), path, "Properties")
        required = part.get("required")
        for name in required if isinstance(required, list) else ():
            if name not in value:
                yield Problem((*path, str(name)), "is required, and not always sent")
        properties = _properties(part)
        for name, item in value.items():
            if name in properties:
                yield from self.problems(properties[name], item, (*path, name))
            elif name not in names:
                # Schemas joined by `allOf` are read as one object, as their authors mean them.
                further = part.get("additionalProperties", part.get("unevaluatedProperties"))
                if further is False:
                    yield Problem((*path, name), "is sent, and not allowed")
                else:
                    yield from self.problems(further, item, (*path, name))


def _check_string(part: Schema, value: str, path: tuple[str, ...]) -> Iterator[Problem]:
    yield from _check_size(part, len(value), path, "Length")
    pattern = part.get("pattern")
    if isinstance(pattern, str) and not _matches(pattern, value):
        yield Problem(path, f"must match {pattern}, which {value!r} does not")
    if part.get("format") == "uuid" and not re.fullmatch(r"[0-9a-fA-F-]{36}", value):
        yield Problem(path, f"must be a UUID, which {value!r} is not")


def _matches(pattern: str, value: str) -> bool:
    try:
        # JavaScript's patterns are close enough to Python's.
        return re.search(pattern, value) is not None
    except re.error:
        # A pattern that Python cannot read refuses nothing.
        return True


def _check_number(part: Schema, value: float, path: tuple[str, ...]) -> Iterator[Problem]:
    minimum, maximum = _number(part, "minimum"), _number(part, "maximum")
    # OpenAPI 3.0 has a boolean here, which makes the limit beside it exclusive; 3.1 has a number.
    above = minimum if part.get("exclusiveMinimum") is True else _number(part, "exclusiveMinimum")
    below = maximum if part.get("exclusiveMaximum") is True else _number(part, "exclusiveMaximum")
    if minimum is not None and value < minimum:
        yield Problem(path, f"must be at least {minimum}, and may be {value}")
    if maximum is not None and value > maximum:
        yield Problem(path, f"must be at most {maximum}, and may be {value}")
    if above is not None and value <= above:
        yield Problem(path, f"must be more than {above}, and may be {value}")
    if below is not None and value >= below:
        yield Problem(path, f"must be less than {below}, and may be {value}")
    step = _number(part, "multipleOf")
    if step and value % step:
        yield Problem(path, f"must be a multiple of {step}, and may be {value}")


def _check_size(part: Schema, size: int, path: tuple[str, ...], what: str) -> Iterator[Problem]:
    least, most = _number(part, f"min{what}"), _number(part, f"max{what}")
    if least is not None and size < least:
        yield Problem(path, f"must have min{what} {least}, and may have {size}")
    if most is not None and size > most:
        yield Problem(path, f"must have max{what} {most}, and may have {size}")


def _number(part: Schema, keyword: str) -> float | None:
    value = part.get(keyword)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _properties(part: Schema) -> dict[str, Any]:
    properties = part.get("properties")
    return properties if isinstance(properties, dict) else {}


def _either(values: Any) -> str:
    return " or ".join(sorted(map(str, values)))
