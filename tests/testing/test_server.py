from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from django_examplary.testing.__main__ import main
from django_examplary.testing.server import FakeServer, _Handler, run
from tests import processes

HEADERS = {"Authorization": f"Bearer {DEFAULT_API_KEY}"}


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


def connect(server: FakeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=60)


def get(connection: http.client.HTTPConnection, path: str = "/me") -> http.client.HTTPResponse:
    connection.request("GET", path, headers=HEADERS)
    return connection.getresponse()


def raw_answer(server: FakeServer, size: int = -1) -> bytes:
    """What comes over the wire, until the server closes or ``size`` bytes are there."""
    with connect(server) as client:
        key = HEADERS["Authorization"]
        client.sendall(f"GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\n\r\n".encode())
        with client.makefile("rb") as stream:
            return stream.read(size)


def test_serves_the_api(server):
    answer = requests.post(
        f"{server.url}/users", json={"email": "ada@example.com"}, headers=HEADERS, timeout=60
    )
    assert answer.status_code == 200
    assert answer.json()["id"] in server.fake.users
    assert answer.headers["Content-Type"] == "application/json"


def test_serves_the_given_fake_under_its_own_address():
    fake = FakeExamplary()
    with serve(fake) as server:
        assert server.fake is fake
        assert fake.base_url == server.url
        session = fake.add_session("edit-rubric", fake.add_user()["id"])
        page = requests.get(session.embed_url, timeout=60)
        assert "Edit the rubric" in page.text
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"


def test_query_reaches_the_fake(server):
    wanted = server.fake.add_source_material("https://site.example/", externalId="a b")
    answer = requests.get(
        f"{server.url}/source-materials",
        params={"externalId": "a b"},
        headers=HEADERS,
        timeout=60,
    )
    assert answer.json() == [wanted]


def test_connection_is_kept_alive(connection):
    get(connection).read()
    first = connection.sock
    get(connection).read()
    assert connection.sock is first


@pytest.mark.parametrize("method", ["HEAD", "PUT", "OPTIONS"])
def test_other_methods_are_not_allowed(connection, method):
    connection.request(method, "/me", headers=HEADERS)
    answer = connection.getresponse()
    assert answer.status == 405
    assert (answer.read() == b"") is (method == "HEAD")


@pytest.mark.parametrize("header", [{"Transfer-Encoding": "chunked"}, {"Content-Length": "-1"}])
def test_body_needs_a_length(connection, header):
    connection.putrequest("POST", "/users")
    for name, value in header.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 411
    assert answer.headers["Connection"] == "close"


def test_logs_nothing(server, capfd):
    requests.get(f"{server.url}/embeds/secret", timeout=60)
    assert capfd.readouterr() == ("", "")


def test_many_clients_at_once(server):
    server.fake.latency = 0.05
    statuses: list[int] = []

    def ask() -> None:
        answer = requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
        statuses.append(answer.status_code)

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 32


def test_stopping_closes_everything(connection):
    with serve() as server:
        idle = connect(server)
        arrived = threading.Event()
        server.fake.fail(transport="hang", edit=lambda answer: arrived.set())
        idle.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(60)
    with idle:
        assert idle.recv(1) == b""
    # Another process may listen on the port by now.
    assert server.socket.fileno() == -1


def test_programming_error_is_shown(server, connection, capfd):
    server.fake.users.clear()
    with pytest.raises(http.client.RemoteDisconnected):
        get(connection)
    assert "KeyError" in capfd.readouterr().err


# Transports.


def test_close(server, connection):
    server.fake.fail(transport="close")
    with pytest.raises(http.client.RemoteDisconnected):
        get(connection)


def test_close_after_the_answer(server, connection):
    server.fake.fail(transport="close-after")
    answer = get(connection)
    assert answer.headers["Connection"] is None
    answer.read()
    assert connection.sock.recv(1) == b""


def test_reset(server, connection):
    get(connection).read()
    server.fake.fail(transport="reset")
    with pytest.raises(ConnectionResetError):
        get(connection)


def test_hang_ends_with_the_client(server):
    server.fake.fail(transport="hang")
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{server.url}/me", timeout=0.1)


def test_truncate(server, connection):
    server.fake.fail(transport="truncate")
    with pytest.raises(http.client.IncompleteRead):
        get(connection).read()


def test_no_length(server, connection):
    server.fake.fail(transport="no-length")
    answer = get(connection)
    assert answer.headers["Content-Length"] is None
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.read())


def test_bad_chunk(server, connection):
    server.fake.fail(transport="bad-chunk")
    with pytest.raises(http.client.IncompleteRead):
        get(connection).read()


@pytest.mark.parametrize("transport", ["drip-body", "drip-headers"])
def test_drip(server, connection, transport):
    server.fake.drip_interval = 0.0001
    server.fake.fail(transport=transport)
    assert json.loads(get(connection).read())["id"] == server.fake.owner_id


def test_drip_ends_with_the_server():
    with serve() as server:
        server.fake.drip_interval = 60
        arrived = threading.Event()
        server.fake.fail(transport="drip-headers", edit=lambda answer: arrived.set())
        client = connect(server)
        client.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(60)
    with client:
        assert client.recv(1) == b""


@pytest.mark.parametrize(
    ("transport", "status"), [("interim-102", b"102"), ("interim-103", b"103")]
)
def test_interim_answer_comes_first(server, transport, status):
    server.fake.fail(transport=transport)
    answer = raw_answer(server, 200)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"\r\n\r\nHTTP/1.1 200 OK\r\n" in answer


def test_extra_bytes(server):
    server.fake.fail(transport="extra-bytes")
    assert raw_answer(server, 300).count(b"HTTP/1.1 200 OK") == 2


def test_many_headers(server):
    server.fake.fail(transport="many-headers")
    assert raw_answer(server).count(b"X-Filler-") == 1000


def test_endless(server, connection):
    server.fake.fail(transport="endless")
    assert len(get(connection).read(2**20)) == 2**20


def test_endless_ends_with_the_server():
    with serve() as server:
        server.fake.fail(transport="endless")
        client = connect(server)
        client.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1) == b"H"
    # Whatever was under way arrives; then it is over.
    with client, client.makefile("rb") as stream, contextlib.suppress(ConnectionResetError):
        stream.read()


def test_huge(server, connection):
    server.fake.fail(transport="huge")
    answer = get(connection)
    size = 100 * 2**20
    assert answer.headers["Content-Length"] == str(size)
    assert sum(len(chunk) for chunk in iter(lambda: answer.read(2**20), b"")) == size


def test_gzip(server, connection):
    server.fake.fail(transport="gzip")
    assert get(connection).headers["Content-Encoding"] == "gzip"


def test_next_call_is_fine_after_every_transport(server):
    for transport in ("close", "reset", "truncate", "bad-chunk", "garbage"):
        server.fake.fail(transport=transport)
        with contextlib.suppress(requests.RequestException):
            requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
        answer = requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
        assert answer.json()["id"] == server.fake.owner_id


# On its own.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_ends_on_a_signal(number, request):
    # A shell that starts the tests in the background lets them ignore SIGINT.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ours))
    before = signal.getsignal(signal.SIGTERM)
    addresses: list[str] = []

    def ready(server: FakeServer) -> None:
        addresses.append(server.url)
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    run(port=0, ready=ready)
    assert addresses
    assert signal.getsignal(signal.SIGTERM) is before


def test_main_says_what_to_set(monkeypatch, capsys):
    started: list[FakeExamplary] = []

    def fake_run(fake, *, host, port, ready):
        started.append(fake)
        with serve(fake, host=host, port=port) as server:
            ready(server)

    monkeypatch.setattr("django_examplary.testing.__main__.run", fake_run)
    main(["--port", "0", "--api-key", "examp_mine"])
    (fake,) = started
    assert fake.staging
    printed = capsys.readouterr().out
    assert "EXAMPLARY_API_KEY=examp_mine" in printed
    assert f"EXAMPLARY_API_URL={fake.base_url}" in printed
    assert f"EXAMPLARY_EMBED_ORIGINS={fake.base_url}" in printed


def test_main_says_what_to_do_about_a_taken_port(capsys):
    with serve() as server, pytest.raises(SystemExit) as caught:
        main(["--port", str(urlsplit(server.url).port)])
    assert caught.value.code == 2
    assert "choose another --port" in capsys.readouterr().err


def test_command_runs_alone():
    command = [sys.executable, "-m", "django_examplary.testing", "--port", "0"]
    with processes.serve(*command, environment=os.environ) as url:
        assert requests.get(f"{url}/openapi", timeout=60).ok


def test_handler_makes_up_methods_of_http_only():
    handler = object.__new__(_Handler)
    assert handler.do_ANYTHING == handler.answer
    with pytest.raises(AttributeError):
        handler.undo  # noqa: B018  # reading it is the test
