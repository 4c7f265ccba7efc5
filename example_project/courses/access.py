"""The function for EXAMPLARY_AUTHORIZE, which runs at every launch of an embed."""

from __future__ import annotations

from django.http import HttpRequest

from courses.models import Course, Exam, Rubric, Sitting
from django_examplary.launch import Launch


def may_launch(request: HttpRequest, launch: Launch) -> bool:
    """Return whether the user may still open this. The page may have been open for hours.

    The embeds of this site pass `grant_access=True`, which gives the user a role on the exam or
    practice space. So this function checks that the user may use each id.
    """
    user, presets, about = request.user, launch.flow.presets, launch.metadata
    taught = Course.objects.filter(teacher=user)
    match launch.flow.slug:
        case "take-exam":
            return Sitting.objects.filter(
                pk=about.get("sitting"),
                student=user,
                exam__examplary_id=presets["examId"],
                exam__is_published=True,
                exam__course__students=user,
            ).exists()
        case "practice-space-student":
            spaces = Course.objects.filter(students=user)
            return spaces.filter(practice_space_id=presets["practiceSpaceId"]).exists()
        case "edit-exam" | "mark-answer":
            exams = Exam.objects.filter(course__in=taught)
            return exams.filter(examplary_id=presets["examId"]).exists()
        case "edit-rubric" if "rubric" in about:
            return Rubric.objects.filter(pk=about["rubric"], course__in=taught).exists()
        case _:
            return taught.filter(pk=about.get("course")).exists()
