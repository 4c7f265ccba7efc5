"""Search by user and by id, and filters whose choices have translated names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldError, ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.names import role_name
from django_examplary.flows import flow_name
from django_examplary.models import ExamplaryActor


def user_search_fields(path: str = "") -> list[str]:
    """Return the fields of the user model that support `icontains`.

    `path` leads to the user. Foreign keys, encrypted fields and fields that the model lacks are
    left out.
    """
    model = get_user_model()
    names = [model.USERNAME_FIELD, "first_name", "last_name", model.get_email_field_name()]
    return [f"{path}{name}" for name in dict.fromkeys(names) if is_searchable(model, name)]


def search_rows(rows: QuerySet[Any], fields: Sequence[str], text: str) -> QuerySet[Any]:
    """Return the rows with every word of the text in any of the fields, like Django's search."""
    if not fields:
        return rows.none()
    searching: Any = admin.ModelAdmin(rows.model, admin.site)
    searching.search_fields = fields
    found: QuerySet[Any] = searching.get_search_results(HttpRequest(), rows, text)[0]
    return found


def with_id(model: type[Model], path: str, text: str) -> Q:
    """Return a condition for the primary key at `path`, or one that matches nothing."""
    try:
        # This also checks the range, unlike a lookup through a foreign key. A copied key may have
        # spaces around it.
        key = model._meta.pk.clean(text.strip(), None)
    except ValidationError:
        return Q(pk__in=[])
    return Q(**{path: key})


def is_searchable(model: type[Model], name: str) -> bool:
    """Return whether a field supports `icontains`. Foreign keys and encrypted fields do not."""
    try:
        model._default_manager.filter(**{f"{name}__icontains": ""})
    except FieldError:
        return False
    return True


class NamedValuesFilter(admin.SimpleListFilter):
    """Filter by the values of a column, with translated names."""

    # Not named `field`, which themes expect to be a model field.
    column: str
    name: Callable[[str], str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = model_admin.get_queryset(request).order_by().exclude(**{self.column: ""})
        values = rows.values_list(self.column, flat=True).distinct()
        return sorted(((value, self.name(value)) for value in values), key=lambda each: each[1])

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class FlowFilter(NamedValuesFilter):
    title = _("flow")
    parameter_name = "flow__exact"
    column = "flow"
    name = staticmethod(flow_name)


class RoleFilter(NamedValuesFilter):
    title = _("role")
    parameter_name = "role__exact"
    column = "role"
    name = staticmethod(role_name)


class AccountFilter(admin.SimpleListFilter):
    """Filter users by the state of their actors."""

    title = _("Examplary account")
    parameter_name = "examplary"
    NONE = "none"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(self.NONE, _("no account")), *ExamplaryActor.State.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        state = self.value()
        if state == self.NONE:
            return queryset.filter(examplary_actor=None)
        is_known = state in ExamplaryActor.State.values
        return queryset.filter(examplary_actor__state=state) if is_known else queryset
