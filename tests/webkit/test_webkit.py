"""Flows, states, focus and content policy in WebKitGTK."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from django_examplary.testing import FakeExamplary
from tests.browser.visitors import WAIT_FOR_SCRIPT
from tests.webkit.visitors import Visitor

# The panels that cover the frame, by the states that can be reached without a network route.
COVERED = [
    "idle",
    "verifying",
    "completed",
    "cancelled",
    "closed",
    "ended",
    "failed",
    "unverified",
    "stale",
]


def options_of(flow: str, examplary: FakeExamplary) -> dict[str, Any]:
    """Return the options of an embed, with the content that the flow needs."""
    options = {"flow": flow, "grant_access": True}
    if flow in ("edit-exam", "take-exam"):
        return {**options, "presets": {"exam_id": examplary.add_exam()["id"]}}
    if flow == "practice-space-student":
        space = examplary.add_practice_space()["id"]
        return {**options, "presets": {"practice_space_id": space}}
    return {"flow": flow}


# Flows


@pytest.mark.parametrize("flow", ["generate-exam", "generate-question", "edit-rubric"])
@pytest.mark.parametrize("display", ["inline", "modal"])
def test_flow_ends_with_its_result(teacher, announced, flow, display):
    teacher.open_embed({"flow": flow, "display": display})
    if display == "modal":
        teacher.click("[data-examplary-opener]")
    teacher.press("complete")

    teacher.expect_state("completed")
    assert announced == ["session_completed"]


@pytest.mark.parametrize("flow", ["edit-exam", "practice-space-student"])
def test_done(visit, examplary, announced, flow):
    visitor = visit("student" if flow == "practice-space-student" else "teacher")
    visitor.open_embed(options_of(flow, examplary))
    visitor.expect_state("loaded")
    visitor.click("[data-examplary-do=close]")

    visitor.expect_state("closed")
    assert announced == ["session_closed"]


def test_whole_job(teacher, examplary, announced):
    """The policy of the example project blocks everything that the documentation omits."""
    teacher.driver.get(teacher.site)
    teacher.follow("Mathematics 9", "Generate an exam")
    teacher.press("complete")
    teacher.wait(lambda: announced)

    assert announced == ["session_completed"]
    [exam] = examplary.exams.values()
    teacher.wait(lambda: f"The exam “{exam['name']}” is ready." in teacher.driver.page_source)


def test_whole_window(teacher, examplary, announced):
    teacher.driver.get(teacher.site)
    teacher.follow("Mathematics 9", "Generate an exam", "Use the whole window")
    teacher.wait(lambda: teacher.driver.current_url.startswith(examplary.base_url))
    teacher.wait_for("css selector", "[data-examplary-action=complete]").click()
    teacher.wait(lambda: announced)

    assert announced == ["session_completed"]


def test_link_ends_a_session_without_the_script(teacher, examplary, announced):
    teacher.open_embed(options_of("edit-exam", examplary), script="none")
    teacher.in_frame(lambda: teacher.wait_for("tag name", "form"))
    teacher.follow("I have finished")
    teacher.wait_for("css selector", "button[type=submit]").click()
    teacher.wait(lambda: "<h1>Done</h1>" in teacher.driver.page_source)

    assert announced == ["session_closed"]


# States


def reach(teacher: Visitor, examplary: FakeExamplary, state: str) -> None:
    options: dict[str, Any] = {"load": "click"} if state in ("idle", "failed", "stale") else {}
    if state == "closed":
        options = options_of("edit-exam", examplary)
    teacher.open_embed(options)
    if state == "idle":
        return
    if state == "failed":
        examplary.fail("POST", "/embed-sessions", status=500)
    if state == "stale":
        teacher.driver.delete_all_cookies()
    if options.get("load") == "click":
        teacher.click("[data-examplary-do=open]")
        return
    teacher.expect_state("loaded")
    if state == "verifying":
        teacher.run("window.fetch = () => new Promise(() => {})")
    if state == "unverified":
        examplary.fail("GET", "/embed-sessions/{id}", status=500, times=None)
    if state == "ended":
        *_, session = examplary.sessions.values()
        examplary.expire(session.id)
    if state in ("closed", "ended"):
        teacher.run("document.querySelector('examplary-embed').close()")
    else:
        teacher.press("cancel" if state == "cancelled" else "complete")


@pytest.mark.parametrize("state", COVERED)
def test_state(teacher, examplary, settings, pictures, state):
    settings.EXAMPLARY_MAX_RETRIES = 0
    reach(teacher, examplary, state)

    teacher.expect_state(state)
    assert teacher.is_seen(f"[data-examplary-state={state}]")
    frame = "getComputedStyle(document.querySelector('examplary-embed iframe')).visibility"
    assert teacher.run(f"return {frame}") == "hidden"
    teacher.picture(pictures / f"webkit-{state}")


def test_sign_of_life(teacher, pictures):
    teacher.open_embed()
    teacher.expect_state("loaded")
    teacher.in_frame(lambda: teacher.run("parent.postMessage({type: 'hello'}, '*')"))
    teacher.expect_state("ready")
    teacher.picture(pictures / "webkit-ready")


def test_offline(teacher, pictures):
    teacher.open_embed({"load": "click"})
    teacher.run(
        "Object.defineProperty(navigator, 'onLine', {value: false, configurable: true});"
        "self.connected = fetch; self.fetch = () => Promise.reject(new TypeError('offline'))"
    )
    teacher.click("[data-examplary-do=open]")
    teacher.expect_state("offline")
    teacher.picture(pictures / "webkit-offline")
    teacher.run(
        "self.fetch = connected; delete navigator.onLine; dispatchEvent(new Event('online'))"
    )

    teacher.expect_state("loaded")


def test_busy_site_is_retried(teacher, settings, pictures):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 0
    teacher.open_embed()
    frame = "document.querySelector('examplary-embed iframe').contentDocument"
    teacher.wait(
        lambda: teacher.run(f"return !!{frame}?.querySelector('[data-examplary-problem]')")
    )
    assert teacher.state == "loading"
    assert teacher.is_seen("[data-examplary-state=loading]")
    teacher.picture(pictures / "webkit-loading")
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 4

    teacher.expect_state("loaded")


def test_pages_outside_the_embed(teacher, examplary, settings, pictures):
    settings.EXAMPLARY_MAX_RETRIES = 0

    def look(name, title):
        teacher.wait_for("xpath", f"//h1[normalize-space()='{title}']")
        teacher.picture(pictures / f"webkit-window-{name}")

    teacher.open_embed({**options_of("edit-exam", examplary), "load": "click"}, script="none")
    window, finish = (
        teacher.wait_for("css selector", link).get_property("href")
        for link in ("[data-examplary-opener]", ".examplary-embed__finish")
    )
    examplary.fail("POST", "/embed-sessions", status=500)
    teacher.driver.get(window)
    look("problem", "Examplary cannot be reached right now")
    teacher.follow("Try again")
    teacher.wait(lambda: teacher.driver.current_url.startswith(examplary.base_url))
    [session] = examplary.sessions.values()
    teacher.driver.get(session.return_url)
    look("unfinished", "Not finished yet")
    teacher.driver.get(finish)
    look("finish", "Have you finished?")
    teacher.wait_for("css selector", "button[type=submit]").click()
    look("done", "Done")

    teacher.driver.delete_all_cookies()
    teacher.driver.get(f"{teacher.site}/embeds/public/?embed={{}}")
    teacher.wait_for("css selector", ".examplary-embed--signed-out")
    teacher.picture(pictures / "webkit-signed-out")


def test_help_is_in_view(teacher, pictures):
    """WebKit shows a refused frame as a white area."""
    teacher.open_embed({"grace": 0.5})
    teacher.expect_state("loaded")
    teacher.find("[data-examplary-help] button", "Hide this")
    teacher.picture(pictures / "webkit-helpful")
    teacher.run("document.querySelector('examplary-embed').style.blockSize = '2000px'")
    rectangle = teacher.run(
        "return arguments[0].getBoundingClientRect()", teacher.find("[data-examplary-help]")
    )
    assert rectangle["bottom"] <= teacher.run("return innerHeight")
    teacher.click("[data-examplary-help] button", "Hide this")
    assert not teacher.is_seen("[data-examplary-help]")


# Before the script runs


def test_frame_is_hidden_until_the_script_runs_or_times_out(teacher):
    """The browser may have restored the embed of an earlier user."""
    teacher.open_embed({}, script="late")
    embed = teacher.wait_for("css selector", "examplary-embed")

    assert teacher.run(f"return ({WAIT_FOR_SCRIPT})(arguments[0])", embed) == ["hidden", "visible"]


# Focus


def test_escape_asks_before_it_closes_unfinished_work(teacher, pictures):
    teacher.open_embed({"display": "modal"})
    teacher.click("[data-examplary-opener]")
    teacher.expect_state("loaded")
    teacher.find("[data-examplary-do=dismiss]").send_keys(Keys.ESCAPE)
    teacher.find("[data-examplary-state=leaving]")
    teacher.picture(pictures / "webkit-leaving")
    teacher.click("[data-examplary-do=stay]")
    assert not teacher.is_seen("[data-examplary-state=leaving]")
    teacher.wait(lambda: teacher.run("return document.activeElement.localName") == "iframe")


def test_panel_gets_the_focus_of_the_frame(teacher):
    teacher.open_embed({"display": "modal"})
    teacher.click("[data-examplary-opener]")
    teacher.expect_state("loaded")
    # A click by the driver does not move the pointer of the page around the frame.
    frame = teacher.wait_for("css selector", "examplary-embed iframe")
    ActionChains(teacher.driver).move_to_element(frame).perform()
    teacher.press("complete")
    teacher.expect_state("completed")
    focused = "return document.activeElement.shadowRoot?.activeElement?.dataset.examplaryState"
    teacher.wait(lambda: teacher.run(focused) == "completed")


def test_openers_are_buttons(teacher):
    teacher.open_embed({"display": "modal"})
    teacher.find("[data-examplary-opener]").send_keys(Keys.SPACE)

    teacher.expect_state("loaded")
    assert teacher.is_seen("dialog[open]")
