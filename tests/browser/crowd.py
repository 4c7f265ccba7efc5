"""A large school, for tests of the admin."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.models import User
from django.utils import timezone

from django_examplary.models import ExamplaryActor, ExamplarySession

State = ExamplaryActor.State
Status = ExamplarySession.Status


def make_crowd() -> None:
    """Create a school of 5,000 pupils with 8,000 sessions.

    One pupil in ten has no account, and one in ten has an address that is in use.
    """
    User.objects.bulk_create(
        User(username=f"pupil{number:04}", email=f"pupil{number:04}@school.example")
        for number in range(5000)
    )
    users = list(User.objects.filter(username__startswith="pupil").order_by("username"))
    ExamplaryActor.objects.bulk_create(
        ExamplaryActor(
            user=user,
            state=State.FAILED if number % 10 == 1 else State.ACTIVE,
            last_error="The address exists." if number % 10 == 1 else "",
            examplary_id=None if number % 10 == 1 else f"user_{number}",
        )
        for number, user in enumerate(users)
        if number % 10
    )
    actors = list(
        ExamplaryActor.objects.filter(state=State.ACTIVE, user__username__startswith="pupil")
    )
    now = timezone.now()
    ExamplarySession.objects.bulk_create(
        (
            ExamplarySession(
                actor=actors[number % len(actors)],
                flow=("generate-exam", "take-exam", "edit-rubric")[number % 3],
                status=(Status.COMPLETED, Status.EXPIRED)[number % 2],
                created_at=now - timedelta(minutes=5 * number),
                ended_at=now - timedelta(minutes=5 * number - 3),
            )
            for number in range(8000)
        ),
        batch_size=500,
    )
