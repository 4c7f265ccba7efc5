"""The admin of sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import Count, F, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.activity import ActivityPageMixin
from django_examplary.admin.base import Button
from django_examplary.admin.calls import check_and_report, revoke_and_report
from django_examplary.admin.exporting import ExportMixin
from django_examplary.admin.names import flow_name
from django_examplary.admin.searching import (
    FlowFilter,
    user_group_filter,
    user_search_fields,
    with_id,
)
from django_examplary.admin.sites import object_link, only_visible
from django_examplary.models import ExamplarySession
from django_examplary.services.database import non_atomic

if TYPE_CHECKING:
    SessionModelAdmin = admin.ModelAdmin[ExamplarySession]
else:
    SessionModelAdmin = admin.ModelAdmin

Status = ExamplarySession.Status

# Secrets, and what takes a permission to see.
_HIDDEN = ("embed_url", "examplary_id", "fingerprint", "claim_token", "open_key", "outputs")


@admin.register(ExamplarySession)
class ExamplarySessionAdmin(ActivityPageMixin, ExportMixin, SessionModelAdmin):
    """Sessions to read, without what would open one: its URL and its id at Examplary."""

    list_display = ["flow_name", "user", "status", "created_at", "ended_at", "expires_at"]
    list_filter = ["status", FlowFilter, "revoke_pending", "created_at"]
    list_select_related = ["actor__user"]
    date_hierarchy = "created_at"
    ordering = ["-created_at", "-pk"]
    search_help_text = _("Name, e-mail address, exam id or local id")
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "flow_name",
                    "user_link",
                    "actor_link",
                    "status",
                    "created_at",
                    "ended_at",
                    "expires_at",
                    "presets",
                ]
            },
        ),
        (
            _("Technical details"),
            {
                "classes": ["collapse"],
                "fields": [
                    "id",
                    "flow",
                    "remote_status",
                    "theme",
                    "metadata",
                    "next_url",
                    "verified_at",
                    "revoke_pending",
                ],
            },
        ),
    ]
    readonly_fields = ["flow_name", "user_link", "actor_link"]
    actions = ["check_now", "revoke"]

    class Media:
        css = {"all": ["django_examplary/admin.css"]}

    # Rows and columns

    def get_queryset(self, request: HttpRequest) -> QuerySet[ExamplarySession]:
        rows = super().get_queryset(request)
        return only_visible(rows, "actor__user", self.admin_site, request)

    def get_list_filter(self, request: HttpRequest) -> Any:
        return [*super().get_list_filter(request), *user_group_filter("actor__user__")]

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return ["actor__email", "actor__name", *user_search_fields("actor__user__")]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ExamplarySession], search_term: str
    ) -> tuple[QuerySet[ExamplarySession], bool]:
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            ids = with_id(ExamplarySession, "pk", search_term)
            ids |= with_id(get_user_model(), "actor__user", search_term)
            if search_term.startswith(("exam_", "space_")):
                ids |= Q(presets__examId=search_term) | Q(presets__practiceSpaceId=search_term)
                if self.may_see_outputs(request):
                    ids |= Q(outputs__examId=search_term)
            found |= queryset.filter(ids)
        return found, duplicates

    def may_see_outputs(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.view_outputs")

    def get_fieldsets(self, request: HttpRequest, obj: ExamplarySession | None = None) -> Any:
        first, *others = super().get_fieldsets(request, obj)
        if self.may_see_outputs(request):
            name, options = first
            first = (name, {**options, "fields": [*options["fields"], "outputs"]})
        return [first, *others]

    @admin.display(description=_("flow"), ordering="flow")
    def flow_name(self, session: ExamplarySession) -> str:
        return flow_name(session.flow)

    @admin.display(description=_("user"), ordering="actor__user", empty_value="-")
    def user(self, session: ExamplarySession) -> str | None:
        return str(session.actor.user) if session.actor else None

    # Not None for an empty value, which a row's page would show as "None".
    @admin.display(description=_("user"))
    def user_link(self, session: ExamplarySession) -> str:
        return object_link(self.admin_site, session.actor.user) if session.actor else "-"

    @admin.display(description=_("actor"))
    def actor_link(self, session: ExamplarySession) -> str:
        actor = session.actor
        if actor is None:
            return "-"
        return object_link(self.admin_site, actor, f"{actor} ({actor.get_state_display()})")

    def get_export_columns(self, request: HttpRequest) -> dict[str, Any]:
        columns: dict[str, Any] = {
            gettext("id"): lambda session: session.pk,
            gettext("flow"): self.flow_name,
            gettext("user"): self.user,
            gettext("status"): lambda session: session.get_status_display(),
            gettext("created at"): lambda session: session.created_at,
            gettext("ended at"): lambda session: session.ended_at,
            gettext("expires at"): lambda session: session.expires_at,
        }
        if self.may_see_outputs(request):
            columns[gettext("exam id")] = lambda session: session.outputs.get("examId")
        return columns

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A filter in the query string would give a hidden value away letter by letter.
        return not lookup.startswith(_HIDDEN) and super().lookup_allowed(lookup, value, request)

    def has_delete_permission(
        self, request: HttpRequest, obj: ExamplarySession | None = None
    ) -> bool:
        # Without its row a session could not be revoked any more. Sweeps delete old ones.
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: ExamplarySession | None = None
    ) -> bool:
        return False

    # Pages

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page_path("activity/", self.activity_view, "activity"),
            *super().get_urls(),
        ]

    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            # A callable, so that an action counts nothing.
            "summary": lambda: self._summarise(request),
            "introduction": _("A session is one visit of a user to an embed."),
            "has_activity": True,
            "has_csv_permission": self.has_csv_permission(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def _summarise(self, request: HttpRequest) -> list[dict[str, Any]]:
        rows = self.get_queryset(request).order_by()
        counts = dict(rows.values_list("status").annotate(Count("pk")))
        url = self.page_url("changelist")
        return [
            {"label": label, "count": counts.get(status, 0), "url": f"{url}?status__exact={status}"}
            for status, label in Status.choices
        ]

    def get_buttons(self, request: HttpRequest, row: ExamplarySession) -> Iterable[Button]:
        actions = self.get_actions(request) if row.is_open else {}
        if "check_now" in actions:
            yield self.action_button(row, "check_now", _("Check now"), "primary")
        if "revoke" in actions:
            yield self.action_button(row, "revoke", _("Revoke"))

    # Actions

    @admin.action(description=_("Check their outcome now"), permissions=["verify"])
    def check_now(self, request: HttpRequest, queryset: QuerySet[ExamplarySession]) -> None:
        # Sessions that the previous run left come first.
        oldest = F("asked_at").asc(nulls_first=True)
        check_and_report(self, request, queryset.filter(status=Status.PENDING).order_by(oldest))

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ExamplarySession]) -> None:
        revoke_and_report(self, request, queryset.filter(status=Status.PENDING))
