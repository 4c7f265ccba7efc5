"""A production site in a browser that blocks third-party cookies."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ENGINE, OPTIONS, VIEWPORTS, find_browser
from tests.browser.production import PROBE, keep_cookies
from tests.browser.visitors import Visitor


def prefer_firefox(behaviour: int) -> dict[str, Any]:
    preferences = OPTIONS["firefox"]["firefox_user_prefs"]
    return {"firefox_user_prefs": {**preferences, "network.cookie.cookieBehavior": behaviour}}


# Browser options, SameSite of the site's cookies, and the cookies that the embed can read.
MODES: dict[str, dict[str, tuple[dict[str, Any], str, str]]] = {
    "chromium": {
        # Contexts of Playwright are private windows, in which Chromium blocks third parties.
        "blocked, Lax": ({}, "Lax", ""),
        "blocked, Strict": ({}, "Strict", ""),
    },
    "firefox": {
        "blocked, Strict": (prefer_firefox(1), "Strict", ""),
        # Total cookie protection.
        "partitioned, Lax": (prefer_firefox(5), "Lax", "probe=1"),
    },
}


@pytest.fixture(scope="module", params=MODES[ENGINE])
def mode(engine, request):
    options, same_site, stored = MODES[ENGINE][request.param]
    browser = engine.launch(executable_path=find_browser(), **OPTIONS[ENGINE] | options)
    yield browser, same_site, stored
    browser.close()


@pytest.fixture
def teacher(mode, secure_school, settings):
    browser, same_site, _ = mode
    keep_cookies(settings, same_site)
    context = browser.new_context(viewport=VIEWPORTS[ENGINE], ignore_https_errors=True)
    visitor = Visitor(context.new_page(), secure_school)
    visitor.sign_in("teacher")
    visitor.follow("Mathematics 9", "Generate an exam")
    yield visitor
    context.close()
    assert visitor.errors == []


def expect_result(teacher, examplary, announced):
    teacher.page.wait_for_url("**/courses/*/")
    [exam] = examplary.exams.values()
    expect(teacher.page.get_by_text(f"The exam “{exam['name']}” is ready.")).to_be_visible()
    assert announced == ["session_completed"]


def test_frame(teacher, mode, secure_examplary, announced):
    *_, same_site, stored = mode
    expect(teacher.embed.locator("form")).to_be_visible()
    assert teacher.page.frames[-1].evaluate(f"() => {{ {PROBE} }}") == stored
    teacher.press("complete")

    expect_result(teacher, secure_examplary, announced)
    cookies = {each["name"]: each for each in teacher.page.context.cookies(teacher.site)}
    for name in ("__Host-sessionid", "__Host-csrftoken"):
        assert cookies[name]["secure"]
        assert cookies[name]["sameSite"] == same_site


def test_whole_window(teacher, secure_examplary, announced):
    teacher.follow("Use the whole window")
    teacher.page.wait_for_url(f"{secure_examplary.base_url}/embeds/*")
    teacher.page.locator("[data-examplary-action=complete]").click()

    expect_result(teacher, secure_examplary, announced)


@pytest.mark.skipif(ENGINE != "chromium", reason="Only Chromium requires trusted types.")
def test_panels_of_a_page_without_templates_are_trusted_html(teacher):
    expect(teacher.embed.locator("form")).to_be_visible()
    assert teacher.page.evaluate("""() => {
      const find = () => document.querySelector("template[data-examplary-panels]");
      const html = find().innerHTML;
      find().remove();
      const policy = trustedTypes.createPolicy("page", { createHTML: (text) => text });
      customElements.get("examplary-embed").create({ panels: policy.createHTML(html) });
      return find().innerHTML === html;
    }""")
