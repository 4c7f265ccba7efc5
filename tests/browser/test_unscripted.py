"""Embeds inside a form of the page, and in browsers without the script."""

from __future__ import annotations

import itertools

import pytest
from playwright.sync_api import expect

from tests.browser.visitors import SCHEMES, WIDTHS

QUESTION = {"flow": "generate-question", "display": "modal"}


@pytest.fixture
def exam(examplary):
    """The options of an embed that edits an exam."""
    exam_id = examplary.add_exam()["id"]
    return {"flow": "edit-exam", "presets": {"exam_id": exam_id}, "grant_access": True}


@pytest.fixture
def open_form(visit):
    """Open a page with a form around the embed, and return the visitor."""

    def open_form(options, **browser):
        teacher = visit(**browser)
        teacher.enter_as("teacher")
        teacher.open_embeds(options, form="")
        return teacher

    return open_form


def expect_save(teacher):
    """Expect that the page's own form can still be submitted."""
    teacher.page.get_by_label("Title").fill("Fractions")
    teacher.page.get_by_role("button", name="Save").click()
    expect(teacher.page.get_by_text("Saved Fractions")).to_be_visible()


def test_dialog_in_a_form(open_form, announced):
    teacher = open_form(QUESTION)
    embed = teacher.page.locator("examplary-embed")
    embed.get_by_role("button", name="Generate a question").click()
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]
    embed.get_by_role("button", name="Close").click()

    expect_save(teacher)


def test_done_in_a_form(open_form, exam, announced):
    teacher = open_form(exam)
    embed = teacher.page.locator("examplary-embed")
    embed.get_by_role("button", name="Done").click()
    expect(embed).to_have_attribute("data-state", "closed")
    assert announced == ["session_closed"]

    expect_save(teacher)


def test_done_in_a_form_without_javascript(open_form, exam, announced):
    teacher = open_form(exam, java_script_enabled=False)
    expect(teacher.embed.get_by_role("heading", name="Edit the exam")).to_be_visible()
    form = teacher.page.url
    teacher.follow("I have finished", "I have finished")
    expect(teacher.page.get_by_role("heading", name="Done")).to_be_visible()
    assert announced == ["session_closed"]
    teacher.page.goto(form)

    expect_save(teacher)


@pytest.mark.parametrize("is_completed", [True, False])
def test_dialog_in_a_form_without_javascript(open_form, exam, examplary, announced, is_completed):
    options = QUESTION if is_completed else {**exam, "display": "modal"}
    teacher = open_form(options, java_script_enabled=False)
    form = teacher.page.url
    teacher.page.locator("[data-examplary-opener]").click()
    teacher.page.wait_for_url(f"{examplary.base_url}/embeds/*")
    [session] = examplary.sessions.values()
    if is_completed:
        # The fake's own embeds need JavaScript.
        examplary.complete(session.id)
        teacher.page.goto(session.return_url)
        expect(teacher.page.get_by_role("heading", name="Finished")).to_be_visible()
        assert announced == ["session_completed"]
        teacher.page.goto(form)
    else:
        teacher.page.goto(form)
        teacher.follow("I have finished", "I have finished")
        expect(teacher.page.get_by_role("heading", name="Done")).to_be_visible()
        assert announced == ["session_closed"]
        teacher.page.goto(form)

    expect_save(teacher)


@pytest.mark.parametrize("language", ["en", "nl"])
def test_finish_page(visit, pictures, exam, language):
    teacher = visit(locale=language)
    teacher.enter_as("teacher")
    teacher.open_embeds(exam)
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")
    # The script does not remove the link, which only shows without the script.
    address = teacher.page.locator("a[href*=finish]").get_attribute("href")
    teacher.page.goto(teacher.site + address)
    assert teacher.audit(pictures / f"finish-{language}") == []

    teacher.page.keyboard.press("Tab")
    teacher.page.keyboard.press("Enter")
    done = {"en": "Done", "nl": "Klaar"}[language]
    expect(teacher.page.get_by_role("heading", name=done)).to_be_visible()


@pytest.mark.parametrize(
    "options", [{}, {"load": "click"}, {"display": "modal"}], ids=["inline", "click", "modal"]
)
def test_appearance_without_javascript(visit, pictures, exam, options):
    teacher = visit(java_script_enabled=False)
    teacher.enter_as("teacher")
    teacher.open_embeds({**exam, **options})
    name = "-".join(["unscripted", *options.values()])
    for width, scheme in itertools.product(WIDTHS, SCHEMES):
        teacher.page.emulate_media(color_scheme=scheme)
        teacher.page.set_viewport_size({"width": width, "height": 640})
        teacher.page.screenshot(path=pictures / f"{name}-{width}-{scheme}.png")
        assert teacher.page.evaluate("document.scrollingElement.scrollWidth") <= width
    links = ["Edit an exam", "I have finished"] if options else ["I have finished"]
    assert teacher.page.get_by_role("link").all_inner_texts() == links
    assert teacher.page.locator("iframe").is_visible() is not bool(options)
