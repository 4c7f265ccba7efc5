"""What only the socket knows: TLS, and whether a request was sent."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import trustme

from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import (
    ExamplaryConnectionError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
)
from django_examplary.retries import is_uncertain
from django_examplary.signals import api_call_finished
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary
from django_examplary.testing.server import FakeServer
from django_examplary.transport import Exchange, Transport, TransportError


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Let clients trust the authority of these tests, and it alone."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "ca.pem"))


@pytest.fixture
def make_client(monkeypatch):
    monkeypatch.setattr("django_examplary.retries.random.uniform", lambda low, high: 0.01)
    clients = []

    def make(url, **options):
        options = {"timeout": 30, "deadline": 60, **options}
        clients.append(ExamplaryClient(DEFAULT_API_KEY, base_url=url, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@contextmanager
def serve_tls(certificate):
    """The fake over TLS; yields its URL and itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    fake = FakeExamplary()
    with FakeServer(fake, "127.0.0.1", 0) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}", fake
        finally:
            server.shutdown()
            thread.join()


def test_tls_works_and_keeps_its_connection(authority, trusted, make_client):
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        client = make_client(url)
        for _ in range(3):
            assert client.get_me().id == fake.owner_id


@pytest.mark.parametrize("fault", ["unknown authority", "wrong host", "expired"])
def test_bad_certificate_is_never_asked_again(authority, make_client, request, fault):
    if fault != "unknown authority":
        request.getfixturevalue("trusted")
    certificate = {
        "unknown authority": lambda: authority.issue_cert("localhost"),
        "wrong host": lambda: authority.issue_cert("other.example"),
        "expired": lambda: authority.issue_cert(
            "localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)
        ),
    }[fault]()
    attempts = []

    def count(**call):
        attempts.append(call["attempts"])

    api_call_finished.connect(count)
    request.addfinalizer(lambda: api_call_finished.disconnect(count))
    with serve_tls(certificate) as (url, fake):
        with pytest.raises(ExamplaryConnectionError, match="certificate is not valid") as caught:
            make_client(url).get_me()
        assert caught.value.sent is False
        assert attempts == [1]
        assert fake.requests == []


def test_answer_cut_inside_tls_leaves_it_open(authority, trusted, make_client):
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        fake.fail("POST", "/users", times=None, transport="reset", before=False)
        with pytest.raises(ExamplaryConnectionError) as caught:
            make_client(url).create_user(email="ann@school.example")
        assert is_uncertain(caught.value)
        assert len(fake.calls("POST", "/users")) == 1


@contextmanager
def listen(talk):
    """A raw server; `talk` gets each connection. Yields its port and the number of connections."""
    accepted = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                with connection:
                    talk(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], accepted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("handshake", "error"),
    [
        (lambda connection: None, ExamplaryConnectionError),
        (lambda connection: connection.recv(1), ExamplaryConnectionError),
        (lambda connection: time.sleep(0.6), ExamplaryTimeoutError),
    ],
    ids=["closed at once", "reset", "hangs"],
)
def test_failed_handshake_sent_nothing_and_is_tried_again(make_client, handshake, error):
    with listen(handshake) as (port, accepted):
        with pytest.raises(error) as caught:
            make_client(f"https://localhost:{port}", timeout=0.4, deadline=5).create_user(
                email="ann@x.org"
            )
        assert caught.value.sent is False
        assert len(accepted) > 1


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"nonsense\r\n\r\n", b"\x00\xff" * 100],
)
def test_answer_that_is_not_http_is_an_error(make_client, answer):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(answer)

    with listen(talk) as (port, accepted):
        with pytest.raises((ExamplaryConnectionError, ExamplaryResponseError)) as caught:
            make_client(f"http://127.0.0.1:{port}").create_user(email="ann@x.org")
        assert is_uncertain(caught.value)
        assert len(accepted) == 1


def test_full_backlog_times_out_as_unsent(make_client, monkeypatch):
    monkeypatch.setattr("django_examplary.transport.CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(1)]
        with pytest.raises(ExamplaryTimeoutError) as caught:
            make_client(f"http://127.0.0.1:{port}", timeout=5).get_me()
        assert caught.value.sent is False
        for connection in waiting:
            connection.close()


def test_transport_asks_its_own_origin_only():
    transport = Transport("http://127.0.0.1:1", user_agent="test", pool_size=1)
    for url in ("http://127.0.0.1:10/", "http://127.0.0.1:1.evil.example/", "https://127.0.0.1:1/"):
        with pytest.raises(TransportError, match="another origin"):
            transport.send(Exchange(time.monotonic() + 1, 1), "GET", url, headers={})


def test_exchange_without_time_left_does_not_start():
    transport = Transport("http://127.0.0.1:1", user_agent="test", pool_size=1)
    with pytest.raises(TransportError, match="in time"):
        transport.send(Exchange(time.monotonic() - 1, 1), "GET", "http://127.0.0.1:1/", headers={})


def let_localhost_be(monkeypatch, hosts):
    find = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host != "localhost":
            return find(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


def test_host_of_many_dead_addresses_keeps_the_deadline(make_client, monkeypatch):
    monkeypatch.setattr("django_examplary.transport.CONNECT_TIMEOUT", 0.4)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        let_localhost_be(monkeypatch, ["127.0.0.1"] * 60)
        with socket.create_connection(("127.0.0.1", port)):
            started = time.monotonic()
            with pytest.raises(ExamplaryTimeoutError) as caught:
                make_client(f"http://localhost:{port}", deadline=0.9).get_me()
    assert caught.value.sent is False
    # All of them together would take at least 24 seconds.
    assert time.monotonic() - started < 15


def test_next_address_is_tried(make_client, monkeypatch):
    fake = FakeExamplary()
    with FakeServer(fake, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        let_localhost_be(monkeypatch, ["127.0.0.9", "127.0.0.1"])
        assert make_client(f"http://localhost:{server.server_port}").get_me().id == fake.owner_id
        server.shutdown()
        thread.join()


def test_environment_has_no_say_in_whom_tls_trusts(authority, trusted, make_client, monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        assert make_client(url).get_me().id == fake.owner_id


def answering(*answers):
    """A server that sends these, one to each request of a connection."""

    def talk(connection):
        for answer in answers:
            connection.recv(65536)
            connection.sendall(answer)

    return talk


USER = b'{"id": "user_1"}'
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + USER


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'5\r\n{"id"',
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20 + b"\r\n" + WHOLE,
    ],
    ids=["chunks that end too soon", "header of 1 MiB"],
)
def test_answer_in_ruins_leaves_it_open(make_client, answer):
    with listen(answering(answer)) as (port, accepted):
        with pytest.raises(ExamplaryConnectionError) as caught:
            make_client(f"http://127.0.0.1:{port}").create_user(email="ann@x.org")
        assert is_uncertain(caught.value)
        assert len(accepted) == 1


def test_100_continue_is_no_answer(make_client):
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE
    with listen(answering(answer, answer)) as (port, accepted):
        client = make_client(f"http://127.0.0.1:{port}")
        assert [client.get_me().id, client.get_me().id] == ["user_1", "user_1"]
        client.close()
        assert len(accepted) == 1


def test_url_that_cannot_be_sent_is_an_error_of_ours(make_client):
    with pytest.raises(ExamplaryConnectionError) as caught:
        make_client("https://.examplary.ai").get_me()
    assert caught.value.sent is False
