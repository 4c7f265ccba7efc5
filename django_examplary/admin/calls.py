"""Actions that call the API within the limits of a request, and report the result as messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from django_examplary import services
from django_examplary.admin.advice import advise
from django_examplary.admin.base import ExamplaryAdminMixin, Limits
from django_examplary.admin.history import NO_ACTOR, actor_facts, describe, log, session_facts
from django_examplary.admin.progress import BROKEN, Progress
from django_examplary.exceptions import ExamplaryError
from django_examplary.models import ExamplaryActor, ExamplarySession

if TYPE_CHECKING:
    from django_examplary.data import ActorRole

State = ExamplaryActor.State


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The users that one request provisioned, or tried to."""

    users: QuerySet[Any]
    #: Whether users are left because the time or the limit of rows was used up.
    unfinished: bool
    #: Why provisioning stopped early, if it did for another reason.
    stopped: str
    #: Users that another process provisions at the moment.
    skipped: int
    #: Seconds that the API wants to be left alone.
    pause: float


def provision_batch(
    request: HttpRequest,
    users: QuerySet[Any],
    seconds: float,
    *,
    role: ActorRole | None,
    limits: Limits,
) -> Batch:
    """Provision some of the users for some seconds, and log what became of their actors."""
    started = timezone.now()
    keys = list(users.order_by("pk").values_list("pk", flat=True)[: limits.rows])
    chosen = get_user_model()._default_manager.filter(pk__in=keys)
    actors = ExamplaryActor.objects.filter(user__in=keys)
    before = {actor.pk: actor_facts(actor) for actor in actors}
    result = _provision(chosen, seconds, role=role, limits=limits)
    tried = actors.filter(state__in=[State.ACTIVE, *BROKEN], updated_at__gte=started)
    log(
        request,
        (
            (actor, describe(_done(actor), before.get(actor.pk, NO_ACTOR), actor_facts(actor)))
            for actor in tried.select_related("user")
        ),
    )
    # A refused key matters more than the time that is over.
    interrupted = result.interrupted and not result.stopped
    return Batch(
        users=chosen,
        unfinished=interrupted or (not result.stopped and len(keys) == limits.rows),
        stopped="" if interrupted else result.stopped,
        skipped=result.skipped,
        pause=result.pause,
    )


def _done(actor: ExamplaryActor) -> str:
    if actor.is_active:
        return gettext("Provisioned")
    return gettext("Provisioning failed")


def _provision(
    users: QuerySet[Any], seconds: float, *, role: ActorRole | None, limits: Limits
) -> services.Provisioning:
    until = time.monotonic() + seconds
    try:
        return services.provision_actors(
            users,
            role=role,
            concurrency=limits.concurrency,
            rate=0,
            # An outage must not make more users uncertain than there are calls at a time.
            max_failures=limits.concurrency,
            should_stop=lambda: time.monotonic() > until,
            deadline=limits.deadline,
        )
    except ImproperlyConfigured as error:
        return services.Provisioning(stopped=str(error))


def provision_and_report(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    users: QuerySet[Any],
    role: ActorRole | None = None,
) -> None:
    """Provision users for as long as a request may take, and show messages about the result."""
    limits = model_admin.examplary_limits
    started = timezone.now()
    waiting = services.unprovisioned(users)
    # Counted before, because the list may be filtered by a column that the action changes.
    active = users.filter(examplary_actor__state=State.ACTIVE).count()
    left = waiting.count()
    inactive = users.count() - active - left
    batch = provision_batch(request, waiting, limits.duration, role=role, limits=limits)
    run = Progress(batch.users, started)
    active += run.provisioned
    left -= run.done
    if active:
        text = ngettext(
            "%(count)d user has an active Examplary actor.",
            "%(count)d users have active Examplary actors.",
            active,
        )
        model_admin.message_user(request, text % {"count": active}, messages.SUCCESS)
    for actor in run.failures[: limits.messages]:
        text = gettext("Provisioning failed for %(user)s. %(advice)s")
        failure = {"user": actor, "advice": advise(actor).text}
        model_admin.message_user(request, text % failure, messages.ERROR)
    if run.failed > limits.messages:
        text = gettext("Provisioning failed for %(count)d users in all: see the list of actors.")
        model_admin.message_user(request, text % {"count": run.failed}, messages.ERROR)
    if inactive:
        text = ngettext(
            "%(count)d inactive user is not given an Examplary actor.",
            "%(count)d inactive users are not given Examplary actors.",
            inactive,
        )
        model_admin.message_user(request, text % {"count": inactive}, messages.WARNING)
    if batch.stopped:
        model_admin.message_user(request, batch.stopped, messages.ERROR)
    elif left:
        text = ngettext(
            "%(count)d user is still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            "%(count)d users are still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)


def check_and_report(
    model_admin: ExamplaryAdminMixin, request: HttpRequest, sessions: QuerySet[ExamplarySession]
) -> None:
    """Verify open sessions, and show messages about the result."""
    checked = _call_for_each(
        model_admin, request, sessions, services.verify_session, gettext("Checked")
    )
    ended = sum(not session.is_open for session in checked)
    if checked:
        text = ngettext(
            "%(count)d open session checked, %(ended)d has ended.",
            "%(count)d open sessions checked, %(ended)d have ended.",
            len(checked),
        )
        counts = {"count": len(checked), "ended": ended}
        model_admin.message_user(request, text % counts, messages.SUCCESS)


def revoke_and_report(
    model_admin: ExamplaryAdminMixin, request: HttpRequest, sessions: QuerySet[ExamplarySession]
) -> None:
    """Revoke open sessions, and show messages about the result."""
    ended = _call_for_each(
        model_admin, request, sessions, services.revoke_session, gettext("Revoked")
    )
    revoked = [each for each in ended if each.status == ExamplarySession.Status.REVOKED]
    if revoked:
        text = ngettext("%(count)d session revoked.", "%(count)d sessions revoked.", len(revoked))
        model_admin.message_user(request, text % {"count": len(revoked)}, messages.SUCCESS)
    if late := len(ended) - len(revoked):
        text = ngettext(
            "%(count)d session had ended before.",
            "%(count)d sessions had ended before.",
            late,
        )
        model_admin.message_user(request, text % {"count": late}, messages.WARNING)
    if pending := sum(session.revoke_pending for session in ended):
        text = ngettext(
            "Examplary did not confirm %(count)d revocation: the next sweep tries again.",
            "Examplary did not confirm %(count)d revocations: the next sweep tries again.",
            pending,
        )
        model_admin.message_user(request, text % {"count": pending}, messages.WARNING)


def _call_for_each(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
    service: Callable[..., ExamplarySession],
    action: str,
) -> list[ExamplarySession]:
    """Call the service for as many open sessions as there is time for, and return those."""
    limits = model_admin.examplary_limits
    until = time.monotonic() + limits.duration
    total = sessions.count()
    if not total:
        text = gettext("None of these sessions is open.")
        model_admin.message_user(request, text, messages.WARNING)
    done, failed, entries, problem, stopped = [], 0, [], "", ""
    for session in sessions.select_related("actor__user")[: limits.rows]:
        if time.monotonic() > until:
            break
        before = session_facts(session)
        try:
            after = service(session, client=limits.client(session.workspace))
        except ExamplaryError as error:
            failed += 1
            problem = str(error)
            text = gettext("%(action)s without success")
            entries.append((session, describe(text % {"action": action}, before, before)))
        except ImproperlyConfigured as error:
            stopped = str(error)
            break
        else:
            done.append(after)
            entries.append((after, describe(action, before, session_facts(after))))
    log(request, entries)
    if failed:
        text = ngettext(
            "The call for %(count)d session failed: %(problem)s",
            "The calls for %(count)d sessions failed, the last with: %(problem)s",
            failed,
        )
        counts = {"count": failed, "problem": problem}
        model_admin.message_user(request, text % counts, messages.ERROR)
    left = total - len(done) - failed
    if stopped:
        model_admin.message_user(request, stopped, messages.ERROR)
    elif left:
        text = ngettext(
            "There was no time for %(count)d session: choose the action again.",
            "There was no time for %(count)d sessions: choose the action again.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)
    return done
