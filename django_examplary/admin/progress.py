"""The progress of provisioning a selection of users."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext

from django_examplary import services
from django_examplary.admin.advice import Advice, advise_each
from django_examplary.models import ExamplaryActor

State = ExamplaryActor.State

#: The states of actors whose provisioning failed.
FAILED_STATES = [State.FAILED, State.UNCERTAIN]


class Progress:
    """The progress since the start of the run, counted in the rows, so it survives restarts."""

    def __init__(self, users: QuerySet[Any], started: datetime) -> None:
        actors = ExamplaryActor.objects.filter(user__in=users.order_by().values("pk"))
        broken = actors.filter(state__in=FAILED_STATES, updated_at__gte=started)
        self.failures = broken.select_related("user").order_by("pk")
        # Each run attempts each user once.
        self.remaining = services.unprovisioned(users).exclude(
            examplary_actor__state__in=FAILED_STATES, examplary_actor__updated_at__gte=started
        )
        self.provisioned = actors.filter(state=State.ACTIVE, provisioned_at__gte=started).count()
        self.failed = self.failures.count()
        self.left = self.remaining.count()
        self.done = self.provisioned + self.failed
        self.total = self.done + self.left

    def __str__(self) -> str:
        return gettext("%(done)s of %(total)s users, %(failed)s failed") % {
            "done": number_format(self.done, force_grouping=True),
            "total": number_format(self.total, force_grouping=True),
            "failed": number_format(self.failed, force_grouping=True),
        }


def group_by_reason(actors: Sequence[ExamplaryActor]) -> list[tuple[Advice, list[ExamplaryActor]]]:
    """Group failures by their reason, the most frequent reason first."""
    reasons: dict[Advice, list[ExamplaryActor]] = {}
    for actor, (advice, _) in zip(actors, advise_each(actors), strict=True):
        reasons.setdefault(advice, []).append(actor)
    return sorted(reasons.items(), key=lambda reason: -len(reason[1]))
