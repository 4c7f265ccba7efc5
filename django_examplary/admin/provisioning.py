"""The page that provisions many users."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.base import PageMixin
from django_examplary.admin.calls import provision
from django_examplary.admin.progress import Progress
from django_examplary.services.database import non_atomic


class SelectionForm(forms.Form):
    """The users to provision and their role, as the query string has them."""

    groups: forms.ModelMultipleChoiceField[Any] = forms.ModelMultipleChoiceField(
        None, label=_("Groups"), required=False, widget=forms.CheckboxSelectMultiple
    )
    staff = forms.TypedChoiceField(
        label=_("Staff"),
        required=False,
        coerce=lambda value: value == "yes",
        empty_value=None,
        choices=[("", _("Staff or not")), ("yes", _("Staff only")), ("no", _("Others only"))],
    )
    search = forms.CharField(
        label=_("Search"), required=False, help_text=_("Part of a name or an e-mail address.")
    )
    role = forms.ChoiceField(
        label=_("Role at Examplary"),
        initial="teacher",
        choices=[("teacher", _("teacher")), ("student", _("student")), ("member", _("member"))],
        help_text=_("For users whose profile names none."),
    )
    started = forms.DateTimeField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A project's user model need not have either.
        known = {field.name: field for field in get_user_model()._meta.get_fields()}
        if "is_staff" not in known:
            del self.fields["staff"]
        if "groups" in known:
            groups: Any = known["groups"].related_model
            choice: Any = self.fields["groups"]
            choice.queryset = groups._default_manager.all()
        else:
            del self.fields["groups"]

    def clean_started(self) -> datetime | None:
        started: datetime | None = self.cleaned_data["started"]
        if started and timezone.is_aware(started) and not settings.USE_TZ:
            # A time zone in the address, and a database without any.
            return timezone.make_naive(started)
        return started

    def select(self) -> QuerySet[Any]:
        chosen = self.cleaned_data
        return services.select_users(
            groups=[group.name for group in chosen.get("groups", [])],
            staff=chosen.get("staff"),
            search=chosen["search"],
        )


class ProvisionPageMixin(PageMixin):
    @non_atomic
    def provision_view(self, request: HttpRequest) -> HttpResponse:
        """Show whom a selection is about and how far it has got; a POST does a little of it.

        The rows are all the state there is: whoever comes back later sees how far it has got.
        """
        if not self.has_provision_permission(request):
            raise PermissionDenied
        title = gettext("Provision users")
        # At first nobody is selected; the selection that is sent is in the query string.
        form = SelectionForm(request.GET or None)
        if not form.is_valid():
            status = 400 if form.is_bound else 200
            context = {"title": title, "form": form, "errors": form.errors}
            return self.render_page(request, "provision", context, status=status)
        if request.method == "POST":
            return self._provision_batch(request, form)
        started = form.cleaned_data["started"]
        run = Progress(form.select(), started or timezone.now())
        role: Any = form.fields["role"]
        context = {
            "title": title,
            "form": form,
            "errors": form.errors,
            "run": run,
            "started": started,
            "role": dict(role.choices)[form.cleaned_data["role"]],
            "failures": run.failures[: self.examplary_limits.listed],
        }
        return self.render_page(request, "provision", context)

    def _provision_batch(self, request: HttpRequest, form: SelectionForm) -> HttpResponse:
        wants_json = request.get_preferred_type(["text/html", "application/json"]) == (
            "application/json"
        )
        started = form.cleaned_data["started"] or timezone.now()
        limits = self.examplary_limits
        result = provision(
            Progress(form.select(), started).remaining,
            limits.batch if wants_json else limits.duration,
            role=form.cleaned_data["role"],
            limits=limits,
        )
        finished = not result.interrupted
        if finished and result.stopped:
            self.message_user(request, result.stopped, messages.ERROR)
        elif finished and result.skipped:
            text = gettext("Others are provisioning some of the users: continue in a minute.")
            self.message_user(request, text, messages.WARNING)
        query = request.GET.copy()
        query["started"] = started.isoformat()
        url = f"{request.path}?{query.urlencode()}"
        if not wants_json:
            return HttpResponseRedirect(url)
        run = Progress(form.select(), started)
        return JsonResponse(
            {
                "url": url,
                "done": run.done,
                "total": run.total,
                "text": str(run),
                "finished": finished,
                "pause": result.pause,
            }
        )
