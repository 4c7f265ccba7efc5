"""Render every admin page of this package under one theme, and print the results as JSON.

Run by the tests in its own process, because a theme is a global setting.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings

from tests import settings as base

#: The apps that each theme needs before `django.contrib.admin`, and after it.
THEMES: dict[str, tuple[list[str], list[str]]] = {
    "admin_interface": (["admin_interface", "colorfield"], []),
    "baton": (["baton"], ["baton.autodiscover"]),
    "daisy": (["django_daisy"], []),
    "grappelli": (["grappelli"], []),
    "import_export": (["import_export"], []),
    "jazzmin": (["jazzmin"], []),
    "unfold": (["unfold"], []),
}


def configure(theme: str, **options: Any) -> None:
    """Set up Django with a theme and a database in memory."""
    before, after = THEMES[theme]
    names = [name for name in dir(base) if name.isupper()]
    values = {name: getattr(base, name) for name in names if name != "SQLITE"}
    values["INSTALLED_APPS"] = [
        *before,
        *base.INSTALLED_APPS,
        "django.contrib.humanize",
        "tests.themes",
        *after,
    ]
    values["DATABASES"] = {
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    }
    values["ROOT_URLCONF"] = "tests.themes.urls"
    values["X_FRAME_OPTIONS"] = "SAMEORIGIN"
    settings.configure(**{**values, **options})
    django.setup()


def main(theme: str) -> None:
    configure(theme)
    # Models need the settings.
    from tests.themes.pages import render_pages  # noqa: PLC0415

    json.dump(render_pages(), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
