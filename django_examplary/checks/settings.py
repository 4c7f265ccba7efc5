"""Checks of the EXAMPLARY_* settings."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.core import checks

from django_examplary.client.connections import checked_key
from django_examplary.conf import (
    ALIAS_LENGTH,
    PRODUCTION_ORIGINS,
    Settings,
    Workspace,
    conf,
    is_alias,
)
from django_examplary.data import Theme
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryValidationError
from django_examplary.origins import (
    PRODUCTION_URL,
    checked_url,
    is_https_or_loopback,
    is_loopback,
    is_origin,
    without_default_port,
)

NAMES = [name for name in vars(Settings) if name.startswith("EXAMPLARY_")]


def check_settings(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check every EXAMPLARY_* setting."""
    messages = [*_unknown_names(), *unusable_settings()]
    if not any(isinstance(message, checks.Error) for message in messages):
        for workspace in conf.usable_workspaces():
            messages += [*_api_key(workspace), *_api_url(workspace), *_embed_origins(workspace)]
        messages += [*_workspaces(), *_prerelease(), *_site_origin(), *_numbers()]
    return messages


def check_deployment(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check for settings that are only suitable for development."""
    # Tests run without DEBUG and use the fake, so this can't depend on DEBUG.
    try:
        workspaces = conf.usable_workspaces()
    except ExamplaryConfigurationError:
        return []  # Reported by E001.
    return [
        checks.Error(
            f"{workspace.setting('API_URL')} points to localhost.",
            hint=f"This looks like the fake API. The production API is {PRODUCTION_URL}.",
            id="django_examplary.E005",
        )
        for workspace in workspaces
        # E003 reports other addresses with http.
        if workspace.api_url.startswith("http:")
        and is_https_or_loopback(workspace.api_url, http_loopback=True)
    ]


def unusable_settings() -> list[checks.CheckMessage]:
    """Return an error for each unreadable setting. The other checks need all settings."""
    messages: list[checks.CheckMessage] = []
    for name in NAMES:
        try:
            value = getattr(conf, name)
            if name == "EXAMPLARY_THEME" and isinstance(value, Mapping):
                Theme.from_mapping(value)
            if name == "EXAMPLARY_WORKSPACES" and isinstance(value, Mapping):
                messages += _unusable_workspaces(value, {str(each.hint) for each in messages})
        except (ExamplaryConfigurationError, ExamplaryValidationError, TypeError) as error:
            # TypeError: a key of EXAMPLARY_THEME is not a string.
            messages.append(
                checks.Error(f"{name} is not valid.", hint=str(error), id="django_examplary.E001")
            )
    return messages


def _unusable_workspaces(
    workspaces: Mapping[Any, Any], known: Collection[str]
) -> Iterator[checks.CheckMessage]:
    """Yield an error for each alias that cannot be used; `known` are the hints of other errors."""
    for alias in workspaces:
        name, hint = f"EXAMPLARY_WORKSPACES[{alias!r}]", ""
        try:
            conf.get_workspace(alias)
        except ExamplaryConfigurationError as error:
            hint = str(error)
        if not is_alias(alias):
            hint = f"Write the alias as a string of 1 to {ALIAS_LENGTH} printable characters."
        if hint and hint not in known:
            yield checks.Error(f"{name} is not valid.", hint=hint, id="django_examplary.E001")


def _unknown_names() -> Iterator[checks.CheckMessage]:
    for name in sorted({*dir(settings), *os.environ}):
        if name.startswith("EXAMPLARY_") and name not in NAMES:
            similar = difflib.get_close_matches(name, NAMES, n=1, cutoff=0.8)
            yield checks.Warning(
                f"{name} is not a setting of django_examplary.",
                hint=f"Did you mean {similar[0]}?"
                if similar
                else f"Known settings: {', '.join(sorted(NAMES))}.",
                id="django_examplary.W003",
            )


def _workspaces() -> Iterator[checks.CheckMessage]:
    workspaces = conf.EXAMPLARY_WORKSPACES
    if workspaces and conf.EXAMPLARY_WORKSPACE is None:
        yield checks.Warning(
            "EXAMPLARY_WORKSPACES is set, and EXAMPLARY_WORKSPACE is not.",
            hint="Every user then belongs to the workspace of EXAMPLARY_API_KEY. Set "
            "EXAMPLARY_WORKSPACE to a callable from a user to an alias.",
            id="django_examplary.W026",
        )
    if isinstance(workspaces, Mapping) and "default" in workspaces:
        yield checks.Warning(
            "EXAMPLARY_WORKSPACES['default'] is ignored.",
            hint="EXAMPLARY_API_KEY, EXAMPLARY_API_URL and EXAMPLARY_EMBED_ORIGINS describe the "
            "workspace 'default'. Rename the other one.",
            id="django_examplary.W027",
        )


def _api_key(workspace: Workspace) -> Iterator[checks.CheckMessage]:
    # No variable holds the key itself, so tracebacks cannot show it.
    name = workspace.setting("API_KEY")
    if not workspace.api_key:
        yield checks.Warning(
            f"{name} is not set.",
            hint="Until it is set, embeds show a message instead of Examplary. Create a key, "
            "preferably as a workspace admin, at https://app.examplary.ai/account/developer.",
            id="django_examplary.W002",
        )
        return
    try:
        checked_key(workspace.api_key)
    except ExamplaryConfigurationError as error:
        yield checks.Error(f"{name} is malformed.", hint=str(error), id="django_examplary.E002")
        return
    if not re.fullmatch(r"examp_[A-Za-z0-9]{32}", workspace.api_key):
        yield checks.Warning(
            f"{name} does not look like an Examplary API key.",
            hint="Known keys are examp_ and 32 letters or digits. Copy the key again from "
            "https://app.examplary.ai/account/developer.",
            id="django_examplary.W001",
        )


def _api_url(workspace: Workspace) -> Iterator[checks.CheckMessage]:
    name, origins = workspace.setting("API_URL"), workspace.setting("EMBED_ORIGINS")
    try:
        url = checked_url(workspace.api_url)
    except ExamplaryConfigurationError as error:
        yield checks.Error(
            f"{name} is not a safe destination for the API key.",
            hint=str(error),
            id="django_examplary.E003",
        )
        return
    if url != PRODUCTION_URL and tuple(workspace.embed_origins) == PRODUCTION_ORIGINS:
        yield checks.Warning(
            f"{name} is not the production API, but {origins} lists only the production origin.",
            hint="Other APIs serve embeds from other origins. Add that origin to "
            f"{origins}, or its embeds are refused.",
            id="django_examplary.W006",
        )


def _prerelease() -> Iterator[checks.CheckMessage]:
    urls = {workspace.api_url for workspace in conf.usable_workspaces()}
    if PRODUCTION_URL in urls and conf.EXAMPLARY_PRERELEASE_FLOWS:
        yield checks.Warning(
            "EXAMPLARY_PRERELEASE_FLOWS is enabled for the production API.",
            hint="When this version was released, only the staging API offered take-exam. Remove "
            "the setting unless Examplary has enabled the flow for your workspace.",
            id="django_examplary.W004",
        )


def _is_browser_origin(text: str) -> bool:
    """Return whether a browser can report this text as an origin.

    It is in lower case, with IPv6 in brackets, and without a path and a default port.
    """
    form = r"https?://([a-z0-9.-]+|\[[\da-f:.]+\])(:\d+)?"
    return re.fullmatch(form, text) is not None and without_default_port(text) == text


def _not_an_origin(place: str) -> checks.Error:
    # Without the value: a mistyped origin may hold a password.
    return checks.Error(
        f"{place} is not an origin, so it never matches.",
        hint="Write the scheme, the host and a port that is not the default one, in lower case "
        "and without a path, such as 'https://app.examplary.ai'.",
        id="django_examplary.E004",
    )


def _embed_origins(workspace: Workspace) -> Iterator[checks.CheckMessage]:
    origins, name = workspace.embed_origins, workspace.setting("EMBED_ORIGINS")
    if not origins:
        yield checks.Error(
            f"{name} is empty, so every embed is refused.",
            hint="Remove the setting to use the default, or list the domain of your workspace.",
            id="django_examplary.E009",
        )
    for index, origin in enumerate(origins):
        # Launches accept fewer hosts than browsers.
        if not (_is_browser_origin(origin) and is_origin(origin)):
            yield _not_an_origin(f"{name}[{index}]")
        elif origin.startswith("http:") and not (settings.DEBUG and is_loopback(origin)):
            yield checks.Warning(
                f"{name}[{index}] is {origin!r}. Embeds over http are refused, "
                "except from localhost while DEBUG is on.",
                hint="Use https.",
                id="django_examplary.W005",
            )
    if conf.EXAMPLARY_SITE_ORIGIN and conf.EXAMPLARY_SITE_ORIGIN in origins:
        yield checks.Warning(
            f"{name} contains EXAMPLARY_SITE_ORIGIN.",
            hint=f"EXAMPLARY_SITE_ORIGIN is the origin of this site. {name} lists "
            "the origins of Examplary. An embed with the origin of this site has all rights of "
            "its user.",
            id="django_examplary.W018",
        )


def _site_origin() -> Iterator[checks.CheckMessage]:
    origin = conf.EXAMPLARY_SITE_ORIGIN
    if origin and not _is_browser_origin(origin):
        yield _not_an_origin("EXAMPLARY_SITE_ORIGIN")
    elif origin.startswith("http:") and not settings.DEBUG:
        yield checks.Warning(
            f"EXAMPLARY_SITE_ORIGIN is {origin!r}, and DEBUG is off.",
            hint="Browsers return to this site without encryption. Use https.",
            id="django_examplary.W005",
        )
    if not origin and "*" in settings.ALLOWED_HOSTS and not settings.DEBUG:
        yield checks.Warning(
            "ALLOWED_HOSTS accepts every host, and EXAMPLARY_SITE_ORIGIN is not set.",
            hint="The origin that embeds report to then comes from the request, and a request can "
            "name any host. Set EXAMPLARY_SITE_ORIGIN = 'https://school.example'.",
            id="django_examplary.W007",
        )


#: The smallest and the largest usable value of each number.
_RANGES = {
    "EXAMPLARY_TIMEOUT": (0.001, 86_400),
    "EXAMPLARY_DEADLINE": (0.001, 86_400),
    "EXAMPLARY_MAX_RETRIES": (0, 1_000),
    "EXAMPLARY_LAUNCH_MAX_AGE": (1, 10**9),
    # Before the year 1 there are no dates to compare with.
    "EXAMPLARY_RETENTION": (0, 100_000),
    "EXAMPLARY_SESSIONS_PER_HOUR": (0, 10**9),
    # With 0 every embed would wait forever.
    "EXAMPLARY_CONCURRENT_LAUNCHES": (1, 10**9),
}


def _numbers() -> Iterator[checks.CheckMessage]:
    for name, (minimum, maximum) in _RANGES.items():
        value = getattr(conf, name)
        if value is not None and not minimum <= value <= maximum:
            yield checks.Error(
                f"{name} is {value!r}.",
                hint=f"Set a number from {minimum} to {maximum}.",
                id="django_examplary.E007",
            )
    if 0 < conf.EXAMPLARY_DEADLINE < conf.EXAMPLARY_TIMEOUT:
        yield checks.Warning(
            "EXAMPLARY_DEADLINE is shorter than EXAMPLARY_TIMEOUT, so the timeout has no effect.",
            hint="The deadline limits a whole call, the timeout each wait within it.",
            id="django_examplary.W008",
        )
