"""Giving a Django user an Examplary user who exists already."""

from __future__ import annotations

import re
from typing import Any

from django.db import IntegrityError
from django.utils import timezone

from django_examplary import signals
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryValidationError
from django_examplary.models import ExamplaryActor
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import actor_rows, commit, refuse_transaction
from django_examplary.services.outcomes import revoke_sessions

State = ExamplaryActor.State


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
