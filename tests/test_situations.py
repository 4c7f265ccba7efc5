"""Sites with unusual settings, in each of which a user finishes an embed."""

from __future__ import annotations

import ast
import multiprocessing
import os
from collections.abc import Iterator
from functools import cache
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.processes import COVERAGE, PATIENCE
from tests.settings import INSTALLED_APPS, MIDDLEWARE
from tests.situations import visit
from tests.situations.matrix import PROOFS


def without(*names: str, items: list[str] = INSTALLED_APPS) -> list[str]:
    return [item for item in items if not any(name in item for name in names)]


def user_model(name: str, **more: Any) -> dict[str, Any]:
    return {
        "AUTH_USER_MODEL": f"situations.{name}",
        "INSTALLED_APPS": [*INSTALLED_APPS, "tests.situations"],
        **more,
    }


def session_engine(path: str, **more: Any) -> dict[str, Any]:
    return {
        "SESSION_ENGINE": path,
        "INSTALLED_APPS": without("contrib.sessions"),
        **more,
    }


BACKENDS = "django.contrib.sessions.backends"

#: By name: settings and expected warnings.
SITUATIONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    # Apps
    "as in the quick start": ({}, []),
    "app is first": ({"INSTALLED_APPS": ["django_examplary", *without("examplary")]}, []),
    "apps in reverse order": ({"INSTALLED_APPS": INSTALLED_APPS[::-1]}, []),
    "no admin": (
        {
            "INSTALLED_APPS": without("admin", "messages"),
            "MIDDLEWARE": without("messages", items=MIDDLEWARE),
            "ROOT_URLCONF": "tests.situations.urls_without_admin",
            "TEMPLATES": [
                {
                    "BACKEND": "django.template.backends.django.DjangoTemplates",
                    "APP_DIRS": True,
                    "OPTIONS": {
                        "context_processors": ["django.template.context_processors.request"]
                    },
                }
            ],
        },
        [],
    ),
    "two admin sites": ({"ROOT_URLCONF": "tests.situations.urls_admins"}, []),
    "no staticfiles": ({"INSTALLED_APPS": without("staticfiles")}, ["django_examplary.W009"]),
    # Sessions
    "sessions in cookies": (session_engine(f"{BACKENDS}.signed_cookies"), []),
    "sessions in the cache": (session_engine(f"{BACKENDS}.cache"), []),
    "sessions in files": (session_engine(f"{BACKENDS}.file"), []),
    "sessions of a third party": (session_engine("tests.situations.sessions"), []),
    # Middleware
    "subclasses of middleware": (
        {
            "MIDDLEWARE": [
                {
                    "SessionMiddleware": "tests.situations.middleware.Sessions",
                    "AuthenticationMiddleware": "tests.situations.middleware.Authentication",
                    "CsrfViewMiddleware": "tests.situations.middleware.Csrf",
                }.get(path.rpartition(".")[2], path)
                for path in MIDDLEWARE
            ]
        },
        [],
    ),
    # URLs
    "URLs below namespaces": (
        {
            "ROOT_URLCONF": "tests.situations.urls_nested",
            "INSTALLED_APPS": without("admin"),
        },
        [],
    ),
    "URLs selected by middleware": (
        {
            "ROOT_URLCONF": "tests.situations.urls_root",
            "INSTALLED_APPS": without("admin"),
            "MIDDLEWARE": ["tests.situations.middleware.select_urlconf", *MIDDLEWARE],
        },
        ["django_examplary.W019"],
    ),
    # Switches
    "neither translations nor time zones nor added slashes": (
        {"USE_I18N": False, "USE_TZ": False, "APPEND_SLASH": False},
        [],
    ),
    "CSRF tokens in sessions, and cookies for this site alone": (
        {
            "CSRF_USE_SESSIONS": True,
            "CSRF_COOKIE_HTTPONLY": True,
            "SESSION_COOKIE_SAMESITE": "Strict",
        },
        [],
    ),
    # Users
    "users with a UUID and groups": (user_model("UUIDUser"), []),
    "users with only an e-mail address": (user_model("EmailUser"), []),
    "users without an e-mail field": (
        user_model("NoEmailUser", EXAMPLARY_ACTOR_PROFILE="tests.situations.models.describe"),
        [],
    ),
    "users with a string as key": (user_model("StringKeyUser"), []),
    "users without the methods and fields of Django's": (
        user_model(
            "PlainUser",
            INSTALLED_APPS=[*without("admin"), "tests.situations"],
            ROOT_URLCONF="tests.situations.urls_without_admin",
        ),
        [],
    ),
    "users who are proxies": (
        {
            "INSTALLED_APPS": [*INSTALLED_APPS, "tests.situations"],
            "AUTHENTICATION_BACKENDS": ["tests.situations.backends.ProxyBackend"],
        },
        [],
    ),
}


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    """A pool that forks a process for each call, after the import of Django."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["django.contrib.admin", "django.test", "requests"])
    with mock.patch.dict(os.environ, COVERAGE), context.Pool(1, maxtasksperchild=1) as pool:
        yield pool
        # The context would kill the last process, perhaps before it stores its coverage.
        pool.close()
        pool.join()


@pytest.mark.parametrize("name", SITUATIONS)
def test_user_finishes_embed(name, tmp_path, processes):
    settings, checks = SITUATIONS[name]
    situation = {"SESSION_FILE_PATH": str(tmp_path), **settings}

    result = processes.apply_async(visit, [situation]).get(PATIENCE)

    assert (result["checks"], result["status"]) == (checks, "completed")
    assert set(result["admin"].values()) <= {200}, result["admin"]


@cache
def functions(file: str) -> set[str]:
    module = ast.parse((Path(__file__).parent / file).read_text(encoding="utf-8"))
    return {node.name for node in module.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("situation", PROOFS)
def test_situation_has_its_test(situation):
    file, _, name = PROOFS[situation].partition("::")

    assert name in functions(file)
