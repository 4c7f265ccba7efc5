"""A mixin and an inline for the project's own user admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.base import ExamplaryAdminMixin
from django_examplary.admin.calls import provision_and_report
from django_examplary.models import ExamplaryActor

if TYPE_CHECKING:
    ActorInline = admin.TabularInline[ExamplaryActor, Any]
else:
    ActorInline = admin.TabularInline


class ProvisionActorsMixin(ExamplaryAdminMixin):
    """For the project's own user admin: `class MyUserAdmin(ProvisionActorsMixin, UserAdmin)`.

    Adds a column with the state of each user's actor and, for staff who may provision actors, the
    actions to do so: as teachers, and as students, where the user's profile names no role. Under
    ATOMIC_REQUESTS the list, with the other actions on it, is not atomic then.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not a class attribute, where the actions of the project's own class take its place.
        if self.actions is not None:
            ours = ("provision_teachers", "provision_students")
            self.actions = [*self.actions, *(name for name in ours if name not in self.actions)]

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*super().get_list_display(request), "examplary_actor_state"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        # Not `select_related`, which would take the place of the project's `list_select_related`.
        changelist.result_list = changelist.result_list.prefetch_related("examplary_actor")
        return changelist

    @admin.display(
        description=_("Examplary actor"), ordering="examplary_actor__state", empty_value="-"
    )
    def examplary_actor_state(self, user: Any) -> str | None:
        actor = getattr(user, "examplary_actor", None)
        if actor is None:
            return None
        state = actor.get_state_display()
        if not self.admin_site.is_registered(ExamplaryActor):
            return str(state)
        url = reverse(
            "admin:django_examplary_examplaryactor_change",
            args=[actor.pk],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', url, state)

    @admin.action(
        description=_("Provision Examplary actors as teachers"), permissions=["provision"]
    )
    def provision_teachers(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        provision_and_report(self, request, queryset, "teacher")

    @admin.action(
        description=_("Provision Examplary actors as students"), permissions=["provision"]
    )
    def provision_students(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        provision_and_report(self, request, queryset, "student")


class ExamplaryActorInline(ActorInline):
    """For the project's own user admin: the user's actor, to look at."""

    model = ExamplaryActor
    fields = ["state", "role", "email", "provisioned_at", "last_error"]
    readonly_fields = ["state", "role", "email", "provisioned_at", "last_error"]
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
