"""The base of the commands: progress, a clean stop, JSON, and exit codes for cron."""

from __future__ import annotations

import json
import re
import signal
import threading
from argparse import ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    DjangoHelpFormatter,
)
from django.db import Error

from django_examplary import clock

# Seconds between two reports: on a terminal, and in a log.
_WATCHED, _LOGGED = 1.0, 10.0


class _HelpFormatter(DjangoHelpFormatter, RawDescriptionHelpFormatter):
    """Django's order of the options, and the line breaks as they were written."""


class ExamplaryCommand(BaseCommand):
    # System checks would also detect missing settings, but exit with another code.
    requires_system_checks = []

    #: The examples that `--help` shows at the end, before the exit codes.
    examples = ""
    exit_codes = """
exit codes:
  0    success
  1    some work failed or remains, as listed in the output
  2    the settings or the arguments are wrong
  130  stopped by Ctrl-C, cleanly: run it again to continue
  143  stopped by SIGTERM, cleanly: run it again to continue
"""

    #: The signal that stops the command, if received.
    _signal = 0
    _reported = 0.0

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(
            prog_name,
            subcommand,
            epilog=self.examples + self.exit_codes,
            formatter_class=_HelpFormatter,
            **kwargs,
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            help="print the result as JSON; errors are text on stderr, and without a result "
            "nothing is printed",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        self._as_json = options["json"]
        try:
            return super().execute(*args, **options)
        except ImproperlyConfigured as error:
            raise CommandError(escaped(str(error)), returncode=2) from None
        except Error as error:
            # Messages of databases may quote a row.
            failure = type(error).__name__
        except CommandError as error:
            # The message may quote a response, and terminals execute control characters.
            error.args = (escaped(str(error)),)
            raise
        # Raised here, so that --traceback does not show the original, whose frames hold the row.
        raise CommandError(
            f"The database failed: {failure}. Run `migrate` if the tables of this app are missing."
        )

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Make the first SIGINT or SIGTERM set `should_stop`, and the second kill the process."""
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread can set signal handlers.
            yield
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def stop(number: int, frame: FrameType | None) -> None:
            self._signal = number
            for each in previous:
                signal.signal(each, signal.SIG_DFL)

        for number in previous:
            signal.signal(number, stop)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def should_stop(self) -> bool:
        return bool(self._signal)

    def report(self, text: str) -> None:
        """Write the progress to stderr: once a second on a terminal, else every ten seconds."""
        watched = self.stderr.isatty()
        now = clock.monotonic()
        if now - self._reported < (_WATCHED if watched else _LOGGED):
            return
        self._reported = now
        text = escaped(text)
        # Overwrite the previous line completely.
        line, ending = (f"\r{text:<78}", "") if watched else (text, "\n")
        self.stderr.write(line, style_func=str, ending=ending)
        self.stderr.flush()

    def finish(self, result: Any, text: str, *, failed: str = "") -> None:
        """Print the result, an object or a dict, and end with the exit code that belongs to it.

        `failed` describes the work that is left.
        """
        if self._reported and self.stderr.isatty():
            self.stderr.write("")
        text = json.dumps(result, indent=2, default=vars) if self._as_json else escaped(text)
        self.stdout.write(text)
        if self._signal:
            name = signal.Signals(self._signal).name
            raise CommandError(
                f"Stopped by {name}. Run it again to continue.", returncode=128 + self._signal
            )
        if failed:
            raise CommandError(failed, returncode=1)


def escaped(text: str) -> str:
    """Escape control characters, line separators and changes of text direction.

    Strings of a server cannot move the cursor or imitate other lines. Line feeds are kept, because
    the commands print them, too.
    """
    controls, directions = r"\x00-\x09\x0b-\x1f\x7f-\x9f", r"\u061c\u200e\u200f\u2028-\u202e"
    unsafe = rf"[{controls}{directions}\u2066-\u2069\ud800-\udfff]"
    return re.sub(unsafe, lambda match: ascii(match[0])[1:-1], text)


def one_line(text: str) -> str:
    """Escape a string of a server that is part of a line."""
    return escaped(text).replace("\n", "\\n")


def positive(text: str) -> int:
    """Parse an argument that must be a positive number."""
    number = int(text)
    if number < 1:
        raise ArgumentTypeError("must be at least 1")
    return number


def add_workspace(parser: CommandParser, *, what: str) -> None:
    """Add the argument that selects one of several workspaces."""
    parser.add_argument("--workspace", metavar="ALIAS", help=what)


def add_pace(parser: CommandParser, *, rate: float) -> None:
    """Add the arguments of a run that makes many calls."""
    parser.add_argument(
        "--concurrency",
        type=_concurrency,
        default=4,
        help="requests at the same time, up to 32 (default: 4)",
    )
    parser.add_argument(
        "--rate",
        type=_rate,
        default=rate,
        help="requests a second, at most; 0 sets no limit (default: "
        f"{rate:g}). The run pauses when Examplary requires it",
    )


def _concurrency(text: str) -> int:
    number = positive(text)
    if number > 32:
        raise ArgumentTypeError("must be at most 32")
    return number


def _rate(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError("must be 0 or more")
    return number
