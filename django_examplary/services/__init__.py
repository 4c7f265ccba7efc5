"""What this app does, as functions: the only place where the API and the database meet.

Every function that calls the API commits what it claims first and holds no transaction while it
waits. Called inside a transaction of yours it refuses with TransactionManagementError.

For async code each that asks Examplary or the database has a twin: `await aopen_session(...)`.

Each is loaded when it is first used, since most commands use none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_examplary.services.actors import link_actor, provision_actor, revoke_sessions
    from django_examplary.services.asynchronous import (
        acheck_access,
        aclose_session,
        aerase_user,
        agrant_access,
        alink_actor,
        aopen_session,
        aprovision_actor,
        aprovision_actors,
        arevoke_session,
        arevoke_sessions,
        asweep_sessions,
        averify_session,
    )
    from django_examplary.services.bulk import (
        Provisioning,
        provision_actors,
        select_users,
        unprovisioned,
    )
    from django_examplary.services.connections import ASKED_TO_STOP, get_client
    from django_examplary.services.content import check_access, grant_access
    from django_examplary.services.lifecycle import (
        Erasure,
        Sweep,
        erase_user,
        sweep_sessions,
    )
    from django_examplary.services.sessions import (
        close_session,
        open_session,
        revoke_session,
        verify_session,
    )

__all__ = [
    "ASKED_TO_STOP",
    "Erasure",
    "Provisioning",
    "Sweep",
    "acheck_access",
    "aclose_session",
    "aerase_user",
    "agrant_access",
    "alink_actor",
    "aopen_session",
    "aprovision_actor",
    "aprovision_actors",
    "arevoke_session",
    "arevoke_sessions",
    "asweep_sessions",
    "averify_session",
    "check_access",
    "close_session",
    "erase_user",
    "get_client",
    "grant_access",
    "link_actor",
    "open_session",
    "provision_actor",
    "provision_actors",
    "revoke_session",
    "revoke_sessions",
    "select_users",
    "sweep_sessions",
    "unprovisioned",
    "verify_session",
]

_MODULES = {
    "actors": ("link_actor", "provision_actor", "revoke_sessions"),
    "asynchronous": (
        "acheck_access",
        "aclose_session",
        "aerase_user",
        "agrant_access",
        "alink_actor",
        "aopen_session",
        "aprovision_actor",
        "aprovision_actors",
        "arevoke_session",
        "arevoke_sessions",
        "asweep_sessions",
        "averify_session",
    ),
    "bulk": (
        "Provisioning",
        "provision_actors",
        "select_users",
        "unprovisioned",
    ),
    "connections": ("ASKED_TO_STOP", "get_client"),
    "content": ("check_access", "grant_access"),
    "lifecycle": ("Erasure", "Sweep", "erase_user", "sweep_sessions"),
    "sessions": (
        "close_session",
        "open_session",
        "revoke_session",
        "verify_session",
    ),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
