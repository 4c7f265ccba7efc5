from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_examplary import services
from django_examplary.management.base import ExamplaryCommand, positive
from django_examplary.services.lifecycle import Sweep


class Command(ExamplaryCommand):
    help = """\
Finds out what became of sessions that no browser reported, and tidies up. For cron.

Asks Examplary about open sessions, which ends those that were completed, cancelled or have expired
and sends the signals; revokes at Examplary what is over here and could not be revoked at the time;
and deletes what is older than EXAMPLARY_RETENTION days, if that is set. May run at any time, also
twice at once."""
    examples = """
examples:
  manage.py examplary_sweep --dry-run
  */5 * * * *  manage.py examplary_sweep --limit 500
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--limit",
            type=positive,
            help="ask about so many sessions at most; those that were not asked about for longest "
            "come first, so the next run goes on with the others",
        )
        parser.add_argument("--dry-run", action="store_true", help="only count, and ask nothing")

    def handle(self, **options: Any) -> None:
        def report(sweep: Sweep) -> None:
            self.report(f"{sweep.verified} verified, {sweep.revoked} revoked")

        with self.stoppable():
            sweep = services.sweep_sessions(
                limit=options["limit"],
                dry_run=options["dry_run"],
                should_stop=self.should_stop,
                progress=report,
            )
        failed = sweep.stopped or (
            "Some sessions could not be asked about." if sweep.failed else ""
        )
        self.finish(sweep, _describe(sweep, options), as_json=options["json"], failed=failed)


def _describe(sweep: Sweep, options: dict[str, Any]) -> str:
    if options["dry_run"]:
        return (
            f"Would ask about {sweep.verified} open sessions, revoke {sweep.revoked} and delete "
            f"{sweep.pruned}."
        )
    ends = ", ".join(f"{count} {status}" for status, count in sorted(sweep.ended.items()))
    return (
        f"{sweep.verified} sessions verified ({ends or 'none has ended'}), "
        f"{sweep.revoked} revoked, {sweep.pruned} deleted, {sweep.failed} failed."
    )
