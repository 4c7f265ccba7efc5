"""The admin of actors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.widgets import ForeignKeyRawIdWidget
from django.contrib.auth import get_user_model
from django.db.models import Count, Q, QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.advice import advise, advise_each, explain
from django_examplary.admin.base import Button
from django_examplary.admin.calls import provision_and_report, revoke_and_report
from django_examplary.admin.linking import LinkFilePageMixin
from django_examplary.admin.names import role_name, user_name
from django_examplary.admin.progress import FAILED_STATES
from django_examplary.admin.provisioning import ProvisionPageMixin
from django_examplary.admin.searching import RoleFilter, user_search_fields, with_id
from django_examplary.admin.sites import permitted_url, user_link, visible_users
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.bulk import user_has_field
from django_examplary.services.profiles import is_active

State = ExamplaryActor.State


class VisibleUserWidget(ForeignKeyRawIdWidget):
    """A widget for the primary key of a user that shows only names of selectable users."""

    choices: Any

    def label_and_url_for_value(self, value: Any) -> tuple[str, str]:
        found = super().label_and_url_for_value(value)
        if any(found) and not self.choices.queryset.filter(pk=value).exists():
            return "", ""
        return found


@admin.register(ExamplaryActor)
class ExamplaryActorAdmin(ProvisionPageMixin, LinkFilePageMixin):
    """The admin of actors: read-only, with actions and pages to provision, link and erase."""

    list_display = ["named_user", "state", "reason", "role_name", "created_at"]
    list_filter = ["state", RoleFilter, "provisioned_at"]
    list_select_related = ["user"]
    date_hierarchy = "created_at"
    ordering = ["-created_at", "-pk"]
    search_fields = ["email", "name", "examplary_id"]
    search_help_text = _("Name, e-mail address, or an id")
    raw_id_fields = ["user"]
    readonly_fields = [
        "user_link",
        "state",
        "examplary_id",
        "email",
        "name",
        "role_name",
        "last_error",
        "provisioned_at",
        "created_at",
        "updated_at",
    ]
    fieldsets = [
        (None, {"fields": ["user_link", "state", "role_name", "email", "name", "provisioned_at"]}),
        (
            _("Technical details"),
            {
                "classes": ["collapse"],
                "fields": ["examplary_id", "last_error", "created_at", "updated_at"],
            },
        ),
    ]
    actions = ["provision_actors", "retry_actors", "revoke_open_sessions", "erase_actors"]
    delete_confirmation_template = "admin/django_examplary/delete_confirmation.html"
    delete_selected_confirmation_template = (
        "admin/django_examplary/delete_selected_confirmation.html"
    )

    user_path = "user"
    state_field = "state"
    introduction = _(
        "An actor is the Examplary account of one of this site’s users. To provision "
        "users is to create their accounts."
    )
    # A user who was never provisioned has no actor.
    other_search = (get_user_model(), _("No actor matches: search all users"))

    # Rows and columns

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*super().get_search_fields(request), *user_search_fields("user__")]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[ExamplaryActor], search_term: str
    ) -> tuple[QuerySet[ExamplaryActor], bool]:
        found, duplicates = super().get_search_results(request, queryset, search_term)
        if search_term:
            ids = with_id(ExamplaryActor, "pk", search_term)
            found |= queryset.filter(ids | with_id(get_user_model(), "user", search_term))
        return found, duplicates

    def get_fieldsets(self, request: HttpRequest, obj: ExamplaryActor | None = None) -> Any:
        return super().get_fieldsets(request, obj) if obj else [(None, {"fields": ["user"]})]

    def formfield_for_foreignkey(
        self, db_field: Any, request: HttpRequest, **kwargs: Any
    ) -> ModelChoiceField[Any] | None:
        # The only editable field is the user of a new actor.
        kwargs["queryset"] = visible_users(self.admin_site, request)
        if db_field.name not in self.get_autocomplete_fields(request):
            kwargs["widget"] = VisibleUserWidget(db_field.remote_field, self.admin_site)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description=_("user"), ordering="user")
    def user_link(self, actor: ExamplaryActor) -> str:
        return user_link(self.admin_site, actor.user)

    @admin.display(description=_("user"), ordering="user")
    def named_user(self, actor: ExamplaryActor) -> str:
        return user_name(actor.user)

    # An empty string, because the page of a row would show None as "None".
    @admin.display(description=_("role"), ordering="role")
    def role_name(self, actor: ExamplaryActor) -> str:
        return role_name(actor.role) or "-"

    @admin.display(description=_("reason"), ordering="last_error", empty_value="-")
    def reason(self, actor: ExamplaryActor) -> str | None:
        return str(advise(actor).name) or None

    def get_export_columns(self, request: HttpRequest) -> dict[str, Any]:
        return {
            gettext("user"): lambda actor: actor.user,
            gettext("state"): lambda actor: actor.get_state_display(),
            gettext("reason"): self.reason,
            gettext("role"): lambda actor: role_name(actor.role),
            gettext("e-mail address, as sent"): lambda actor: actor.email,
            gettext("name, as sent"): lambda actor: actor.name,
            gettext("created at"): lambda actor: actor.created_at,
            gettext("provisioned at"): lambda actor: actor.provisioned_at,
        }

    # Pages

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page_path("provision/", self.provision_view, "provision", "provision"),
            self.page_path("link/", self.link_file_view, "link_file", "link"),
            self.page_path("<path:object_id>/link/", self.link_view, "link", "link"),
            *super().get_urls(),
        ]

    def get_list_buttons(self, request: HttpRequest) -> Iterator[Button]:
        if self.has_provision_permission(request):
            url = self.page_url("provision")
            yield Button(label=_("Provision users"), url=url, style="primary")
        if self.has_link_permission(request):
            yield Button(label=_("Link users from a file"), url=self.page_url("link_file"))
        yield from super().get_list_buttons(request)

    def get_summary(self, request: HttpRequest) -> list[dict[str, Any]]:
        states = super().get_summary(request)
        for each in states:
            # These two names need an explanation.
            if each["count"] and each["state"] in (State.PENDING, State.UNCERTAIN):
                each["help"] = explain(each["state"], "").text
        users = services.unprovisioned(visible_users(self.admin_site, request))
        user_model = get_user_model()
        # Lookups of Django, which work in every user admin.
        query = {"is_active__exact": 1} if user_has_field("is_active") else {}
        query |= {"examplary_actor__isnull": True}
        without = {
            "label": gettext("users without an account"),
            "count": users.filter(examplary_actor=None).count(),
            "url": permitted_url(self.admin_site, request, user_model, query=query),
        }
        return [*states, without]

    def describe_row(self, request: HttpRequest, row: ExamplaryActor) -> dict[str, Any]:
        sessions = row.sessions.aggregate(
            all=Count("pk"), open=Count("pk", filter=Q(status=ExamplarySession.Status.PENDING))
        )
        links = []
        query: dict[str, Any] = {"actor__id__exact": row.pk}
        if url := permitted_url(self.admin_site, request, ExamplarySession, query=query):
            links.append({"label": gettext("Sessions"), "count": sessions["all"], "url": url})
            url += f"&status__exact={ExamplarySession.Status.PENDING}"
            links.append({"label": gettext("Open sessions"), "count": sessions["open"], "url": url})
        [(advice, other)] = advise_each([row])
        if other and visible_users(self.admin_site, request).filter(pk=other.pk).exists():
            url = permitted_url(self.admin_site, request, get_user_model(), "change", other.pk)
            label = gettext("Other user with this address")
            links.append({"label": label, "count": user_name(other), "url": url})
        return {"advice": advice.text, "links": links}

    def get_buttons(self, request: HttpRequest, row: ExamplaryActor) -> Iterable[Button]:
        actions = self.get_actions(request)
        if not row.is_active and row.state != State.CLAIMED and is_active(row.user):
            label = _("Try again") if row.state in FAILED_STATES else _("Provision")
            names = ["retry_actors"] if row.state in FAILED_STATES else []
            for name in [*names, "provision_actors"]:
                if name in actions:
                    yield self.action_button(row, name, label, "primary")
                    break
        if self.may_link(request, row):
            yield Button(label=_("Link an existing account"), url=self.page_url("link", row.pk))
        is_open = ExamplarySession.objects.open().filter(actor=row).exists()
        if is_open and "revoke_open_sessions" in actions:
            yield self.action_button(row, "revoke_open_sessions", _("Revoke open sessions"))
        if "erase_actors" in actions:
            yield self.action_button(row, "erase_actors", _("Erase data…"))

    # Actions

    @admin.action(description=_("Provision Examplary actors"), permissions=["provision"])
    def provision_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        users = get_user_model()._default_manager.filter(pk__in=queryset.order_by().values("user"))
        provision_and_report(self, request, users)

    @admin.action(description=_("Try again where provisioning failed"), permissions=["retry"])
    def retry_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        broken = queryset.filter(state__in=FAILED_STATES)
        if broken.exists():
            # Evaluated here, because the action changes the state in this condition.
            keys = list(broken.values_list("pk", flat=True))
            self.provision_actors(request, ExamplaryActor.objects.filter(pk__in=keys))
        else:
            text = gettext("None of these actors has failed.")
            self.message_user(request, text, messages.WARNING)

    @admin.action(description=_("Revoke their open sessions"), permissions=["revoke"])
    def revoke_open_sessions(
        self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]
    ) -> None:
        sessions = ExamplarySession.objects.open().filter(actor__in=queryset.order_by())
        revoke_and_report(self, request, sessions)

    @admin.action(description=_("Erase their Examplary data…"), permissions=["erase"])
    def erase_actors(
        self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]
    ) -> HttpResponse | None:
        return self.confirm_erasure(request, queryset)
