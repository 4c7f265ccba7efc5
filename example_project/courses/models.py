from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Course(models.Model):
    name = models.CharField(_("name"), max_length=100)
    subject = models.CharField(_("subject"), max_length=100)
    student_level = models.CharField(
        _("level"),
        max_length=100,
        help_text=_("An id of Examplary, such as us_high_school_lower."),
    )
    topics = models.JSONField(_("topics"), default=list, blank=True)
    teacher = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        related_name="courses_taught",
        verbose_name=_("teacher"),
    )
    students = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="courses_taken",
        verbose_name=_("students"),
    )
    practice_space_id = models.CharField(max_length=255, blank=True, editable=False)

    class Meta:
        ordering = ["name"]
        verbose_name = _("course")
        verbose_name_plural = _("courses")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("course", args=[self.pk])

    @property
    def done_url(self) -> str:
        """The URL after a flow, which confirms its outcome."""
        return f"{self.get_absolute_url()}?done"

    @property
    def topic_names(self) -> list[str]:
        """The names of the topics: `linear-equations` becomes `linear equations`."""
        return [topic.replace("-", " ") for topic in self.topics]


class Exam(models.Model):
    course = models.ForeignKey(
        Course, on_delete=models.CASCADE, related_name="exams", verbose_name=_("course")
    )
    name = models.CharField(_("name"), max_length=200, default="Untitled exam")
    examplary_id = models.CharField(
        _("Examplary id"), max_length=255, unique=True, null=True, blank=True
    )
    #: Questions of an existing exam of the school. Examplary stores those of all other exams.
    own_questions = models.JSONField(_("own questions"), default=list, blank=True)
    is_published = models.BooleanField(_("published to the students"), default=False)
    created_at = models.DateTimeField(_("added at"), default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("exam")
        verbose_name_plural = _("exams")

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("exam", args=[self.pk])

    @property
    def done_url(self) -> str:
        """The URL after a flow, which confirms its outcome."""
        return f"{self.get_absolute_url()}?done"


class Question(models.Model):
    course = models.ForeignKey(
        Course, on_delete=models.CASCADE, related_name="questions", verbose_name=_("course")
    )
    content = models.JSONField(_("content"))
    created_at = models.DateTimeField(_("added at"), default=timezone.now, editable=False)

    class Meta:
        ordering = ["-created_at"]
        verbose_name = _("question")
        verbose_name_plural = _("questions")

    def __str__(self) -> str:
        return str(self.content.get("title") or _("Untitled question"))

    @property
    def kind(self) -> str:
        """The readable type: `examplary.expansion.date-year` becomes `date year`."""
        return self.content.get("type", "").rpartition(".")[2].replace("-", " ")


class Rubric(models.Model):
    course = models.ForeignKey(
        Course, on_delete=models.CASCADE, related_name="rubrics", verbose_name=_("course")
    )
    content = models.JSONField(_("content"))
    updated_at = models.DateTimeField(_("changed at"), auto_now=True)

    class Meta:
        ordering = ["pk"]
        verbose_name = _("rubric")
        verbose_name_plural = _("rubrics")

    def __str__(self) -> str:
        titles = [criterion.get("title") for criterion in self.criteria]
        return ", ".join(filter(None, titles)) or str(_("Empty rubric"))

    @property
    def criteria(self) -> list[dict[str, Any]]:
        return self.content.get("criteria", [])


class Sitting(models.Model):
    """One student taking one exam."""

    exam = models.ForeignKey(
        Exam, on_delete=models.CASCADE, related_name="sittings", verbose_name=_("exam")
    )
    student = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="sittings",
        verbose_name=_("student"),
    )
    started_at = models.DateTimeField(_("started at"), default=timezone.now, editable=False)
    handed_in_at = models.DateTimeField(_("handed in at"), null=True, blank=True)
    marked_at = models.DateTimeField(_("marked at"), null=True, blank=True)

    class Meta:
        ordering = ["started_at"]
        verbose_name = _("sitting")
        verbose_name_plural = _("sittings")
        constraints = [models.UniqueConstraint(fields=["exam", "student"], name="one_sitting_each")]

    def __str__(self) -> str:
        return f"{self.exam}, {self.student}"
