"""Erase the data that this app stores about a user."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError

from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.models import ExamplaryActor
from django_examplary.services.clients import get_client
from django_examplary.services.database import (
    actor_rows,
    commit,
    delete_unprotected,
    refuse_transaction,
    session_rows,
)
from django_examplary.services.outcomes import revoke_remote, revoke_sessions

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State


@dataclass(frozen=True, kw_only=True)
class Erasure:
    """The result of an erasure: counts, and data that remains elsewhere."""

    #: The id of the remaining user at Examplary, or empty. The API documents no way to delete
    #: users: ask Examplary to do so.
    examplary_id: str = ""
    #: Whether Examplary may have a user with an unknown id, because a request to create the user
    #: was not answered. Send Examplary the e-mail address of the user.
    may_exist: bool = False
    #: Number of deleted sessions.
    sessions: int = 0
    #: Anonymous rows that the next sweeps finish.
    still_to_revoke: int = 0


def erase_user(
    user: Any, *, deadline: float | None = None, client: ExamplaryClient | None = None
) -> Erasure:
    """Erase the data that this app stores about a user, for a data-subject request. Idempotent.

    Open sessions are revoked first. A session that cannot be revoked at Examplary remains as an
    anonymous row without content until a sweep has revoked it. A session that rows of the project
    protect remains in the same form. Each revocation takes at most `deadline` seconds, by default
    EXAMPLARY_DEADLINE.
    """
    refuse_transaction("erase_user")
    actor = actor_rows().filter(user=user).first()
    if actor is None:
        return Erasure()
    revoke_sessions(actor)
    for session in session_rows().filter(actor=actor, revoke_pending=True):
        # Sweeps no longer request its outcome.
        session.actor = None
        try:
            own = client or get_client(session.workspace, deadline=deadline)
            revoke_remote(session, own)
        except ExamplaryConfigurationError as error:
            logger.warning("operation=erase error=%s", error)
    try:
        return commit(lambda: _erase(actor))
    except IntegrityError:
        # Another tab has opened a session concurrently.
        return commit(lambda: _erase(actor))


def _erase(actor: ExamplaryActor) -> Erasure:
    # Reload, because it may have been provisioned meanwhile. A retry finds no row.
    actor = actor_rows().filter(pk=actor.pk).first() or actor
    sessions = session_rows().filter(actor=actor)
    # A session may have been opened meanwhile.
    revoke_sessions(actor)
    blank: dict[str, Any] = {"actor": None, "next_url": "", "fingerprint": ""}
    blank |= {name: {} for name in ("presets", "theme", "metadata", "outputs")}
    remaining = sessions.filter(revoke_pending=True).update(**blank)
    erased = delete_unprotected(sessions)
    # Rows of the project protect these. A session that was opened just now has no end.
    kept = sessions.filter(revoke_pending=False, ended_at__isnull=False)
    kept.update(**blank, examplary_id=None)
    actor_rows().filter(pk=actor.pk).delete()
    return Erasure(
        examplary_id=actor.examplary_id or "",
        may_exist=actor.state in (State.CLAIMED, State.UNCERTAIN),
        sessions=erased,
        still_to_revoke=remaining,
    )
