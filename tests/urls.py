from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path


def embed(request: HttpRequest) -> HttpResponse:
    """A page of a site."""
    page = Template(
        "{% load examplary %}{% examplary_embed 'generate-exam' %}{% examplary_script %}"
    )
    return HttpResponse(page.render(RequestContext(request)))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/", include("django.contrib.auth.urls")),
    path("examplary/", include("django_examplary.urls")),
    path("embed/", embed),
]
