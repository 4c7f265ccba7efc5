from __future__ import annotations

import functools
import traceback
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_examplary.conf import Settings, conf
from django_examplary.exceptions import ExamplaryConfigurationError


def describe(user: Any) -> None:
    """A value for EXAMPLARY_ACTOR_PROFILE or EXAMPLARY_THEME."""


DESCRIBE = f"{__name__}.describe"

# By setting: the default, a Django setting, an environment variable and its parsed value.
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
    "EXAMPLARY_ACTOR_PROFILE": (None, repr, DESCRIBE, describe),
    "EXAMPLARY_THEME": ({}, {"locale": "nl"}, DESCRIBE, describe),
    "EXAMPLARY_LOCALES": ({}, {"nb": "no"}, "nb=no,pt-br=pt-BR", {"nb": "no", "pt-br": "pt-BR"}),
    "EXAMPLARY_LAUNCH_MAX_AGE": (43_200, 60, "120", 120),
    "EXAMPLARY_PRERELEASE_FLOWS": (False, True, "yes", True),
    "EXAMPLARY_REVOKE_ON_COMPLETION": (True, False, "0", False),
    "EXAMPLARY_REVOKE_ON_LOGOUT": (True, False, "false", False),
    "EXAMPLARY_RETENTION": (None, 0, "365", 365),
    "EXAMPLARY_CA_BUNDLE": ("", "/etc/ssl/a.pem", "/etc/ssl/b.pem", "/etc/ssl/b.pem"),
    "EXAMPLARY_PROXY": ("", "environment", "http://proxy:3128", "http://proxy:3128"),
    "EXAMPLARY_AUTHORIZE": (None, repr, DESCRIBE, describe),
    "EXAMPLARY_SESSIONS_PER_HOUR": (60, 0, "10", 10),
    "EXAMPLARY_CONCURRENT_LAUNCHES": (4, 1, "16", 16),
    "EXAMPLARY_EMAILS_ARE_VERIFIED": (False, True, "true", True),
    "EXAMPLARY_WORKSPACES": ({}, {"north": {}}, DESCRIBE, describe),
    "EXAMPLARY_WORKSPACE": (None, repr, DESCRIBE, describe),
}
DEFAULTS = [(name, default) for name, (default, *_) in TABLE.items()]
FROM_SETTING = [(name, setting) for name, (_, setting, *_) in TABLE.items()]
FROM_ENVIRONMENT = [(name, raw, value) for name, (*_, raw, value) in TABLE.items()]
CALLABLES = [
    "EXAMPLARY_ACTOR_PROFILE",
    "EXAMPLARY_AUTHORIZE",
    "EXAMPLARY_THEME",
    "EXAMPLARY_WORKSPACE",
    "EXAMPLARY_WORKSPACES",
]


@pytest.fixture(autouse=True)
def unset(settings, monkeypatch):
    """Start every test without settings and environment variables of this app."""
    for name in [*TABLE, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"]:
        monkeypatch.delenv(name, raising=False)
        if hasattr(settings, name):
            delattr(settings, name)


def test_table_has_every_setting():
    assert {name for name in vars(Settings) if name.startswith("EXAMPLARY_")} == set(TABLE)


@pytest.mark.parametrize(("name", "default"), DEFAULTS)
def test_default(name, default):
    assert getattr(conf, name) == default


@pytest.mark.parametrize(("name", "raw", "value"), FROM_ENVIRONMENT)
def test_environment_overrides_default(monkeypatch, name, raw, value):
    monkeypatch.setenv(name, raw)

    assert getattr(conf, name) == value


@pytest.mark.parametrize(("name", "setting"), FROM_SETTING)
def test_setting_overrides_environment(monkeypatch, settings, name, setting):
    monkeypatch.setenv(name, TABLE[name][2])
    setattr(settings, name, setting)

    assert getattr(conf, name) == setting


@pytest.mark.parametrize("name", TABLE)
def test_setting_of_none_selects_default(monkeypatch, settings, name):
    monkeypatch.setenv(name, TABLE[name][2])
    setattr(settings, name, None)

    assert getattr(conf, name) == TABLE[name][0]


@pytest.mark.parametrize("raw", ["", " "])
@pytest.mark.parametrize("name", TABLE)
def test_empty_environment_variable_selects_default(monkeypatch, name, raw):
    monkeypatch.setenv(name, raw)

    assert getattr(conf, name) == TABLE[name][0]


@pytest.mark.parametrize(("name", "setting"), FROM_SETTING)
def test_override_settings_works(name, setting):
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
def test_setting_of_false_overrides_environment(monkeypatch, settings, name):
    monkeypatch.setenv(name, "true")
    setattr(settings, name, False)

    assert getattr(conf, name) is False


@pytest.mark.parametrize(
    ("name", "value", "stripped"),
    [
        ("EXAMPLARY_API_KEY", " examp_abc\n", "examp_abc"),
        ("EXAMPLARY_API_URL", "https://api.school.example/", "https://api.school.example"),
        ("EXAMPLARY_SITE_ORIGIN", "https://school.example/", "https://school.example"),
    ],
)
def test_blanks_and_final_slashes_are_stripped(monkeypatch, settings, name, value, stripped):
    monkeypatch.setenv(name, value)
    assert getattr(conf, name) == stripped

    setattr(settings, name, value)
    assert getattr(conf, name) == stripped


@pytest.mark.parametrize("name", ["EXAMPLARY_API_KEY", "EXAMPLARY_SITE_ORIGIN"])
def test_dollar_in_environment_is_literal(monkeypatch, name):
    monkeypatch.setenv("abc", "the value of another variable")
    monkeypatch.setenv(name, "$abc")

    assert getattr(conf, name) == "$abc"


SECRET = "examp_secret"


def read_and_catch(name: str) -> ExamplaryConfigurationError:
    """Return the error of reading a setting, after verifying that it does not contain the value."""
    with pytest.raises(ExamplaryConfigurationError) as caught:
        getattr(conf, name)
    error = caught.value
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    assert SECRET not in "".join(report.format())
    assert error.__context__ is None
    return error


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("EXAMPLARY_API_KEY", [SECRET], "a string"),
        ("EXAMPLARY_API_KEY", SECRET.encode(), "a string"),
        ("EXAMPLARY_EMBED_ORIGINS", SECRET, "a list of strings"),
        ("EXAMPLARY_EMBED_ORIGINS", [None, [SECRET]], "a list of strings"),
        ("EXAMPLARY_TIMEOUT", SECRET, "a number"),
        ("EXAMPLARY_MAX_RETRIES", True, "a whole number"),
        ("EXAMPLARY_MAX_RETRIES", 1.5, "a whole number"),
        ("EXAMPLARY_REVOKE_ON_LOGOUT", SECRET, "True or False"),
        ("EXAMPLARY_LOCALES", {SECRET: 1}, "a mapping from strings to strings"),
        ("EXAMPLARY_ACTOR_PROFILE", {SECRET: 1}, "a callable, or the dotted path of one"),
        (
            "EXAMPLARY_THEME",
            [SECRET],
            "a callable or a Mapping or a Theme, or the dotted path of one",
        ),
        (
            "EXAMPLARY_THEME",
            f"{__name__}.DESCRIBE",
            "a callable or a Mapping or a Theme, or the dotted path of one",
        ),
    ],
)
def test_setting_of_wrong_type_raises_without_its_value(settings, name, value, expected):
    setattr(settings, name, value)

    assert str(read_and_catch(name)) == f"{name} must be {expected}."


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("EXAMPLARY_TIMEOUT", "a number"),
        ("EXAMPLARY_DEADLINE", "a number"),
        ("EXAMPLARY_MAX_RETRIES", "a whole number"),
        ("EXAMPLARY_LAUNCH_MAX_AGE", "a whole number"),
        ("EXAMPLARY_RETENTION", "a whole number"),
        ("EXAMPLARY_LOCALES", "a mapping from strings to strings"),
        ("EXAMPLARY_REVOKE_ON_LOGOUT", "True or False"),
    ],
)
def test_environment_variable_of_wrong_type_raises_without_its_value(monkeypatch, name, expected):
    monkeypatch.setenv(name, SECRET)

    assert str(read_and_catch(name)) == f"The environment variable {name} must be {expected}."


def test_configuration_error_is_improperly_configured(monkeypatch):
    monkeypatch.setenv("EXAMPLARY_TIMEOUT", "soon")

    with pytest.raises(ImproperlyConfigured):
        conf.EXAMPLARY_TIMEOUT  # noqa: B018  # reading it is the test


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("value", [describe, DESCRIBE], ids=["callable", "dotted path"])
def test_callable(settings, name, value):
    setattr(settings, name, value)

    assert getattr(conf, name) is describe


async def describe_later(user: Any) -> None:
    """An async function, which no code of this app awaits."""


class DescribeLater:
    __call__ = describe_later


ASYNC = [describe_later, functools.partial(describe_later), DescribeLater()]


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("value", [*ASYNC, f"{__name__}.describe_later"])
def test_async_function_is_refused(settings, name, value):
    setattr(settings, name, value)

    with pytest.raises(ExamplaryConfigurationError, match=f"^{name} must be a normal function, "):
        getattr(conf, name)


@pytest.mark.parametrize("name", CALLABLES)
@pytest.mark.parametrize("path", ["tests.nowhere.describe", "tests.test_conf.nowhere", ".describe"])
def test_dotted_path_that_cannot_be_imported(settings, name, path):
    setattr(settings, name, path)

    with pytest.raises(ExamplaryConfigurationError, match=f"{name} cannot be imported: ."):
        getattr(conf, name)
