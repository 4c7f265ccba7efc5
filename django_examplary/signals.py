"""The signals of this app, sent with `send_robust`.

Errors of a receiver are logged, and affect neither other receivers nor the response. Signals about
actors and sessions are sent after the database commit. Their sender is the model class of the
object. Signals about sessions are sent once per session. If a process dies before it has recorded
that, a sweep sends the signal again.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A user was provisioned. Sent again if the user gets another actor, and each time that an id is
#: linked, even the same id. Arguments: `actor` (ExamplaryActor).
actor_provisioned = Signal()

#: A user has moved to another workspace: the actor starts again there, and its open sessions are
#: revoked. Arguments: `actor` (ExamplaryActor), `former_workspace` and `workspace` (aliases).
actor_moved = Signal()

#: The API confirmed that a session was completed.
#: Arguments: `session` (ExamplarySession), `outputs` (the flow's Outputs, see `flows`).
session_completed = Signal()

#: The API confirmed that the user cancelled. Arguments: `session`.
session_cancelled = Signal()

#: A session was closed because its user is done, and the API had no outcome. Flows that never
#: complete by themselves end this way, and `services.close_session` can close any session.
#: Arguments: `session`.
session_closed = Signal()

#: For metrics: a call to the API has ended, retries included. Sent in the thread of the caller.
#: Arguments: `operation` ("POST /users"), `outcome` ("ok", or the name of the exception), `status`
#: (of the last response, 0 without one), `attempts`, `seconds`, `clock_difference` (the seconds by
#: which the API's clock is ahead of this server, None if the response has no date).
api_call_finished = Signal()
