"""The schools of this site: Northfield, and Southfield if it has an API key of its own."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.http import HttpRequest


def workspace_of(user: AbstractUser) -> str:
    """Return the alias of the Examplary workspace of the user's school."""
    is_southern = user.email.endswith("@southfield.example")
    return "southfield" if is_southern and settings.EXAMPLARY_WORKSPACES else "default"


def school(request: HttpRequest) -> dict[str, str]:
    """Return the name and the icon of the user's school for every page."""
    if request.user.is_authenticated and workspace_of(request.user) == "southfield":
        return {"school": "Southfield School", "school_icon": "courses/southfield.svg"}
    return {"school": "Northfield School", "school_icon": "courses/icon.svg"}
