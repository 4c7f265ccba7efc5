"""The admin pages of this package, with the parts that a theme must not hide."""

from __future__ import annotations

import traceback
from collections.abc import Callable
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
    """Create one row of each model, with fixed primary keys."""
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


#: The page that confirms an erasure is the response to a POST.
POSTED = {
    f"{ACTORS}1/do/erase_actors/": [
        "<h1>Erase Examplary data</h1>",
        "Yes, erase the data",
        "Cancel",
        "ann",
    ]
}
#: By page: the texts that it must contain.
PAGES: dict[str, list[str]] = {
    ACTORS: [
        "Provision users",
        "Link users from a file",
        "Download 2 rows as CSV",
        "users without an account",
        "ann",
    ],
    f"{ACTORS}?state__exact=failed": ["ann"],
    f"{ACTORS}add/": ["User"],
    f"{ACTORS}1/change/": [
        "The e-mail address is used by another Examplary account.",
        ">Try again<",
        "Link an existing account",
        ">Revoke open sessions<",
        ">Erase data…<",
        "The address exists.",
    ],
    f"{ACTORS}1/history/": ["ann"],
    f"{ACTORS}1/delete/": ["The users stay at Examplary"],
    f"{ACTORS}1/link/": [
        "<h1>Link an existing Examplary account</h1>",
        "Examplary id",
        ">Link<",
        "Cancel",
    ],
    f"{ACTORS}link/": ["<h1>Link users from a file</h1>", "CSV file", ">Check the lines<"],
    f"{ACTORS}provision/": ["<h1>Provision users</h1>", "Groups", "Pupils", ">Select<"],
    f"{ACTORS}provision/?role=teacher": [">Provision ", "<progress"],
    f"{ACTORS}provision/?role=teacher&started=2026-01-01T00:00:00Z": ["<progress", ">Continue<"],
    SESSIONS: ["Examplary activity", "Download 2 rows as CSV", "bob"],
    f"{SESSIONS}activity/?days=30": [
        "<h1>Examplary activity</h1>",
        "<svg",
        "bob",
        "Address already in use",
    ],
    f"{SESSIONS}00000000-0000-4000-8000-000000000001/change/": [
        "Generate an exam (open)",
        ">Check now<",
        ">Revoke<",
        "ann",
    ],
    f"{SESSIONS}00000000-0000-4000-8000-000000000001/history/": ["Generate an exam (open)"],
    "/admin/auth/user/": ["ann", "failed"],
    "/admin/auth/user/2/change/": ["The e-mail address is used by another Examplary account."],
    "/admin/": ["Examplary actors", "Examplary sessions"],
}


def render_pages() -> dict[str, list[str]]:
    """Return the faults of each page: an exception, a status code, or missing texts."""
    make_rows()
    browser = Client()
    browser.force_login(User.objects.get(username="head"))
    faults = {url: _faults(browser.get, url, texts) for url, texts in PAGES.items()}
    return faults | {url: _faults(browser.post, url, texts) for url, texts in POSTED.items()}


def _faults(load: Callable[[str], Any], url: str, texts: list[str]) -> list[str]:
    try:
        response = load(url)
    except Exception:  # Include any exception of a theme in the message of the test.
        return [traceback.format_exc()]
    if response.status_code != 200:
        return [f"status {response.status_code}"]
    page = response.content.decode()
    return [f"{text!r} is missing" for text in texts if text not in page]
