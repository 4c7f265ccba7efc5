"""Store the verified results of Examplary's flows in the tables of this site."""

from __future__ import annotations

from typing import Any

from django.dispatch import receiver
from django.utils import timezone

from courses import content
from courses.models import Exam, Question, Rubric, Sitting
from django_examplary.flows import Outputs
from django_examplary.models import ExamplarySession
from django_examplary.signals import session_closed, session_completed


@receiver(session_completed)
def store_result(session: ExamplarySession, outputs: Outputs | Any, **kwargs: Any) -> None:
    about = session.metadata
    match session.flow:
        case "generate-exam":
            exam = Exam.objects.create(course_id=about["course"], examplary_id=outputs.exam_id)
            content.read_name(exam)
        case "generate-question":
            Question.objects.create(course_id=about["course"], content=outputs.question)
        case "edit-rubric" if "rubric" in about:
            rubric = Rubric.objects.get(pk=about["rubric"])
            rubric.content = outputs.rubric
            rubric.save()
        case "edit-rubric":
            Rubric.objects.create(course_id=about["course"], content=outputs.rubric)
        case "take-exam":
            Sitting.objects.filter(pk=about["sitting"]).update(handed_in_at=timezone.now())
        case "mark-answer":
            _store_marking(session)


@receiver(session_closed)
def store_done(session: ExamplarySession, **kwargs: Any) -> None:
    match session.flow:
        case "edit-exam":
            content.read_name(Exam.objects.get(examplary_id=session.presets["examId"]))
        case "mark-answer":
            # The completion of this flow is not documented, so Done counts as marked.
            _store_marking(session)


def _store_marking(session: ExamplarySession) -> None:
    Sitting.objects.filter(pk=session.metadata["sitting"]).update(marked_at=timezone.now())
