"""The services for async code: `await aopen_session(...)` is `open_session(...)` in a thread.

It is the thread in which Django's own async methods run, so the two share a database connection.
Under ASGI every request has such a thread of its own: a slow answer of Examplary holds up the
request that waits for it, and no other. An event loop outside of a request, as in `asyncio.run()`,
has one for all its tasks, which then take turns.

A task that is cancelled stops waiting; what it has begun is finished all the same.
"""

from __future__ import annotations

from asgiref.sync import sync_to_async

from django_examplary.services import actors, bulk, content, lifecycle, sessions

acheck_access = sync_to_async(content.check_access)
aclose_session = sync_to_async(sessions.close_session)
aerase_user = sync_to_async(lifecycle.erase_user)
agrant_access = sync_to_async(content.grant_access)
alink_actor = sync_to_async(actors.link_actor)
aopen_session = sync_to_async(sessions.open_session)
aprovision_actor = sync_to_async(actors.provision_actor)
aprovision_actors = sync_to_async(bulk.provision_actors)
arevoke_session = sync_to_async(sessions.revoke_session)
arevoke_sessions = sync_to_async(actors.revoke_sessions)
asweep_sessions = sync_to_async(lifecycle.sweep_sessions)
averify_session = sync_to_async(sessions.verify_session)
