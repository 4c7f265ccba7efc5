"""The views of sessions.

* `launch` opens a flow in an iframe, and `window` opens it in the whole window.
* `sync` and `close` receive the posts of a page. `finish` is a form for browsers without the
  script.
* `return` receives browsers that return from the whole window.
* `report` replaces `sync` and `close` for pages without a session cookie.

Each view only finds sessions of one user: the signed-in user, or the user of a signed token. The
browser decides when the API is called. Only the API decides the outcome of a session.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import ImproperlyConfigured, PermissionDenied, ValidationError
from django.core.signals import got_request_exception
from django.db import Error
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import get_script_prefix
from django.utils import translation
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.embeds import is_signed_in, login_url
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryError,
    InvalidLaunchToken,
)
from django_examplary.flows import get_flow
from django_examplary.launch import Launch, credentials_of, unsign_report, unsign_return
from django_examplary.models import ExamplarySession
from django_examplary.origins import is_local_path
from django_examplary.problems import failure, is_window, page, problem, wants_json
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import non_atomic, release_connections, session_rows
from django_examplary.services.limits import embed_that_waits, embed_with_connection
from django_examplary.services.profiles import is_active
from django_examplary.services.sessions import create_session, find_session
from django_examplary.services.tickets import use_ticket

logger = logging.getLogger("django_examplary")

#: Browsers that post again within this time get the last outcome.
VERIFY_INTERVAL = timedelta(seconds=1)

# The headers of a prefetch: the standard one, and those of older browsers.
_PURPOSES = ("HTTP_SEC_PURPOSE", "HTTP_PURPOSE", "HTTP_X_MOZ")

View = Callable[..., HttpResponse]


def _endpoint(view: View) -> View:
    """Set up a view that checks authentication itself.

    Its responses are not cached, and no transaction is open while it waits for the API.
    """

    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        # The view may activate the language of the page, also for its error responses.
        with translation.override(translation.get_language()):
            try:
                return view(request, *args, **kwargs)
            except Http404:
                # The response of Django could be cached and shown to the next user.
                return problem(request, "stale", status=404)
            except (ExamplaryError, ImproperlyConfigured, Error) as error:
                return failure(request, error)
            except Exception as error:
                if request.method != "GET":
                    raise
                # X-Frame-Options would block the response of Django in the frame. Like Django, send
                # the signal that reports the error to trackers and to the test client.
                got_request_exception.send(sender=None, request=request)
                return failure(request, error)

    cached = cache_control(no_store=True, private=True)(answer)
    return login_not_required(non_atomic(cached))


# Exempt, because a page of this site frames it, and an LMS may frame that page. Clicks in a foreign
# frame have no effect.
@xframe_options_exempt
@_endpoint
@require_GET
def launch(request: HttpRequest, token: str) -> HttpResponse:
    """Open the session of the token, and redirect the iframe or the window to it."""
    try:
        wanted = Launch.unsign(token, max_age=conf.EXAMPLARY_LAUNCH_MAX_AGE)
    except InvalidLaunchToken:
        return problem(request, "stale", status=400)
    if wanted.language:
        translation.activate(wanted.language)
    if is_window(request):
        # There is no surrounding page to report to.
        wanted = replace(wanted, mode="window")
    with embed_with_connection():
        if wanted.ticket:
            _act_as(request, wanted.user_id, wanted.credentials)
        refusal = _refuse(request, wanted)
        session = None if refusal else find_session(request.user, wanted)
    if refusal:
        return refusal
    if session is None:
        with embed_that_waits():
            session = create_session(request.user, wanted, _client_for(workspace_of(request.user)))
        if _has_signed_out(request):
            # Like the sign-out.
            if conf.EXAMPLARY_REVOKE_ON_LOGOUT:
                services.revoke_session(session, client=_client_for(session.workspace))
            return problem(request, "signed-out", status=403)
    use_ticket(request.user, wanted, session)
    response = _EmbedRedirect(session.embed_url.value)
    # The default of Django would remove the Referer, which embeds may check.
    response["Referrer-Policy"] = "strict-origin-when-cross-origin"
    return response


def _act_as(request: HttpRequest, user_id: Any, credentials: str | None) -> None:
    """Authenticate the request of a visitor as the user of a signed token.

    `credentials` are those of the token, which a new password invalidates. If they are None or
    empty, the token does not depend on the password.
    """
    if is_signed_in(request):
        return
    try:
        user = get_user_model()._default_manager.filter(pk=user_id).first()
    except (ValidationError, ValueError):
        return  # Authentication that reads no row may name a user by any value.
    if user is None or not is_active(user):
        return
    if not credentials or credentials in credentials_of(user):
        request.user = user


def _refuse(request: HttpRequest, wanted: Launch) -> HttpResponse | None:
    """Return the response to a visitor who may not launch this, or None."""
    if not is_signed_in(request):
        if is_window(request):
            return HttpResponseRedirect(login_url(request))
        return problem(request, "signed-out", status=403)
    if wanted.user_id != str(request.user.pk):
        return problem(request, "other-account", status=403)
    if any("prefetch" in request.META.get(name, "").lower() for name in _PURPOSES):
        # A prefetch. Not 5xx, which Django mails to the administrators.
        return problem(request, "unavailable", status=403)
    _compare_origins(request, wanted)
    if not _is_authorized(request, wanted):
        return problem(request, "no-access", status=403)
    return None


class _EmbedRedirect(HttpResponseRedirect):
    """A redirect whose repr, which error reports show, does not contain the embed URL."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} status_code={self.status_code}>"


def _is_authorized(request: HttpRequest, wanted: Launch) -> bool:
    """Return whether the project allows the launch now, after the page was rendered."""
    authorize = conf.EXAMPLARY_AUTHORIZE
    if authorize is None:
        return True
    if wanted.flow is None and (session := find_session(request.user, wanted)) is not None:
        flow = get_flow(session.flow, session.presets)
        wanted = replace(wanted, flow=flow, metadata=session.metadata)
    try:
        allowed = authorize(request, wanted)
    except PermissionDenied:
        return False
    if not isinstance(allowed, bool):
        # The coroutine of an async function and a response that refuses are truthy.
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_AUTHORIZE returned a {type(allowed).__name__}, not a boolean."
        )
    return allowed


def _has_signed_out(request: HttpRequest) -> bool:
    """Return whether the visitor signed out while this request waited for the API."""
    before = getattr(request, "session", None)
    if before is None or SESSION_KEY not in before:
        return False  # Authenticated in another way, for this request only.
    if before.session_key != request.COOKIES.get(settings.SESSION_COOKIE_NAME):
        return False  # This request has signed in the user, and stores that at its end.
    now = before.__class__(session_key=before.session_key)
    return bool(now.get(SESSION_KEY) != before[SESSION_KEY])


def _compare_origins(request: HttpRequest, wanted: Launch) -> None:
    """Log pages whose origin differs from the origin that their embed reports to."""
    # Not parsed, because a visitor can send any string. Browsers use one notation for origins.
    page_origin = "/".join(request.META.get("HTTP_REFERER", "").split("/")[:3])
    if wanted.mode == "frame" and wanted.origin and page_origin not in ("", wanted.origin):
        logger.warning(
            "operation=launch outcome=other-origin page=%r expected=%s: browsers withhold the "
            "messages of the embed. Set EXAMPLARY_SITE_ORIGIN to the origin that browsers show.",
            page_origin,
            wanted.origin,
        )


@_endpoint
@require_POST
@csrf_protect
def end(request: HttpRequest, key: str, action: str) -> HttpResponse:
    """Verify the session after a report of its end, or close it after Done."""
    return _end(request, key, action)


# Exempt, because only the token in the request is used, which other sites do not have.
@csrf_exempt
@_endpoint
@require_POST
def report(request: HttpRequest, action: str) -> HttpResponse:
    """Verify or end the session of a page without a session cookie, by its signed token."""
    try:
        user_id, key, credentials = unsign_report(
            request.POST.get("token", ""), max_age=conf.EXAMPLARY_LAUNCH_MAX_AGE
        )
    except InvalidLaunchToken:
        return problem(request, "stale", status=400)
    with embed_with_connection():
        _act_as(request, user_id, credentials)
        if is_signed_in(request) and str(request.user.pk) != user_id:
            return problem(request, "other-account", status=403)
    return _end(request, key, action)


@_endpoint
@require_GET
def finish(request: HttpRequest, key: str) -> HttpResponse:
    """Show the form that ends a session without the script of the embed."""
    if not is_signed_in(request):
        return HttpResponseRedirect(login_url(request))
    session = _find_session(request, key)
    completes = get_flow(session.flow, session.presets).completes
    # Relative, so that it is independent of where the project includes the URLs.
    action = f"../../{'sync' if completes else 'close'}/{key}/"
    return page(request, "finish", {"action": action})


@_endpoint
@require_GET
def return_(request: HttpRequest, reference: str) -> HttpResponse:
    """Verify the session from which the browser returns. The query string is ignored."""
    with embed_with_connection():
        if not is_signed_in(request) and "again" not in request.GET:
            # With SESSION_COOKIE_SAMESITE = "Strict" a browser from another site sends no session
            # cookie. It sends the cookie if a page of this site links here.
            return page(request, "again", {"url": f"{request.path}?again"})
        try:
            session_id = unsign_return(reference)
        except InvalidLaunchToken as error:
            raise Http404 from error
        if not is_signed_in(request) and not wants_json(request):
            # The flow was opened by a one-time link. The page only shows the outcome.
            opened = session_rows().exclude(ticket=0).filter(pk=session_id, actor__isnull=False)
            owner = opened.values_list("actor__user", flat=True).first()
            if owner is not None:
                _act_as(request, owner, None)
        if not is_signed_in(request):
            return HttpResponseRedirect(login_url(request))
        session = _find_session(request, session_id)
    return _answer(request, session, services.verify_session)


def _end(request: HttpRequest, key: str, action: str) -> HttpResponse:
    # The language of the posting page, which is not in the URL.
    language = request.POST.get("language", "")
    if translation.check_for_language(language):
        translation.activate(language)
    with embed_with_connection():
        if not is_signed_in(request):
            return problem(request, "signed-out", status=403)
        session = _find_session(request, key)
    service = services.verify_session if action == "sync" else services.close_session
    return _answer(request, session, service)


def _find_session(request: HttpRequest, key: str) -> ExamplarySession:
    """Return the newest session of the signed-in user that has this id or fingerprint."""
    found = session_rows().for_user(request.user).for_key(key)
    session = found.select_related("actor").order_by("-created_at").first()
    if session is None:
        raise Http404
    return session


def _client_for(workspace: str) -> ExamplaryClient:
    """Return a client that releases the database connection while it waits."""
    return get_client(workspace).within(conf.EXAMPLARY_DEADLINE, before_call=release_connections)


def _answer(
    request: HttpRequest, session: ExamplarySession, service: Callable[..., ExamplarySession]
) -> HttpResponse:
    """Run the service, and return the status to the script or the user."""
    if session.is_open:
        # A browser that posts in a loop causes at most one call a second.
        client = _client_for(session.workspace)
        with embed_that_waits():
            session = service(session, max_age=VERIFY_INTERVAL, client=client)
    # The row may be older than the check of this URL.
    next_url = session.next_url if is_local_path(session.next_url) else ""
    if wants_json(request):
        return JsonResponse(
            {"status": session.status, "outputs": session.outputs, "redirect": next_url}
        )
    if next_url and not session.is_open:
        return HttpResponseRedirect(next_url)
    title, text = _explain_outcome(session)
    home = next_url or get_script_prefix()
    return page(request, "outcome", {"title": title, "text": text, "home": home})


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
