"""Northfield School. Every value that differs between machines comes from the environment."""

from __future__ import annotations

from pathlib import Path

import environ

BASE_DIR = Path(__file__).resolve().parents[1]

env = environ.Env()

# These defaults are for an example on localhost only.
DEBUG = env.bool("DEBUG", default=True)
SECRET_KEY = env.str("SECRET_KEY", default="not-a-secret-because-this-is-an-example")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[])

INSTALLED_APPS = [
    "courses",
    "django_examplary",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "config.csp.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "courses.schools.school",
            ],
        },
    },
]

DATABASES = {
    "default": env.db_url(
        "DATABASE_URL", default=f"sqlite:///{BASE_DIR}/db.sqlite3?transaction_mode=IMMEDIATE"
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

# The languages of this site.
LANGUAGES = [("en", "English"), ("nl", "Nederlands")]
LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
STATIC_URL = "static/"

# The app itself reads EXAMPLARY_API_KEY and similar settings from the environment.
EXAMPLARY_THEME = {"primary_color": "#0b6b57"}
EXAMPLARY_WORKSPACE = "courses.schools.workspace_of"
# The second school only needs an API key.
SOUTHFIELD_API_KEY = env.str("SOUTHFIELD_API_KEY", default="")
EXAMPLARY_WORKSPACES = {"southfield": {"API_KEY": SOUTHFIELD_API_KEY}} if SOUTHFIELD_API_KEY else {}
EXAMPLARY_AUTHORIZE = "courses.access.may_launch"
