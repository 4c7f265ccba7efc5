"""The page that provisions many users."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.advice import explain
from django_examplary.admin.base import RowAdmin
from django_examplary.admin.calls import provision_batch
from django_examplary.admin.names import ROLES, role_name
from django_examplary.admin.progress import Progress, group_by_reason
from django_examplary.admin.searching import is_searchable, search_rows, user_search_fields
from django_examplary.admin.sites import visible_users
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryError
from django_examplary.flows import FLOWS, flow_name
from django_examplary.models import ExamplaryActor
from django_examplary.problems import wants_json
from django_examplary.services.database import non_atomic
from django_examplary.services.profiles import get_profile

# Key of the last selection in the web session of the staff member.
_REMEMBERED = "examplary_provision"


def _flows_for(audience: str) -> str:
    return ", ".join(flow_name(slug) for slug, flow in FLOWS.items() if flow.audience == audience)


class SelectionForm(forms.Form):
    """The users to provision and their role, from the query string."""

    groups = forms.MultipleChoiceField(
        label=_("Groups"), required=False, widget=forms.CheckboxSelectMultiple
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
        label=_("Role at Examplary"), initial="teacher", choices=list(ROLES.items())
    )
    started = forms.DateTimeField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The user model of a project may lack both.
        known = {field.name: field for field in get_user_model()._meta.get_fields()}
        if "is_staff" not in known:
            del self.fields["staff"]
        groups: Any = getattr(known.get("groups"), "related_model", None)
        if groups and is_searchable(groups, "name"):
            choice: Any = self.fields["groups"]
            names = groups._default_manager.order_by("name").values_list("name", flat=True)
            choice.choices = [(name, name) for name in names]
        else:
            del self.fields["groups"]
        self.fields["role"].help_text = gettext(
            "For users whose profile names no role. Teachers can: %(teacher)s. Students can: "
            "%(student)s."
        ) % {"teacher": _flows_for("teacher"), "student": _flows_for("student")}

    def clean_started(self) -> datetime | None:
        started: datetime | None = self.cleaned_data["started"]
        if started and not 2000 <= started.year < 9999:
            # Out of range in some time zones: the first and the last year.
            raise forms.ValidationError(self.fields["started"].error_messages["invalid"])
        if started and timezone.is_aware(started) and not settings.USE_TZ:
            # The URL has a time zone, but the site does not use them.
            return timezone.make_naive(started)
        return started

    def select(self, users: QuerySet[Any]) -> QuerySet[Any]:
        """Return the users that the form selects."""
        chosen = self.cleaned_data
        selected = services.select_users(groups=chosen.get("groups", []), staff=chosen.get("staff"))
        if chosen["search"]:
            selected = search_rows(selected, user_search_fields(), chosen["search"])
        return users.filter(pk__in=selected.order_by().values("pk"))


class ProvisionPageMixin(RowAdmin):
    @non_atomic
    def provision_view(self, request: HttpRequest) -> HttpResponse:
        """Show the selected users and the progress; a POST provisions some of them.

        The rows hold all state, so the page shows the progress even after an interruption.
        """
        title = gettext("Provision users")
        remembered = QueryDict(request.session.get(_REMEMBERED, ""))
        initial = {**remembered.dict(), "groups": remembered.getlist("groups")}
        form = SelectionForm(request.GET or None, initial=initial)
        # No user is selected at first; the submitted selection is in the query string.
        if not form.is_valid():
            status = 400 if form.is_bound else 200
            return self.render_page(
                request, "provision", {"title": title, "form": form}, status=status
            )
        request.session[_REMEMBERED] = _selection(request).urlencode()
        users = form.select(visible_users(self.admin_site, request))
        if request.method == "POST":
            return self._provision_batch(request, form, users)
        started = form.cleaned_data["started"]
        run = Progress(users, started or timezone.now())
        limits = self.examplary_limits
        failures = list(run.failures[: limits.listed]) if started else []
        context = {
            "title": title,
            "form": form,
            "run": run,
            "started": started,
            "role": role_name(form.cleaned_data["role"]),
            "preview": [] if started else list(self._preview(run, form.cleaned_data["role"])),
            "more": max(0, run.left - limits.names),
            "reasons": group_by_reason(failures),
            "unlisted": max(0, run.failed - limits.listed),
        }
        return self.render_page(request, "provision", context)

    def _preview(self, run: Progress, role: str) -> Iterator[tuple[Any, str, str]]:
        """Yield the first users with their role, or the reason why provisioning will fail."""
        first = run.remaining.order_by("pk").select_related("examplary_actor")
        for user in first[: self.examplary_limits.names]:
            actor = ExamplaryActor(role=role)
            actor.set_user(user)
            try:
                yield user, role_name(get_profile(actor).role or ""), ""
            except (ExamplaryError, ExamplaryConfigurationError) as error:
                yield user, "", str(explain(ExamplaryActor.State.FAILED, str(error)).name)

    def _provision_batch(
        self, request: HttpRequest, form: SelectionForm, users: QuerySet[Any]
    ) -> HttpResponse:
        is_script = wants_json(request)
        limits = self.examplary_limits
        started = form.cleaned_data["started"] or timezone.now()
        _, result = provision_batch(
            request,
            Progress(users, started).remaining,
            limits.batch if is_script else limits.duration,
            role=form.cleaned_data["role"],
            limits=limits,
        )
        if result.stopped:
            self.message_user(request, result.stopped, messages.ERROR)
        elif result.skipped and not result.interrupted:
            text = gettext("Another process provisions some of the users: continue in a minute.")
            self.message_user(request, text, messages.WARNING)
        query = _selection(request)
        query["started"] = started.isoformat()
        url = f"{request.path}?{query.urlencode()}"
        if not is_script:
            return HttpResponseRedirect(url)
        run = Progress(users, started)
        return JsonResponse(
            {
                "url": url,
                "done": run.done,
                "total": run.total,
                "text": str(run),
                "finished": not result.interrupted,
                "pause": result.pause,
            }
        )


def _selection(request: HttpRequest) -> QueryDict:
    """Return the query string without the start of a run."""
    query = request.GET.copy()
    query.pop("started", None)
    return query
