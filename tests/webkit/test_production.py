"""A production site in a WebKit that blocks third-party cookies."""

from __future__ import annotations

import pytest

from tests.browser.production import PROBE, keep_cookies
from tests.webkit.conftest import start_driver
from tests.webkit.visitors import Visitor

# Browser arguments, SameSite of the site's cookies, and the cookies that the embed can read.
MODES = {
    "tracking prevention, Strict": (
        ["--enable-itp=true", "--cookies-policy=always"],
        "Strict",
        "",
    ),
    "no third party, Lax": (["--cookies-policy=no-third-party"], "Lax", ""),
}


@pytest.fixture(scope="module", params=MODES)
def mode(request):
    arguments, same_site, stored = MODES[request.param]
    with start_driver(*arguments) as driver:
        yield driver, same_site, stored


@pytest.fixture
def teacher(mode, secure_school, settings):
    driver, same_site, _ = mode
    keep_cookies(settings, same_site)
    visitor = Visitor(driver, secure_school)
    visitor.sign_in("teacher")
    visitor.follow("Mathematics 9", "Generate an exam")
    yield visitor
    driver.delete_all_cookies()
    driver.get("about:blank")


def expect_result(teacher, examplary, announced):
    teacher.wait(lambda: announced)
    assert announced == ["session_completed"]
    [exam] = examplary.exams.values()
    teacher.wait(lambda: f"The exam “{exam['name']}” is ready." in teacher.driver.page_source)


def test_frame(teacher, mode, secure_examplary, announced):
    teacher.wait_for("css selector", "examplary-embed")
    teacher.expect_state("loaded")
    assert teacher.in_frame(lambda: teacher.run(PROBE)) == mode[2]
    teacher.press("complete")

    expect_result(teacher, secure_examplary, announced)
    cookies = {each["name"]: each for each in teacher.driver.get_cookies()}
    for name in ("__Host-sessionid", "__Host-csrftoken"):
        assert cookies[name]["secure"]
        assert cookies[name]["sameSite"] == mode[1]


def test_whole_window(teacher, secure_examplary, announced):
    teacher.follow("Use the whole window")
    teacher.wait(lambda: teacher.driver.current_url.startswith(secure_examplary.base_url))
    teacher.wait_for("css selector", "[data-examplary-action=complete]").click()

    expect_result(teacher, secure_examplary, announced)
