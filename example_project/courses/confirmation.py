"""Messages that confirm the outcome of a flow on the page that follows it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from courses.models import Exam
from django_examplary.models import ExamplarySession

Status = ExamplarySession.Status

FINISHED = {
    "generate-exam": gettext_lazy("The exam “%(exam)s” is ready. Publish it when you like."),
    "generate-question": gettext_lazy("The question is on this page now."),
    "edit-rubric": gettext_lazy("The rubric is saved."),
    "edit-exam": gettext_lazy("Your changes to “%(exam)s” are saved."),
    "mark-answer": gettext_lazy("Your marks are saved."),
    "take-exam": gettext_lazy("You have handed in “%(exam)s”."),
    "practice-space-student": gettext_lazy("Your practice is saved."),
}


def confirms(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """If the query has `done`, confirm the last flow of the user, and redirect to the plain URL."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if "done" not in request.GET:
            return view(request, *args, **kwargs)
        sessions = ExamplarySession.objects.filter(
            actor__user=request.user,
            status__in=(Status.COMPLETED, Status.CANCELLED, Status.CLOSED),
            # An old URL, from the history of the browser, confirms nothing.
            ended_at__gt=timezone.now() - timedelta(minutes=1),
        )
        session = sessions.order_by("-ended_at").first()
        if session:
            messages.success(request, describe(session))
        return redirect(request.path)

    return wrapper


def describe(session: ExamplarySession) -> str:
    """Return the outcome of a session that has ended, in the active language."""
    if session.status == Status.CANCELLED:
        return _("You cancelled. Nothing has changed.")
    exam_id = session.presets.get("examId") or session.outputs.get("examId")
    # None would match the exams without an id, of any course.
    exam = Exam.objects.filter(examplary_id=exam_id or "").first()
    return FINISHED[session.flow] % {"exam": exam}
