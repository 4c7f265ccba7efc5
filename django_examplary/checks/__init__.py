"""System checks. `apps.py` registers them.

`docs/reference/checks.md` lists every id. Only `check_migrations` queries a database.
"""

from __future__ import annotations

from django_examplary.checks.database import check_migrations
from django_examplary.checks.policies import check_policies
from django_examplary.checks.project import check_project
from django_examplary.checks.settings import check_deployment, check_settings
from django_examplary.checks.urls import check_urls

__all__ = [
    "check_deployment",
    "check_migrations",
    "check_policies",
    "check_project",
    "check_settings",
    "check_urls",
]
