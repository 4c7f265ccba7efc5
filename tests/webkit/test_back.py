"""Back in WebKitGTK, with and without its page cache."""

from __future__ import annotations

import pytest

from tests.webkit.conftest import start_driver

LOOK_AT_FRAME = """
const frame = document.querySelector("examplary-embed iframe");
return [frame.contentDocument?.URL, getComputedStyle(frame).visibility];
"""


@pytest.fixture(scope="module", params=[True, False], ids=["page cache", "no page cache"])
def has_page_cache(request):
    return request.param


@pytest.fixture(scope="module")
def driver(has_page_cache):
    with start_driver(f"--enable-page-cache={str(has_page_cache).lower()}") as driver:
        yield driver


def go_back(teacher):
    """Go back to the page with the embed, and return whether it comes from the page cache."""
    for _ in range(4):
        teacher.driver.back()
        if "/embeds/" in teacher.driver.current_url:
            return teacher.run("return window.isSamePage === true")
    raise AssertionError(f"Back leads to {teacher.driver.current_url}")


def read_frame(teacher):
    return teacher.in_frame(lambda: teacher.run("return document.body.innerText"))


@pytest.mark.parametrize("options", [{}, {"display": "modal"}], ids=["inline", "modal"])
@pytest.mark.parametrize("cache", ["", "no-store"])
@pytest.mark.parametrize("second", ["student", ""])
def test_embed_of_earlier_user_is_hidden(
    teacher, examplary, has_page_cache, options, cache, second
):
    if not has_page_cache and not second:
        pytest.skip("Without the page cache, the site shows its login.")
    teacher.open_embed(options, cache=cache)
    if options:
        teacher.click("[data-examplary-opener]")
    teacher.expect_state("loaded")
    assert "Maya Lindqvist" in read_frame(teacher)
    teacher.run("window.isSamePage = true")
    teacher.driver.get(f"{teacher.site}/sign-in/")
    teacher.driver.delete_all_cookies()
    if second:
        teacher.enter_as(second)
    teacher.driver.get(f"{teacher.site}/sign-in/?later")

    # Over http, WebKit also caches pages with no-store.
    assert go_back(teacher) is has_page_cache
    if has_page_cache:
        teacher.expect_state("stale")
        teacher.wait(lambda: teacher.run(LOOK_AT_FRAME) == ["about:blank", "hidden"])
    else:
        teacher.expect_state("loaded")
        assert "Sam Okafor" in read_frame(teacher)
    [session, *_] = examplary.sessions.values()
    assert session.status == "pending"


def test_own_embed_continues(teacher, examplary, announced, has_page_cache):
    teacher.open_embed()
    teacher.expect_state("loaded")
    teacher.run("window.isSamePage = true")
    teacher.driver.get(f"{teacher.site}/sign-in/?elsewhere")
    assert go_back(teacher) is has_page_cache
    teacher.expect_state("loaded")
    teacher.press("complete")

    teacher.expect_state("completed")
    assert announced == ["session_completed"]
    assert len(examplary.calls("POST", "/embed-sessions")) == 1
