"""From a Django user to an Examplary user: once each, whatever happens in between.

The row is claimed and committed before the API is asked, so that of any number of simultaneous
callers one asks. A caller that dies leaves a claim that lapses. An answer that never came leaves
`uncertain`: the API may have made the user, and it has no documented way to look that up.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import timedelta
from typing import Any, cast, get_args

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
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.connections import (
    actor_rows,
    announce,
    commit,
    database,
    get_client,
    lapsed_before,
    refuse_transaction,
    session_rows,
    update_rows,
)

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State
Status = ExamplarySession.Status

# The pattern of `POST /users`, word for word (contract, section 5). It is stricter than Django's.
EMAIL_PATTERN = re.compile(
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}\Z"
)

# The longest address there is, and that the column takes.
_EMAIL_LENGTH = 254

# How long a claim may wait for its turn. Together with a whole call it is still within the lease.
_FRESH = timedelta(seconds=10)

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
    """Return the user's active actor, made with `POST /users` if there is none yet.

    `role` is sent when the user's profile names none; by default the one that was tried before, or
    else `teacher`. While another caller provisions the same user this one waits for it, for at most
    EXAMPLARY_DEADLINE seconds.

    Raises ExamplaryValidationError when the profile cannot be sent, ExamplaryNotReadyError when it
    may work in a minute, ExamplaryNotProvisionedError when the user cannot have an actor, any
    ExamplaryError of the client, and TransactionManagementError inside a transaction.
    """
    refuse_role(role)
    if not user.is_active:
        raise ExamplaryNotProvisionedError("An inactive user has no use of an Examplary actor.")
    actor = actor_rows().filter(user=user).first()
    if actor is not None and actor.is_active:
        return actor
    refuse_transaction("provision_actor")
    client = (client or get_client()).within(conf.EXAMPLARY_DEADLINE)
    try:
        claimed = claim_actors([user])
    except IntegrityError:
        raise ExamplaryNotProvisionedError("The user does not exist any more.") from None
    if not claimed:
        return _wait_for_actor(user, client.time_left)
    [actor] = claimed
    actor.role = role or actor.role
    try:
        profile = get_profile(actor)
        remote = client.create_user(**asdict(profile))
    except (ExamplaryError, ExamplaryConfigurationError) as error:
        release_actor(actor, error)
        raise
    store_actor(actor, remote, profile)
    return actor


def link_actor(
    user: Any, examplary_id: str, *, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Let an Examplary user who exists already stand for a Django user.

    For an operator who was told that an address is taken: the API has no documented way to find
    the id. What can be checked is: its shape, that it is not the owner of the API key, and that it
    stands for nobody else here. Raises ExamplaryValidationError for those. Open sessions of
    a former id are revoked.
    """
    if not re.fullmatch(r"user_[A-Za-z0-9_-]{1,250}", examplary_id):
        raise ExamplaryValidationError("examplary_id", "must be an id that starts with 'user_'")
    refuse_transaction("link_actor")
    if examplary_id == (client or get_client()).get_me().id:
        raise ExamplaryValidationError(
            "examplary_id", "is the user who owns the API key, who cannot be an actor"
        )
    linked = {
        "state": State.ACTIVE,
        "examplary_id": examplary_id,
        "claimed_at": None,
        "last_error": "",
        "provisioned_at": timezone.now(),
    }
    try:
        with transaction.atomic(using=database()):
            former = actor_rows().filter(user=user).exclude(examplary_id=examplary_id).first()
            if former is not None:
                # What is open, and what was sent, is that of another user at Examplary.
                revoke_sessions(former)
                linked |= {"email": "", "name": "", "role": ""}
            actor, _ = actor_rows().update_or_create(user=user, defaults=linked)
    except IntegrityError:
        raise ExamplaryValidationError(
            "examplary_id", "stands for another account here already"
        ) from None
    announce(signals.actor_provisioned, ExamplaryActor, actor=actor)
    return actor


def revoke_sessions(actor: ExamplaryActor) -> list[ExamplarySession]:
    """End an actor's open sessions here at once, for a sweep to revoke them at Examplary.

    Asks nothing, so it may run inside a transaction. Returns the sessions.
    """
    sessions = session_rows().filter(actor=actor)
    # First, so that one that is being opened right now is either dropped, and handed out to nobody,
    # or among those that follow.
    sessions.filter(status=Status.CREATING).delete()
    keys = list(sessions.open().values_list("pk", flat=True))
    sessions.open().filter(pk__in=keys).update(
        status=Status.REVOKED,
        embed_url="",
        open_key=None,
        ended_at=timezone.now(),
        revoke_pending=True,
    )
    return list(sessions.filter(pk__in=keys, status=Status.REVOKED))


def replace_stale_actor(
    actor: ExamplaryActor, *, role: ActorRole, client: ExamplaryClient
) -> ExamplaryActor:
    """Provision again after the API said that it does not know the actor's id.

    `role` is for an actor that was linked, whose own is not known.
    """
    stale = actor_rows().filter(pk=actor.pk, examplary_id=actor.examplary_id)
    if update_rows(stale, state=State.PENDING, examplary_id=None):
        # The id is in the log because it is nowhere else now: were it the API key that is wrong, an
        # operator could link it again.
        logger.warning(
            "operation=replace-stale-actor actor=%s examplary_id=%s", actor.pk, actor.examplary_id
        )
    known = cast("ActorRole", actor.role or role)
    return provision_actor(actor.user, role=known, client=client)


def claim_actors(users: Iterable[Any]) -> list[ExamplaryActor]:
    """Take the rows of these users for this caller, and return those that nobody else has."""
    known = {user.pk: user for user in users}
    rows = actor_rows().filter(user__in=list(known))
    blank = [ExamplaryActor(user=user) for user in known.values()]
    # Committed by itself: an insert that met another's row holds on to it until the commit.
    commit(lambda: actor_rows().bulk_create(blank, ignore_conflicts=True))

    def claim() -> list[ExamplaryActor] | None:
        now = timezone.now()
        claimed = rows.filter(
            Q(state__in=[State.PENDING, State.FAILED])
            | Q(state__in=[State.CLAIMED, State.UNCERTAIN], claimed_at__lt=lapsed_before())
        ).update(state=State.CLAIMED, claimed_at=now, last_error="", updated_at=now)
        mine = list(rows.filter(state=State.CLAIMED, claimed_at=now).order_by("user_id"))
        if len(mine) == claimed:
            return mine
        # Another caller claimed in the same microsecond: its rows look like ours.
        transaction.set_rollback(True, using=database())
        return None

    while (mine := commit(claim)) is None:
        continue
    for actor in mine:
        actor.user = known[actor.user_id]
    return mine


def renew_claim(actor: ExamplaryActor) -> bool:
    """Keep a claim that has waited for its turn from lapsing. False: it is somebody else's now."""
    now = timezone.now()
    if actor.claimed_at is not None and actor.claimed_at > now - _FRESH:
        return True
    if not _mine(actor).update(claimed_at=now):
        return False
    actor.claimed_at = now
    return True


def release_actor(actor: ExamplaryActor, error: Exception | None = None) -> None:
    """Give the row back as the error left it, with the role that was tried, so that whoever tries
    again makes no teacher of a student; None: nothing was sent."""
    state = _state_after(error) if isinstance(error, ExamplaryError) else State.PENDING
    reason = describe_error(error)[:255] if error else ""
    now = timezone.now()
    update_rows(_mine(actor), state=state, role=actor.role, last_error=reason, updated_at=now)


def disown_actor(actor: ExamplaryActor, error: ExamplaryError) -> None:
    """Drop an id that cannot stand for anybody: Examplary gave that of the API key's owner."""
    owned = actor_rows().filter(pk=actor.pk, examplary_id=actor.examplary_id)
    update_rows(
        owned,
        state=State.FAILED,
        examplary_id=None,
        last_error=describe_error(error)[:255],
        updated_at=timezone.now(),
    )


def describe_error(error: Exception) -> str:
    """Say what went wrong, and what an operator can do about it, for `last_error`."""
    if isinstance(error, ExamplaryActorIsOwnerError):
        return (
            "At Examplary the user's e-mail address belongs to the owner of the API key, who cannot"
            " be an actor. Give the user another address, or use the key of somebody else."
        )
    if isinstance(error, (ExamplaryInvalidRequestError, ExamplaryConflictError)):
        refusal = str(error)[:180].rstrip(".")
        return f"{refusal}. If Examplary has this user already, link the id."
    return str(error)


def store_actor(actor: ExamplaryActor, remote: User, profile: ActorProfile) -> None:
    """Keep what the API made, and announce it.

    Raises ExamplaryNotProvisionedError when another account has that very user, and
    ExamplaryNotReadyError when the claim was lost meanwhile.
    """
    now = timezone.now()
    stored = {
        "state": State.ACTIVE,
        "examplary_id": remote.id,
        **asdict(profile),
        "provisioned_at": now,
        "updated_at": now,
    }
    # The database may have kept it, and then have been lost before it could say so.
    mine, kept_before = _mine(actor), actor_rows().filter(pk=actor.pk, examplary_id=remote.id)
    try:
        kept = commit(lambda: mine.update(**stored) or kept_before.exists())
    except IntegrityError:
        # Two accounts that share an e-mail address must not share an actor.
        error = ExamplaryNotProvisionedError(
            "Examplary answered with another account's user. Do they share an e-mail address?"
        )
        release_actor(actor, error)
        raise error from None
    except Error:
        _log_lost_id(actor, remote, "not-stored")
        raise
    if not kept:
        # The user is gone, or this claim lapsed and another caller holds the row now.
        _log_lost_id(actor, remote, "claim-lost")
        raise ExamplaryNotReadyError("The claim on this user was lost; try again in a moment.")
    for field, value in stored.items():
        setattr(actor, field, value)
    announce(signals.actor_provisioned, ExamplaryActor, actor=actor)


def _log_lost_id(actor: ExamplaryActor, remote: User, outcome: str) -> None:
    """Nothing but the log has the id of what was made; an operator can link it."""
    logger.error(
        "operation=provision-actor outcome=%s actor=%s examplary_id=%s",
        outcome,
        actor.pk,
        remote.id,
    )


def _mine(actor: ExamplaryActor) -> Any:
    """The row, as long as this caller's claim holds."""
    return actor_rows().filter(pk=actor.pk, state=State.CLAIMED, claimed_at=actor.claimed_at)


def _state_after(error: ExamplaryError) -> ExamplaryActor.State:
    if is_uncertain(error):
        return State.UNCERTAIN
    if is_postponed(error) or isinstance(error, _NOT_THE_USERS_FAULT):
        return State.PENDING
    return State.FAILED


def _wait_for_actor(user: Any, patience: float) -> ExamplaryActor:
    deadline = time.monotonic() + patience
    pause = 0.02
    while time.monotonic() < deadline:
        actor = actor_rows().filter(user=user).first()
        if actor is None:
            raise ExamplaryNotProvisionedError("The user does not exist any more.")
        if actor.is_active:
            return actor
        if actor.state == State.FAILED:
            raise ExamplaryNotProvisionedError(actor.last_error)
        if actor.state != State.CLAIMED:
            # It did not work out just now, or nobody knows yet whether it did.
            break
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)
    raise ExamplaryNotReadyError("This user is not provisioned yet; try again in a minute.")


def get_profile(actor: ExamplaryActor) -> ActorProfile:
    """Ask the project, or the user model, who the user is; checked as the API would.

    Raises ExamplaryValidationError naming the field, and ExamplaryConfigurationError when the
    project's own code fails.
    """
    describe = conf.EXAMPLARY_ACTOR_PROFILE or _describe_user
    try:
        profile = describe(actor.user)
    except ExamplaryError:
        raise
    except Exception as error:
        # What it says may not be for everybody who is told of this one.
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_ACTOR_PROFILE raised {type(error).__name__}."
        ) from error
    if not isinstance(profile, ActorProfile):
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_ACTOR_PROFILE gave a {type(profile).__name__}, and no ActorProfile."
        )
    email = str(profile.email or "").strip()
    if not EMAIL_PATTERN.match(email) or len(email) > _EMAIL_LENGTH:
        raise ExamplaryValidationError(
            "email",
            "the user has no address that Examplary accepts; correct it, or give the user another "
            "one with EXAMPLARY_ACTOR_PROFILE",
        )
    chosen = cast("ActorRole", profile.role or actor.role or "teacher")
    refuse_role(chosen)
    return ActorProfile(email=email, name=str(profile.name or "").strip()[:100], role=chosen)


def refuse_role(role: str | None) -> None:
    """Raise ExamplaryValidationError for a role that manages the workspace, or that is none."""
    if role is not None and role not in get_args(ActorRole):
        raise ExamplaryValidationError("role", f"an end user must not be {role!r} in Examplary")


def _describe_user(user: Any) -> ActorProfile:
    name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    return ActorProfile(email=getattr(user, user.get_email_field_name(), ""), name=name)
