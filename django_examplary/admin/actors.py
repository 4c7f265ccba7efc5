"""The admin of actors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.calls import provision_and_report, revoke_and_report
from django_examplary.admin.linking import LinkPageMixin
from django_examplary.admin.progress import BROKEN
from django_examplary.admin.provisioning import ProvisionPageMixin
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.database import non_atomic

if TYPE_CHECKING:
    ActorModelAdmin = admin.ModelAdmin[ExamplaryActor]
else:
    ActorModelAdmin = admin.ModelAdmin

State = ExamplaryActor.State


@admin.register(ExamplaryActor)
class ExamplaryActorAdmin(ProvisionPageMixin, LinkPageMixin, ActorModelAdmin):
    list_display = ["user", "state", "last_error", "role", "email", "provisioned_at"]
    list_filter = ["state", "role", "provisioned_at"]
    list_select_related = ["user"]
    search_fields = ["email", "name", "examplary_id"]
    raw_id_fields = ["user"]
    readonly_fields = [
        "state",
        "examplary_id",
        "email",
        "name",
        "role",
        "last_error",
        "provisioned_at",
        "created_at",
        "updated_at",
    ]
    actions = ["provision_actors", "retry_actors", "revoke_open_sessions"]

    delete_confirmation_template = "admin/django_examplary/delete_confirmation.html"
    delete_selected_confirmation_template = (
        "admin/django_examplary/delete_selected_confirmation.html"
    )

    class Media:
        css = {"all": ["django_examplary/admin.css"]}

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*self.search_fields, f"user__{get_user_model().USERNAME_FIELD}"]

    def has_change_permission(
        self, request: HttpRequest, obj: ExamplaryActor | None = None
    ) -> bool:
        # Saving the form would write back a row that somebody has claimed meanwhile.
        return False

    def get_urls(self) -> list[URLPattern]:
        name = "django_examplary_examplaryactor"
        view = self.admin_site.admin_view
        return [
            path("provision/", view(self.provision_view), name=f"{name}_provision"),
            path("<path:object_id>/link/", view(self.link_view), name=f"{name}_link"),
            *super().get_urls(),
        ]

    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            # A callable, so that an action counts nothing.
            "summary": self._summarise,
            "has_provision_permission": self.has_provision_permission(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {
            "has_link_permission": self.has_link_permission(request),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    def _summarise(self) -> list[dict[str, Any]]:
        counts = dict(ExamplaryActor.objects.values_list("state").annotate(Count("pk")))
        url = reverse(
            "admin:django_examplary_examplaryactor_changelist", current_app=self.admin_site.name
        )
        states = [
            {"label": label, "count": counts.get(state, 0), "url": f"{url}?state__exact={state}"}
            for state, label in State.choices
        ]
        without = services.unprovisioned(get_user_model()._default_manager.all())
        none = {
            "label": gettext("users without"),
            "count": without.filter(examplary_actor=None).count(),
        }
        return [*states, none]

    # Actions

    @admin.action(description=_("Provision Examplary actors"), permissions=["provision"])
    def provision_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        users = get_user_model()._default_manager.filter(examplary_actor__in=queryset)
        provision_and_report(self, request, users)

    @admin.action(description=_("Try again where provisioning failed"), permissions=["retry"])
    def retry_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        broken = queryset.filter(state__in=BROKEN)
        if broken.exists():
            self.provision_actors(request, broken)
        else:
            text = gettext("Provisioning failed for none of these.")
            self.message_user(request, text, messages.WARNING)

    @admin.action(description=_("Revoke their open sessions"), permissions=["revoke"])
    def revoke_open_sessions(
        self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]
    ) -> None:
        sessions = ExamplarySession.objects.open().filter(actor__in=queryset)
        revoke_and_report(self, request, sessions)
