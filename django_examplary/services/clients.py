"""The API client of each workspace."""

from __future__ import annotations

import functools
from typing import Any

from django.core.signals import setting_changed
from django.dispatch import receiver

from django_examplary.client import ExamplaryClient
from django_examplary.conf import ALIAS_LENGTH, conf, is_alias
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.models import DEFAULT_WORKSPACE, ExamplaryActor


def get_client(
    workspace: str = DEFAULT_WORKSPACE,
    *,
    deadline: float | None = None,
    max_retries: int | None = None,
    pool_size: int = 10,
) -> ExamplaryClient:
    """Return the client for the settings; equal settings share a client.

    `workspace` is an alias of EXAMPLARY_WORKSPACES. `deadline` and `max_retries` replace the
    settings of these names. `pool_size` is the number of pooled connections.

    Raises ExamplaryConfigurationError if there is no such workspace, or if its key or its URL is
    invalid.
    """
    configured = conf.get_workspace(workspace)
    try:
        return _client(
            configured.api_key,
            base_url=configured.api_url,
            timeout=conf.EXAMPLARY_TIMEOUT,
            deadline=conf.EXAMPLARY_DEADLINE if deadline is None else deadline,
            max_retries=conf.EXAMPLARY_MAX_RETRIES if max_retries is None else max_retries,
            pool_size=pool_size,
            ca_bundle=conf.EXAMPLARY_CA_BUNDLE,
            proxy=conf.EXAMPLARY_PROXY,
        )
    except ExamplaryConfigurationError as error:
        problem = str(error)
    # The client only knows the names of the flat settings.
    for key in ("API_KEY", "API_URL"):
        problem = problem.replace(f"EXAMPLARY_{key}", configured.setting(key))
    raise ExamplaryConfigurationError(problem)


# An evicted client would lose its connections and its cool-down, so cache many workspaces.
_client = functools.lru_cache(maxsize=1024)(ExamplaryClient)


@receiver(setting_changed)
def _forget_clients(*, setting: str, **kwargs: Any) -> None:
    """Forget the clients, and with them their connections, when a test uses another server."""
    if setting == "EXAMPLARY_API_URL":
        _client.cache_clear()


def list_workspaces() -> list[str]:
    """Return the aliases of all workspaces; for a callable, those of existing users."""
    aliases = conf.list_workspaces()
    if not callable(conf.EXAMPLARY_WORKSPACES):
        return aliases
    used = ExamplaryActor.objects.order_by("workspace").values_list("workspace", flat=True)
    return list(dict.fromkeys([*aliases, *used.distinct()]))


def workspace_of(user: Any) -> str:
    """Return the alias of the user's workspace.

    Raises ExamplaryConfigurationError if the code of the project fails.
    """
    choose = conf.EXAMPLARY_WORKSPACE
    if choose is None:
        return DEFAULT_WORKSPACE
    try:
        alias = choose(user)
    except Exception as error:
        # The original message may contain personal data, and more people read this one.
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_WORKSPACE raised {type(error).__name__}."
        ) from error
    if is_alias(alias):
        return str(alias)
    raise ExamplaryConfigurationError(
        f"EXAMPLARY_WORKSPACE must return an alias of 1 to {ALIAS_LENGTH} printable characters."
    )
