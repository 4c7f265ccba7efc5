"""Claim actors, and end claims with the response of the API."""

from __future__ import annotations

import html
import logging
import re
import unicodedata
import uuid
from dataclasses import asdict
from datetime import timedelta
from typing import Any, get_args

from django.db import Error, IntegrityError
from django.db.models import Q
from django.utils import timezone

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.client.errors import cleaned
from django_examplary.client.retries import is_postponed, is_uncertain
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole, User
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
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
)
from django_examplary.models import DatabaseNow, ExamplaryActor
from django_examplary.services.database import (
    actor_rows,
    commit,
    database_error,
    lease,
    new_token,
    set_values,
)

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State

# The request had no effect, and the user need not be changed.
_NOT_ABOUT_THE_USER = (
    ExamplaryAuthenticationError,
    ExamplaryConnectionError,
    ExamplaryPermissionError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)


def claim_actor(actor: ExamplaryActor) -> bool:
    """Claim the row for this caller. Return False if another caller provisions the actor."""
    token = new_token()
    now = timezone.now()
    is_repeat = actor.state in (State.CLAIMED, State.UNCERTAIN)
    rows = actor_rows().filter(pk=actor.pk)

    def claim() -> int:
        # An earlier attempt whose commit was not acknowledged has stored the token.
        claimed = rows.claimed_with(token) | rows.claimable()
        return claimed.update(
            state=State.CLAIMED, claim_token=token, lapses_at=lease(), last_error="", updated_at=now
        )

    if not commit(claim):
        return False
    # Read after the claim, because the row may have changed while this caller waited.
    current = rows.claimed_with(token).first()
    if current is None:
        return False
    for name in ("workspace", "examplary_id", "claim_token", "idempotency_key", "role", "state"):
        setattr(actor, name, getattr(current, name))
    actor.is_repeat = is_repeat
    return True


def release_actor(actor: ExamplaryActor, error: Exception | None = None) -> None:
    """End a claim with the state after an error, and store the role that was sent.

    So a retry does not turn a student into a teacher. Without an error, nothing was sent.
    """
    description = describe_error(error) if error else ""
    if examplary_id := getattr(error, "examplary_id", ""):
        _log_lost_id(actor, examplary_id, "unusable-answer")
        description = f"{description[:190].rstrip('.')}. The response shows the id {examplary_id}."
    changed: dict[str, Any] = {
        "state": _state_after(error) if isinstance(error, ExamplaryError) else State.PENDING,
        "role": actor.role,
        "last_error": description[:255],
        "updated_at": timezone.now(),
    }
    if changed["state"] == State.PENDING and actor.is_repeat:
        # The outcome of the earlier request is still unknown. The next attempt need not wait.
        changed["state"] = State.UNCERTAIN
        changed["lapses_at"] = DatabaseNow() - timedelta(seconds=1)
    if changed["state"] != State.UNCERTAIN:
        # The outcome is known, so another request needs another key.
        changed["idempotency_key"] = uuid.uuid4()
    held = actor_rows().claimed_with(actor.claim_token).filter(pk=actor.pk)
    actor.state = changed["state"]
    try:
        commit(lambda: held.update(**changed))
    except Error as failure:
        # The claim expires. The error that the caller raises is more important.
        logger.warning(
            "operation=release-actor actor=%s error=%s", actor.pk, type(failure).__name__
        )


def disown_actor(actor: ExamplaryActor, error: ExamplaryError) -> None:
    """Delete the id of an actor, because it belongs to the owner of the API key."""
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
    """Return a description of the error, with advice for an operator, for `last_error`."""
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
    """Store the id of the created user, and send the signal.

    Raises ExamplaryNotProvisionedError if the remote user must not represent this one,
    ExamplaryNotReadyError if the claim was lost, and ExamplaryDatabaseError.
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
    # An earlier attempt whose commit was not acknowledged has stored the id.
    claimed = rows.filter(Q(state=State.CLAIMED) | Q(state=State.ACTIVE, examplary_id=remote.id))
    failure: ExamplaryError | None = None
    try:
        kept = commit(lambda: claimed.update(**stored))
    except Error as error:
        others = actor_rows().exclude(pk=actor.pk).filter(examplary_id=remote.id)
        if isinstance(error, IntegrityError) and others.exists():
            # Two accounts that share an e-mail address must not share an actor.
            failure = ExamplaryNotProvisionedError(
                "This Examplary user represents another account here already. Do the two accounts "
                "share an e-mail address? Give one of them another."
            )
        else:
            _log_lost_id(actor, remote.id, "not-stored")
            failure = database_error("The actor", error)
    if failure is not None:
        raise failure
    if not kept:
        # The user was deleted, or another caller took over the expired claim.
        _log_lost_id(actor, remote.id, "claim-lost")
        raise ExamplaryNotReadyError("The claim on this user was lost; try again in a moment.")
    set_values(actor, stored)
    signals.actor_provisioned.send_robust(ExamplaryActor, actor=actor)


def _refuse_takeover(
    actor: ExamplaryActor, remote: User, profile: ActorProfile, client: ExamplaryClient
) -> None:
    """Reject an existing Examplary user, unless addresses are trusted.

    If a site does not verify addresses, a user could enter the address of another person and get
    that account. A new user has the name and the role that were sent.
    """
    # A response may lack both.
    differing = ""
    if remote.role and (profile.role not in _roles(remote.role) or may_manage(remote.role)):
        differing = f"role, {cleaned(remote.role, 40)!r} instead of {profile.role!r}"
    elif profile.name and not _letters(profile.name).startswith(_letters(remote.name)):
        # The API may shorten names.
        differing = "name"
    if not differing:
        return
    # An actor that was removed from the workspace may be added again with its id.
    trusted = conf.EXAMPLARY_EMAILS_ARE_VERIFIED or remote.id == actor.examplary_id
    if trusted and not may_manage(remote.role) and remote.id != client.get_me().id:
        return
    _log_lost_id(actor, remote.id, "existed-before")
    advice = (
        "It manages the workspace or owns the API key: give the user another address."
        if trusted
        else f"If it is the same person, link {remote.id}, or set EXAMPLARY_EMAILS_ARE_VERIFIED."
    )
    raise ExamplaryNotProvisionedError(
        f"Examplary has a user with this address already, with another {differing}. {advice}"
    )


def may_manage(role: str) -> bool:
    """Return whether a role, or one of several, may manage the workspace.

    An end user never gets the account of such a user. Unknown roles count as such.
    """
    return not _roles(role) <= {"", *get_args(ActorRole)}


def _roles(role: str) -> set[str]:
    return set(re.split(r"[\s,]+", role.strip().lower()))


def _letters(name: str) -> str:
    """Return the letters and digits of a name, because the API may change everything else."""
    plain = unicodedata.normalize("NFKD", html.unescape(name)).casefold()
    return "".join(filter(str.isalnum, plain))


def _log_lost_id(actor: ExamplaryActor, examplary_id: str, outcome: str) -> None:
    """Log the id, which is not stored elsewhere, so that an operator can link it."""
    logger.error(
        "operation=provision-actor outcome=%s actor=%s examplary_id=%s",
        outcome,
        actor.pk,
        examplary_id,
    )


def _state_after(error: ExamplaryError) -> ExamplaryActor.State:
    if is_uncertain(error) or isinstance(error, ExamplaryDatabaseError):
        return State.UNCERTAIN
    # A status without a specific class, such as 302 or 423, is not about the user.
    unusual = type(error) is ExamplaryAPIError
    if unusual or is_postponed(error) or isinstance(error, _NOT_ABOUT_THE_USER):
        return State.PENDING
    return State.FAILED
