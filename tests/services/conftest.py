from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db.models import QuerySet

from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.signals import actor_provisioned


@pytest.fixture
def provisioned() -> Iterator[list[ExamplaryActor]]:
    """The actors of the received `actor_provisioned` signals, in order."""
    received: list[ExamplaryActor] = []

    def receiver(actor: ExamplaryActor, **kwargs: object) -> None:
        received.append(actor)

    actor_provisioned.connect(receiver)
    yield received
    actor_provisioned.disconnect(receiver)


@pytest.fixture
def protect(monkeypatch):
    """Return a function that lets a row of the project protect a session from deletion."""
    delete = QuerySet.delete

    def protect_session(session, error):
        def refuse(queryset):
            if queryset.model is ExamplarySession and queryset.filter(pk=session.pk).exists():
                raise error("A receipt refers to it.", set())
            return delete(queryset)

        monkeypatch.setattr(QuerySet, "delete", refuse)

    return protect_session
