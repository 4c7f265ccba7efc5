"""A site without the admin, and the page that the other URLconfs include."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.urls import include, path


def embed(request: HttpRequest) -> HttpResponse:
    page = engines["django"].from_string(
        "{% load examplary %}{% examplary_embed 'generate-exam' %}{% examplary_script %}"
    )
    return HttpResponse(page.render({}, request))


urlpatterns = [
    path("examplary/", include("django_examplary.urls")),
    path("embed/", embed),
]
