"""The appearance of the embed in every state and display."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from django_examplary.models import ExamplarySession
from django_examplary.testing import FakeExamplary
from tests.browser.conftest import ENGINE
from tests.browser.visitors import Visitor

LANGUAGES = ["en", "nl"]
DISPLAYS = ["inline", "modal"]


# Returns the focused control, if it is visible and not covered.
FOCUSED = """
(controls) => {
  let focused = document.activeElement;
  while (focused.shadowRoot?.activeElement) focused = focused.shadowRoot.activeElement;
  const { left, right, top, bottom } = focused.getBoundingClientRect();
  const isWhole = left >= 0 && top >= 0 && right <= innerWidth && bottom <= innerHeight;
  const seen = focused.getRootNode().elementFromPoint((left + right) / 2, (top + bottom) / 2);
  return isWhole && focused.contains(seen) ? controls.indexOf(focused) : -1;
}
"""

# Returns the elements whose content overflows and cannot be scrolled.
CLIPPED = """
(embed) => [...embed.shadowRoot.querySelectorAll(":not(.examplary-embed__unseen, slot)"), embed]
  .filter((part) => part.checkVisibility() && getComputedStyle(part).overflowY === "hidden")
  .filter((part) => part.scrollHeight > part.clientHeight || part.scrollWidth > part.clientWidth)
  .map((part) => part.className)
"""


class Stage:
    """A page with one embed, and methods that bring it into every state."""

    def __init__(self, visitor: Visitor, fake: FakeExamplary, display: str) -> None:
        self.visitor = visitor
        self.page = visitor.page
        self.fake = fake
        self.display = display
        self.embed = self.page.locator("examplary-embed")

    def begin(self, **options: Any) -> None:
        """Reset all faults."""
        self.page.unroute_all()
        self.page.context.set_offline(False)
        self.visitor.enter_as("teacher")
        self.fake.heal()
        ExamplarySession.objects.all().delete()
        self.visitor.open_embeds({"display": self.display, **options})

    def launch(self, **options: Any) -> None:
        self.begin(**options)
        if self.display == "modal":
            self.embed.get_by_role("button").first.click()

    def work(self, **options: Any) -> None:
        self.launch(**options)
        expect(self.visitor.embed.locator("form")).to_be_visible()
        # Before this state there is no session to end and no work to lose.
        expect(self.embed).to_have_attribute("data-state", "loaded")

    def idle(self) -> None:
        self.begin(load="click")

    def loading(self) -> None:
        self.begin(load="click")
        self.page.route("**/launch/**", lambda route: None)
        self.embed.get_by_role("button").first.click()

    def loaded(self) -> None:
        self.work()

    def ready(self) -> None:
        self.work()
        self.page.frames[-1].evaluate("parent.postMessage({type: 'hello'}, '*')")

    def helpful(self) -> None:
        self.work(grace=0.1)
        expect(self.embed.locator("[data-examplary-help]")).to_be_visible()

    def verifying(self) -> None:
        self.work()
        self.page.route("**/sync/**", lambda route: None)
        self.visitor.press("complete")

    def completed(self) -> None:
        self.work()
        self.visitor.press("complete")

    def cancelled(self) -> None:
        self.work()
        self.visitor.press("cancel")

    def edit(self, **options: Any) -> None:
        exam = self.fake.add_exam()["id"]
        self.work(flow="edit-exam", presets={"exam_id": exam}, grant_access=True, **options)

    def closed(self) -> None:
        self.edit()
        self.embed.locator("[data-examplary-do=close]").click()
        if self.display == "modal":
            # The dialog closes with the work.
            expect(self.embed.locator("dialog")).to_be_hidden()
            self.embed.locator("dialog").evaluate("dialog => dialog.showModal()")

    def ended(self) -> None:
        self.work()
        *_, session = self.fake.sessions.values()
        self.fake.expire(session.id)
        self.embed.evaluate("embed => { embed.close() }")

    def failed(self) -> None:
        self.begin(load="click")
        self.fake.fail("POST", "/embed-sessions", status=500)
        self.embed.get_by_role("button").first.click()

    def unverified(self) -> None:
        self.work()
        self.fake.fail("GET", "/embed-sessions/{id}", status=500, times=None)
        self.visitor.press("complete")

    def stale(self) -> None:
        self.begin(load="click")
        self.page.context.clear_cookies(name="sessionid")
        self.embed.get_by_role("button").first.click()

    def offline(self) -> None:
        self.begin(load="click")
        self.page.context.set_offline(True)
        self.embed.get_by_role("button").first.click()

    def leaving(self) -> None:
        self.work()
        self.embed.locator("[data-examplary-do=dismiss]").click()
        expect(self.embed.locator("[data-examplary-state=leaving]")).to_be_visible()


STATES = {
    "idle": Stage.idle,
    "loading": Stage.loading,
    "loaded": Stage.loaded,
    "ready": Stage.ready,
    "helpful": Stage.helpful,
    "verifying": Stage.verifying,
    "completed": Stage.completed,
    "cancelled": Stage.cancelled,
    "closed": Stage.closed,
    "ended": Stage.ended,
    "failed": Stage.failed,
    "unverified": Stage.unverified,
    "stale": Stage.stale,
    "offline": Stage.offline,
    "leaving": Stage.leaving,
}


# States that are not values of `data-state`.
VARIANTS = {"helpful": "loaded", "leaving": "loaded"}


@pytest.fixture
def open_stage(visit, examplary, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    stages = []

    def open_stage(display, language="en"):
        stages.append(Stage(visit(locale=language), examplary, display))
        return stages[-1]

    yield open_stage
    for stage in stages:
        # Only the failures on purpose are reported, and no violation of the policy.
        errors = stage.visitor.errors
        # Firefox words each of them differently.
        known = "Failed to load resource" if ENGINE == "chromium" else ""
        assert all(known in error for error in errors)
        assert not any(" forbids " in error for error in errors)
        stage.visitor.expects_errors = True


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("display", DISPLAYS)
def test_gallery(open_stage, pictures, display, language):
    """Take a screenshot of each state; SCREENSHOTS names the folder."""
    stage = open_stage(display, language)
    problems = {}
    for name, reach in STATES.items():
        if name == "leaving" and display == "inline":
            continue
        reach(stage)
        expect(stage.embed).to_have_attribute("data-state", VARIANTS.get(name, name))
        problems[name] = stage.visitor.audit(pictures / f"{display}-{language}-{name}")

    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize("display", DISPLAYS)
def test_everything_is_reachable_at_400_percent_zoom(open_stage, pictures, display):
    """The viewport of a 1280 by 1024 window at this zoom."""
    stage = open_stage(display)
    page, embed = stage.page, stage.embed
    page.set_viewport_size({"width": 320, "height": 256})
    crowded = {
        "edit": lambda stage: stage.edit(grace=0.1, title="Edit the exam on fractions and ratios"),
        "failed": Stage.failed,
        **({"leaving": Stage.leaving} if display == "modal" else {}),
    }
    for name, reach in crowded.items():
        reach(stage)
        if name == "edit":
            expect(embed.locator("[data-examplary-help]")).to_be_visible()
        else:
            expect(embed).to_have_attribute("data-state", VARIANTS.get(name, name))
        assert embed.evaluate(CLIPPED) == [], name
        scope = embed.locator("dialog") if display == "modal" else embed
        controls = scope.locator("a:visible, button:visible")
        page.get_by_role("button", name="Before").focus()
        missing = set(range(controls.count()))
        for _ in range(40):
            stage.visitor.press_tab()
            missing.discard(controls.evaluate_all(FOCUSED))
            if not missing:
                break
        page.screenshot(path=pictures / f"{display}-{name}-400.png", caret="initial")
        assert missing == set(), name
        if display == "modal":
            scope.evaluate("dialog => dialog.scrollTo(0, dialog.scrollHeight)")
            expect(scope.locator("[data-examplary-do=dismiss]")).to_be_in_viewport(ratio=1)


def style(locator, name):
    return locator.evaluate("(part, name) => getComputedStyle(part)[name]", name)


def test_colours_of_the_page_are_used(open_stage):
    stage = open_stage("inline")
    stage.idle()
    stage.page.emulate_media(color_scheme="dark")
    assert style(stage.embed, "backgroundColor") == "rgb(20, 24, 31)"

    # A page without a colour scheme is light, and so are its embeds.
    stage.page.locator("meta[name=color-scheme]").evaluate("meta => meta.remove()")
    assert style(stage.embed, "backgroundColor") == "rgb(255, 255, 255)"


def test_forced_colours(open_stage, pictures):
    stage = open_stage("inline")
    stage.page.emulate_media(forced_colors="active")
    stage.failed()
    buttons = stage.embed.locator(".examplary-embed__button:visible")
    expect(buttons).to_have_count(2)
    for button in buttons.all():
        assert style(button, "borderTopWidth") == "1px"
        assert style(button, "borderTopColor") != style(button, "backgroundColor")
    stage.page.screenshot(path=pictures / "failed-forced.png", caret="initial")

    stage.loading()
    spinner = stage.embed.locator(".examplary-embed__spinner:visible")
    assert style(spinner, "borderTopColor") != style(spinner, "borderRightColor")
    stage.page.screenshot(path=pictures / "loading-forced.png", caret="initial")


def test_reduced_motion_is_respected(open_stage):
    stage = open_stage("inline")
    stage.loading()
    spinner = stage.embed.locator(".examplary-embed__spinner:visible")
    assert style(spinner, "animationName") == "examplary-spin"

    stage.page.emulate_media(reduced_motion="reduce")
    assert style(spinner, "animationName") == "none"


def remove_refresh(route):
    response = route.fetch()
    text, times = re.subn(r'<meta http-equiv="refresh"[^>]*>', "", response.text())
    assert times == 1
    route.fulfill(response=response, body=text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_in_the_whole_window(open_stage, pictures, settings, language):
    stage = open_stage("inline", language)
    page, fake, visitor = stage.page, stage.fake, stage.visitor
    stage.idle()
    opener = stage.embed.locator("[data-examplary-opener]").first
    launch_url = visitor.site + opener.get_attribute("href")
    problems = {}

    def look(name, text):
        expect(page.get_by_role("heading", name=text[language])).to_be_visible()
        problems[name] = visitor.audit(pictures / f"window-{language}-{name}")

    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    page.goto(launch_url)
    # With DEBUG it names the setting, which is one long word.
    look("preparing", {"en": "This is still being prepared", "nl": "Dit wordt nog klaargezet"})
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4
    fake.fail("POST", "/embed-sessions", status=429)
    page.goto(launch_url)
    look(
        "problem",
        {
            "en": "Too many people are doing this right now",
            "nl": "Te veel mensen doen dit op dit moment",
        },
    )
    # The API asked for a pause, so an immediate retry gets the same response.
    page.wait_for_timeout(1000)
    page.get_by_role("link").first.click()
    page.wait_for_url(f"{fake.base_url}/embeds/*")
    [session] = fake.sessions.values()

    page.context.clear_cookies(name="sessionid")
    # The page redirects at once, unless its refresh header is removed.
    page.route(session.return_url, remove_refresh)
    page.goto(session.return_url)
    page.unroute(session.return_url)
    look("again", {"en": "One moment…", "nl": "Een ogenblik…"})

    visitor.enter_as("teacher")
    page.goto(session.return_url)
    look("unfinished", {"en": "Not finished yet", "nl": "Nog niet klaar"})
    # A request within a second gets the earlier response.
    page.wait_for_timeout(1000)
    page.goto(session.embed_url)
    page.locator("[data-examplary-action=complete]").click()
    look("finished", {"en": "Finished", "nl": "Voltooid"})

    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholder_for_visitors_who_are_not_signed_in(visit, pictures, language):
    visitor = visit(locale=language)
    visitor.page.goto(f"{visitor.site}/embeds/public/?embed={{}}")
    link = visitor.page.get_by_role("link", name={"en": "Sign in", "nl": "Inloggen"}[language])
    expect(link).to_be_visible()
    expect(visitor.page.locator(".examplary-embed--signed-out")).to_be_visible()
    assert visitor.audit(pictures / f"signed-out-{language}") == []
