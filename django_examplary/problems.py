"""Explain failures to users, as pages or JSON, and suggest a next step."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import get_script_prefix
from django.utils.translation import gettext as _

from django_examplary.csp import csp_nonce
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryActorIsOwnerError,
    ExamplaryAuthenticationError,
    ExamplaryBusyError,
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
)

logger = logging.getLogger("django_examplary")

#: Reasons that a reload of the page resolves, but not another launch of the same page.
RESOLVED_BY_RELOAD = ("stale", "signed-out", "other-account", "ended")
#: Temporary reasons.
TEMPORARY = ("unavailable", "preparing", "busy")

# The reason and the status code of each kind of error. The first match applies. The templates and
# the script of the embed use these reasons.
REASONS: tuple[tuple[tuple[type[Exception], ...], str, int], ...] = (
    (
        (
            ExamplaryActorIsOwnerError,
            ExamplaryAuthenticationError,
            ExamplaryEmbedURLError,
            ExamplaryPermissionError,
            ImproperlyConfigured,
            # A middleware of the project has a transaction open.
            TransactionManagementError,
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
    # Not 5xx, which Django mails to the administrators.
    ((ExamplaryNotReadyError,), "preparing", 409),
    ((ExamplaryBusyError, ExamplaryRateLimitError), "busy", 429),
    ((ExamplarySessionEndedError,), "ended", 410),
    # Any other ExamplaryError may be temporary.
    ((ExamplaryError, Error), "unavailable", 503),
    # An error in the project's own code.
    ((Exception,), "misconfigured", 500),
)

# Error trackers group log lines by their template, so each reason has one.
_LOG_TEMPLATES = {
    reason: f"operation=%s outcome={reason} reference=%s error=%s: %s" for _, reason, _ in REASONS
}


def page(
    request: HttpRequest, name: str, context: dict[str, Any], status: int = 200
) -> HttpResponse:
    """Render one of this app's pages."""
    template = f"django_examplary/{name}.html"
    context = {**context, "request": request, "style_nonce": csp_nonce(request)}
    try:
        return render(request, template, context, status=status)
    except Exception as error:
        if name != "problem":
            raise
        # For example a context processor of the project, which may need the failed database.
        logger.error(
            "operation=render-problem error=%s",
            type(error).__name__,
            exc_info=None if isinstance(error, Error) else error,
        )
        return render(None, template, context, status=status)


def wants_json(request: HttpRequest) -> bool:
    return request.get_preferred_type(["text/html", "application/json"]) == "application/json"


def is_window(request: HttpRequest) -> bool:
    """Return whether the response is for the whole window, by its URL or its headers."""
    match = request.resolver_match
    return (match is not None and match.url_name == "window") or (
        request.META.get("HTTP_SEC_FETCH_DEST") == "document"
    )


def failure(request: HttpRequest, error: Exception) -> HttpResponse:
    """Log the error, and return its explanation with a reference for the administrators."""
    reason, status = next(
        (reason, status) for kinds, reason, status in REASONS if isinstance(error, kinds)
    )
    is_foreign = not isinstance(
        error, (ExamplaryError, ImproperlyConfigured, TransactionManagementError)
    )
    # Messages of databases may quote the row with the secrets of the session. Messages of the
    # code of the project may contain personal data.
    text = type(error).__name__ if is_foreign else str(error)
    # For errors in the code of the project, log the traceback.
    cause = error if is_foreign else error.__cause__
    reference = uuid.uuid4().hex[:8]
    logger.log(
        logging.WARNING if reason in (*TEMPORARY, "ended") else logging.ERROR,
        _LOG_TEMPLATES[reason],
        getattr(request.resolver_match, "url_name", ""),
        reference,
        type(error).__name__,
        text,
        exc_info=None if isinstance(error, Error) else cause,
    )
    detail = text if settings.DEBUG else ""
    if isinstance(error, ExamplaryAccessError):
        detail = _("Missing permission: %(role)s of %(resource)s") % {
            "role": error.role,
            "resource": error.resource,
        }
    return problem(request, reason, status=status, reference=reference, detail=detail)


def problem(
    request: HttpRequest, reason: str, *, status: int, reference: str = "", detail: str = ""
) -> HttpResponse:
    """Return the response to a user for a reason, as a page or as JSON."""
    title, text = explain(reason)
    if reason in RESOLVED_BY_RELOAD and is_window(request):
        # There is no surrounding page to reload.
        text = _("Go back to where you came from, reload that page, and start again.")
    facts = {"title": title, "text": text, "detail": detail, "reference": reference}
    if wants_json(request):
        return JsonResponse({"reason": reason, **facts}, status=status)
    context = {
        **facts,
        "reason": reason,
        "can_retry": reason in TEMPORARY,
        "home": get_script_prefix(),
    }
    return page(request, "problem", context, status=status)


def explain(reason: str) -> tuple[str, str]:
    return {
        "stale": (
            _("This page has been open for too long"),
            _("Reload the page to continue."),
        ),
        "signed-out": (
            _("You are not signed in"),
            _("Sign in with the account that this page was opened with, then reload the page."),
        ),
        "other-account": (
            _("This page was opened with another account"),
            _("Reload the page to continue with your own account."),
        ),
        "misconfigured": (
            _("This is not set up yet"),
            _("The site's administrators have to complete its connection to Examplary."),
        ),
        "refused": (
            _("This is not possible with your account"),
            _("The site's administrators can explain why, and help."),
        ),
        "no-access": (
            _("You have no access to this yet"),
            _("The site's administrators can give you access."),
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
