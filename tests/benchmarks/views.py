"""The pages and the launches that are compared."""

from __future__ import annotations

import functools
from typing import Any

import requests
from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import include, path

from django_examplary.conf import conf
from django_examplary.models import ExamplaryActor, ExamplarySession

PRESETS = {"subject": "Mathematics", "studentLevel": "us_high_school_lower"}


@login_required
def page(request: HttpRequest, name: str) -> HttpResponse:
    """A page that queries its session and its user, and with `?rows` also a list."""
    rows = User.objects.order_by("pk")[:25] if "rows" in request.GET else []
    return render(request, f"benchmarks/{name}.html", {"rows": rows})


@login_required
def plain(request: HttpRequest) -> HttpResponse:
    """The integration that Examplary's public pages describe, with a pool of connections."""
    user: Any = request.user
    actor = ExamplaryActor.objects.filter(user=user).first()
    if actor is None:
        created = _post("/users", {"email": user.email, "role": "teacher"})
        actor = ExamplaryActor.objects.create(user=user, examplary_id=created["id"])
    session = _post(
        "/embed-sessions",
        {
            "flow": "generate-exam",
            "actor": actor.examplary_id,
            "presets": PRESETS,
            "allowedOrigin": f"{request.scheme}://{request.get_host()}",
        },
    )
    return render(request, "benchmarks/plain.html", {"embed_url": session["embedUrl"]})


@login_required
def redirect(request: HttpRequest, pk: str) -> HttpResponse:
    """The view that a project would write itself: read the user's row and redirect."""
    session = get_object_or_404(ExamplarySession, pk=pk, actor__user=request.user)
    response = HttpResponseRedirect(session.embed_url.value)
    response["Cache-Control"] = "no-store"
    return response


@functools.cache
def _pool() -> requests.Session:
    pool = requests.Session()
    pool.headers["Authorization"] = f"Bearer {settings.EXAMPLARY_API_KEY}"
    return pool


def _post(path: str, body: dict[str, Any]) -> dict[str, str]:
    answer = _pool().post(conf.EXAMPLARY_API_URL + path, json=body, timeout=10)
    answer.raise_for_status()
    created: dict[str, str] = answer.json()
    return created


urlpatterns = [
    path("without/", page, {"name": "without"}, name="without"),
    path("with/", page, {"name": "with"}, name="with"),
    path("plain/", plain, name="plain"),
    path("redirect/<uuid:pk>/", redirect, name="redirect"),
    path("accounts/", include("django.contrib.auth.urls")),
    path("examplary/", include("django_examplary.urls")),
]
