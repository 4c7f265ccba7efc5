from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User

from django_examplary.admin import ExamplaryActorInline, ProvisionActorsMixin

admin.site.unregister(User)


@admin.register(User)
class SchoolUserAdmin(ProvisionActorsMixin, UserAdmin):  # type: ignore[type-arg]
    inlines = [ExamplaryActorInline]
