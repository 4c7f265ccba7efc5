"""Check and grant the roles of users on exams and practice spaces."""

from __future__ import annotations

import logging
from typing import Any

from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import cleaned
from django_examplary.client.responses import Incomplete
from django_examplary.conf import conf
from django_examplary.data import CONTENT_ROLES, ActorRole, ContentRole
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryActorNotFoundError,
    ExamplaryError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplaryValidationError,
)
from django_examplary.flows import Flow
from django_examplary.models import ExamplaryActor
from django_examplary.presets import checked_grant
from django_examplary.services.actors import provision_actor, renew_actor
from django_examplary.services.clients import get_client
from django_examplary.services.database import actor_rows, refuse_transaction
from django_examplary.services.outcomes import is_answer

logger = logging.getLogger("django_examplary")


def check_access(
    user: Any, resource: str, role: ContentRole, *, client: ExamplaryClient | None = None
) -> bool:
    """Return whether the user has at least `role` on an exam or a space.

    A group or an organisation with that role counts, because its membership is not documented. A
    user without an actor has no access, and is not provisioned. Raises ExamplaryError, an
    ExamplaryPermissionError if the API key may not read the permissions.
    """
    actor = actor_rows().filter(user=user, state=ExamplaryActor.State.ACTIVE).first()
    if actor is None:
        return False
    refuse_transaction("check_access")
    return may_have_access(actor, resource, role, client or get_client(actor.workspace))


def grant_access(
    user: Any, resource: str, role: ContentRole, *, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Give the user at least `role` on an exam or a space, and return the user's actor.

    Check first that the user may have it: with an id from the browser, the user could get access to
    any exam of the workspace. A role that includes `role`, or that this release does
    not know, is not changed. A user without an actor is provisioned, as a student for `participant`
    and as a teacher for other roles.

    Raises ExamplaryValidationError for ids of other objects.
    """
    refuse_transaction("grant_access")
    audience: ActorRole = "student" if role == "participant" else "teacher"
    actor = provision_actor(user, role=audience, client=client)
    client = (client or get_client(actor.workspace)).within(conf.EXAMPLARY_DEADLINE)
    try:
        give_access(actor, resource, role, client)
    except ExamplaryActorNotFoundError:
        actor = renew_actor(actor, role=audience, client=client)
        give_access(actor, resource, role, client)
    return actor


def give_access(
    actor: ExamplaryActor, resource: str, role: ContentRole, client: ExamplaryClient
) -> None:
    permission = client.get_permission(checked_grant(resource), actor.examplary_id or "")
    if permission is not None and permission.role not in CONTENT_ROLES:
        # It may be higher than the role that would replace it.
        logger.warning("operation=grant-access outcome=unknown-role role=%r", permission.role)
    elif permission is None or not permission.covers(role):
        client.create_permission(resource, actor=actor.examplary_id or "", role=role)


def may_have_access(
    actor: ExamplaryActor, resource: str, role: ContentRole, client: ExamplaryClient
) -> bool:
    """Return False only if the API shows that the actor lacks the role."""
    try:
        permission = client.get_permission(resource, actor.examplary_id or "")
    except ExamplaryResponseError:
        # The list may still be readable.
        permission = None
    if permission is not None and permission.covers(role):
        return True
    try:
        permissions = client.list_permissions(resource)
    except ExamplaryPermissionError:
        if permission is not None:
            return False
        raise
    # The membership of groups and organisations is not documented. An entry without the id of a
    # user may also apply to the actor.
    found = [
        each
        for each in permissions
        if each.actor == actor.examplary_id or not each.actor.startswith("user_")
    ]
    if any(each.covers(role) for each in found):
        return True
    if isinstance(permissions, Incomplete):
        raise ExamplaryResponseError(
            f"Examplary shows only a part of the permissions on {resource}."
        )
    for each in found if permission is None else [permission, *found]:
        if each.role not in CONTENT_ROLES:
            raise ExamplaryResponseError(
                f"The role {cleaned(each.role, 40)!r} on {resource} is not known to this release."
            )
    return False


def ensure_access(
    actor: ExamplaryActor, flow: Flow, client: ExamplaryClient, *, grant: bool
) -> None:
    """Check that the actor may use the exam or space of the flow, or grant access.

    The API would open a session without access, and the user would only see an error in the frame.
    Raises ExamplaryAccessError.
    """
    needs = flow.needs
    if needs is None:
        return
    if not flow.resource:
        if grant:
            raise ExamplaryValidationError(
                "grant_access", f"needs to know the {needs.preset} to grant access to"
            )
        return
    if grant:
        give_access(actor, flow.resource, needs.role, client)
        return
    try:
        if may_have_access(actor, flow.resource, needs.role, client):
            return
    except ExamplaryActorNotFoundError:
        raise
    except ExamplaryError as error:
        # For example, the API key may not read permissions, which is not necessary.
        if is_answer(error):
            return
        raise
    raise ExamplaryAccessError(flow.resource, needs.role)
