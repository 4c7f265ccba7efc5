from __future__ import annotations

import sys
from io import StringIO

import pytest
from csp.constants import NONCE
from django.apps import apps
from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.middleware.csrf import CsrfViewMiddleware
from django.test import override_settings
from django.urls import include, path, re_path
from django.views import View

from django_examplary.checks import (
    check_deployment,
    check_migrations,
    check_policies,
    check_project,
    check_settings,
    check_urls,
)
from django_examplary.checks.policies import _NEEDS
from django_examplary.checks.settings import NAMES
from django_examplary.csp import csp_directives
from django_examplary.exceptions import ExamplaryEmbedURLError
from django_examplary.models import ExamplaryActor
from django_examplary.origins import embed_origin

API_KEY = "examp_0123456789abcdefghijklmnopqrstuv"
DJANGO = "django.template.backends.django.DjangoTemplates"
JINJA2 = "django.template.backends.jinja2.Jinja2"
MIDDLEWARE = settings.MIDDLEWARE
API_URL = "https://api.examplary.ai"
ORIGIN = "https://app.examplary.ai"

CHECKS = [check_settings, check_deployment, check_project, check_policies, check_urls]


async def describe_later(*arguments: object) -> None:
    """An async function, which no setting accepts."""


def ids(check, **overrides: object) -> list[str]:
    with override_settings(**overrides):
        return [(message.id or "").removeprefix("django_examplary.") for message in check()]


@pytest.mark.parametrize("check", CHECKS)
def test_good_settings_pass(check):
    assert check() == []


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"EXAMPLARY_API_KEY": ""}, ["W002"]),
        ({"EXAMPLARY_API_KEY": " \n"}, ["W002"]),
        ({"EXAMPLARY_API_KEY": "examp_0123\r\nX-Evil: 1"}, ["E002"]),
        ({"EXAMPLARY_API_KEY": "examp 0123"}, ["E002"]),
        ({"EXAMPLARY_API_KEY": "exämp_0123"}, ["E002"]),
        ({"EXAMPLARY_API_KEY": f"{API_KEY}\n"}, []),
        ({"EXAMPLARY_API_KEY": "examp_0123"}, ["W001"]),
        ({"EXAMPLARY_API_KEY": f"{API_KEY}x"}, ["W001"]),
        ({"EXAMPLARY_API_KEY": f"Bearer_{API_KEY}"}, ["W001"]),
        ({"EXAMPLARY_API_URL": "https://api-staging.examplary.ai/"}, ["W006"]),
        (
            {
                "EXAMPLARY_API_URL": "https://api-staging.examplary.ai",
                "EXAMPLARY_EMBED_ORIGINS": (ORIGIN,),
            },
            ["W006"],
        ),
        ({"EXAMPLARY_API_URL": ""}, ["E003"]),
        ({"EXAMPLARY_API_URL": "http://api.examplary.ai"}, ["E003"]),
        ({"EXAMPLARY_API_URL": "https://me:secret@api.examplary.ai"}, ["E003"]),
        ({"EXAMPLARY_API_URL": "file:///etc/passwd"}, ["E003"]),
        (
            {
                "DEBUG": True,
                "EXAMPLARY_API_URL": "http://127.0.0.1:8001",
                "EXAMPLARY_EMBED_ORIGINS": ["http://127.0.0.1:8001", "http://[::1]:8001"],
            },
            [],
        ),
        ({"EXAMPLARY_PRERELEASE_FLOWS": True}, ["W004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["https://exams.school.example:8443"]}, []),
        ({"EXAMPLARY_EMBED_ORIGINS": ["http://127.0.0.1:8001"]}, ["W005"]),
        ({"EXAMPLARY_EMBED_ORIGINS": []}, ["E009"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ORIGIN}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{ORIGIN}/"]}, ["E004"]),
        # Browsers omit default ports, and do not support wildcards here.
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{ORIGIN}:443"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["https://*.examplary.ai"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["https://bücher.example"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{ORIGIN}/embeds"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["https://App.examplary.ai"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["app.examplary.ai", "*"]}, ["E004", "E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{ORIGIN}@evil.example"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{ORIGIN}; script-src *"]}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://school.example/"}, []),
        ({"EXAMPLARY_SITE_ORIGIN": "school.example"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "http://school.example:80", "DEBUG": True}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://school.example/exams"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://:::"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://[2001:db8::1]:8443"}, []),
        ({"EXAMPLARY_SITE_ORIGIN": "http://school.example"}, ["W005"]),
        ({"EXAMPLARY_SITE_ORIGIN": "http://school.example", "DEBUG": True}, []),
        ({"EXAMPLARY_API_KEY": "", "EXAMPLARY_SITE_ORIGIN": "x"}, ["W002", "E004"]),
        (
            {
                "EXAMPLARY_SITE_ORIGIN": "https://school.example",
                "EXAMPLARY_EMBED_ORIGINS": [ORIGIN, "https://school.example"],
            },
            ["W018"],
        ),
        ({"ALLOWED_HOSTS": ["*"]}, ["W007"]),
        ({"ALLOWED_HOSTS": ["*"], "EXAMPLARY_SITE_ORIGIN": "https://school.example"}, []),
        ({"EXAMPLARY_ACTOR_PROFILE": "nowhere.to.be.found"}, ["E001"]),
        ({"EXAMPLARY_THEME": "nowhere.to.be.found"}, ["E001"]),
        ({"EXAMPLARY_ACTOR_PROFILE": ".describe"}, ["E001"]),
        ({"EXAMPLARY_THEME": "..theme"}, ["E001"]),
        ({"EXAMPLARY_API_KEY": 5}, ["E001"]),
        ({"EXAMPLARY_API_URL": API_URL.encode()}, ["E001"]),
        ({"EXAMPLARY_SITE_ORIGIN": ["https://school.example"]}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": {ORIGIN}}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [ORIGIN, None]}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": (ORIGIN,)}, []),
        ({"EXAMPLARY_REVOKE_ON_COMPLETION": "false"}, ["E001"]),
        ({"EXAMPLARY_REVOKE_ON_LOGOUT": "false"}, ["E001"]),
        ({"EXAMPLARY_PRERELEASE_FLOWS": 0}, ["E001"]),
        ({"EXAMPLARY_LOCALES": "nb=no"}, ["E001"]),
        ({"EXAMPLARY_LOCALES": {"nb": None}}, ["E001"]),
        ({"EXAMPLARY_LOCALES": {"nb": "no"}}, []),
        ({"EXAMPLARY_ACTOR_PROFILE": 5}, ["E001"]),
        ({"EXAMPLARY_ACTOR_PROFILE": f"{__name__}.API_KEY"}, ["E001"]),
        ({"EXAMPLARY_ACTOR_PROFILE": repr}, []),
        ({"EXAMPLARY_ACTOR_PROFILE": f"{__name__}.describe_later"}, ["E001"]),
        ({"EXAMPLARY_AUTHORIZE": f"{__name__}.describe_later"}, ["E001"]),
        ({"EXAMPLARY_THEME": f"{__name__}.describe_later"}, ["E001"]),
        ({"EXAMPLARY_WORKSPACE": f"{__name__}.describe_later"}, ["E001"]),
        ({"EXAMPLARY_WORKSPACES": f"{__name__}.describe_later"}, ["E001"]),
        ({"EXAMPLARY_THEME": ["locale"]}, ["E001"]),
        ({"EXAMPLARY_THEME": {"locale": "nl"}}, []),
        ({"EXAMPLARY_THEME": {"locale": 5}}, ["E001"]),
        ({"EXAMPLARY_TIMEOUT": 0}, ["E007"]),
        ({"EXAMPLARY_TIMEOUT": "10"}, ["E001"]),
        ({"EXAMPLARY_TIMEOUT": True}, ["E001"]),
        ({"EXAMPLARY_DEADLINE": float("inf")}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": float("nan")}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": 0, "EXAMPLARY_RETENTION": -1}, ["E007", "E007"]),
        ({"EXAMPLARY_DEADLINE": -1}, ["E007"]),
        ({"EXAMPLARY_MAX_RETRIES": -1}, ["E007"]),
        ({"EXAMPLARY_SESSIONS_PER_HOUR": -1}, ["E007"]),
        ({"EXAMPLARY_CONCURRENT_LAUNCHES": 0}, ["E007"]),
        ({"EXAMPLARY_MAX_RETRIES": 1.5}, ["E001"]),
        ({"EXAMPLARY_MAX_RETRIES": 0, "EXAMPLARY_RETENTION": 0}, []),
        ({"EXAMPLARY_SESSIONS_PER_HOUR": 0, "EXAMPLARY_CONCURRENT_LAUNCHES": 1}, []),
        ({"EXAMPLARY_RETENTION": 999_999}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": 1e12}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": 5}, ["W008"]),
        ({"EXAMPLARY_API_KEI": "x"}, ["W003"]),
    ],
    ids=str,
)
def test_settings(overrides, expected):
    assert ids(check_settings, **overrides) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8001", ["E005"]),
        (API_URL, []),
        ("http://api.examplary.ai", []),
        (5, []),
    ],
)
def test_localhost_is_an_error_only_with_deploy(url, expected):
    assert ids(check_deployment, EXAMPLARY_API_URL=url) == expected
    with override_settings(EXAMPLARY_API_URL=url):
        without = run_checks(tags=["django_examplary"])
        deploy = run_checks(tags=["django_examplary"], include_deployment_checks=True)
    assert "django_examplary.E005" not in [message.id for message in without]
    assert len(deploy) - len(without) == len(expected)


@pytest.mark.parametrize(
    ("north", "expected"),
    [
        ({}, []),
        ({"API_KEY": ""}, ["W002"]),
        ({"API_KEY": "examp 0123"}, ["E002"]),
        ({"API_KEY": "examp_0123"}, ["W001"]),
        ({"API_KEY": None}, ["E001"]),
        ({"API_URL": "https://api-staging.examplary.ai"}, ["W006"]),
        ({"API_URL": "http://api.examplary.ai"}, ["E003"]),
        ({"EMBED_ORIGINS": []}, ["E009"]),
        ({"EMBED_ORIGINS": [f"{ORIGIN}/"]}, ["E004"]),
        ({"EMBED_ORIGINS": ORIGIN}, ["E001"]),
        ({"ORIGINS": [ORIGIN]}, ["E001"]),
        ("no mapping", ["E001"]),
    ],
)
def test_every_workspace_is_checked(north, expected):
    if isinstance(north, dict):
        north = {"API_KEY": API_KEY, **north}
    overrides = {
        "EXAMPLARY_WORKSPACES": {"north": north},
        "EXAMPLARY_WORKSPACE": lambda user: "north",
    }

    assert set(ids(check_settings, **overrides)) == set(expected)
    with override_settings(**overrides):
        hints = " ".join(f"{each.msg} {each.hint}" for each in check_settings())
    assert "north" in hints or not expected


@pytest.mark.parametrize("alias", [5, None, ("north",), "", "n" * 65, "north\n"])
def test_invalid_workspace_alias_is_an_error(alias):
    workspaces = {alias: {"API_KEY": API_KEY}, "south": {"API_KEY": API_KEY}}
    with override_settings(EXAMPLARY_WORKSPACES=workspaces):
        [error] = [each for each in check_settings() if each.id.endswith("E001")]

    assert error.msg == f"EXAMPLARY_WORKSPACES[{alias!r}] is not valid."
    assert error.hint == "Write the alias as a string of 1 to 64 printable characters."


def test_each_unusable_workspace_is_named():
    workspaces = {"north": {"API_KEY": 5}, "south": {"API_KEY": API_KEY}, "west": API_KEY, 7: {}}
    with override_settings(EXAMPLARY_WORKSPACES=workspaces):
        errors = [each for each in check_settings() if each.id.endswith("E001")]

    assert [each.msg for each in errors] == [
        f"EXAMPLARY_WORKSPACES[{alias!r}] is not valid." for alias in ("north", "west", 7)
    ]
    assert errors[0].hint == "EXAMPLARY_WORKSPACES['north']['API_KEY'] must be a string."
    west = "EXAMPLARY_WORKSPACES['west'] must be a mapping with the key 'API_KEY'."
    assert errors[1].hint == west
    assert API_KEY not in str(errors)


def test_wrong_flat_setting_is_reported_once():
    workspaces = {"north": {"API_KEY": API_KEY}, "south": {"API_KEY": API_KEY}}
    overrides = {"EXAMPLARY_WORKSPACES": workspaces, "EXAMPLARY_API_URL": 5}

    assert ids(check_settings, **overrides) == ["E001"]
    assert ids(check_deployment, **overrides) == []


def test_workspaces_without_a_choice_are_reported():
    workspaces = {"default": {"API_KEY": API_KEY}, "north": {"API_KEY": API_KEY}}

    assert ids(check_settings, EXAMPLARY_WORKSPACES=workspaces) == ["W026", "W027"]


def test_site_with_workspaces_needs_no_other_key():
    overrides = {"EXAMPLARY_API_KEY": "", "EXAMPLARY_WORKSPACE": lambda user: "north"}
    for workspaces in ({"north": {"API_KEY": API_KEY}}, lambda alias: None):
        assert ids(check_settings, EXAMPLARY_WORKSPACES=workspaces, **overrides) == []


def test_workspace_on_localhost_is_an_error_with_deploy():
    north = {"API_KEY": API_KEY, "API_URL": "http://localhost:8001"}

    assert ids(check_deployment, EXAMPLARY_WORKSPACES={"north": north}) == ["E005"]
    workspaces = {"north": north, "south": {"API_KEY": 5}, 7: north}
    assert ids(check_deployment, EXAMPLARY_WORKSPACES=workspaces) == ["E005"]
    # Reported by the checks of the settings.
    for wrong in ({**north, "API_URL": "file:///"}, {**north, "API_URL": 5}):
        assert ids(check_deployment, EXAMPLARY_WORKSPACES={"north": wrong}) == []


def test_unknown_names_are_reported_in_order():
    names = [f"EXAMPLARY_{letter}" for letter in "HGFEDCBA"]
    with override_settings(**dict.fromkeys(names, 1)):
        messages = check_settings()

    assert [message.msg.partition(" ")[0][-1] for message in messages] == list("ABCDEFGH")


def test_unknown_name_in_the_environment_is_reported(monkeypatch):
    monkeypatch.setenv("EXAMPLARY_EMBED_ORIGIN", ORIGIN)
    monkeypatch.setenv("EXAMPLARY_QQQQQQQQ", "")
    close, far = check_settings()
    assert close.hint == "Did you mean EXAMPLARY_EMBED_ORIGINS?"
    assert far.hint.startswith("Known settings: EXAMPLARY_ACTOR_PROFILE, ")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value",
    ["", "x", ".", b"x", 5, -1, True, float("nan"), [], [5], (None,), {}, {5: 5}, {"x"}, ...],
    ids=repr,
)
def test_checks_do_not_raise_for_any_value(name, value):
    policy = {"SECURE_CSP": {"default-src": ["'none'"]}, "SESSION_COOKIE_DOMAIN": "school.example"}
    with override_settings(**policy, **{name: value}):
        messages = [message for check in CHECKS for message in check()]

    if value is ...:
        assert [message.msg for message in messages if name in message.msg] != []


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("origin", "reported"),
    [
        ("https://exams.school.example:8443", []),
        ("https://[::1]:8001", []),
        ("https://[2001:db8::1]", ["E004"]),
        ("https://:::", ["E004"]),
        ("https://", ["E004"]),
        ("", ["E004"]),
        ("http://exams.school.example", ["W005"]),
        ("http://exams.school.example/", ["E004"]),
        ("http://127.0.0.1:8001/", ["E004"]),
    ],
)
def test_origin_is_reported_if_its_embeds_are_refused(origin, reported, debug):
    overrides = {"DEBUG": debug, "EXAMPLARY_EMBED_ORIGINS": [origin]}

    assert ids(check_settings, **overrides) == reported
    with override_settings(**overrides):
        try:
            refused = embed_origin(f"{origin}/embeds/x", [origin], http_loopback=debug) != origin
        except ExamplaryEmbedURLError:
            refused = True
    assert refused is bool(reported)


def test_http_site_origin_is_named():
    with override_settings(EXAMPLARY_SITE_ORIGIN="http://school.example"):
        (message,) = check_settings()

    assert message.msg == "EXAMPLARY_SITE_ORIGIN is 'http://school.example', and DEBUG is off."


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        ({"EXAMPLARY_API_KEY": ""}, "https://app.examplary.ai/account/developer"),
        ({"EXAMPLARY_API_KEY": "examp 0123"}, "no blanks"),
        ({"EXAMPLARY_API_KEY": "examp_0123"}, "Copy the key again"),
        ({"EXAMPLARY_API_URL": "http://api.examplary.ai"}, "must be an https URL"),
        ({"EXAMPLARY_EMBED_ORIGINS": ORIGIN}, "must be a list of strings"),
        ({"EXAMPLARY_SITE_ORIGIN": "school.example"}, "Write the scheme, the host and a port"),
        ({"EXAMPLARY_THEME": {"locale": 5}}, "theme.locale: must be"),
    ],
    ids=str,
)
def test_hint_names_the_remedy(overrides, hint):
    with override_settings(**overrides):
        (message,) = check_settings()

    assert hint in str(message.hint)


@pytest.mark.parametrize(
    "overrides",
    [
        {"EXAMPLARY_API_KEY": "sk_live_canary"},
        {"EXAMPLARY_API_KEY": "sk live canary"},
        {"EXAMPLARY_API_KEY": "sk_live_canary\r\nHost: x"},
        {"EXAMPLARY_API_KEY": ["canary"]},
        {"EXAMPLARY_API_URL": "https://me:canary@api.examplary.ai"},
        {"EXAMPLARY_EMBED_ORIGINS": ["https://me:canary@app.examplary.ai"]},
        {"EXAMPLARY_SITE_ORIGIN": "https://me:canary@school.example"},
        {"EXAMPLARY_LOCALES": {"nb": {"canary"}}},
    ],
    ids=str,
)
def test_messages_hold_no_secrets(overrides):
    with override_settings(**overrides):
        (message,) = check_settings()

    assert "canary" not in f"{message} {message.hint}"


# The project


class Session(SessionMiddleware):
    """A subclass with another name."""


class Csrf(CsrfViewMiddleware):
    """A subclass with another name."""


class NotSessionMiddleware:
    """Resembles the session middleware only in its name."""


class Revisions:
    """Like the middleware of django-reversion."""

    atomic = True


class RevisionsWithoutTransaction(Revisions):
    """The subclass that the documentation recommends."""

    atomic = False


def replace(old: str, new: str) -> list[str]:
    return [f"{__name__}.{new}" if each.endswith(f".{old}") else each for each in MIDDLEWARE]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if "Session" not in m]}, ["W020"]),
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if ".Authentication" not in m]}, ["W020"]),
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if "Csrf" not in m]}, ["W020"]),
        ({"MIDDLEWARE": replace("SessionMiddleware", "Session")}, []),
        ({"MIDDLEWARE": replace("CsrfViewMiddleware", "Csrf")}, []),
        ({"MIDDLEWARE": replace("SessionMiddleware", "NotSessionMiddleware")}, ["W020"]),
        ({"MIDDLEWARE": ["nowhere.SessionMiddleware", *MIDDLEWARE]}, []),
        ({"MIDDLEWARE": [*MIDDLEWARE, f"{__name__}.Revisions"]}, ["W028"]),
        ({"MIDDLEWARE": [*MIDDLEWARE, f"{__name__}.RevisionsWithoutTransaction"]}, []),
        ({"SESSION_COOKIE_SAMESITE": "None"}, ["W010"]),
        ({"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True}, []),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, []),
        ({"SESSION_COOKIE_DOMAIN": ".examplary.ai"}, ["W022"]),
        ({"SESSION_COOKIE_DOMAIN": "App.examplary.ai"}, ["W022"]),
        ({"CSRF_COOKIE_DOMAIN": "examplary.ai"}, ["W022"]),
        ({"SESSION_COOKIE_DOMAIN": "plary.ai", "CSRF_COOKIE_DOMAIN": ".school.example"}, []),
        ({"SESSION_COOKIE_DOMAIN": ".examplary.ai", "EXAMPLARY_EMBED_ORIGINS": 5}, []),
    ],
    ids=str,
)
def test_project(overrides, expected):
    assert ids(check_project, **overrides) == expected


def test_missing_staticfiles_is_a_warning(monkeypatch):
    monkeypatch.setattr(apps, "is_installed", lambda name: name != "django.contrib.staticfiles")
    assert ids(check_project) == ["W009"]


# Policies


def policy(**directives):
    """Return a policy that allows everything that embeds need, with overrides."""
    return {
        "default-src": ["'none'"],
        "frame-src": ["'self'", ORIGIN],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        **{name.replace("_", "-"): value for name, value in directives.items()},
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (policy(), []),
        ({"img-src": ["'self'"]}, []),
        ({"default-src": ["'self'"]}, ["W012"]),
        (policy(frame_src=["*"]), []),
        (policy(frame_src=["'self'", "https:"]), []),
        (policy(frame_src=["https:"]), []),
        (policy(frame_src=["'SELF'", "https://*.Examplary.ai"]), []),
        (policy(frame_src=["'self'", "*.examplary.ai"]), []),
        (policy(frame_src=["'self'", f"{ORIGIN}/"]), []),
        (policy(frame_src=f"'self' {ORIGIN}"), []),
        (policy(frame_src=["'self'", "https://*.app.examplary.ai"]), ["W012"]),
        (policy(frame_src=["'self'", "https://evil-examplary.ai"]), ["W012"]),
        (policy(frame_src=["'self'", f"{ORIGIN}:8443"]), ["W012"]),
        (policy(frame_src=["'self'", "wss:", "data:"]), ["W012"]),
        (policy(frame_src=["'self'"]), ["W012"]),
        (policy(frame_src=["'self'", "'nonce-abc'"]), ["W012"]),
        (policy(frame_src=[ORIGIN]), ["W012"]),
        (policy(frame_src="'none'"), ["W012"]),
        (policy(frame_src=True), ["W012"]),
        (policy(frame_src=None), ["W012"]),
        (policy(frame_src=None, default_src=["*"]), []),
        (policy(frame_ancestors=["'none'"]), ["W013"]),
        (policy(frame_ancestors=["https://portal.example"]), ["W013"]),
        (policy(frame_ancestors=["'self'"]), []),
        (policy(script_src=["https://cdn.example"]), ["W014"]),
        (policy(script_src_elem=["'none'"]), ["W014"]),
        (policy(script_src=["'nonce-abc'"]), []),
        (policy(script_src=["<CSP_NONCE_SENTINEL>", "'strict-dynamic'"]), []),
        (policy(style_src=["'none'"]), ["W015"]),
        (policy(style_src=[NONCE]), []),
        (policy(connect_src=["'none'"]), ["W016"]),
        (policy(connect_src=None), ["W016"]),
        (policy(form_action=["'none'"]), ["W017"]),
        (policy(form_action=["'self'"]), []),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "setting",
    [
        "SECURE_CSP",
        "SECURE_CSP_REPORT_ONLY",
        "CONTENT_SECURITY_POLICY",
        "CONTENT_SECURITY_POLICY_REPORT_ONLY",
    ],
)
def test_content_security_policy(setting, given, expected):
    value = given if setting.startswith("SECURE") else {"DIRECTIVES": given}

    assert ids(check_policies, **{setting: value}) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            {
                "SECURE_CSP": policy(frame_src=[ORIGIN, "https://*.school.example"]),
                "EXAMPLARY_SITE_ORIGIN": "https://www.school.example",
            },
            [],
        ),
        (
            {
                "SECURE_CSP": policy(frame_src=["'self'", "http://127.0.0.1:*"]),
                "EXAMPLARY_EMBED_ORIGINS": ["http://127.0.0.1:8001"],
            },
            [],
        ),
        (
            {
                "STATIC_URL": "https://cdn.example/static/",
                "SECURE_CSP": policy(
                    script_src=["https://cdn.example"], style_src=["https://cdn.example"]
                ),
            },
            [],
        ),
        ({"SECURE_CSP": policy(frame_src=[]), "EXAMPLARY_EMBED_ORIGINS": 5}, []),
        ({"CONTENT_SECURITY_POLICY": {"EXCLUDE_URL_PREFIXES": ["/x/"]}}, []),
    ],
    ids=str,
)
def test_content_security_policy_depends_on_settings(overrides, expected):
    assert ids(check_policies, **overrides) == expected


CDN = "https://cdn.example/static/"
STORAGE = "django.contrib.staticfiles.storage"


def static_files(storage: str, **options: object) -> dict[str, object]:
    each = {"BACKEND": f"{STORAGE}.{storage}", "OPTIONS": options}
    return {"STORAGES": {**settings.STORAGES, "staticfiles": each}}


@pytest.mark.parametrize(
    "overrides",
    [{}, {"STATIC_URL": CDN}, static_files("StaticFilesStorage", base_url=CDN)],
    ids=["own site", "CDN", "CDN by storage"],
)
def test_directives_of_csp_module_suffice(overrides):
    with override_settings(**overrides):
        assert set(_NEEDS) == set(csp_directives())
        policy = {"default-src": ["'none'"], **csp_directives()}
        assert ids(check_policies, SECURE_CSP=policy) == []


@pytest.mark.parametrize(
    "overrides",
    [
        {"SECURE_CSP": "default-src 'none'"},
        {"CONTENT_SECURITY_POLICY": "default-src 'none'"},
        {"CONTENT_SECURITY_POLICY": {"DIRECTIVES": "default-src 'none'"}},
        {"PERMISSIONS_POLICY": "clipboard-write=()"},
    ],
    ids=str,
)
def test_policy_that_is_not_a_mapping_is_ignored(overrides):
    assert ids(check_policies, **overrides) == []


def test_failing_static_files_storage_does_not_hide_other_checks():
    assert ids(check_policies, SECURE_CSP={"default-src": ["'none'"]}, STATIC_URL=None) == []


def test_policy_is_checked_before_static_files_are_collected(tmp_path):
    overrides = {**static_files("ManifestStaticFilesStorage"), "STATIC_ROOT": tmp_path}

    assert ids(check_policies, SECURE_CSP=policy(frame_src=["'none'"]), **overrides) == ["W012"]


@pytest.mark.parametrize(
    ("directives", "hint"),
    [
        ({"frame-src": "'none'"}, f"Add to frame-src: 'self' {ORIGIN}."),
        ({"child-src": ["'self'"], "frame-src": None}, f"Add to child-src: {ORIGIN}."),
        ({"frame-src": None}, f"Add to frame-src: 'self' {ORIGIN}."),
        ({"script-src-elem": ["'none'"]}, "Add to script-src-elem: 'self'."),
    ],
)
def test_hint_names_the_effective_directive(directives, hint):
    with override_settings(SECURE_CSP=policy(**directives)):
        (message,) = check_policies()

    assert str(message.hint).endswith(hint)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, []),
        ({"camera": []}, []),
        ({"microphone": "*", "fullscreen": ["*"]}, []),
        ({"microphone": ["self", ORIGIN], "fullscreen": "*"}, []),
        ({"microphone": []}, [f"'microphone': 'self', '{ORIGIN}'."]),
        ({"microphone": "none"}, [f"'microphone': 'self', '{ORIGIN}'."]),
        (
            {"microphone": [ORIGIN], "fullscreen": "self"},
            [f"'fullscreen': '{ORIGIN}'.", "'microphone': 'self'."],
        ),
    ],
    ids=str,
)
def test_permissions_policy(given, missing):
    with override_settings(PERMISSIONS_POLICY=given):
        messages = check_policies()

    assert [message.id for message in messages] == ["django_examplary.W024"] * len(missing)
    assert [str(message.hint).partition("Add to ")[2] for message in messages] == missing


# URLs


page = View.as_view()


ours = path("examplary/", include("django_examplary.urls"))
login = path("accounts/login/", page, name="login")


class OnlyOurs:
    urlpatterns = [ours]


class Parameter:
    urlpatterns = [login, path("<slug:school>/", include("django_examplary.urls"))]


class Instance:
    urlpatterns = [
        login,
        path("one/", include("django_examplary.urls", namespace="one")),
        path("two/", include("django_examplary.urls", namespace="two")),
    ]


class Localised:
    urlpatterns = [ours, *i18n_patterns(login)]


class Shadowed:
    urlpatterns = [login, re_path("^.*$", page), ours]


class Above:
    urlpatterns = [login, ours, re_path("^.*$", page)]


@pytest.mark.parametrize(
    ("urls", "expected"),
    [
        (None, []),
        ("tests.settings", []),  # Not a URLconf.
        ("django.contrib.auth.urls", ["W019"]),
        (OnlyOurs, ["W023"]),
        (Parameter, ["E010"]),
        (Instance, []),
        (Localised, []),  # LocaleMiddleware redirects to the language.
        (Shadowed, ["E008"]),
        (Above, []),
    ],
)
def test_urls(urls, expected):
    assert ids(check_urls, ROOT_URLCONF=urls) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"SESSION_COOKIE_PATH": "/examplary", "CSRF_COOKIE_PATH": "/examplary/"}, []),
        ({"SESSION_COOKIE_PATH": "/exam"}, ["W021"]),
        ({"SESSION_COOKIE_PATH": "/app/", "CSRF_COOKIE_PATH": "/app/"}, ["W021", "W021"]),
        ({"CSRF_COOKIE_PATH": "/app/"}, ["W021"]),
        ({"CSRF_COOKIE_PATH": "/app/", "CSRF_USE_SESSIONS": True}, []),
    ],
    ids=str,
)
def test_cookie_paths(overrides, expected):
    assert ids(check_urls, **overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"LOGIN_URL": "login"}, []),
        ({"LOGIN_URL": "/accounts/login/?theme=dark"}, []),
        ({"LOGIN_URL": "/accounts/login"}, []),
        ({"LOGIN_URL": "/accounts/login", "APPEND_SLASH": False}, ["W023"]),
        ({"LOGIN_URL": "https://login.school.example/"}, []),
        ({"LOGIN_URL": "//login.school.example/"}, []),
        ({"LOGIN_URL": "/login/"}, ["W023"]),
        ({"LOGIN_URL": "nowhere"}, ["W023"]),
        ({"LOGIN_URL": "no:where"}, ["W023"]),
        ({"LOGIN_URL": "https://[login/"}, ["W023"]),
        ({"LOGIN_URL": ""}, ["W023"]),
        ({"LOGIN_URL": None}, ["W023"]),
    ],
    ids=str,
)
def test_login_url(overrides, expected):
    assert ids(check_urls, **overrides) == expected


def locmem(source: str, **options: object) -> dict[str, object]:
    loader = "django.template.loaders.locmem.Loader"
    return {"loaders": [(loader, {"django_examplary/embed.html": source})], **options}


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({"BACKEND": JINJA2, "APP_DIRS": True}, ["E006"]),
        ({"BACKEND": DJANGO}, ["E006"]),
        ({"BACKEND": DJANGO, "APP_DIRS": True}, []),
        ({"BACKEND": DJANGO, "APP_DIRS": True, "OPTIONS": {"autoescape": False}}, ["W011"]),
        ({"BACKEND": DJANGO, "OPTIONS": locmem("An embed.")}, []),
        ({"BACKEND": DJANGO, "OPTIONS": locmem("{% nonsense %}")}, []),
    ],
    ids=str,
)
def test_templates(engine, expected):
    assert ids(check_urls, TEMPLATES=[engine]) == expected


def test_template_of_another_engine_passes(tmp_path):
    folder = tmp_path / "django_examplary"
    folder.mkdir()
    (folder / "embed.html").write_text("An embed.")

    assert ids(check_urls, TEMPLATES=[{"BACKEND": JINJA2, "DIRS": [tmp_path]}]) == []


def test_templates_are_not_needed_without_urls():
    assert ids(check_urls, TEMPLATES=[], ROOT_URLCONF=None) == []
    assert ids(check_urls, TEMPLATES=[], ROOT_URLCONF="django.contrib.auth.urls") == ["W019"]


# The database


@pytest.mark.django_db
def test_unapplied_migration_is_reported(monkeypatch):
    assert check_migrations(databases=["default"]) == []
    assert check_migrations() == []

    monkeypatch.setattr(MigrationExecutor, "migration_plan", lambda *args: ["0002"])
    (message,) = check_migrations(databases=["default"])
    assert message.id == "django_examplary.W025"
    assert message.hint == "Run: python manage.py migrate --database default"

    monkeypatch.setattr(sys, "argv", ["manage.py", "migrate"])
    assert check_migrations(databases=["default"]) == []


class NotOurs:
    """A router that keeps this app's tables off a database."""

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool | None:
        return False if app_label == ExamplaryActor._meta.app_label else None


def test_database_without_our_tables_is_not_queried():
    with override_settings(DATABASE_ROUTERS=[NotOurs()]):
        assert check_migrations(databases=[connection.alias]) == []


# Registration


@override_settings(EXAMPLARY_API_KEY="")
def test_is_registered_as_a_security_check():
    assert "django_examplary.W002" in [message.id for message in run_checks(tags=[Tags.security])]


@override_settings(
    EXAMPLARY_API_KEY="",
    SESSION_COOKIE_SAMESITE="None",
    TEMPLATES=[],
    SECURE_CSP=policy(frame_src=[]),
)
def test_all_checks_have_the_tag_of_the_app():
    messages = run_checks(tags=["django_examplary"])

    assert {message.id.partition(".")[2] for message in messages} == {
        "W002",
        "W010",
        "W012",
        "E006",
    }
    # The tag of Django for checks of new versions.
    assert "django_examplary." not in str(run_checks(tags=[Tags.compatibility]))


@pytest.mark.django_db
def test_check_command_passes():
    stderr = StringIO()

    call_command("check", databases=["default"], stderr=stderr)

    assert "django_examplary." not in stderr.getvalue()


@pytest.mark.django_db
@override_settings(EXAMPLARY_API_KEY="a key")
def test_check_command_fails():
    with pytest.raises(CommandError, match=r"django_examplary\.E002"):
        call_command("check")


@pytest.mark.django_db
@override_settings(EXAMPLARY_API_KEY="examp_0123")
def test_check_command_warns():
    stderr = StringIO()

    call_command("check", stderr=stderr)

    assert "django_examplary.W001" in stderr.getvalue()
