"""The admin of sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import F, QuerySet
from django.http import HttpRequest
from django.utils.timesince import timesince
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from django_examplary import services
from django_examplary.admin.base import PageMixin
from django_examplary.admin.calls import call_for_each, revoke_and_report
from django_examplary.models import ExamplarySession

if TYPE_CHECKING:
    SessionModelAdmin = admin.ModelAdmin[ExamplarySession]
else:
    SessionModelAdmin = admin.ModelAdmin


@admin.register(ExamplarySession)
class ExamplarySessionAdmin(PageMixin, SessionModelAdmin):
    """Read-only, and without what would open a session: its URL and its id at Examplary."""

    list_display = ["flow", "user", "status", "age", "expires_at"]
    # No `date_hierarchy`: on MySQL and MariaDB it needs time zone tables that many servers lack.
    list_filter = ["status", "flow", "revoke_pending", "created_at"]
    list_select_related = ["actor__user"]
    fields = [
        "id",
        "flow",
        "user",
        "status",
        "remote_status",
        "presets",
        "theme",
        "metadata",
        "next_url",
        "created_at",
        "expires_at",
        "ended_at",
        "verified_at",
        "revoke_pending",
    ]
    actions = ["check_now", "revoke"]

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return ["actor__email", f"actor__user__{get_user_model().USERNAME_FIELD}"]

    def get_fields(self, request: HttpRequest, obj: ExamplarySession | None = None) -> Any:
        fields = super().get_fields(request, obj)
        may_see = request.user.has_perm("django_examplary.view_outputs")
        return [*fields, "outputs"] if may_see else fields

    @admin.display(description=_("user"), ordering="actor__user")
    def user(self, session: ExamplarySession) -> str:
        return str(session.actor.user) if session.actor else "-"

    @admin.display(description=_("age"), ordering="-created_at")
    def age(self, session: ExamplarySession) -> str:
        return timesince(session.created_at, depth=1)

    @admin.action(description=_("Check now what became of them"), permissions=["verify"])
    def check_now(self, request: HttpRequest, queryset: QuerySet[ExamplarySession]) -> None:
        sessions = queryset.filter(status=ExamplarySession.Status.PENDING).order_by(
            # Those that were left the last time come first.
            F("asked_at").asc(nulls_first=True)
        )
        checked = call_for_each(self, request, sessions, services.verify_session)
        ended = sum(not session.is_open for session in checked)
        if checked:
            text = ngettext(
                "%(count)d open session checked, %(ended)d has ended.",
                "%(count)d open sessions checked, %(ended)d have ended.",
                len(checked),
            )
            counts = {"count": len(checked), "ended": ended}
            self.message_user(request, text % counts, messages.SUCCESS)

    @admin.action(description=_("Revoke"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ExamplarySession]) -> None:
        open_ = queryset.filter(status=ExamplarySession.Status.PENDING)
        revoke_and_report(self, request, open_)

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A filter in the query string would give a hidden value away letter by letter.
        hidden = ("embed_url", "examplary_id", "fingerprint", "claim_token", "open_key", "outputs")
        return not lookup.startswith(hidden) and super().lookup_allowed(lookup, value, request)

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
