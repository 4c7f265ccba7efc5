"""Transports for ``fake.fail`` that damage, delay or reorder responses.

Each is passed as ``fake.fail(transport=wire.TRUNCATE)``. They test the HTTP client of this package,
so they are not in the testing kit.
"""

from __future__ import annotations

import dataclasses
import functools
import gzip
import itertools
import selectors
import time
from collections.abc import Iterable
from typing import Any

from django_examplary.testing.messages import Response, Transport
from django_examplary.testing.server import FakeHandler

HUGE = 100 * 1024 * 1024
_BLOCK = b"x" * 65536

# An HTML page instead of JSON, as proxies and captive portals send: ``fake.fail(**wire.GARBAGE)``.
GARBAGE: dict[str, Any] = {
    "status": 200,
    "body": b"<!doctype html><title>Welcome</title>",
    "headers": {"Content-Type": "text/html; charset=utf-8"},
}


def _close_after(handler: FakeHandler, response: Response) -> None:
    # The response does not announce this.
    handler.send(response)
    handler.close_connection = True


def _hang(handler: FakeHandler, response: Response) -> None:
    handler.close_connection = True
    # The socket becomes readable when the client gives up, or when the server stops.
    with selectors.DefaultSelector() as selector:
        selector.register(handler.connection, selectors.EVENT_READ)
        selector.select()


def _truncate(handler: FakeHandler, response: Response) -> None:
    handler.close_connection = True
    handler.wfile.write(handler.head(response) + response.body[: len(response.body) // 2])


def _no_length(handler: FakeHandler, response: Response) -> None:
    handler.close_connection = True
    head = handler.head(response, **{"Content-Length": ""})
    handler.wfile.write(head + response.body[: len(response.body) // 2])


def _chunked(handler: FakeHandler, response: Response) -> None:
    parts = [response.body[start : start + 7] for start in range(0, len(response.body), 7)]
    _send_chunked(
        handler, response, [b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""]]
    )


def _bad_chunk(handler: FakeHandler, response: Response) -> None:
    _send_chunked(handler, response, [b"not-a-size\r\n{}\r\n"])


def _endless(handler: FakeHandler, response: Response) -> None:
    chunk = b"%x\r\n%b\r\n" % (len(_BLOCK), _BLOCK)
    _send_chunked(handler, response, itertools.repeat(chunk))


def _huge(handler: FakeHandler, response: Response) -> None:
    handler.close_connection = True
    handler.wfile.write(handler.head(response, **{"Content-Length": str(HUGE)}))
    for block in itertools.repeat(_BLOCK, HUGE // len(_BLOCK)):  # pragma: no branch  # read by none
        handler.wfile.write(block)


def _extra_bytes(handler: FakeHandler, response: Response) -> None:
    handler.wfile.write((handler.head(response) + response.body) * 2)


def _many_headers(handler: FakeHandler, response: Response) -> None:
    handler.close_connection = True
    extra = {f"X-Filler-{number}": "x" for number in range(1000)}
    handler.wfile.write(handler.head(response, **extra) + response.body)


def _gzip(handler: FakeHandler, response: Response) -> None:
    headers = {**response.headers, "Content-Encoding": "gzip"}
    body = gzip.compress(response.body)
    handler.send(dataclasses.replace(response, headers=headers, body=body))


def _interim(handler: FakeHandler, response: Response, *, line: bytes) -> None:
    handler.wfile.write(b"HTTP/1.1 %b\r\n\r\n" % line)
    time.sleep(0.05)
    handler.send(response)


def _drip(handler: FakeHandler, response: Response, *, interval: float, headers: bool) -> None:
    head, content = handler.head(response), response.body
    if headers:
        head, content = b"", head + content
    handler.wfile.write(head)
    for byte in content:
        if handler.server.stopping.wait(interval):
            return
        handler.wfile.write(bytes([byte]))


def _send_chunked(handler: FakeHandler, response: Response, chunks: Iterable[bytes]) -> None:
    handler.close_connection = True
    sizes = {"Content-Length": "", "Transfer-Encoding": "chunked"}
    handler.wfile.write(handler.head(response, **sizes))
    for chunk in chunks:
        handler.wfile.write(chunk)


BAD_CHUNK = Transport(_bad_chunk)
CHUNKED = Transport(_chunked)
CLOSE_AFTER = Transport(_close_after)
ENDLESS = Transport(_endless, loses_answer=True)
EXTRA_BYTES = Transport(_extra_bytes)
GZIP = Transport(_gzip)
HANG = Transport(_hang, loses_answer=True)
HUGE_BODY = Transport(_huge, loses_answer=True)
INTERIM_102 = Transport(functools.partial(_interim, line=b"102 Processing"))
INTERIM_103 = Transport(functools.partial(_interim, line=b"103 Early Hints"))
MANY_HEADERS = Transport(_many_headers)
NO_LENGTH = Transport(_no_length)
TRUNCATE = Transport(_truncate)


def drip_body(interval: float = 0.1) -> Transport:
    """Send the headers at once, and then one byte of the body every ``interval`` seconds."""
    return Transport(functools.partial(_drip, interval=interval, headers=False))


def drip_headers(interval: float = 0.1) -> Transport:
    """Send one byte every ``interval`` seconds, from the status line on."""
    return Transport(functools.partial(_drip, interval=interval, headers=True))
