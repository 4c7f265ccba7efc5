from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from django_examplary.admin import (
    ExamplaryActorAdmin,
    ExamplaryActorInline,
    ProvisionActorsMixin,
)
from django_examplary.models import ExamplaryActor

admin.site.unregister(User)


@admin.register(User)
class SchoolUserAdmin(ProvisionActorsMixin, UserAdmin):  # type: ignore[type-arg]
    inlines = [ExamplaryActorInline]


if apps.is_installed("import_export"):
    # Not a theme, but a mixin with its own templates and URLs.
    mixin = import_module("import_export.admin").ImportExportMixin
    admin.site.unregister(ExamplaryActor)
    admin.site.register(ExamplaryActor, type("Mixed", (mixin, ExamplaryActorAdmin), {}))
