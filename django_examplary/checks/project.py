"""Checks of the rest of the project: apps, middleware and cookies."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.utils.module_loading import import_string

from django_examplary.checks.settings import unusable_settings
from django_examplary.csp import list_embed_origins


def check_project(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check INSTALLED_APPS, MIDDLEWARE and the cookie settings."""
    return [*_static_files(), *_middleware(), *_cookies()]


def _static_files() -> Iterator[checks.CheckMessage]:
    if not apps.is_installed("django.contrib.staticfiles"):
        yield checks.Warning(
            "django.contrib.staticfiles is not installed, so nothing serves the script and the "
            "stylesheet of the embeds.",
            hint="Add 'django.contrib.staticfiles' to INSTALLED_APPS. If your site serves the "
            "package's static/ folder at STATIC_URL in another way, silence this warning.",
            id="django_examplary.W009",
        )


def _middleware() -> Iterator[checks.CheckMessage]:
    for path in (
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ):
        base = import_string(path)
        if not any(issubclass(middleware, base) for _, middleware in _middleware_classes()):
            yield checks.Warning(
                f"MIDDLEWARE has no {path.rpartition('.')[2]}, and no subclass of it.",
                hint=f"Add {path!r} to MIDDLEWARE. If another middleware of yours does the same, "
                "silence this warning.",
                id="django_examplary.W020",
            )

    for path, middleware in _middleware_classes():
        # The attribute of django-reversion. Other transactions cannot be detected before a request.
        if getattr(middleware, "atomic", False) is True:
            yield checks.Warning(
                f"{path} runs requests in a transaction, and this app calls no API in one, so "
                "results of embeds are not fetched.",
                hint="Use a subclass with `atomic = False`. If yours leaves out the URLs of "
                "django_examplary, silence this warning.",
                id="django_examplary.W028",
            )


def _middleware_classes() -> Iterator[tuple[str, type]]:
    for path in settings.MIDDLEWARE:
        # Django itself reports a middleware that cannot be imported.
        with contextlib.suppress(ImportError):
            middleware = import_string(path)
            if isinstance(middleware, type):
                yield path, middleware


def _cookies() -> Iterator[checks.CheckMessage]:
    if settings.SESSION_COOKIE_SAMESITE == "None" and not settings.SESSION_COOKIE_SECURE:
        yield checks.Warning(
            "SESSION_COOKIE_SAMESITE is 'None', but SESSION_COOKIE_SECURE is off.",
            hint="Browsers drop such a cookie, so no user is signed in within the iframe.",
            id="django_examplary.W010",
        )
    if unusable_settings():
        return
    for name in ("SESSION_COOKIE_DOMAIN", "CSRF_COOKIE_DOMAIN"):
        domain = (getattr(settings, name) or "").lower().lstrip(".")
        for origin in list_embed_origins() if domain else ():
            host = urlsplit(origin).hostname or ""
            if host == domain or host.endswith(f".{domain}"):
                yield checks.Warning(
                    f"{name} includes {host}, which serves embeds.",
                    hint="Browsers send this cookie to the embeds too. Use a domain that only "
                    "this site uses.",
                    id="django_examplary.W022",
                )
