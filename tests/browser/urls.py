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
{% if in_form %}<form method="post">{% csrf_token %}
<p><label>Title <input name="title"></label></p>
{% endif %}
{% for embed in embeds %}{{ embed }}
{% endfor %}
{% if in_form %}<p><button>Save</button></p></form>{% endif %}
<p><button type="button">After</button></p>
</main>
</body>
</html>
""")


def embeds(request: HttpRequest) -> HttpResponse:
    """A page with the embeds that its query describes, in a form of its own if it asks for one."""
    if request.method == "POST":
        return HttpResponse(f"Saved {request.POST['title']}")
    embeds = []
    for described in request.GET.getlist("embed"):
        options = {"flow": "generate-exam", "load": "eager", **json.loads(described)}
        embeds.append(render_embed(request, options.pop("flow"), **options))
    context = {"embeds": embeds, "in_form": "form" in request.GET}
    return HttpResponse(PAGE.render(RequestContext(request, context)))


urlpatterns = [
    path("embeds/", embeds),
    path("", include("config.urls")),
]
