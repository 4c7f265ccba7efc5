"""The page that links an actor to an existing Examplary id."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.admin.base import PageMixin
from django_examplary.exceptions import ExamplaryError, ExamplaryValidationError
from django_examplary.models import ExamplaryActor
from django_examplary.services.database import non_atomic


class LinkForm(forms.Form):
    examplary_id = forms.RegexField(
        r"^user_[A-Za-z0-9_-]{1,250}\Z",
        label=_("Examplary id"),
        help_text=_("Begins with “user_”. Examplary shows it to the admins of your workspace."),
        error_messages={"invalid": _("Enter an id that begins with “user_”.")},
    )


class LinkPageMixin(PageMixin):
    @non_atomic
    def link_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Link an actor to a user who already exists at Examplary."""
        if not self.has_link_permission(request):
            raise PermissionDenied
        actor = self.get_object(request, unquote(object_id))
        if actor is None:
            raise Http404
        form = LinkForm(request.POST or None)
        if form.is_valid():
            examplary_id = form.cleaned_data["examplary_id"]
            try:
                services.link_actor(actor.user, examplary_id, client=self.examplary_limits.client())
            except ExamplaryValidationError:
                others = ExamplaryActor.objects.exclude(pk=actor.pk)
                form.add_error(
                    "examplary_id",
                    gettext("This id stands for another user here already.")
                    if others.filter(examplary_id=examplary_id).exists()
                    else gettext("This is the owner of the API key, who cannot be an actor."),
                )
            except (ExamplaryError, ImproperlyConfigured) as error:
                text = gettext("Examplary could not be asked: %(problem)s")
                form.add_error(None, text % {"problem": error})
            else:
                self.log_change(request, actor, gettext("Linked to an Examplary id."))
                self.message_user(request, gettext("The actor is linked."), messages.SUCCESS)
                return HttpResponseRedirect(
                    reverse(
                        "admin:django_examplary_examplaryactor_change",
                        args=[actor.pk],
                        current_app=self.admin_site.name,
                    )
                )
        title = gettext("Link an existing Examplary id")
        context = {"title": title, "form": form, "errors": form.errors, "actor": actor}
        return self.render_page(request, "link", context)
