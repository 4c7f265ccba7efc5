from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from django_examplary import services
from django_examplary.management.base import ExamplaryCommand, add_pace, add_workspace, positive
from django_examplary.services.sweep import Sweep


class Command(ExamplaryCommand):
    help = """\
Finishes sessions that no browser reported, and deletes old ones. For cron.

Requests the status of open sessions from Examplary. Records those that were completed, cancelled or
have expired, and sends their signals. Revokes sessions at Examplary that have ended here and could
not be revoked at the time. Deletes sessions older than EXAMPLARY_RETENTION days, if that is set.
May run at any time. Several sweeps at once share the work."""
    examples = """
examples:
  manage.py examplary_sweep --dry-run
  manage.py examplary_sweep --concurrency 16 --rate 50
  */5 * * * *  manage.py examplary_sweep --limit 500
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--limit",
            type=positive,
            help="check this many sessions at most; those that waited longest come first, so "
            "the next run continues with the others",
        )
        add_workspace(parser, what="check the sessions of this workspace only")
        add_pace(parser, rate=0.0)
        parser.add_argument("--dry-run", action="store_true", help="only count, and call nothing")

    def handle(self, **options: Any) -> None:
        def report(sweep: Sweep) -> None:
            self.report(f"{sweep.verified} verified, {sweep.revoked} revoked")

        with self.stoppable():
            sweep = services.sweep_sessions(
                limit=options["limit"],
                workspace=options["workspace"],
                dry_run=options["dry_run"],
                concurrency=options["concurrency"],
                rate=options["rate"],
                should_stop=self.should_stop,
                progress=report,
            )
        failed = sweep.stopped or ("Some sessions could not be checked." if sweep.failed else "")
        self.finish(sweep, _describe(sweep, options), failed=failed)


def _describe(sweep: Sweep, options: dict[str, Any]) -> str:
    if options["dry_run"]:
        return (
            f"Would check {sweep.verified} open sessions, revoke {sweep.revoked}, send "
            f"{sweep.announced} late signals and delete {sweep.pruned}."
        )
    ends = ", ".join(f"{count} {status}" for status, count in sorted(sweep.ended.items()))
    lines = [
        f"{sweep.verified} sessions verified ({ends or 'none has ended'}), "
        f"{sweep.revoked} revoked, {sweep.pruned} deleted, {sweep.failed} failed."
    ]
    if sweep.announced:
        lines.append(f"{sweep.announced} signals sent late: a process died before it sent them.")
    if sweep.missing:
        lines.append(f"{sweep.missing} open sessions are not returned by Examplary; see the log.")
    return "\n".join(lines)
