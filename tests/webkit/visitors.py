from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Remote
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.browser.visitors import WIDTHS

# The visible panel or help line, the dialog, and the opener.
FIND_CONTROL = """
const [selector, text] = arguments;
const embed = document.querySelector("examplary-embed");
return [...embed.shadowRoot.querySelectorAll(selector)].find(
  (part) => part.getClientRects().length && (!text || part.textContent.trim() === text));
"""


class Visitor:
    """A user of WebKit, on a page with one embed."""

    def __init__(self, driver: Remote, site: str) -> None:
        self.driver = driver
        self.site = site

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Return the first true value of the condition, which may fail while a page loads."""
        wait = WebDriverWait(self.driver, 60, 0.1, ignored_exceptions=[WebDriverException])
        return wait.until(lambda driver: condition())

    def wait_for(self, by: str, value: str) -> WebElement:
        """Return the first element of the page or frame that matches."""
        element: WebElement = self.wait(lambda: self.driver.find_element(by, value))
        return element

    def enter_as(self, username: str) -> None:
        """Sign in without the form."""
        client = Client()
        client.force_login(User.objects.get(username=username))
        name = settings.SESSION_COOKIE_NAME
        if not self.driver.current_url.startswith(self.site):
            # Cookies can only be set for the site of the page.
            self.driver.get(f"{self.site}/sign-in/")
        self.driver.delete_all_cookies()
        self.driver.add_cookie({"name": name, "value": client.cookies[name].value})

    def sign_in(self, username: str) -> None:
        self.driver.get(self.site)
        self.wait_for("name", "username").send_keys(username)
        self.wait_for("name", "password").send_keys("demo")
        self.click_on_page("css selector", "main form button")

    def open_embed(self, options: dict[str, Any] | None = None, **page: str) -> None:
        """Go to a page with this embed; see `tests.browser.urls.embeds`."""
        query = urlencode({"embed": json.dumps(options or {}), **page})
        self.driver.get(f"{self.site}/embeds/?{query}")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    @property
    def state(self) -> Any:
        return self.run("return document.querySelector('examplary-embed').dataset.state")

    def expect_state(self, state: str) -> None:
        try:
            self.wait(lambda: self.state == state)
        except WebDriverException:
            raise AssertionError(f"The state is {self.state}, not {state}.") from None

    def find(self, selector: str, text: str = "") -> WebElement:
        """Return a visible part of the embed's shadow tree."""
        element: WebElement = self.wait(lambda: self.run(FIND_CONTROL, selector, text))
        return element

    def is_seen(self, selector: str) -> bool:
        return self.run(FIND_CONTROL, selector, "") is not None

    def click(self, selector: str, text: str = "") -> None:
        self.find(selector, text).click()

    def picture(self, path: Path) -> None:
        """Take a screenshot at every width; GTK_THEME=Adwaita:dark selects dark colours."""
        size = self.driver.get_window_size()
        for width in WIDTHS:
            self.driver.set_window_size(width, size["height"])
            # Wait for the layout of the page and its frame. The smallest window is 447 px wide.
            self.driver.execute_async_script("setTimeout(arguments[0], 500)")
            self.driver.save_screenshot(f"{path}-{width}.png")
            assert self.run("return document.scrollingElement.scrollWidth <= innerWidth")
        self.driver.set_window_size(size["width"], size["height"])

    def in_frame(self, action: Callable[[], Any]) -> Any:
        """Run an action in the frame, and return to the page."""
        self.driver.switch_to.frame(self.wait_for("css selector", "examplary-embed iframe"))
        try:
            return action()
        finally:
            self.driver.switch_to.default_content()

    def press(self, action: str) -> None:
        """Press "complete" or "cancel" inside the embed."""
        # Before this state the scripts of page and frame may not have run.
        self.wait(lambda: self.state in ("loaded", "ready"))
        selector = f"[data-examplary-action={action}]"
        self.in_frame(lambda: self.wait_for("css selector", selector).click())

    def follow(self, *names: str) -> None:
        """Click links and buttons of the page by their text."""
        for name in names:
            path = f"//a[normalize-space()='{name}'] | //button[normalize-space()='{name}']"
            self.click_on_page("xpath", path)

    def click_on_page(self, by: str, value: str) -> None:
        """Click an element of the page after its load event: an earlier click may be lost."""
        element = self.wait_for(by, value)
        self.wait(lambda: self.run("return document.readyState") == "complete")
        element.click()
