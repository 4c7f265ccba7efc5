"""The check that queries databases. Django runs it only for `check --database` and `migrate`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import connections, router
from django.db.migrations.executor import MigrationExecutor

from django_examplary.models import ExamplaryActor


def check_migrations(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> list[checks.CheckMessage]:
    """Check that the migrations of this app are applied."""
    if sys.argv[1:2] == ["migrate"]:
        return []  # `migrate` runs the checks first, and applies the migrations.
    messages: list[checks.CheckMessage] = []
    for alias in databases or ():
        if not router.allow_migrate_model(alias, ExamplaryActor):
            continue
        executor = MigrationExecutor(connections[alias])
        targets = executor.loader.graph.leaf_nodes(ExamplaryActor._meta.app_label)
        if executor.migration_plan(targets):
            messages.append(
                checks.Warning(
                    f"The database {alias!r} lacks migrations of django_examplary.",
                    hint=f"Run: python manage.py migrate --database {alias}",
                    id="django_examplary.W025",
                )
            )
    return messages
