"""A root URLconf without the URLs of django_examplary."""

from __future__ import annotations

from django.urls import path

from tests.situations.urls_without_admin import embed

urlpatterns = [path("embed/", embed)]
