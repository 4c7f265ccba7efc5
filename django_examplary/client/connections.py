"""The connections of a client, and the key and the proxy that they use."""

from __future__ import annotations

import os
import re
import threading
import weakref
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.views.decorators.debug import sensitive_variables

import django_examplary
from django_examplary.client.retries import Cooldown
from django_examplary.data import Secret
from django_examplary.exceptions import ExamplaryConfigurationError

if TYPE_CHECKING:
    from django_examplary.client.transport import Transport


class Connections:
    """The state that a client shares with the clients of `within`.

    These are the key, the pool, the cool-down and the refused locales.

    After a fork the pool is replaced, because two processes would read responses of each other.
    Locks are replaced, too, because a thread may hold them during the fork.
    """

    def __init__(
        self, api_key: str, origin: str, *, proxy: str, ca_bundle: str, pool_size: int
    ) -> None:
        self.api_key = Secret(api_key)
        self._origin = origin
        self._proxy = Secret(proxy)
        self._ca_bundle = ca_bundle
        self._pool_size = pool_size
        #: The values of `theme.locale` that the API has refused.
        self.refused_locales: set[str] = set()
        self.renew()
        _all_connections.add(self)

    def renew(self) -> None:
        self._lock = threading.Lock()
        self._transport: Transport | None = None
        self.cooldown = Cooldown()

    def transport(self) -> Transport:
        """Return the pool of this process for the API."""
        with self._lock:
            if self._transport is None:
                self._transport = self.open_transport(self._origin, pool_size=self._pool_size)
            return self._transport

    def open_transport(self, origin: str, *, pool_size: int = 1) -> Transport:
        """Return a new pool for an origin."""
        from django_examplary.client.transport import Transport  # noqa: PLC0415  # slow

        return Transport(
            origin,
            user_agent=f"django-examplary/{django_examplary.__version__}",
            pool_size=pool_size,
            ca_bundle=self._ca_bundle,
            proxy=self._proxy.value,
        )

    def close(self) -> None:
        self.cooldown.clear()
        with self._lock:
            if self._transport is not None:
                self._transport.close()
            self._transport = None


_all_connections: weakref.WeakSet[Connections] = weakref.WeakSet()


def _renew_all() -> None:
    for connections in _all_connections:
        connections.renew()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork.
    os.register_at_fork(after_in_child=_renew_all)


@sensitive_variables("api_key")
def checked_key(api_key: str) -> str:
    """Return the key if it can be sent. Raises ExamplaryConfigurationError, without the key."""
    if not api_key:
        raise ExamplaryConfigurationError(
            "EXAMPLARY_API_KEY is not set. Create a key at "
            "https://app.examplary.ai/account/developer and set it in the environment."
        )
    if not re.fullmatch(r"[!-~]+", api_key):
        raise ExamplaryConfigurationError(
            "EXAMPLARY_API_KEY may only hold visible ASCII characters: no blanks, no line ends."
        )
    return api_key


@sensitive_variables("proxy", "parts")
def checked_proxy(proxy: str) -> str:
    """Return the proxy if it can be used. Raises ExamplaryConfigurationError, without the URL."""
    try:
        parts = urlsplit(proxy)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not (usable or proxy in ("", "environment")) or re.search(r"[^!-~]", proxy):
        raise ExamplaryConfigurationError(
            "EXAMPLARY_PROXY must be the http or https URL of a proxy, such as "
            "'http://proxy.school.example:3128', or 'environment' to use HTTPS_PROXY."
        )
    return proxy
