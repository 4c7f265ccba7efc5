"""Link Django users to existing Examplary users."""

from __future__ import annotations

import logging
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.client.responses import read_object
from django_examplary.conf import conf
from django_examplary.data import Permission, User
from django_examplary.encoding import comparable_address, is_id
from django_examplary.exceptions import (
    ExamplaryError,
    ExamplaryNotProvisionedError,
    ExamplaryResponseError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services.claims import may_manage
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import actor_rows, commit, refuse_transaction
from django_examplary.services.outcomes import revoke_sessions
from django_examplary.services.profiles import get_profile

logger = logging.getLogger("django_examplary")

State = ExamplaryActor.State


def link_actor(
    user: Any, examplary_id: str, *, client: ExamplaryClient | None = None
) -> ExamplaryActor:
    """Link a Django user to an existing Examplary user.

    For operators, if an address is already in use. `find_remote_actor` finds the id. The id must
    have the right prefix, must not belong to the owner of the API key, and must not represent
    another user of this site. Raises ExamplaryValidationError for those. Open sessions of a former
    id are revoked.
    """
    if not is_id(examplary_id, "user_"):
        raise ExamplaryValidationError("examplary_id", "must be an id that starts with 'user_'")
    refuse_transaction("link_actor")
    workspace = workspace_of(user)
    if examplary_id == (client or get_client(workspace)).get_me().id:
        raise ExamplaryValidationError(
            "examplary_id", "is the user who owns the API key, who cannot be an actor"
        )
    return store_link(user, examplary_id, workspace)


def store_link(user: Any, examplary_id: str, workspace: str) -> ExamplaryActor:
    """Store a checked id for a user. Raises ExamplaryValidationError if another user has it."""
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
            # The open sessions and the sent profile belong to another Examplary user.
            revoke_sessions(former)
            changed |= {"email": "", "name": "", "role": ""}
        return actor_rows().update_or_create(user_id=user.pk, defaults=changed)[0]

    try:
        actor = commit(link)
    except IntegrityError:
        raise ExamplaryValidationError(
            "examplary_id", "represents another account here already"
        ) from None
    signals.actor_provisioned.send_robust(ExamplaryActor, actor=actor)
    return actor


def find_remote_actor(user: Any, *, client: ExamplaryClient | None = None) -> str:
    """Return the id of the Examplary user with the user's e-mail address.

    For operators, who must decide whether to pass the id to `link_actor`, because anyone may have
    entered that address. The API documents no search, so this creates an exam, gives the address a
    role on it, and deletes the exam (contract, section 6). A side effect: for an unknown address
    Examplary creates a user, with an undocumented workspace role.

    Raises ExamplaryNotProvisionedError for the owner of the API key and for people who manage the
    workspace, ExamplaryValidationError if the user has no usable address, any ExamplaryError of the
    client, and TransactionManagementError inside a transaction.
    """
    refuse_transaction("find_remote_actor")
    actor = ExamplaryActor()
    actor.set_user(user)
    email = get_profile(actor).email
    client = client or get_client(workspace_of(user))
    return find_user(email, client.within(conf.EXAMPLARY_DEADLINE)).id


def find_user(email: str, client: ExamplaryClient) -> User:
    """Return the Examplary user with an address; for side effects see `find_remote_actor`.

    Does not use the database, so any thread may call it.
    """
    owner = client.get_me()
    refusal = ExamplaryNotProvisionedError(
        "At Examplary this address belongs to a person who manages the workspace or owns the API "
        "key. Give the user another address."
    )
    if comparable_address(owner.email) == comparable_address(email):
        # Granting a role would replace that of the owner.
        raise refusal
    exam = client.create_exam("Look-up of a user, to be deleted")
    try:
        path = "/permissions/{resource}"
        answer = client.request(
            "POST",
            path,
            ids={"resource": exam.id},
            json={"email": email, "role": "viewer", "sendInvite": False},
            # Idempotent, so safe to retry.
            repeat="always",
        )
    finally:
        try:
            client.delete_exam(exam.id)
        except ExamplaryError as error:
            logger.warning("operation=find-user outcome=exam-left exam=%s error=%s", exam.id, error)
    permission = read_object(Permission, answer, f"POST {path}")
    if isinstance(permission, ExamplaryResponseError):
        raise permission
    if not permission.actor.startswith("user_"):
        raise ExamplaryResponseError(f"The response to POST {path} has no id of a user.")
    actor = permission.raw.get("actor")
    role = str(actor.get("orgRole") or "") if isinstance(actor, dict) else ""
    if permission.actor == owner.id or may_manage(role):
        raise refusal
    return User(id=permission.actor, role=role)
