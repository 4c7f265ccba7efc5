"""Provision one Examplary user for each Django user.

The row is claimed and committed before the API is called, so only one of several concurrent callers
makes the request. The claim of a caller that dies expires. A request without a response leaves the
state `uncertain`: the API may have created the user, and documents no way to find out.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from django.contrib.auth import get_user_model
from django.db import Error

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole, User
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryConfigurationError,
    ExamplaryConflictError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services.claims import claim_actor, release_actor, store_actor
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import (
    PAUSES,
    actor_rows,
    commit,
    database,
    database_error,
    refuse_transaction,
    set_values,
)
from django_examplary.services.linking import find_user
from django_examplary.services.outcomes import revoke_sessions
from django_examplary.services.profiles import get_profile, is_active, refuse_role

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State


def provision_actor(
    user: Any, *, role: ActorRole | None = None, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Return the user's active actor, created with `POST /users` if there is none yet.

    `role` is sent if the user's profile has none. It defaults to the role that was tried before, or
    else to `teacher`. While another caller provisions the same user, this one waits for about two
    seconds. All calls together take at most EXAMPLARY_DEADLINE seconds.

    Raises ExamplaryValidationError if the profile is invalid, ExamplaryNotReadyError if a later
    attempt may succeed, ExamplaryNotProvisionedError if the user cannot have an actor, any
    ExamplaryError of the client, and TransactionManagementError inside a transaction.
    """
    refuse_role(role)
    refuse_inactive(user)
    actor = actor_rows().filter(user=user).first()
    if actor is not None and actor.is_active and actor.workspace == workspace_of(user):
        return actor
    refuse_transaction("provision_actor")
    actor = prepare_actor(user)
    client = (client or get_client(actor.workspace)).within(conf.EXAMPLARY_DEADLINE)
    return activate_actor(actor, role=role, client=client)


def refuse_inactive(user: Any) -> None:
    """Raise ExamplaryNotProvisionedError for a deactivated or deleted user."""
    if not is_active(user):
        raise ExamplaryNotProvisionedError("Inactive users are not provisioned.")


def refresh_user(user: Any) -> None:
    """Reload the user after a wait. Raises ExamplaryNotProvisionedError."""
    rows = get_user_model()._base_manager.using(database()).filter(pk=user.pk)
    # The connection may have been lost during the wait.
    current = commit(rows.first)
    if current is None:
        raise ExamplaryNotProvisionedError("The user does not exist any more.")
    refuse_inactive(current)


def refresh_actor(actor: ExamplaryActor) -> ExamplaryActor:
    """Reload the user and the actor after a wait.

    Raises ExamplaryNotProvisionedError like `refresh_user`, and ExamplaryNotReadyError if the actor
    has moved to another workspace.
    """
    refresh_user(actor.user)
    current = actor_rows().filter(pk=actor.pk, workspace=actor.workspace).first()
    if current is None:
        raise ExamplaryNotReadyError("The actor was deleted or moved; try again in a moment.")
    current.set_user(actor.user)
    return current


def prepare_actor(user: Any) -> ExamplaryActor:
    """Return the actor of the user, created or moved to their workspace if necessary."""
    workspace = workspace_of(user)
    conf.get_workspace(workspace)
    try:
        actor, _ = commit(
            lambda: actor_rows().get_or_create(user_id=user.pk, defaults={"workspace": workspace})
        )
    except Error as error:
        failure = database_error("The actor", error)
    else:
        actor.set_user(user)
        if actor.workspace != workspace:
            _move(actor, workspace)
        return actor
    refresh_user(user)
    raise failure


def prepare_actors(workspaces: Mapping[Any, str]) -> list[ExamplaryActor]:
    """Prepare the actors of many users with few queries, like `prepare_actor`.

    `workspaces` has the alias of each user's workspace, which is configured.
    """
    users = {user.pk: user for user in workspaces}
    blank = [ExamplaryActor(user_id=user.pk, workspace=workspaces[user]) for user in workspaces]
    commit(lambda: actor_rows().bulk_create(blank, ignore_conflicts=True))
    actors = []
    for actor in actor_rows().filter(user__in=list(users)).order_by("user_id"):
        user = users[actor.user_id]
        actor.set_user(user)
        if actor.workspace != workspaces[user]:
            _move(actor, workspaces[user])
        actors.append(actor)
    return actors


def _move(actor: ExamplaryActor, workspace: str) -> None:
    """Reset the actor for another workspace. The sessions keep the alias of the former one."""
    former, former_id = actor.workspace, actor.examplary_id
    blank: dict[str, Any] = {
        "workspace": workspace,
        "state": State.PENDING,
        "examplary_id": None,
        "claim_token": "",
        "idempotency_key": uuid.uuid4(),
        "email": "",
        "name": "",
        "role": "",
        "last_error": "",
        "provisioned_at": None,
    }

    def move() -> int:
        revoke_sessions(actor)
        return actor_rows().filter(pk=actor.pk, workspace=former).update(**blank)

    moved = commit(move)
    set_values(actor, blank)
    if moved:
        logger.warning(
            "operation=move-actor actor=%s from=%s to=%s former_id=%s",
            actor.pk,
            former,
            workspace,
            # Needed if the user moves back, because Examplary may refuse the known address.
            former_id,
        )
        signals.actor_moved.send_robust(
            ExamplaryActor, actor=actor, former_workspace=former, workspace=workspace
        )


def activate_actor(
    actor: ExamplaryActor, *, role: ActorRole | None, client: ExamplaryClient
) -> ExamplaryActor:
    """Return the active actor; provision it, or wait for another caller that does."""
    if actor.is_active:
        return actor
    workspace = actor.workspace
    if not claim_actor(actor):
        return _await_actor(actor, client)
    if actor.workspace != workspace:
        # The client has the key of the former workspace.
        release_actor(actor)
        raise ExamplaryNotReadyError("The user has just moved to another workspace; try again.")
    actor.role = role or actor.role
    try:
        profile = get_profile(actor)
        remote = create_user(actor, profile, client)
        store_actor(actor, remote, profile, client=client)
    except (ExamplaryError, ExamplaryConfigurationError) as error:
        release_actor(actor, error)
        raise
    return actor


def create_user(actor: ExamplaryActor, profile: ActorProfile, client: ExamplaryClient) -> User:
    """Call `POST /users` for a claimed actor. Thread-safe, because it does not use the database.

    If the API refuses a retry because the user exists, the earlier request without a response has
    probably created the user, who is then looked up if addresses are trusted.
    """
    key = str(actor.idempotency_key)
    try:
        return client.create_user(**asdict(profile), idempotency_key=key)
    except ExamplaryAPIError as error:
        trusted = actor.is_repeat and conf.EXAMPLARY_EMAILS_ARE_VERIFIED
        if not (trusted and _is_duplicate(error)):
            raise
        refusal = error
    try:
        return find_user(profile.email, client)
    except ExamplaryPermissionError:
        # The key may create users, but not exams.
        raise refusal from None


def _is_duplicate(error: ExamplaryAPIError) -> bool:
    """Return whether the API refused a known address, which is not documented."""
    return isinstance(error, ExamplaryConflictError) or (
        isinstance(error, ExamplaryInvalidRequestError)
        and bool(re.search(r"already|exist|duplicate|taken|in use", error.message, re.IGNORECASE))
    )


def _await_actor(actor: ExamplaryActor, client: ExamplaryClient) -> ExamplaryActor:
    """Wait for the caller that provisions the actor, with a limited number of queries."""
    for pause in PAUSES:
        # Reload each time, because the row may be linked, failed or deleted meanwhile. The client
        # must not be used for an actor that has moved.
        rows = actor_rows().filter(pk=actor.pk, workspace=actor.workspace)
        current = commit(rows.select_related("user").first)
        if current is not None and current.is_active:
            refuse_inactive(current.user)
            return current
        if current is not None and current.state == State.FAILED:
            raise ExamplaryNotProvisionedError(current.last_error)
        if current is None or current.state != State.CLAIMED or client.time_left < pause:
            # The attempt of the other caller failed, or its outcome is unknown.
            break
        time.sleep(pause)
    raise ExamplaryNotReadyError("This user is not provisioned yet; try again in a minute.")


def renew_actor(
    actor: ExamplaryActor, *, role: ActorRole, client: ExamplaryClient
) -> ExamplaryActor:
    """Provision again after the API reported that the id of the actor is unknown.

    The row keeps the id until there is a new one. `role` is for an actor that was linked, whose own
    role is unknown.
    """
    stale = actor_rows().filter(pk=actor.pk, examplary_id=actor.examplary_id, state=State.ACTIVE)
    if commit(lambda: stale.update(state=State.PENDING, idempotency_key=uuid.uuid4())):
        logger.warning(
            "operation=renew-actor actor=%s examplary_id=%s", actor.pk, actor.examplary_id
        )
    current = refresh_actor(actor)
    known = cast("ActorRole", current.role or role)
    return activate_actor(current, role=known, client=client)
