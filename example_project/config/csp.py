"""A strict Content-Security-Policy that allows Examplary's embeds.

In Django 6.0 and later, set SECURE_CSP to the same policy instead.
See docs/howto/csp.md.
"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from django_examplary.csp import csp_directives

# Allow the site's own sources, and those that the embeds need.
POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "base-uri": ["'none'"],
}


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if settings.DEBUG and response.status_code in (404, 500):
            # The debug pages of Django use inline styles and scripts.
            return response
        needed = csp_directives()
        policy = {
            # Merge both lists without duplicates.
            directive: dict.fromkeys([*POLICY.get(directive, []), *needed.get(directive, [])])
            for directive in POLICY | needed
        }
        response["Content-Security-Policy"] = "; ".join(
            " ".join([directive, *sources]) for directive, sources in policy.items()
        )
        return response

    return middleware
