"""The least that can stand in for Examplary: a process that answers after a set time.

The fake in `django_examplary.testing` checks every rule of the contract, and would be what is
measured. This one says yes to everything.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import multiprocessing
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Stub:
    url: str

    def requests(self) -> int:
        """How many there were so far."""
        with urllib.request.urlopen(f"{self.url}/count") as answer:  # noqa: S310  # our own
            return int(answer.read())


@contextmanager
def serve_stub(latency: float = 0.0) -> Iterator[Stub]:
    """Run a stub in a process of its own, so that its work is not counted."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(theirs, latency), daemon=True
    )
    process.start()
    # So that a child that fails ends `recv`, instead of leaving it to wait.
    theirs.close()
    try:
        yield Stub(f"http://127.0.0.1:{ours.recv()}")
    finally:
        process.terminate()
        process.join()


def _run(pipe: Connection, latency: float) -> None:
    asyncio.run(_serve(pipe, latency))


async def _serve(pipe: Connection, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(latency), "127.0.0.1", 0, backlog=512)
    pipe.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Protocol(asyncio.Protocol):
    count = 0

    def __init__(self, latency: float) -> None:
        self._latency = latency
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = 0
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if len(body) < length:
            return
        self._received = body[length:]
        _, path, _ = head.split(b" ", 2)
        if path == b"/count":
            self._answer(str(_Protocol.count).encode())
            return
        _Protocol.count += 1
        answer = _answer(path.decode(), json.loads(body[:length] or b"{}"))
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, body: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )


def _answer(path: str, body: dict[str, Any]) -> bytes:
    number = next(_numbers)
    if path == "/users":
        answer = {"id": f"user_{number}", **body}
    else:
        _, _, session_id = path.partition("/embed-sessions/")
        answer = {
            "id": session_id or f"embed_session_{number:048}",
            "status": "pending",
            "embedUrl": f"https://app.examplary.ai/embeds/{number:060}",
            "enabledResponseModes": ["post_message"],
            "createdAt": "2026-11-23T08:00:00.000Z",
            "expiresAt": "2026-11-30T08:00:00.000Z",
            "outputs": {},
            **body,
        }
    return json.dumps(answer).encode()
