"""Each transport of ``tests.wire`` damages a response as its name describes."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading

import pytest
import requests

from django_examplary.testing import serve
from django_examplary.testing.server import FakeServer
from tests import wire
from tests.testing.connections import HEADERS, connect, get


def raw_answer(server: FakeServer, size: int = -1) -> bytes:
    """Return the received bytes, until the server closes or there are ``size`` of them."""
    with connect(server) as client:
        key = HEADERS["Authorization"]
        client.sendall(f"GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n".encode())
        with client.makefile("rb") as stream:
            return stream.read(size)


def test_close_after_the_answer(server, connection):
    server.fake.fail(transport=wire.CLOSE_AFTER)
    answer = get(connection)
    assert answer.headers["Connection"] is None
    answer.read()
    assert connection.sock.recv(1) == b""


def test_hang_ends_when_the_client_disconnects(server):
    server.fake.fail(transport=wire.HANG)
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{server.url}/me", timeout=0.1)


def test_truncate(server, connection):
    server.fake.fail(transport=wire.TRUNCATE)
    with pytest.raises(http.client.IncompleteRead):
        get(connection).read()


def test_no_length(server, connection):
    server.fake.fail(transport=wire.NO_LENGTH)
    answer = get(connection)
    assert answer.headers["Content-Length"] is None
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.read())


def test_bad_chunk(server, connection):
    server.fake.fail(transport=wire.BAD_CHUNK)
    with pytest.raises(http.client.IncompleteRead):
        get(connection).read()


@pytest.mark.parametrize("drip", [wire.drip_body, wire.drip_headers])
def test_drip(server, connection, drip):
    server.fake.fail(transport=drip(0.0001))
    assert json.loads(get(connection).read())["id"] == server.fake.owner_id


def test_drip_ends_with_the_server():
    with serve() as server:
        arrived = threading.Event()
        server.fake.fail(transport=wire.drip_headers(60), edit=lambda answer: arrived.set())
        client = connect(server)
        client.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(60)
    with client:
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("transport", "status"),
    [(wire.INTERIM_102, b"102"), (wire.INTERIM_103, b"103")],
    ids=["102", "103"],
)
def test_interim_response_is_sent_first(server, transport, status):
    server.fake.fail(transport=transport)
    answer = raw_answer(server, 200)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in answer


def test_extra_bytes(server):
    server.fake.fail(transport=wire.EXTRA_BYTES)
    assert raw_answer(server, 300).count(b"HTTP/1.1 200 OK") == 2


def test_many_headers(server):
    server.fake.fail(transport=wire.MANY_HEADERS)
    assert raw_answer(server).count(b"X-Filler-") == 1000


def test_endless(server, connection):
    server.fake.fail(transport=wire.ENDLESS)
    assert len(get(connection).read(2**20)) == 2**20


def test_endless_ends_with_the_server():
    with serve() as server:
        server.fake.fail(transport=wire.ENDLESS)
        client = connect(server)
        client.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
    # The response that was under way arrives; then the connection ends.
    with client, client.makefile("rb") as stream, contextlib.suppress(ConnectionResetError):
        stream.read()


def test_huge(server, connection):
    server.fake.fail(transport=wire.HUGE_BODY)
    answer = get(connection)
    size = wire.HUGE
    assert answer.headers["Content-Length"] == str(size)
    assert sum(len(chunk) for chunk in iter(lambda: answer.read(2**20), b"")) == size


def test_gzip(server, connection):
    server.fake.fail(transport=wire.GZIP)
    assert get(connection).headers["Content-Encoding"] == "gzip"


def test_next_call_is_fine_after_every_transport(server):
    for transport in ("close", "reset", wire.TRUNCATE, wire.BAD_CHUNK):
        server.fake.fail(transport=transport)
        with contextlib.suppress(requests.RequestException):
            requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
        answer = requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
        assert answer.json()["id"] == server.fake.owner_id
