"""Every migration of the app, applied to tables with rows, and reversed."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

import django_examplary

APP = "django_examplary"
FOLDER = Path(django_examplary.__file__).parent / "migrations"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))


@pytest.fixture
def database(transactional_db):
    """Start without the tables of the app, and restore them afterwards."""
    migrate(None)
    yield
    call_command("migrate", APP, verbosity=0)


def migrate(name: str | None) -> Any:
    """Migrate forwards or backwards, and return the historical models."""
    return MigrationExecutor(connection).migrate([(APP, name)]).apps


def add_rows(apps: Any, number: int) -> dict[str, Any]:
    """Add a minimal row to each table, and return the keys."""
    user = apps.get_model("auth", "User").objects.create(username=f"user-{number}")
    rows = {type(user): user}

    def add(model: Any) -> Any:
        if model not in rows:
            relations = [field for field in model._meta.fields if field.is_relation]
            related = {field.name: add(field.related_model) for field in relations}
            rows[model] = model.objects.create(**related)
        return rows[model]

    for model in apps.get_app_config(APP).get_models():
        add(model)
    return {row._meta.model_name: row.pk for row in rows.values()}


def present(apps: Any) -> dict[str, set[Any]]:
    """Return the keys of the rows of each existing table."""
    models = apps.get_app_config(APP).get_models() if APP in apps.app_configs else ()
    return {
        model._meta.model_name: set(model.objects.values_list("pk", flat=True)) for model in models
    }


def test_forwards_and_back_with_rows(database):
    expected = defaultdict(set)
    for name in NAMES:
        apps = migrate(name)
        for _ in range(2):
            for model, key in add_rows(apps, len(expected["user"])).items():
                expected[model].add(key)
        assert present(apps) == {model: expected[model] for model in present(apps)}
    for name in (*NAMES[-2::-1], None):
        apps = migrate(name)
        assert present(apps) == {model: expected[model] for model in present(apps)}

    assert present(apps) == {}
