"""Faults for tests: an error status, a wrong body, a delay, a lost connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django_examplary.testing.messages import JSON_TYPE, Response, Transport


@dataclass(kw_only=True, slots=True, eq=False)
class Fault:
    """A fault for ``times`` requests; see ``FakeExamplary.fail``."""

    method: str | None
    path: str | None
    times: int | None = 1
    status: int | None = None
    body: object = None
    edit: Callable[[Any], object] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0
    before: bool = True
    transport: Literal["close", "reset"] | Transport | None = None

    def __post_init__(self) -> None:
        if isinstance(self.transport, str) and self.transport not in ("close", "reset"):
            msg = f'transport must be "close", "reset" or a Transport, not {self.transport!r}.'
            raise ValueError(msg)

    @property
    def prevents(self) -> bool:
        """Whether the request isn't processed because the fault determines the response."""
        if isinstance(self.transport, Transport):
            loses_answer = self.transport.loses_answer
        else:
            loses_answer = self.transport is not None
        return self.before and (self.status is not None or self.body is not None or loses_answer)

    def apply(self, response: Response) -> Response:
        """Return ``response`` with this fault."""
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
        return Response(status, headers | dict(self.headers), body, self.transport)
