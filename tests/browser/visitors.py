from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

from axe_playwright_python.base import AxeResults
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import FrameLocator, Locator, Page, expect

from tests.processes import wait_for

# Chromium's own report of a violation does not include its location.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`${event.effectiveDirective} forbids ${event.blockedURI} in ${document.URL}`);
});
"""

# Returns the visibility of the frame as the wait for the script begins, and as it ends.
WAIT_FOR_SCRIPT = """
(embed) => {
  const look = () => getComputedStyle(embed.querySelector("iframe")).visibility;
  embed.style.animation = "none";
  look();
  embed.style.animation = "";
  const atFirst = look();
  embed.getAnimations().forEach((animation) => animation.finish());
  return [atFirst, look()];
}
"""

# Returns where the focus is: the text or the tag of the element, also in a shadow tree.
FOCUSED = """
(() => {
  let focused = document.activeElement;
  while (focused.shadowRoot?.activeElement) focused = focused.shadowRoot.activeElement;
  return focused.innerText?.trim() || focused.localName;
})()
"""
# Returns which element of a frame has the focus; -1 if the frame itself has none.
FOCUSED_IN_FRAME = """
(() => document.hasFocus() ? [...document.all].indexOf(document.activeElement) : -1)()
"""

AXE = Axe()
WIDTHS = (320, 1000)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@dataclass
class Visitor:
    """A user of a browser, with the errors that the browser reports."""

    page: Page
    site: str
    errors: list[str] = field(default_factory=list)
    #: Whether the test causes errors on purpose. Some arrive after the test, so it cannot clear
    #: the list.
    expects_errors: bool = False

    def __post_init__(self) -> None:
        # Set on the context, so that it also applies to new tabs.
        self.page.context.set_default_timeout(60_000)
        self.page.add_init_script(REPORT_VIOLATIONS)
        self.page.on("pageerror", lambda error: self._record(str(error)))
        self.page.on("console", self._listen)

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self._record(f"{message.text} ({message.location['url']})")

    def _record(self, error: str) -> None:
        # Playwright adds a style for screenshots. The runs in Chromium find styles of the site.
        if os.environ.get("ENGINE") != "firefox" or "style-src-elem" not in error:
            self.errors.append(error)

    def sign_in(self, username: str) -> None:
        self.page.goto(self.site)
        self.page.get_by_label("Username").fill(username)
        self.page.get_by_label("Password").fill("demo")
        with self.page.expect_navigation():
            self.page.get_by_role("button", name="Sign in").click()

    def enter_as(self, username: str) -> None:
        """Sign in without the form."""
        client = Client()
        client.force_login(User.objects.get(username=username))
        name = settings.SESSION_COOKIE_NAME
        value = client.cookies[name].value
        self.page.context.add_cookies([{"name": name, "value": value, "url": self.site}])

    def open_embeds(
        self,
        *options: dict[str, Any],
        wait_until: Literal["load", "commit"] = "load",
        **page: str,
    ) -> Locator:
        """Go to a page with embeds; each has the options of the tag, with defaults.

        `page` contains the other parameters of `tests.browser.urls.embeds`.
        """
        embeds = [json.dumps(each) for each in options]
        query = urlencode({"embed": embeds, **page}, doseq=True)
        self.page.goto(f"{self.site}/embeds/?{query}", wait_until=wait_until)
        return self.page.locator("examplary-embed")

    def follow(self, *names: str) -> None:
        """Click links and buttons one after the other, each on the page that follows."""
        for name in names:
            link = self.page.get_by_role("link", name=name, exact=True)
            target = link.or_(self.page.get_by_role("button", name=name, exact=True))
            # The previous click may have loaded another page, whose script replaces links with
            # buttons.
            target.wait_for()
            self.page.wait_for_load_state()
            target.click()
        self.page.wait_for_load_state()

    @property
    def embed(self) -> FrameLocator:
        return self.page.frame_locator("examplary-embed iframe")

    def press(self, action: str) -> None:
        """Press "complete" or "cancel" inside the embed."""
        # Before this state the scripts of page and frame may not have run.
        ready = re.compile("^(loaded|ready)$")
        expect(self.page.locator("examplary-embed")).to_have_attribute("data-state", ready)
        self.embed.locator(f"[data-examplary-action={action}]").click()

    def press_tab(self, key: str = "Tab") -> None:
        """Press Tab, and wait until the focus has moved within the page or its last frame."""
        places = [(self.page.main_frame, FOCUSED), (self.page.frames[-1], FOCUSED_IN_FRAME)]

        def look() -> list[Any]:
            return [frame.evaluate(script) for frame, script in places]

        before = look()
        self.page.keyboard.press(key)
        wait_for(lambda: look() != before)

    def audit(self, pictures: Path) -> list[str]:
        """Check the page at every width and color scheme; return the violations that axe finds."""
        found = []
        self.page.evaluate(AXE.axe_script)
        for scheme in SCHEMES:
            self.page.emulate_media(color_scheme=scheme)
            # The preload of axe would add inline styles, which the policy forbids.
            options: dict[str, Any] = {"iframes": False, "preload": False}
            if scheme == "dark":
                # Only the colours differ.
                options["runOnly"] = ["color-contrast"]
            for width in WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 640})
                path = f"{pictures}-{width}-{scheme}.png"
                # Playwright hides the caret with a style that the policy forbids.
                self.page.screenshot(path=path, caret="initial")
                assert self.page.evaluate("document.scrollingElement.scrollWidth") <= width
                results = AxeResults(self.page.evaluate("options => axe.run(options)", options))
                found += [results.generate_report()] if results.violations_count else []
        return found
