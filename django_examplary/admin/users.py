"""A mixin and an inline for the user admin of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.advice import advise_each, explain
from django_examplary.admin.base import ExamplaryAdminMixin
from django_examplary.admin.calls import provision_and_report
from django_examplary.admin.names import role_name
from django_examplary.admin.searching import AccountFilter
from django_examplary.admin.sites import admin_url, object_link
from django_examplary.models import ExamplaryActor, ExamplarySession

if TYPE_CHECKING:
    ActorInline = admin.TabularInline[ExamplaryActor, Any]
else:
    ActorInline = admin.TabularInline


class ProvisionActorsMixin(ExamplaryAdminMixin):
    """A mixin for the user admin: `class MyUserAdmin(ProvisionActorsMixin, UserAdmin)`.

    Adds a column and a filter with the state of each user's actor. Staff who may provision get an
    action for teachers and one for students; a role in the profile of a user takes precedence.
    With the mixin, ATOMIC_REQUESTS does not apply to the list and its actions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A class attribute would be replaced by the actions of the project's class.
        if self.actions is not None:
            ours = ("provision_teachers", "provision_students")
            self.actions = [*self.actions, *(name for name in ours if name not in self.actions)]

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*super().get_list_display(request), "examplary_actor_state"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        return [*super().get_list_filter(request), AccountFilter]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        # `select_related` would replace the `list_select_related` of the project.
        changelist.result_list = changelist.result_list.prefetch_related("examplary_actor")
        return changelist

    @admin.display(
        description=_("Examplary account"), ordering="examplary_actor__state", empty_value="-"
    )
    def examplary_actor_state(self, user: Any) -> str | None:
        actor = getattr(user, "examplary_actor", None)
        if actor is None:
            return None
        parts = [actor.get_state_display(), explain(actor.state, actor.last_error).name]
        return object_link(self.admin_site, actor, ": ".join(str(part) for part in parts if part))

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
    """An inline for the user admin: the actor, read-only, with a link to its sessions."""

    model = ExamplaryActor
    fields = ["state", "advice", "role_name", "email", "provisioned_at", "sessions"]
    readonly_fields = ["state", "advice", "role_name", "email", "provisioned_at", "sessions"]
    can_delete = False
    show_change_link = True

    @admin.display(description=_("Advice"))
    def advice(self, actor: ExamplaryActor) -> str:
        [(advice, _)] = advise_each([actor])
        return str(advice.text)

    @admin.display(description=_("role"))
    def role_name(self, actor: ExamplaryActor) -> str:
        return role_name(actor.role) or "-"

    @admin.display(description=_("Sessions"))
    def sessions(self, actor: ExamplaryActor) -> str:
        count = actor.sessions.count()
        query = {"actor__id__exact": actor.pk}
        url = admin_url(self.admin_site, ExamplarySession, "changelist", query=query)
        return format_html('<a href="{}">{}</a>', url, count) if url else str(count)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
