"""The API client of each workspace."""

from __future__ import annotations

import functools
import os
from typing import Any

from django.views.decorators.debug import sensitive_variables

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.models import DEFAULT_WORKSPACE, ExamplaryActor


def get_client(
    workspace: str = DEFAULT_WORKSPACE,
    *,
    deadline: float | None = None,
    max_retries: int | None = None,
    pool_size: int = 10,
) -> ExamplaryClient:
    """Return the client that the settings describe; the same one as long as they stay the same.

    `workspace` is an alias of EXAMPLARY_WORKSPACES. The other arguments replace the setting of that
    name. Raises ExamplaryConfigurationError if there is no such workspace, or if its key or its URL
    cannot be right.
    """
    configured = conf.get_workspace(workspace)
    return _client(
        configured.api_key,
        configured.api_url,
        conf.EXAMPLARY_TIMEOUT,
        conf.EXAMPLARY_DEADLINE if deadline is None else deadline,
        conf.EXAMPLARY_MAX_RETRIES if max_retries is None else max_retries,
        pool_size,
        conf.EXAMPLARY_CA_BUNDLE,
        conf.EXAMPLARY_PROXY,
    )


@functools.lru_cache(maxsize=64)
@sensitive_variables("api_key", "proxy")
def _client(
    api_key: str,
    base_url: str,
    timeout: float,
    deadline: float,
    max_retries: int,
    pool_size: int,
    ca_bundle: str,
    proxy: str,
) -> ExamplaryClient:
    return ExamplaryClient(
        api_key,
        base_url=base_url,
        timeout=timeout,
        deadline=deadline,
        max_retries=max_retries,
        pool_size=pool_size,
        ca_bundle=ca_bundle,
        proxy=proxy,
    )


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows cannot fork.
    # A lock that a thread holds at that moment is never released in the child.
    os.register_at_fork(after_in_child=_client.cache_clear)


def list_workspaces() -> list[str]:
    """Return the aliases of all workspaces: of a callable, those that users have."""
    aliases = conf.list_workspaces()
    if not callable(conf.EXAMPLARY_WORKSPACES):
        return aliases
    used = ExamplaryActor.objects.order_by("workspace").values_list("workspace", flat=True)
    return list(dict.fromkeys([*aliases, *used.distinct()]))


def workspace_of(user: Any) -> str:
    """Return the alias of the user's workspace."""
    choose = conf.EXAMPLARY_WORKSPACE
    return choose(user) if choose else DEFAULT_WORKSPACE
