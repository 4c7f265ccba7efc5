"""The admin of sessions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import F, Q, QuerySet
from django.http import HttpRequest
from django.urls import URLPattern
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.activity import ActivityPageMixin
from django_examplary.admin.advice import advise_each
from django_examplary.admin.base import Button
from django_examplary.admin.calls import check_and_report, revoke_and_report
from django_examplary.admin.names import user_name
from django_examplary.admin.searching import FlowFilter, search_rows, user_search_fields, with_id
from django_examplary.admin.sites import object_link, user_link
from django_examplary.flows import flow_name
from django_examplary.models import ExamplaryActor, ExamplarySession

Status = ExamplarySession.Status

# Secrets, and fields that require a permission.
_PRIVATE = ("embed_url", "examplary_id", "fingerprint", "claim_token", "open_key", "outputs")


@admin.register(ExamplarySession)
class ExamplarySessionAdmin(ActivityPageMixin):
    """The read-only admin of sessions, without their secrets: the embed URL and the remote id."""

    list_display = ["flow_name", "user", "status", "created_at", "ended_at"]
    list_filter = ["status", FlowFilter, "revoke_pending", "created_at"]
    list_select_related = ["actor__user"]
    date_hierarchy = "created_at"
    ordering = ["-created_at", "-pk"]
    search_fields = ["actor__email", "actor__name"]
    search_help_text = _("Name, e-mail address, or the id of an exam, a session or a user")
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

    user_path = "actor__user"
    state_field = "status"
    introduction = _(
        "A session is one visit of a user to a page of Examplary inside this site. To "
        "revoke a session is to end it at once."
    )
    # A user whose actor does not work has no session.
    other_search = (ExamplaryActor, _("No session matches: search the actors"))

    # Rows and columns

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*super().get_search_fields(request), *user_search_fields("actor__user__")]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ExamplarySession], search_term: str
    ) -> tuple[QuerySet[ExamplarySession], bool]:
        if not search_term:
            return queryset, False
        # Each actor is compared once, not with each of its sessions.
        fields = self.get_search_fields(request)
        of_actors = [name.removeprefix("actor__") for name in fields if name.startswith("actor__")]
        own = [name for name in fields if not name.startswith("actor__")]
        actors = search_rows(ExamplaryActor.objects.all(), of_actors, search_term)
        found = Q(actor__in=actors.values("pk")) | with_id(ExamplarySession, "pk", search_term)
        found |= with_id(get_user_model(), "actor__user", search_term)
        if own:
            sessions = search_rows(ExamplarySession.objects.all(), own, search_term)
            found |= Q(pk__in=sessions.values("pk"))
        # No database has an index for these, so only strings that look like ids are searched.
        remote_id = search_term.strip()
        if remote_id.startswith(("exam_", "space_")):
            found |= Q(presets__examId=remote_id) | Q(presets__practiceSpaceId=remote_id)
            if self.may_see_outputs(request):
                found |= Q(outputs__examId=remote_id)
        return queryset.filter(found), False

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
        return user_name(session.actor.user) if session.actor else None

    # An empty string, because the page of a row would show None as "None".
    @admin.display(description=_("user"))
    def user_link(self, session: ExamplarySession) -> str:
        return user_link(self.admin_site, session.actor.user) if session.actor else "-"

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
            gettext("user"): lambda session: session.actor.user if session.actor else None,
            gettext("status"): lambda session: session.get_status_display(),
            gettext("created at"): lambda session: session.created_at,
            gettext("ended at"): lambda session: session.ended_at,
            gettext("expires at"): lambda session: session.expires_at,
        }
        if self.may_see_outputs(request):
            columns[gettext("exam id")] = lambda session: session.outputs.get("examId")
        return columns

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A filter in the query string could reveal a hidden value letter by letter.
        return not lookup.startswith(_PRIVATE) and super().lookup_allowed(lookup, value, request)

    def has_delete_permission(
        self, request: HttpRequest, obj: ExamplarySession | None = None
    ) -> bool:
        # A session without a row could not be revoked. Sweeps delete old rows.
        return False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    # Pages

    def get_urls(self) -> list[URLPattern]:
        return [self.page_path("activity/", self.activity_view, "activity"), *super().get_urls()]

    def describe_row(self, request: HttpRequest, row: ExamplarySession) -> dict[str, Any]:
        # The actor is the usual reason why a user cannot open a session.
        if row.actor is None or row.actor.is_active:
            return {}
        [(advice, _)] = advise_each([row.actor])
        return {"advice": advice.text}

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
