from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone

from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.signals import actor_provisioned


@pytest.fixture
def lapse() -> Callable[[], None]:
    """Let every claim have ended, as if its holder had died."""

    def lapse() -> None:
        past = timezone.now() - timedelta(minutes=5)
        for model in (ExamplaryActor, ExamplarySession):
            model.objects.exclude(lapses_at=None).update(lapses_at=past)

    return lapse


@pytest.fixture
def provisioned() -> Iterator[list[ExamplaryActor]]:
    """The actors that were announced as provisioned, in order."""
    received: list[ExamplaryActor] = []

    def receiver(actor: ExamplaryActor, **kwargs: object) -> None:
        received.append(actor)

    actor_provisioned.connect(receiver)
    yield received
    actor_provisioned.disconnect(receiver)
