"""The URLs below two namespaces and a language prefix."""

from __future__ import annotations

from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

from tests.situations.urls_without_admin import embed

school = [path("examplary/", include("django_examplary.urls"))]
district = [path("school/", include((school, "school")))]

urlpatterns = [
    path("embed/", embed),
    *i18n_patterns(path("south/", include((district, "district")))),
]
