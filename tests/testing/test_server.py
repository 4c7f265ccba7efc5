from __future__ import annotations

import contextlib
import functools
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from django_examplary.testing.__main__ import main
from django_examplary.testing.server import FakeHandler, FakeServer, run
from tests import wire

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
        http.client.HTTPConnection(url.hostname, url.port, timeout=5)
    ) as connection:
        yield connection


def connect(server: FakeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server_port), timeout=5)


def get(connection: http.client.HTTPConnection, path: str = "/me") -> http.client.HTTPResponse:
    connection.request("GET", path, headers=HEADERS)
    return connection.getresponse()


def test_serves_the_api(server):
    answer = requests.post(
        f"{server.url}/users", json={"email": "ada@example.com"}, headers=HEADERS, timeout=5
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
        page = requests.get(session.embed_url, timeout=5)
        assert "Edit the rubric" in page.text
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"


def test_query_reaches_the_fake(server):
    wanted = server.fake.add_source_material("https://site.example/", externalId="a b")
    answer = requests.get(
        f"{server.url}/source-materials",
        params={"externalId": "a b"},
        headers=HEADERS,
        timeout=5,
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
    requests.get(f"{server.url}/embeds/secret", timeout=5)
    assert capfd.readouterr() == ("", "")


def test_many_clients_at_once(server):
    server.fake.latency = 0.05
    statuses: list[int] = []

    def ask() -> None:
        answer = requests.get(f"{server.url}/me", headers=HEADERS, timeout=5)
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
        port = server.server_port
        arrived = threading.Event()
        server.fake.fail(transport=wire.HANG, edit=lambda answer: arrived.set())
        idle.sendall(b"GET /me HTTP/1.1\r\nHost: x\r\n\r\n")
        assert arrived.wait(5)
    with idle:
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


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


def test_reset(server, connection):
    get(connection).read()
    server.fake.fail(transport="reset")
    with pytest.raises(ConnectionResetError):
        get(connection)


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

    def fake_run(fake, *, ready, **options):
        started.append(fake)
        with serve(fake, **options) as server:
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


def test_command_runs_without_settings():
    """The whole fake, its templates included, works outside a Django project."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"}
    with subprocess.Popen(
        [sys.executable, "-m", "django_examplary.testing", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout
        try:
            first = process.stdout.readline()
            assert first.startswith("A fake Examplary listens on "), first + process.stdout.read()
            url = first.split()[5].rstrip(".")
            assert requests.get(f"{url}/openapi", timeout=60).ok
            call = functools.partial(requests.post, headers=HEADERS, timeout=60)
            actor = call(f"{url}/users", json={"email": "ada@example.com"}).json()["id"]
            session = {"flow": "edit-rubric", "actor": actor, "theme": {"locale": "nl"}}
            page = call(f"{url}/embed-sessions", json=session).json()["embedUrl"]
            assert "Rubric bewerken" in requests.get(page, timeout=60).text
        finally:
            process.send_signal(signal.SIGTERM)
            output = process.stdout.read()
        assert process.wait(timeout=60) == 0, output
        assert "Traceback" not in output, output


def test_handler_makes_up_methods_of_http_only():
    handler = object.__new__(FakeHandler)
    assert handler.do_ANYTHING == handler.answer
    with pytest.raises(AttributeError):
        handler.undo  # noqa: B018  # reading it is the test
