"""Rows and limits for the admin tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.utils import timezone

from django_examplary.admin.base import ExamplaryAdminMixin
from django_examplary.models import ExamplaryActor, ExamplarySession

State = ExamplaryActor.State
Status = ExamplarySession.Status


def limit(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    """Change some limits of every admin class."""
    changed = replace(ExamplaryAdminMixin.examplary_limits, **limits)
    monkeypatch.setattr(ExamplaryAdminMixin, "examplary_limits", changed)


def make_user(username: str, **fields: Any) -> User:
    fields.setdefault("email", f"{username}@school.example")
    return User.objects.create_user(username, **fields)


def allow(user: User, *codenames: str) -> None:
    """Give a user some permissions."""
    user.user_permissions.add(*Permission.objects.filter(codename__in=codenames))


def make_actor(username: str, **fields: Any) -> ExamplaryActor:
    values: dict[str, Any] = {"state": State.ACTIVE, "examplary_id": f"user_{username}", **fields}
    user = values.pop("user", None) or make_user(username)
    return ExamplaryActor.objects.create(user=user, **values)


def make_session(actor: ExamplaryActor | None, **fields: Any) -> ExamplarySession:
    values: dict[str, Any] = {
        "flow": "generate-exam",
        "status": Status.PENDING,
        "expires_at": timezone.now() + timedelta(days=7),
        **fields,
    }
    return ExamplarySession.objects.create(actor=actor, **values)
