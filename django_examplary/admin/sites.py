"""The URLs of an admin site, and the users that it shows to a staff member."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.http import urlencode

from django_examplary.admin.names import user_name


def admin_url(
    site: AdminSite, model: type[Model], page: str, *args: Any, query: dict[str, Any] | None = None
) -> str:
    """Return the URL of an admin page such as `changelist`, or "" if the site lacks the model."""
    if not site.is_registered(model):
        return ""
    options = model._meta
    name = f"admin:{options.app_label}_{options.model_name}_{page}"
    # The primary key of a user may be a string that needs quoting; names of actions need none.
    quoted = [*map(quote, args[:1]), *args[1:]]
    url = reverse(name, args=quoted, current_app=site.name)
    return f"{url}?{urlencode(query)}" if query else url


def permitted_url(
    site: AdminSite,
    request: HttpRequest,
    model: type[Model],
    page: str = "changelist",
    *args: Any,
    query: dict[str, Any] | None = None,
) -> str:
    """Return the URL of a page of a model, or "" if the site lacks it or it is not permitted."""
    if not site.is_registered(model):
        return ""
    if not site.get_model_admin(model).has_view_permission(request):
        return ""
    try:
        return admin_url(site, model, page, *args, query=query)
    except NoReverseMatch:
        # The project has registered another admin class.
        return ""


def object_link(site: AdminSite, row: Model, text: str) -> str:
    """Return a link to the page of a row, or only the text if the site lacks the model."""
    url = admin_url(site, row._meta.model, "change", row.pk)
    return format_html('<a class="examplary-link" href="{}">{}</a>', url, text) if url else text


def user_link(site: AdminSite, user: Any) -> str:
    """Return a link to the page of a user, with the full name, and the current e-mail address."""
    name = user_name(user)
    link = object_link(site, user, name)
    email = str(getattr(user, user.get_email_field_name(), None) or "")
    return format_html("{}, {}", link, email) if email and email not in name else link


def visible_users(site: AdminSite, request: HttpRequest) -> QuerySet[Any]:
    """Return the users that the user admin of the site shows to this staff member."""
    model = get_user_model()
    if not site.is_registered(model):
        return model._default_manager.all()
    return site.get_model_admin(model).get_queryset(request)


def only_visible(
    rows: QuerySet[Any], path: str, site: AdminSite, request: HttpRequest
) -> QuerySet[Any]:
    """Return the rows whose user, at `path`, the staff member may see.

    If the user admin has no restriction, the queryset stays unchanged and fast.
    """
    users = visible_users(site, request)
    if not users.query.has_filters():
        return rows
    return rows.filter(**{f"{path}__in": users.order_by().values("pk")})
