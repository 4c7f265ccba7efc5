"""The fake: a workspace that answers requests, and breaks them on demand."""

from __future__ import annotations

import dataclasses
import http.client
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from django_examplary.testing import api, embeds, pages
from django_examplary.testing.faults import Fault
from django_examplary.testing.messages import (
    Request,
    Response,
    Transport,
    html_response,
    json_response,
)
from django_examplary.testing.routes import Route, Routes
from django_examplary.testing.rules import Json, Refusal
from django_examplary.testing.workspace import Workspace

_ROUTES = Routes([*api.routes, *embeds.routes])


@dataclass(kw_only=True, eq=False, repr=False)
class FakeExamplary(Workspace):
    """Examplary in memory, as section 17 of the API contract requires.

    Attributes with a default may be passed to the constructor, or set later from any thread.
    """

    # Seconds that every API call takes.
    latency: float = 0

    requests: list[Request] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._traffic = threading.Lock()
        self._faults: list[Fault] = []
        self._rate: int | None = None
        self._recent: deque[datetime] = deque()

    def calls(self, method: str | None = None, path: str | None = None) -> list[Request]:
        """Return the requests so far; ``path`` may be a template: ``/embed-sessions/{id}``."""
        with self._traffic:
            return [request for request in self.requests if request.matches(method, path)]

    def fail(
        self,
        method: str | None = None,
        path: str | None = None,
        *,
        times: int | None = 1,
        status: int | None = None,
        body: object = None,
        edit: Callable[[Any], object] | None = None,
        headers: Mapping[str, str] | None = None,
        delay: float = 0,
        before: bool = True,
        transport: Literal["close", "reset"] | Transport | None = None,
    ) -> Fault:
        """Let the next ``times`` matching requests fail; None lasts until ``heal``.

        ``status``, ``body`` and ``headers`` replace the answer's own, ``edit`` changes its JSON,
        ``delay`` holds it up and ``transport`` damages it on the wire. A fault that brings its own
        answer, or takes the answer away, strikes before the request is processed; with
        ``before=False`` the request is processed and only the answer is lost. Faults are used up
        in the order they were asked for.
        """
        fault = Fault(
            method=method,
            path=path,
            times=times,
            status=status,
            body=body,
            edit=edit,
            headers=headers or {},
            delay=delay,
            before=before,
            transport=transport,
        )
        with self._traffic:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Forget the faults that are left, and the rate limit."""
        with self._traffic:
            self._faults.clear()
            self._rate = None

    def rate_limit(self, per_second: int | None) -> None:
        """Answer 429 with ``Retry-After`` above so many API calls in any second."""
        with self._traffic:
            self._rate = per_second
            self._recent.clear()

    # How a request is answered.

    def handle(self, request: Request) -> Response:
        """Answer one request."""
        route, arguments = _ROUTES.find(request)
        is_api = route is None or route.is_api
        with self._traffic:
            self.requests.append(request)
            fault = self._next_fault(request)
            limited = is_api and self._is_over_the_limit()
        if is_api:
            time.sleep(self.latency)
        if fault is not None:
            time.sleep(fault.delay)
            if fault.prevents:
                return fault.apply(self._failure(fault.status or 200))
        response = self._too_many() if limited else self._answer(request, route, arguments)
        return response if fault is None else fault.apply(response)

    def _answer(
        self, request: Request, route: Route | None, arguments: tuple[str, ...]
    ) -> Response:
        try:
            return self._dispatch(request, route, arguments)
        except Refusal as refusal:
            if route is None or route.is_api:
                return self._error(refusal.status, refusal.message)
            return html_response(refusal.status, pages.message(refusal.message))

    def _dispatch(
        self, request: Request, route: Route | None, arguments: tuple[str, ...]
    ) -> Response:
        if route is None:
            if _ROUTES.knows(request):
                raise Refusal(405, "Method not allowed.")
            raise Refusal(404, "Not found.")
        credentials = request.headers.get("Authorization")
        # The raw key is what the official demo sends (section 3).
        if route.needs_key and credentials not in (self.api_key, f"Bearer {self.api_key}"):
            raise Refusal(401, "Unauthorized.")
        with self.lock:
            return route.handler(self, request, *arguments)

    def _next_fault(self, request: Request) -> Fault | None:
        for fault in self._faults:
            if request.matches(fault.method, fault.path):
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times < 1:
                        self._faults.remove(fault)
                return fault
        return None

    def _is_over_the_limit(self) -> bool:
        if self._rate is None:
            return False
        now = self.clock()
        while self._recent and now - self._recent[0] >= timedelta(seconds=1):
            self._recent.popleft()
        if len(self._recent) >= self._rate:
            return True
        self._recent.append(now)
        return False

    def _too_many(self) -> Response:
        response = self._error(429, "Too many requests.")
        return dataclasses.replace(response, headers={**response.headers, "Retry-After": "1"})

    def _error(self, status: int, message: str) -> Response:
        if self.error_shape == "empty":
            return Response(status)
        if self.error_shape == "html":
            return html_response(status, pages.message(message))
        bodies: dict[str, Json] = {
            "message": {"message": message},
            "error": {"error": message},
            "error-object": {"error": {"message": message}},
            "errors": {"errors": [{"message": message}]},
            "detail": {"detail": message},
        }
        return json_response(status, bodies[self.error_shape])

    def _failure(self, status: int) -> Response:
        if status < 400:
            return json_response(status, {})
        return self._error(status, http.client.responses.get(status, "Error"))
