"""The schools of this site: Northfield, and Southfield if it has an API key of its own."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest


def workspace_of(user: AbstractUser) -> str:
    """Return the alias of the Examplary workspace of the user's school."""
    is_southern = user.email.endswith("@southfield.example")
    return "southfield" if is_southern and settings.EXAMPLARY_WORKSPACES else "default"


def school(request: HttpRequest) -> dict[str, str | bool]:
    """Return for every page the user's school, and whether the site has the second one."""
    name, icon = "Northfield School", "courses/icon.svg"
    if request.user.is_authenticated and workspace_of(request.user) == "southfield":
        name, icon = "Southfield School", "courses/southfield.svg"
    return {
        "school": name,
        "school_icon": icon,
        "has_southfield": bool(settings.EXAMPLARY_WORKSPACES),
    }
