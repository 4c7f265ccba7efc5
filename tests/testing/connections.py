"""Low-level connections to the server of a fake."""

from __future__ import annotations

import http.client
import socket

from django_examplary.testing import DEFAULT_API_KEY
from django_examplary.testing.server import FakeServer

HEADERS = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}


def connect(server: FakeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=60)


def get(connection: http.client.HTTPConnection, path: str = "/me") -> http.client.HTTPResponse:
    connection.request("GET", path, headers=HEADERS)
    return connection.getresponse()
