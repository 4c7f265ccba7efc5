from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone


class Course(models.Model):
    name = models.CharField(max_length=100)
    subject = models.CharField(max_length=100)
    student_level = models.CharField(
        max_length=100, help_text="One of Examplary's, such as us_high_school_lower."
    )
    topics = models.JSONField(default=list, blank=True)
    teacher = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="courses_taught"
    )
    students = models.ManyToManyField(
        settings.AUTH_USER_MODEL, blank=True, related_name="courses_taken"
    )
    practice_space_id = models.CharField(
        "Examplary id of the practice space", max_length=255, blank=True, editable=False
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("course", args=[self.pk])


class Exam(models.Model):
    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="exams")
    name = models.CharField(max_length=200, default="Untitled exam")
    examplary_id = models.CharField(
        "Examplary id", max_length=255, unique=True, null=True, blank=True
    )
    #: Of an exam that the school had before; Examplary keeps those of all others.
    own_questions = models.JSONField(default=list, blank=True)
    is_published = models.BooleanField("published to the students", default=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("exam", args=[self.pk])


class Question(models.Model):
    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="questions")
    content = models.JSONField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return str(self.content.get("title", "Untitled question"))

    @property
    def kind(self) -> str:
        """`examplary.expansion.date-year` -> `date year`."""
        return self.content.get("type", "").rpartition(".")[2].replace("-", " ")


class Rubric(models.Model):
    course = models.ForeignKey(Course, on_delete=models.CASCADE, related_name="rubrics")
    content = models.JSONField()
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        titles = [criterion.get("title") for criterion in self.criteria]
        return ", ".join(filter(None, titles)) or "Empty rubric"

    @property
    def criteria(self) -> list[dict[str, Any]]:
        return self.content.get("criteria", [])


class Sitting(models.Model):
    """One student taking one exam."""

    exam = models.ForeignKey(Exam, on_delete=models.CASCADE, related_name="sittings")
    student = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sittings"
    )
    started_at = models.DateTimeField(default=timezone.now, editable=False)
    handed_in_at = models.DateTimeField(null=True, blank=True)
    marked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["started_at"]
        constraints = [models.UniqueConstraint(fields=["exam", "student"], name="one_sitting_each")]

    def __str__(self) -> str:
        return f"{self.exam} by {self.student}"
