"""The example project, and a page with embeds of any kind."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.urls import include, path

from django_examplary.embeds import render_embed

PAGE = Template("""{% load examplary i18n %}{% get_current_language as language %}<!doctype html>
<html lang="{{ language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>A page</title>
{% examplary_script %}
</head>
<body>
<main>
<h1>A page</h1>
<p><button type="button">Before</button></p>
{% for embed in embeds %}{{ embed }}
{% endfor %}
<p><button type="button">After</button></p>
</main>
</body>
</html>
""")


def embeds(request: HttpRequest) -> HttpResponse:
    """A page with the embeds that its query describes."""
    embeds = []
    for described in request.GET.getlist("embed"):
        options = {"flow": "generate-exam", "load": "eager", **json.loads(described)}
        embeds.append(render_embed(request, options.pop("flow"), **options))
    return HttpResponse(PAGE.render(RequestContext(request, {"embeds": embeds})))


urlpatterns = [
    path("embeds/", embeds),
    path("", include("config.urls")),
]
