"""The six places where a browser meets a session.

`launch` is the address of an iframe, and `window` that of a flow that gets the whole window; `sync`
and `close` are what a page posts to, and `finish` is a page with such a form for browsers without
the script; `return` is where the browser comes back to from the whole window. Each finds a session
among those of the signed-in user only. A browser decides *when* the API is called, never what the
outcome of a session is.
"""

from __future__ import annotations

import functools
import logging
import re
import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import get_script_prefix
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.clickjacking import xframe_options_sameorigin
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_GET, require_POST

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.csp import csp_nonce
from django_examplary.embeds import is_signed_in, login_url, site_origin
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryActorIsOwnerError,
    ExamplaryAuthenticationError,
    ExamplaryConflictError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplarySessionEndedError,
    ExamplaryValidationError,
    InvalidLaunchToken,
)
from django_examplary.flows import get_flow
from django_examplary.launch import LaunchRequest, unsign_return
from django_examplary.models import ExamplarySession
from django_examplary.services.connections import non_atomic, session_rows
from django_examplary.services.sessions import launch_session

logger = logging.getLogger("django_examplary")

#: A browser that asks again sooner gets the last answer.
VERIFY_INTERVAL = timedelta(seconds=1)

# Browsers drop control characters from a URL, and take a backslash for a slash.
_LOCAL_PATH = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f\\]*")

View = Callable[..., HttpResponse]


def _endpoint(view: View) -> View:
    """What all of them share: they judge for themselves who is signed in, their answers are for one
    user and no cache, no transaction is open while they ask the API, and what is not set up right
    is told in a page of ours."""
    view = _explain_failures(view)
    view = cache_control(no_store=True, private=True)(view)
    view = xframe_options_sameorigin(view)
    view = non_atomic(view)
    return login_not_required(view)


def _explain_failures(view: View) -> View:
    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except (ExamplaryError, ImproperlyConfigured) as error:
            return _failure(request, error)

    return answer


@require_GET
@_endpoint
def launch(request: HttpRequest, token: str) -> HttpResponse:
    """Open the session that the token asks for, and redirect the iframe or the window to it."""
    try:
        wanted = _unsign(request, token, timedelta(seconds=conf.EXAMPLARY_LAUNCH_MAX_AGE))
    except InvalidLaunchToken:
        return _problem(request, "stale", status=400)
    if wanted is None:
        if _is_window(request) and not request.user.is_authenticated:
            return HttpResponseRedirect(login_url(request))
        return _problem(request, "signed-out", status=403)
    if "prefetch" in request.headers.get("Sec-Purpose", ""):
        # Nobody is looking yet, and may never.
        return _problem(request, "unavailable", status=503)
    if _is_window(request):
        # There is no page around it to report to.
        wanted = replace(wanted, mode="redirect")
    session = launch_session(request.user, wanted, origin=site_origin(request))
    response = HttpResponseRedirect(session.embed_url)
    # Django's default would strip the Referer that embeds may be allowed by.
    response["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return response


@require_POST
@csrf_protect
@_endpoint
def sync(request: HttpRequest, key: str) -> HttpResponse:
    """Verify the session, because the embed reported that it has ended."""
    return _answer_for(request, key, _verify)


@require_POST
@csrf_protect
@_endpoint
def close(request: HttpRequest, key: str) -> HttpResponse:
    """End the session, because the user pressed Done."""
    return _answer_for(request, key, services.close_session)


@require_GET
@_endpoint
def finish(request: HttpRequest, key: str) -> HttpResponse:
    """Show the form that ends a session where the script of the embed does not run."""
    if not is_signed_in(request):
        return HttpResponseRedirect(login_url(request))
    session = _find(request, key)
    completes = get_flow(session.flow, session.presets).completes
    # Relative, so that it does not depend on where the project includes the URLs.
    action = f"../../{'sync' if completes else 'close'}/{key}/"
    return _page(request, "finish", {"action": action})


@require_GET
@_endpoint
def return_(request: HttpRequest, reference: str) -> HttpResponse:
    """Ask what became of the session that the browser comes back from.

    What the query string says of it is whatever the browser says, and is not read.
    """
    if not request.user.is_authenticated:
        if "again" not in request.GET:
            # With SESSION_COOKIE_SAMESITE = "Strict" a browser that comes from another site brings
            # no session. It does when our own page sends it here.
            return _page(request, "again", {"url": f"{request.path}?again"})
        return HttpResponseRedirect(login_url(request))
    try:
        session_id = unsign_return(reference)
    except InvalidLaunchToken as error:
        raise Http404 from error
    session = session_rows().for_user(request.user).filter(pk=session_id).first()
    if session is None:
        raise Http404
    return _answer(request, session, _verify)


def _verify(session: ExamplarySession) -> ExamplarySession:
    # Whoever posts in a loop costs the workspace one call a second at most.
    return services.verify_session(session, max_age=VERIFY_INTERVAL)


def _unsign(request: HttpRequest, token: str, max_age: timedelta) -> LaunchRequest | None:
    """Read the token, or return None if it names another user than the one who is signed in."""
    wanted = LaunchRequest.unsign(token, max_age=int(max_age.total_seconds()))
    return wanted if wanted.user_id == str(request.user.pk) else None


def _answer_for(
    request: HttpRequest, key: str, service: Callable[[ExamplarySession], ExamplarySession]
) -> HttpResponse:
    if not is_signed_in(request):
        return _problem(request, "signed-out", status=403)
    return _answer(request, _find(request, key), service)


def _find(request: HttpRequest, key: str) -> ExamplarySession:
    """Return the newest session of the signed-in user that has this id or fingerprint."""
    try:
        known_by: dict[str, Any] = {"pk": uuid.UUID(key)}
    except ValueError:
        known_by = {"fingerprint": key}
    found = session_rows().for_user(request.user).filter(**known_by)
    session = found.select_related("actor").order_by("-created_at").first()
    if session is None:
        raise Http404
    return session


def _is_window(request: HttpRequest) -> bool:
    """Return whether the response gets the whole window: by its address, or as browsers report."""
    match = request.resolver_match
    return (match is not None and match.url_name == "window") or (
        request.headers.get("Sec-Fetch-Dest") == "document"
    )


def _answer(
    request: HttpRequest,
    session: ExamplarySession,
    service: Callable[[ExamplarySession], ExamplarySession],
) -> HttpResponse:
    """Run the service and tell the page's script, or the person, what became of the session."""
    try:
        session = service(session)
    except ExamplaryNotFoundError:
        return _problem(request, "ended", status=410)
    # A row may be older than the rule that refuses such an address.
    next_url = session.next_url if _LOCAL_PATH.fullmatch(session.next_url) else ""
    if _wants_json(request):
        return JsonResponse(
            {"status": session.status, "outputs": session.outputs, "redirect": next_url}
        )
    if next_url and not session.is_open:
        return HttpResponseRedirect(next_url)
    title, text = _explain_outcome(session)
    home = next_url or get_script_prefix()
    context = {"title": title, "text": text, "home": home}
    return _page(request, "outcome", context)


def _page(
    request: HttpRequest, name: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    context = {**context, "style_nonce": csp_nonce(request)}
    return render(request, f"django_examplary/{name}.html", context, status=status)


def _wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def _failure(request: HttpRequest, error: Exception) -> HttpResponse:
    """Log the error, and tell the person what it means and how to name it to the site's staff."""
    reference = uuid.uuid4().hex[:8]
    logger.error(
        "reference=%s error=%s: %s",
        reference,
        type(error).__name__,
        error,
        # Where the project's own code failed, its people want to know where.
        exc_info=error.__cause__,
    )
    detail = str(error) if settings.DEBUG else ""
    if isinstance(error, ExamplaryAccessError):
        detail = _missing(error)
    reason, status = next(
        (reason, status) for kinds, reason, status in _REASONS if isinstance(error, kinds)
    )
    return _problem(request, reason, status=status, reference=reference, detail=detail)


# For each kind of error what the user is told, of several that fit the first; the templates and the
# script know the reasons.
_REASONS: tuple[tuple[tuple[type[Exception], ...], str, int], ...] = (
    (
        (
            ExamplaryActorIsOwnerError,
            ExamplaryAuthenticationError,
            ExamplaryEmbedURLError,
            ExamplaryPermissionError,
            ImproperlyConfigured,
        ),
        "misconfigured",
        500,
    ),
    ((ExamplaryAccessError,), "no-access", 403),
    (
        (
            ExamplaryConflictError,
            ExamplaryInvalidRequestError,
            ExamplaryNotFoundError,
            ExamplaryNotProvisionedError,
            ExamplaryValidationError,
        ),
        "refused",
        403,
    ),
    ((ExamplaryNotReadyError,), "preparing", 503),
    ((ExamplaryRateLimitError,), "busy", 503),
    ((ExamplarySessionEndedError,), "ended", 410),
    # Whatever else it is, it may pass.
    ((ExamplaryError,), "unavailable", 503),
)


def _missing(error: ExamplaryAccessError) -> str:
    return _("Missing permission: %(role)s of %(resource)s") % {
        "role": error.role,
        "resource": error.resource,
    }


def _problem(
    request: HttpRequest, reason: str, *, status: int, reference: str = "", detail: str = ""
) -> HttpResponse:
    title, text = _explain(reason)
    if reason in _OF_THE_PAGE and _is_window(request):
        # There is no page around it to reload.
        text = _("Go back to where you came from, reload that page, and start again.")
    if _wants_json(request):
        facts = {"title": title, "text": text, "detail": detail, "reference": reference}
        return JsonResponse({"reason": reason, **facts}, status=status)
    context: dict[str, Any] = {
        "reason": reason,
        "title": title,
        "text": text,
        "detail": detail,
        "reference": reference,
        "can_retry": reason in ("unavailable", "preparing", "busy"),
        "home": get_script_prefix(),
    }
    return _page(request, "problem", context, status=status)


# What another launch does not mend, but another copy of the page does.
_OF_THE_PAGE = ("stale", "signed-out", "ended")


def _explain(reason: str) -> tuple[str, str]:
    return {
        "stale": (
            _("This page has been open for too long"),
            _("Reload the page to go on."),
        ),
        "signed-out": (
            _("You are not signed in"),
            _("Sign in with the account that this page was opened with, then reload the page."),
        ),
        "misconfigured": (
            _("This is not set up yet"),
            _("The people who run this site have to complete its connection to Examplary."),
        ),
        "refused": (
            _("This is not possible with your account"),
            _("The people who run this site can tell you why, and help."),
        ),
        "no-access": (
            _("You have no access to this yet"),
            _("The people who run this site can give it to you."),
        ),
        "preparing": (
            _("This is still being prepared"),
            _("Try again in a moment."),
        ),
        "busy": (
            _("Too many people are doing this right now"),
            _("Try again in a minute."),
        ),
        "ended": (
            _("This session is over"),
            _("Reload the page to start again."),
        ),
        "unavailable": (
            _("Examplary cannot be reached right now"),
            _("Nothing is lost. Try again in a moment."),
        ),
    }[reason]


def _explain_outcome(session: ExamplarySession) -> tuple[str, str]:
    status = ExamplarySession.Status
    if session.status == status.COMPLETED:
        return _("Finished"), _("The result is saved.")
    if session.status == status.CANCELLED:
        return _("Cancelled"), _("Nothing was saved.")
    if session.status == status.CLOSED:
        return _("Done"), _("This is closed now.")
    if session.is_open:
        return _("Not finished yet"), _("Go back, finish your work, and try again.")
    return _("This session is over"), _("Go back and start again.")
