"""Log entries for all actions of staff, with the old and new values.

The history page of the row shows them. They contain no secrets: no embed URLs and no ids of
sessions at Examplary.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext

from django_examplary.admin.names import role_name
from django_examplary.models import ExamplaryActor, ExamplarySession

Facts = Mapping[str, str]


def actor_facts(actor: ExamplaryActor) -> Facts:
    """Return the values of an actor for a log entry, by translated names."""
    return {
        gettext("state"): actor.get_state_display(),
        gettext("Examplary id"): actor.examplary_id or "",
        gettext("role"): role_name(actor.role),
    }


def session_facts(session: ExamplarySession) -> Facts:
    """Return the values of a session for a log entry, by translated names."""
    return {gettext("status"): session.get_status_display()}


def describe(action: str, before: Facts, after: Facts) -> str:
    """Return a line such as "Linked: state failed → active; Examplary id - → user_1"."""
    changes = [
        f"{name} {before.get(name) or '-'} → {value or '-'}"
        for name, value in after.items()
        if before.get(name, "") != value
    ]
    # Include the state even if it is unchanged.
    unchanged = [f"{name} {value}" for name, value in list(after.items())[:1]]
    return f"{action}: {'; '.join(changes or unchanged)}"


def log(request: HttpRequest, entries: Iterable[tuple[Model, str]]) -> None:
    """Write one log entry for each row, with one query for all of them."""
    user: Any = request.user
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=user.pk,
            content_type=ContentType.objects.get_for_model(row, for_concrete_model=False),
            object_id=row.pk,
            object_repr=str(row)[:200],
            action_flag=CHANGE,
            change_message=message,
        )
        for row, message in entries
    )
