"""The use cases of this app, as functions. Only this package uses both the API and the database.

Functions that call the API commit their claim first and hold no transaction while they wait. Inside
a transaction of the caller they raise TransactionManagementError.

Each function that uses the API or the database has an async variant: `await aopen_session(...)`
runs `open_session(...)` in the thread in which the async methods of Django run, so both share a
database connection. Under ASGI every request has its own thread, so a slow response of Examplary
delays only the request that waits for it. An event loop outside a request, as in `asyncio.run()`,
has one thread for all its tasks, which then take turns. A cancelled task stops waiting, but its
service finishes.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async as _sync_to_async

from django_examplary.services.access import check_access, grant_access
from django_examplary.services.actors import provision_actor
from django_examplary.services.bulk import (
    Provisioning,
    provision_actors,
    select_users,
    unprovisioned,
)
from django_examplary.services.clients import get_client
from django_examplary.services.erasure import Erasure, erase_user
from django_examplary.services.linking import find_remote_actor, link_actor
from django_examplary.services.outcomes import (
    close_session,
    revoke_session,
    revoke_sessions,
    verify_session,
)
from django_examplary.services.sessions import open_session
from django_examplary.services.sweep import Sweep, sweep_sessions

acheck_access = _sync_to_async(check_access)
aclose_session = _sync_to_async(close_session)
aerase_user = _sync_to_async(erase_user)
afind_remote_actor = _sync_to_async(find_remote_actor)
agrant_access = _sync_to_async(grant_access)
alink_actor = _sync_to_async(link_actor)
aopen_session = _sync_to_async(open_session)
aprovision_actor = _sync_to_async(provision_actor)
aprovision_actors = _sync_to_async(provision_actors)
arevoke_session = _sync_to_async(revoke_session)
arevoke_sessions = _sync_to_async(revoke_sessions)
asweep_sessions = _sync_to_async(sweep_sessions)
averify_session = _sync_to_async(verify_session)

__all__ = [
    "Erasure",
    "Provisioning",
    "Sweep",
    "acheck_access",
    "aclose_session",
    "aerase_user",
    "afind_remote_actor",
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
    "find_remote_actor",
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
