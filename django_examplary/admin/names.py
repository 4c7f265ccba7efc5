"""Names of users, and translated names of stored codes."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

#: The names of the roles that a user of this site can have at Examplary.
ROLES = {"teacher": _("teacher"), "student": _("student"), "member": _("member")}

#: The subjects of the calls to Examplary that `counters` counts.
TOPICS = {
    "users": _("Accounts"),
    "embed-sessions": _("Sessions"),
    "permissions": _("Access to exams"),
    "other": _("Others"),
}


def user_name(user: Any) -> str:
    """Return the string of the user, with the full name if it is not included."""
    text = str(user)
    full_name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    return f"{text} ({full_name})" if full_name and full_name not in text else text


def role_name(role: str) -> str:
    """Return the translated name of a role; an unknown role is returned unchanged."""
    return str(ROLES.get(role, role))
