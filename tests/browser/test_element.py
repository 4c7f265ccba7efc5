"""<examplary-embed> in a page: keyboard, requests, events and removal."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from tests.browser.visitors import FOCUSED, WAIT_FOR_SCRIPT
from tests.processes import wait_for

HEADING = "Generate an exam"

# Counts the pending timers.
COUNT_TIMERS = """
window.timers = new Set();
const { setTimeout, clearTimeout } = window;
window.setTimeout = (callback, ...rest) => {
  const timer = setTimeout(() => { timers.delete(timer); callback(); }, ...rest);
  timers.add(timer);
  return timer;
};
window.clearTimeout = (timer) => { timers.delete(timer); clearTimeout(timer); };
"""
COLLECT_EVENTS = """
window.events = [];
for (const name of ["completed", "cancelled", "closed", "error"]) {
  document.addEventListener(`examplary:${name}`, (event) => events.push([name, event.detail]));
}
"""


@pytest.fixture
def teacher(visit):
    teacher = visit()
    teacher.enter_as("teacher")
    teacher.page.add_init_script(COUNT_TIMERS)
    teacher.page.add_init_script(COLLECT_EVENTS)
    return teacher


def expect_focus(page, expected):
    """Wait until the element with this text or tag has the focus."""
    page.wait_for_function(f"(expected) => ({FOCUSED}) === expected", arg=expected)


def expect_open(teacher):
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    # Before this state the page assumes that the frame has no unsaved work.
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")


def tab_until(teacher, arrived, *, key="Tab"):
    for _ in range(20):
        teacher.press_tab(key)
        if arrived(teacher.page.evaluate(FOCUSED)):
            return
    raise AssertionError(f"{key} never gets there, but to: {teacher.page.evaluate(FOCUSED)}")


# The keyboard


def test_tab_order_inline(teacher):
    embed = teacher.open_embeds({"flow": "generate-exam", "load": "click"})
    page = teacher.page
    page.get_by_role("button", name="Before").focus()
    page.keyboard.press("Tab")
    expect_focus(page, HEADING)
    page.keyboard.press("Enter")
    expect_open(teacher)
    page.keyboard.press("Tab")
    expect_focus(page, "iframe")
    page.keyboard.type("Powers")
    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers")
    tab_until(teacher, "After".__eq__)
    tab_until(teacher, "iframe".__eq__, key="Shift+Tab")
    teacher.embed.locator("[data-examplary-action=complete]").focus()
    page.keyboard.press("Enter")

    expect(embed).to_have_attribute("data-state", "completed")
    # The focused element was removed; its replacement has the focus.
    expect_focus(page, "Finished\n\nThe result is saved.\n\nStart again")


def test_tab_order_modal(teacher):
    embed = teacher.open_embeds({"display": "modal"})
    page = teacher.page
    page.get_by_role("button", name="Before").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect_open(teacher)
    expect_focus(page, "Close")
    page.keyboard.press("Tab")
    expect_focus(page, "iframe")
    page.keyboard.type("Powers")
    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers")
    # After the frame the focus would move to the browser's own controls. This browser has none.
    tab_until(teacher, lambda focused: focused != "iframe")
    page.get_by_role("button", name="Close").focus()

    # The dialog asks before it discards work.
    page.keyboard.press("Enter")
    expect(page.get_by_text("Close before you have finished?")).to_be_visible()
    expect_focus(page, "Continue working")
    page.keyboard.press("Enter")
    expect_focus(page, "iframe")
    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers")
    tab_until(teacher, "Close".__eq__, key="Shift+Tab")
    page.keyboard.press("Escape")
    expect_focus(page, "Continue working")
    page.keyboard.press("Escape")
    expect(page.get_by_text("Close before you have finished?")).to_be_hidden()
    expect(embed.locator("dialog")).to_be_visible()
    tab_until(teacher, "Close".__eq__, key="Shift+Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")

    expect(embed.locator("dialog")).to_be_hidden()
    expect_focus(page, HEADING)
    # The work is still there.
    page.keyboard.press("Enter")
    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers")


def test_frame_has_focus_after_the_question(teacher):
    """Regression test: Firefox ignores a focus that is set in a key handler."""
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button").first.click()
    teacher.embed.get_by_label("Name").click()
    embed.locator("[data-examplary-do=dismiss]").press("Enter")
    embed.locator("[data-examplary-do=stay]").press("Enter")

    expect_focus(teacher.page, "iframe")


def open_dialog(teacher):
    """Open a dialog with unfinished work, and return it with the question before it closes."""
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button", name=HEADING).click()
    expect_open(teacher)
    return embed.locator("dialog"), embed.get_by_role("alertdialog")


def test_close_request_without_a_key_asks(teacher):
    """The Back gesture of Android sends such a request."""
    dialog, question = open_dialog(teacher)
    dialog.evaluate("dialog => dialog.requestClose()")

    expect(question).to_be_visible()


def test_second_escape_returns_to_the_work(teacher):
    """Browsers let a page refuse a close request once, and again only after a click."""
    dialog, question = open_dialog(teacher)
    teacher.page.keyboard.press("Escape")
    teacher.page.keyboard.press("Escape")

    expect(question).to_be_hidden()
    expect(dialog).to_be_visible()


def test_dialog_opens_without_the_question_before_it_closed(teacher):
    dialog, question = open_dialog(teacher)
    dialog.locator("[data-examplary-do=dismiss]").click()
    dialog.locator("[data-examplary-do=leave]").click()
    expect(dialog).to_be_hidden()
    teacher.page.get_by_role("button", name=HEADING).click()

    expect(dialog).to_be_visible()
    expect(question).to_be_hidden()


def test_finished_dialog_closes_at_once(teacher, announced):
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button").click()
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]
    teacher.page.keyboard.press("Escape")

    expect(embed.locator("dialog")).to_be_hidden()
    expect_focus(teacher.page, HEADING)
    embed.get_by_role("button").click()
    expect_open(teacher)


def test_dialog_question_is_announced(teacher):
    embed = teacher.open_embeds({"display": "modal", "grace": 0.1})
    embed.get_by_role("button").first.click()
    expect_open(teacher)
    advice = embed.get_by_role("button", name="Hide this")
    expect(advice).to_be_visible()
    embed.get_by_role("button", name="Close").click()

    question = embed.get_by_role("alertdialog", name="Close before you have finished?")
    expect(question).to_have_accessible_description(
        "You can open this again later. Unsaved work may be lost."
    )
    # The question has the focus, and nothing else can receive it.
    expect(advice).to_be_hidden()
    embed.get_by_role("button", name="Continue working").click()
    expect(advice).to_be_visible()


def test_dialog_without_confirmation(teacher):
    embed = teacher.open_embeds({"display": "modal", "confirm_close": False})
    embed.get_by_role("button").click()
    expect_open(teacher)
    embed.get_by_role("button", name="Close").click()

    expect(embed.locator("dialog")).to_be_hidden()


def test_frame_takes_no_focus(teacher):
    embed = teacher.open_embeds({})
    teacher.page.get_by_role("button", name="Before").focus()
    expect_open(teacher)
    embed.evaluate("embed => embed.reload()")
    expect(embed).to_have_attribute("data-state", "loaded")

    expect_focus(teacher.page, "Before")


def test_states_are_announced(teacher):
    embed = teacher.open_embeds({"load": "click"})
    status = embed.get_by_role("status")
    teacher.page.route("**/sync/**", lambda route: None)
    embed.get_by_role("button").first.click()
    expect(status).to_have_text("")
    teacher.press("complete")

    expect(status).to_have_text("Saving the result…")


# Requests


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_nothing_is_requested_before_the_click(teacher, examplary, display):
    embed = teacher.open_embeds({"load": "click", "display": display})
    teacher.page.wait_for_load_state("networkidle")
    assert examplary.calls() == []

    embed.get_by_role("button").first.click()
    expect_open(teacher)


def test_lazy_dialog_requests_nothing_before_it_opens(teacher, examplary):
    embed = teacher.open_embeds({"load": "lazy", "display": "modal"})
    teacher.page.wait_for_load_state("networkidle")
    assert examplary.calls() == []

    embed.get_by_role("button").click()
    expect_open(teacher)


def test_dialog_closed_during_verification_stays_closed(teacher):
    embed = teacher.open_embeds({})
    expect_open(teacher)
    lie = '{type: "examplary:embed-status-update", status: "completed"}'
    teacher.page.frames[-1].evaluate(f"parent.postMessage({lie}, '*')")
    expect(embed).to_have_attribute("data-state", "verifying")
    embed.evaluate("embed => { embed.close(); }")

    expect(embed).to_have_attribute("data-state", "closed", timeout=60_000)


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_link_completes_the_flow_without_javascript(visit, announced, display):
    teacher = visit(java_script_enabled=False)
    teacher.enter_as("teacher")
    teacher.open_embeds({"load": "click", "display": display, "next": "/"})
    [link] = teacher.page.get_by_role("link", name=HEADING).all()
    link.click()

    expect(teacher.page.get_by_role("heading", name=HEADING)).to_be_visible()
    assert "/embeds/" in teacher.page.url


def test_frame_adds_no_history_entries(teacher):
    embed = teacher.open_embeds({})
    expect_open(teacher)
    before = teacher.page.evaluate("history.length")
    embed.evaluate("embed => embed.reload()")
    expect_open(teacher)
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")

    assert teacher.page.evaluate("history.length") == before


@pytest.mark.parametrize(
    ("options", "delay"),
    [
        ({"load": "eager"}, 0),
        ({"load": "lazy"}, 0),
        ({"load": "lazy"}, 0.5),
        ({"display": "modal"}, 0),
    ],
)
def test_back_to_a_finished_session_launches_again(teacher, examplary, options, delay):
    """Browsers restore the blank frame before or after the script runs."""

    def open_dialog():
        if "display" in options:
            teacher.page.locator("examplary-embed").get_by_role("button").first.click()

    teacher.open_embeds({"next": "/", **options})
    open_dialog()
    teacher.press("complete")
    teacher.page.wait_for_url(f"{teacher.site}/")
    teacher.page.route("**/embed.js", lambda route: (time.sleep(delay), route.continue_()))
    teacher.page.go_back()
    open_dialog()

    expect_open(teacher)
    assert len(examplary.calls("POST", "/embed-sessions")) == 2


def test_back_does_not_open_the_dialog(teacher, examplary):
    teacher.open_embeds({"load": "lazy", "display": "modal"})
    teacher.page.goto(teacher.site)
    teacher.page.go_back()
    teacher.page.wait_for_load_state("networkidle")

    assert examplary.calls() == []


# Events


def test_event_has_the_servers_response(teacher, examplary):
    embed = teacher.open_embeds({})
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")

    [exam_id] = examplary.exams
    detail = {"status": "completed", "outputs": {"examId": exam_id}, "redirect": ""}
    assert teacher.page.evaluate("events") == [["completed", detail]]


def test_prevented_event_does_not_redirect(teacher):
    embed = teacher.open_embeds({"next": "/"})
    embed.evaluate(
        "embed => embed.addEventListener('examplary:cancelled', (e) => e.preventDefault())"
    )
    teacher.press("cancel")
    expect(embed).to_have_attribute("data-state", "cancelled")
    [[name, detail]] = teacher.page.evaluate("events")

    assert (name, detail["redirect"]) == ("cancelled", "/")
    assert "/embeds/" in teacher.page.url


def test_close_ends_the_session(teacher, announced):
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button").click()
    expect_open(teacher)
    embed.evaluate("embed => embed.close()")

    expect(embed.locator("dialog")).to_be_hidden()
    assert [name for name, detail in teacher.page.evaluate("events")] == ["closed"]
    assert announced == ["session_closed"]


def test_close_before_open_does_nothing(teacher, examplary):
    exam = examplary.add_exam()["id"]
    embed = teacher.open_embeds(
        {
            "flow": "edit-exam",
            "presets": {"exam_id": exam},
            "grant_access": True,
            "load": "click",
        }
    )
    embed.evaluate("embed => embed.close()")
    expect(embed).to_have_attribute("data-state", "idle")

    held = []
    teacher.page.route("**/launch/**", lambda route: held.append(route))
    with teacher.page.expect_request("**/launch/**"):
        embed.get_by_role("button").first.click()
    expect(embed).to_have_attribute("data-state", "loading")
    done = embed.get_by_role("button", name="Done")
    expect(done).to_be_hidden()
    embed.evaluate("embed => embed.close()")
    expect(embed).to_have_attribute("data-state", "loading")

    [route] = held
    route.continue_()
    expect(done).to_be_visible()
    assert teacher.page.evaluate("events") == []


def test_second_close_does_nothing(teacher):
    embed = teacher.open_embeds({})
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    embed.evaluate("embed => embed.close()")

    expect(embed).to_have_attribute("data-state", "completed")
    assert [name for name, detail in teacher.page.evaluate("events")] == ["completed"]


@pytest.mark.parametrize("method", ["open", "reload", "close"])
@pytest.mark.parametrize("display", ["inline", "modal"])
def test_methods_do_nothing_outside_a_document(teacher, method, display):
    embed = teacher.open_embeds({"display": display})
    if display == "modal":
        embed.get_by_role("button").click()
    expect_open(teacher)
    removed = embed.element_handle()
    removed.evaluate("embed => embed.remove()")
    created = teacher.page.evaluate_handle("document.createElement('examplary-embed')")
    # Added to a page that is still loading.
    waiting = teacher.page.evaluate_handle("""() => {
      Object.defineProperty(document, "readyState", { value: "loading" });
      return document.body.appendChild(document.createElement("examplary-embed"));
    }""")
    elements = [removed, created, waiting]
    for element in elements:
        element.evaluate("(embed, method) => embed[method]()", method)

    states = [element.get_attribute("data-state") for element in elements]
    assert states == ["loaded", None, None]


def test_custom_csrf_header_name(teacher, settings):
    settings.CSRF_HEADER_NAME = "HTTP_X_XSRF_TOKEN"
    embed = teacher.open_embeds({})
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")


def test_start_again_creates_another_session(teacher, examplary):
    embed = teacher.open_embeds({"flow": "generate-question"})
    teacher.press("complete")
    embed.get_by_role("button", name="Start again").click()

    expect(embed).to_have_attribute("data-state", "loaded")
    assert len(examplary.calls("POST", "/embed-sessions")) == 2


def test_exam_is_not_taken_again(teacher, examplary):
    exam = examplary.add_exam()["id"]
    embed = teacher.open_embeds(
        {"flow": "take-exam", "presets": {"exam_id": exam}, "grant_access": True}
    )
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")
    expect(embed.get_by_role("button")).to_have_count(0)


@pytest.mark.parametrize(
    ("flow", "presets", "text"),
    [
        ("edit-exam", {"exam_id": "exam_1"}, "Your work is saved."),
        ("take-exam", {"exam_id": "exam_1"}, "Your work is saved."),
        ("practice-space-student", {"practice_space_id": "space_1"}, "Your work is saved."),
        ("generate-exam", {}, "This is closed now."),
    ],
)
def test_saved_message_appears_only_after_saving(teacher, flow, presets, text):
    closed = {"status": "closed", "outputs": {}, "redirect": ""}
    teacher.page.route("**/close/**", lambda route: route.fulfill(json=closed))
    embed = teacher.open_embeds({"flow": flow, "presets": presets})
    expect(embed).to_have_attribute("data-state", "loaded")
    embed.evaluate("embed => embed.close()")

    expect(embed.locator("[data-examplary-state=closed] p").last).to_have_text(text)
    teacher.expects_errors = True  # There is no such exam.


def test_messages_are_in_the_language_of_the_page(teacher, examplary, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    # The browser sends English as its language.
    teacher.page.evaluate("document.documentElement.lang = 'nl'")
    examplary.fail("GET", "/embed-sessions/{id}", status=500)
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "unverified")

    [[_, detail]] = teacher.page.evaluate("events")
    assert detail["title"] == "Examplary is nu niet bereikbaar"
    teacher.expects_errors = True


def test_error_has_a_reason_and_a_reference(teacher, examplary, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    examplary.fail("POST", "/embed-sessions", status=500)
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "failed")
    [[name, detail]] = teacher.page.evaluate("events")

    assert (name, detail["reason"]) == ("error", "unavailable")
    assert detail["title"] == "Examplary cannot be reached right now"
    expect(embed.get_by_text(detail["reference"], exact=True)).to_be_visible()
    teacher.expects_errors = True


def test_page_continues_only_within_its_site(teacher):
    answer = {"status": "completed", "outputs": {}, "redirect": "/\t//evil.example"}
    teacher.page.route("**/sync/**", lambda route: route.fulfill(json=answer))
    embed = teacher.open_embeds({})
    before = teacher.page.url
    with teacher.page.expect_console_message(lambda message: "another site" in message.text):
        teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    teacher.page.wait_for_timeout(500)

    assert teacher.page.url == before
    teacher.expects_errors = True


@pytest.mark.parametrize("options", [{"load": "click"}, {"display": "modal"}])
def test_openers_are_buttons(teacher, options):
    embed = teacher.open_embeds(options)
    expect(embed.get_by_role("link")).to_have_count(0)
    embed.get_by_role("button", name=HEADING).press("Space")

    expect_open(teacher)


def test_help_is_in_view(teacher):
    """The embed is taller than the window."""
    teacher.page.set_viewport_size({"width": 800, "height": 500})
    embed = teacher.open_embeds({"grace": 0.1})
    embed.evaluate("embed => embed.style.setProperty('--examplary-height', '1500px')")
    expect(embed.locator("[data-examplary-help]")).to_be_in_viewport(ratio=1)


def test_frame_is_hidden_until_the_script_runs_or_times_out(teacher):
    """The browser may have restored the embed of an earlier user."""
    embed = teacher.open_embeds({}, script="late")

    # Firefox would leave an animated frame blank for seconds.
    expect(embed.locator("iframe")).to_have_css("animation-name", "none")
    assert embed.evaluate(WAIT_FOR_SCRIPT) == ["hidden", "visible"]


def test_page_is_printed_with_its_embed(teacher, pictures):
    """The embed is not split between two pages."""
    embed = teacher.open_embeds({})
    expect_open(teacher)
    teacher.page.emulate_media(media="print")
    teacher.page.screenshot(path=pictures / "printed.png", caret="initial")

    expect(embed).to_have_css("break-inside", "avoid")
    assert embed.bounding_box()["height"] <= teacher.page.viewport_size["height"]
    expect(embed.locator("iframe")).to_be_visible()


# Moves and removal


def test_embeds_are_independent(teacher, announced):
    embeds = teacher.open_embeds(
        {}, {"flow": "generate-question"}, {"display": "modal", "reuse": False}
    )
    page = teacher.page
    frames = [page.frame_locator("examplary-embed iframe").nth(n) for n in range(3)]
    expect(frames[0].get_by_role("heading", name=HEADING)).to_be_visible()
    frames[1].locator("[data-examplary-action=cancel]").click()
    expect(embeds.nth(1)).to_have_attribute("data-state", "cancelled")
    embeds.nth(2).get_by_role("button").click()
    frames[2].locator("[data-examplary-action=complete]").click()
    expect(embeds.nth(2)).to_have_attribute("data-state", "completed")

    expect(embeds.nth(0)).to_have_attribute("data-state", "loaded")
    assert announced == ["session_cancelled", "session_completed"]


def test_embed_added_by_a_swap_launches(teacher):
    """htmx and Turbo swap content this way."""
    teacher.open_embeds({})
    teacher.page.evaluate("""async () => {
      const page = await (await fetch(location.href)).text();
      const fresh = new DOMParser().parseFromString(page, "text/html");
      document.body.replaceWith(document.adoptNode(fresh.body));
    }""")
    teacher.press("complete")

    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "completed")


@pytest.mark.parametrize("state", ["loaded", "completed"])
def test_moved_embed_keeps_its_session(teacher, state, examplary):
    embed = teacher.open_embeds({})
    expect_open(teacher)
    if state == "completed":
        teacher.press("complete")
        expect(embed).to_have_attribute("data-state", state)
    embed.evaluate("embed => document.querySelector('main').prepend(embed)")

    expect(embed).to_have_attribute("data-state", state)
    if state == "loaded":
        teacher.press("complete")
        expect(embed).to_have_attribute("data-state", "completed")
    assert len(examplary.calls("POST", "/embed-sessions")) == 1


def test_move_that_keeps_the_frame_changes_nothing(teacher):
    embed = teacher.open_embeds({})
    teacher.embed.get_by_label("Name").fill("Powers and roots")
    embed.evaluate("embed => document.querySelector('main').moveBefore(embed, null)")

    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers and roots")
    assert embed.get_attribute("data-state") == "loaded"
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")


def test_copy_of_a_finished_embed_is_finished(teacher):
    """Turbo shows such a copy after Back."""
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button").click()
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    embed.evaluate("embed => embed.replaceWith(embed.cloneNode(true))")

    expect(embed.locator("dialog")).to_be_hidden()
    assert embed.get_attribute("data-state") == "completed"


@pytest.mark.parametrize("state", ["loading", "loaded", "verifying", "failed", "dialog"])
def test_removed_embed_leaves_no_timers_or_listeners(teacher, examplary, settings, state):
    settings.EXAMPLARY_MAX_RETRIES = 0
    teacher.open_embeds()
    listeners = count_listeners(teacher)
    before = listeners()
    display = "modal" if state == "dialog" else "inline"
    embed = teacher.open_embeds({"load": "click", "grace": 0.3, "display": display})
    assert listeners() > before
    if state == "loading":
        teacher.page.route("**/launch/**", lambda route: None)
    if state == "failed":
        examplary.fail("POST", "/embed-sessions", status=500)
    embed.get_by_role("button").first.click()
    if state == "verifying":
        # With the status "pending" the embed would retry.
        examplary.fail(
            "GET",
            "/embed-sessions/{id}",
            times=None,
            edit=lambda each: {**each, "status": "pending"},
        )
        teacher.press("complete")
    if state in ("loaded", "dialog"):
        expect_open(teacher)
    else:
        expect(embed).to_have_attribute("data-state", state)
    embed.evaluate("embed => embed.remove()")
    calls = len(examplary.calls())
    teacher.page.wait_for_timeout(300)

    assert teacher.page.evaluate("timers.size") == 0
    assert listeners() == before
    assert len(examplary.calls()) <= calls + 1  # One may be in flight.
    teacher.page.unroute_all()
    teacher.expects_errors = True


def test_response_for_a_removed_embed_is_ignored(teacher):
    embed = teacher.open_embeds({})
    expect_open(teacher)
    requests = []
    teacher.page.route("**/sync/**", lambda route: requests.append(route))
    report = "parent.postMessage({type: 'examplary:embed-status-update', status: 'done'}, '*')"
    teacher.page.frames[-1].evaluate(report)
    wait_for(lambda: teacher.page.title() and requests)
    embed.evaluate("embed => embed.remove()")
    requests[0].fulfill(json={"status": "completed", "outputs": {}, "redirect": ""})
    teacher.page.wait_for_timeout(500)

    assert teacher.page.evaluate("events") == []


# Counts the abort listeners of scripts.
COUNT_ABORTS = """
window.aborts = new Set();
AbortSignal.prototype.addEventListener = function (type, listener) {
  aborts.add(listener);
  EventTarget.prototype.addEventListener.call(this, type, listener);
};
AbortSignal.prototype.removeEventListener = function (type, listener) {
  aborts.delete(listener);
  EventTarget.prototype.removeEventListener.call(this, type, listener);
};
"""


def test_removed_embed_stops_its_retries(teacher):
    teacher.page.add_init_script(COUNT_ABORTS)
    embed = teacher.open_embeds({})
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")

    assert teacher.page.evaluate("aborts.size") == 0


def count_listeners(teacher):
    """Return a function that counts the window's listeners for the events of embeds."""
    cdp = teacher.page.context.new_cdp_session(teacher.page)

    def count():
        window = cdp.send("Runtime.evaluate", {"expression": "window"})["result"]["objectId"]
        found = cdp.send("DOMDebugger.getEventListeners", {"objectId": window})["listeners"]
        return len([each for each in found if each["type"] in ("message", "online", "offline")])

    return count


# Frames in a sandbox


def test_sandbox_is_enough_for_the_job(teacher, announced):
    embed = teacher.open_embeds({"sandbox": True})
    teacher.embed.get_by_label("Name").fill("Powers and roots")
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]
    # Chromium warns that content of the same site could leave the sandbox.
    assert all("sandboxing" in error for error in teacher.errors)
    teacher.expects_errors = True


def test_page_in_the_sandbox_is_read(teacher, examplary, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    examplary.fail("POST", "/embed-sessions", status=500)
    embed = teacher.open_embeds({"sandbox": True})

    expect(embed).to_have_attribute("data-state", "failed")
    teacher.expects_errors = True


# The origin


def test_page_of_another_origin_shows_hint_and_gets_result(teacher, settings, examplary):
    settings.EXAMPLARY_SITE_ORIGIN = "https://www.school.example"
    teacher.expects_errors = True  # Firefox reports the message that it does not deliver.
    embed = teacher.open_embeds({"load": "eager"})
    hint = embed.locator(".examplary-embed__hint")
    expect(hint).to_contain_text(f"This page is at {teacher.site}, and its embeds report to http")
    teacher.press("complete")
    wait_for(lambda: [each.status for each in examplary.sessions.values()] == ["completed"])
    expect(embed).to_have_attribute("data-state", "loaded")

    teacher.page.get_by_role("button", name="After").click()

    expect(embed).to_have_attribute("data-state", "completed")


def test_hint_about_another_origin_is_visible_in_a_dialog(teacher, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://www.school.example"
    embed = teacher.open_embeds({"display": "modal"})
    embed.get_by_role("button", name=HEADING).click()

    expect(embed.locator("dialog .examplary-embed__hint")).to_be_in_viewport(ratio=1)


def test_page_of_the_right_origin_has_no_hint(teacher):
    embed = teacher.open_embeds({"load": "eager"})
    expect_open(teacher)
    expect(embed.locator(".examplary-embed__hint")).to_have_count(0)


def test_page_of_another_origin_requests_no_result_while_loading(teacher, settings):
    """Firefox sends a focus event while the page loads."""
    settings.EXAMPLARY_SITE_ORIGIN = "https://www.school.example"
    embed = teacher.open_embeds({"load": "click"})
    launches, requests = [], []
    teacher.page.route("**/launch/**", lambda route: launches.append(route))
    teacher.page.route("**/sync/**", lambda route: requests.append(route))
    embed.evaluate("embed => { embed.reload(); window.dispatchEvent(new Event('focus')); }")
    wait_for(lambda: teacher.page.title() and launches)
    teacher.page.wait_for_timeout(500)
    assert requests == []

    launches[0].continue_()
    expect_open(teacher)
