"""The example project, and a page with embeds of any kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import django_htmx
from django.contrib.auth.decorators import login_not_required
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse
from django.template import RequestContext, Template
from django.urls import include, path
from django.utils.safestring import SafeString

from django_examplary.embeds import embed_context, render_embed, render_panels, render_script

PAGE = Template("""{% load i18n %}{% get_current_language as language %}<!doctype html>
<html lang="{{ language }}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<title>A page</title>
{% if page.htmx %}<meta name="htmx-config" content='{"includeIndicatorStyles": false}'>
<script src="/htmx-{{ page.htmx }}.js" defer></script>{% endif %}
{% if not page.in_body %}{{ script }}{% endif %}
</head>
<body{% if page.htmx %} hx-boost="true" hx-boost:inherited="true"{% endif %}>
<main>
<h1>A page</h1>
<p><button type="button">Before</button>
{% if page.htmx %}<button type="button" hx-get="{{ request.get_full_path }}" hx-target="main"
hx-select="main" hx-swap="outerMorph">Refresh</button>
<a href="{{ page.link }}">Next</a>{% endif %}</p>
{% if "form" in page %}<form method="post">{% csrf_token %}
<p><label>Title <input name="title"></label></p>
{% endif %}
{% for embed in embeds %}{{ embed }}
{% endfor %}
{% if "form" in page %}<p><button>Save</button></p></form>{% endif %}
<p><button type="button">After</button></p>
{% if page.in_body %}{{ script }}{% endif %}
</main>
</body>
</html>
""")


def described(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the options of each embed, including the flow."""
    defaults = {"flow": "generate-exam", "load": "eager"}
    return [defaults | json.loads(each) for each in request.GET.getlist("embed")]


def embeds(request: HttpRequest) -> HttpResponse:
    """Render a page with the embeds that the query describes.

    Optional parameters: `form` puts a form around the embeds. `script` is "classic" for a script
    without type, "late" for a page without the script element, or "none". `in_body` moves the
    script. `htmx` is a version, `link` another page, and `cache` the Cache-Control header.
    """
    if request.method == "POST":
        return HttpResponse(f"Saved {request.POST['title']}")
    script = render_script()
    match request.GET.get("script"):
        case "classic":
            script = SafeString(script.replace(' type="module"', ""))
        case "none":
            script = SafeString()
        case "late":
            script = SafeString(script.partition("<script")[0])
    embeds = [render_embed(request, each.pop("flow"), **each) for each in described(request)]
    context = {"embeds": embeds, "script": script, "page": request.GET}
    response = HttpResponse(PAGE.render(RequestContext(request, context)))
    if cache := request.GET.get("cache"):
        response["Cache-Control"] = cache
    return response


def data(request: HttpRequest) -> JsonResponse:
    """Return the data of the embed that the query describes."""
    [options] = described(request)
    embed = embed_context(request, options.pop("flow"), **options)
    return JsonResponse({**embed, "panels": render_panels()})


def htmx(request: HttpRequest, version: int) -> FileResponse:
    """Serve a version of htmx, from django-htmx."""
    static = Path(django_htmx.__file__).parent / "static/django_htmx"
    return FileResponse((static / f"htmx-{version}.js").open("rb"), content_type="text/javascript")


urlpatterns = [
    path("embeds/", embeds),
    path("embeds/data/", data),
    path("embeds/public/", login_not_required(embeds)),
    path("htmx-<int:version>.js", login_not_required(htmx)),
    path("", include("config.urls")),
]
