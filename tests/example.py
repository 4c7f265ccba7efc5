"""The example project, run as its users run it: as a command, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANAGE = Path(__file__).parents[1] / "example_project" / "manage.py"
PATIENCE = 60


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command of the example project in the environment of somebody who set nothing."""
    return subprocess.Popen(
        [sys.executable, str(MANAGE), *arguments],
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def clean_environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "EXAMPLARY_")) and name != "DATABASE_URL"
    }


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and what it said."""
    with start(*arguments, **environment) as command:
        said, _ = command.communicate(timeout=PATIENCE)
    return command.returncode, said


@contextlib.contextmanager
def demo(*arguments: str) -> Iterator[str]:
    """Run the demonstration, with ports that are free, and return the address of the site."""
    port, fake_port = (str(port) for port in free_ports())
    address = f"http://localhost:{port}"
    with start("demo", "--port", port, "--fake-port", fake_port, *arguments) as command:
        try:
            wait_for(address, command)
            yield address
        finally:
            command.send_signal(signal.SIGTERM)
            said, _ = command.communicate(timeout=PATIENCE)
    assert command.returncode == 0, said


def free_ports() -> Iterator[int]:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        yield from (probe.getsockname()[1] for probe in (one, other))


def wait_for(address: str, command: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(address):  # noqa: S310
            return
        assert command.poll() is None, f"{address} does not answer"
        assert time.monotonic() < deadline, f"{address} does not answer in time"
        time.sleep(0.1)
