"""Pages of actors: link an existing id, and erase the data of users."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import helpers
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from django_examplary import clock, services
from django_examplary.admin.base import RowAdmin
from django_examplary.admin.calls import UNCONFIRMED
from django_examplary.admin.history import actor_facts, describe, log
from django_examplary.admin.names import user_name
from django_examplary.exceptions import ExamplaryError, ExamplaryValidationError
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.clients import workspace_of
from django_examplary.services.database import non_atomic

_ERASED_SESSIONS = ngettext_lazy(
    "Examplary data erased with %(count)d session",
    "Examplary data erased with %(count)d sessions",
    "count",
)
_ERASED = ngettext_lazy(
    "The Examplary data of %(count)d user are erased. Delete the account at Examplary too.",
    "The Examplary data of %(count)d users are erased. Delete the accounts at Examplary too.",
    "count",
)
_NO_TIME_FOR_USERS = ngettext_lazy(
    "There was no time for %(count)d user: choose the action again.",
    "There was no time for %(count)d users: choose the action again.",
    "count",
)


class LinkForm(forms.Form):
    examplary_id = forms.RegexField(
        r"^user_[A-Za-z0-9_-]{1,250}\Z",
        label=_("Examplary id"),
        help_text=_("Begins with “user_”. Examplary shows it to the admins of your workspace."),
        error_messages={"invalid": _("Enter an id that begins with “user_”.")},
    )


class ActorPagesMixin(RowAdmin):
    def may_link(self, request: HttpRequest, actor: ExamplaryActor) -> bool:
        """Return whether a staff member may link an actor. Users cannot link themselves."""
        own = actor.user_id == request.user.pk
        return self.has_link_permission(request) and (not own or request.user.is_superuser)

    @non_atomic
    def link_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Link an actor to a user who already exists at Examplary."""
        actor = self.get_row(request, object_id)
        if not self.may_link(request, actor):
            raise PermissionDenied
        form = LinkForm(request.POST or None)
        if form.is_valid():
            before = actor_facts(actor)
            examplary_id = form.cleaned_data["examplary_id"]
            try:
                client = self.examplary_limits.client(workspace_of(actor.user))
                linked = services.link_actor(actor.user, examplary_id, client=client)
            except ExamplaryValidationError:
                others = ExamplaryActor.objects.exclude(pk=actor.pk)
                form.add_error(
                    "examplary_id",
                    gettext("Another user of this site has this id already.")
                    if others.filter(examplary_id=examplary_id).exists()
                    else gettext("This is the owner of the API key, who cannot be an actor."),
                )
            except (ExamplaryError, ImproperlyConfigured) as error:
                text = gettext("The call to Examplary failed: %(problem)s")
                form.add_error(None, text % {"problem": error})
            else:
                log(request, [(actor, describe(gettext("Linked"), before, actor_facts(linked)))])
                self.message_user(request, gettext("The actor is linked."), messages.SUCCESS)
                return HttpResponseRedirect(self.page_url("change", actor.pk))
        title = gettext("Link an existing Examplary account")
        return self.render_page(request, "link", {"title": title, "form": form, "actor": actor})

    def confirm_erasure(
        self, request: HttpRequest, actors: QuerySet[ExamplaryActor]
    ) -> HttpResponse | None:
        """Ask for a confirmation with the users' names, then erase their data."""
        if request.POST.get("confirmed"):
            self._erase(request, actors)
            return HttpResponseRedirect(self.page_url("changelist"))
        count = actors.count()
        names = self.examplary_limits.names
        context = {
            "title": gettext("Erase Examplary data"),
            "actors": [
                (user_name(actor.user), actor.examplary_id)
                for actor in actors.select_related("user")[:names]
            ],
            "more": max(0, count - names),
            "count": count,
            "sessions": ExamplarySession.objects.filter(actor__in=actors).count(),
            "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", ""),
        }
        return self.render_page(request, "erase", context)

    def _erase(self, request: HttpRequest, actors: QuerySet[ExamplaryActor]) -> None:
        limits = self.examplary_limits
        until = clock.monotonic() + limits.duration
        total, erased, pending = actors.count(), 0, 0
        entries = []
        for actor in list(actors.select_related("user")[: limits.rows]):
            if clock.monotonic() > until:
                break
            before = actor_facts(actor)
            user: Any = actor.user
            erasure = services.erase_user(user, deadline=limits.deadline)
            erased += 1
            pending += erasure.still_to_revoke
            text = _ERASED_SESSIONS % {"count": erasure.sessions}
            # The history of the actor is deleted; that of the user remains.
            entries.append((user, describe(text, before, dict.fromkeys(before, ""))))
        log(request, entries)
        self.report_count(request, messages.SUCCESS, erased, _ERASED)
        self.report_count(request, messages.WARNING, pending, UNCONFIRMED)
        self.report_count(request, messages.WARNING, total - erased, _NO_TIME_FOR_USERS)
