"""The services for async code: `await aopen_session(...)` is `open_session(...)` in a thread.

It is the thread in which Django's own async methods run, so the two share a database connection.
Under ASGI every request has a thread of its own, so a slow response of Examplary delays only the
request that waits for it. An event loop outside of a request, as in `asyncio.run()`, has one
thread for all its tasks, which then take turns.

A cancelled task stops waiting, but its service finishes.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async

from django_examplary.services import (
    access,
    actors,
    bulk,
    erasure,
    linking,
    outcomes,
    sessions,
    sweep,
)

acheck_access = sync_to_async(access.check_access)
aclose_session = sync_to_async(outcomes.close_session)
aerase_user = sync_to_async(erasure.erase_user)
afind_remote_actor = sync_to_async(linking.find_remote_actor)
agrant_access = sync_to_async(access.grant_access)
alink_actor = sync_to_async(linking.link_actor)
aopen_session = sync_to_async(sessions.open_session)
aprovision_actor = sync_to_async(actors.provision_actor)
aprovision_actors = sync_to_async(bulk.provision_actors)
arevoke_session = sync_to_async(outcomes.revoke_session)
arevoke_sessions = sync_to_async(outcomes.revoke_sessions)
asweep_sessions = sync_to_async(sweep.sweep_sessions)
averify_session = sync_to_async(outcomes.verify_session)
