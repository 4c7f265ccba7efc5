"""Fixtures: a school, its visitors, and a fake Examplary."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from playwright.sync_api import Browser, BrowserType, expect, sync_playwright

from django_examplary import signals
from django_examplary.testing import FakeExamplary, serve
from tests.browser import production
from tests.browser.hostile import HostileExamplary
from tests.browser.visitors import Visitor

# Playwright runs an event loop in this thread, so Django considers it asynchronous.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

# A busy machine needs long if two browsers share two cores.
expect.set_options(timeout=60_000)

ENGINE = os.environ.get("ENGINE", "chromium")
COMMANDS = {"chromium": "chromium", "firefox": "firefox-esr"}

OPTIONS: dict[str, dict[str, Any]] = {
    "chromium": {"args": ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]},
    "firefox": {
        # The Firefox of Debian, controlled by the protocol that Firefox itself implements.
        "channel": "moz-firefox",
        "firefox_user_prefs": {
            # Playwright supports neither frames in their own process nor the page cache.
            "fission.autostart": False,
            "browser.sessionhistory.max_total_viewers": 0,
            # Playwright cannot emulate color schemes here: `dark` is for screenshots.
            "layout.css.prefers-color-scheme.content-override": int(
                os.environ.get("COLOR_SCHEME") != "dark"
            ),
        },
    },
}


# Playwright does not scroll to elements in a frame in Firefox, so the window shows all of it.
VIEWPORTS = {
    "chromium": {"width": 1280, "height": 720},
    "firefox": {"width": 1280, "height": 1100},
}

_NO_SCRIPT = "Playwright cannot switch off JavaScript in the Firefox of Debian."
_NO_CDP = "Firefox has no Chrome DevTools protocol, which counts the listeners."
_NO_MEDIA = "Playwright cannot emulate this medium in the Firefox of Debian."
_NO_STOP = "Playwright cannot leave a page of Firefox that is still loading."
_NO_BYPASS = "Playwright cannot bypass a Content-Security-Policy in the Firefox of Debian."
_NO_CHROME_KEYS = (
    "Tab leads from the dialog to the controls of Firefox, where the page cannot follow it."
)
_ENOUGH = "Firefox shows each state in one language; Chromium shows it in every language."
UNSUPPORTED: dict[str, dict[str, str]] = {
    "chromium": {},
    "firefox": {
        "test_back.py::test_page_left_while_loading_launches_again": _NO_STOP,
        "test_element.py::test_link_completes_the_flow_without_javascript": _NO_SCRIPT,
        "test_element.py::test_page_is_printed_with_its_embed": _NO_MEDIA,
        "test_element.py::test_removed_embed_leaves_no_timers_or_listeners": _NO_CDP,
        "test_element.py::test_tab_order_modal": _NO_CHROME_KEYS,
        "test_flows.py::test_generate_exam_without_the_script[False]": _NO_SCRIPT,
        "test_safety.py::test_message_of_another_source_is_ignored": _NO_BYPASS,
        "test_flows.py::test_without_javascript": _NO_SCRIPT,
        "test_waiting.py::test_link_without_javascript": _NO_SCRIPT,
        "test_states.py::test_everything_is_reachable_at_400_percent_zoom[modal]": _NO_CHROME_KEYS,
        "test_states.py::test_gallery[inline-nl]": _ENOUGH,
        "test_states.py::test_gallery[modal-nl]": _ENOUGH,
        "test_states.py::test_colours_of_the_page_are_used": _NO_MEDIA,
        "test_states.py::test_forced_colours": _NO_MEDIA,
        "test_states.py::test_reduced_motion_is_respected": _NO_MEDIA,
        "test_unscripted.py::test_done_in_a_form_without_javascript": _NO_SCRIPT,
        "test_unscripted.py::test_dialog_in_a_form_without_javascript": _NO_SCRIPT,
        "test_unscripted.py::test_appearance_without_javascript": _NO_SCRIPT,
        "test_back.py::test_embed_of_earlier_user_is_hidden_without_javascript": _NO_SCRIPT,
    },
}

authority = production.authority
secure_examplary = production.secure_examplary
secure_school = production.secure_school


def find_browser() -> str:
    """Return the path of the browser, or skip the test."""
    name = COMMANDS[ENGINE]
    path = os.environ.get(ENGINE.upper()) or shutil.which(name)
    if not path:
        pytest.skip(f"{name} is not installed. Install it, or set {ENGINE.upper()} to its path.")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that the driver of the engine does not support."""
    for item in items:
        for name, reason in UNSUPPORTED[ENGINE].items():
            if item.nodeid.split("/")[-1].startswith(name):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def engine() -> Iterator[BrowserType]:
    with sync_playwright() as playwright:
        yield getattr(playwright, ENGINE)


@pytest.fixture(scope="session")
def browser(engine: BrowserType) -> Iterator[Browser]:
    browser = engine.launch(executable_path=find_browser(), **OPTIONS[ENGINE])
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    # A file, so that each thread of the server has its own connection.
    name = tmp_path_factory.mktemp("database") / "db.sqlite3"
    connection.settings_dict["TEST"]["NAME"] = str(name)


@pytest.fixture
def examplary(settings: Any) -> Iterator[FakeExamplary]:
    with serve(HostileExamplary(staging=True)) as server:
        # Embeds over http are allowed in development only.
        settings.DEBUG = True
        settings.ROOT_URLCONF = "tests.browser.urls"
        settings.EXAMPLARY_API_KEY = server.fake.api_key
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [server.url]
        # The test page also embeds content that the example project refuses.
        settings.EXAMPLARY_AUTHORIZE = None
        yield server.fake


@pytest.fixture
def school(examplary: FakeExamplary, live_server: Any, settings: Any) -> str:
    """The address of the example project, with its demonstration data."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("seed")
    address: str = live_server.url
    return address


@pytest.fixture
def visit(browser: Browser, school: str) -> Iterator[Callable[..., Visitor]]:
    """Open a browser context for a visitor, and fail if it reports unexpected errors."""
    visitors = []

    def visit(username: str = "", **options: Any) -> Visitor:
        options = {"viewport": VIEWPORTS[ENGINE], **options}
        visitor = Visitor(browser.new_context(**options).new_page(), school)
        visitors.append(visitor)
        if username:
            visitor.sign_in(username)
        return visitor

    yield visit
    for visitor in visitors:
        visitor.page.context.close()
    assert [each.errors for each in visitors if each.errors and not each.expects_errors] == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder for screenshots: SCREENSHOTS, or a temporary folder."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))


@pytest.fixture
def announced() -> Iterator[list[str]]:
    """The names of the session signals that were sent."""
    names: list[str] = []
    receivers = {
        name: lambda name=name, **kwargs: names.append(name)
        for name in ("session_completed", "session_cancelled", "session_closed")
    }
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    yield names
    for name, receiver in receivers.items():
        getattr(signals, name).disconnect(receiver)
