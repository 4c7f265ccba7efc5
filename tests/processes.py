"""Run child processes: servers on free ports, and waits whose errors include the output."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# Seconds. A busy machine can take many times as long as an idle one to start a process.
PATIENCE = 120

#: Variables that enable coverage in a child process.
COVERAGE = {
    name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")
}

# How the fake, Django's runserver and gunicorn print their address.
ADDRESS = re.compile(r"(?:on|at:?) (http://[\w.]+:\d+)\b")


def wait_for(
    condition: Callable[[], Any], *children: subprocess.Popen[str], patience: float = PATIENCE
) -> Any:
    """Return the first true value of the condition.

    The wait fails early when a child exits, with an error that has the output of every child. The
    condition may also raise an error to end the wait.
    """
    deadline = time.monotonic() + patience
    while True:
        exited = [child.returncode for child in children if child.poll() is not None]
        if value := condition():
            return value
        try:
            assert not exited, f"A child process exited with {exited}."
            assert time.monotonic() < deadline, f"It took longer than {patience} seconds."
        except AssertionError as error:
            for child in children:
                _kill(child, error)
            raise
        time.sleep(0.05)


def finish(process: subprocess.Popen[str], patience: float = PATIENCE) -> str:
    """Wait for a process to end, and return its standard output.

    Its standard error, if it is a pipe, is copied to this process, where pytest shows it.
    """
    try:
        output, errors = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired as error:
        _kill(process, error)
        raise
    sys.stderr.write(errors or "")
    return output


def _kill(process: subprocess.Popen[str], error: BaseException) -> None:
    """Kill a process, and add its output to an error."""
    process.kill()
    for stream in process.communicate():
        error.add_note(stream or "")


@contextlib.contextmanager
def serve(
    *command: str,
    environment: Mapping[str, str],
    exit_code: int = 0,
    patience: float = PATIENCE,
) -> Iterator[str]:
    """Run a server until the context ends, and return the address that it prints.

    The server must bind port 0: a port chosen by the caller could be taken before the server binds
    it. It gets SIGTERM at the end of the context, and must exit with ``exit_code``. Its output is
    part of every error.
    """
    with tempfile.TemporaryDirectory() as folder:
        # Unlike a pipe, a file never fills up, and reading it never blocks.
        log = Path(folder) / "output.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                # Python buffers what it writes to a file, so the address would come late.
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

        def address() -> re.Match[str] | None:
            assert process.poll() is None, f"The server exited with {process.returncode}."
            return ADDRESS.search(log.read_text())

        try:
            try:
                yield wait_for(address, patience=patience)[1]
            finally:
                process.terminate()
                process.wait(PATIENCE)
            assert process.returncode == exit_code, f"It exited with {process.returncode}."
        except BaseException as error:
            error.add_note(f"Output of {' '.join(command)}:\n{log.read_text()}")
            raise
        finally:
            # Only a server that ignored SIGTERM is still there.
            process.kill()
            process.wait()
