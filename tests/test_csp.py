"""The sources that a policy must allow, and the nonce of a response."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.core.management import call_command
from django.http import HttpRequest
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_examplary.csp import csp_directives, csp_nonce
from django_examplary.exceptions import ExamplaryConfigurationError


@pytest.mark.parametrize("name", ["_csp_nonce", "csp_nonce"])
def test_nonce_is_that_of_the_response(name):
    request = HttpRequest()
    assert csp_nonce(request) == csp_nonce(None) == ""

    setattr(request, name, gettext_lazy("Yes"))

    assert csp_nonce(request) == "Yes"


@override_settings(EXAMPLARY_EMBED_ORIGINS=["https://a.example", "https://b.example"])
def test_policy():
    assert csp_directives() == {
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-src": ["'self'", "https://a.example", "https://b.example"],
        "frame-ancestors": ["'self'"],
    }


@override_settings(
    EXAMPLARY_WORKSPACES={
        "north": {"API_KEY": "examp_n", "EMBED_ORIGINS": ["https://north.example"]},
        "south": {"API_KEY": "examp_s"},
    }
)
def test_policy_lists_the_origins_of_every_workspace():
    origins = ["https://app.examplary.ai", "https://north.example"]

    assert csp_directives()["frame-src"] == ["'self'", *origins]
    with override_settings(EXAMPLARY_WORKSPACES=lambda alias: None):
        assert csp_directives()["frame-src"] == ["'self'", *origins[:1]]


@pytest.mark.parametrize("wrong", [{"API_KEY": 5}, {"EMBED_ORIGINS": "x"}, "a key", None])
@pytest.mark.parametrize("alias", ["south", 7])
def test_unusable_workspace_leaves_the_policy_of_the_others(alias, wrong):
    north = {"API_KEY": "examp_n", "EMBED_ORIGINS": ["https://north.example"]}
    with override_settings(EXAMPLARY_WORKSPACES={alias: wrong, "north": north}):
        origins = ["https://app.examplary.ai", "https://north.example"]
        assert csp_directives()["frame-src"] == ["'self'", *origins]


@override_settings(EXAMPLARY_EMBED_ORIGINS="https://a.example")
def test_wrong_flat_setting_is_an_error():
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_EMBED_ORIGINS"):
        csp_directives()


@override_settings(STATIC_URL="https://static.example/files/")
def test_policy_names_the_host_of_static_files():
    assert csp_directives()["script-src"] == ["https://static.example"]
    assert csp_directives()["style-src"] == ["https://static.example"]


@pytest.mark.parametrize("is_collected", [True, False])
def test_policy_with_hashed_file_names(tmp_path, is_collected):
    storages = {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    }
    with override_settings(STATIC_ROOT=tmp_path, STORAGES={**settings.STORAGES, **storages}):
        if is_collected:
            call_command("collectstatic", interactive=False, verbosity=0)
        assert csp_directives()["script-src"] == ["'self'"]
