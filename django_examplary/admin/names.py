"""Translated names of the roles and flows that rows store as codes."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from django_examplary.embeds import TITLES

#: The names of the roles that a user of this site can have at Examplary.
ROLES = {"teacher": _("teacher"), "student": _("student"), "member": _("member")}


def role_name(role: str) -> str:
    """Return the translated name of a role. An unknown role is its own name."""
    return str(ROLES.get(role, role))


def flow_name(slug: str) -> str:
    """Return the translated name of a flow. An unknown flow is its own name."""
    return str(TITLES.get(slug, slug))
