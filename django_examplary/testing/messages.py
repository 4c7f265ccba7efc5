"""HTTP messages of the fake: plain values without sockets."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

JSON_TYPE = "application/json"
HTML_TYPE = "text/html; charset=utf-8"


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile("([^/]+)".join(map(re.escape, re.split(r"\{\w+\}", template))))


@dataclass(frozen=True, slots=True)
class Request:
    """A request that the fake received; header names are in Title-Case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    # Headers and bodies contain credentials and personal data, which failing tests must not print.
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        headers = {name.title(): value for name, value in self.headers.items()}
        object.__setattr__(self, "headers", headers)

    @property
    def json(self) -> Any:
        """The parsed body, or None if it isn't JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_preflight(self) -> bool:
        """Whether this is a preflight request of a browser."""
        return (
            self.method == "OPTIONS"
            and "Origin" in self.headers
            and "Access-Control-Request-Method" in self.headers
        )

    def arguments(self, template: str) -> tuple[str, ...] | None:
        """Return the variable parts of the path, or None if it doesn't match ``template``."""
        found = _pattern(template).fullmatch(self.path)
        return found and tuple(unquote(part) for part in found.groups())

    def matches(self, method: str | None, template: str | None) -> bool:
        """Return whether method and path match; None matches any."""
        return (method is None or method == self.method) and (
            template is None or self.arguments(template) is not None
        )


class Transport(NamedTuple):
    """A way to send a response incorrectly or not at all.

    ``send`` receives the request handler of the connection and the response. The server has the
    transports ``"close"`` and ``"reset"``; a test suite may add others.
    """

    send: Callable[[Any, Response], None]
    #: Whether the client receives no part of the response, so the request isn't processed.
    loses_answer: bool = False


@dataclass(frozen=True, slots=True)
class Response:
    """A response; ``transport`` defines how the server sends it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    transport: Literal["close", "reset"] | Transport | None = None

    @property
    def json(self) -> Any:
        """The parsed body."""
        return json.loads(self.body)


def json_response(status: int, content: object) -> Response:
    """Return ``content`` as JSON; a 204 never has a body."""
    if status == 204:
        return Response(status)
    return Response(status, {"Content-Type": JSON_TYPE}, json.dumps(content).encode())


def html_response(status: int, content: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an HTML page that caches don't store, because its URL is a secret."""
    return Response(
        status,
        {"Content-Type": HTML_TYPE, "Cache-Control": "no-store", **(headers or {})},
        content.encode(),
    )
