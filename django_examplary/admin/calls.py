"""Actions that call the API within the limits of a request, and report the result as messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from django_examplary import services
from django_examplary.admin.base import ExamplaryAdminMixin, Limits
from django_examplary.admin.progress import Progress
from django_examplary.exceptions import ExamplaryError
from django_examplary.models import ExamplaryActor, ExamplarySession

if TYPE_CHECKING:
    from django_examplary.data import ActorRole


def provision(
    users: QuerySet[Any], seconds: float, *, role: ActorRole | None, limits: Limits
) -> services.Provisioning:
    """Provision users for some seconds. A wrong configuration is returned as `stopped`."""
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
            client=limits.client(),
        )
    except ImproperlyConfigured as error:
        return services.Provisioning(stopped=str(error))


def provision_and_report(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    users: QuerySet[Any],
    role: ActorRole | None = None,
) -> None:
    limits = model_admin.examplary_limits
    started = timezone.now()
    waiting = services.unprovisioned(users)
    # All counted beforehand: the list may be filtered by what the action changes.
    active = users.filter(examplary_actor__state=ExamplaryActor.State.ACTIVE).count()
    left = waiting.count()
    inactive = users.count() - active - left
    keys = list(waiting.order_by("pk").values_list("pk", flat=True)[: limits.rows])
    chosen = get_user_model()._default_manager.filter(pk__in=keys)
    result = provision(chosen, limits.duration, role=role, limits=limits)
    run = Progress(chosen, started)
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
        text = gettext("It failed for %(user)s: %(reason)s")
        failure = {"user": actor, "reason": actor.last_error}
        model_admin.message_user(request, text % failure, messages.ERROR)
    if run.failed > limits.messages:
        text = gettext("It failed for %(count)d users in all: see the list of actors.")
        model_admin.message_user(request, text % {"count": run.failed}, messages.ERROR)
    if inactive:
        text = ngettext(
            "%(count)d inactive user is not given an Examplary actor.",
            "%(count)d inactive users are not given Examplary actors.",
            inactive,
        )
        model_admin.message_user(request, text % {"count": inactive}, messages.WARNING)
    if result.stopped:
        model_admin.message_user(request, result.stopped, messages.ERROR)
    elif left:
        text = ngettext(
            "%(count)d user is still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            "%(count)d users are still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)


def revoke_and_report(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
) -> None:
    ended = call_for_each(model_admin, request, sessions, services.revoke_session)
    revoked = [each for each in ended if each.status == ExamplarySession.Status.REVOKED]
    if revoked:
        text = ngettext("%(count)d session revoked.", "%(count)d sessions revoked.", len(revoked))
        model_admin.message_user(request, text % {"count": len(revoked)}, messages.SUCCESS)
    if late := len(ended) - len(revoked):
        text = ngettext(
            "%(count)d session had come to its end before.",
            "%(count)d sessions had come to their end before.",
            late,
        )
        model_admin.message_user(request, text % {"count": late}, messages.WARNING)
    untold = sum(session.revoke_pending for session in ended)
    if untold:
        text = ngettext(
            "Examplary could not be told about %(count)d of them: the next sweep does.",
            "Examplary could not be told about %(count)d of them: the next sweep does.",
            untold,
        )
        model_admin.message_user(request, text % {"count": untold}, messages.WARNING)


def call_for_each(
    model_admin: ExamplaryAdminMixin,
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
    service: Callable[..., ExamplarySession],
) -> list[ExamplarySession]:
    """Call the service for as many open sessions as there is time for, and return those."""
    limits = model_admin.examplary_limits
    until = time.monotonic() + limits.duration
    total = sessions.count()
    if not total:
        text = gettext("None of these sessions is open.")
        model_admin.message_user(request, text, messages.WARNING)
    done, failed = [], 0
    for session in sessions.select_related("actor__user")[: limits.rows]:
        if time.monotonic() > until:
            break
        try:
            done.append(service(session, client=limits.client()))
        except ExamplaryError as error:
            failed += 1
            problem = str(error)
        except ImproperlyConfigured as error:
            model_admin.message_user(request, str(error), messages.ERROR)
            return done
    if failed:
        text = ngettext(
            "%(count)d session could not be asked about: %(problem)s",
            "%(count)d sessions could not be asked about, the last because: %(problem)s",
            failed,
        )
        model_admin.message_user(
            request, text % {"count": failed, "problem": problem}, messages.ERROR
        )
    left = total - len(done) - failed
    if left:
        text = ngettext(
            "There was no time for %(count)d session: choose the action again.",
            "There was no time for %(count)d sessions: choose the action again.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)
    return done
