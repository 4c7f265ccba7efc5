from __future__ import annotations

from django.urls import path

from courses import views

urlpatterns = [
    path("", views.home, name="home"),
    path("courses/<int:pk>/", views.course, name="course"),
    path("courses/<int:pk>/exams/new/", views.exam_new, name="exam-new"),
    path("courses/<int:pk>/lesson/", views.lesson, name="lesson"),
    path("courses/<int:pk>/rubrics/new/", views.rubric_new, name="rubric-new"),
    path("courses/<int:pk>/practice/", views.practice, name="practice"),
    path("rubrics/<int:pk>/edit/", views.rubric_edit, name="rubric-edit"),
    path("tour/hide/", views.hide_tour, name="tour-hide"),
    path("results/", views.results, name="results"),
    path("exams/<int:pk>/", views.exam, name="exam"),
    path("exams/<int:pk>/edit/", views.exam_edit, name="exam-edit"),
    path("exams/<int:pk>/publish/", views.exam_publish, name="exam-publish"),
    path("exams/<int:pk>/qti3/", views.exam_download, name="exam-download"),
    path("exams/<int:pk>/start/", views.exam_start, name="exam-start"),
    path("sittings/<int:pk>/", views.sitting, name="sitting"),
    path("sittings/<int:pk>/mark/", views.mark, name="mark"),
]
