"""Validation of request bodies, by the OpenAPI document in this folder."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from django_examplary.contract.document import Document
from django_examplary.contract.validation import Validator

Json = dict[str, Any]

# From the highest to the lowest.
CONTENT_ROLES = ("owner", "manager", "editor", "viewer", "participant")


class Refusal(Exception):
    """The API refuses a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@functools.cache
def document() -> Document:
    """Return the document that `GET /openapi` serves."""
    return Document.parse(resources.files(__package__).joinpath("openapi.json").read_bytes())


def is_origin(value: str) -> bool:
    """Return whether the value is an origin. Wildcards, lists and "null" are not documented."""
    return bool(re.fullmatch(r"https?://[^\s/?#@\\*,]+", value))


def _is_absolute_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


# The documentation defines these strings more precisely than the document.
_STRICTER = {
    "allowedOrigin": (is_origin, "an origin, without a path"),
    "returnUrl": (_is_absolute_url, "an absolute URL"),
    "url": (_is_absolute_url, "an absolute URL"),
}


def check(method: str, path: str, body: object) -> Json:
    """Return the body if the document accepts it; otherwise raise Refusal, naming the field."""
    if not isinstance(body, dict):
        raise Refusal(400, "The body must be a JSON object.")
    schema, _ = document().request_body(document().operations[method, path])
    for problem in Validator(document()).problems(schema, body):
        raise Refusal(400, f"{'.'.join(problem.path).replace('.[]', '[]')} {problem.text}.")
    for name, (accepts, expected) in _STRICTER.items():
        if name in body and not accepts(body[name]):
            raise Refusal(400, f"{name} must be {expected}.")
    return body


def known_presets(body: Json) -> set[str]:
    """Return the names of the presets that the document declares for the flow of a session."""
    schema, _ = document().request_body(document().operations["POST", "/embed-sessions"])
    fields = document().fields([Validator(document()).matching(schema, body)])
    presets = (document().fields_of(each) for each in fields["presets"].schemas)
    return {name for names in presets for name in names}
