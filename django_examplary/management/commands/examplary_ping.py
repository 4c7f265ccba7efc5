from __future__ import annotations

from typing import Any

from django.core.checks import ERROR, run_checks
from django.core.management.base import CommandError

from django_examplary import services, signals
from django_examplary.conf import conf
from django_examplary.exceptions import (
    ExamplaryAuthenticationError,
    ExamplaryError,
    ExamplaryPermissionError,
)
from django_examplary.management.base import ExamplaryCommand


class Command(ExamplaryCommand):
    help = """\
Finds out whether this site can talk to Examplary.

Looks at the settings, as `manage.py check` does, and then asks one thing that changes nothing:
whose API key this is (GET /me). What it cannot find out is whether your workspace may open embed
sessions, since only opening one would tell."""
    examples = """
example:
  manage.py examplary_ping
"""
    exit_codes = """
exit codes:
  0    all is done: Examplary takes the API key
  1    Examplary did not answer properly
  2    the settings or the arguments are wrong, or Examplary refuses the API key
"""

    def handle(self, **options: Any) -> None:
        # Of this app only: those of models ask the database, which need not be there.
        messages = run_checks(tags=["django_examplary"])
        messages = [each for each in messages if not each.is_silenced()]
        for message in messages:
            self.stderr.write(str(message), style_func=self.style.WARNING)
        if any(message.level >= ERROR for message in messages):
            raise CommandError("The settings are wrong: nothing was sent.", returncode=2)
        client = services.get_client()
        call: dict[str, Any] = {}

        def measure(**arguments: Any) -> None:
            call.update(arguments)

        signals.api_call_finished.connect(measure)
        try:
            owner = client.get_me()
        except ExamplaryAuthenticationError as error:
            raise CommandError(
                f"{error}\nExamplary does not know this API key: it was deleted, or is of another "
                f"installation than {conf.EXAMPLARY_API_URL}. Make a new one at "
                "https://app.examplary.ai/account/developer and set EXAMPLARY_API_KEY.",
                returncode=2,
            ) from None
        except ExamplaryPermissionError as error:
            raise CommandError(
                f"{error}\nExamplary knows this API key and refuses it. It must be the key of an "
                "admin of the workspace, and Examplary must have approved the workspace for embed "
                "sessions: write to hi@examplary.ai.",
                returncode=2,
            ) from None
        except ExamplaryError as error:
            raise CommandError(str(error), returncode=1) from None
        finally:
            signals.api_call_finished.disconnect(measure)
        result = {
            "api_url": conf.EXAMPLARY_API_URL,
            "key_owner": owner.id,
            "key_owner_role": owner.role,
            "seconds": round(call["seconds"], 3),
            "clock_difference": call["clock_difference"],
            "embed_origins": list(conf.EXAMPLARY_EMBED_ORIGINS),
            "site_origin": conf.EXAMPLARY_SITE_ORIGIN,
        }
        self.finish(result, self._describe(result), as_json=options["json"])

    def _describe(self, result: dict[str, Any]) -> str:
        role = f", {result['key_owner_role']}" if result["key_owner_role"] else ""
        return "\n".join(
            [
                f"Answer        {result['api_url']}, after {result['seconds']:.2f} s",
                f"API key       accepted: it is of {result['key_owner']}{role}",
                f"Clock         {_describe_clock(result['clock_difference'])}",
                f"Embeds        may come from {', '.join(result['embed_origins'])}",
                f"This site     {result['site_origin'] or 'has the origin of each request'}",
                "",
                "Embed sessions also need Examplary's approval of the workspace, once: write to",
                "hi@examplary.ai. Without it they are answered with 401 or 403.",
            ]
        )


def _describe_clock(difference: float | None) -> str:
    if difference is None:
        return "unknown: the answer has no date"
    # The date of an answer has whole seconds.
    if abs(difference) < 2:
        return "the same as Examplary's"
    side = "ahead of" if difference > 0 else "behind"
    return f"Examplary's is {abs(difference):.0f} s {side} this machine's"
