from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from courses.models import Course, Exam, Question, Rubric, Sitting
from django_examplary.admin import ProvisionActorsMixin

admin.site.site_header = "Northfield School"
admin.site.site_title = "Northfield School"
admin.site.index_title = _("Administration")

admin.site.unregister(User)


@admin.register(User)
class ProvisioningUserAdmin(ProvisionActorsMixin, UserAdmin):
    pass


@admin.register(Course)
class CourseAdmin(admin.ModelAdmin):
    list_display = ["name", "subject", "teacher"]
    filter_horizontal = ["students"]


@admin.register(Exam)
class ExamAdmin(admin.ModelAdmin):
    list_display = ["name", "course", "examplary_id", "is_published", "created_at"]
    list_filter = ["course", "is_published"]
    search_fields = ["name", "examplary_id"]


@admin.register(Question)
class QuestionAdmin(admin.ModelAdmin):
    list_display = ["__str__", "kind", "course", "created_at"]
    list_filter = ["course"]


@admin.register(Rubric)
class RubricAdmin(admin.ModelAdmin):
    list_display = ["__str__", "course", "updated_at"]
    list_filter = ["course"]


@admin.register(Sitting)
class SittingAdmin(admin.ModelAdmin):
    list_display = ["exam", "student", "started_at", "handed_in_at", "marked_at"]
    list_filter = ["exam"]
