"""The fake: one or more workspaces that respond to requests, with faults on demand."""

from __future__ import annotations

import dataclasses
import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django_examplary.testing import api, embeds, pages
from django_examplary.testing.answers import profile
from django_examplary.testing.errors import ERROR_BODIES
from django_examplary.testing.messages import Request, Response, html_response, json_response
from django_examplary.testing.routes import Route, Routes
from django_examplary.testing.rules import Refusal
from django_examplary.testing.workspace import Workspace, new_token

_ROUTES = Routes([*api.routes, *embeds.routes])


@dataclass(kw_only=True, eq=False, repr=False)
class FakeExamplary(Workspace):
    """Examplary in memory, as section 17 of the API contract requires.

    It is a workspace itself, and also serves those of ``add_workspace``. Its ``calls``, faults and
    rate limit apply to the requests of all workspaces. Attributes with a default may be passed to
    the constructor, or set later from any thread.
    """

    #: Seconds that every API call takes.
    latency: float = 0
    #: This workspace and the added ones.
    workspaces: list[Workspace] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.workspaces.append(self)

    def add_workspace(self, api_key: str = "", **options: Any) -> Workspace:
        """Add a workspace, which serves the requests with this API key.

        ``options`` are switches, ``owner_id``, ``org_id`` and ``embed_origin``. Without an API key
        the workspace gets a new one; see its ``api_key``.
        """
        workspace = Workspace(
            **{
                "api_key": api_key or f"examp_{new_token(32)}",
                "owner_id": f"user_{new_token()}",
                "org_id": f"org_{new_token()}",
                "base_url": self.base_url,
                "embed_origin": self.embed_origin,
                "clock": lambda: self.clock(),
                **options,
            }
        )
        self.workspaces.append(workspace)
        return workspace

    def handle(self, request: Request) -> Response:
        """Return the response to a request."""
        route, arguments = _ROUTES.find(request)
        is_api = route is None or route.is_api
        if is_api and request.is_preflight:
            # Browsers send it automatically, so it is not recorded and has no faults.
            return Response(204, _allow_origin(request))
        workspace = self._find_workspace(request, arguments[0] if not is_api else "")
        involved: list[Workspace] = [self]
        if workspace is not None and workspace is not self:
            involved.append(workspace)
        faults = [each.receive(request) for each in involved]
        # The fault of the added workspace is the more specific one.
        fault = next((each for each in reversed(faults) if each is not None), None)
        limits = [is_api and each.exceeds_limit(self.clock()) for each in involved]
        if is_api:
            time.sleep(self.latency)
        if fault is not None:
            time.sleep(fault.delay)
        if fault is not None and fault.prevents:
            status = fault.status or 200
            if status < 400:
                response = json_response(status, {})
            else:
                text = http.client.responses.get(status, "Error")
                response = self._error(self, status, text)
        elif any(limits):
            response = self._error(self, 429, "Too many requests.", {"Retry-After": "1"})
        else:
            response = self._process(workspace, request, route, arguments)
        if fault is not None:
            response = fault.apply(response)
        if is_api and "Origin" in request.headers:
            headers = {**response.headers, **_allow_origin(request)}
            response = dataclasses.replace(response, headers=headers)
        return response

    def _find_workspace(self, request: Request, token: str) -> Workspace | None:
        """Return the workspace of the embed token or the API key, or None."""
        credentials = request.headers.get("Authorization")
        for workspace in self.workspaces:
            # The official demo sends the raw key (section 3).
            keys = (workspace.api_key, f"Bearer {workspace.api_key}")
            if workspace.has_token(token) if token else credentials in keys:
                return workspace
        return None

    def _process(
        self,
        workspace: Workspace | None,
        request: Request,
        route: Route | None,
        arguments: tuple[str, ...],
    ) -> Response:
        """Return the response to a request without a fault and within the limit."""
        if route is None:
            if _ROUTES.knows(request):
                return self._error(workspace or self, 405, "Method not allowed.")
            return self._error(workspace or self, 404, "Not found.")
        if workspace is None and route.needs_key:
            return self._error(self, 401, "Unauthorized.")
        workspace = workspace or self
        try:
            with workspace.lock:
                response = workspace.once(request, route.handler, arguments)
        except Refusal as refusal:
            if not route.is_api:
                return html_response(refusal.status, pages.message(refusal.message))
            return self._error(workspace, refusal.status, refusal.message)
        operation = f"{route.method} {route.template}"
        return profile(workspace.answers).shape(operation, response) if route.is_api else response

    def _error(
        self,
        workspace: Workspace,
        status: int,
        text: str,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        if workspace.error_shape == "empty":
            response = Response(status)
        elif workspace.error_shape == "html":
            response = html_response(status, pages.message(text))
        else:
            response = json_response(status, ERROR_BODIES[workspace.error_shape](text))
        response = profile(workspace.answers).shape("", response)
        return dataclasses.replace(response, headers={**response.headers, **(headers or {})})


def _allow_origin(request: Request) -> dict[str, str]:
    """Return the headers that let a page on any origin call the API with its key (section 18)."""
    headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Retry-After"}
    if request.is_preflight:
        headers |= {
            "Access-Control-Allow-Methods": "GET, POST, PATCH, DELETE",
            # The wildcard does not cover Authorization.
            "Access-Control-Allow-Headers": request.headers.get(
                "Access-Control-Request-Headers", ""
            ),
            "Access-Control-Max-Age": "600",
        }
    return headers
