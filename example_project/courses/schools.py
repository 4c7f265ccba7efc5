"""The schools of this site: Northfield, and Southfield if its API key is set."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest


def workspace_of(user: AbstractUser) -> str:
    """Return the alias of the Examplary workspace of the user's school."""
    is_southern = user.email.endswith("@southfield.example")
    return "southfield" if is_southern and settings.EXAMPLARY_WORKSPACES else "default"


def school(request: HttpRequest) -> dict[str, str | bool]:
    """Return the context of every page: the school of the user, and whether there are two."""
    name, icon = "Northfield School", "courses/icon.svg"
    if request.user.is_authenticated and workspace_of(request.user) == "southfield":
        name, icon = "Southfield School", "courses/southfield.svg"
    return {
        "school": name,
        "school_icon": icon,
        "has_southfield": bool(settings.EXAMPLARY_WORKSPACES),
    }
