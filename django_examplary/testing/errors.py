"""Plausible bodies of errors, which no page documents (section 13)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

#: By the values of ``error_shape``, which may also be "empty" or "html".
ERROR_BODIES: Mapping[str, Callable[[str], object]] = {
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
