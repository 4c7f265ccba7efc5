"""Actors and sessions in the Django admin, and what the project's own user admin may use of it.

Whatever asks Examplary is a POST, takes a permission of its own, and lasts some seconds at most:
what is not done by then is left to the next request, to a command or to a task.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, PermissionDenied
from django.db.models import Count, F, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from django_examplary import services
from django_examplary.exceptions import ExamplaryError, ExamplaryValidationError
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.connections import non_atomic

if TYPE_CHECKING:
    from django_examplary.client import ExamplaryClient
    from django_examplary.data import ActorRole

    ActorModelAdmin = admin.ModelAdmin[ExamplaryActor]
    SessionModelAdmin = admin.ModelAdmin[ExamplarySession]
    UserModelAdmin = admin.ModelAdmin[Any]
    ActorInline = admin.TabularInline[ExamplaryActor, Any]
else:
    ActorModelAdmin = SessionModelAdmin = admin.ModelAdmin
    UserModelAdmin = object
    ActorInline = admin.TabularInline

State = ExamplaryActor.State

# Seconds after which a request begins nothing new, and that what it has begun may still take.
_BUDGET, _DEADLINE = 4.0, 5.0
# The same for a page that shows how far it has got after each request.
_BEAT = 1.0
_CONCURRENCY = 4
# How many failures are told one by one, in messages and in a report.
_TOLD = 10
_LISTED = 100
# With how many users or sessions an action begins. It has no time for more.
_TAKEN = 1000
# With whom it failed.
_BROKEN = [State.FAILED, State.UNCERTAIN]


class NonAtomicChangeListMixin(UserModelAdmin):
    # Actions commit before they ask the API, which they cannot do inside ATOMIC_REQUESTS.
    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().changelist_view(request, extra_context)


class ProvisionActorsMixin(NonAtomicChangeListMixin):
    """For the project's own user admin: `class MyUserAdmin(ProvisionActorsMixin, UserAdmin)`.

    Adds a column with the state of each user's actor and, for staff who may provision actors, the
    actions to do so: as teachers, and as students, where the user's profile names no role. Under
    ATOMIC_REQUESTS the list, with the other actions on it, is not atomic then.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not a class attribute, where the actions of the project's own class take its place.
        if self.actions is not None:
            ours = ("provision_teachers", "provision_students")
            self.actions = [*self.actions, *(name for name in ours if name not in self.actions)]

    def get_list_display(self, request: HttpRequest) -> Any:
        return [*super().get_list_display(request), "examplary_actor_state"]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changelist = super().get_changelist_instance(request)
        # Not `select_related`, which would take the place of the project's `list_select_related`.
        changelist.result_list = changelist.result_list.prefetch_related("examplary_actor")
        return changelist

    @admin.display(
        description=_("Examplary actor"), ordering="examplary_actor__state", empty_value="-"
    )
    def examplary_actor_state(self, user: Any) -> str | None:
        actor = getattr(user, "examplary_actor", None)
        if actor is None:
            return None
        state = actor.get_state_display()
        if not self.admin_site.is_registered(ExamplaryActor):
            return str(state)
        url = reverse(
            "admin:django_examplary_examplaryactor_change",
            args=[actor.pk],
            current_app=self.admin_site.name,
        )
        return format_html('<a href="{}">{}</a>', url, state)

    @admin.action(
        description=_("Provision Examplary actors as teachers"), permissions=["provision"]
    )
    def provision_teachers(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        _provision_and_tell(self, request, queryset, "teacher")

    @admin.action(
        description=_("Provision Examplary actors as students"), permissions=["provision"]
    )
    def provision_students(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        _provision_and_tell(self, request, queryset, "student")

    def has_provision_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.provision_examplaryactor")


class ExamplaryActorInline(ActorInline):
    """For the project's own user admin: the user's actor, to look at."""

    model = ExamplaryActor
    fields = ["state", "role", "email", "provisioned_at", "last_error"]
    readonly_fields = ["state", "role", "email", "provisioned_at", "last_error"]
    can_delete = False
    show_change_link = True

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class SelectionForm(forms.Form):
    """Which users to provision, and as what. Lives in the query string, as does when it began."""

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


class LinkForm(forms.Form):
    examplary_id = forms.RegexField(
        r"^user_[A-Za-z0-9_-]{1,250}\Z",
        label=_("Examplary id"),
        help_text=_("Begins with “user_”. Examplary shows it to the admins of your workspace."),
        error_messages={"invalid": _("Enter an id that begins with “user_”.")},
    )


@admin.register(ExamplaryActor)
class ExamplaryActorAdmin(NonAtomicChangeListMixin, ActorModelAdmin):
    list_display = ["user", "state", "last_error", "role", "email", "provisioned_at"]
    list_filter = ["state", "role", "provisioned_at"]
    list_select_related = ["user"]
    search_fields = ["email", "name", "examplary_id"]
    raw_id_fields = ["user"]
    readonly_fields = [
        "state",
        "examplary_id",
        "email",
        "name",
        "role",
        "last_error",
        "claimed_at",
        "provisioned_at",
        "created_at",
        "updated_at",
    ]
    actions = ["provision_actors", "retry_actors", "revoke_open_sessions"]

    class Media:
        css = {"all": ["django_examplary/admin.css"]}

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return [*self.search_fields, f"user__{get_user_model().USERNAME_FIELD}"]

    def has_change_permission(
        self, request: HttpRequest, obj: ExamplaryActor | None = None
    ) -> bool:
        # Saving the form would write back a row that somebody has claimed meanwhile.
        return False

    def get_urls(self) -> list[URLPattern]:
        name = "django_examplary_examplaryactor"
        view = self.admin_site.admin_view
        return [
            path("provision/", view(self.provision_view), name=f"{name}_provision"),
            path("<path:object_id>/link/", view(self.link_view), name=f"{name}_link"),
            *super().get_urls(),
        ]

    @non_atomic
    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {
            # A callable, so that an action counts nothing.
            "summary": self._summarise,
            "has_provision_permission": self.has_provision_permission(request),
            **(extra_context or {}),
        }
        return super().changelist_view(request, context)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        context = {
            "has_link_permission": self.has_link_permission(request),
            **(extra_context or {}),
        }
        return super().change_view(request, object_id, form_url, context)

    def _summarise(self) -> list[dict[str, Any]]:
        counts = dict(ExamplaryActor.objects.values_list("state").annotate(Count("pk")))
        url = reverse(
            "admin:django_examplary_examplaryactor_changelist", current_app=self.admin_site.name
        )
        states = [
            {"label": label, "count": counts.get(state, 0), "url": f"{url}?state__exact={state}"}
            for state, label in State.choices
        ]
        without = services.unprovisioned(get_user_model()._default_manager.all())
        none = {
            "label": gettext("users without"),
            "count": without.filter(examplary_actor=None).count(),
        }
        return [*states, none]

    # Actions

    def has_provision_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.provision_examplaryactor")

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.retry_examplaryactor")

    def has_link_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.link_examplaryactor")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.revoke_examplarysession")

    @admin.action(description=_("Provision Examplary actors"), permissions=["provision"])
    def provision_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        users = get_user_model()._default_manager.filter(examplary_actor__in=queryset)
        _provision_and_tell(self, request, users)

    @admin.action(description=_("Try again where provisioning failed"), permissions=["retry"])
    def retry_actors(self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]) -> None:
        broken = queryset.filter(state__in=_BROKEN)
        if broken.exists():
            self.provision_actors(request, broken)
        else:
            text = gettext("Provisioning failed for none of these.")
            self.message_user(request, text, messages.WARNING)

    @admin.action(description=_("Revoke their open sessions"), permissions=["revoke"])
    def revoke_open_sessions(
        self, request: HttpRequest, queryset: QuerySet[ExamplaryActor]
    ) -> None:
        sessions = ExamplarySession.objects.open().filter(actor__in=queryset)
        _revoke_and_tell(self, request, sessions)

    # Provisioning many users

    @non_atomic
    def provision_view(self, request: HttpRequest) -> HttpResponse:
        """Show whom a selection is about and how far it has got; a POST does a little of it.

        The rows are all the state there is: whoever comes back later sees how far it has got.
        """
        if not self.has_provision_permission(request):
            raise PermissionDenied
        # At first nobody is selected; the selection that is sent is in the query string.
        form = SelectionForm(request.GET or None)
        if not form.is_valid():
            status = 400 if form.is_bound else 200
            return self._render(request, "provision", {"form": form}, status=status)
        if request.method == "POST":
            return self._provision_batch(request, form)
        started = form.cleaned_data["started"]
        run = _Run(form.select(), started or timezone.now())
        role: Any = form.fields["role"]
        context = {
            "form": form,
            "run": run,
            "started": started,
            "role": dict(role.choices)[form.cleaned_data["role"]],
            "failures": run.failures[:_LISTED],
        }
        if started:
            context["subtitle"] = gettext("Not finished") if run.left else gettext("Finished")
        return self._render(request, "provision", context)

    def _provision_batch(self, request: HttpRequest, form: SelectionForm) -> HttpResponse:
        wants_json = request.get_preferred_type(["text/html", "application/json"]) == (
            "application/json"
        )
        started = form.cleaned_data["started"] or timezone.now()
        result = _provision(
            _Run(form.select(), started).remaining,
            _BEAT if wants_json else _BUDGET,
            form.cleaned_data["role"],
        )
        finished = result.stopped != services.ASKED_TO_STOP
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
        run = _Run(form.select(), started)
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

    # Linking

    @non_atomic
    def link_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let an Examplary user who exists already stand for a user here."""
        if not self.has_link_permission(request):
            raise PermissionDenied
        actor = self.get_object(request, unquote(object_id))
        if actor is None:
            raise Http404
        form = LinkForm(request.POST or None)
        if form.is_valid():
            examplary_id = form.cleaned_data["examplary_id"]
            try:
                services.link_actor(actor.user, examplary_id, client=_client())
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
        return self._render(request, "link", {"form": form, "actor": actor})

    def _render(
        self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200
    ) -> HttpResponse:
        titles = {
            "provision": gettext("Provision users"),
            "link": gettext("Link an existing Examplary id"),
        }
        script: Any = forms.Script("django_examplary/admin_provision.js", type="module")
        request.current_app = self.admin_site.name
        return TemplateResponse(
            request,
            f"admin/django_examplary/examplaryactor/{template}.html",
            {
                **self.admin_site.each_context(request),
                "title": titles[template],
                # As the template of a change form has it, for what is around the form.
                "original": titles[template],
                "errors": context["form"].errors,
                "has_view_permission": self.has_view_permission(request),
                "opts": self.opts,
                "media": self.media + forms.Media(js=[script] if template == "provision" else []),
                **context,
            },
            status=status,
        )


@admin.register(ExamplarySession)
class ExamplarySessionAdmin(NonAtomicChangeListMixin, SessionModelAdmin):
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
        checked = _ask_about_each(self, request, sessions, services.verify_session)
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
        _revoke_and_tell(self, request, open_)

    def has_verify_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.verify_examplarysession")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_examplary.revoke_examplarysession")

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        # A filter in the query string would give a hidden value away letter by letter.
        hidden = ("embed_url", "examplary_id", "fingerprint", "known_to", "open_key", "outputs")
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


class _Run:
    """How far provisioning a selection has got since it was started, counted in the rows."""

    def __init__(self, users: QuerySet[Any], started: datetime) -> None:
        actors = ExamplaryActor.objects.filter(user__in=users)
        self.failures = actors.filter(state__in=_BROKEN, updated_at__gte=started).select_related(
            "user"
        )
        # With whom it has failed is not tried again in the same run.
        self.remaining = services.unprovisioned(users).exclude(
            examplary_actor__state__in=_BROKEN, examplary_actor__updated_at__gte=started
        )
        self.provisioned = actors.filter(state=State.ACTIVE, provisioned_at__gte=started).count()
        self.failed = self.failures.count()
        self.left = self.remaining.count()
        self.done = self.provisioned + self.failed
        self.total = self.done + self.left

    def __str__(self) -> str:
        return gettext("%(done)s of %(total)s users, %(failed)s failed") % {
            "done": number_format(self.done, force_grouping=True),
            "total": number_format(self.total, force_grouping=True),
            "failed": number_format(self.failed, force_grouping=True),
        }


def _client() -> ExamplaryClient:
    return services.get_client(deadline=_DEADLINE, max_retries=0, pool_size=_CONCURRENCY)


def _provision(
    users: QuerySet[Any], seconds: float, role: ActorRole | None
) -> services.Provisioning:
    until = time.monotonic() + seconds
    try:
        return services.provision_actors(
            users,
            role=role,
            concurrency=_CONCURRENCY,
            rate=0,
            # An outage should not make more users uncertain than are under way at a time.
            max_failures=_CONCURRENCY,
            should_stop=lambda: time.monotonic() > until,
            client=_client(),
        )
    except ImproperlyConfigured as error:
        return services.Provisioning(stopped=str(error))


def _provision_and_tell(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    users: QuerySet[Any],
    role: ActorRole | None = None,
) -> None:
    started = timezone.now()
    waiting = services.unprovisioned(users)
    # All counted beforehand: the list may be filtered by what the action changes.
    active = users.filter(examplary_actor__state=State.ACTIVE).count()
    left = waiting.count()
    inactive = users.count() - active - left
    keys = list(waiting.order_by("pk").values_list("pk", flat=True)[:_TAKEN])
    chosen = get_user_model()._default_manager.filter(pk__in=keys)
    result = _provision(chosen, _BUDGET, role)
    run = _Run(chosen, started)
    active += run.provisioned
    left -= run.done
    if active:
        text = ngettext(
            "%(count)d user has an active Examplary actor.",
            "%(count)d users have active Examplary actors.",
            active,
        )
        model_admin.message_user(request, text % {"count": active}, messages.SUCCESS)
    for actor in run.failures[:_TOLD]:
        text = gettext("It failed for %(user)s: %(reason)s")
        failure = {"user": actor, "reason": actor.last_error}
        model_admin.message_user(request, text % failure, messages.ERROR)
    if run.failed > _TOLD:
        text = gettext("It failed for %(count)d users in all: see the list of actors.")
        model_admin.message_user(request, text % {"count": run.failed}, messages.ERROR)
    if inactive:
        text = ngettext(
            "%(count)d inactive user is not given an Examplary actor.",
            "%(count)d inactive users are not given Examplary actors.",
            inactive,
        )
        model_admin.message_user(request, text % {"count": inactive}, messages.WARNING)
    if result.stopped not in ("", services.ASKED_TO_STOP):
        model_admin.message_user(request, result.stopped, messages.ERROR)
    elif left:
        text = ngettext(
            "%(count)d user is still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            "%(count)d users are still waiting. Choose the action again, or provision users from "
            "the list of actors.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)


def _revoke_and_tell(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
) -> None:
    ended = _ask_about_each(model_admin, request, sessions, services.revoke_session)
    revoked = [each for each in ended if each.status == ExamplarySession.Status.REVOKED]
    if revoked:
        text = ngettext("%(count)d session revoked.", "%(count)d sessions revoked.", len(revoked))
        model_admin.message_user(request, text % {"count": len(revoked)}, messages.SUCCESS)
    if late := len(ended) - len(revoked):
        text = ngettext(
            "%(count)d session had come to its end before.",
            "%(count)d sessions had come to their end before.",
            late,
        )
        model_admin.message_user(request, text % {"count": late}, messages.WARNING)
    untold = sum(session.revoke_pending for session in ended)
    if untold:
        text = ngettext(
            "Examplary could not be told about %(count)d of them: the next sweep does.",
            "Examplary could not be told about %(count)d of them: the next sweep does.",
            untold,
        )
        model_admin.message_user(request, text % {"count": untold}, messages.WARNING)


def _ask_about_each(
    model_admin: admin.ModelAdmin[Any],
    request: HttpRequest,
    sessions: QuerySet[ExamplarySession],
    service: Callable[..., ExamplarySession],
) -> list[ExamplarySession]:
    """Run the service on as many open sessions as there is time for, and tell how many are left."""
    until = time.monotonic() + _BUDGET
    total = sessions.count()
    if not total:
        text = gettext("None of these sessions is open.")
        model_admin.message_user(request, text, messages.WARNING)
    done, failed = [], 0
    for session in sessions.select_related("actor__user")[:_TAKEN]:
        if time.monotonic() > until:
            break
        try:
            done.append(service(session, client=_client()))
        except ExamplaryError as error:
            failed += 1
            problem = str(error)
        except ImproperlyConfigured as error:
            model_admin.message_user(request, str(error), messages.ERROR)
            return done
    if failed:
        text = ngettext(
            "%(count)d session could not be asked about: %(problem)s",
            "%(count)d sessions could not be asked about, the last because: %(problem)s",
            failed,
        )
        model_admin.message_user(
            request, text % {"count": failed, "problem": problem}, messages.ERROR
        )
    left = total - len(done) - failed
    if left:
        text = ngettext(
            "There was no time for %(count)d session: choose the action again.",
            "There was no time for %(count)d sessions: choose the action again.",
            left,
        )
        model_admin.message_user(request, text % {"count": left}, messages.WARNING)
    return done
