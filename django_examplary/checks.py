"""System checks: what would break, said at start-up and not by a blank frame.

Registered by the app. They read settings and ask the storage of static files for an address; they
query no database. Every id is used once and kept for ever; `docs/checks.md` lists them.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning  # noqa: A004  # Django's names
from django.core.exceptions import ImproperlyConfigured
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.urls import NoReverseMatch, reverse

from django_examplary.client.connections import checked_key
from django_examplary.conf import PRODUCTION_ORIGINS, Settings, conf
from django_examplary.embeds import csp_directives
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryEmbedURLError
from django_examplary.origins import PRODUCTION_URL, checked_url, is_origin
from django_examplary.services.sessions import checked_embed


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Look at each of our own settings."""
    return [*_unknown_names(), *(_unusable() or _values())]


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Look for what is only right while developing. Tests run without DEBUG, but against a fake."""
    if _unusable():
        return []
    try:
        url = checked_url(conf.EXAMPLARY_API_URL)
    except ExamplaryConfigurationError:
        return []  # It is none, as another check says.
    if not url.startswith("http:"):
        return []
    return [
        Error(
            "EXAMPLARY_API_URL points to this machine.",
            hint=f"Is a fake running in production? Examplary's own is {PRODUCTION_URL}.",
            id="django_examplary.E005",
        )
    ]


def check_project(**kwargs: Any) -> list[CheckMessage]:
    """Look at what the rest of the project has to bring along."""
    return [*_missing_apps(), *_missing_middleware(), *_missing_request(), *_policies()]


def check_urls(**kwargs: Any) -> list[CheckMessage]:
    """Look whether the frame has somewhere to go, and what is shown there a template."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []  # A project without pages.
    try:
        reverse("django_examplary:launch", args=["token"])
    except NoReverseMatch:
        return [
            Error(
                "The URLs of django_examplary are not included.",
                hint="Add path('examplary/', include('django_examplary.urls')) to the root URLs.",
                id="django_examplary.E008",
            )
        ]
    except ImproperlyConfigured:
        return []  # The URLconf is none, as Django's own checks say.
    return list(_missing_templates())


def _names() -> list[str]:
    return [name for name, _ in inspect.getmembers(Settings, lambda it: isinstance(it, property))]


def _unknown_names() -> Iterator[CheckMessage]:
    known = _names()
    for name in sorted({*dir(settings), *os.environ}):
        if name.startswith("EXAMPLARY_") and name not in known:
            alike = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            yield Warning(
                f"There is no setting {name}.",
                hint=f"Did you mean {alike[0]}?" if alike else f"There are: {', '.join(known)}.",
                id="django_examplary.W003",
            )


def _unusable() -> list[CheckMessage]:
    """Settings that raise, so that nothing else can be said of them."""
    messages: list[CheckMessage] = []
    for name in _names():
        try:
            getattr(conf, name)
        except ExamplaryConfigurationError as error:
            messages.append(
                Error(f"{name} cannot be used.", hint=str(error), id="django_examplary.E001")
            )
    return messages


def _values() -> Iterator[CheckMessage]:
    yield from _api_key()
    yield from _api_url()
    yield from _origins()
    yield from _numbers()


def _api_key() -> Iterator[CheckMessage]:
    if not conf.EXAMPLARY_API_KEY:
        yield Warning(
            "EXAMPLARY_API_KEY is not set.",
            hint="Embeds show that they are not set up yet. Make a key, better an admin's, at "
            "https://app.examplary.ai/account/developer.",
            id="django_examplary.W002",
        )
        return
    try:
        key = checked_key(conf.EXAMPLARY_API_KEY)
    except ExamplaryConfigurationError as error:
        yield Error("EXAMPLARY_API_KEY is malformed.", hint=str(error), id="django_examplary.E002")
        return
    if not re.fullmatch(r"examp_[A-Za-z0-9]{32}", key):
        yield Warning(
            "EXAMPLARY_API_KEY does not look like an Examplary API key.",
            hint="Keys seen so far are examp_ and 32 letters or digits. Copy it again from "
            "https://app.examplary.ai/account/developer.",
            id="django_examplary.W001",
        )


def _api_url() -> Iterator[CheckMessage]:
    try:
        url = checked_url(conf.EXAMPLARY_API_URL)
    except ExamplaryConfigurationError as error:
        yield Error(
            "EXAMPLARY_API_URL is not safe to send the API key to.",
            hint=str(error),
            id="django_examplary.E003",
        )
        return
    if url != PRODUCTION_URL and tuple(conf.EXAMPLARY_EMBED_ORIGINS) == PRODUCTION_ORIGINS:
        yield Warning(
            "EXAMPLARY_API_URL is not the production API, but EXAMPLARY_EMBED_ORIGINS lists its "
            "embeds only.",
            hint="Embeds of another API come from another origin, and are refused until it is "
            "listed.",
            id="django_examplary.W006",
        )
    if url == PRODUCTION_URL and conf.EXAMPLARY_PRERELEASE_FLOWS:
        yield Warning(
            "EXAMPLARY_PRERELEASE_FLOWS is on with the production API.",
            hint="take-exam was only available on Examplary's staging API when this release was "
            "made. Leave the setting out until Examplary tells you otherwise.",
            id="django_examplary.W004",
        )


def _origins() -> Iterator[CheckMessage]:
    for origin in conf.EXAMPLARY_EMBED_ORIGINS:
        if not is_origin(origin):
            yield _no_origin("EXAMPLARY_EMBED_ORIGINS", origin)
        elif not _is_taken(origin):
            yield Warning(
                f"EXAMPLARY_EMBED_ORIGINS holds {origin!r}, and http is only taken from this "
                "machine, while DEBUG is on.",
                hint="Use https.",
                id="django_examplary.W005",
            )
    origin = conf.EXAMPLARY_SITE_ORIGIN
    if origin and not _SITE_ORIGIN.fullmatch(origin):
        yield _no_origin("EXAMPLARY_SITE_ORIGIN", origin)
    elif origin.startswith("http:") and not settings.DEBUG:
        yield Warning(
            f"EXAMPLARY_SITE_ORIGIN is {origin!r}, and DEBUG is off.",
            hint="Browsers come back to this site without encryption. Use https.",
            id="django_examplary.W005",
        )
    if not conf.EXAMPLARY_EMBED_ORIGINS:
        yield Error(
            "EXAMPLARY_EMBED_ORIGINS is empty, so every embed is refused.",
            hint="Leave it out for Examplary's own, or list your workspace's domain.",
            id="django_examplary.E009",
        )
    if origin and origin in conf.EXAMPLARY_EMBED_ORIGINS:
        yield Warning(
            "EXAMPLARY_SITE_ORIGIN is one of EXAMPLARY_EMBED_ORIGINS.",
            hint="The first is where this site is, the others are where embeds come from. An "
            "embed with the origin of this site could do all that its user can.",
            id="django_examplary.W018",
        )
    if not conf.EXAMPLARY_SITE_ORIGIN and "*" in settings.ALLOWED_HOSTS and not settings.DEBUG:
        yield Warning(
            "ALLOWED_HOSTS takes every host, and EXAMPLARY_SITE_ORIGIN is not set.",
            hint="The origin that embeds report to is taken from the request then, and a request "
            "can name any host. Set EXAMPLARY_SITE_ORIGIN = 'https://school.example'.",
            id="django_examplary.W007",
        )


#: An origin as this site may have it, which nobody looks for.
_SITE_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[\da-f:.]+\])(:\d+)?")


def _no_origin(name: str, origin: str) -> Error:
    return Error(
        f"{name} holds {origin!r}, which is not an origin.",
        hint="Write scheme, host and port only, in lower case and without a slash at the end: "
        "'https://app.examplary.ai'.",
        id="django_examplary.E004",
    )


def _is_taken(origin: str) -> bool:
    try:
        return checked_embed(origin) == origin
    except ExamplaryEmbedURLError:
        return False


def _numbers() -> Iterator[CheckMessage]:
    bad = False
    for name, least in (
        ("EXAMPLARY_TIMEOUT", 0.001),
        ("EXAMPLARY_DEADLINE", 0.001),
        ("EXAMPLARY_MAX_RETRIES", 0),
        ("EXAMPLARY_LAUNCH_MAX_AGE", 1),
        ("EXAMPLARY_RETENTION", 0),
    ):
        value = getattr(conf, name)
        if value is not None and not least <= value < math.inf:
            bad = True
            yield Error(
                f"{name} is {value!r}.",
                hint="Give a positive number." if least else "Give a number, 0 or more.",
                id="django_examplary.E007",
            )
    if not bad and conf.EXAMPLARY_DEADLINE < conf.EXAMPLARY_TIMEOUT:
        yield Warning(
            "EXAMPLARY_DEADLINE is shorter than EXAMPLARY_TIMEOUT, which then never counts.",
            hint="The deadline is for a whole call, the timeout for each wait in it.",
            id="django_examplary.W008",
        )


def _missing_apps() -> Iterator[CheckMessage]:
    for app in ("django.contrib.auth", "django.contrib.sessions", "django.contrib.staticfiles"):
        if not apps.is_installed(app):
            yield Error(
                f"django_examplary needs {app}.",
                hint=f"Add {app!r} to INSTALLED_APPS.",
                id="django_examplary.E010",
            )


def _missing_middleware() -> Iterator[CheckMessage]:
    for middleware in (
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ):
        name = middleware.rpartition(".")[2]
        # A project may have a subclass of its own, which is commonly called alike.
        if not any(name in installed for installed in settings.MIDDLEWARE):
            yield Error(
                f"django_examplary needs {name}.",
                hint=f"Add {middleware!r} to MIDDLEWARE.",
                id="django_examplary.E011",
            )


def _missing_templates() -> Iterator[CheckMessage]:
    try:
        get_template("django_examplary/embed.html")
    except TemplateDoesNotExist:
        yield Error(
            "No template engine finds the templates of django_examplary.",
            hint="They are for Django's own engine, also where yours are for Jinja2. Add to "
            "TEMPLATES: {'BACKEND': 'django.template.backends.django.DjangoTemplates', "
            "'APP_DIRS': True}.",
            id="django_examplary.E006",
        )
    except TemplateSyntaxError:
        pass  # A project's own, which is there.


def _missing_request() -> Iterator[CheckMessage]:
    processor = "django.template.context_processors.request"
    templates: Iterable[Mapping[str, Any]] = settings.TEMPLATES
    engines = [
        engine
        for engine in templates
        if engine.get("BACKEND") == "django.template.backends.django.DjangoTemplates"
    ]
    if engines and not any(
        processor in engine.get("OPTIONS", {}).get("context_processors", ()) for engine in engines
    ):
        yield Warning(
            "No template engine puts the request into its contexts.",
            hint=f"The Examplary tags need it. Add {processor!r} to the context processors.",
            id="django_examplary.W009",
        )


def _policies() -> Iterator[CheckMessage]:
    if settings.SESSION_COOKIE_SAMESITE == "None" and not settings.SESSION_COOKIE_SECURE:
        yield Warning(
            "SESSION_COOKIE_SAMESITE is 'None' without SESSION_COOKIE_SECURE.",
            hint="Browsers drop such a cookie, so the frame finds nobody signed in.",
            id="django_examplary.W010",
        )
    if settings.X_FRAME_OPTIONS.upper() not in ("DENY", "SAMEORIGIN"):
        yield Warning(
            f"X_FRAME_OPTIONS is {settings.X_FRAME_OPTIONS!r}, which browsers ignore.",
            hint="The pages that hold an embed can be framed by any site. Use 'DENY'.",
            id="django_examplary.W011",
        )
    if _unusable():
        return  # Nothing can be said of what a policy must allow.
    for name, policy in _content_security_policies():
        for need in _needs():
            names = [f"{need.directive}-elem", need.directive, *need.fallbacks]
            # The first that the policy has is the one that counts.
            directive = next((each for each in names if each in policy), None)
            if directive is None:
                continue
            given = policy[directive]
            missing = [source for source in need.sources if not need.is_met(source, given)]
            if missing:
                place = need.directive if directive == "default-src" else directive
                yield Warning(
                    f"{name} does not let {need.what}.",
                    hint=f"{need.why} Add to {place}: {' '.join(missing)}.",
                    id=need.id,
                )


@dataclass(frozen=True, kw_only=True)
class _Need:
    """What a Content-Security-Policy has to allow."""

    id: str
    directive: str
    fallbacks: tuple[str, ...] = ()
    sources: list[str]
    what: str
    why: str
    #: The tag that asks for it, if that has the page's nonce.
    tag: str = ""

    def is_met(self, source: str, given: set[str]) -> bool:
        if self.tag and any(each.startswith(_NONCES) for each in given):
            return True
        if self.tag == "script" and "'strict-dynamic'" in given:
            return False  # Browsers look at nonces and hashes only then.
        return _allows(given, source)


def _needs() -> Iterator[_Need]:
    try:
        directives = csp_directives()
    except Exception:
        # What a storage of static files raises is its own affair. It is not known then what to look
        # for.
        return
    yield _Need(
        id="django_examplary.W012",
        directive="frame-src",
        fallbacks=("child-src", "default-src"),
        sources=directives["frame-src"],
        what="pages frame the embeds",
        why="The frame starts at this site and goes on to the embed.",
    )
    yield _Need(
        id="django_examplary.W013",
        directive="frame-ancestors",
        sources=directives["frame-ancestors"],
        what="this site frame its own pages",
        why="An embed that cannot start shows a page of ours, and that would be blank.",
    )
    yield _Need(
        id="django_examplary.W014",
        directive="script-src",
        fallbacks=("default-src",),
        sources=directives["script-src"],
        what="pages load the script of the embeds",
        why="Without it results come with the sweep only.",
        tag="script",
    )
    yield _Need(
        id="django_examplary.W015",
        directive="style-src",
        fallbacks=("default-src",),
        sources=directives["style-src"],
        what="pages load the stylesheet of the embeds",
        why="Without it they look broken.",
        tag="link",
    )
    yield _Need(
        id="django_examplary.W016",
        directive="connect-src",
        fallbacks=("default-src",),
        sources=directives["connect-src"],
        what="the script of the embeds ask this site for the result",
        why="Results come with the sweep only then.",
    )
    yield _Need(
        id="django_examplary.W017",
        directive="form-action",
        sources=directives["form-action"],
        what="the buttons of the embeds post to this site",
        why="Without the script they are forms.",
    )


def _content_security_policies() -> Iterator[tuple[str, dict[str, set[str]]]]:
    """The sources by directive, by setting: of Django 6 and of django-csp 4."""
    for name in ("SECURE_CSP", "SECURE_CSP_REPORT_ONLY"):
        if policy := getattr(settings, name, None):
            yield name, _read_policy(policy)
    for name in ("CONTENT_SECURITY_POLICY", "CONTENT_SECURITY_POLICY_REPORT_ONLY"):
        django_csp: Mapping[str, Any] = getattr(settings, name, None) or {}
        if directives := django_csp.get("DIRECTIVES"):
            yield name, _read_policy(directives)


def _read_policy(policy: Mapping[str, Any]) -> dict[str, set[str]]:
    read = {}
    for directive, sources in policy.items():
        if sources is None or sources is False:
            continue  # As if it was not there.
        each = [] if sources is True else sources.split() if isinstance(sources, str) else sources
        read[directive] = {str(source).lower() for source in each}
    return read


#: How nonces begin, and what stands for them in the settings of Django and of django-csp.
_NONCES = ("'nonce-", "<csp_nonce", "csp.constants.nonce")

#: A host, perhaps with a scheme before it, and with a port and a path after it.
_HOST_SOURCE = re.compile(r"(?:(https?)://)?([\w.*-]+|\[[\da-f:]+\])(?::(\d+|\*))?(?:/.*)?")

_PORTS = {"http": "80", "https": "443"}


def _allows(sources: set[str], wanted: str) -> bool:
    """Whether one of the sources matches an origin, or this site, as browsers match them."""
    if wanted == "'self'":
        # While nobody knows the origin of this site, what matches any host matches it.
        own = conf.EXAMPLARY_SITE_ORIGIN or "https://unknown.invalid"
        return wanted in sources or _allows(sources, own)
    return any(_matches(source, wanted) for source in sources)


def _matches(source: str, origin: str) -> bool:
    given, wanted = _HOST_SOURCE.fullmatch(source), _HOST_SOURCE.fullmatch(origin)
    if wanted is None:
        return True  # No origin, as another check says.
    scheme, host, port = wanted.groups()
    # A source for http is one for https too.
    if source in ("*", "http:", f"{scheme}:"):
        return True
    if given is None or given[1] not in (None, "http", scheme):
        return False
    default = _PORTS.get(scheme)
    return (given[2] in ("*", host) or (given[2][:2] == "*." and host.endswith(given[2][1:]))) and (
        (given[3] or default) in ("*", port or default)
    )
