"""Build the projects of the documentation, line by line."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from django_examplary.testing import FakeExamplary
from tests import example, processes

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs/tutorial/index.md"

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


def _quick_start() -> tuple[list[tuple[str, str]], list[list[str]]]:
    files, commands = [], []
    for _, language, code in _BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        head, _, body = textwrap.dedent(code).partition("\n")
        if name := re.fullmatch(r"# (\w+\.py)|{# (templates/\w+\.html) #}", head):
            files.append((f"school/{name[1]}" if name[1] else name[2], body))
        elif language == "console":
            lines = [line.split() for line in textwrap.dedent(code).splitlines()]
            commands += [words[2:] for words in lines if words[:2] == ["python", "manage.py"]]
    return files, commands


#: The files of the quick start with the lines that it adds to them, and its commands.
QUICK_START, QUICK_START_COMMANDS = _quick_start()


class Manage:
    """The manage.py of a project, in an environment with the fake's key."""

    def __init__(self, folder: Path, fake: FakeExamplary) -> None:
        self.folder = folder
        self._command = [sys.executable, str(folder / "manage.py")]
        self.environment = example.clean_environment() | {
            "DJANGO_SUPERUSER_USERNAME": "tea",
            "DJANGO_SUPERUSER_PASSWORD": "demo",
            "EXAMPLARY_API_KEY": fake.api_key,
            "EXAMPLARY_API_URL": fake.base_url,
            "EXAMPLARY_EMBED_ORIGINS": fake.base_url,
        }

    def write(self, name: str, code: str) -> None:
        """Append lines to a file, and create it if it is missing."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as opened:
            opened.write(textwrap.dedent(code))

    def run(self, *arguments: str) -> str:
        """Run a command without a terminal for prompts, and return its output."""
        if arguments[0] == "createsuperuser":
            arguments += ("--noinput",)
        command = [*self._command, *arguments]
        return subprocess.run(
            command,
            env=self.environment,
            cwd=self.folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def serve(self) -> AbstractContextManager[str]:
        """Run the site on a free port while the context lasts; return its address."""
        return processes.serve(
            *(*self._command, "runserver", "localhost:0", "--noreload"),
            environment=self.environment,
            exit_code=-signal.SIGTERM,
        )


def start_quick_start(folder: Path, fake: FakeExamplary) -> Manage:
    """Start a project, and add the lines of the quick start without running its commands."""
    command = [sys.executable, "-m", "django", "startproject", "school", str(folder)]
    subprocess.run(command, check=True)
    manage = Manage(folder, fake)
    for name, code in QUICK_START:
        manage.write(name, code)
    return manage


def follow_tutorial(folder: Path, fake: FakeExamplary) -> Iterator[tuple[str, Manage]]:
    """Follow the tutorial, and yield at the end of each stage.

    The caller provides the environment, the fake and the server.
    """
    manage = Manage(folder, fake)
    parts = re.compile(
        r"^```(?P<language>\w+)\n(?P<code>.*?)^```$|<!-- stage: (?P<stage>[\w-]+) -->",
        re.DOTALL | re.MULTILINE,
    )
    for part in parts.finditer(TUTORIAL.read_text(encoding="utf-8")):
        if part["stage"]:
            yield part["stage"], manage
        elif part["language"] == "console":
            for line in part["code"].splitlines():
                _run(manage, shlex.split(line))
        else:
            _write(folder, part["code"])


def _run(manage: Manage, words: list[str]) -> None:
    match words:
        case ["python", "manage.py", "runserver"]:
            pass
        case ["python", "manage.py", *arguments]:
            manage.run(*arguments)
        case ["python", "-m", "django", *arguments]:
            command = [sys.executable, "-m", "django", *arguments]
            subprocess.run(command, cwd=manage.folder, check=True)
        case _:
            # The caller provides the folder, the virtual environment and the fake.
            assert words[0] == "mkdir" or words[:2] == ["python", "-m"], words


def _write(folder: Path, code: str) -> None:
    """Write a block to the file that its first line names."""
    head, _, body = code.partition("\n")
    match = re.fullmatch(r"(?:# |{# )([\w/]+\.(?:py|html))(, at the end)?(?: #})?", head)
    assert match, head
    file = folder / match[1]
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a" if match[2] else "w", encoding="utf-8") as opened:
        opened.write(textwrap.dedent(body))
