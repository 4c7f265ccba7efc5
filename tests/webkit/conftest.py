"""WebKitGTK with the example project. Run it in a display: `xvfb-run pytest tests/webkit`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import WebKitGTK, WebKitGTKOptions
from selenium.webdriver.webkitgtk.service import Service

from tests.browser import conftest
from tests.webkit.visitors import Visitor

django_db_modify_db_settings = conftest.django_db_modify_db_settings
examplary = conftest.examplary
school = conftest.school
announced = conftest.announced
pictures = conftest.pictures


@pytest.fixture(scope="session")
def driver() -> Iterator[WebKitGTK]:
    command = shutil.which("WebKitWebDriver")
    browsers = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if not command or not browsers:
        pytest.skip("WebKitWebDriver is not installed. Install webkit2gtk-driver.")
    if "DISPLAY" not in os.environ:
        pytest.skip("There is no display. Install xvfb, and start the tests with xvfb-run.")
    options = WebKitGTKOptions()
    options.binary_location = str(browsers[-1])
    options.add_argument("--automation")
    driver = WebKitGTK(options=options, service=Service(command))
    driver.set_window_size(1000, 1000)
    yield driver
    driver.quit()


@pytest.fixture
def visit(driver: WebKitGTK, school: str) -> Iterator[Callable[[str], Visitor]]:
    """Sign a user in; the tests share one window."""

    def visit(username: str) -> Visitor:
        visitor = Visitor(driver, school)
        visitor.enter_as(username)
        return visitor

    yield visit
    driver.switch_to.default_content()
    driver.get("about:blank")


@pytest.fixture
def teacher(visit: Callable[[str], Visitor]) -> Visitor:
    return visit("teacher")
