from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth import get_user_model
from django.core.checks import ERROR, run_checks
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.core.management.base import CommandError, CommandParser

from django_examplary import services, signals
from django_examplary.conf import Workspace, conf
from django_examplary.exceptions import (
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryPermissionError,
    ExamplaryValidationError,
)
from django_examplary.flows import GenerateExam
from django_examplary.management.base import ExamplaryCommand, add_workspace, one_line
from django_examplary.models import ExamplaryActor
from django_examplary.services.clients import list_workspaces, workspace_of


class Command(ExamplaryCommand):
    help = """\
Checks whether this site can call Examplary.

Checks the settings, like `manage.py check`, and then makes one call that changes nothing:
GET /me returns the owner of the API key. A site with several workspaces gets a line for each of
them. With --session it also opens an embed session for a user with an actor, and revokes it. That
verifies the approval of the workspace, the actor and the origin of the embed."""
    examples = """
examples:
  manage.py examplary_ping
  manage.py examplary_ping --session teacher
  manage.py examplary_ping --workspace north
"""
    exit_codes = """
exit codes:
  0    success: Examplary accepts the API key, and with --session an embed session was opened
  1    Examplary did not respond properly
  2    the settings or the arguments are wrong, or Examplary refuses the API key or the session
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--session",
            metavar="USER",
            help="open and revoke a session for this user: a user name, or else a primary key",
        )
        add_workspace(parser, what="ping this workspace only")

    def handle(self, **options: Any) -> None:
        # Only the checks of this app, because checks of models may query a missing database.
        messages = run_checks(tags=["django_examplary"])
        messages = [each for each in messages if not each.is_silenced()]
        for message in messages:
            self.stderr.write(str(message), style_func=self.style.WARNING)
        is_wrong = any(message.level >= ERROR for message in messages)
        # Other workspaces may work even if the settings of one are wrong.
        is_for_one = options["session"] or options["workspace"] or len(list_workspaces()) < 2
        if is_wrong and is_for_one:
            raise CommandError("The settings are wrong: nothing was sent.", returncode=2)
        user = _find_user(options["session"]) if options["session"] else None
        if options["workspace"]:
            aliases = [options["workspace"]]
        else:
            aliases = [workspace_of(user)] if user is not None else list_workspaces()
        if len(aliases) == 1:
            workspace = conf.get_workspace(aliases[0])
            result = _ping(workspace)
            if user is not None:
                result["session"] = _try_session(user, workspace)
            self.finish(result, _describe(result))
            return
        self._ping_each(aliases)
        if is_wrong:
            raise CommandError("The settings are wrong.", returncode=2)

    def _ping_each(self, aliases: list[str]) -> None:
        """Print a line for each workspace, and exit with the highest code."""
        results: dict[str, Any] = {}
        lines = []
        code = 0
        for alias in aliases:
            try:
                results[alias] = result = _ping(conf.get_workspace(alias))
            except (CommandError, ExamplaryConfigurationError) as error:
                code = max(code, getattr(error, "returncode", 2))
                results[alias] = {"error": str(error)}
                lines.append(f"{alias}: {one_line(str(error))}")
            else:
                owner = one_line(_describe_owner(result))
                lines.append(
                    f"{alias}: {result['api_url']} accepted the API key of {owner}, after "
                    f"{result['seconds']:.2f} s"
                )
        if not aliases:
            lines.append("No user has a workspace yet. Pass --workspace and an alias.")
        self.finish({"workspaces": results}, "\n".join(lines))
        if code:
            raise CommandError("Not every workspace responded properly.", returncode=code)


def _ping(workspace: Workspace) -> dict[str, Any]:
    """Return the result of a call to a workspace. Raises CommandError with advice."""
    call: dict[str, Any] = {}

    def measure(**arguments: Any) -> None:
        call.update(arguments)

    client = services.get_client(workspace.alias)
    signals.api_call_finished.connect(measure)
    try:
        with _explained(workspace):
            owner = client.get_me()
    finally:
        signals.api_call_finished.disconnect(measure)
    return {
        "workspace": workspace.alias,
        "api_url": workspace.api_url,
        "key_owner": owner.id,
        "key_owner_role": owner.role,
        "seconds": round(call["seconds"], 3),
        "clock_difference": call["clock_difference"],
        "embed_origins": list(workspace.embed_origins),
        "site_origin": conf.EXAMPLARY_SITE_ORIGIN,
        "session": None,
    }


def _find_user(name: str) -> Any:
    """Return the user with this name, or else this primary key, and an active actor."""
    users = get_user_model()._default_manager
    try:
        user = users.get_by_natural_key(name)
    except ObjectDoesNotExist:
        try:
            user = users.get(pk=name)
        except (ObjectDoesNotExist, ValidationError, ValueError):
            raise CommandError(f"There is no user {name}.", returncode=2) from None
    actor = ExamplaryActor.objects.filter(user=user, state=ExamplaryActor.State.ACTIVE)
    if not actor.exists():
        raise CommandError(
            f"The user {name} has no active actor. Run manage.py examplary_provision {user.pk}",
            returncode=2,
        )
    return user


def _try_session(user: Any, workspace: Workspace) -> dict[str, Any]:
    """Open a session for the user, revoke it, and return the result without secrets."""
    # The embed is never shown, so any origin works.
    origin = conf.EXAMPLARY_SITE_ORIGIN or "https://localhost"
    refusals = (ExamplaryEmbedURLError, ExamplaryInvalidRequestError, ExamplaryValidationError)
    with _explained(workspace, *refusals):
        session = services.open_session(user, GenerateExam(), origin=origin, reuse=False)
        parts = urlsplit(session.embed_url.value)
        session = services.revoke_session(session)
    return {
        "embed_origin": f"{parts.scheme}://{parts.netloc}",
        "revoked": not session.revoke_pending,
    }


@contextmanager
def _explained(workspace: Workspace, *refusals: type[ExamplaryError]) -> Iterator[None]:
    """Convert the errors of a call to CommandError, with advice.

    `refusals` are errors that a retry does not change.
    """
    try:
        yield
    except ExamplaryAuthenticationError as error:
        raise CommandError(
            f"{error}\nThis API key does not exist: it was deleted, or belongs to another "
            f"installation than {workspace.api_url}. Create a new one at "
            f"https://app.examplary.ai/account/developer and set {workspace.setting('API_KEY')}.",
            returncode=2,
        ) from None
    except ExamplaryPermissionError as error:
        raise CommandError(
            f"{error}\nThis API key exists, but lacks the permission. It must be the key of an "
            "admin of the workspace, and Examplary must have approved the workspace for embed "
            "sessions: write to hi@examplary.ai.",
            returncode=2,
        ) from None
    except ExamplaryError as error:
        code = 2 if isinstance(error, refusals) else 1
        raise CommandError(str(error), returncode=code) from None


def _describe(result: dict[str, Any]) -> str:
    lines = [
        f"Answer        {result['api_url']}, after {result['seconds']:.2f} s",
        f"API key       accepted: it belongs to {one_line(_describe_owner(result))}",
        f"Clock         {_describe_clock(result['clock_difference'])}",
        f"Embeds        may come from {', '.join(result['embed_origins'])}",
        f"This site     {result['site_origin'] or 'has the origin of each request'}",
    ]
    if session := result["session"]:
        ending = "and revoked" if session["revoked"] else "but not revoked: a sweep tries again"
        lines.append(f"Session       opened at {session['embed_origin']}, {ending}")
    else:
        lines += [
            "",
            "Embed sessions also need Examplary's approval of the workspace, once: write to",
            "hi@examplary.ai. Without it the API returns 401 or 403. To test it, pass",
            "--session and the name of a user with an actor.",
        ]
    return "\n".join(lines)


def _describe_owner(result: dict[str, Any]) -> str:
    return ", ".join(filter(None, (result["key_owner"], result["key_owner_role"])))


def _describe_clock(difference: float | None) -> str:
    if difference is None:
        return "unknown: the response has no date"
    # The date of a response has a resolution of one second.
    if abs(difference) < 2:
        return "the same as Examplary's"
    side = "ahead of" if difference > 0 else "behind"
    return f"Examplary's is {abs(difference):.0f} s {side} this server"
