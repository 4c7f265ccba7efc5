from __future__ import annotations

import contextlib
import functools
import http.client
import os
import signal
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import requests
import trustme

from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, __main__, serve
from django_examplary.testing.__main__ import main
from django_examplary.testing.server import FakeHandler, FakeServer
from tests import wire
from tests.processes import COVERAGE
from tests.testing.connections import HEADERS, connect, get


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
        server.fake.fail(transport=wire.HANG, edit=lambda answer: arrived.set())
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


def test_reset(server, connection):
    get(connection).read()
    server.fake.fail(transport="reset")
    with pytest.raises(ConnectionResetError):
        get(connection)


# Pages on other origins (section 18).

PREFLIGHT = {
    "Origin": "https://demo.example",
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


def test_preflight_allows_a_call_with_a_key(server):
    for path in ("/users", "/embed-sessions/embed_session_1", "/nowhere"):
        answer = requests.options(f"{server.url}{path}", headers=PREFLIGHT, timeout=60)
        assert answer.status_code == 204
        allowed = {
            name.removeprefix("Access-Control-Allow-"): value
            for name, value in answer.headers.items()
            if name.startswith("Access-Control-Allow-")
        }
        assert allowed == {
            "Origin": "*",
            "Methods": "GET, POST, PATCH, DELETE",
            "Headers": "authorization,content-type",
        }


def test_preflight_is_neither_recorded_nor_broken(server):
    server.fake.fail(status=503)
    assert requests.options(f"{server.url}/me", headers=PREFLIGHT, timeout=60).ok
    assert server.fake.calls() == []
    assert requests.get(f"{server.url}/me", headers=HEADERS, timeout=60).status_code == 503


@pytest.mark.parametrize(("key", "status"), [(DEFAULT_API_KEY, 200), ("wrong", 401)])
def test_responses_can_be_read_on_any_origin(server, key, status):
    headers = {"Authorization": f"Bearer {key}", "Origin": "https://demo.example"}
    answer = requests.get(f"{server.url}/me", headers=headers, timeout=60)
    assert answer.status_code == status
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    server.fake.fail(status=429, headers={"Retry-After": "1"})
    answer = requests.get(f"{server.url}/me", headers=headers, timeout=60)
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"


def test_responses_to_servers_have_no_cors_headers(server):
    answer = requests.get(f"{server.url}/me", headers=HEADERS, timeout=60)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_embed_pages_are_for_their_own_origin(server):
    session = server.fake.add_session("edit-rubric", server.fake.add_user()["id"])
    headers = {"Origin": "https://demo.example"}
    page = requests.get(session.embed_url, headers=headers, timeout=60)
    assert page.ok
    assert "Access-Control-Allow-Origin" not in page.headers


# TLS and another public address.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory) -> dict[str, str]:
    """The paths of a certificate for localhost, its key and its authority."""
    folder = tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return {name: str(folder / f"{name}.pem") for name in ("cert", "key", "ca")}


def test_https(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["cert"], files["key"])
    fetch = functools.partial(requests.get, verify=files["ca"], timeout=60)
    with serve(tls=context) as server:
        assert server.url == f"https://127.0.0.1:{server.server_port}" == server.fake.base_url
        session = server.fake.add_session("edit-rubric", server.fake.add_user()["id"])
        assert fetch(session.embed_url).ok
        # Clients that don't trust the authority, or use http, don't affect others.
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{server.url}/openapi", timeout=60)
        with pytest.raises(requests.ConnectionError):
            requests.get(f"http://127.0.0.1:{server.server_port}/openapi", timeout=60)
        silent = connect(server)
        assert fetch(f"{server.url}/openapi").ok
    silent.close()


def test_reset_over_https(files):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files["cert"], files["key"])
    with serve(tls=context) as server:
        server.fake.fail(transport="reset")
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/me", verify=files["ca"], timeout=60)
        assert requests.get(f"{server.url}/openapi", verify=files["ca"], timeout=60).ok


def test_new_sessions_have_the_public_url():
    with serve(public_url="https://examplary.school.example") as server:
        session = server.fake.add_session("edit-rubric", server.fake.add_user()["id"])
        assert session.embed_url.startswith("https://examplary.school.example/embeds/")
        assert server.url.startswith("http://127.0.0.1:")


# As a command.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_main_prints_the_settings_and_ends_on_a_signal(number, request, monkeypatch, capsys):
    # A shell that starts the tests in the background lets them ignore SIGINT.
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, ours))
    before = signal.getsignal(signal.SIGTERM)
    fakes: list[FakeExamplary] = []
    welcome = __main__._welcome

    def welcome_and_stop(server: FakeServer) -> None:
        welcome(server)
        fakes.append(server.fake)
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    monkeypatch.setattr(__main__, "_welcome", welcome_and_stop)
    main(["--port", "0", "--api-key", "examp_mine"])
    (fake,) = fakes
    assert fake.staging
    assert signal.getsignal(signal.SIGTERM) is before
    printed = capsys.readouterr().out
    assert "EXAMPLARY_API_KEY=examp_mine" in printed
    assert f"EXAMPLARY_API_URL={fake.base_url}" in printed
    assert f"EXAMPLARY_EMBED_ORIGINS={fake.base_url}" in printed


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[str]:
    """Run the fake in its own process, and return the URL that it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"} | COVERAGE
    with subprocess.Popen(
        [sys.executable, "-m", "django_examplary.testing", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout
        try:
            first = process.stdout.readline()
            assert first.startswith("A fake Examplary listens on "), first + process.stdout.read()
            yield first.split()[5].rstrip(".")
        finally:
            process.send_signal(signal.SIGTERM)
            output = process.stdout.read()
        assert process.wait(timeout=60) == 0, output
        assert "Traceback" not in output, output


def test_command_serves_https_under_its_public_address(files):
    arguments = ["--tls-cert", files["cert"], "--tls-key", files["key"]]
    with running(*arguments, "--public-url", "https://examplary.school.example/") as url:
        call = functools.partial(requests.post, headers=HEADERS, timeout=60, verify=files["ca"])
        actor = call(f"{url}/users", json={"email": "ada@example.com"}).json()["id"]
        session = {"flow": "edit-rubric", "actor": actor}
        page = call(f"{url}/embed-sessions", json=session).json()["embedUrl"]
        assert page.startswith("https://examplary.school.example/embeds/")


def test_command_keeps_its_data_in_a_store(tmp_path):
    seed, store = tmp_path / "seed.json", tmp_path / "store.json"
    seed.write_text('{"exams": [{"id": "exam_1", "name": "Algebra"}]}')
    arguments = ["--seed", str(seed), "--store", str(store)]
    with running(*arguments) as url:
        call = functools.partial(requests.post, headers=HEADERS, timeout=60)
        actor = call(f"{url}/users", json={"email": "ada@example.com"}).json()["id"]
        body = {"flow": "edit-exam", "actor": actor, "presets": {"examId": "exam_1"}}
        session_id = call(f"{url}/embed-sessions", json=body).json()["id"]
        body = {"actor": actor, "role": "editor"}
        assert call(f"{url}/permissions/exam_1", json=body).status_code == 201
    with running(*arguments) as url:
        read = functools.partial(requests.get, headers=HEADERS, timeout=60)
        assert read(f"{url}/exams/exam_1").json()["name"] == "Algebra"
        assert read(f"{url}/permissions/exam_1/{actor}").json()["role"] == "editor"
        session = read(f"{url}/embed-sessions/{session_id}").json()
        assert session["actor"] == actor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--public-url", "school.example"], "--public-url must be an origin"),
        (["--public-url", "https://school.example/fake"], "--public-url must be an origin"),
        (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "missing.pem"], "--tls-cert or --tls-key can't be read"),
        (["--seed", "missing.json"], "--seed or --store can't be used"),
        (["--store", "/missing/store.json"], "--seed or --store can't be used"),
    ],
)
def test_main_names_the_wrong_option(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--port", "0", *arguments])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_main_explains_a_port_in_use(capsys):
    with serve() as server, pytest.raises(SystemExit) as caught:
        main(["--port", str(urlsplit(server.url).port)])
    assert caught.value.code == 2
    assert "choose another --port" in capsys.readouterr().err


def test_command_runs_without_settings():
    """The fake and its templates work outside a Django project."""
    with running() as url:
        assert requests.get(f"{url}/openapi", timeout=60).ok
        call = functools.partial(requests.post, headers=HEADERS, timeout=60)
        actor = call(f"{url}/users", json={"email": "ada@example.com"}).json()["id"]
        session = {"flow": "edit-rubric", "actor": actor, "theme": {"locale": "nl"}}
        page = call(f"{url}/embed-sessions", json=session).json()["embedUrl"]
        assert "Rubric bewerken" in requests.get(page, timeout=60).text


def test_handler_creates_only_http_methods():
    handler = object.__new__(FakeHandler)
    assert handler.do_ANYTHING == handler.answer
    with pytest.raises(AttributeError):
        handler.undo  # noqa: B018  # reading it is the test
