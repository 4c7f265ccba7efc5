"""From a Django user to an Examplary user, once for each user.

The row is claimed and committed before the API is called, so that of any number of simultaneous
callers one makes the request. The claim of a caller that dies ends by itself. A request that was
not answered leaves `uncertain`: the API may have created the user, and has no documented way to
look that up.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, cast

from django.contrib.auth import get_user_model
from django.db import Error, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.client.retries import is_postponed, is_uncertain
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole, User
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConflictError,
    ExamplaryConnectionError,
    ExamplaryDatabaseError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor, new_token
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import (
    PAUSES,
    actor_rows,
    commit,
    database,
    database_error,
    lease,
    refuse_transaction,
)
from django_examplary.services.outcomes import revoke_sessions
from django_examplary.services.profiles import get_profile, refuse_role

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State

# Workspace roles of people who manage the workspace. An end user never gets their account.
_MANAGERS = ("owner", "admin")

# The API has not acted on the request, and nothing about the user needs to change.
_NOT_THE_USERS_FAULT = (
    ExamplaryAuthenticationError,
    ExamplaryConnectionError,
    ExamplaryPermissionError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)


def provision_actor(
    user: Any, *, role: ActorRole | None = None, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Return the user's active actor, created with `POST /users` if there is none yet.

    `role` is sent if the user's profile has none; by default the one that was tried before, or
    else `teacher`. While another caller provisions the same user this one waits for about two
    seconds. All calls together take at most EXAMPLARY_DEADLINE seconds.

    Raises ExamplaryValidationError if the profile cannot be sent, ExamplaryNotReadyError if it may
    work in a minute, ExamplaryNotProvisionedError if the user cannot have an actor, any
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
    """Raise ExamplaryNotProvisionedError for a user who is deactivated or deleted by now."""
    if not user.is_active:
        raise ExamplaryNotProvisionedError("Inactive users are not provisioned.")


def refresh_user(user: Any) -> None:
    """Look at the user's row again after a wait. Raises ExamplaryNotProvisionedError."""
    current = get_user_model()._base_manager.using(database()).filter(pk=user.pk).first()
    if current is None:
        raise ExamplaryNotProvisionedError("The user does not exist any more.")
    refuse_inactive(current)


def prepare_actor(user: Any) -> ExamplaryActor:
    """Return the user's row, in the user's workspace, created or moved there if necessary."""
    workspace = workspace_of(user)
    conf.get_workspace(workspace)
    try:
        actor, _ = commit(
            lambda: actor_rows().get_or_create(user=user, defaults={"workspace": workspace})
        )
    except Error as error:
        failure = database_error("The actor", error)
    else:
        actor.user = user
        if actor.workspace != workspace:
            _move(actor, workspace)
        return actor
    refresh_user(user)
    raise failure


def prepare_actors(users: Iterable[Any]) -> list[ExamplaryActor]:
    """Do for many users what `prepare_actor` does for one, in a few queries."""
    known = {user.pk: user for user in users}
    blank = [ExamplaryActor(user=user, workspace=workspace_of(user)) for user in known.values()]
    commit(lambda: actor_rows().bulk_create(blank, ignore_conflicts=True))
    actors = list(actor_rows().filter(user__in=list(known)).order_by("user_id"))
    for actor in actors:
        actor.user = known[actor.user_id]
        workspace = workspace_of(actor.user)
        if actor.workspace != workspace:
            _move(actor, workspace)
    return actors


def _move(actor: ExamplaryActor, workspace: str) -> None:
    """Let the user start again in another workspace. The sessions keep the alias of the former."""
    former = actor.workspace
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
    _set(actor, blank)
    if moved:
        logger.warning("operation=move-actor actor=%s from=%s to=%s", actor.pk, former, workspace)
        signals.actor_moved.send_robust(
            ExamplaryActor, actor=actor, former_workspace=former, workspace=workspace
        )


def activate_actor(
    actor: ExamplaryActor, *, role: ActorRole | None, client: ExamplaryClient
) -> ExamplaryActor:
    """Return the actor, active: it is already, or this caller or another one provisions it."""
    if actor.is_active:
        return actor
    if not claim_actor(actor):
        return _await_actor(actor, client)
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
    """Call `POST /users` for a claimed actor. Only plain values are used, so any thread may."""
    return client.create_user(**asdict(profile), idempotency_key=str(actor.idempotency_key))


def _await_actor(actor: ExamplaryActor, client: ExamplaryClient) -> ExamplaryActor:
    """Wait for the caller that provisions the actor, for a limited number of looks."""
    for pause in PAUSES:
        # Read again each time: the row may be linked, failed or deleted meanwhile.
        current = actor_rows().select_related("user").filter(pk=actor.pk).first()
        if current is not None and current.is_active:
            refuse_inactive(current.user)
            return current
        if current is not None and current.state == State.FAILED:
            raise ExamplaryNotProvisionedError(current.last_error)
        if current is None or current.state != State.CLAIMED or client.time_left < pause:
            # It did not work just now, or the outcome is unknown yet.
            break
        time.sleep(pause)
    raise ExamplaryNotReadyError("This user is not provisioned yet; try again in a minute.")


def link_actor(
    user: Any, examplary_id: str, *, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Let an existing Examplary user represent a Django user.

    For an operator who was told that an address is used already: the API has no documented way to
    find the id. Three things are checked: the shape of the id, that it is not the owner of the API
    key, and that it represents no other user here. Raises ExamplaryValidationError for those. Open
    sessions of a former id are revoked.
    """
    if not re.fullmatch(r"user_[A-Za-z0-9_-]{1,250}", examplary_id):
        raise ExamplaryValidationError("examplary_id", "must be an id that starts with 'user_'")
    refuse_transaction("link_actor")
    workspace = workspace_of(user)
    if examplary_id == (client or get_client(workspace)).get_me().id:
        raise ExamplaryValidationError(
            "examplary_id", "is the user who owns the API key, who cannot be an actor"
        )
    linked = {
        "workspace": workspace,
        "state": State.ACTIVE,
        "examplary_id": examplary_id,
        "claim_token": "",
        "last_error": "",
        "provisioned_at": timezone.now(),
    }

    def link() -> ExamplaryActor:
        former = actor_rows().filter(user=user).exclude(examplary_id=examplary_id).first()
        changed = {**linked}
        if former is not None:
            # The open sessions, and the profile that was sent, belong to another Examplary user.
            revoke_sessions(former)
            changed |= {"email": "", "name": "", "role": ""}
        return actor_rows().update_or_create(user=user, defaults=changed)[0]

    try:
        actor = commit(link)
    except IntegrityError:
        raise ExamplaryValidationError(
            "examplary_id", "represents another account here already"
        ) from None
    signals.actor_provisioned.send_robust(ExamplaryActor, actor=actor)
    return actor


def renew_actor(
    actor: ExamplaryActor, *, role: ActorRole, client: ExamplaryClient
) -> ExamplaryActor:
    """Provision again after the API reported that it does not know the actor's id.

    The row keeps the id until there is a new one. `role` is for an actor that was linked, whose own
    role is unknown.
    """
    stale = actor_rows().filter(pk=actor.pk, examplary_id=actor.examplary_id, state=State.ACTIVE)
    if commit(lambda: stale.update(state=State.PENDING, idempotency_key=uuid.uuid4())):
        logger.warning(
            "operation=renew-actor actor=%s examplary_id=%s", actor.pk, actor.examplary_id
        )
    current = actor_rows().filter(pk=actor.pk).first()
    if current is None:
        raise ExamplaryNotReadyError("The actor was deleted; try again in a moment.")
    current.user = actor.user
    known = cast("ActorRole", current.role or role)
    return activate_actor(current, role=known, client=client)


def claim_actor(actor: ExamplaryActor) -> bool:
    """Claim the row for this caller. False: another caller provisions the actor."""
    token = new_token()
    now = timezone.now()
    rows = actor_rows().filter(pk=actor.pk)

    def claim() -> int:
        # A try whose commit was not acknowledged has the token already.
        claimed = rows.claimed_with(token) | rows.claimable()
        return claimed.update(
            state=State.CLAIMED,
            claim_token=token,
            lapses_at=lease(),
            last_error="",
            updated_at=now,
        )

    if not commit(claim):
        return False
    # Read after the claim: what was known before may have changed while this caller waited.
    current = rows.claimed_with(token).first()
    if current is None:
        return False
    _set(actor, {name: getattr(current, name) for name in _CLAIMED})
    return True


_CLAIMED = ("workspace", "examplary_id", "claim_token", "idempotency_key", "role", "state")


def release_actor(actor: ExamplaryActor, error: Exception | None = None) -> None:
    """End a claim with the state that the error leaves, and the role that was tried.

    Another try then does not turn a student into a teacher. None: nothing was sent.
    """
    changed: dict[str, Any] = {
        "state": _state_after(error) if isinstance(error, ExamplaryError) else State.PENDING,
        "role": actor.role,
        "last_error": describe_error(error)[:255] if error else "",
        "updated_at": timezone.now(),
    }
    if changed["state"] != State.UNCERTAIN:
        # The outcome is known, so that another request is not a repeat of this one.
        changed["idempotency_key"] = uuid.uuid4()
    held = actor_rows().claimed_with(actor.claim_token).filter(pk=actor.pk)
    try:
        commit(lambda: held.update(**changed))
    except Error as failure:
        # The claim ends by itself. The error that the caller is about to raise matters more.
        logger.warning(
            "operation=release-actor actor=%s error=%s", actor.pk, type(failure).__name__
        )


def disown_actor(actor: ExamplaryActor, error: ExamplaryError) -> None:
    """Drop an id that cannot represent a user: Examplary returned that of the API key's owner."""
    owned = actor_rows().filter(pk=actor.pk, examplary_id=actor.examplary_id)
    commit(
        lambda: owned.update(
            state=State.FAILED,
            examplary_id=None,
            last_error=describe_error(error)[:255],
            updated_at=timezone.now(),
        )
    )


def describe_error(error: Exception) -> str:
    """Return what went wrong, and what an operator can do about it, for `last_error`."""
    if isinstance(error, ExamplaryActorIsOwnerError):
        return (
            "At Examplary the user's e-mail address belongs to the owner of the API key, who cannot"
            " be an actor. Give the user another address, or use another person's key."
        )
    if isinstance(error, (ExamplaryInvalidRequestError, ExamplaryConflictError)):
        refusal = str(error)[:180].rstrip(".")
        return f"{refusal}. If Examplary has this user already, link the id."
    return str(error)


def store_actor(
    actor: ExamplaryActor, remote: User, profile: ActorProfile, *, client: ExamplaryClient
) -> None:
    """Store what the API created, and send the signal.

    Raises ExamplaryNotProvisionedError if that user may not or cannot represent this one,
    ExamplaryNotReadyError if the claim was lost meanwhile, and ExamplaryDatabaseError.
    """
    _refuse_takeover(actor, remote, profile, client)
    now = timezone.now()
    stored = {
        "state": State.ACTIVE,
        "examplary_id": remote.id,
        **asdict(profile),
        "idempotency_key": uuid.uuid4(),
        "provisioned_at": now,
        "updated_at": now,
    }
    rows = actor_rows().filter(pk=actor.pk, claim_token=actor.claim_token)
    # A try whose commit was not acknowledged has stored the id already.
    mine = rows.filter(Q(state=State.CLAIMED) | Q(state=State.ACTIVE, examplary_id=remote.id))
    failure: ExamplaryError | None = None
    try:
        kept = commit(lambda: mine.update(**stored))
    except Error as error:
        others = actor_rows().exclude(pk=actor.pk).filter(examplary_id=remote.id)
        if isinstance(error, IntegrityError) and others.exists():
            # Two accounts that share an e-mail address must not share an actor.
            failure = ExamplaryNotProvisionedError(
                "This Examplary user represents another account here already. Do the two accounts "
                "share an e-mail address? Give one of them another."
            )
        else:
            _log_lost_id(actor, remote, "not-stored")
            failure = database_error("The actor", error)
    if failure is not None:
        raise failure
    if not kept:
        # The user is gone, or this claim ended and another caller holds the row now.
        _log_lost_id(actor, remote, "claim-lost")
        raise ExamplaryNotReadyError("The claim on this user was lost; try again in a moment.")
    _set(actor, stored)
    signals.actor_provisioned.send_robust(ExamplaryActor, actor=actor)


def _refuse_takeover(
    actor: ExamplaryActor, remote: User, profile: ActorProfile, client: ExamplaryClient
) -> None:
    """Refuse an Examplary user who existed before, unless addresses are trusted.

    Anyone can enter the address of another person where a site does not verify addresses, and would
    get that person's account. A new user has the name and the role that were sent.
    """
    sent = {"name": profile.name, "role": profile.role or ""}
    received = {"name": remote.name, "role": remote.role}
    differing = [
        name
        for name, value in received.items()
        if value and sent[name] and value.strip().casefold() != sent[name].strip().casefold()
    ]
    if not differing:
        return
    trusted = conf.EXAMPLARY_EMAILS_ARE_VERIFIED
    if trusted and remote.role not in _MANAGERS and remote.id != client.get_me().id:
        return
    _log_lost_id(actor, remote, "existed-before")
    advice = (
        "It manages the workspace or owns the API key: give the user another address."
        if trusted
        else "If it is the same person, link the id, or set EXAMPLARY_EMAILS_ARE_VERIFIED."
    )
    raise ExamplaryNotProvisionedError(
        f"Examplary has a user with this address already, with another {differing[0]}. {advice}"
    )


def _log_lost_id(actor: ExamplaryActor, remote: User, outcome: str) -> None:
    """Log the id, which is stored nowhere else, so that an operator can link it."""
    logger.error(
        "operation=provision-actor outcome=%s actor=%s examplary_id=%s",
        outcome,
        actor.pk,
        remote.id,
    )


def _state_after(error: ExamplaryError) -> ExamplaryActor.State:
    if is_uncertain(error) or isinstance(error, ExamplaryDatabaseError):
        return State.UNCERTAIN
    if is_postponed(error) or isinstance(error, _NOT_THE_USERS_FAULT):
        return State.PENDING
    return State.FAILED


def _set(actor: ExamplaryActor, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        setattr(actor, name, value)
