"""A root URLconf without our URLs, which are on a subdomain."""

from __future__ import annotations

from django.urls import path

from tests.situations.urls_without_admin import embed

urlpatterns = [path("embed/", embed)]
