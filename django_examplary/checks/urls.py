"""Checks of the URLs that embeds use, and of the templates behind them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import NoReverseMatch, Resolver404, get_script_prefix, resolve
from django.utils.translation import get_language

from django_examplary.addresses import APP_NAME, find_namespace, reverse_view


def check_urls(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check the URLs and templates of embeds, and the page to sign in."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []  # The project has no pages.
    try:
        included = bool(find_namespace())
    except ImproperlyConfigured:
        return []  # Django's own checks report an invalid URLconf.
    if not included:
        return [
            checks.Warning(
                "ROOT_URLCONF does not include the URLs of django_examplary.",
                hint="Add path('examplary/', include('django_examplary.urls')). If a middleware "
                "sets request.urlconf to a URLconf that includes them, silence this warning: "
                "embeds work on the pages of that URLconf.",
                id="django_examplary.W019",
            )
        ]
    try:
        address = reverse_view("launch", "token")
    except NoReverseMatch:
        return [
            checks.Error(
                "The URLs of django_examplary are below a pattern with parameters.",
                hint="The tags do not know the values of parameters such as <slug:school>. Include "
                "the URLs outside that pattern.",
                id="django_examplary.E010",
            )
        ]
    return [*_launch_address(address), *_cookie_paths(address), *_templates(), *_login_url()]


def _launch_address(address: str) -> Iterator[checks.CheckMessage]:
    match = _resolve_path(address)
    if match is None or match.app_names[-1:] != [APP_NAME]:
        yield checks.Error(
            f"Another URL pattern matches {address} before the URLs of django_examplary.",
            hint="Move the include() above that pattern, which is often a catch-all for a "
            "single-page app.",
            id="django_examplary.E008",
        )


def _cookie_paths(address: str) -> Iterator[checks.CheckMessage]:
    for name in ("SESSION_COOKIE_PATH", "CSRF_COOKIE_PATH"):
        if name == "CSRF_COOKIE_PATH" and settings.CSRF_USE_SESSIONS:
            continue
        path = getattr(settings, name)
        # The path match of browsers (RFC 6265, section 5.1.4).
        if address != path and not address.startswith(f"{path.rstrip('/')}/"):
            yield checks.Warning(
                f"{name} is {path!r}, but embeds start at {address}.",
                hint="Browsers do not send the cookie there. Include the URLs of django_examplary "
                "below the cookie's path.",
                id="django_examplary.W021",
            )


def _templates() -> Iterator[checks.CheckMessage]:
    try:
        template: Any = get_template("django_examplary/embed.html")
    except TemplateDoesNotExist:
        yield checks.Error(
            "No template engine finds the templates of django_examplary.",
            hint="They need Django's own engine, also if your templates are for Jinja2. Add to "
            "TEMPLATES: {'BACKEND': 'django.template.backends.django.DjangoTemplates', "
            "'APP_DIRS': True}.",
            id="django_examplary.E006",
        )
        return
    except TemplateSyntaxError:
        return  # In a template of the project: rendering it raises the same error.
    if not getattr(template.backend, "engine", None) or template.backend.engine.autoescape:
        return
    yield checks.Warning(
        f"The template engine {template.backend.name!r} does not escape HTML.",
        hint="Titles and other texts go into the markup of embeds as they are. Remove "
        "'autoescape': False from its OPTIONS, or use another engine for such templates.",
        id="django_examplary.W011",
    )


def _login_url() -> Iterator[checks.CheckMessage]:
    # A site without pages may have no LOGIN_URL.
    with contextlib.suppress(NoReverseMatch, ValueError):
        parts = urlsplit(resolve_url(settings.LOGIN_URL or ""))
        # Only paths of this site can be resolved here.
        if parts.netloc or not _is_missing(parts.path):
            return
    yield checks.Warning(
        f"LOGIN_URL is {str(settings.LOGIN_URL)!r}, which is not a page of this site.",
        hint="Visitors who are not signed in see a link to it instead of an embed. Set LOGIN_URL. "
        "If another application serves that page, silence this warning.",
        id="django_examplary.W023",
    )


def _is_missing(path: str) -> bool:
    """Return whether no URL pattern matches, also after redirects of Django's middleware."""
    candidates = [path, f"/{get_language()}{path}"]
    if settings.APPEND_SLASH:
        candidates += [f"{each}/" for each in candidates]
    return all(_resolve_path(each) is None for each in candidates)


def _resolve_path(path: str) -> Any:
    try:
        return resolve("/" + path.removeprefix(get_script_prefix()))
    except Resolver404:
        return None
