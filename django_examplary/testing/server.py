"""The fake over real HTTP, on loopback."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.messages import Request, Response

_CHUNK = b"x" * 65536
_HUGE = 100 * 1024 * 1024
_PATIENCE = 2.0


class FakeServer(ThreadingHTTPServer):
    """A ``FakeExamplary`` that listens on a port."""

    daemon_threads = True
    request_queue_size = 128
    # Two servers on one port would share its connections.
    allow_reuse_port = False

    def __init__(self, fake: FakeExamplary, host: str, port: int) -> None:
        self.fake = fake
        self.stopping = threading.Event()
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__((host, port), _Handler)
        self.url = f"http://{host}:{self.server_port}"

    def server_bind(self) -> None:
        # HTTPServer would ask the name service who we are.
        TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = self.server_address[1]

    def opened(self, connection: socket.socket) -> None:
        """Note a connection that has to be closed in the end."""
        with self._changed:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
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
            self._changed.wait_for(lambda: not self._connections, _PATIENCE)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that left early, which is what many tests are about, is no error.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
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
        """Stay quiet: request lines hold session ids and embed tokens."""

    def version_string(self) -> str:
        return "FakeExamplary"

    def answer(self) -> None:
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
        transport = _TRANSPORTS.get(response.transport or "", _Handler.send)
        transport(self, response)

    def __getattr__(self, name: str) -> Any:
        # Whatever the method is called: it is for the fake to refuse it.
        if name.startswith("do_"):
            return self.answer
        raise AttributeError(name)

    def head(self, response: Response, **extra: str) -> bytes:
        """Return the status line and the headers as they go over the wire."""
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
        content = b"" if self.command == "HEAD" else response.body
        self.wfile.write(self.head(response) + content)

    # The transports that a fault may ask for.

    def send_bad_chunk(self, response: Response) -> None:
        self._send_unsized(response, b"not-a-size\r\n{}\r\n")

    def send_and_close(self, response: Response) -> None:
        self.send(response)
        self.close_connection = True

    def send_nothing(self, response: Response) -> None:
        self.close_connection = True

    def send_dripping_body(self, response: Response) -> None:
        self.wfile.write(self.head(response))
        self._drip(response.body)

    def send_dripping_headers(self, response: Response) -> None:
        self._drip(self.head(response) + response.body)

    def send_endlessly(self, response: Response) -> None:
        chunk = b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK)
        self._send_unsized(response, b"")
        self._pour(itertools.repeat(chunk))

    def send_extra_bytes(self, response: Response) -> None:
        self.wfile.write((self.head(response) + response.body) * 2)

    def send_never(self, response: Response) -> None:
        self.close_connection = True
        # There is something to read when the client gives up, or the server stops.
        select.select([self.connection], [], [])

    def send_too_much(self, response: Response) -> None:
        self.close_connection = True
        self.wfile.write(self.head(response, **{"Content-Length": str(_HUGE)}))
        self._pour(itertools.repeat(_CHUNK, _HUGE // len(_CHUNK)))

    def send_after_102(self, response: Response) -> None:
        self._send_after(b"HTTP/1.1 102 Processing\r\n\r\n", response)

    def send_after_103(self, response: Response) -> None:
        self._send_after(b"HTTP/1.1 103 Early Hints\r\n\r\n", response)

    def send_many_headers(self, response: Response) -> None:
        self.close_connection = True
        extra = {f"X-Filler-{number}": "x" for number in range(1000)}
        self.wfile.write(self.head(response, **extra) + response.body)

    def send_unsized_half(self, response: Response) -> None:
        self.close_connection = True
        head = self.head(response, **{"Content-Length": ""})
        self.wfile.write(head + response.body[: len(response.body) // 2])

    def send_reset(self, response: Response) -> None:
        self.close_connection = True
        # Lingering for no time turns the close into an RST; a shutdown would send a FIN first.
        no_linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        self.rfile.close()
        self.connection.close()

    def send_half(self, response: Response) -> None:
        self.close_connection = True
        self.wfile.write(self.head(response) + response.body[: len(response.body) // 2])

    def _send_unsized(self, response: Response, content: bytes) -> None:
        self.close_connection = True
        sizes = {"Content-Length": "", "Transfer-Encoding": "chunked"}
        self.wfile.write(self.head(response, **sizes) + content)

    def _send_after(self, interim: bytes, response: Response) -> None:
        self.wfile.write(interim)
        time.sleep(0.05)
        self.send(response)

    def _drip(self, content: bytes) -> None:
        for byte in content:
            if self.server.stopping.wait(self.server.fake.drip_interval):
                return
            self.wfile.write(bytes([byte]))

    def _pour(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.wfile.write(chunk)


_TRANSPORTS: dict[str, Callable[[_Handler, Response], None]] = {
    "bad-chunk": _Handler.send_bad_chunk,
    "close": _Handler.send_nothing,
    "close-after": _Handler.send_and_close,
    "drip-body": _Handler.send_dripping_body,
    "drip-headers": _Handler.send_dripping_headers,
    "endless": _Handler.send_endlessly,
    "extra-bytes": _Handler.send_extra_bytes,
    "hang": _Handler.send_never,
    "huge": _Handler.send_too_much,
    "interim-102": _Handler.send_after_102,
    "interim-103": _Handler.send_after_103,
    "many-headers": _Handler.send_many_headers,
    "no-length": _Handler.send_unsized_half,
    "reset": _Handler.send_reset,
    "truncate": _Handler.send_half,
}


@contextlib.contextmanager
def serve(
    fake: FakeExamplary | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> Iterator[FakeServer]:
    """Serve a fake while the context lasts; its address is in ``url``, itself in ``fake``."""
    fake = FakeExamplary() if fake is None else fake
    with FakeServer(fake, host, port) as server:
        fake.base_url = server.url
        thread = threading.Thread(
            target=server.serve_forever, args=(0.02,), name="fake-examplary", daemon=True
        )
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def run(
    fake: FakeExamplary | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8001,
    ready: Callable[[FakeServer], None] = lambda server: None,
) -> None:
    """Serve in the foreground until Ctrl-C or SIGTERM; call ``ready`` once it listens."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt), serve(fake, host=host, port=port) as server:
            ready(server)
            threading.Event().wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
