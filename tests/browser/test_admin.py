"""The three questions of a school's administrator, with 5,000 users and 8,000 sessions."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

import pytest
from playwright.sync_api import Page, expect

from django_examplary.models import ExamplaryActor
from tests.browser.crowd import make_crowd
from tests.browser.visitors import Visitor
from tests.processes import serve

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"

#: Width and color scheme of each device: desktop, desktop in dark mode, phone.
SCREENS = {
    "light": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "320": {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"},
}


@pytest.fixture
def crowd(school):
    make_crowd()


@pytest.fixture(scope="module")
def unfold() -> Iterator[str]:
    """The URL of the admin under django-unfold, with the same rows."""
    if find_spec("unfold") is None:
        pytest.skip("django-unfold is not installed.")
    command = [sys.executable, "-m", "tests.themes.serve", "unfold"]
    with serve(*command, environment=os.environ) as address:
        yield address


def ask_three_questions(page: Page, site: str, picture: Callable[[str], object]) -> None:
    """Answer each question of an administrator with three clicks at most."""
    # Why can this pupil not open it? Search, then the pupil.
    page.goto(site + ACTORS)
    page.locator("#searchbar").fill("pupil0011")
    page.get_by_role("button", name="Search").click()
    pupil = page.get_by_role("link", name="pupil0011", exact=True)
    expect(pupil).to_be_visible()
    picture("search")
    pupil.click()
    expect(page.get_by_text("The e-mail address is used by another")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_visible()
    expect(page.get_by_text("The address exists.")).to_be_hidden()
    picture("why")

    # What happened this week?
    page.goto(site + SESSIONS)
    picture("sessions")
    page.get_by_role("link", name="Examplary activity").click()
    expect(page.get_by_role("img", name="Sessions per day")).to_be_visible()
    expect(page.get_by_role("cell", name="500")).to_be_visible()
    picture("activity")

    # The filter lists users with and without an account.
    page.goto(site + ACTORS)
    picture("actors")
    page.get_by_role("link", name="active", exact=True).first.click()
    expect(page.get_by_role("link", name="Download 4000 rows as CSV")).to_be_visible()
    page.goto(site + ACTORS)
    page.get_by_role("link", name="users without an account").click()
    expect(page.get_by_role("link", name="pupil0010", exact=True)).to_be_visible()
    picture("without")


@pytest.mark.parametrize("screen", SCREENS)
def test_three_questions_take_three_clicks_at_most(visit, crowd, pictures, screen):
    admin: Visitor = visit(**SCREENS[screen])
    admin.enter_as("admin")

    ask_three_questions(
        admin.page,
        admin.site,
        lambda name: admin.page.screenshot(
            path=pictures / f"admin-{name}-{screen}.png", caret="initial"
        ),
    )


@pytest.mark.parametrize("screen", SCREENS)
def test_three_questions_take_three_clicks_at_most_under_unfold(browser, unfold, pictures, screen):
    context = browser.new_context(**SCREENS[screen])
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{unfold}/admin/")
    page.locator("[name=username]").fill("admin")
    page.locator("[name=password]").fill("demo")
    with page.expect_navigation():
        page.locator("[name=password]").press("Enter")

    ask_three_questions(
        page,
        unfold,
        lambda name: page.screenshot(
            path=pictures / f"unfold-{name}-{screen}.png", caret="initial"
        ),
    )
    context.close()


def test_erasure_is_confirmed_in_the_browser(visit, crowd):
    admin: Visitor = visit()
    admin.enter_as("admin")
    actor = ExamplaryActor.objects.filter(sessions__isnull=False).first()
    assert actor is not None
    admin.page.goto(f"{admin.site}{ACTORS}{actor.pk}/change/")

    admin.page.get_by_role("button", name="Erase data").click()
    expect(admin.page.get_by_text(str(actor)).last).to_be_visible()
    admin.page.get_by_role("button", name="Yes, erase the data").click()

    expect(admin.page.get_by_text("The Examplary data of 1 user are erased.")).to_be_visible()
    assert not ExamplaryActor.objects.filter(pk=actor.pk).exists()


@pytest.mark.parametrize(
    "path",
    [
        ACTORS,
        f"{ACTORS}provision/",
        f"{ACTORS}link/",
        SESSIONS,
        f"{SESSIONS}activity/?days=30",
    ],
)
def test_page_does_not_scroll_sideways_on_a_telephone(visit, crowd, pictures, path):
    admin: Visitor = visit(**SCREENS["320"])
    admin.enter_as("admin")
    admin.page.goto(admin.site + path)
    name = path.split("?")[0].strip("/").replace("/", "-")
    admin.page.screenshot(path=pictures / f"{name}-320.png", full_page=True, caret="initial")

    assert admin.page.evaluate("document.querySelector('.examplary').scrollWidth") <= 320
