"""Create exams and practice spaces at Examplary when they are first needed.

These functions call the API, so call them outside transactions. They hold no lock: concurrent
visitors each create an object, and all of them use the one whose id was stored first.
"""

from __future__ import annotations

from courses.models import Course, Exam
from courses.schools import workspace_of
from django_examplary import services
from django_examplary.client import ExamplaryClient


def client_of(course: Course) -> ExamplaryClient:
    """Return the client of the school's workspace, which contains the content of the course."""
    return services.get_client(workspace_of(course.teacher))


def send_exam(exam: Exam) -> None:
    """Create the exam at Examplary if it does not exist there."""
    if exam.examplary_id:
        return
    sent = client_of(exam.course).create_exam(
        exam.name,
        subject=exam.course.subject,
        student_level=exam.course.student_level,
        questions=exam.own_questions,
    )
    Exam.objects.filter(pk=exam.pk, examplary_id=None).update(examplary_id=sent.id)
    exam.refresh_from_db(fields=["examplary_id"])


def read_name(exam: Exam) -> None:
    """Copy the name that the teacher gave the exam at Examplary."""
    name = client_of(exam.course).get_exam(exam.examplary_id or "").name
    if name:
        exam.name = name[:200]
        exam.save(update_fields=["name"])


def open_practice_space(course: Course) -> None:
    """Create a practice space for the course if it has none."""
    if course.practice_space_id:
        return
    space = client_of(course).create_practice_space(
        name=course.name,
        student_notes="A little every day beats a lot before the exam.",
        mastery_topics=[{"id": topic} for topic in course.topics],
    )
    Course.objects.filter(pk=course.pk, practice_space_id="").update(practice_space_id=space.id)
    course.refresh_from_db(fields=["practice_space_id"])
