"""Mistakes that mypy and basedpyright must report; an unused ignore comment is an error."""

from __future__ import annotations

from django.contrib.auth.models import User

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.flows import GenerateExam, TakeExam
from django_examplary.models import ExamplarySession


def make_mistakes(user: User, client: ExamplaryClient) -> None:
    services.provision_actor(user, role="headmaster")  # type: ignore[arg-type]
    services.open_session(user, "generate-exam")  # type: ignore[arg-type]
    GenerateExam(subjct="Mathematics")  # type: ignore[call-arg]
    GenerateExam(intended_duration="45")  # type: ignore[arg-type]
    TakeExam()  # type: ignore[call-arg]
    client.create_exam("Fractions", permissions={"user_1": "boss"})  # type: ignore[dict-item]
    ExamplarySession.objects.for_pupil(user)  # type: ignore[attr-defined]


async def make_mistakes_too(user: User) -> None:
    await services.aprovision_actor(user, role="headmaster")  # type: ignore[arg-type]
