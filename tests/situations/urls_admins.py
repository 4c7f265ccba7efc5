"""Two admin sites."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from django_examplary.admin import ExamplaryActorAdmin, ExamplarySessionAdmin
from django_examplary.models import ExamplaryActor, ExamplarySession
from tests.urls import urlpatterns as others

backoffice = admin.AdminSite("backoffice")
backoffice.register(ExamplaryActor, ExamplaryActorAdmin)
backoffice.register(ExamplarySession, ExamplarySessionAdmin)

urlpatterns = [path("backoffice/", backoffice.urls), *others]
