"""The received requests, and the faults and rate limit for the next ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from django_examplary.testing.faults import Fault
from django_examplary.testing.messages import Request, Transport


@dataclass(kw_only=True, eq=False, repr=False)
class Traffic:
    """Record requests, and apply faults and a rate limit."""

    requests: list[Request] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._guard = threading.Lock()
        self._faults: list[Fault] = []
        self._rate: int | None = None
        self._recent: deque[datetime] = deque()

    def calls(self, method: str | None = None, path: str | None = None) -> list[Request]:
        """Return the recorded requests; ``path`` may be a template: ``/embed-sessions/{id}``."""
        with self._guard:
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
        """Make the next ``times`` matching requests fail; with None, until ``heal``.

        ``status``, ``body`` and ``headers`` replace those of the response. ``edit`` is a function
        that changes its JSON. ``delay`` delays it, in seconds. ``transport`` loses it: ``"close"``
        closes the connection, ``"reset"`` resets it. With a status, a body or a lost response, the
        request is not processed. With ``before=False`` the request is processed, and only the
        response is lost. Faults are used in the order of these calls.
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
        with self._guard:
            self._faults.append(fault)
        return fault

    def heal(self) -> None:
        """Remove the remaining faults and the rate limit."""
        with self._guard:
            self._faults.clear()
            self._rate = None

    def rate_limit(self, per_second: int | None) -> None:
        """Return 429 with ``Retry-After`` above this number of API calls per second."""
        with self._guard:
            self._rate = per_second
            self._recent.clear()

    def receive(self, request: Request) -> Fault | None:
        """Record a request, and return the fault for it, which counts as used."""
        with self._guard:
            self.requests.append(request)
            fault = next(
                (each for each in self._faults if request.matches(each.method, each.path)), None
            )
            if fault is not None and fault.times is not None:
                fault.times -= 1
                if fault.times < 1:
                    self._faults.remove(fault)
            return fault

    def exceeds_limit(self, now: datetime) -> bool:
        """Count an API call, and return whether it exceeds the limit."""
        with self._guard:
            if self._rate is None:
                return False
            while self._recent and now - self._recent[0] >= timedelta(seconds=1):
                self._recent.popleft()
            if len(self._recent) >= self._rate:
                return True
            self._recent.append(now)
            return False
