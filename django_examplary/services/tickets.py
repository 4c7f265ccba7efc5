"""One-time links, each of which opens the session of its launch once."""

from __future__ import annotations

from typing import Any

from django_examplary.exceptions import ExamplarySessionEndedError
from django_examplary.launch import Launch
from django_examplary.models import ExamplarySession, ExamplarySessionQuerySet
from django_examplary.services.database import commit, session_rows

_USED = "The one-time link was used before, or a newer one was."


def refuse_used(user: Any, launch: Launch) -> None:
    """Raise ExamplarySessionEndedError if the link or a newer one of the launch was used."""
    if launch.ticket and _uses(user, launch).exists():
        raise ExamplarySessionEndedError(_USED)


def use_ticket(user: Any, launch: Launch, session: ExamplarySession) -> None:
    """Record the use of the link for the session. Only one concurrent caller succeeds.

    Raises ExamplarySessionEndedError for the others.
    """
    if not launch.ticket:
        return
    row = session_rows().filter(pk=session.pk, ticket__lt=launch.ticket)
    is_first = commit(lambda: row.update(ticket=launch.ticket))
    # Read after the write, because the session of another caller may have ended meanwhile or be in
    # the whole window. So the later of two reads finds the earlier row.
    if not is_first or _uses(user, launch).exclude(pk=session.pk).exists():
        raise ExamplarySessionEndedError(_USED)


def _uses(user: Any, launch: Launch) -> ExamplarySessionQuerySet:
    rows = session_rows().for_user(user).filter(ticket__gte=launch.ticket)
    if launch.session_id:
        return rows.for_key(launch.key)
    return rows.filter(fingerprint__in=launch.keys)
