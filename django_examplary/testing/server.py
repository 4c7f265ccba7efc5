"""Serve the fake over HTTP on localhost."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.messages import Request, Response

# Seconds that a stopping server waits for its connections.
_STOP_SECONDS = 2.0
# Seconds between checks whether the server should stop; each test that starts one waits for that.
_POLL_SECONDS = 0.005


class FakeServer(ThreadingHTTPServer):
    """A ``FakeExamplary`` that listens on a port."""

    daemon_threads = True
    request_queue_size = 128
    # Otherwise two servers on one port would share its connections.
    allow_reuse_port = False

    def __init__(
        self, fake: FakeExamplary, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> None:
        self.fake = fake
        self.tls = tls
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), FakeHandler)
        #: The URL on which it listens.
        self.url = f"{'https' if tls else 'http'}://{host}:{self.server_port}"

    def server_bind(self) -> None:
        # HTTPServer would look up the host name.
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.tls is not None:
            # The handshake happens at the first read, in the thread of the connection.
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def opened(self, connection: socket.socket) -> None:
        """Register a connection, which is closed when the server stops."""
        with self._changed:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Unregister a connection."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()

    def server_close(self) -> None:
        """Close the port and the connections, and wait a little for their threads."""
        super().server_close()
        self.stopping.set()
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _STOP_SECONDS)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that disconnects early is not an error.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class FakeHandler(BaseHTTPRequestHandler):
    """One connection of a ``FakeServer``."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FakeServer

    def setup(self) -> None:
        super().setup()
        self.server.opened(self.connection)

    def finish(self) -> None:
        super().finish()
        self.server.closed(self.connection)

    def log_message(self, *args: Any, **kwargs: Any) -> None:
        """Log nothing, because request lines contain session ids and embed tokens."""

    def version_string(self) -> str:
        return "FakeExamplary"

    def answer(self) -> None:
        """Pass a request to the fake, and send the response."""
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True
            response = Response(411)
        else:
            body = self.rfile.read(int(length))
            url = urlsplit(self.path)
            query = dict(parse_qsl(url.query))
            headers = dict(self.headers.items())
            request = Request(self.command, url.path, query, headers, body)
            response = self.server.fake.handle(request)
        if response.transport is None:
            self.send(response)
        elif response.transport == "close":
            self.close_connection = True
        elif response.transport == "reset":
            self.reset()
        else:
            response.transport.send(self, response)

    def __getattr__(self, name: str) -> Any:
        # Accept every method here, because the fake refuses unknown ones.
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def head(self, response: Response, **extra: str) -> bytes:
        """Return the status line and the headers as bytes."""
        headers = {
            "Server": self.version_string(),
            "Date": self.date_time_string(),
            "Content-Length": str(len(response.body)),
            **response.headers,
            **extra,
        }
        if self.close_connection:
            headers["Connection"] = "close"
        reason = http.client.responses.get(response.status, "")
        lines = [f"HTTP/1.1 {response.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def send(self, response: Response) -> None:
        """Send a complete response."""
        content = b"" if self.command == "HEAD" else response.body
        self.wfile.write(self.head(response) + content)

    def reset(self) -> None:
        """Close the connection with an RST instead of a FIN."""
        self.close_connection = True
        # A linger time of 0 has this effect. A shutdown would send a FIN first.
        no_linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.rfile.close()
        self.connection.close()


@contextlib.contextmanager
def serve(
    fake: FakeExamplary | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    public_url: str = "",
    tls: ssl.SSLContext | None = None,
) -> Iterator[FakeServer]:
    """Serve a fake while the context lasts.

    The server has the attributes ``url`` and ``fake``. Behind a proxy, ``public_url`` is the URL
    for clients and for new embed URLs. ``tls`` contains a certificate for https.
    """
    fake = FakeExamplary() if fake is None else fake
    with FakeServer(fake, host, port, tls) as server:
        for workspace in fake.workspaces:
            workspace.base_url = public_url or server.url
        thread = threading.Thread(
            target=server.serve_forever, args=(_POLL_SECONDS,), name="fake-examplary", daemon=True
        )
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
