"""The admin pages of this package, with a row for each, and what a theme must not hide."""

from __future__ import annotations

import traceback
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from django_examplary.models import ExamplaryActor
from tests.admin_rows import make_actor, make_session

State = ExamplaryActor.State

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"


def make_rows() -> None:
    """Create one of everything, with fixed primary keys."""
    call_command("migrate", verbosity=0)
    User.objects.create_superuser("head", "head@school.example", "demo", pk=1)
    Group.objects.create(name="Pupils")
    failed = make_actor(
        "ann", state=State.FAILED, examplary_id=None, last_error="The address exists."
    )
    active = make_actor("bob", role="teacher")
    make_session(failed, pk="00000000-0000-4000-8000-000000000001")
    make_session(active, status="completed", outputs={"examId": "exam_1"})
    User.objects.create_user("eve", "eve@school.example")


#: Each page and the texts that staff must find on it.
PAGES: dict[str, list[str]] = {
    ACTORS: ["Provision users", "ann", "failed"],
    f"{ACTORS}?state__exact=failed": ["ann"],
    f"{ACTORS}add/": ["User"],
    f"{ACTORS}1/change/": ["Link an existing id", "ann"],
    f"{ACTORS}1/history/": ["ann"],
    f"{ACTORS}1/delete/": ["At Examplary the users stay"],
    f"{ACTORS}1/link/": ["Examplary id", ">Link<", "Cancel"],
    f"{ACTORS}provision/": ["Groups", "Pupils", ">Select<"],
    f"{ACTORS}provision/?role=teacher": [">Provision ", "<progress"],
    f"{ACTORS}provision/?role=teacher&started=2026-01-01T00:00:00Z": ["<progress", ">Continue<"],
    SESSIONS: ["bob"],
    f"{SESSIONS}00000000-0000-4000-8000-000000000001/change/": ["ann"],
    f"{SESSIONS}00000000-0000-4000-8000-000000000001/history/": [],
    "/admin/auth/user/": ["ann", "failed"],
    "/admin/auth/user/2/change/": ["The address exists."],
    "/admin/": ["Examplary actors", "Examplary sessions"],
}


def render_pages() -> dict[str, list[str]]:
    """Return the faults of each page: an exception, a status code, texts that are missing."""
    make_rows()
    browser = Client()
    browser.force_login(User.objects.get(username="head"))
    return {url: _faults(browser, url, texts) for url, texts in PAGES.items()}


def _faults(browser: Client, url: str, texts: list[str]) -> list[str]:
    try:
        response: Any = browser.get(url)
    except Exception:  # Whatever a theme raises belongs in the test's message.
        return [traceback.format_exc()]
    if response.status_code != 200:
        return [f"status {response.status_code}"]
    page = response.content.decode()
    return [f"{text!r} is missing" for text in texts if text not in page]
