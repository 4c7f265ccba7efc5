"""The page that links the users of a CSV file to existing Examplary ids."""

from __future__ import annotations

import csv
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext, gettext_noop, ngettext_lazy
from django.utils.translation import gettext_lazy as _

from django_examplary import clock
from django_examplary.admin.history import actor_facts, describe, log
from django_examplary.admin.pages import ActorPagesMixin
from django_examplary.admin.sites import visible_users
from django_examplary.exceptions import ExamplaryError
from django_examplary.models import ExamplaryActor
from django_examplary.services.database import non_atomic
from django_examplary.services.link_file import LinkLine, decode, find_users, link_lines, read_lines

_LINKED = ngettext_lazy("%(count)d user is linked.", "%(count)d users are linked.", "count")
_OWN = gettext_noop("You can’t link your own account.")
# In bytes. More than the largest file of the accepted number of lines.
_MAX_SIZE = 1024 * 1024


class LinkFileForm(forms.Form):
    file = forms.FileField(label=_("CSV file"), required=False)
    text = forms.CharField(
        label=_("or its text"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 6, "placeholder": "ann@school.example,user_1a2b3c4d"}),
    )
    replace = forms.BooleanField(
        label=_("Also link users who have another id"),
        required=False,
        help_text=_("Their open sessions are revoked."),
    )

    def __init__(self, *args: Any, max_lines: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._max_lines = max_lines
        self.lines: list[LinkLine] = []

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if file := cleaned.get("file"):
            # A part of the file may be neither UTF-8 nor CSV.
            if file.size > _MAX_SIZE:
                raise self._too_long()
            try:
                cleaned["text"] = decode(file.read())
            except UnicodeDecodeError:
                raise forms.ValidationError(gettext("The file must be UTF-8.")) from None
        try:
            self.lines = read_lines(cleaned.get("text", ""))
        except csv.Error:
            raise forms.ValidationError(gettext("This is not CSV.")) from None
        if not self.lines and not self.errors:
            raise forms.ValidationError(gettext("Choose a file with lines, or enter its text."))
        if len(self.lines) > self._max_lines:
            raise self._too_long()
        return cleaned

    def _too_long(self) -> forms.ValidationError:
        text = gettext(
            "These are more than %(count)d lines. Use smaller files, or the command examplary_link."
        )
        return forms.ValidationError(text % {"count": self._max_lines})


class LinkFilePageMixin(ActorPagesMixin):
    @non_atomic
    def link_file_view(self, request: HttpRequest) -> HttpResponse:
        """Show the effect of each line; a second POST links the users within the time limit.

        The page contains the text of the file and the rows contain the progress, so the form can be
        submitted again.
        """
        data = (request.POST, request.FILES) if request.method == "POST" else ()
        form = LinkFileForm(*data, max_lines=self.examplary_limits.rows)
        context = {"title": gettext("Link users from a file"), "form": form}
        if form.is_valid():
            lines = form.lines
            users = visible_users(self.admin_site, request)
            find_users(lines, users=users, replace=form.cleaned_data["replace"])
            for line in lines:
                if line.is_ready and not self.may_link(request, ExamplaryActor(user=line.user)):
                    line.problem = _OWN
            if "apply" in request.POST:
                ready = [line for line in lines if line.is_ready]
                self._link_lines(request, ready, replace=form.cleaned_data["replace"])
            context |= {
                "results": [(line, _result(line)) for line in lines],
                "linked": sum(line.is_linked for line in lines),
                "ready": sum(line.is_ready for line in lines),
                "problems": sum(bool(line.problem) for line in lines),
            }
        return self.render_page(request, "link_file", context)

    def _link_lines(self, request: HttpRequest, lines: list[LinkLine], *, replace: bool) -> None:
        limits = self.examplary_limits
        until = clock.monotonic() + limits.duration
        before = {line.number: actor_facts(line.actor) if line.actor else {} for line in lines}
        linking = link_lines(lines, client_for=limits.client, replace=replace)
        count = 0
        try:
            while clock.monotonic() < until and (line := next(linking, None)):
                if line.is_linked and line.actor is not None:
                    count += 1
                    facts = actor_facts(line.actor)
                    text = describe(gettext("Linked"), before[line.number], facts)
                    # Log each line at once, because the next one may end the request.
                    log(request, [(line.actor, text)])
        except (ExamplaryError, ImproperlyConfigured) as error:
            text = gettext("The call to Examplary failed: %(problem)s")
            self.message_user(request, text % {"problem": error}, messages.ERROR)
        self.report_count(request, messages.SUCCESS, count, _LINKED)


def _result(line: LinkLine) -> str:
    if line.problem:
        return gettext(line.problem)
    if line.is_linked:
        return gettext("linked")
    if line.actor is not None and line.actor.is_active:
        return gettext("will be linked instead of %(id)s") % {"id": line.actor.examplary_id}
    return gettext("will be linked")
