from __future__ import annotations

import os

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.urls import include, path


@login_required
def page(request: HttpRequest) -> JsonResponse:
    """An ordinary page, which needs the database and not Examplary."""
    return JsonResponse({"users": User.objects.count(), "pid": os.getpid()})


urlpatterns = [
    path("page/", page),
    path("examplary/", include("django_examplary.urls")),
    path("accounts/", include("django.contrib.auth.urls")),
]
