"""Encode names and values for the API and for every supported database."""

from __future__ import annotations

import contextlib
import functools
import html
import json
import math
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from django.utils.encoding import punycode

from django_examplary.exceptions import ExamplaryValidationError

#: The problem with a value for which `is_storable` returns False.
UNSTORABLE = (
    "holds U+0000, a lone surrogate, an infinite number, more than 30 nested levels, or a value "
    "or a key that JSON has no type for"
)

# MariaDB stores 32 levels of JSON.
_MAX_LEVELS = 30
_UNSTORABLE_CHARACTERS = re.compile(r"[\x00\ud800-\udfff]")


@functools.lru_cache(maxsize=512)
def to_camel(name: str) -> str:
    """Convert `source_material_ids` to `sourceMaterialIds`; camelCase is unchanged.

    Raises ExamplaryValidationError naming a key of a mapping that is no string.
    """
    _require_name(name)
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


@functools.lru_cache(maxsize=512)
def to_snake(name: str) -> str:
    """Convert `sourceMaterialIds` to `source_material_ids`; snake_case is unchanged.

    Raises ExamplaryValidationError naming a key of a mapping that is no string.
    """
    _require_name(name)
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _require_name(name: object) -> None:
    if not isinstance(name, str):
        raise ExamplaryValidationError(repr(name), "must be a string, because it is a name")


def is_id(value: Any, prefix: str = "") -> bool:
    """Return whether a value is a valid Examplary id, which is safe in a path."""
    return (
        # A SimpleLazyObject only claims to be a string.
        issubclass(type(value), str)
        and re.fullmatch(rf"{prefix}[A-Za-z0-9_-]{{1,{255 - len(prefix)}}}", value) is not None
    )


def comparable_address(address: str) -> str:
    """Return an e-mail address in a form that is the same for every way to write it.

    Ignores case, spaces, HTML escapes, composed letters, and Punycode.
    """
    plain = unicodedata.normalize("NFKC", html.unescape(address)).casefold().strip()
    local, _, domain = plain.rpartition("@")
    with contextlib.suppress(UnicodeError):
        domain = punycode(domain)
    return f"{local}@{domain}"


def storable(value: Any, *, levels: int = _MAX_LEVELS) -> Any:
    """Return a copy of a JSON value that every supported database can store.

    U+0000, which PostgreSQL rejects, and lone surrogates become U+FFFD. Infinite numbers, which
    JSON lacks, become strings. Values nested deeper than `levels` become strings with their JSON.
    """
    if isinstance(value, str):
        return _UNSTORABLE_CHARACTERS.sub("\ufffd", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, int):
        return value
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(f"JSON has no {type(value).__name__}")
    if not levels:
        return json.dumps(value, default=str)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            # JSON would convert a number, which sorts differently from its string.
            raise TypeError("the keys of JSON are strings")
        return {storable(k, levels=0): storable(v, levels=levels - 1) for k, v in value.items()}
    items = [storable(item, levels=levels - 1) for item in value]
    return tuple(items) if isinstance(value, tuple) else items


def is_storable(value: Any) -> bool:
    """Return whether JSON and every supported database keep the value unchanged."""
    try:
        return bool(storable(value) == value)
    except TypeError:
        return False
