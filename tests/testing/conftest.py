from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from django_examplary.testing import serve
from django_examplary.testing.server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serve() as server:
        yield server


@pytest.fixture
def connection(server: FakeServer) -> Iterator[http.client.HTTPConnection]:
    url = urlsplit(server.url)
    assert url.hostname
    with contextlib.closing(
        http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    ) as connection:
        yield connection
