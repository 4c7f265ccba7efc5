"""The settings of this app: `from django_examplary.conf import conf`.

Every access reads the Django setting, then the environment variable with the same name, then the
default. So `override_settings` works. A setting of None selects the default; an empty environment
variable counts as not set.

Every property raises ExamplaryConfigurationError if the value has the wrong type. The error names
the setting and never contains the value, which may be the API key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables
from environ import Env

from django_examplary.data import Theme
from django_examplary.exceptions import ExamplaryConfigurationError

T = TypeVar("T")

#: The origin of the embeds of Examplary's production API.
PRODUCTION_ORIGINS = ("https://app.examplary.ai",)
#: The limit of the columns that store an alias.
ALIAS_LENGTH = 64


@dataclass(frozen=True)
class Workspace:
    """The settings of a workspace of Examplary."""

    alias: str
    api_key: str = field(repr=False)
    api_url: str
    embed_origins: Sequence[str]

    def setting(self, key: str) -> str:
        """Return the name of the setting of a value, such as "EXAMPLARY_API_KEY"."""
        if self.alias == "default":
            return f"EXAMPLARY_{key}"
        return f"EXAMPLARY_WORKSPACES[{self.alias!r}][{key!r}]"


class Settings:
    @property
    def EXAMPLARY_API_KEY(self) -> str:
        """The API key of a workspace admin. Required."""
        return _read("EXAMPLARY_API_KEY", "", str).strip()

    @property
    def EXAMPLARY_API_URL(self) -> str:
        """The base URL of the API, without a slash at the end."""
        return _read("EXAMPLARY_API_URL", "https://api.examplary.ai", str).rstrip("/")

    @property
    def EXAMPLARY_EMBED_ORIGINS(self) -> Sequence[str]:
        """The origins that serve embeds. Add the custom domain of a workspace, if it has one."""
        return _read("EXAMPLARY_EMBED_ORIGINS", list(PRODUCTION_ORIGINS), list)

    @property
    def EXAMPLARY_SITE_ORIGIN(self) -> str:
        """The public origin of this site. Empty selects the origin of the request."""
        return _read("EXAMPLARY_SITE_ORIGIN", "", str).rstrip("/")

    @property
    def EXAMPLARY_TIMEOUT(self) -> float:
        """Seconds that an attempt waits for the next byte."""
        return _read("EXAMPLARY_TIMEOUT", 10.0, float)

    @property
    def EXAMPLARY_DEADLINE(self) -> float:
        """Maximum seconds of one call, including retries and pauses."""
        return _read("EXAMPLARY_DEADLINE", 15.0, float)

    @property
    def EXAMPLARY_MAX_RETRIES(self) -> int:
        """Maximum number of retries of a call, where retrying is safe."""
        return _read("EXAMPLARY_MAX_RETRIES", 2, int)

    @property
    def EXAMPLARY_CA_BUNDLE(self) -> str:
        """A PEM file or a directory of certificates to trust. Empty selects those of certifi.

        If it is not set, the environment variables of other programs apply.
        """
        elsewhere = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        return _read("EXAMPLARY_CA_BUNDLE", elsewhere or "", str)

    @property
    def EXAMPLARY_PROXY(self) -> str:
        """The URL of a proxy for calls to Examplary, or "environment" to use HTTPS_PROXY."""
        return _read("EXAMPLARY_PROXY", "", str)

    @property
    def EXAMPLARY_ACTOR_PROFILE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a user to an `ActorProfile`."""
        profile: Callable[..., Any] | None = _read_callable("EXAMPLARY_ACTOR_PROFILE")
        return profile

    @property
    def EXAMPLARY_THEME(self) -> Mapping[str, Any] | Theme | Callable[..., Any]:
        """A mapping or a `Theme`, or a callable (or its dotted path) from a request to one."""
        return _read_callable("EXAMPLARY_THEME", Mapping, Theme) or {}

    @property
    def EXAMPLARY_LOCALES(self) -> Mapping[str, str]:
        """Examplary's language codes by Django's, if the first two letters differ."""
        return _read("EXAMPLARY_LOCALES", {}, dict)

    @property
    def EXAMPLARY_LAUNCH_MAX_AGE(self) -> int:
        """Seconds during which a rendered page can launch its embeds."""
        return _read("EXAMPLARY_LAUNCH_MAX_AGE", 12 * 60 * 60, int)

    @property
    def EXAMPLARY_PRERELEASE_FLOWS(self) -> bool:
        """Whether `take-exam` may be launched on the production API."""
        return _read("EXAMPLARY_PRERELEASE_FLOWS", False, bool)

    @property
    def EXAMPLARY_REVOKE_ON_COMPLETION(self) -> bool:
        """Whether a session is revoked when its outcome is known."""
        return _read("EXAMPLARY_REVOKE_ON_COMPLETION", True, bool)

    @property
    def EXAMPLARY_REVOKE_ON_LOGOUT(self) -> bool:
        """Whether a user's open sessions are revoked when the user signs out."""
        return _read("EXAMPLARY_REVOKE_ON_LOGOUT", True, bool)

    @property
    def EXAMPLARY_RETENTION(self) -> int | None:
        """Days after which a sweep deletes an ended session; None keeps it."""
        return _read("EXAMPLARY_RETENTION", None, int)

    @property
    def EXAMPLARY_AUTHORIZE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a request and a `Launch` to whether it may open."""
        authorize: Callable[..., Any] | None = _read_callable("EXAMPLARY_AUTHORIZE")
        return authorize

    @property
    def EXAMPLARY_SESSIONS_PER_HOUR(self) -> int:
        """Maximum number of sessions that a user may open within an hour; 0 sets no limit."""
        return _read("EXAMPLARY_SESSIONS_PER_HOUR", 60, int)

    @property
    def EXAMPLARY_CONCURRENT_LAUNCHES(self) -> int:
        """Maximum number of embeds of one process that wait for the API at a time."""
        return _read("EXAMPLARY_CONCURRENT_LAUNCHES", 4, int)

    @property
    def EXAMPLARY_EMAILS_ARE_VERIFIED(self) -> bool:
        """Whether a user can be linked to the existing Examplary user with the same address."""
        return _read("EXAMPLARY_EMAILS_ARE_VERIFIED", False, bool)

    @property
    def EXAMPLARY_WORKSPACES(self) -> Mapping[str, Any] | Callable[..., Any]:
        """The settings of workspaces by alias: a mapping, or a callable or its dotted path."""
        return _read_callable("EXAMPLARY_WORKSPACES", Mapping) or {}

    @property
    def EXAMPLARY_WORKSPACE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a user to the alias of their workspace."""
        choose: Callable[..., Any] | None = _read_callable("EXAMPLARY_WORKSPACE")
        return choose

    @sensitive_variables()
    def get_workspace(self, alias: str) -> Workspace:
        """Return a workspace's settings.

        The flat settings describe the alias `default`. Raises ExamplaryConfigurationError
        naming the alias if it is not configured.
        """
        if alias == "default":
            return Workspace(
                alias, self.EXAMPLARY_API_KEY, self.EXAMPLARY_API_URL, self.EXAMPLARY_EMBED_ORIGINS
            )
        workspaces = self.EXAMPLARY_WORKSPACES
        try:
            found = workspaces(alias) if callable(workspaces) else workspaces[alias]
        except LookupError:
            found = None
        except Exception as error:
            # The original message may contain a secret, and more people read this one.
            raise ExamplaryConfigurationError(
                f"EXAMPLARY_WORKSPACES raised {type(error).__name__} for {alias!r}."
            ) from error
        if found is None:
            raise ExamplaryConfigurationError(
                f"There is no workspace {alias!r}. Add it to EXAMPLARY_WORKSPACES, or change what "
                "EXAMPLARY_WORKSPACE returns."
            )
        if problem := _workspace_problem(found):
            del found  # As in `_read`.
            raise ExamplaryConfigurationError(f"EXAMPLARY_WORKSPACES[{alias!r}]{problem}")
        values = {
            "API_KEY": "",
            "API_URL": self.EXAMPLARY_API_URL,
            "EMBED_ORIGINS": self.EXAMPLARY_EMBED_ORIGINS,
            **found,
        }
        return Workspace(
            alias, values["API_KEY"].strip(), values["API_URL"].rstrip("/"), values["EMBED_ORIGINS"]
        )

    def list_workspaces(self) -> list[str]:
        """Return the aliases that the settings list.

        `default` is one of them unless only EXAMPLARY_WORKSPACES has API keys. The aliases that a
        callable accepts are unknown. E001 reports invalid keys.
        """
        workspaces = self.EXAMPLARY_WORKSPACES
        found = set() if callable(workspaces) else set(filter(is_alias, workspaces))
        others = sorted(found - {"default"})
        return others if workspaces and not self.EXAMPLARY_API_KEY else ["default", *others]

    def usable_workspaces(self) -> list[Workspace]:
        """Return the listed workspaces, without those that E001 reports.

        Raises ExamplaryConfigurationError if a flat setting is wrong.
        """
        usable = []
        for alias in self.list_workspaces():
            try:
                usable.append(self.get_workspace(alias))
            except ExamplaryConfigurationError:
                # A mistake in one workspace must not affect the others.
                if alias == "default":
                    raise
        return usable


def is_alias(value: object) -> bool:
    """Return whether a value is a valid alias of a workspace, which rows can store."""
    return isinstance(value, str) and 0 < len(value) <= ALIAS_LENGTH and value.isprintable()


def _workspace_problem(values: object) -> str:
    """Describe the mistake in the settings of a workspace; empty if there is none."""
    kinds = {"API_KEY": str, "API_URL": str, "EMBED_ORIGINS": list}
    if not isinstance(values, Mapping):
        return " must be a mapping with the key 'API_KEY'."
    for name, value in values.items():
        if name not in kinds:
            return f" has the unknown key {name!r}. Known keys: {', '.join(kinds)}."
        expected, is_valid = _KINDS[kinds[name]]
        if not is_valid(value):
            return f"[{name!r}] must be {expected}."
    return ""


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


#: By kind: its description, and a test whether a Django setting is valid.
_KINDS: Mapping[type, tuple[str, Callable[[Any], bool]]] = {
    object: ("anything", lambda value: True),
    str: ("a string", lambda value: isinstance(value, str)),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    # isinstance() would accept bool, too.
    int: ("a whole number", lambda value: type(value) is int),
    float: ("a number", lambda value: type(value) in (int, float)),
    list: (
        "a list of strings",
        lambda value: isinstance(value, list | tuple) and _are_strings(value),
    ),
    dict: (
        "a mapping from strings to strings",
        lambda value: isinstance(value, Mapping) and _are_strings([*value, *value.values()]),
    ),
}


def _read(name: str, default: T, kind: type) -> T:
    value, problem = _look_up(name, kind)
    if problem:
        # Raised in a frame without the value, so that error reports cannot show it.
        raise ExamplaryConfigurationError(problem)
    return default if value is None else value


def _look_up(name: str, kind: type) -> tuple[Any, str]:
    """Return the value and an empty string, or None and the reason why it is invalid."""
    expected, is_valid = _KINDS[kind]
    if hasattr(settings, name):
        value = getattr(settings, name)
        if value is None or is_valid(value):
            return value, ""
        return None, f"{name} must be {expected}."
    raw = os.environ.get(name, "").strip()
    try:
        return (_parse(raw, kind) if raw else None), ""
    except ValueError:
        return None, f"The environment variable {name} must be {expected}."


def _parse(raw: str, kind: type) -> Any:
    """Parse an environment variable. Raises ValueError.

    django-environ parses booleans, lists and mappings. It would also read "$name" as another
    variable, "10s" as 10.0, "1e3" as 13.0 and unknown words as False.
    """
    if kind is object:
        return raw
    if kind in (str, int, float):
        return kind(raw)
    falsehoods = ("0", "false", "off", "no", "n")
    if kind is bool and raw.lower() not in (*Env.BOOLEAN_TRUE_STRINGS, *falsehoods):
        raise ValueError
    if kind is list:
        return [item.strip() for item in Env.parse_value(raw, list)]
    return Env.parse_value(raw, kind)


def _read_callable(name: str, *others: type) -> Any:
    """Return a callable, or an instance of one of the other types; None if not set."""
    value: Any = _read(name, None, object)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = import_string(value)
        except (ImportError, TypeError, ValueError) as error:
            # Paths that begin with a dot raise the last two errors.
            raise ExamplaryConfigurationError(f"{name} cannot be imported: {error}") from error
    if callable(value) and any(map(iscoroutinefunction, (value, type(value).__call__))):
        raise ExamplaryConfigurationError(
            f"{name} must be a normal function, not an async one, because nothing awaits it."
        )
    if callable(value) or isinstance(value, others):
        return value
    del value  # As in `_read`.
    expected = " or ".join(["a callable", *(f"a {each.__name__}" for each in others)])
    raise ExamplaryConfigurationError(f"{name} must be {expected}, or the dotted path of one.")


conf = Settings()
