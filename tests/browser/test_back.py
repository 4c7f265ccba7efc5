"""The Back button in a shared browser: no user gets an embed that an earlier user opened."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import ENGINE, OPTIONS, find_browser
from tests.browser.visitors import Visitor

HEADING = "Generate an exam"
NAMES = {"teacher": "Maya Lindqvist", "student": "Sam Okafor"}
NOTE_PAGE_CACHE = """
window.addEventListener("pageshow", (event) => { window.isFromPageCache = event.persisted; });
"""

LOSE_CONNECTION = """
() => {
  const { fetch } = window;
  window.fetch = () => Promise.reject(new TypeError("The connection is lost."));
  window.restoreConnection = () => (window.fetch = fetch);
}
"""


@pytest.fixture(params=[True, False], ids=["page cache", "no page cache"])
def has_page_cache(request):
    if request.param and ENGINE == "firefox":
        pytest.skip("Playwright does not see the pages that Firefox restores from its page cache.")
    return request.param


@pytest.fixture
def browse(browser, school, has_page_cache):
    """Open a browser window whose pages may come back from the page cache."""
    engine = browser.browser_type
    launched = browser
    if has_page_cache:
        launched = engine.launch(
            executable_path=find_browser(),
            **OPTIONS[ENGINE],
            ignore_default_args=["--disable-back-forward-cache"],
        )
    contexts = []

    def browse(**options):
        contexts.append(launched.new_context(**options))
        visitor = Visitor(contexts[-1].new_page(), school)
        visitor.page.add_init_script(NOTE_PAGE_CACHE)
        return visitor

    yield browse
    for context in contexts:
        context.close()
    if has_page_cache:
        launched.close()


def change_user(visitor, username):
    """Sign out and in with the forms of the site, as on a shared computer."""
    visitor.page.goto(visitor.site)
    with visitor.page.expect_navigation():
        visitor.follow("Sign out")
    visitor.page.goto(visitor.site)
    if username:
        visitor.page.get_by_label("Username").fill(username)
        visitor.page.get_by_label("Password").fill("demo")
        visitor.page.get_by_role("button", name="Sign in").click()
        expect(visitor.page.get_by_text(NAMES[username])).to_be_visible()


def go_back(visitor):
    """Go back until the page with the embed is shown."""
    for _ in range(8):
        with visitor.page.expect_navigation(wait_until="commit"):
            # In a timer, because the page and this call end with the navigation.
            visitor.page.evaluate("void setTimeout(() => history.back())")
        if "/embeds/" in visitor.page.url:
            visitor.page.wait_for_function("() => window.isFromPageCache !== undefined")
            return
    raise AssertionError(f"Back leads to {visitor.page.url}")


# Returns the URL of the frame and whether it is visible. Playwright does not support frames of
# pages from the page cache.
FIND_FRAME = """
() => {
  const frame = document.querySelector("examplary-embed iframe");
  const isSeen = getComputedStyle(frame).visibility === "visible" && frame.clientHeight > 0;
  return [frame.contentDocument ? frame.contentDocument.URL : "elsewhere", isSeen];
}
"""


def expect_embed_hidden(visitor, examplary, username):
    """Expect that the embed of this user is not shown, now or a moment later."""
    page = visitor.page
    [session] = [each for each in examplary.sessions.values() if owner(examplary, each) == username]
    if page.evaluate("window.isFromPageCache"):
        assert page.evaluate(FIND_FRAME) != ["elsewhere", True]
        expect(page.locator("examplary-embed")).to_have_attribute("data-state", "stale")
        page.wait_for_function(f"() => ({FIND_FRAME})()[0] === 'about:blank'")
        return
    for _ in range(10):
        expect(visitor.embed.get_by_text(NAMES[username])).to_be_hidden()
        page.wait_for_timeout(100)
    assert session.embed_url not in [frame.url for frame in page.frames]


def owner(examplary, session):
    name = examplary.users[session.actor]["name"]
    return next(username for username, full in NAMES.items() if full == name)


@pytest.mark.parametrize("options", [{}, {"display": "modal"}])
@pytest.mark.parametrize("cache", ["", "no-store"])
@pytest.mark.parametrize("second", ["student", ""])
def test_embed_of_earlier_user_is_hidden(browse, examplary, options, cache, second):
    visitor = browse()
    visitor.enter_as("teacher")
    embed = visitor.open_embeds(options, cache=cache)
    if options:
        embed.get_by_role("button").first.click()
    expect(visitor.embed.get_by_text(NAMES["teacher"])).to_be_visible()
    change_user(visitor, second)
    go_back(visitor)

    expect_embed_hidden(visitor, examplary, "teacher")


def complete_at(visitor, place):
    """Click this position until the embed is completed.

    Chromium drops clicks for a moment after it restores the frame from the page cache.
    """
    embed = visitor.page.locator("examplary-embed")
    for _ in range(60):
        visitor.page.mouse.click(place["x"] + 5, place["y"] + 5)
        visitor.page.wait_for_timeout(1000)
        if embed.get_attribute("data-state") == "completed":
            return


def test_own_embed_continues(browse, examplary, has_page_cache):
    visitor = browse()
    visitor.enter_as("teacher")
    embed = visitor.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    place = visitor.embed.locator("[data-examplary-action=complete]").bounding_box()
    visitor.page.goto(visitor.site)
    go_back(visitor)

    assert visitor.page.evaluate("isFromPageCache") is has_page_cache
    visitor.page.wait_for_function(f"() => ({FIND_FRAME})().join() === 'elsewhere,true'")
    # A page from the cache keeps the state of its frame.
    if has_page_cache:
        assert len(examplary.calls("GET", "/embeds/{token}")) == 1
        complete_at(visitor, place)
    else:
        visitor.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert len(examplary.calls("POST", "/embed-sessions")) == 1


def test_page_left_while_loading_launches_again(browse, examplary):
    visitor = browse()
    visitor.enter_as("teacher")
    launches = []

    def ignore_first_request(route):
        launches.append(route)
        if len(launches) > 1:
            route.continue_()

    visitor.page.route("**/launch/**", ignore_first_request)
    embed = visitor.open_embeds({}, wait_until="commit")
    expect(embed).to_have_attribute("data-state", "loading")
    visitor.page.goto(visitor.site)
    go_back(visitor)

    expect(embed).to_have_attribute("data-state", "loaded")


@pytest.mark.parametrize("state", ["offline", "unverified"])
def test_embed_stays_covered_until_the_site_answers(browse, has_page_cache, state):
    if not has_page_cache:
        pytest.skip("Only the page cache has pages without the network.")
    visitor = browse()
    visitor.enter_as("teacher")
    embed = visitor.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    if state == "unverified":
        # Playwright cannot route the requests of a page that comes from the page cache.
        visitor.page.evaluate(LOSE_CONNECTION)
    visitor.page.goto(visitor.site)
    if state == "offline":
        visitor.page.context.set_offline(True)
    go_back(visitor)
    expect(embed).to_have_attribute("data-state", state)
    assert visitor.page.evaluate(FIND_FRAME) == ["elsewhere", False]
    if state == "offline":
        visitor.page.context.set_offline(False)
    else:
        visitor.page.evaluate("() => void restoreConnection()")
        embed.get_by_role("button", name="Try again").click()

    expect(embed).to_have_attribute("data-state", "loaded")
    assert visitor.page.evaluate(FIND_FRAME) == ["elsewhere", True]


def test_embed_of_earlier_user_is_hidden_without_javascript(browse, examplary, has_page_cache):
    """Each launch has its own frame name, so browsers do not restore an earlier frame."""
    if has_page_cache:
        pytest.skip("Pages that are not to be stored are not in the page cache.")
    visitor = browse(java_script_enabled=False)
    visitor.enter_as("teacher")
    visitor.open_embeds({}, cache="no-store")
    expect(visitor.embed.get_by_text(NAMES["teacher"])).to_be_visible()
    visitor.page.goto(visitor.site)
    visitor.enter_as("student")
    visitor.page.goto(f"{visitor.site}/results/")
    visitor.page.go_back()
    visitor.page.go_back()

    expect(visitor.embed.get_by_text(NAMES["student"])).to_be_visible()
    expect_embed_hidden(visitor, examplary, "teacher")
