"""A stand-in for the API that is independent of the fake: ``python -m tests.chaos.stub``.

It accepts and counts every request. It can be slow, lose responses, be down, limit the rate, and
forget idle connections. ``/control`` changes these switches, and returns the counts. The benchmarks
use it because the fake, which checks every rule of the contract, would dominate their measurements.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests import processes

JSON = dict[str, Any]
#: A status code, headers and a body; None closes the connection without a response.
Answer = tuple[int, str, JSON]

# Length of the window of the rate limit, in seconds.
WINDOW = 1.0


@dataclass
class Stub:
    #: Return the first response for a repeated Idempotency-Key.
    honour_keys: bool = True
    #: Seconds between the effect of a request and its response.
    latency: float = 0.0
    #: Close the connection before a request has an effect.
    down: bool = False
    #: Do not answer every n-th POST after its effect; 0: answer all.
    lose: int = 0
    #: Accepted POSTs per second; 0: no limit.
    limit: int = 0
    #: The message with which POST /users is refused; empty: not refused.
    refuse: str = ""
    #: Ignore requests on connections that were idle for this many seconds; 0: never.
    forget_after: float = 0.0
    #: Report unknown sessions as open.
    report_unknown: bool = False

    users: JSON = field(default_factory=dict)
    sessions: JSON = field(default_factory=dict)
    replies: JSON = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    window: tuple[float, int] = (0.0, 0)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.serve_one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        idle_since = time.monotonic()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        request, *lines = head.split("\r\n")
        method, path, _ = request.split(" ")
        pairs = [line.partition(": ") for line in lines]
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        content = json.loads(body) if body else {}
        if path == "/control":
            answer: Answer | None = (200, "", self.control(content))
        elif self.forget_after and time.monotonic() - idle_since > self.forget_after:
            self.counts["forgotten"] += 1
            # Until the client gives up.
            await reader.read()
            return False
        else:
            answer = await self.answer(method, path, headers.get("idempotency-key", ""), content)
        if answer is None or reader.at_eof():
            # The client was killed or did not wait.
            self.counts[f"unanswered {method} {path}"] += not self.down
            return False
        status, extra, reply = answer
        data = json.dumps(reply).encode()
        writer.write(
            f"HTTP/1.1 {status} Status\r\n{extra}Content-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        await writer.drain()
        return True

    def control(self, changes: JSON) -> JSON:
        """Set switches, complete all sessions or create some, and return the counts."""
        if complete := changes.pop("complete", None):
            ended = {"status": "completed", "outputs": {"examId": "exam_1"}}
            for session in self.sessions.values():
                session |= ended if complete is True else complete
        for _ in range(changes.pop("create", 0)):
            self.create("/embed-sessions", {"flow": "generate-exam"})
        for name, value in changes.items():
            setattr(self, name, value)
        return {"users": self.users, "sessions": self.sessions, "counts": self.counts}

    async def answer(self, method: str, path: str, key: str, body: JSON) -> Answer | None:
        self.counts[f"{method} {path if method == 'POST' else path.rpartition('/')[0]}"] += 1
        if self.down:
            return None
        if method == "POST" and not self.has_room():
            self.counts["refused"] += 1
            return 429, "Retry-After: 1\r\n", {"message": "Too many requests"}
        if self.refuse and path == "/users":
            return 400, "", {"message": self.refuse}
        reply = self.act(method, path, key, body)
        if self.latency:
            await asyncio.sleep(self.latency)
        if method == "POST":
            self.counts["accepted"] += 1
            if self.lose and self.counts["accepted"] % self.lose == 0:
                return None
        return (200, "", reply) if reply else (404, "", {"message": "Not found"})

    def has_room(self) -> bool:
        if not self.limit:
            return True
        now = time.monotonic()
        since, count = self.window
        if now - since > WINDOW:
            since, count = now, 0
        self.window = since, count + 1
        return count < self.limit

    def act(self, method: str, path: str, key: str, body: JSON) -> JSON:
        if method == "POST":
            place = f"{path} {key}" if self.honour_keys and key else ""
            if place not in self.replies:
                reply = self.create(path, body)
                if not place:
                    return reply
                self.replies[place] = reply
            return dict(self.replies[place])
        session_id = path.rpartition("/")[2]
        session: JSON = self.sessions.get(session_id, {})
        if not session and self.report_unknown:
            return new_session(session_id, 0)
        if method == "DELETE" and session:
            session["deleted"] = True
        return session

    def create(self, path: str, body: JSON) -> JSON:
        number = len(self.users) + len(self.sessions) + 1
        if path == "/users":
            user = {"id": f"user_{number}", **body}
            self.users[user["id"]] = user
            return user
        session = {**new_session(f"embed_session_{number:048}", number), **body}
        self.sessions[session["id"]] = session
        return session


def new_session(session_id: str, number: int) -> JSON:
    return {
        "id": session_id,
        "status": "pending",
        "embedUrl": f"https://app.examplary.ai/embeds/{number:060}",
        "enabledResponseModes": ["post_message"],
        "createdAt": "2026-11-23T08:00:00.000Z",
        "expiresAt": "2026-11-30T08:00:00.000Z",
        "outputs": {},
    }


@dataclass(frozen=True)
class RunningStub:
    url: str

    def requests(self) -> int:
        """Return the number of requests so far."""
        counts = control(self.url)["counts"]
        return sum(n for name, n in counts.items() if name.startswith(("GET ", "POST ", "DELETE ")))


@contextmanager
def serve_stub(latency: float = 0.0) -> Iterator[RunningStub]:
    """Run a stub in its own process, so that its CPU time is not counted."""
    with processes.serve(
        *(sys.executable, "-m", "tests.chaos.stub"),
        environment=os.environ,
        exit_code=-signal.SIGTERM,
    ) as url:
        control(url, latency=latency, report_unknown=True)
        yield RunningStub(url)


def control(url: str, **changes: Any) -> Any:
    """Set switches of a stub, and return its counts."""
    request = urllib.request.Request(f"{url}/control", json.dumps(changes).encode())  # noqa: S310  # our own
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.loads(answer.read())


async def main() -> None:
    server = await asyncio.start_server(Stub().serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(f"The stub listens on http://127.0.0.1:{port}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
