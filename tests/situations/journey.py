"""Check the site, and let a user finish an embed. Needs the settings of a site."""

from __future__ import annotations

from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402  # after django.setup()
from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.core.checks import run_checks  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import setup_test_environment  # noqa: E402

from django_examplary.models import ExamplarySession  # noqa: E402
from django_examplary.testing import fake_examplary, open_embed  # noqa: E402


def finish_embed() -> dict[str, Any]:
    """Return the warnings, the status of the session, and the status codes of the admin."""
    setup_test_environment()
    call_command("migrate", run_syncdb=True, verbosity=0)
    found = [message.id for message in run_checks()]

    model = get_user_model()
    fields = {
        "id": "tea/1:ä b",
        "username": "tea",
        "email": "tea@school.example",
        "is_staff": True,
        "is_superuser": True,
    }
    names = {field.name for field in model._meta.fields}
    if model.__name__ != "StringKeyUser":
        del fields["id"]
    user = model._default_manager.create(**{k: v for k, v in fields.items() if k in names})

    client = Client(enforce_csrf_checks=True)
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[0])
    with fake_examplary() as fake:
        completed = open_embed(client, fake, "/embed/").complete({"examId": "exam_1"})
    session = ExamplarySession.objects.get()
    assert session.actor is not None
    assert session.actor.user == user
    assert ExamplarySession.objects.for_user(user).get() == session

    pages = {}
    if apps.is_installed("django.contrib.admin"):
        from django.contrib.admin.sites import all_sites  # noqa: PLC0415  # needs the app

        for site in all_sites:
            for kind in ("actor", "session") if "is_staff" in names else ():
                url = f"/{site.name}/django_examplary/examplary{kind}/"
                pages[url] = client.get(url).status_code
                row = session if kind == "session" else session.actor
                pages[f"{url}…/change/"] = client.get(f"{url}{row.pk}/change/").status_code
    return {"checks": found, "status": completed["status"], "admin": pages}
