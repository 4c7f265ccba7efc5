from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_examplary.models import ExamplaryActor
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
