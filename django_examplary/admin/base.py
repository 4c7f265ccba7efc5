"""The base of all admin classes here: limits for API calls, and lists that are not atomic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from django_examplary import services
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

    def client(self) -> ExamplaryClient:
        """Return a client whose calls keep these limits.

        Raises ExamplaryConfigurationError when the API key is missing or wrong.
        """
        return services.get_client(
            deadline=self.deadline, max_retries=0, pool_size=self.concurrency
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


class PageMixin(ExamplaryAdminMixin):
    """What the admin classes of our own models have: permissions, and pages of their own."""

    # Explicit, because other mixins set theirs and Django looks for templates by model only then.
    change_list_template = "admin/django_examplary/change_list.html"
    change_form_template = "admin/django_examplary/change_form.html"

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.retry_examplaryactor")

    def has_link_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.link_examplaryactor")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.revoke_examplarysession")

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.verify_examplarysession")

    def render_page(
        self,
        request: HttpRequest,
        template: str,
        context: dict[str, Any],
        *,
        status: int = 200,
    ) -> HttpResponse:
        """Return a page; `context` has its `title`."""
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
