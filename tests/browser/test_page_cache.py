"""Back in Firefox with default settings: a process for each site, and the page cache.

Playwright supports neither, so Marionette drives the browser here.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.support.wait import WebDriverWait

from tests import processes
from tests.browser.conftest import ENGINE, find_browser

marionette_driver = pytest.importorskip("marionette_driver")
pytestmark = [
    pytest.mark.skipif(ENGINE != "firefox", reason="Marionette drives Firefox."),
    # Marionette does not close the sockets with which it waits for the browser.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FIND_EMBED = "document.querySelector('examplary-embed')"
FIND_FRAME = """
const frame = document.querySelector("examplary-embed iframe");
const isSeen = getComputedStyle(frame).visibility === "visible" && frame.clientHeight > 0;
return [frame.contentDocument ? frame.contentDocument.URL : "elsewhere", isSeen];
"""


@pytest.fixture(scope="module", params=[8, 0], ids=["page cache", "no page cache"])
def driver(request, tmp_path_factory):
    instance = marionette_driver.geckoinstance.GeckoInstance.create(
        "fxdesktop",
        bin=find_browser(),
        headless=True,
        gecko_log=str(tmp_path_factory.mktemp("firefox") / "gecko.log"),
        # Firefox chooses a port: a port chosen in advance could be in use.
        port=0,
        prefs={
            "browser.sessionhistory.max_total_viewers": request.param,
            "fission.autostart": True,
        },
    )
    instance.start()
    try:
        chosen = Path(instance.profile.profile, "MarionetteActivePort")
        port = processes.wait_for(lambda: chosen.exists() and chosen.read_text())
        driver = marionette_driver.marionette.Marionette(port=port)
        driver.instance = instance
        driver.has_page_cache = request.param > 0
        driver.raise_for_port(timeout=180)
        driver.start_session()
        yield driver
        driver.cleanup()
    finally:
        instance.close(clean=True)


@pytest.fixture
def visitor(driver, school):
    yield Visitor(driver, school)
    driver.navigate("about:blank")


class Visitor:
    """A user at Firefox, on the page with one embed."""

    def __init__(self, driver, site):
        self.driver = driver
        self.site = site

    def enter_as(self, username):
        """Sign in without the form; without a name, sign out."""
        self.driver.navigate(f"{self.site}/sign-in/")
        self.driver.delete_all_cookies()
        if username:
            client = Client()
            client.force_login(User.objects.get(username=username))
            name = settings.SESSION_COOKIE_NAME
            self.driver.add_cookie({"name": name, "value": client.cookies[name].value})

    def open_embed(self, options, **page):
        query = urlencode({"embed": json.dumps(options), **page})
        self.driver.navigate(f"{self.site}/embeds/?{query}")

    def go_back(self):
        for _ in range(6):
            self.driver.go_back()
            if "/embeds/" in self.driver.get_url():
                return
        raise AssertionError(f"Back leads to {self.driver.get_url()}")

    def run(self, script):
        # A sandbox could not access the methods of the element.
        return self.driver.execute_script(script, sandbox=None)

    @property
    def state(self):
        return self.run(f"return {FIND_EMBED}?.dataset.state")

    def wait(self, condition):
        wait = WebDriverWait(
            self, 60, 0.1, ignored_exceptions=[marionette_driver.errors.MarionetteException]
        )
        wait.until(lambda visitor: condition())

    def wait_for_state(self, state):
        try:
            self.wait(lambda: self.state == state)
        except TimeoutException:
            raise AssertionError(f"The state is {self.state}, not {state}.") from None

    def read_frame(self):
        """Return the text of the page in the frame."""
        frame = self.driver.find_element("css selector", "examplary-embed iframe")
        self.driver.switch_to_frame(frame)
        try:
            # None while the frame goes from one page to another.
            return self.run("return document.body?.innerText") or ""
        finally:
            self.driver.switch_to_default_content()


@pytest.mark.parametrize(
    ("load", "second"),
    [("eager", "student"), ("eager", ""), ("lazy", "student"), ("click", "student")],
)
@pytest.mark.parametrize("cache", ["", "no-store"])
def test_embed_of_earlier_user_is_hidden(visitor, load, second, cache):
    visitor.enter_as("teacher")
    visitor.open_embed({"load": load}, cache=cache)
    if load == "click":
        visitor.run(f"{FIND_EMBED}.open()")
    visitor.wait_for_state("loaded")
    assert "Maya Lindqvist" in visitor.read_frame()
    visitor.enter_as(second)
    visitor.driver.navigate(f"{visitor.site}/sign-in/?later")
    visitor.go_back()

    if not second and (cache or not visitor.driver.has_page_cache):
        assert visitor.run(f"return {FIND_EMBED}") is None
        return
    from_cache = visitor.driver.has_page_cache and not cache
    expected = "stale" if from_cache else "idle" if load == "click" else "loaded"
    visitor.wait_for_state(expected)
    for _ in range(10):
        assert "Maya Lindqvist" not in visitor.read_frame()
    if from_cache:
        visitor.wait(lambda: visitor.run(FIND_FRAME) == ["about:blank", False])
    elif load != "click":
        assert "Sam Okafor" in visitor.read_frame()
