"""Access to exams and practice spaces: what a user may do with them, and giving more."""

from __future__ import annotations

import logging
from typing import Any

from django_examplary.client import ExamplaryClient
from django_examplary.data import CONTENT_ROLES, ActorRole, ContentRole
from django_examplary.exceptions import ExamplaryActorNotFoundError
from django_examplary.models import ExamplaryActor
from django_examplary.presets import checked_grant
from django_examplary.services.actors import provision_actor, replace_stale_actor
from django_examplary.services.connections import actor_rows, get_client, refuse_transaction

logger = logging.getLogger("django_examplary")


def check_access(
    user: Any, resource: str, role: ContentRole, *, client: ExamplaryClient | None = None
) -> bool:
    """Return whether the user has at least `role` on an exam or a space.

    A user without an actor has none, and is not given one. Raises ExamplaryError, an
    ExamplaryPermissionError for one when the API key may not look.
    """
    actor = actor_rows().filter(user=user, state=ExamplaryActor.State.ACTIVE).first()
    if actor is None:
        return False
    refuse_transaction("check_access")
    return actor_has_access(actor, resource, role, client=client or get_client())


def grant_access(
    user: Any, resource: str, role: ContentRole, *, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Give the user at least `role` on an exam or a space, and return the user's actor.

    Looks first: a role that is as good or better, or that this release does not know, stays as it
    is. A user without an actor is provisioned, as a student for `participant` and as a teacher for
    more.
    """
    refuse_transaction("grant_access")
    client = client or get_client()
    audience: ActorRole = "student" if role == "participant" else "teacher"
    actor = provision_actor(user, role=audience, client=client)
    try:
        give_access(actor, resource, role, client=client)
    except ExamplaryActorNotFoundError:
        actor = replace_stale_actor(actor, role=audience, client=client)
        give_access(actor, resource, role, client=client)
    return actor


def give_access(
    actor: ExamplaryActor, resource: str, role: ContentRole, *, client: ExamplaryClient
) -> None:
    permission = client.get_permission(checked_grant(resource), actor.examplary_id or "")
    if permission is not None and permission.role not in CONTENT_ROLES:
        # It may be more than the one that would take its place.
        logger.warning("operation=grant-access outcome=unknown-role role=%r", permission.role)
    elif permission is None or not permission.covers(role):
        client.create_permission(resource, actor=actor.examplary_id or "", role=role)


def actor_has_access(
    actor: ExamplaryActor, resource: str, role: ContentRole, *, client: ExamplaryClient
) -> bool:
    permission = client.get_permission(resource, actor.examplary_id or "")
    return permission is not None and permission.covers(role)
