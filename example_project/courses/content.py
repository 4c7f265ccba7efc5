"""The exams and the practice spaces of this site at Examplary, where each is made when it is first
needed. All of this asks the API, so call it outside transactions. No lock is held meanwhile: of
visitors who come at once each makes one, and all use the one whose id was kept first."""

from __future__ import annotations

from courses.models import Course, Exam
from courses.schools import workspace_of
from django_examplary import services
from django_examplary.client import ExamplaryClient


def client_of(course: Course) -> ExamplaryClient:
    """Return the client of the school's workspace: no other workspace has the course's content."""
    return services.get_client(workspace_of(course.teacher))


def send_exam(exam: Exam) -> None:
    """Make sure that Examplary has the exam."""
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
    """Take over the name that the teacher gave the exam at Examplary."""
    name = client_of(exam.course).get_exam(exam.examplary_id or "").name
    if name:
        exam.name = name[:200]
        exam.save(update_fields=["name"])


def open_practice_space(course: Course) -> None:
    """Make sure that the course has a space for its students to practise in."""
    if course.practice_space_id:
        return
    space = client_of(course).create_practice_space(
        name=course.name,
        student_notes="A little every day beats a lot before the exam.",
        mastery_topics=[{"id": topic} for topic in course.topics],
    )
    Course.objects.filter(pk=course.pk, practice_space_id="").update(practice_space_id=space.id)
    course.refresh_from_db(fields=["practice_space_id"])
