"""Render the pages that search for users of an unusual user model, and print the results.

Run by a test in its own process, because the user model is a global setting.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import django
from django.conf import settings

from tests import settings as base

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"
USERS = "/admin/odd_user/member/"


def main() -> None:
    names = [name for name in dir(base) if name.isupper()]
    values: dict[str, Any] = {name: getattr(base, name) for name in names if name != "SQLITE"}
    values["DATABASES"] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    values["INSTALLED_APPS"] = [*base.INSTALLED_APPS, "tests.odd_user"]
    settings.configure(**{**values, "AUTH_USER_MODEL": "odd_user.Member"})
    django.setup()

    # Models need the settings.
    from django.apps import apps  # noqa: PLC0415
    from django.contrib import admin  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.test.utils import setup_test_environment  # noqa: PLC0415

    from django_examplary.models import ExamplaryActor, ExamplarySession  # noqa: PLC0415
    from tests.html import find_all  # noqa: PLC0415

    # Type checkers use the user model of the other tests.
    app: Any = apps.get_app_config("odd_user")
    member, person = app.get_model("Member"), app.get_model("Person")
    admin.site.register(member)
    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    users = [
        member.objects.create(
            # In the admin's addresses "_3F" is a question mark, and a slash begins another part.
            pk=f"user_3F/{name}",
            person=person.objects.create(name=f"person {name}"),
            email=f"{name}@school.example",
            first_name=name,
            is_superuser=True,
        )
        for name in ("ada", "bob")
    ]
    for user in users:
        actor = ExamplaryActor.objects.create(user=user)
        ExamplarySession.objects.create(actor=actor, flow="take-exam", next_url=user.first_name)
    browser = Client()
    browser.force_login(users[0])

    def search(url: str, text: str) -> list[str]:
        rows = browser.get(url, {"q": text}).context["cl"].queryset
        return [getattr(row, "next_url", str(row)) for row in rows]

    def provision(text: str) -> list[str]:
        query = {"search": text, "role": "teacher"}
        run = browser.get(f"{ACTORS}provision/", query).context["run"]
        return [str(user) for user in run.remaining]

    def link(name: str) -> str:
        response = browser.post(f"{ACTORS}link/", {"text": f"{name},user_1"})
        [(_line, result)] = response.context["results"]
        return str(result)

    def follow(url: str) -> list[int]:
        """Return the status codes of the links to users."""
        links = [each["href"] for each in find_all(browser.get(url).text, "a")]
        ours = [each for each in links if each.startswith(f"{USERS}?") or "/user" in each]
        return [browser.get(each).status_code for each in ours]

    session = ExamplarySession.objects.get(actor__user=users[0])
    texts = ("ada", "ada@school.example", "nothing")
    found = {
        "actors": [search(ACTORS, text) for text in texts],
        "sessions": [search(SESSIONS, text) for text in texts],
        "provision": [provision(text) for text in texts],
        "link": [link(name) for name in (*texts, str(users[0].person.pk))],
        "links": [
            follow(url)
            for url in (
                ACTORS,
                f"{ACTORS}{session.actor_id}/change/",
                f"{SESSIONS}{session.pk}/change/",
            )
        ],
        "rows": b"".join(browser.get(f"{ACTORS}csv/", {"q": "ada"})).decode().count("\n"),
    }
    json.dump(found, sys.stdout)


main()
