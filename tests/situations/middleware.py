"""Typical middleware of projects."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware


class Sessions(SessionMiddleware):
    """A subclass with its own name."""


class Authentication(AuthenticationMiddleware):
    """A subclass with its own name."""


class Csrf(CsrfViewMiddleware):
    """A subclass with its own name."""


def select_urlconf(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Replace ROOT_URLCONF for the request, as middleware for subdomains does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.urlconf = "tests.situations.urls_without_admin"
        return get_response(request)

    return middleware
