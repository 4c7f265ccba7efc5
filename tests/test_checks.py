from __future__ import annotations

from io import StringIO

import pytest
from csp.constants import NONCE
from django.apps import apps
from django.conf import settings
from django.core.checks import Tags, run_checks
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_examplary import checks
from django_examplary.checks import (
    check_deployment,
    check_project,
    check_settings,
    check_urls,
)
from django_examplary.csp import csp_directives
from django_examplary.exceptions import ExamplaryEmbedURLError
from django_examplary.services.sessions import checked_embed

API_KEY = "examp_0123456789abcdefghijklmnopqrstuv"
DJANGO = "django.template.backends.django.DjangoTemplates"
JINJA2 = "django.template.backends.jinja2.Jinja2"
MIDDLEWARE = settings.MIDDLEWARE
API_URL = "https://api.examplary.ai"
TRUSTED = "https://app.examplary.ai"


def ids(check, **overrides: object) -> list[str]:
    with override_settings(**overrides):
        return [(message.id or "").removeprefix("django_examplary.") for message in check()]


@pytest.mark.parametrize("check", [check_settings, check_deployment, check_project, check_urls])
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
                "EXAMPLARY_EMBED_ORIGINS": (TRUSTED,),
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
        ({"EXAMPLARY_EMBED_ORIGINS": TRUSTED}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{TRUSTED}/"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{TRUSTED}/embeds"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["https://App.examplary.ai"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": ["app.examplary.ai", "*"]}, ["E004", "E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{TRUSTED}@evil.example"]}, ["E004"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [f"{TRUSTED}; script-src *"]}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://school.example/"}, []),
        ({"EXAMPLARY_SITE_ORIGIN": "school.example"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://school.example/exams"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://:::"}, ["E004"]),
        ({"EXAMPLARY_SITE_ORIGIN": "https://[2001:db8::1]:8443"}, []),
        ({"EXAMPLARY_SITE_ORIGIN": "http://school.example"}, ["W005"]),
        ({"EXAMPLARY_SITE_ORIGIN": "http://school.example", "DEBUG": True}, []),
        ({"EXAMPLARY_API_KEY": "", "EXAMPLARY_SITE_ORIGIN": "x"}, ["W002", "E004"]),
        (
            {
                "EXAMPLARY_SITE_ORIGIN": "https://school.example",
                "EXAMPLARY_EMBED_ORIGINS": [TRUSTED, "https://school.example"],
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
        ({"EXAMPLARY_EMBED_ORIGINS": {TRUSTED}}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": [TRUSTED, None]}, ["E001"]),
        ({"EXAMPLARY_EMBED_ORIGINS": (TRUSTED,)}, []),
        ({"EXAMPLARY_REVOKE_ON_COMPLETION": "false"}, ["E001"]),
        ({"EXAMPLARY_REVOKE_ON_LOGOUT": "false"}, ["E001"]),
        ({"EXAMPLARY_PRERELEASE_FLOWS": 0}, ["E001"]),
        ({"EXAMPLARY_LOCALES": "nb=no"}, ["E001"]),
        ({"EXAMPLARY_LOCALES": {"nb": None}}, ["E001"]),
        ({"EXAMPLARY_LOCALES": {"nb": "no"}}, []),
        ({"EXAMPLARY_ACTOR_PROFILE": 5}, ["E001"]),
        ({"EXAMPLARY_ACTOR_PROFILE": f"{__name__}.API_KEY"}, ["E001"]),
        ({"EXAMPLARY_ACTOR_PROFILE": repr}, []),
        ({"EXAMPLARY_THEME": ["locale"]}, ["E001"]),
        ({"EXAMPLARY_THEME": {"locale": "nl"}}, []),
        ({"EXAMPLARY_TIMEOUT": 0}, ["E007"]),
        ({"EXAMPLARY_TIMEOUT": "10"}, ["E001"]),
        ({"EXAMPLARY_TIMEOUT": True}, ["E001"]),
        ({"EXAMPLARY_DEADLINE": float("inf")}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": float("nan")}, ["E007"]),
        ({"EXAMPLARY_DEADLINE": 0, "EXAMPLARY_RETENTION": -1}, ["E007", "E007"]),
        ({"EXAMPLARY_DEADLINE": -1}, ["E007"]),
        ({"EXAMPLARY_MAX_RETRIES": -1}, ["E007"]),
        ({"EXAMPLARY_MAX_RETRIES": 0, "EXAMPLARY_RETENTION": 0}, []),
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
def test_a_fake_is_nothing_to_deploy(url, expected):
    assert ids(check_deployment, EXAMPLARY_API_URL=url) == expected
    with override_settings(EXAMPLARY_API_URL=url):
        told = run_checks(tags=["django_examplary"])
        deployed = run_checks(tags=["django_examplary"], include_deployment_checks=True)
    assert [message.id for message in told if message.id == "django_examplary.E005"] == []
    assert len(deployed) - len(told) == len(expected)


def test_unknown_names_are_told_in_order():
    names = [f"EXAMPLARY_{letter}" for letter in "HGFEDCBA"]
    with override_settings(**dict.fromkeys(names, 1)):
        messages = check_settings()

    assert [message.msg[-2] for message in messages] == list("ABCDEFGH")


@pytest.mark.parametrize("name", checks._names())
@pytest.mark.parametrize(
    "value",
    ["", "x", ".", b"x", 5, -1, True, float("nan"), [], [5], (None,), {}, {5: 5}, {"x"}, ...],
    ids=repr,
)
def test_no_value_is_too_odd_to_be_told_of(name, value):
    policy = {"SECURE_CSP": {"default-src": ["'none'"]}}
    with override_settings(**policy, **{name: value}):
        messages = check_settings() + check_deployment() + check_project() + check_urls()

    if value is ...:
        assert [message.msg for message in messages if name in message.msg] != []


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize(
    ("origin", "told"),
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
def test_origin_is_told_of_where_its_embeds_are_refused(origin, told, debug):
    overrides = {"DEBUG": debug, "EXAMPLARY_EMBED_ORIGINS": [origin]}

    assert ids(check_settings, **overrides) == told
    with override_settings(**overrides):
        try:
            refused = checked_embed(f"{origin}/embeds/x") != origin
        except ExamplaryEmbedURLError:
            refused = True
    assert refused is bool(told)


def test_nothing_is_said_to_refuse_a_site_that_is_http():
    with override_settings(EXAMPLARY_SITE_ORIGIN="http://school.example"):
        (message,) = check_settings()

    assert message.msg == "EXAMPLARY_SITE_ORIGIN is 'http://school.example', and DEBUG is off."


def test_value_of_a_wrong_type_is_not_quoted():
    with override_settings(EXAMPLARY_API_KEY=[API_KEY]):
        (message,) = check_settings()

    assert message.hint == "EXAMPLARY_API_KEY must be a text."
    assert API_KEY not in str(message)


def test_typo_in_the_environment_is_found(monkeypatch):
    monkeypatch.setenv("EXAMPLARY_EMBED_ORIGIN", TRUSTED)
    monkeypatch.setenv("EXAMPLARY_QQQQQQQQ", "")
    close, far = check_settings()
    assert close.hint == "Did you mean EXAMPLARY_EMBED_ORIGINS?"
    assert far.hint.startswith("There are: EXAMPLARY_ACTOR_PROFILE, ")


def policy(**directives):
    """A policy that lets everything of ours through, but for what is given."""
    return {
        "default-src": ["'none'"],
        "frame-src": ["'self'", TRUSTED],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "connect-src": ["'self'"],
        **{name.replace("_", "-"): value for name, value in directives.items()},
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if "Session" not in m]}, ["E011"]),
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if ".Authentication" not in m]}, ["E011"]),
        ({"MIDDLEWARE": [m for m in MIDDLEWARE if "Csrf" not in m]}, ["E011"]),
        ({"TEMPLATES": [{"BACKEND": DJANGO}]}, ["W009"]),
        ({"TEMPLATES": [{"BACKEND": JINJA2}]}, []),
        ({"SESSION_COOKIE_SAMESITE": "None"}, ["W010"]),
        ({"SESSION_COOKIE_SAMESITE": "None", "SESSION_COOKIE_SECURE": True}, []),
        ({"SESSION_COOKIE_SAMESITE": "Strict"}, []),
        ({"X_FRAME_OPTIONS": "ALLOW-FROM https://x.example"}, ["W011"]),
        ({"SECURE_CSP": policy()}, []),
        ({"SECURE_CSP": policy(frame_src=["*"])}, []),
        ({"SECURE_CSP": policy(frame_src=["'self'", "https:"])}, []),
        ({"SECURE_CSP": policy(frame_src=["https:"])}, []),
        ({"SECURE_CSP": policy(frame_src=["http:"])}, []),
        ({"SECURE_CSP": policy(frame_src=["http://*:*"])}, []),
        ({"SECURE_CSP": policy(frame_src=["'SELF'", "https://*.Examplary.ai"])}, []),
        ({"SECURE_CSP": policy(frame_src=["'self'", "*.examplary.ai:443/embeds/"])}, []),
        ({"SECURE_CSP": policy(frame_src=f"'self' {TRUSTED}:*")}, []),
        ({"SECURE_CSP": policy(frame_src=["'self'", "https://*.app.examplary.ai"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'", "https://*.ai.example"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'", "https://evil-examplary.ai"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'", f"{TRUSTED}:8443"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'", "wss:", "data:"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=["'self'", "'nonce-abc'"])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=[TRUSTED])}, ["W012"]),
        (
            {
                "SECURE_CSP": policy(frame_src=[TRUSTED, "https://*.school.example"]),
                "EXAMPLARY_SITE_ORIGIN": "https://www.school.example",
            },
            [],
        ),
        (
            {
                "SECURE_CSP": policy(frame_src=["'self'", "https://127.0.0.1:8001"]),
                "EXAMPLARY_EMBED_ORIGINS": ["http://127.0.0.1:8001"],
            },
            ["W012"],
        ),
        ({"SECURE_CSP": policy(), "EXAMPLARY_EMBED_ORIGINS": ["no origin"]}, []),
        ({"SECURE_CSP": policy(frame_src="'none'")}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=True)}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=None)}, ["W012"]),
        ({"SECURE_CSP": policy(frame_src=None, default_src=["*"])}, []),
        ({"SECURE_CSP": {"default-src": ["'self'"]}}, ["W012"]),
        ({"SECURE_CSP": {"img-src": ["'self'"]}}, []),
        ({"SECURE_CSP_REPORT_ONLY": policy(frame_src=[])}, ["W012"]),
        ({"SECURE_CSP": policy(frame_ancestors=["'none'"])}, ["W013"]),
        ({"SECURE_CSP": policy(frame_ancestors=["https://portal.example"])}, ["W013"]),
        ({"SECURE_CSP": policy(frame_ancestors=["'self'"])}, []),
        ({"SECURE_CSP": policy(script_src=["https://cdn.example"])}, ["W014"]),
        ({"SECURE_CSP": policy(script_src_elem=["'none'"])}, ["W014"]),
        ({"SECURE_CSP": policy(script_src=["'nonce-abc'"])}, []),
        ({"SECURE_CSP": policy(script_src=["<CSP_NONCE_SENTINEL>", "'strict-dynamic'"])}, []),
        ({"SECURE_CSP": policy(script_src=["'sha256-abc'", "'strict-dynamic'", "*"])}, ["W014"]),
        ({"SECURE_CSP": policy(style_src=["'none'"])}, ["W015"]),
        ({"SECURE_CSP": policy(style_src=[NONCE])}, []),
        ({"SECURE_CSP": policy(connect_src=["'none'"])}, ["W016"]),
        ({"SECURE_CSP": policy(connect_src=None)}, ["W016"]),
        ({"SECURE_CSP": policy(connect_src=["https://api.school.example"])}, ["W016"]),
        ({"SECURE_CSP": policy(form_action=["'none'"])}, ["W017"]),
        ({"SECURE_CSP": policy(form_action=["'self'"])}, []),
        (
            {
                "STATIC_URL": "https://cdn.example/static/",
                "SECURE_CSP": policy(
                    script_src=["https://cdn.example"], style_src=["https://cdn.example"]
                ),
            },
            [],
        ),
        ({"CONTENT_SECURITY_POLICY": {"DIRECTIVES": policy(frame_src=["'self'"])}}, ["W012"]),
        ({"CONTENT_SECURITY_POLICY_REPORT_ONLY": {"DIRECTIVES": policy()}}, []),
    ],
    ids=str,
)
def test_project(overrides, expected):
    assert ids(check_project, **overrides) == expected


CDN = "https://cdn.example/static/"
STORAGE = "django.contrib.staticfiles.storage"


def static_files(storage: str, **options: object) -> dict[str, object]:
    each = {"BACKEND": f"{STORAGE}.{storage}", "OPTIONS": options}
    return {"STORAGES": {**settings.STORAGES, "staticfiles": each}}


@pytest.mark.parametrize(
    "overrides",
    [{}, {"STATIC_URL": CDN}, static_files("StaticFilesStorage", base_url=CDN)],
    ids=["here", "elsewhere", "elsewhere by the storage"],
)
def test_policy_is_looked_at_for_all_that_embeds_need(overrides):
    with override_settings(**overrides):
        assert {need.directive: need.sources for need in checks._needs()} == csp_directives()
        policy = {"default-src": ["'none'"], **csp_directives()}
        assert ids(check_project, SECURE_CSP=policy) == []


def test_static_files_that_are_nowhere_are_no_reason_to_fail():
    assert ids(check_project, SECURE_CSP={"default-src": ["'none'"]}, STATIC_URL=None) == []


def test_policy_is_looked_at_before_static_files_are_collected(tmp_path):
    overrides = {**static_files("ManifestStaticFilesStorage"), "STATIC_ROOT": tmp_path}

    assert ids(check_project, SECURE_CSP=policy(frame_src=["'none'"]), **overrides) == ["W012"]


@pytest.mark.parametrize(
    ("directives", "hint"),
    [
        ({"frame-src": "'none'"}, f"Add to frame-src: 'self' {TRUSTED}."),
        ({"child-src": ["'self'"], "frame-src": None}, f"Add to child-src: {TRUSTED}."),
        ({"frame-src": None}, f"Add to frame-src: 'self' {TRUSTED}."),
        ({"script-src-elem": ["'none'"]}, "Add to script-src-elem: 'self'."),
    ],
)
def test_hint_names_the_directive_that_counts(directives, hint):
    with override_settings(SECURE_CSP=policy(**directives)):
        (message,) = check_project()

    assert str(message.hint).endswith(hint)


@pytest.mark.parametrize("app", ["auth", "sessions", "staticfiles"])
def test_missing_app_is_named(monkeypatch, app):
    is_installed = apps.is_installed
    monkeypatch.setattr(
        apps, "is_installed", lambda name: not name.endswith(f".{app}") and is_installed(name)
    )
    (message,) = check_project()
    assert (message.id, message.msg) == (
        "django_examplary.E010",
        f"django_examplary needs django.contrib.{app}.",
    )


def test_missing_urls_are_found():
    assert ids(check_urls, ROOT_URLCONF="django.contrib.auth.urls") == ["E008"]
    assert ids(check_urls, ROOT_URLCONF="tests.settings") == []
    assert ids(check_urls, ROOT_URLCONF=None) == []


def locmem(source: str) -> dict[str, object]:
    loader = "django.template.loaders.locmem.Loader"
    return {"loaders": [(loader, {"django_examplary/embed.html": source})]}


@pytest.mark.parametrize(
    ("engine", "expected"),
    [
        ({"BACKEND": JINJA2, "APP_DIRS": True}, ["E006"]),
        ({"BACKEND": DJANGO}, ["E006"]),
        ({"BACKEND": DJANGO, "APP_DIRS": True}, []),
        ({"BACKEND": DJANGO, "OPTIONS": locmem("An embed.")}, []),
        ({"BACKEND": DJANGO, "OPTIONS": locmem("{% nonsense %}")}, []),
    ],
    ids=str,
)
def test_missing_templates_are_found(engine, expected):
    assert ids(check_urls, TEMPLATES=[engine]) == expected


def test_no_templates_are_needed_without_pages():
    assert ids(check_urls, TEMPLATES=[], ROOT_URLCONF=None) == []
    # The one message is enough.
    assert ids(check_urls, TEMPLATES=[], ROOT_URLCONF="django.contrib.auth.urls") == ["E008"]


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"EXAMPLARY_API_KEY": ""}, "https://app.examplary.ai/account/developer"),
        ({"EXAMPLARY_API_KEY": "examp 0123"}, "no blanks"),
        ({"EXAMPLARY_API_KEY": "examp_0123"}, "Copy it again"),
        ({"EXAMPLARY_API_URL": "http://api.examplary.ai"}, "must be an https URL"),
        ({"EXAMPLARY_EMBED_ORIGINS": TRUSTED}, "must be a list of texts"),
        ({"EXAMPLARY_SITE_ORIGIN": "school.example"}, "scheme, host and port only"),
    ],
    ids=str,
)
def test_hint_says_what_to_do(settings, hint):
    with override_settings(**settings):
        (message,) = check_settings()

    assert hint in str(message.hint)


@pytest.mark.parametrize("key", ["sk_live_canary", "sk live canary", "sk_live_canary\r\nHost: x"])
@override_settings(EXAMPLARY_API_URL="https://me:canary@api.examplary.ai")
def test_messages_are_free_of_secrets(key):
    with override_settings(EXAMPLARY_API_KEY=key):
        messages = check_settings()

    assert len(messages) == 2
    assert "canary" not in "".join(map(str, messages))


def test_origin_is_named_with_its_setting():
    with override_settings(EXAMPLARY_EMBED_ORIGINS=["app.examplary.ai"]):
        (message,) = check_settings()

    assert (
        message.msg == "EXAMPLARY_EMBED_ORIGINS holds 'app.examplary.ai', which is not an origin."
    )


@override_settings(EXAMPLARY_API_KEY="")
def test_is_registered_as_a_security_check():
    assert "django_examplary.W002" in [message.id for message in run_checks(tags=[Tags.security])]


@override_settings(EXAMPLARY_API_KEY="", X_FRAME_OPTIONS="", TEMPLATES=[])
def test_all_have_a_tag_of_their_own():
    messages = run_checks(tags=["django_examplary"])

    assert {message.id.partition(".")[2] for message in messages} == {"W002", "W011", "E006"}
    # Django's tag for what a new version of it asks for.
    assert "django_examplary." not in str(run_checks(tags=[Tags.compatibility]))


@pytest.mark.django_db
def test_check_command_passes():
    stderr = StringIO()

    call_command("check", stderr=stderr)

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
