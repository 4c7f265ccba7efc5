"""The bodies that an error may have: no page documents one (section 13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

ErrorShape = Literal[
    "message",
    "error",
    "error-object",
    "errors",
    "errors-strings",
    "errors-fields",
    "detail",
    "issues",
    "details",
    "error_description",
    "nested",
    "list",
    "empty",
    "html",
]

_BODIES: Mapping[str, Callable[[str], object]] = {
    "message": lambda text: {"message": text},
    "error": lambda text: {"error": text},
    "error-object": lambda text: {"error": {"message": text}},
    "errors": lambda text: {"errors": [{"message": text}]},
    "errors-strings": lambda text: {"errors": [text]},
    "errors-fields": lambda text: {"errors": {"body": [text]}},
    "detail": lambda text: {"detail": text},
    "issues": lambda text: {"issues": [{"path": ["body"], "message": text}]},
    "details": lambda text: {"error": "invalid", "details": [{"message": text}]},
    "error_description": lambda text: {"error": "invalid", "error_description": text},
    "nested": lambda text: {"error": {"code": "invalid", "data": {"reason": {"message": text}}}},
    "list": lambda text: [{"message": text}],
}


def error_body(shape: ErrorShape, text: str) -> object:
    """Return the JSON of an error; ``"empty"`` and ``"html"`` have none."""
    return _BODIES[shape](text)
