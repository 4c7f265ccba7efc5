"""Signed-in users' browsers, reduced to the requests that a server receives."""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar
from urllib.parse import urlsplit

import django
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.db import connections
from django.urls import reverse

from django_examplary.flows import GenerateExam
from django_examplary.launch import Launch
from tests import processes

T = TypeVar("T")
R = TypeVar("R")

_CSRF = "c" * 32


def patient_pauses() -> Iterator[float]:
    """Yield the pauses between the retries of the embed script."""
    for pause in itertools.chain((1.0, 2.0, 4.0), itertools.repeat(8.0)):
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311  # no secret


class Visitor:
    def __init__(self, user: Any, address: str) -> None:
        self.user = user
        self.move_to(address)
        self.launch = Launch(
            user_id=str(user.pk), flow=GenerateExam(subject="Sums"), origin="https://school.example"
        )
        self.launch_path = reverse("django_examplary:launch", args=[self.launch.sign()])
        #: Number of responses by status code; 0: no response, because the server died.
        self.statuses: Counter[int] = Counter()
        #: Seconds of the slowest response to a launch, and of the whole launch.
        self.slowest = self.opened_after = 0.0

    def move_to(self, address: str) -> None:
        """Send further requests to another server."""
        self.server = urlsplit(address).netloc

    @functools.cached_property
    def cookies(self) -> str:
        store = SessionStore()
        store[SESSION_KEY] = str(self.user.pk)
        store[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
        store[HASH_SESSION_KEY] = self.user.get_session_auth_hash()
        store.save()
        return f"sessionid={store.session_key}; csrftoken={_CSRF}"

    def request(self, method: str, path: str, **headers: str) -> tuple[int, str, bytes]:
        """Return the status code, the Location and the body; 0 if there is no answer."""
        connection = http.client.HTTPConnection(self.server, timeout=processes.PATIENCE)
        try:
            connection.request(method, path, headers={"Cookie": self.cookies, **headers})
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Location", ""), answer.read()
        except (http.client.HTTPException, ConnectionError):
            return 0, "", b""
        finally:
            connection.close()

    def page(self) -> Any:
        """Return the content of an ordinary page, or an empty mapping if it fails."""
        status, _, body = self.request("GET", "/page/")
        return json.loads(body) if status == 200 else {}

    def try_once(self) -> str:
        """Launch once, and return the URL of the embed; empty if it is not open yet."""
        started = time.monotonic()
        status, location, _ = self.request("GET", self.launch_path, **{"Sec-Fetch-Dest": "iframe"})
        self.slowest = max(self.slowest, time.monotonic() - started)
        self.statuses[status] += 1
        return location if status == 302 else ""

    def open(self, patience: float = processes.PATIENCE) -> str:
        """Launch with the retries of the embed script; return the URL, or "" after `patience`."""
        started = time.monotonic()
        pauses = patient_pauses()
        while not (url := self.try_once()):
            if time.monotonic() - started > patience:
                return ""
            time.sleep(next(pauses))
        self.opened_after = time.monotonic() - started
        return url

    def sync(self) -> int:
        """Report the end of the embed, as the script does. Return the last status code."""
        path = reverse("django_examplary:sync", args=[self.launch.key])
        accept = {"X-CSRFToken": _CSRF, "Accept": "application/json"}
        started = time.monotonic()
        pauses = patient_pauses()
        while (status := self.request("POST", path, **accept)[0]) == 409:
            if time.monotonic() - started > processes.PATIENCE:
                break
            time.sleep(next(pauses))
        return status


def at_once(call: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Make a call for each item at once, in fewer threads than PostgreSQL has connections."""
    items = list(items)
    with ThreadPoolExecutor(min(len(items), 80)) as pool:
        return list(pool.map(call, items))


class Background:
    """Repeat an action in a thread while the context lasts."""

    def __init__(self, action: Callable[[], object], *, every: float) -> None:
        self._action = action
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        #: The return values of the action.
        self.results: list[Any] = []

    def _run(self) -> None:
        try:
            while not self._stop.wait(self._every):
                self.results.append(self._action())
        finally:
            connections.close_all()

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop.set()
        self._thread.join()


def crowd_process() -> ProcessPoolExecutor:
    """Return a process for a crowd, separate from the process that measures."""
    return ProcessPoolExecutor(1, get_context("spawn"), django.setup)


def send(requests: list[tuple[Visitor, str, float]]) -> Counter[int]:
    """Send each request at its time of the monotonic clock; an empty path launches.

    Return the number of responses by status code.
    """

    def send_one(request: tuple[Visitor, str, float]) -> int:
        visitor, path, moment = request
        time.sleep(max(0.0, moment - time.monotonic()))
        frame = {"Sec-Fetch-Dest": "iframe"}
        return visitor.request("GET", path or visitor.launch_path, **frame)[0]

    with ThreadPoolExecutor(min(len(requests), 200)) as pool:
        return Counter(pool.map(send_one, requests))
