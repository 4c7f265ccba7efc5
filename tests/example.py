"""Run the example project as a command, in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

from tests import processes

MANAGE = Path(__file__).parents[1] / "example_project" / "manage.py"


def clean_environment() -> dict[str, str]:
    """Return the environment without the variables of this project."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJANGO_", "EXAMPLARY_", "SOUTHFIELD_")) and name != "DATABASE_URL"
    }


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a command to its end; return its exit code and its output."""
    with subprocess.Popen(
        [sys.executable, str(MANAGE), *arguments],
        env=clean_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        output = processes.finish(command)
    return command.returncode, output


def demo(*arguments: str, **environment: str) -> AbstractContextManager[str]:
    """Run the demonstration on free ports while the context lasts; return the site's address."""
    return processes.serve(
        *(sys.executable, str(MANAGE), "demo", "--port", "0", "--fake-port", "0", *arguments),
        environment=clean_environment() | environment,
    )
