"""The three questions of a school's administrator, with 5,000 users and 8,000 sessions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import expect

from django_examplary.models import ExamplaryActor, ExamplarySession
from tests.browser.visitors import Visitor

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"
State = ExamplaryActor.State
Status = ExamplarySession.Status

#: Each with its width, as an administrator has them: a desk, the same at night, a telephone.
SCREENS = {
    "light": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1200, "height": 800}, "color_scheme": "dark"},
    "390": {"viewport": {"width": 390, "height": 800}, "color_scheme": "light"},
}


@pytest.fixture
def crowd(school):
    """A school: one pupil in ten has no account, and one in ten has an address that is in use."""
    User.objects.bulk_create(
        User(username=f"pupil{number:04}", email=f"pupil{number:04}@school.example")
        for number in range(5000)
    )
    users = list(User.objects.filter(username__startswith="pupil").order_by("username"))
    ExamplaryActor.objects.bulk_create(
        ExamplaryActor(
            user=user,
            state=State.FAILED if number % 10 == 1 else State.ACTIVE,
            last_error="The address exists." if number % 10 == 1 else "",
            examplary_id=None if number % 10 == 1 else f"user_{number}",
        )
        for number, user in enumerate(users)
        if number % 10
    )
    actors = list(ExamplaryActor.objects.filter(state=State.ACTIVE))
    now = timezone.now()
    ExamplarySession.objects.bulk_create(
        (
            ExamplarySession(
                actor=actors[number % len(actors)],
                flow=("generate-exam", "take-exam", "edit-rubric")[number % 3],
                status=(Status.COMPLETED, Status.EXPIRED)[number % 2],
                created_at=now - timedelta(minutes=5 * number),
                ended_at=now - timedelta(minutes=5 * number - 3),
            )
            for number in range(8000)
        ),
        batch_size=500,
    )


@pytest.mark.parametrize("screen", SCREENS)
def test_three_questions_take_three_clicks_at_most(visit, crowd, pictures, screen):
    admin: Visitor = visit(**SCREENS[screen])
    admin.enter_as("admin")
    page = admin.page

    def picture(name: str) -> None:
        page.screenshot(path=pictures / f"admin-{name}-{screen}.png", caret="initial")

    # Why can this pupil not open it? Search, then the pupil.
    page.goto(admin.site + ACTORS)
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
    page.goto(admin.site + SESSIONS)
    picture("sessions")
    page.get_by_role("link", name="Examplary activity").click()
    expect(page.get_by_role("img", name="Sessions per day")).to_be_visible()
    expect(page.get_by_role("cell", name="500")).to_be_visible()
    picture("activity")

    # Who has an account, and who has none?
    page.goto(admin.site + ACTORS)
    picture("actors")
    page.get_by_role("link", name="active", exact=True).first.click()
    expect(page.get_by_role("link", name="Download 4000 rows as CSV")).to_be_visible()
    page.goto(admin.site + ACTORS)
    page.get_by_role("link", name="users without an account").click()
    expect(page.get_by_role("link", name="pupil0010", exact=True)).to_be_visible()
    picture("without")


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
    "path", [ACTORS, f"{ACTORS}provision/", SESSIONS, f"{SESSIONS}activity/?days=30"]
)
def test_page_does_not_scroll_sideways_on_a_telephone(visit, crowd, path):
    admin: Visitor = visit(**SCREENS["390"])
    admin.enter_as("admin")
    admin.page.goto(admin.site + path)

    assert admin.page.evaluate("document.querySelector('.examplary').scrollWidth") <= 390
