"""A site without DEBUG. Servers use the database of DATABASE_URL; tests pass an alias."""

from __future__ import annotations

from django.db.models import Model

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, env

ROOT_URLCONF = "tests.chaos.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.apps.ChaosConfig"]
# Lets the tests sign in users without a request.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django_examplary": {"handlers": ["console"], "level": "WARNING"}},
}

SERVERS = {
    "postgresql": ("POSTGRESQL_URL", "postgres://postgres@127.0.0.1:5432/django_examplary_chaos"),
    "mariadb": ("MARIADB_URL", "mysql://root@127.0.0.1:3306/django_examplary_chaos"),
}
DATABASES = {
    **DATABASES,
    **{alias: env.db_url(name, default=url) for alias, (name, url) in SERVERS.items()},
}


class SilentRouter:
    """Routes this app to another alias, and does not implement `allow_relation`."""

    def db_for_read(self, model: type[Model], **hints: object) -> str | None:
        return "examplary" if model._meta.app_label == "django_examplary" else None

    db_for_write = db_for_read


if env.bool("CHAOS_ROUTER", default=False):
    DATABASES["examplary"] = DATABASES["default"]
    DATABASE_ROUTERS = ["tests.chaos.settings.SilentRouter"]
