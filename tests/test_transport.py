"""The transport over real sockets: TLS, proxies, and whether a request was sent."""

from __future__ import annotations

import http.client
import selectors
import shutil
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest
import requests
import trustme
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from requests.auth import _basic_auth_str

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import TransportError
from django_examplary.client.retries import is_uncertain
from django_examplary.client.transport import MAX_IDLE, Exchange, Transport
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryConnectionError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
)
from django_examplary.signals import api_call_finished
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from django_examplary.testing.server import FakeServer
from tests.processes import wait_for


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Let clients trust only the authority of these tests."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "ca.pem"))


@pytest.fixture
def make_client(monkeypatch):
    monkeypatch.setattr("django_examplary.client.retries.random.uniform", lambda low, high: 0.01)
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
    """Serve the fake over TLS, and yield its URL and the fake."""
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


def test_tls_connection_is_reused(authority, trusted, make_client):
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        client = make_client(url)
        for _ in range(3):
            assert client.get_me().id == fake.owner_id


@pytest.mark.parametrize("fault", ["unknown authority", "wrong host", "expired"])
def test_bad_certificate_is_final_and_names_the_setting(authority, make_client, request, fault):
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
        assert "set EXAMPLARY_CA_BUNDLE to" in str(caught.value)
        assert caught.value.sent is False
        assert attempts == [1]
        assert fake.requests == []


def test_reset_inside_tls_is_uncertain(authority, trusted, make_client):
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        fake.fail("POST", "/users", times=None, transport="reset", before=False)
        with pytest.raises(ExamplaryConnectionError) as caught:
            make_client(url).create_user(email="ann@school.example")
        assert is_uncertain(caught.value)
        assert len(fake.calls("POST", "/users")) == 1


@contextmanager
def listen(talk, *, threads=False):
    """Run a raw server that calls `talk` for each connection; yield its port and connections."""
    accepted, started = [], []

    def serve(connection):
        with connection:
            talk(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                accepted.append(connection)
                if threads:
                    started.append(threading.Thread(target=serve, args=[connection]))
                    started[-1].start()
                else:
                    serve(connection)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1], accepted
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for each in [thread, *started]:
                each.join()


CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc"


def read_until_closed(connection):
    """Read everything and send nothing, until the client disconnects."""
    with suppress(ConnectionResetError):
        while connection.recv(65536):
            pass


@pytest.mark.parametrize(
    ("handshake", "error"),
    [
        (lambda connection: None, ExamplaryConnectionError),
        (lambda connection: connection.recv(1), ExamplaryConnectionError),
        (read_until_closed, ExamplaryTimeoutError),
    ],
    ids=["closed at once", "reset", "hangs"],
)
def test_failed_handshake_is_unsent_and_retried(make_client, handshake, error):
    timeout = 0.2 if handshake is read_until_closed else 30
    with listen(handshake) as (port, accepted):
        with pytest.raises(error) as caught:
            make_client(f"https://localhost:{port}", timeout=timeout).create_user(email="ann@x.org")
        assert caught.value.sent is False
        wait_for(lambda: len(accepted) > 1)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"nonsense\r\n\r\n", b"\x00\xff" * 100],
)
def test_response_that_is_not_http_is_uncertain(make_client, answer):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(answer)

    with listen(talk) as (port, accepted):
        with pytest.raises((ExamplaryConnectionError, ExamplaryResponseError)) as caught:
            make_client(f"http://127.0.0.1:{port}").create_user(email="ann@x.org")
        assert is_uncertain(caught.value)
        assert len(accepted) == 1


@pytest.mark.parametrize(
    ("scheme", "answer", "problem"),
    [
        ("http", b"SSH-2.0-OpenSSH_9.2\r\n", "the response is not valid HTTP"),
        ("http", b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000, "the response is not valid HTTP"),
        ("http", CHUNK[:-2], "the response is incomplete"),
        ("http", b"", "the connection broke"),
        ("https", b"HTTP/1.1 400 Bad Request\r\n\r\n", "no TLS connection could be made"),
    ],
)
def test_protocol_that_is_not_spoken_is_named(make_client, scheme, answer, problem):
    def talk(connection):
        connection.recv(65536)
        connection.sendall(answer)

    with listen(talk) as (port, _), pytest.raises(ExamplaryConnectionError, match=problem):
        make_client(f"{scheme}://localhost:{port}", max_retries=0).get_me()


def test_connect_timeout_is_unsent(make_client, monkeypatch):
    monkeypatch.setattr("django_examplary.client.transport.CONNECT_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(1)]
        with pytest.raises(ExamplaryTimeoutError) as caught:
            make_client(f"http://127.0.0.1:{port}", timeout=5).get_me()
        assert caught.value.sent is False
        for connection in waiting:
            connection.close()


def test_expired_exchange_is_not_sent():
    transport = Transport("http://127.0.0.1:1", user_agent="test", pool_size=1)
    with pytest.raises(TransportError, match="in time"):
        transport.send(
            Exchange(time.monotonic() - 1, 1, 1000), requests.Request("GET", "http://127.0.0.1:1/")
        )


def resolve_localhost_to(monkeypatch, hosts):
    find = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        if host != "localhost":
            return find(host, port, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)


def test_host_with_many_dead_addresses_respects_the_deadline(make_client, monkeypatch):
    monkeypatch.setattr("django_examplary.client.transport.CONNECT_TIMEOUT", 0.4)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        resolve_localhost_to(monkeypatch, ["127.0.0.1"] * 60)
        with socket.create_connection(("127.0.0.1", port)):
            started = time.monotonic()
            with pytest.raises(ExamplaryTimeoutError) as caught:
                make_client(f"http://localhost:{port}", deadline=0.9).get_me()
    assert caught.value.sent is False
    # All addresses together would take at least 24 seconds.
    assert time.monotonic() - started < 15


def test_next_address_of_the_host_is_tried(make_client, monkeypatch):
    fake = FakeExamplary()
    with FakeServer(fake, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        resolve_localhost_to(monkeypatch, ["127.0.0.9", "127.0.0.1"])
        assert make_client(f"http://localhost:{server.server_port}").get_me().id == fake.owner_id
        server.shutdown()
        thread.join()


def test_tls_ignores_environment_variables(authority, trusted, make_client, monkeypatch):
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        assert make_client(url).get_me().id == fake.owner_id


@pytest.fixture(params=["file", "directory"])
def ca_bundle(authority, tmp_path, request):
    """The certificate of an authority that is not in `certifi`."""
    path = tmp_path / "own.pem"
    authority.cert_pem.write_to_path(path)
    if request.param == "file":
        return str(path)
    openssl = shutil.which("openssl")
    if openssl is None:  # pragma: no cover  # Only this knows by which name the file is found.
        pytest.skip("this machine has no openssl")
    command = [openssl, "x509", "-hash", "-noout", "-in", str(path)]
    subject = subprocess.run(command, check=True, capture_output=True)
    folder = tmp_path / "certificates"
    folder.mkdir()
    path.rename(folder / f"{subject.stdout.decode().strip()}.0")
    return str(folder)


def test_ca_bundle_is_trusted(authority, ca_bundle, make_client):
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        assert make_client(url, ca_bundle=ca_bundle).get_me().id == fake.owner_id


@pytest.mark.parametrize("name", ["EXAMPLARY_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_ca_bundle_of_the_environment_is_trusted(authority, tmp_path, settings, monkeypatch, name):
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(name, str(tmp_path / "own.pem"))
    with serve_tls(authority.issue_cert("localhost")) as (url, fake):
        settings.EXAMPLARY_API_URL = url
        with services.get_client(max_retries=0) as client:
            assert client.get_me().id == fake.owner_id


def test_certificates_that_lack_identifiers_are_accepted_with_a_ca_bundle(make_client, tmp_path):
    """Networks that inspect TLS use such certificates, which Python 3.13 refuses by default."""
    now = datetime.now(UTC)

    def certify(name, key, *, issuer, issuer_key, extension):
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=False)
            .sign(issuer_key, hashes.SHA256())
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signed = {"issuer": "School", "issuer_key": ca_key}
    ca = certify("School", ca_key, extension=x509.BasicConstraints(True, None), **signed)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    leaf = certify("localhost", key, extension=names, **signed)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "ca.pem").write_bytes(ca.public_bytes(pem))
    certificate = trustme.LeafCert(private, leaf.public_bytes(pem), [])
    with serve_tls(certificate) as (url, fake):
        client = make_client(url, ca_bundle=str(tmp_path / "ca.pem"))
        assert client.get_me().id == fake.owner_id


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), ("no certificate", "no PEM certificate")]
)
def test_ca_bundle_that_cannot_be_read_is_a_configuration_error(
    make_client, tmp_path, content, reason
):
    path = tmp_path / "own.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_CA_BUNDLE") as caught:
        make_client("https://localhost:9", ca_bundle=str(path)).get_me()
    assert f"{str(path)!r} cannot be read: {reason}" in str(caught.value)


# Proxies

API_HOST = "api.examplary.test"


class Proxy(socketserver.ThreadingTCPServer):
    """A forwarding proxy that connects to the port of the API and ignores the host name."""

    daemon_threads = True
    status = 200

    def __init__(self):
        super().__init__(("127.0.0.1", 0), ProxyHandler)
        self.heads = []

    @property
    def url(self):
        return f"127.0.0.1:{self.server_address[1]}"


class ProxyHandler(socketserver.BaseRequestHandler):
    server: Proxy

    def handle(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.request.recv(1)
        self.server.heads.append(head.decode())
        if self.server.status == 0:
            return
        if self.server.status != 200:
            self.request.sendall(
                f"HTTP/1.1 {self.server.status} No\r\nContent-Length: 0\r\n\r\n".encode()
            )
            return
        target = head.split()[1].decode().removeprefix("http://").partition("/")[0]
        with socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2]))) as upstream:
            if head.startswith(b"CONNECT"):
                self.request.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                upstream.sendall(head)
            with suppress(OSError):
                self.relay(upstream)

    def relay(self, upstream):
        with selectors.DefaultSelector() as selector:
            selector.register(self.request, selectors.EVENT_READ, upstream)
            selector.register(upstream, selectors.EVENT_READ, self.request)
            while True:
                for ready, _ in selector.select():
                    data = ready.fileobj.recv(65536)
                    if not data:
                        return
                    ready.data.sendall(data)


@pytest.fixture
def proxy():
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


@pytest.fixture
def behind_proxy(authority, proxy, tmp_path):
    """The API behind the proxy: its URL, the fake, and a CA bundle."""
    authority.cert_pem.write_to_path(tmp_path / "own.pem")
    with serve_tls(authority.issue_cert(API_HOST)) as (url, fake):
        yield url.replace("localhost", API_HOST), fake, str(tmp_path / "own.pem")


def test_proxy_connection_is_reused(behind_proxy, proxy, make_client):
    url, fake, ca_bundle = behind_proxy
    client = make_client(url, ca_bundle=ca_bundle, proxy=f"http://ann:secret@{proxy.url}")
    for _ in range(3):
        assert client.get_me().id == fake.owner_id
    [head] = proxy.heads
    assert head.startswith(f"CONNECT {API_HOST}:")
    assert f"Proxy-Authorization: {_basic_auth_str('ann', 'secret')}" in head
    assert "Bearer" not in head
    assert "secret" not in repr(client) + repr(vars(client)) + repr(vars(client._connections))
    assert all("Proxy-Authorization" not in call.headers for call in fake.requests)


def test_proxy_of_the_settings_is_used(behind_proxy, proxy, settings):
    url, fake, ca_bundle = behind_proxy
    settings.EXAMPLARY_API_URL = url
    settings.EXAMPLARY_CA_BUNDLE = ca_bundle
    settings.EXAMPLARY_PROXY = f"http://{proxy.url}"
    with services.get_client(max_retries=0) as client:
        assert client.get_me().id == fake.owner_id
    assert len(proxy.heads) == 1


def test_proxy_of_the_environment_is_used_on_request(behind_proxy, proxy, make_client, monkeypatch):
    url, fake, ca_bundle = behind_proxy
    for name in ("NO_PROXY", "no_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", f"http://{proxy.url}")
    options = {"ca_bundle": ca_bundle, "max_retries": 0}
    with pytest.raises(ExamplaryConnectionError, match="does not resolve"):
        make_client(url, **options).get_me()
    assert make_client(url, proxy="environment", **options).get_me().id == fake.owner_id
    monkeypatch.setenv("no_proxy", ".examplary.test")
    with pytest.raises(ExamplaryConnectionError, match="does not resolve"):
        make_client(url, proxy="environment", **options).get_me()


def test_http_api_on_localhost_is_reached_through_a_proxy(proxy, make_client):
    with serve(FakeExamplary()) as server:
        client = make_client(server.url, proxy=f"http://{proxy.url}")
        session = server.fake.add_session("generate-exam", server.fake.add_user("a@x.org")["id"])
        assert client.get_embed_session(session.id).id == session.id
    assert proxy.heads[0].startswith(f"GET {server.url}/embed-sessions/{session.id} HTTP/1.1")


@pytest.mark.parametrize(
    ("status", "reason", "attempts"),
    [
        (407, "the proxy of EXAMPLARY_PROXY did not connect with status 407", 1),
        (0, "the connection broke", 3),
    ],
)
def test_refusal_of_the_proxy_is_an_unsent_request(
    behind_proxy, proxy, make_client, status, reason, attempts
):
    url, fake, ca_bundle = behind_proxy
    proxy.status = status
    client = make_client(url, ca_bundle=ca_bundle, proxy=f"http://{proxy.url}")
    with pytest.raises(ExamplaryConnectionError, match=reason) as caught:
        client.create_user(email="ann@x.org")
    assert caught.value.sent is False
    assert (len(proxy.heads), fake.requests) == (attempts, [])


def test_unreachable_proxy_is_an_unsent_request(make_client, dead_address):
    client = make_client(f"https://{API_HOST}", proxy=dead_address)
    with pytest.raises(ExamplaryConnectionError, match="EXAMPLARY_PROXY did not connect") as caught:
        client.create_user(email="ann@x.org")
    assert caught.value.sent is False


def test_hanging_proxy_respects_the_deadline(make_client):
    with listen(read_until_closed) as (port, _):
        client = make_client(
            f"https://{API_HOST}", proxy=f"http://127.0.0.1:{port}", timeout=0.2, deadline=0.5
        )
        with pytest.raises(ExamplaryConnectionError) as caught:
            client.create_user(email="ann@x.org")
    assert caught.value.sent is False


@pytest.mark.parametrize(
    "proxy",
    ["proxy.example:3128", "socks5://proxy.example", "http://", "http://[", "http://a b", "direct"],
)
def test_proxy_that_cannot_be_used_is_a_configuration_error(make_client, proxy):
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_PROXY must be"):
        make_client("https://localhost", proxy=proxy)


# Connections that were idle


@contextmanager
def forgetful():
    """A server that keeps idle connections open, but ignores later requests on them."""

    def talk(connection):
        connection.recv(65536)
        connection.sendall(WHOLE)
        # Until the client closes it.
        while connection.recv(65536):
            pass  # pragma: no cover  # if the guard fails

    with listen(talk, threads=True) as served:
        yield served


def test_call_with_an_unsent_retry_counts_as_sent(make_client):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_unanswered():
            connection, _ = listener.accept()
            connection.recv(65536)
            # The port refuses connections from now on.
            listener.shutdown(socket.SHUT_RDWR)
            connection.close()

        thread = threading.Thread(target=close_unanswered)
        thread.start()
        client = make_client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ExamplaryConnectionError, match="broke") as caught:
            client.create_embed_session(flow="generate-exam", actor="user_1")
        thread.join()
    assert is_uncertain(caught.value)


def test_idle_connection_is_not_used_again(make_client, monkeypatch):
    with forgetful() as (port, accepted):
        client = make_client(f"http://127.0.0.1:{port}", max_retries=0)
        assert client.get_me().id == "user_1"
        later = time.monotonic() + MAX_IDLE + 1
        monkeypatch.setattr("django_examplary.clock.monotonic", lambda: later)
        monkeypatch.setattr(client, "deadline", 60)
        assert client.create_user(email="ann@x.org").id == "user_1"
        client.close()
        assert len(accepted) == 2


# Instruments


def test_debugging_output_of_http_client_holds_no_secret(make_client, monkeypatch, capsys):
    monkeypatch.setattr(http.client.HTTPConnection, "debuglevel", 1)
    with serve(FakeExamplary()) as server:
        make_client(server.url).get_me()
    assert capsys.readouterr().out == ""


def test_instrumented_libraries_do_not_receive_session_ids(make_client, monkeypatch):
    """OpenTelemetry wraps urllib3, and Sentry wraps http.client."""
    seen = []

    def record(function):
        def recorded(self, *args, **kwargs):
            seen.append(repr((args, kwargs)))
            return function(self, *args, **kwargs)

        return recorded

    for owner, name in (
        (urllib3.connectionpool.HTTPConnectionPool, "urlopen"),
        (urllib3.connection.HTTPConnection, "request"),
        (http.client.HTTPConnection, "putrequest"),
        (requests.adapters.HTTPAdapter, "send"),
    ):
        monkeypatch.setattr(owner, name, record(getattr(owner, name)))
    with serve(FakeExamplary()) as server:
        session = server.fake.add_session("generate-exam", server.fake.add_user("a@x.org")["id"])
        client = make_client(server.url)
        client.get_embed_session(session.id)
        client.delete_embed_session(session.id)
        exam = server.fake.add_exam()["id"]
        assert client.download_exam_qti3(exam)
        paths = [request.path for request in server.fake.requests]
    assert f"/embed-sessions/{session.id}" in paths
    assert sum("/embed-sessions/%7Bid%7D" in line for line in seen) >= 6
    assert session.token not in "".join(seen)
    assert paths[-1].rpartition("/")[2] not in "".join(seen)


def answering(*answers):
    """Run a server that sends one of these responses to each request of a connection."""

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
def test_broken_response_is_uncertain(make_client, answer):
    with listen(answering(answer)) as (port, accepted):
        with pytest.raises(ExamplaryConnectionError) as caught:
            make_client(f"http://127.0.0.1:{port}").create_user(email="ann@x.org")
        assert is_uncertain(caught.value)
        assert len(accepted) == 1


def test_100_continue_is_skipped(make_client):
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + WHOLE
    with listen(answering(answer, answer)) as (port, accepted):
        client = make_client(f"http://127.0.0.1:{port}")
        assert [client.get_me().id, client.get_me().id] == ["user_1", "user_1"]
        client.close()
        assert len(accepted) == 1


def test_invalid_host_is_a_connection_error(make_client):
    with pytest.raises(ExamplaryConnectionError) as caught:
        make_client("https://.examplary.ai").get_me()
    assert caught.value.sent is False
