"""The settings of this app: `from django_examplary.conf import conf`.

Each is looked up on every access, so `override_settings` just works: first the Django setting, then
the environment variable of the same name, then the default. A setting of None is the default.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.conf import settings
from django.utils.module_loading import import_string
from django.views.decorators.debug import sensitive_variables

from django_examplary.exceptions import ExamplaryConfigurationError

if TYPE_CHECKING:
    from django_examplary.data import Theme

T = TypeVar("T")

#: Where the embeds of Examplary's production API come from.
PRODUCTION_ORIGINS = ("https://app.examplary.ai",)

_MISSING = object()


@dataclass(frozen=True)
class Workspace:
    """How one workspace of Examplary is reached."""

    alias: str
    api_key: str = field(repr=False)
    api_url: str
    embed_origins: Sequence[str]


class Settings:
    @property
    def EXAMPLARY_API_KEY(self) -> str:
        """The key of a workspace admin, from Examplary's developer settings. Required."""
        return self._read("EXAMPLARY_API_KEY", "", str).strip()

    @property
    def EXAMPLARY_API_URL(self) -> str:
        return self._read("EXAMPLARY_API_URL", "https://api.examplary.ai", str).rstrip("/")

    @property
    def EXAMPLARY_EMBED_ORIGINS(self) -> Sequence[str]:
        """The origins that an embed may come from. A workspace's own domain must be added."""
        return self._read("EXAMPLARY_EMBED_ORIGINS", list(PRODUCTION_ORIGINS), list)

    @property
    def EXAMPLARY_SITE_ORIGIN(self) -> str:
        """The public origin of this site; empty: that of the request."""
        return self._read("EXAMPLARY_SITE_ORIGIN", "", str).rstrip("/")

    @property
    def EXAMPLARY_TIMEOUT(self) -> float:
        """Seconds without a byte from the API before a call is given up."""
        return self._read("EXAMPLARY_TIMEOUT", 10.0, float)

    @property
    def EXAMPLARY_DEADLINE(self) -> float:
        """Seconds that one call may take in all, retries and waits included."""
        return self._read("EXAMPLARY_DEADLINE", 15.0, float)

    @property
    def EXAMPLARY_MAX_RETRIES(self) -> int:
        return self._read("EXAMPLARY_MAX_RETRIES", 2, int)

    @property
    def EXAMPLARY_CA_BUNDLE(self) -> str:
        """A PEM file or a directory with the certificates to trust; empty: those of certifi.

        While it is not set, the environment variables of other programs count.
        """
        elsewhere = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
        return self._read("EXAMPLARY_CA_BUNDLE", elsewhere or "", str)

    @property
    def EXAMPLARY_PROXY(self) -> str:
        """The URL of a proxy for calls to Examplary, or "environment" to use HTTPS_PROXY."""
        return self._read("EXAMPLARY_PROXY", "", str)

    @property
    def EXAMPLARY_ACTOR_PROFILE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a user to an `ActorProfile`."""
        profile: Callable[..., Any] | None = self._callable("EXAMPLARY_ACTOR_PROFILE")
        return profile

    @property
    def EXAMPLARY_THEME(self) -> Mapping[str, Any] | Theme | Callable[..., Any]:
        """A mapping or a `Theme`, or a callable (or its dotted path) from a request to one."""
        from django_examplary.data import Theme  # noqa: PLC0415  # slow, and start-up needs none

        return self._callable("EXAMPLARY_THEME", Mapping, Theme) or {}

    @property
    def EXAMPLARY_LOCALES(self) -> Mapping[str, str]:
        """From Django's language codes to Examplary's, where the first two letters are wrong."""
        return self._read("EXAMPLARY_LOCALES", {}, dict)

    @property
    def EXAMPLARY_LAUNCH_MAX_AGE(self) -> int:
        """Seconds for which a rendered page can launch its embed."""
        return self._read("EXAMPLARY_LAUNCH_MAX_AGE", 12 * 60 * 60, int)

    @property
    def EXAMPLARY_PRERELEASE_FLOWS(self) -> bool:
        """Whether `take-exam` may be launched against the production API."""
        return self._read("EXAMPLARY_PRERELEASE_FLOWS", False, bool)

    @property
    def EXAMPLARY_REVOKE_ON_COMPLETION(self) -> bool:
        """Whether a session is revoked as soon as its outcome is known."""
        return self._read("EXAMPLARY_REVOKE_ON_COMPLETION", True, bool)

    @property
    def EXAMPLARY_REVOKE_ON_LOGOUT(self) -> bool:
        """Whether a user's open sessions are revoked when the user signs out."""
        return self._read("EXAMPLARY_REVOKE_ON_LOGOUT", True, bool)

    @property
    def EXAMPLARY_RETENTION(self) -> int | None:
        """Days after which a sweep deletes a session that has ended; None: never."""
        return self._read("EXAMPLARY_RETENTION", None, int)

    @property
    def EXAMPLARY_AUTHORIZE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a request and a `Launch` to whether it may open."""
        authorize: Callable[..., Any] | None = self._callable("EXAMPLARY_AUTHORIZE")
        return authorize

    @property
    def EXAMPLARY_SESSIONS_PER_HOUR(self) -> int:
        """How many sessions a user may open within an hour."""
        return self._read("EXAMPLARY_SESSIONS_PER_HOUR", 60, int)

    @property
    def EXAMPLARY_CONCURRENT_LAUNCHES(self) -> int:
        """How many launches of one process may wait for the API at a time."""
        return self._read("EXAMPLARY_CONCURRENT_LAUNCHES", 4, int)

    @property
    def EXAMPLARY_EMAILS_ARE_VERIFIED(self) -> bool:
        """Whether a user may get the existing Examplary user with the same e-mail address."""
        return self._read("EXAMPLARY_EMAILS_ARE_VERIFIED", False, bool)

    @property
    def EXAMPLARY_WORKSPACES(self) -> Mapping[str, Any] | Callable[..., Any]:
        """From an alias to a workspace's settings: a mapping, or a callable or its dotted path."""
        return self._callable("EXAMPLARY_WORKSPACES", Mapping) or {}

    @property
    def EXAMPLARY_WORKSPACE(self) -> Callable[..., Any] | None:
        """A callable (or its dotted path) from a user to the alias of the user's workspace."""
        choose: Callable[..., Any] | None = self._callable("EXAMPLARY_WORKSPACE")
        return choose

    @sensitive_variables()
    def get_workspace(self, alias: str) -> Workspace:
        """Return a workspace's settings.

        The alias `default` is what the flat settings describe. Raises ExamplaryConfigurationError
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
        if not isinstance(found, Mapping):
            raise ExamplaryConfigurationError(
                f"There is no workspace {alias!r}. Add it to EXAMPLARY_WORKSPACES, or change what "
                "EXAMPLARY_WORKSPACE returns."
            )
        return Workspace(
            alias,
            str(found.get("API_KEY", "")).strip(),
            str(found.get("API_URL", self.EXAMPLARY_API_URL)).rstrip("/"),
            found.get("EMBED_ORIGINS", self.EXAMPLARY_EMBED_ORIGINS),
        )

    def _read(self, name: str, default: T, type_: type) -> T:
        value: Any = getattr(settings, name, _MISSING)
        if value is not _MISSING:
            # None is written to have the default, whatever the environment says.
            if value is None:
                return default
            what, is_one = _KINDS[type_]
            if is_one(value):
                return cast("T", value)
            # Not quoted: it may hold the API key.
            raise ExamplaryConfigurationError(f"{name} must be {what}.")
        raw = os.environ.get(name)
        if raw is None:
            return default
        try:
            parsed: T = _parse(raw, type_)
        except ValueError:
            # Not chained: the message of the cause quotes the value.
            pass
        else:
            return parsed
        raise ExamplaryConfigurationError(
            f"The environment variable {name} is not a valid {type_.__name__}."
        )

    def _callable(self, name: str, *others: type) -> Any:
        value = getattr(settings, name, None)
        if value is None or isinstance(value, str):
            value = self._read(name, "", str)
            if not value:
                return None
            try:
                value = import_string(value)
            except (ImportError, TypeError, ValueError) as error:
                # The latter two for a path that begins with a dot.
                raise ExamplaryConfigurationError(f"{name} cannot be imported: {error}") from error
        if callable(value) or isinstance(value, others):
            return value
        what = " or ".join(["a callable", *(f"a {each.__name__}" for each in others)])
        raise ExamplaryConfigurationError(f"{name} must be {what}, or the dotted path of one.")


def _are_texts(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)


#: What a setting has to be, by the type that an environment variable is read as.
_KINDS: Mapping[type, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    bool: ("True or False", lambda value: isinstance(value, bool)),
    # A bool is an int too.
    int: ("a number", lambda value: type(value) in (int, float)),
    float: ("a number", lambda value: type(value) in (int, float)),
    list: (
        "a list of texts",
        lambda value: isinstance(value, list | tuple) and _are_texts(value),
    ),
    dict: (
        "a mapping from texts to texts",
        lambda value: isinstance(value, Mapping) and _are_texts([*value, *value.values()]),
    ),
}


def _parse(raw: str, type_: type) -> Any:
    """Read an environment variable as django-environ does, but for where that makes do: it takes
    "$name" for the value of another variable, "10s" for 10.0, "1e3" for 13.0 and every word that
    it does not know for False. Raises ValueError."""
    if type_ in (str, int, float):
        return type_(raw)
    from environ import Env  # noqa: PLC0415  # slow, and few settings need it

    if type_ is bool and raw.strip().lower() not in (*Env.BOOLEAN_TRUE_STRINGS, *_FALSE):
        raise ValueError
    if type_ is list:
        return [item.strip() for item in Env.parse_value(raw, list)]
    return Env.parse_value(raw, type_)


_FALSE = ("", "0", "false", "off", "no", "n")


conf = Settings()
