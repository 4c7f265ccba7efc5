"""The table of routes, from requests to their handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django_examplary.testing.messages import Request, Response

Handler = Callable[..., Response]


@dataclass(frozen=True, slots=True)
class Route:
    """A method, a path template, and the handler, which gets the variable parts of the path."""

    method: str
    template: str
    handler: Handler
    needs_key: bool
    # Embed pages and downloads are for browsers: no key, no latency, no rate limit.
    is_api: bool


class Routes(list[Route]):
    """A table of routes, filled with decorators."""

    def api(
        self, method: str, template: str, *, needs_key: bool = True, is_api: bool = True
    ) -> Callable[[Handler], Handler]:
        """Register an endpoint of the API."""

        def register(handler: Handler) -> Handler:
            self.append(Route(method, template, handler, needs_key, is_api))
            return handler

        return register

    def page(self, method: str, template: str) -> Callable[[Handler], Handler]:
        """Register a page or a download for browsers."""
        return self.api(method, template, needs_key=False, is_api=False)

    def find(self, request: Request) -> tuple[Route | None, tuple[str, ...]]:
        """Return the route of a request, and the variable parts of its path."""
        for route in self:
            if route.method == request.method:
                arguments = request.arguments(route.template)
                if arguments is not None:
                    return route, arguments
        return None, ()

    def knows(self, request: Request) -> bool:
        """Return whether the path exists with any method."""
        return any(request.matches(None, route.template) for route in self)
