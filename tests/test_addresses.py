from __future__ import annotations

import pytest
from django.test import override_settings
from django.urls import NoReverseMatch, include, path, set_urlconf

from django_examplary.addresses import reverse_view

ours = path("examplary/", include("django_examplary.urls"))
other = path("other/", include(([], "other")))


class Root:
    urlpatterns = [ours]


class Nested:
    urlpatterns = [other, path("a/", include(([path("b/", include(([ours], "b")))], "a")))]


class Instances:
    urlpatterns = [
        path("one/", include("django_examplary.urls", namespace="one")),
        path("two/", include("django_examplary.urls", namespace="two")),
    ]


class Without:
    urlpatterns = [other]


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        (Root, "/examplary/launch/x/"),
        (Nested, "/a/b/examplary/launch/x/"),
        (Instances, "/two/launch/x/"),
    ],
)
def test_view_is_found_in_any_namespace(urls, address):
    with override_settings(ROOT_URLCONF=urls):
        assert reverse_view("launch", "x") == address


@override_settings(ROOT_URLCONF=Without)
def test_missing_urls_raise():
    with pytest.raises(NoReverseMatch, match="'django_examplary' is not a registered namespace"):
        reverse_view("launch", "x")


@override_settings(ROOT_URLCONF=Without)
def test_urlconf_of_the_request_wins():
    set_urlconf(Nested)
    try:
        assert reverse_view("sync", "x") == "/a/b/examplary/sync/x/"
    finally:
        set_urlconf(None)
