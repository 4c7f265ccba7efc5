"""What this app announces, with `send_robust`: a receiver that raises is logged and stops neither
the others nor the response.

Those about actors and sessions are sent after the database commit; their sender is the model class
of the object that is sent.
"""

from __future__ import annotations

from django.dispatch import Signal

#: A user has an Examplary actor from now on. Sent again when the user is given another one, and
#: each time that an id is linked, be it the same. Arguments: `actor` (ExamplaryActor).
actor_provisioned = Signal()

#: A user has moved to another workspace: the actor starts again there, and its open sessions are
#: revoked. Arguments: `actor` (ExamplaryActor), `former_workspace` and `workspace` (aliases).
actor_moved = Signal()

#: The API confirmed that a session was completed. Sent once per session, ever.
#: Arguments: `session` (ExamplarySession), `outputs` (the flow's Outputs, see `flows`).
session_completed = Signal()

#: The API confirmed that the user cancelled. Once per session. Arguments: `session`.
session_cancelled = Signal()

#: A session was ended because its user is done with it, and the API knew of no outcome: most often
#: of a flow that never completes by itself, but `services.close_session` ends any. Once per
#: session. Arguments: `session`.
session_closed = Signal()

#: For metrics: a call to the API came to its end, retries included. Sent in the thread that called.
#: Arguments: `operation` ("POST /users"), `outcome` ("ok", or the name of the exception), `status`
#: (of the last answer, 0 without one), `attempts`, `seconds`, `clock_difference` (how many seconds
#: the API's clock is ahead of this machine's, None if it did not say).
api_call_finished = Signal()
