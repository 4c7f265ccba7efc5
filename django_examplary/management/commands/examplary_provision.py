from __future__ import annotations

from argparse import BooleanOptionalAction
from typing import Any, get_args

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ValidationError
from django.core.management.base import CommandError, CommandParser
from django.db.models import QuerySet

from django_examplary import clock, services
from django_examplary.data import ActorRole
from django_examplary.management.base import ExamplaryCommand, add_pace, add_workspace, positive
from django_examplary.services.bulk import Provisioning, count_waiting


class Command(ExamplaryCommand):
    help = """\
Creates the Examplary accounts of users of this site.

This is optional: the first embed provisions its user. Run it before a lesson to find users who
can't be provisioned, and to spare the others the wait at the first embed.

Provisions all active users who have no active actor, or a selection of them. Users whose
provisioning failed before are retried. Run it again after any interruption: no user is
provisioned twice, and several runs may work at the same time."""
    examples = """
examples:
  manage.py examplary_provision --dry-run
  manage.py examplary_provision --group Teachers --group Heads
  manage.py examplary_provision --group Pupils --role student
  manage.py examplary_provision --search @school.example --rate 20 --concurrency 16
  manage.py examplary_provision 17 42
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="*", metavar="id", help="primary keys of users")
        parser.add_argument(
            "--group",
            action="append",
            default=[],
            metavar="NAME",
            help="users of this group; may be given several times",
        )
        parser.add_argument(
            "--staff",
            action=BooleanOptionalAction,
            help="only users with access to the admin, or only those without",
        )
        parser.add_argument(
            "--search", default="", metavar="TEXT", help="part of a name or an e-mail address"
        )
        parser.add_argument(
            "--role",
            choices=get_args(ActorRole),
            help="role at Examplary, for users whose profile has none (default: teacher)",
        )
        add_workspace(parser, what="provision the users of this workspace only")
        add_pace(parser, rate=5.0)
        parser.add_argument(
            "--max-failures",
            type=positive,
            default=10,
            help="stop after this many failed calls in a row (default: 10)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only count the users who would be provisioned"
        )

    def handle(self, **options: Any) -> None:
        try:
            users = self._select(options)
            total = count_waiting(users, options["workspace"])
        except (FieldError, ValidationError, ValueError) as error:
            raise CommandError(f"These users cannot be selected: {error}", returncode=2) from None
        if options["dry_run"]:
            text = f"{total} users have no active actor, and would be provisioned."
            self.finish({"users": total}, text)
            return
        started = clock.monotonic()

        def report(result: Provisioning) -> None:
            failed = sum(result.failed.values())
            done = result.provisioned + failed + result.skipped
            speed = done / max(0.001, clock.monotonic() - started)
            self.report(f"{done} of {total} users, {failed} failed, {speed:.0f} a second")

        with self.stoppable():
            result = services.provision_actors(
                users,
                role=options["role"],
                workspace=options["workspace"],
                concurrency=options["concurrency"],
                rate=options["rate"],
                max_failures=options["max_failures"],
                should_stop=self.should_stop,
                progress=report,
            )
        left = ""
        if result.failed:
            left = "Some users have no actor."
        elif result.skipped and services.unprovisioned(users).exists():
            # Another run may have provisioned the skipped users.
            left = "Some users were skipped: run it again in a minute."
        failed = result.stopped or left
        self.finish(result, _describe(result), failed=failed)

    def _select(self, options: dict[str, Any]) -> QuerySet[Any]:
        users = services.select_users(
            groups=options["group"], staff=options["staff"], search=options["search"]
        )
        model = get_user_model()
        if options["group"]:
            groups: Any = model._meta.get_field("groups").related_model
            _refuse_unknown("group", groups, "name", options["group"])
        _refuse_unknown("user", model, "pk", options["ids"])
        return users.filter(pk__in=options["ids"]) if options["ids"] else users


def _refuse_unknown(what: str, model: Any, field: str, values: list[str]) -> None:
    """Raise CommandError for missing rows, so that a typo does not look like a success."""
    # One by one, because the database compares the values and Django refuses too large ones.
    rows = model._default_manager
    unknown = [value for value in values if not rows.filter(**{field: value}).exists()]
    if unknown:
        raise CommandError(f"There is no {what} {', '.join(unknown)}.", returncode=2)


def _describe(result: Provisioning) -> str:
    lines = [f"{result.provisioned} users provisioned."]
    if result.skipped:
        lines.append(f"{result.skipped} skipped: try again in a minute.")
    for reason, count in sorted(result.failed.items(), key=lambda item: -item[1]):
        lines.append(f"{count} failed: {reason}")
    if result.failed:
        lines.append("The list of Examplary actors in the admin shows these users.")
    return "\n".join(lines)
