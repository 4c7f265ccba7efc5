"""Base classes for the admin of this app: limits, permissions and additional pages."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.exceptions import BadRequest, PermissionDenied, ValidationError
from django.db import Error, connections
from django.db.models import Count, Model, QuerySet
from django.db.transaction import TransactionManagementError
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.template import Context
from django.template.loader import get_template
from django.template.loader_tags import ExtendsNode
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.exporting import csv_response
from django_examplary.admin.sites import admin_url, only_visible, permitted_url
from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.models import ExamplarySession
from django_examplary.services.bulk import user_has_field
from django_examplary.services.database import non_atomic

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    # For type checkers: the mixin is used with ModelAdmin classes.
    ModelAdminBase = ModelAdmin
else:
    ModelAdmin = admin.ModelAdmin
    ModelAdminBase = object


_CHANGE_LIST = "admin/django_examplary/change_list.html"
_CHANGE_FORM = "admin/django_examplary/change_form.html"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one request in the admin. Durations are in seconds."""

    #: A request starts no further API call after this time.
    duration: float = 4.0
    #: The same for a page that reports its progress after each request.
    batch: float = 1.0
    #: Maximum duration of one call, including retries.
    deadline: float = 5.0
    #: Maximum number of concurrent API calls.
    concurrency: int = 4
    #: Users or sessions per action, which has no time for more.
    rows: int = 1000
    #: Failures shown as messages, one each.
    messages: int = 10
    #: Failures listed on a page.
    listed: int = 100
    #: Names shown before an action is confirmed.
    names: int = 20

    def client(self, workspace: str) -> ExamplaryClient:
        """Return a client of a workspace whose calls respect these limits.

        Raises ExamplaryConfigurationError when the API key is missing or wrong.
        """
        return services.get_client(
            workspace, deadline=self.deadline, max_retries=0, pool_size=self.concurrency
        )


def _permission(codename: str) -> Callable[[Any, HttpRequest], bool]:
    def has_permission(self: Any, request: HttpRequest) -> bool:
        return request.user.has_perm(f"django_examplary.{codename}")

    return has_permission


class ExamplaryAdminMixin(ModelAdminBase):
    """Base of every admin class of this app: limits, messages, and a non-atomic change list."""

    examplary_limits = Limits()
    has_provision_permission = _permission("provision_examplaryactor")

    def report_count(
        self, request: HttpRequest, level: int, count: int, text: Any, **values: object
    ) -> None:
        """Show a message about a number of rows, unless it is 0."""
        if count:
            self.message_user(request, text % {"count": count, **values}, level)

    # Actions commit before they call the API, which ATOMIC_REQUESTS would prevent.
    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().response_action(request, *args, **kwargs)
        except TransactionManagementError as error:
            # The list of a mixin, such as VersionAdmin of django-reversion, opens a transaction.
            self.message_user(request, str(error), messages.ERROR)
            return None


class Button(NamedTuple):
    """A button on the page of a row: a link to `url`, or a form that posts an action there."""

    label: Any
    url: str
    posts: bool = False
    #: `primary`, `danger` or empty.
    style: str = ""


class RowAdmin(ExamplaryAdminMixin, ModelAdmin):
    """Base of the admin classes for the models of this app: read-only rows, buttons and pages."""

    # Explicit, so that mixins such as ImportExportMixin extend these templates.
    change_list_template = _CHANGE_LIST
    change_form_template = _CHANGE_FORM

    #: The lookup from a row to its user.
    user_path: str
    #: The column with the state of a row, for the summary above the list.
    state_field: str
    #: The text above the list.
    introduction: Any
    #: The model to search next if a search finds no row, and the text of that link.
    other_search: tuple[type[Model], Any]

    class Media:
        css = {"all": ["django_examplary/admin.css"]}

    has_retry_permission = _permission("retry_examplaryactor")
    has_link_permission = _permission("link_examplaryactor")
    has_erase_permission = _permission("erase_examplaryactor")
    has_revoke_permission = _permission("revoke_examplarysession")
    has_verify_permission = _permission("verify_examplarysession")

    # The names `has_export_permission` and `export/` belong to django-import-export.
    def has_csv_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"django_examplary.export_{self.opts.model_name}")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Saving the form would overwrite changes of other processes.
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return only_visible(rows, self.user_path, self.admin_site, request)

    def get_workspace_fields(self) -> list[str]:
        """Return the fields that rows also have on a site with several workspaces."""
        return [] if conf.EXAMPLARY_WORKSPACE is None else ["workspace"]

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*super().get_list_display(request), *self.get_workspace_fields()]

    def get_list_filter(self, request: HttpRequest) -> Any:
        groups = [f"{self.user_path}__groups"] if user_has_field("groups") else []
        return [*super().get_list_filter(request), *self.get_workspace_fields(), *groups]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fields = self.get_workspace_fields()
        workspace = [(None, {"fields": fields})] if fields else []
        return [*super().get_fieldsets(request, obj), *workspace]

    def get_urls(self) -> list[URLPattern]:
        return [
            self.page_path("csv/", self.csv_view, "csv", "csv"),
            self.page_path("<path:object_id>/do/<slug:name>/", self.row_action_view, "do"),
            *super().get_urls(),
        ]

    def page_path(self, route: str, view: Any, name: str, permission: str = "view") -> URLPattern:
        """Return the URL pattern of an additional page, for staff who may view the list.

        They also need `permission`, as in `permissions` of an action. The name of the pattern is
        the name of the model followed by `name`.
        """

        @wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            has_permission = getattr(self, f"has_{permission}_permission")
            if not (self.has_view_permission(request) and has_permission(request)):
                raise PermissionDenied
            response: HttpResponseBase = view(request, *args, **kwargs)
            return response

        name = f"{self.opts.app_label}_{self.opts.model_name}_{name}"
        pattern: URLPattern = path(route, self.admin_site.admin_view(guarded), name=name)
        return pattern

    def page_url(self, page: str, *args: Any) -> str:
        return admin_url(self.admin_site, self.model, page, *args)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            changelist = super().get_changelist_instance(request)
        except (Error, IndexError, OverflowError, TypeError, ValueError) as error:
            if request.GET.keys() <= {ERROR_FLAG}:
                raise
            # Django checks the format of a value, not whether the database can compare it: the year
            # 9999, U+0000, half of a range, or what JSON contains on SQLite.
            raise IncorrectLookupParameters(error) from error
        if not connections[changelist.queryset.db].features.has_zoneinfo_database:
            # MySQL and MariaDB count days in a time zone only with time zone tables.
            changelist.date_hierarchy = None
        return changelist

    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        other, text = self.other_search
        context = {
            "mixin_template": "admin/change_list.html",
            "introduction": self.introduction,
            # A callable, so that actions do not run the query.
            "summary": lambda: self.get_summary(request),
            "other_search": text,
            "other_search_url": permitted_url(self.admin_site, request, other),
            "buttons": list(self.get_list_buttons(request)),
            "has_csv_permission": self.has_csv_permission(request),
            **(extra_context or {}),
        }
        response: Any = super().changelist_view(request, context)
        template = self.change_list_template
        # VersionAdmin has a template without the buttons of this app. An action has another one.
        is_list = getattr(response, "template_name", None) == template
        if is_list and not _is_based_on(template, _CHANGE_LIST, response.context_data):
            response.context_data["mixin_template"] = template
            response.template_name = _CHANGE_LIST
        return response

    def response_action(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
            try:
                self.opts.pk.clean(key, None)
            except ValidationError as error:
                raise BadRequest("A selected row has no valid primary key.") from error
        return super().response_action(request, *args, **kwargs)

    def get_list_buttons(self, request: HttpRequest) -> Iterator[Button]:
        """Yield the links above the list that this staff member may use."""
        if url := permitted_url(self.admin_site, request, ExamplarySession, "activity"):
            yield Button(label=_("Examplary activity"), url=url)

    def get_summary(self, request: HttpRequest) -> list[dict[str, Any]]:
        """Return the number of rows in each state, with a link to their list."""
        field: Any = self.opts.get_field(self.state_field)
        rows = self.get_queryset(request).order_by()
        counts = dict(rows.values_list(self.state_field).annotate(Count("pk")))
        url = f"{self.page_url('changelist')}?{self.state_field}__exact="
        return [
            {"state": state, "label": label, "count": counts.get(state, 0), "url": f"{url}{state}"}
            for state, label in field.choices
        ]

    @abstractmethod
    def get_export_columns(self, request: HttpRequest) -> dict[str, Callable[[Any], Any]]:
        """Return the columns of the CSV: titles and functions of the row."""

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the rows of all pages of the list with this query string, as CSV."""
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self.page_url("changelist"))
        columns = self.get_export_columns(request)
        return csv_response(str(self.opts.model_name), columns, rows.iterator(chunk_size=2000))

    def get_row(self, request: HttpRequest, object_id: str) -> Any:
        """Return the row, or raise Http404, or PermissionDenied if it may not be viewed."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return row

    @abstractmethod
    def describe_row(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return the context of the part above the form of a row."""

    @abstractmethod
    def get_buttons(self, request: HttpRequest, row: Any) -> Iterable[Button]:
        """Yield the buttons of the page of a row that this staff member may use."""

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
            buttons = list(self.get_buttons(request, row))
            context = {"buttons": buttons, **self.describe_row(request, row)}
        context |= extra_context or {}
        return super().change_view(request, object_id, form_url, context)

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        template = self.change_form_template
        is_ours = _is_based_on(template, _CHANGE_FORM)
        # Mixins such as GuardedModelAdmin have a template without the buttons of this app.
        context["mixin_template"] = "admin/change_form.html" if is_ours else template
        response = super().render_change_form(request, context, *args, **kwargs)
        if not is_ours and isinstance(response, TemplateResponse):
            response.template_name = _CHANGE_FORM
        return response

    @non_atomic
    def row_action_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponseBase:
        """Run an action of the list on one row, for a button on the page of the row."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        row = self.get_row(request, object_id)
        action = getattr(self, name, None)
        # Django offers only the actions that this staff member may run.
        if action is None or name not in self.get_actions(request):
            raise PermissionDenied
        response = action(request, self.get_queryset(request).filter(pk=row.pk))
        return response or HttpResponseRedirect(self.page_url("change", row.pk))

    def render_page(
        self, request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
    ) -> HttpResponse:
        """Render a page in the layout of the admin site; `context` has its `title`."""
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_examplary/{template}.html",
            {**self.admin_site.each_context(request), "opts": self.opts, **context},
            status=status,
        )


def _is_based_on(name: str, ancestor: str, context: dict[str, Any] | None = None) -> bool:
    """Return whether a template extends another; True if the parent depends on the context."""
    seen: set[str] = set()
    while name not in (*seen, ancestor, None):
        seen.add(name)
        template: Any = get_template(name)
        parents = template.template.nodelist.get_nodes_by_type(ExtendsNode)
        if not parents:
            return False
        name = parents[0].parent_name.resolve(Context(context), ignore_failures=True)
    return name not in seen
