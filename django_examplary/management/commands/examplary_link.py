from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_examplary.exceptions import ExamplaryError
from django_examplary.management.base import ExamplaryCommand, one_line
from django_examplary.services.link_file import (
    OTHER_ID,
    LinkLine,
    decode,
    find_users,
    link_lines,
    read_lines,
)


@dataclass(kw_only=True)
class Linking:
    """The number of linked users, the failed lines, and the reason why the run ended early."""

    linked: int = 0
    unchanged: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""


class Command(ExamplaryCommand):
    help = """\
Links users to existing Examplary users.

For a new database with an existing workspace: Examplary may refuse known addresses, and documents
no way to find their ids. The file has two columns: a user name or an e-mail address, and an id that
begins with "user_". A header is skipped. The whole file is validated before any user is linked.

Run it again after any interruption: users with the right id are skipped. A user with another
id gets the new one only with --replace, which revokes that user's open sessions."""
    examples = """
examples:
  manage.py examplary_link --csv users.csv --dry-run
  manage.py examplary_link --csv users.csv
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--csv", metavar="FILE", required=True, help="the file, in UTF-8 or UTF-16"
        )
        parser.add_argument(
            "--replace", action="store_true", help="also link users who have another id"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only look up the users; makes no API call"
        )

    def handle(self, **options: Any) -> None:
        lines = _read_link_lines(options["csv"])
        result = Linking()
        with self.stoppable():
            find_users(lines, replace=options["replace"])
            result.unchanged = sum(line.is_linked for line in lines)
            result.failed = [_failure(line) for line in lines if line.problem]
            ready = [line for line in lines if line.is_ready]
            if options["dry_run"]:
                result.linked = len(ready)
            else:
                self._link(ready, result, replace=options["replace"])
        failed = result.stopped or ("Some users are not linked." if result.failed else "")
        text = _describe(result, dry_run=options["dry_run"])
        self.finish(result, text, failed=failed)

    def _link(self, ready: list[LinkLine], result: Linking, *, replace: bool) -> None:
        done = 0
        linking = link_lines(ready, replace=replace)
        try:
            while not self.should_stop() and (line := next(linking, None)):
                done += 1
                result.linked += line.is_linked
                if line.problem:
                    result.failed.append(_failure(line))
                self.report(f"{done} of {len(ready)} lines, {len(result.failed)} failed")
        except ExamplaryError as error:
            # The next lines would fail with the same error.
            result.stopped = f"Stopped at line {ready[done].number}: {error}"
        result.failed.sort(key=lambda failure: failure["line"])


def _read_link_lines(file: str) -> list[LinkLine]:
    """Return the lines of the file. Raises CommandError if it is not a list of users and ids."""
    try:
        lines = read_lines(decode(Path(file).read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} could not be read: {error}", returncode=2) from None
    except csv.Error as error:
        raise CommandError(f"{file} is not CSV: {error}", returncode=2) from None
    for line in lines:
        if line.problem:
            raise CommandError(f"{file}, line {line.number}: {line.problem}", returncode=2)
    return lines


def _failure(line: LinkLine) -> dict[str, Any]:
    reason = line.problem
    if reason == OTHER_ID and line.actor is not None:
        reason = f"The user has the id {line.actor.examplary_id}. Pass --replace to link this one."
    return {"line": line.number, "user": line.name, "reason": reason}


def _describe(result: Linking, *, dry_run: bool) -> str:
    verb = "would be linked" if dry_run else "linked"
    lines = [f"{result.linked} users {verb}, {result.unchanged} were already linked."]
    lines += [
        one_line(f"line {each['line']}, {each['user']}: {each['reason']}") for each in result.failed
    ]
    return "\n".join(lines)
