"""A site without DEBUG. The servers use the database of DATABASE_URL, the tests name theirs."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS, env

ROOT_URLCONF = "tests.chaos.urls"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.chaos.apps.ChaosConfig"]
# So that the tests sign users in without a request.
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
