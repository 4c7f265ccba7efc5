"""Browsers without newer features: every flow must still end with its result."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from playwright.sync_api import expect

# Features that browsers of Baseline "widely available", or older ones, may lack.
MISSING = {
    "checkVisibility": "delete Element.prototype.checkVisibility",
    "options of checkVisibility": (
        "Element.prototype.checkVisibility = () => { throw new TypeError('options') }"
    ),
    "showModal": "delete HTMLDialogElement.prototype.showModal",
    "dialog": (
        "delete HTMLDialogElement.prototype.showModal; delete HTMLDialogElement.prototype.close"
    ),
    "Array.at": "delete Array.prototype.at",
    "IntersectionObserver": "delete window.IntersectionObserver",
    "navigation timing": "delete Performance.prototype.getEntriesByType",
    "focus": "HTMLElement.prototype.focus = () => { throw new TypeError('focus') }",
    "matches": "Element.prototype.matches = () => { throw new TypeError('matches') }",
    "computed style": "window.getComputedStyle = () => { throw new TypeError('style') }",
    "moveBefore": "delete Element.prototype.moveBefore",
    "APIs of later years": """
      for (const [owner, names] of [
        [window, ["structuredClone", "requestIdleCallback", "scheduler", "navigation",
                  "ToggleEvent", "CloseWatcher", "CSSStyleSheet"]],
        [Object, ["hasOwn", "groupBy"]],
        [Promise, ["any", "try", "withResolvers"]],
        [String.prototype, ["at", "replaceAll", "isWellFormed"]],
        [Array, ["fromAsync"]],
        [Array.prototype, ["findLast", "findLastIndex", "toReversed", "toSorted", "with"]],
        [AbortSignal, ["any", "timeout"]],
        [AbortSignal.prototype, ["throwIfAborted", "reason"]],
        [Crypto.prototype, ["randomUUID"]],
        [URL, ["canParse", "parse"]],
        [Document.prototype, ["adoptedStyleSheets", "startViewTransition", "prerendering"]],
        [ShadowRoot.prototype, ["adoptedStyleSheets"]],
        [Element.prototype, ["getHTML", "setHTMLUnsafe", "ariaNotify"]],
        [HTMLElement.prototype, ["inert", "popover", "showPopover", "togglePopover"]],
        [HTMLDialogElement.prototype, ["requestClose", "closedBy"]],
        [Navigator.prototype, ["userActivation", "locks"]],
      ]) {
        for (const name of names) delete owner[name];
      }
    """,
}
# These cause errors in the display, which the script reports.
PROVOKED = {"focus", "matches", "computed style"}
NEW_CSS = re.compile(
    r"light-dark\(|:has\(|\d[dls]v[hwib]\b|overflow: clip|: safe |\(width [<>]|color-mix\("
    r"|okl(?:ab|ch)\(|(?:^|\s)&|@layer|@container|@scope|@starting-style|text-wrap|:popover-open"
    r"|field-sizing|interpolate-size|\d(?:cq|lh|cap|ric)\w*\b|:user-(?:in)?valid|anchor-name"
    r"|(?:cos|sin|round|mod)\(|subgrid|content-visibility|transition-behavior|linear\(|@property"
)


@pytest.fixture
def open_embed(visit):
    def open_embed(missing, **options):
        teacher = visit()
        teacher.enter_as("teacher")
        teacher.page.add_init_script(MISSING[missing])
        teacher.expects_errors = missing in PROVOKED
        embed = teacher.open_embeds(options)
        return teacher, embed

    return open_embed


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("display", ["inline", "modal"])
def test_result_is_saved_without(open_embed, announced, missing, display):
    teacher, embed = open_embed(missing, display=display, grace=0.5)
    if display == "modal":
        embed.get_by_role("button", name="Generate an exam").click()
    expect(embed.get_by_role("link", name="Open in a new tab")).to_be_visible()
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]
    if display == "modal":
        embed.get_by_role("button", name="Close").click()
        expect(embed.get_by_text("Finished", exact=True)).to_be_hidden()


def strip_css(css: str) -> str:
    """Return the stylesheet without its conditional rules."""
    kept, depth = [], 0
    for line in css.splitlines():
        if depth or line.startswith(("@supports", "@media (scripting")):
            depth += line.count("{") - line.count("}")
        else:
            kept.append(line)
    return "\n".join(kept)


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_appearance_without_the_newest_css(visit, announced, pictures, display):
    teacher = visit()
    teacher.enter_as("teacher")

    def serve(route):
        response = route.fetch()
        route.fulfill(response=response, body=strip_css(response.text()))

    teacher.page.route("**/embed.css", serve)
    teacher.page.emulate_media(color_scheme="dark")
    embed = teacher.open_embeds({"display": display, "grace": 0.5})
    if display == "modal":
        embed.get_by_role("button").first.click()
    advice = embed.locator("[data-examplary-help]")
    expect(advice).to_be_visible()
    teacher.page.screenshot(path=pictures / f"old-{display}-helpful.png", caret="initial")
    surface = embed.locator("[data-examplary-bar]")
    expect(surface).to_have_css("background-color", "rgb(246, 247, 249)")
    assert embed.locator("iframe").bounding_box()["height"] > 300
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")
    teacher.page.screenshot(path=pictures / f"old-{display}-completed.png", caret="initial")
    panel = embed.locator("[data-examplary-state=completed]")
    expect(panel).to_have_css("background-color", "rgb(255, 255, 255)")
    assert announced == ["session_completed"]


def test_newest_css_is_conditional():
    css = Path(finders.find("django_examplary/embed.css")).read_text(encoding="utf-8")

    assert NEW_CSS.search(css)
    assert not NEW_CSS.search(strip_css(css))
