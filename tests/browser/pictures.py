"""Take the screenshots of the documentation: `python -m tests.browser.pictures`.

Needs Chromium and the packages of the tox environment `browser`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, sync_playwright

from django_examplary.testing import FakeExamplary, serve
from tests import example
from tests.projects import follow_tutorial

HOME = re.compile(r"^http://[^/]+/$")
IMAGES = Path(__file__).parents[2] / "docs/images"
PICTURES = IMAGES / "tutorial"


def sign_in(page: Page, name: str) -> None:
    page.context.clear_cookies()
    page.goto("/accounts/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill("demo")


def enter(page: Page, name: str) -> None:
    sign_in(page, name)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(HOME)


def show(page: Page, path: str, stage: str) -> None:
    page.goto(path)
    if stage == "take":
        page.get_by_role("button", name="Take an exam").click()
    frame = page.frame_locator("examplary-embed iframe")
    frame.get_by_role("heading").first.wait_for()
    # Wait for fonts and for the height of the frame.
    page.wait_for_timeout(500)
    page.screenshot(path=PICTURES / f"{stage}.png")


def press(page: Page, target: str) -> None:
    page.frame_locator("examplary-embed iframe").get_by_role("button", name=target).click()
    page.wait_for_url(HOME)


def picture_sign_in(page: Page) -> None:
    sign_in(page, "tea")
    page.screenshot(path=PICTURES / "sign-in.png")


def picture_generate(page: Page) -> None:
    enter(page, "tea")
    show(page, "/exams/new/", "generate")
    frame = page.frame_locator("examplary-embed iframe")
    frame.get_by_label("Name").fill("Powers and roots")
    press(page, "Create exam")


def picture_edit(page: Page) -> None:
    enter(page, "tea")
    show(page, "/exams/1/edit/", "edit")


def picture_take(page: Page) -> None:
    enter(page, "tea")
    page.get_by_role("button", name="Publish").click()
    enter(page, "sam")
    show(page, "/exams/1/take/", "take")
    press(page, "Submit")


def picture_mark(page: Page) -> None:
    enter(page, "tea")
    show(page, "/sittings/1/mark/", "mark")


STAGES: dict[str, Callable[[Page], None]] = {
    "sign-in": picture_sign_in,
    "generate": picture_generate,
    "edit": picture_edit,
    "take": picture_take,
    "mark": picture_mark,
}


def picture_demo(page: Page) -> None:
    """Take the screenshot of the README and the home page."""
    page.goto("/")
    page.get_by_label("Username").fill("teacher")
    page.get_by_label("Password").fill("demo")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Mathematics 9", exact=True).click()
    page.get_by_role("link", name="Generate an exam", exact=True).click()
    page.frame_locator("examplary-embed iframe").get_by_role("heading").first.wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "embed.png")


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with (
        TemporaryDirectory() as folder,
        serve(FakeExamplary(staging=True)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        for stage, manage in follow_tutorial(Path(folder), server.fake):
            with manage.serve() as site:
                if stage in STAGES:
                    page = browser.new_page(
                        base_url=site, viewport={"width": 800, "height": 560}, locale="en-GB"
                    )
                    STAGES[stage](page)
                    page.close()
        with example.demo("--noreload") as site:
            page = browser.new_page(base_url=site, viewport={"width": 1000, "height": 700})
            picture_demo(page)
        browser.close()


if __name__ == "__main__":
    main()
