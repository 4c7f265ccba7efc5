"""Faults to order: what can go wrong between a client and the API."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django_examplary.testing.messages import HTML_TYPE, JSON_TYPE, Response

Transport = Literal[
    "bad-chunk",
    "close",
    "close-after",
    "cookie",
    "drip-body",
    "drip-headers",
    "endless",
    "extra-bytes",
    "garbage",
    "gzip",
    "hang",
    "huge",
    "interim-102",
    "interim-103",
    "many-headers",
    "no-length",
    "reset",
    "truncate",
]

# These leave nothing of the API's own answer, so by default there is no call for processing.
_REPLACING = frozenset({"close", "endless", "garbage", "hang", "huge", "reset"})


def _cookie(response: Response) -> Response:
    cookie = {"Set-Cookie": "tracker=1; Path=/"}
    return dataclasses.replace(response, headers={**response.headers, **cookie})


def _garbage(response: Response) -> Response:
    return Response(200, {"Content-Type": HTML_TYPE}, b"<!doctype html><title>Welcome</title>")


def _gzip(response: Response) -> Response:
    headers = {**response.headers, "Content-Encoding": "gzip"}
    return dataclasses.replace(response, headers=headers, body=gzip.compress(response.body))


# Faults that need no socket; the server carries out the other transports.
_REWRITES: dict[str, Callable[[Response], Response]] = {
    "cookie": _cookie,
    "garbage": _garbage,
    "gzip": _gzip,
}


@dataclass(kw_only=True, slots=True, eq=False)
class Fault:
    """One thing that goes wrong, ``times`` times; see ``FakeExamplary.fail``."""

    method: str | None
    path: str | None
    times: int | None = 1
    status: int | None = None
    body: object = None
    edit: Callable[[Any], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    before: bool = True
    transport: Transport | None = None

    @property
    def prevents(self) -> bool:
        """Whether the request is not processed, because the fault brings its own outcome."""
        return self.before and (
            self.status is not None or self.body is not None or self.transport in _REPLACING
        )

    def spoil(self, response: Response) -> Response:
        """Return ``response`` with this fault in it."""
        headers, body = dict(response.headers), response.body
        if isinstance(self.body, bytes):
            body = self.body
        elif isinstance(self.body, str):
            body = self.body.encode()
        elif self.body is not None:
            body, headers["Content-Type"] = json.dumps(self.body).encode(), JSON_TYPE
        if self.edit is not None:
            body = json.dumps(self.edit(json.loads(body))).encode()
        status = response.status if self.status is None else self.status
        headers |= self.headers
        rewrite = _REWRITES.get(self.transport or "")
        if rewrite is not None:
            return rewrite(Response(status, headers, body))
        return Response(status, headers, body, self.transport)
