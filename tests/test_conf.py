from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_examplary.conf import Settings, conf
from django_examplary.exceptions import ExamplaryConfigurationError


def describe(user: Any) -> None:
    """Stand in for a project's EXAMPLARY_ACTOR_PROFILE or EXAMPLARY_THEME."""


DESCRIBE = f"{__name__}.describe"

# For each setting: its default, a Django setting, an environment variable and what that is read as.
TABLE: dict[str, tuple[Any, Any, str, Any]] = {
    "EXAMPLARY_API_KEY": ("", "examp_setting", "examp_environment", "examp_environment"),
    "EXAMPLARY_API_URL": (
        "https://api.examplary.ai",
        "https://api-staging.examplary.ai",
        "https://api.school.example",
        "https://api.school.example",
    ),
    "EXAMPLARY_EMBED_ORIGINS": (
        ["https://app.examplary.ai"],
        ["https://exams.school.example"],
        "https://a.example,https://b.example",
        ["https://a.example", "https://b.example"],
    ),
    "EXAMPLARY_SITE_ORIGIN": ("", "https://a.example", "https://b.example", "https://b.example"),
    "EXAMPLARY_TIMEOUT": (10.0, 2.5, "3.5", 3.5),
    "EXAMPLARY_DEADLINE": (15.0, 20.0, "30", 30.0),
    "EXAMPLARY_MAX_RETRIES": (2, 0, "5", 5),
    "EXAMPLARY_CA_BUNDLE": ("", "/etc/ssl/school.pem", "/etc/ssl/ca.pem", "/etc/ssl/ca.pem"),
    "EXAMPLARY_PROXY": ("", "http://proxy.example:3128", "environment", "environment"),
    "EXAMPLARY_ACTOR_PROFILE": (None, repr, DESCRIBE, describe),
    "EXAMPLARY_THEME": ({}, {"locale": "nl"}, DESCRIBE, describe),
    "EXAMPLARY_LOCALES": ({}, {"nb": "no"}, "nb=no,pt-br=pt-BR", {"nb": "no", "pt-br": "pt-BR"}),
    "EXAMPLARY_LAUNCH_MAX_AGE": (43_200, 60, "120", 120),
    "EXAMPLARY_PRERELEASE_FLOWS": (False, True, "yes", True),
    "EXAMPLARY_REVOKE_ON_COMPLETION": (True, False, "0", False),
    "EXAMPLARY_REVOKE_ON_LOGOUT": (False, True, "true", True),
    "EXAMPLARY_RETENTION": (None, 0, "365", 365),
}
DEFAULTS = [(name, default) for name, (default, *_) in TABLE.items()]
FROM_SETTING = [(name, setting) for name, (_, setting, *_) in TABLE.items()]
FROM_ENVIRONMENT = [(name, raw, value) for name, (*_, raw, value) in TABLE.items()]


@pytest.fixture(autouse=True)
def unset(settings, monkeypatch):
    """Start every test with neither settings nor environment variables of ours."""
    for name in (*TABLE, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        if hasattr(settings, name):
            delattr(settings, name)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("EXAMPLARY_API_KEY", ["examp_secret"], "a text"),
        ("EXAMPLARY_EMBED_ORIGINS", "https://app.examplary.ai", "a list of texts"),
        ("EXAMPLARY_EMBED_ORIGINS", [None], "a list of texts"),
        ("EXAMPLARY_TIMEOUT", "10", "a number"),
        ("EXAMPLARY_MAX_RETRIES", True, "a number"),
        ("EXAMPLARY_REVOKE_ON_LOGOUT", "false", "True or False"),
        ("EXAMPLARY_LOCALES", {"nb": 1}, "a mapping from texts to texts"),
        ("EXAMPLARY_ACTOR_PROFILE", {}, "a callable, or the dotted path of one"),
        ("EXAMPLARY_THEME", [], "a callable or a Mapping or a Theme, or the dotted path"),
        ("EXAMPLARY_THEME", f"{__name__}.DESCRIBE", "a callable or a Mapping or a Theme, or the"),
    ],
)
def test_setting_of_a_wrong_type_is_an_error_without_its_value(settings, name, value, what):
    setattr(settings, name, value)
    with pytest.raises(ExamplaryConfigurationError, match=f"{name} must be {what}") as caught:
        getattr(conf, name)
    assert "secret" not in str(caught.value)


def test_table_has_every_setting():
    assert {name for name in vars(Settings) if name.startswith("EXAMPLARY_")} == set(TABLE)


@pytest.mark.parametrize(("name", "default"), DEFAULTS)
def test_default(name, default):
    assert getattr(conf, name) == default


@pytest.mark.parametrize(("name", "raw", "value"), FROM_ENVIRONMENT)
def test_environment_goes_before_the_default(monkeypatch, name, raw, value):
    monkeypatch.setenv(name, raw)

    assert getattr(conf, name) == value


@pytest.mark.parametrize(("name", "setting"), FROM_SETTING)
def test_setting_goes_before_the_environment(monkeypatch, settings, name, setting):
    monkeypatch.setenv(name, TABLE[name][2])
    setattr(settings, name, setting)

    assert getattr(conf, name) == setting


@pytest.mark.parametrize("name", TABLE)
def test_setting_of_none_is_the_default(monkeypatch, settings, name):
    monkeypatch.setenv(name, TABLE[name][2])
    setattr(settings, name, None)

    assert getattr(conf, name) == TABLE[name][0]


@pytest.mark.parametrize(("name", "setting"), FROM_SETTING)
def test_override_is_effective_at_once_and_undone_after(name, setting):
    with override_settings(**{name: setting}):
        assert getattr(conf, name) == setting

    assert getattr(conf, name) == TABLE[name][0]


@pytest.mark.parametrize(
    "name",
    [
        "EXAMPLARY_PRERELEASE_FLOWS",
        "EXAMPLARY_REVOKE_ON_COMPLETION",
        "EXAMPLARY_REVOKE_ON_LOGOUT",
    ],
)
def test_setting_of_false_is_a_setting(monkeypatch, settings, name):
    monkeypatch.setenv(name, "true")
    setattr(settings, name, False)

    assert getattr(conf, name) is False


@pytest.mark.parametrize(
    ("name", "value", "tidied"),
    [
        ("EXAMPLARY_API_KEY", " examp_abc\n", "examp_abc"),
        ("EXAMPLARY_API_URL", "https://api.school.example/", "https://api.school.example"),
        ("EXAMPLARY_SITE_ORIGIN", "https://school.example/", "https://school.example"),
    ],
)
def test_text_is_tidied(monkeypatch, settings, name, value, tidied):
    monkeypatch.setenv(name, value)
    assert getattr(conf, name) == tidied

    setattr(settings, name, value)
    assert getattr(conf, name) == tidied


@pytest.mark.parametrize("name", ["EXAMPLARY_API_KEY", "EXAMPLARY_SITE_ORIGIN"])
def test_dollar_in_the_environment_is_taken_literally(monkeypatch, name):
    monkeypatch.setenv("abc", "the value of another variable")
    monkeypatch.setenv(name, "$abc")

    assert getattr(conf, name) == "$abc"


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("EXAMPLARY_TIMEOUT", "float"),
        ("EXAMPLARY_DEADLINE", "float"),
        ("EXAMPLARY_MAX_RETRIES", "int"),
        ("EXAMPLARY_LAUNCH_MAX_AGE", "int"),
        ("EXAMPLARY_RETENTION", "int"),
        ("EXAMPLARY_LOCALES", "dict"),
        ("EXAMPLARY_REVOKE_ON_LOGOUT", "bool"),
    ],
)
def test_invalid_environment_is_named_and_not_quoted(monkeypatch, name, type_):
    monkeypatch.setenv(name, "hunter")

    with pytest.raises(ExamplaryConfigurationError) as caught:
        getattr(conf, name)

    assert str(caught.value) == f"The environment variable {name} is not a valid {type_}."
    # The cause would quote the value, in a traceback.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_invalid_environment_is_improperly_configured(monkeypatch):
    monkeypatch.setenv("EXAMPLARY_TIMEOUT", "soon")

    with pytest.raises(ImproperlyConfigured):
        conf.EXAMPLARY_TIMEOUT  # noqa: B018  # reading it is the test


@pytest.mark.parametrize("name", ["EXAMPLARY_ACTOR_PROFILE", "EXAMPLARY_THEME"])
@pytest.mark.parametrize("value", [describe, DESCRIBE], ids=["callable", "dotted path"])
def test_callable(settings, name, value):
    setattr(settings, name, value)

    assert getattr(conf, name) is describe


@pytest.mark.parametrize("name", ["EXAMPLARY_ACTOR_PROFILE", "EXAMPLARY_THEME"])
def test_dotted_path_that_leads_nowhere(settings, name):
    setattr(settings, name, "tests.nowhere.describe")

    with pytest.raises(ExamplaryConfigurationError, match=rf"{name} .*tests\.nowhere"):
        getattr(conf, name)


def test_certificates_of_other_programs_count_while_the_setting_is_not_set(settings, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/openssl.pem")
    assert conf.EXAMPLARY_CA_BUNDLE == "/etc/ssl/openssl.pem"
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/requests.pem")
    assert conf.EXAMPLARY_CA_BUNDLE == "/etc/ssl/requests.pem"
    settings.EXAMPLARY_CA_BUNDLE = "/etc/ssl/own.pem"
    assert conf.EXAMPLARY_CA_BUNDLE == "/etc/ssl/own.pem"
