"""The sources that a Content-Security-Policy must allow, and the nonce of a response."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest
from django.templatetags.static import static

from django_examplary.conf import conf


def csp_nonce(request: HttpRequest | None) -> str:
    """Return the nonce of this response's Content-Security-Policy, empty if it has none.

    Reads the nonce of Django's middleware (6.0 and later) and of django-csp.
    """
    for name in ("_csp_nonce", "csp_nonce"):
        # Both are lazy objects that are falsy until they are converted to a string.
        if (nonce := getattr(request, name, None)) is not None:
            return str(nonce)
    return ""


def list_embed_origins() -> list[str]:
    """Return the origins of the embeds of every workspace that the settings list.

    With a callable as EXAMPLARY_WORKSPACES these are EXAMPLARY_EMBED_ORIGINS.
    """
    found = (workspace.embed_origins for workspace in conf.usable_workspaces())
    return list(dict.fromkeys(origin for origins in found for origin in origins))


def csp_directives() -> dict[str, list[str]]:
    """Return the sources that a Content-Security-Policy must allow for the embeds, by directive.

    The iframe starts at this site, is redirected to an embed of one of the workspaces, and shows a
    page of this site when that fails. The script posts to this site to get the result.
    """
    try:
        address = static("django_examplary/embed.js")
    except ValueError:
        # A storage with hashed file names has no names before `collectstatic`.
        address = settings.STATIC_URL
    static_url = urlsplit(address)
    assets = f"{static_url.scheme}://{static_url.netloc}" if static_url.netloc else "'self'"
    return {
        "script-src": [assets],
        "style-src": [assets],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-src": ["'self'", *list_embed_origins()],
        "frame-ancestors": ["'self'"],
    }
