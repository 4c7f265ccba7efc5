from __future__ import annotations

import os
import subprocess
import sys
from signal import SIGKILL, SIGTERM

import pytest

from tests import processes

SERVER = "import time; print('Listens on http://127.0.0.1:1.'); time.sleep(600)"


def serve(script, **options):
    return processes.serve(sys.executable, "-c", script, environment=os.environ, **options)


def notes(error):
    return "".join(error.value.__notes__)


def test_server_that_exits_is_reported_with_its_output():
    with pytest.raises(AssertionError, match="exited with 1") as error, serve("exit('no port')"):
        pass  # pragma: no cover  # There is no address to get here with.

    assert "no port" in notes(error)


def test_server_that_prints_no_address_is_stopped():
    script = "import time; time.sleep(600)"
    with pytest.raises(AssertionError, match="longer than") as error, serve(script, patience=0.1):
        pass  # pragma: no cover  # There is no address to get here with.

    assert "Output of" in notes(error)


def test_failure_beside_a_server_is_reported_with_its_output():
    with pytest.raises(ZeroDivisionError) as error, serve(SERVER):
        1 / 0  # noqa: B018

    assert "Listens on" in notes(error)


def test_server_must_exit_as_expected():
    with (
        pytest.raises(AssertionError, match=f"exited with -{SIGTERM}"),
        serve(SERVER, exit_code=0) as address,
    ):
        assert address == "http://127.0.0.1:1"


def test_wait_ends_with_the_child_and_is_reported_with_its_output():
    command = [sys.executable, "-c", "exit('no luck')"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with pytest.raises(AssertionError, match=r"exited with \[1\]") as error:
        processes.wait_for(lambda: False, child)

    assert "no luck" in notes(error)


def test_process_that_does_not_end_is_killed_and_reported_with_its_output(tmp_path):
    ready = tmp_path / "ready"
    script = (
        "import pathlib, sys, time\n"
        "print('waits', flush=True)\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", script, str(ready)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        processes.wait_for(ready.exists)
        with pytest.raises(subprocess.TimeoutExpired) as error:
            processes.finish(process, patience=0.1)

    assert "waits" in notes(error)
    assert process.returncode == -SIGKILL
