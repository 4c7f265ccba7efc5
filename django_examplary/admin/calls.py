"""Actions that call the API within the limits of a request, and report the result as messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext, ngettext_lazy

from django_examplary import clock, services
from django_examplary.admin.advice import advise_each
from django_examplary.admin.base import ExamplaryAdminMixin, Limits
from django_examplary.admin.history import actor_facts, describe, log, session_facts
from django_examplary.admin.progress import FAILED_STATES, Progress
from django_examplary.data import ActorRole
from django_examplary.exceptions import ExamplaryError
from django_examplary.models import ExamplaryActor, ExamplarySession

State = ExamplaryActor.State

_ACTIVE = ngettext_lazy(
    "%(count)d user has an active Examplary actor.",
    "%(count)d users have active Examplary actors.",
    "count",
)
_INACTIVE_SKIPPED = ngettext_lazy(
    "%(count)d inactive user is not given an Examplary actor.",
    "%(count)d inactive users are not given Examplary actors.",
    "count",
)
_WAITING = ngettext_lazy(
    "%(count)d user is still waiting. Choose the action again, or provision users from "
    "the list of actors.",
    "%(count)d users are still waiting. Choose the action again, or provision users from "
    "the list of actors.",
    "count",
)
_CHECKED = ngettext_lazy(
    "%(count)d open session checked, %(ended)d has ended.",
    "%(count)d open sessions checked, %(ended)d have ended.",
    "count",
)
_REVOKED = ngettext_lazy("%(count)d session revoked.", "%(count)d sessions revoked.", "count")
_ENDED_BEFORE = ngettext_lazy(
    "%(count)d session had ended before.", "%(count)d sessions had ended before.", "count"
)
UNCONFIRMED = ngettext_lazy(
    "Examplary did not confirm %(count)d revocation: this site tries again later.",
    "Examplary did not confirm %(count)d revocations: this site tries again later.",
    "count",
)
_FAILED_CALLS = ngettext_lazy(
    "The call for %(count)d session failed: %(problem)s",
    "The calls for %(count)d sessions failed, the last with: %(problem)s",
    "count",
)
_NO_TIME_FOR_SESSIONS = ngettext_lazy(
    "There was no time for %(count)d session: choose the action again.",
    "There was no time for %(count)d sessions: choose the action again.",
    "count",
)


def provision_batch(
    request: HttpRequest,
    users: QuerySet[Any],
    seconds: float,
    *,
    role: ActorRole | None,
    limits: Limits,
) -> tuple[QuerySet[Any], services.Provisioning]:
    """Provision users for a limited time, and log the outcome of each actor.

    Returns these users with the result, which is `interrupted` if further users are left.
    """
    started = timezone.now()
    until = clock.monotonic() + seconds
    keys = list(users.order_by("pk").values_list("pk", flat=True)[: limits.rows])
    chosen = get_user_model()._default_manager.filter(pk__in=keys)
    actors = ExamplaryActor.objects.filter(user__in=keys)
    before = {actor.pk: actor_facts(actor) for actor in actors}
    try:
        result = services.provision_actors(
            chosen,
            role=role,
            concurrency=limits.concurrency,
            rate=0,
            # During an outage, only the concurrent calls may leave users uncertain.
            max_failures=limits.concurrency,
            should_stop=lambda: clock.monotonic() > until,
            deadline=limits.deadline,
        )
    except ImproperlyConfigured as error:
        result = services.Provisioning(stopped=str(error))
    entries = []
    tried = actors.filter(state__in=[State.ACTIVE, *FAILED_STATES], updated_at__gte=started)
    for actor in tried.select_related("user"):
        text = gettext("Provisioned") if actor.is_active else gettext("Provisioning failed")
        facts = before.get(actor.pk, {}), actor_facts(actor)
        entries.append((actor, describe(text, *facts)))
    log(request, entries)
    is_full = len(keys) == limits.rows
    # A refused key is more important than the time limit.
    result.interrupted = not result.stopped and (result.interrupted or is_full)
    return chosen, result


def provision_and_report(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    users: QuerySet[Any],
    role: ActorRole | None = None,
) -> None:
    """Provision users within the time limit of a request, and show messages about the result."""
    limits = model_admin.examplary_limits
    started = timezone.now()
    waiting = services.unprovisioned(users)
    # Count in advance, because the action may change rows that the filter of the list selects.
    active = users.filter(examplary_actor__state=State.ACTIVE).count()
    left = waiting.count()
    inactive = users.count() - active - left
    chosen, result = provision_batch(request, waiting, limits.duration, role=role, limits=limits)
    run = Progress(chosen, started)
    model_admin.report_count(request, messages.SUCCESS, active + run.provisioned, _ACTIVE)
    failures = list(run.failures[: limits.messages])
    for actor, (advice, _) in zip(failures, advise_each(failures), strict=True):
        text = gettext("Provisioning failed for %(user)s. %(advice)s")
        failure = {"user": actor, "advice": advice.text}
        model_admin.message_user(request, text % failure, messages.ERROR)
    if run.failed > limits.messages:
        text = gettext("Provisioning failed for %(count)d users in all: see the list of actors.")
        model_admin.message_user(request, text % {"count": run.failed}, messages.ERROR)
    model_admin.report_count(request, messages.WARNING, inactive, _INACTIVE_SKIPPED)
    if result.stopped:
        model_admin.message_user(request, result.stopped, messages.ERROR)
    else:
        model_admin.report_count(request, messages.WARNING, left - run.done, _WAITING)


def check_and_report(
    model_admin: ExamplaryAdminMixin, request: HttpRequest, sessions: QuerySet[ExamplarySession]
) -> None:
    """Verify open sessions, and show messages about the result."""
    checked = _call_for_each(
        model_admin, request, sessions, services.verify_session, gettext("Checked")
    )
    ended = sum(not session.is_open for session in checked)
    model_admin.report_count(request, messages.SUCCESS, len(checked), _CHECKED, ended=ended)


def revoke_and_report(
    model_admin: ExamplaryAdminMixin, request: HttpRequest, sessions: QuerySet[ExamplarySession]
) -> None:
    """Revoke open sessions, and show messages about the result."""
    ended = _call_for_each(
        model_admin, request, sessions, services.revoke_session, gettext("Revoked")
    )
    revoked = sum(session.status == ExamplarySession.Status.REVOKED for session in ended)
    pending = sum(session.revoke_pending for session in ended)
    model_admin.report_count(request, messages.SUCCESS, revoked, _REVOKED)
    model_admin.report_count(request, messages.WARNING, len(ended) - revoked, _ENDED_BEFORE)
    model_admin.report_count(request, messages.WARNING, pending, UNCONFIRMED)


def _call_for_each(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
    service: Callable[..., ExamplarySession],
    action: str,
) -> list[ExamplarySession]:
    """Call the service for open sessions within the time limit, and return these sessions."""
    limits = model_admin.examplary_limits
    until = clock.monotonic() + limits.duration
    total = sessions.count()
    if not total:
        text = gettext("None of these sessions is open.")
        model_admin.message_user(request, text, messages.WARNING)
    done, failed, entries, problem = [], 0, [], ""
    stopped: dict[str, str] = {}
    for session in sessions.select_related("actor__user")[: limits.rows]:
        if clock.monotonic() > until:
            break
        if session.workspace in stopped:
            continue
        before = session_facts(session)
        try:
            after = service(session, client=limits.client(session.workspace))
        except ExamplaryError as error:
            failed += 1
            problem = str(error)
            text = gettext("%(action)s without success")
            entries.append((session, describe(text % {"action": action}, before, before)))
        except ImproperlyConfigured as error:
            # The calls for sessions of other workspaces may succeed.
            stopped[session.workspace] = str(error)
        else:
            done.append(after)
            entries.append((after, describe(action, before, session_facts(after))))
    log(request, entries)
    model_admin.report_count(request, messages.ERROR, failed, _FAILED_CALLS, problem=problem)
    for text in stopped.values():
        model_admin.message_user(request, text, messages.ERROR)
    if not stopped:
        left = total - len(done) - failed
        model_admin.report_count(request, messages.WARNING, left, _NO_TIME_FOR_SESSIONS)
    return done
