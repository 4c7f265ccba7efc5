"""The pages of the site, for the teacher or the students of a course. Other users get a 404.

Pages that may create something at Examplary refuse HEAD, which must change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db.models import Count, Prefetch, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import content_disposition_header
from django.utils.text import slugify
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST, require_safe

from courses import confirmation, content
from courses.models import Course, Exam, Rubric, Sitting
from django_examplary import services
from django_examplary.exceptions import ExamplaryError
from django_examplary.flows import EditRubric

logger = logging.getLogger(__name__)


def calls_examplary(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Render an error page if the view's calls to Examplary fail."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return view(request, *args, **kwargs)
        except ExamplaryError as error:
            logger.error("%s: %s", view.__name__, error)
            return render(request, "courses/unavailable.html", status=503)

    return wrapper


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    taught = request.user.courses_taught.annotate(
        exam_count=Count("exams", distinct=True), student_count=Count("students", distinct=True)
    )
    taken = request.user.courses_taken.select_related("teacher").annotate(
        exam_count=Count("exams", filter=Q(exams__is_published=True))
    )
    context = {"taught": taught, "taken": taken, "tour": "tour_hidden" not in request.session}
    return render(request, "courses/home.html", context)


@require_POST
def hide_tour(request: HttpRequest) -> HttpResponse:
    """Hide the guided tour until the user signs in again."""
    request.session["tour_hidden"] = True
    return redirect("home")


@require_safe
@confirmation.confirms
def course(request: HttpRequest, pk: int) -> HttpResponse:
    mine = Q(teacher=request.user) | Q(students=request.user)
    course = get_object_or_404(Course.objects.filter(mine).distinct(), pk=pk)
    if course.teacher == request.user:
        return render(
            request,
            "courses/course.html",
            {
                "course": course,
                "metadata": {"course": str(course.pk)},
                "exams": course.exams.annotate(
                    to_mark=Count(
                        "sittings",
                        filter=Q(sittings__handed_in_at__isnull=False, sittings__marked_at=None),
                    )
                ),
            },
        )
    my_sittings = Prefetch("sittings", Sitting.objects.filter(student=request.user), "mine")
    exams = course.exams.filter(is_published=True).prefetch_related(my_sittings)
    return render(request, "courses/course_student.html", {"course": course, "exams": exams})


@require_safe
def results(request: HttpRequest) -> HttpResponse:
    """Show the progress of a teacher's students, or of the signed-in student."""
    mine = Q(student=request.user) | Q(exam__course__teacher=request.user)
    sittings = Sitting.objects.filter(mine).select_related("exam__course", "student")
    ordered = sittings.order_by("exam__course__name", "exam__name", "exam", "started_at")
    return render(request, "courses/results.html", {"sittings": ordered})


# For teachers


@require_safe
def exam_new(request: HttpRequest, pk: int) -> HttpResponse:
    return _course_page(request, pk, "courses/exam_new.html")


@require_safe
def lesson(request: HttpRequest, pk: int) -> HttpResponse:
    return _course_page(request, pk, "courses/lesson.html")


@require_safe
def rubric_new(request: HttpRequest, pk: int) -> HttpResponse:
    return _course_page(request, pk, "courses/rubric_new.html")


def _course_page(request: HttpRequest, pk: int, template: str) -> HttpResponse:
    course = get_object_or_404(Course, pk=pk, teacher=request.user)
    name = _("%(course)s, exam %(number)s") % {
        "course": course,
        "number": course.exams.count() + 1,
    }
    context = {"course": course, "name": name, "metadata": {"course": str(course.pk)}}
    return render(request, template, context)


@require_GET
@calls_examplary
def rubric_edit(request: HttpRequest, pk: int) -> HttpResponse:
    rubric = get_object_or_404(Rubric, pk=pk, course__teacher=request.user)
    # A rubric may be too large for the tag, so the session is opened here.
    session = services.open_session(
        request.user,
        EditRubric(rubric=rubric.content),
        origin=f"{request.scheme}://{request.get_host()}",
        metadata={"rubric": str(rubric.pk)},
        next_url=rubric.course.done_url,
    )
    context = {"course": rubric.course, "rubric": rubric, "session": session}
    return render(request, "courses/rubric_edit.html", context)


@require_safe
@confirmation.confirms
def exam(request: HttpRequest, pk: int) -> HttpResponse:
    exam = _get_exam(request, pk)
    sittings = exam.sittings.select_related("student")
    context = {"course": exam.course, "exam": exam, "sittings": sittings}
    return render(request, "courses/exam.html", context)


@require_GET
@calls_examplary
def exam_edit(request: HttpRequest, pk: int) -> HttpResponse:
    exam = _get_exam(request, pk)
    content.send_exam(exam)
    return render(request, "courses/exam_edit.html", {"course": exam.course, "exam": exam})


@require_POST
def exam_publish(request: HttpRequest, pk: int) -> HttpResponse:
    exam = _get_exam(request, pk)
    exam.is_published = "publish" in request.POST
    exam.save(update_fields=["is_published"])
    return redirect(exam)


@require_GET
@calls_examplary
def exam_download(request: HttpRequest, pk: int) -> HttpResponse:
    exam = _get_exam(request, pk)
    content.send_exam(exam)
    package = content.client_of(exam.course).download_exam_qti3(exam.examplary_id or "")
    file_name = f"{slugify(exam.name) or 'exam'}-qti3.zip"
    return HttpResponse(
        package,
        content_type="application/zip",
        headers={"Content-Disposition": content_disposition_header(True, file_name)},
    )


@require_GET
@calls_examplary
def mark(request: HttpRequest, pk: int) -> HttpResponse:
    sitting = get_object_or_404(
        Sitting.objects.exclude(handed_in_at=None), pk=pk, exam__course__teacher=request.user
    )
    content.send_exam(sitting.exam)
    context = {
        "course": sitting.exam.course,
        "exam": sitting.exam,
        "sitting": sitting,
        "metadata": {"sitting": str(sitting.pk)},
    }
    return render(request, "courses/mark.html", context)


def _get_exam(request: HttpRequest, pk: int) -> Exam:
    return get_object_or_404(
        Exam.objects.select_related("course"), pk=pk, course__teacher=request.user
    )


# For students


@require_POST
@calls_examplary
def exam_start(request: HttpRequest, pk: int) -> HttpResponse:
    exams = Exam.objects.filter(is_published=True, course__students=request.user)
    exam = get_object_or_404(exams, pk=pk)
    content.send_exam(exam)
    sitting = Sitting.objects.get_or_create(exam=exam, student=request.user)[0]
    return redirect("sitting", sitting.pk)


@require_safe
def sitting(request: HttpRequest, pk: int) -> HttpResponse:
    sittings = Sitting.objects.filter(
        student=request.user, exam__is_published=True, exam__course__students=request.user
    )
    sitting = get_object_or_404(sittings.select_related("exam__course"), pk=pk)
    if sitting.handed_in_at:
        return redirect(sitting.exam.course)
    context = {
        "course": sitting.exam.course,
        "sitting": sitting,
        "metadata": {"sitting": str(sitting.pk)},
    }
    return render(request, "courses/sitting.html", context)


@require_GET
@calls_examplary
def practice(request: HttpRequest, pk: int) -> HttpResponse:
    course = get_object_or_404(Course, pk=pk, students=request.user)
    content.open_practice_space(course)
    return render(request, "courses/practice.html", {"course": course})
