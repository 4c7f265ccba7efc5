from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand
from django.utils import timezone
from django.utils.functional import cached_property

from courses.models import Course, Exam, Rubric, Sitting

PASSWORD = "demo"


def _rubric(title: str, *levels: str) -> dict[str, Any]:
    """Return a rubric with one criterion, whose best level is first."""
    return {
        "rubricType": "analytical",
        "criteria": [
            {
                "id": "c1",
                "title": title,
                "levels": [
                    {"id": f"c1l{number}", "title": level, "points": len(levels) - number}
                    for number, level in enumerate(levels, start=1)
                ],
            }
        ],
    }


QUESTIONS = [
    {
        "type": "single-line-text",
        "title": "Write 0.375 as a fraction in its lowest terms.",
        "scoring": _rubric("Fraction", "Three eighths", "Another equal fraction", "Wrong"),
    },
    {
        "type": "multi-line-text",
        "title": "A recipe for 4 people takes 300 g of flour. How much for 7? Show how you know.",
        "scoring": _rubric("Reasoning", "Complete", "A gap", "Only an answer", "Missing"),
    },
    {
        "type": "true-false",
        "title": "The ratio 6 : 10 equals the ratio 9 : 15.",
        "scoring": _rubric("Answer", "Correct", "Incorrect"),
    },
]


class Command(BaseCommand):
    help = "Adds the missing accounts and courses of the demonstration."

    def handle(self, **options: Any) -> None:
        teacher = self._user("teacher", "Maya Lindqvist")
        student = self._user("student", "Sam Okafor")
        classmate = self._user("noor", "Noor Haddad")
        self._user("admin", "Ada Brandt", is_staff=True, is_superuser=True)

        if settings.SOUTHFIELD_API_KEY:
            self._add_southfield()
        mathematics, is_new = Course.objects.get_or_create(
            name="Mathematics 9",
            defaults={
                "subject": "Mathematics",
                "student_level": "us_high_school_lower",
                "topics": ["fractions", "ratios", "linear-equations"],
                "teacher": teacher,
            },
        )
        if not is_new:
            return
        biology = Course.objects.create(
            name="Biology 10",
            subject="Biology",
            student_level="us_high_school_lower",
            topics=["cells", "genetics"],
            teacher=teacher,
        )
        for course in (mathematics, biology):
            course.students.add(student, classmate)
        exam = Exam.objects.create(
            course=mathematics,
            name="Fractions and ratios",
            own_questions=QUESTIONS,
            is_published=True,
        )
        now = timezone.now()
        Sitting.objects.create(
            exam=exam,
            student=classmate,
            started_at=now - timedelta(minutes=50),
            handed_in_at=now - timedelta(minutes=10),
        )
        levels = ("Clear throughout", "Clear in part", "Hard to follow")
        Rubric.objects.create(course=mathematics, content=_rubric("Explanation", *levels))

    def _add_southfield(self) -> None:
        course, _ = Course.objects.get_or_create(
            name="History 9",
            defaults={
                "subject": "History",
                "student_level": "us_high_school_lower",
                "topics": ["ancient-rome", "middle-ages"],
                "teacher": self._user("rosa", "Rosa Marín", "southfield"),
            },
        )
        course.students.add(self._user("luis", "Luis Ferrer", "southfield"))
        Exam.objects.get_or_create(
            course=course,
            name="Rome",
            defaults={
                "own_questions": [{"type": "essay", "title": "Why did Rome grow?"}],
                "is_published": True,
            },
        )

    @cached_property
    def _password(self) -> str:
        """The password of every account, hashed once because it takes half a second."""
        return make_password(PASSWORD)

    def _user(self, username: str, name: str, school: str = "northfield", **flags: bool) -> Any:
        users = get_user_model().objects
        first_name, last_name = name.split()
        user = users.filter(username=username).first()
        return user or users.create(
            username=username,
            email=f"{username}@{school}.example",
            password=self._password,
            first_name=first_name,
            last_name=last_name,
            **flags,
        )
