from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError, CommandParser

from django_examplary import services
from django_examplary.exceptions import ExamplaryError, ExamplaryValidationError
from django_examplary.management.base import ExamplaryCommand, one_line
from django_examplary.models import ExamplaryActor


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the file; `user` is a user name or an e-mail address."""

    line: int
    user: str
    examplary_id: str


@dataclass(kw_only=True)
class Linking:
    """How many users were linked, or would be; who could not be, and why the run ended early."""

    linked: int = 0
    unchanged: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""


class Command(ExamplaryCommand):
    help = """\
Links users to Examplary users who exist already.

For a new database on a workspace that was used before: Examplary refuses addresses that it knows,
and documents no way to find their ids. The file has two columns, a user name or an e-mail address
and an id that begins with "user_". A header is skipped. The file is read whole before anything is
linked.

Run it again after any interruption: users who have the right id are passed over. A user who has
another id is only given the new one with --replace, which revokes that user's open sessions."""
    examples = """
examples:
  manage.py examplary_link --csv users.csv --dry-run
  manage.py examplary_link --csv users.csv
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--csv", metavar="FILE", required=True, help="the file, in UTF-8")
        parser.add_argument(
            "--replace", action="store_true", help="also link users who have another id"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only look up the users; makes no API call"
        )

    def handle(self, **options: Any) -> None:
        try:
            rows = list(_read(options["csv"]))
        except csv.Error as error:
            raise CommandError(f"{options['csv']} is not CSV: {error}", returncode=2) from None
        _refuse_duplicates(rows)
        result = Linking()
        with self.stoppable():
            for number, row in enumerate(rows):
                if self.should_stop():
                    break
                self.report(f"{number} of {len(rows)} lines, {len(result.failed)} failed")
                try:
                    self._link(row, result, options)
                except ExamplaryValidationError as error:
                    result.failed.append({"line": row.line, "user": row.user, "reason": str(error)})
                except ExamplaryError as error:
                    # The next lines would meet the same.
                    result.stopped = f"Stopped at line {row.line}: {error}"
                    break
        failed = result.stopped or ("Some users are not linked." if result.failed else "")
        text = _describe(result, dry_run=options["dry_run"])
        self.finish(asdict(result), text, as_json=options["json"], failed=failed)

    def _link(self, row: Row, result: Linking, options: dict[str, Any]) -> None:
        user = _find_user(row.user)
        actor = ExamplaryActor.objects.filter(user=user).first()
        if actor is not None and actor.is_active:
            if actor.examplary_id == row.examplary_id:
                result.unchanged += 1
                return
            if not options["replace"]:
                raise ExamplaryValidationError(
                    "user", f"has the id {actor.examplary_id}. Pass --replace to link the other one"
                )
        if not options["dry_run"]:
            services.link_actor(user, row.examplary_id)
        result.linked += 1


def _read(file: str) -> Iterator[Row]:
    """Read the rows. Raises CommandError, with the line, for one that is not a user and an id."""
    try:
        # A byte order mark is how spreadsheets mark UTF-8.
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} could not be read: {error}", returncode=2) from None
    # Spreadsheets write semicolons where the comma is the decimal separator.
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    lines = csv.reader(io.StringIO(text), delimiter=delimiter)
    for index, cells in enumerate(lines):
        stripped = [cell.strip() for cell in cells]
        if not any(stripped) or (index == 0 and stripped[-1].lower() in ("id", "examplary_id")):
            continue
        if len(stripped) != 2 or not re.fullmatch(r"user_[A-Za-z0-9_-]{1,250}", stripped[1]):
            raise CommandError(
                f"{file}, line {lines.line_num}: must be a user name or an e-mail address, and an "
                "id that begins with user_.",
                returncode=2,
            )
        yield Row(line=lines.line_num, user=stripped[0], examplary_id=stripped[1])


def _refuse_duplicates(rows: list[Row]) -> None:
    """Raise CommandError for a user or an id that the file has twice: one of them is wrong."""
    seen: dict[str, int] = {}
    for row in rows:
        for value in (row.user, row.examplary_id):
            if value in seen:
                raise CommandError(
                    f"Lines {seen[value]} and {row.line} both have {value}.", returncode=2
                )
            seen[value] = row.line


def _find_user(name: str) -> Any:
    """Return the user with this user name, or else with this e-mail address."""
    model = get_user_model()
    users = list(model._default_manager.filter(**{model.USERNAME_FIELD: name})[:2])
    if not users and "@" in name:
        address = f"{model.get_email_field_name()}__iexact"
        users = list(model._default_manager.filter(**{address: name})[:2])
    if len(users) > 1:
        raise ExamplaryValidationError("user", "is more than one user: write the user name")
    if not users:
        raise ExamplaryValidationError("user", "does not exist")
    return users[0]


def _describe(result: Linking, *, dry_run: bool) -> str:
    verb = "would be linked" if dry_run else "linked"
    lines = [f"{result.linked} users {verb}, {result.unchanged} were linked before."]
    lines += [
        one_line(f"line {each['line']}, {each['user']}: {each['reason']}") for each in result.failed
    ]
    return "\n".join(lines)
