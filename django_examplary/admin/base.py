"""The base of all admin classes here: limits, permissions, and pages of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from django_examplary import services
from django_examplary.admin.sites import admin_url
from django_examplary.conf import conf
from django_examplary.services.database import non_atomic

if TYPE_CHECKING:
    from django_examplary.client import ExamplaryClient

    # A mixin for any ModelAdmin, which only type checkers need to know.
    ModelAdminBase = admin.ModelAdmin[Any]
else:
    ModelAdminBase = object


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one request in the admin does. Durations are in seconds."""

    #: A request starts no further API call after this time.
    duration: float = 4.0
    #: The same for a page that shows its progress after each request.
    batch: float = 1.0
    #: The longest time for one call, its retries included.
    deadline: float = 5.0
    #: API calls at the same time.
    concurrency: int = 4
    #: Users or sessions that an action starts with. It has no time for more.
    rows: int = 1000
    #: Failures shown as messages, one each.
    messages: int = 10
    #: Failures listed on a page.
    listed: int = 100
    #: Names shown before an action is confirmed.
    names: int = 20

    def client(self, workspace: str) -> ExamplaryClient:
        """Return a client of a workspace whose calls keep these limits.

        Raises ExamplaryConfigurationError when the API key is missing or wrong.
        """
        return services.get_client(
            workspace, deadline=self.deadline, max_retries=0, pool_size=self.concurrency
        )


class ExamplaryAdminMixin(ModelAdminBase):
    """What every admin class here has: limits, and a change list that is never atomic."""

    examplary_limits = Limits()

    # Actions commit before they call the API, which is impossible inside ATOMIC_REQUESTS.
    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    def has_provision_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.provision_examplaryactor")


@dataclass(frozen=True, kw_only=True)
class Button:
    """A button on a row's page: a link to `url`, or an action that it posts there."""

    label: Any
    url: str
    posts: bool = False
    #: `primary`, `danger` or empty.
    style: str = ""


class RowPagesMixin(ExamplaryAdminMixin):
    """What the admin classes of our own models have: buttons, permissions, pages of their own."""

    # Explicit, so that a mixin such as ImportExportMixin extends them in place of Django's.
    change_list_template = "admin/django_examplary/change_list.html"
    change_form_template = "admin/django_examplary/change_form.html"

    def has_workspaces(self) -> bool:
        """Return whether lists have a column and a filter for the workspace."""
        return conf.EXAMPLARY_WORKSPACE is not None

    def get_list_display(self, request: HttpRequest) -> Any:
        columns = super().get_list_display(request)
        return [*columns, "workspace"] if self.has_workspaces() else columns

    def get_list_filter(self, request: HttpRequest) -> Any:
        filters = super().get_list_filter(request)
        return [*filters, "workspace"] if self.has_workspaces() else filters

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return (
            [*fieldsets, (None, {"fields": ["workspace"]})] if self.has_workspaces() else fieldsets
        )

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.retry_examplaryactor")

    def has_link_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.link_examplaryactor")

    def has_erase_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.erase_examplaryactor")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.revoke_examplarysession")

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.verify_examplarysession")

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page_path("<path:object_id>/do/<slug:name>/", self.row_action_view, "do"),
            *super().get_urls(),
        ]

    def page_path(self, route: str, view: Any, name: str) -> URLPattern:
        """Return the URL pattern of a page of ours; `name` follows the model's in its name."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        pattern: URLPattern = path(route, self.admin_site.admin_view(view), name=name)
        return pattern

    def page_url(self, page: str, *args: Any) -> str:
        return admin_url(self.admin_site, self.model, page, *args)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        if not connections[changelist.queryset.db].features.has_zoneinfo_database:
            # MySQL and MariaDB count days in a time zone only with time zone tables.
            changelist.date_hierarchy = None
        return changelist

    def get_row(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row, or raise Http404."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        return row

    @abstractmethod
    def get_buttons(self, request: HttpRequest, row: Any) -> Iterable[Button]:
        """Yield the buttons of a row's page that this staff member may use."""

    def action_button(self, row: Any, name: str, label: Any, style: str = "") -> Button:
        """Return a button for one of the list's actions."""
        url = self.page_url("do", row.pk, name)
        return Button(label=label, url=url, posts=True, style=style)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        row = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if row is not None and self.has_view_permission(request, row):
            context = {"buttons": list(self.get_buttons(request, row)), **self.describe_row(row)}
        context |= extra_context or {}
        return super().change_view(request, object_id, form_url, context)

    def describe_row(self, row: Any) -> dict[str, Any]:
        """Return what the template shows above the form."""
        return {}

    @non_atomic
    def row_action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        """Run one of the list's actions on one row, for a button on the row's page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_row(request, object_id)
        action = getattr(self, name, None)
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        # Django offers only the actions that this staff member may run.
        if action is None or name not in self.get_actions(request):
            raise PermissionDenied
        response = action(request, self.get_queryset(request).filter(pk=row.pk))
        return response or HttpResponseRedirect(self.page_url("change", row.pk))

    def render_page(
        self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        """Return a page of ours in the frame of the admin site; `context` has its `title`."""
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_examplary/{template}.html",
            {
                **self.admin_site.each_context(request),
                "has_view_permission": self.has_view_permission(request),
                "opts": self.opts,
                **context,
            },
            status=status,
        )
