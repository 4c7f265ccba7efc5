"""WebKitGTK with the example project. Run it in a display: `xvfb-run pytest tests/webkit`."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Remote, WebKitGTKOptions

from tests import processes
from tests.browser import conftest
from tests.webkit.visitors import Visitor

django_db_modify_db_settings = conftest.django_db_modify_db_settings
examplary = conftest.examplary
school = conftest.school
announced = conftest.announced
pictures = conftest.pictures
authority = conftest.authority
secure_examplary = conftest.secure_examplary
secure_school = conftest.secure_school


def listening_port(process: subprocess.Popen[str]) -> int:
    """Return the port that a process listens on, or 0."""
    files = Path(f"/proc/{process.pid}/fd").glob("*")
    sockets = {os.readlink(file) for file in files}
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        _, address, _, state, *_, inode = line.split()[:10]
        if state == "0A" and f"socket:[{inode}]" in sockets:
            return int(address.partition(":")[2], 16)
    return 0


@contextlib.contextmanager
def run_driver(command: str) -> Iterator[str]:
    """Run the driver while the context lasts, and yield its URL."""
    # The driver chooses a port: a port chosen in advance could be in use.
    with subprocess.Popen([command, "--port=0"], text=True) as process:
        try:
            port = processes.wait_for(lambda: listening_port(process), process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@contextlib.contextmanager
def start_driver(*arguments: str) -> Iterator[Remote]:
    """Run WebKit while the context lasts, or skip the test."""
    command = shutil.which("WebKitWebDriver")
    browsers = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.*/MiniBrowser"))
    if not command or not browsers:
        pytest.skip("WebKitWebDriver is not installed. Install webkit2gtk-driver.")
    if "DISPLAY" not in os.environ:
        pytest.skip("There is no display. Install xvfb, and start the tests with xvfb-run.")
    options = WebKitGTKOptions()
    options.binary_location = str(browsers[-1])
    options.accept_insecure_certs = True
    for argument in ("--automation", *arguments):
        options.add_argument(argument)
    with run_driver(command) as address, Remote(address, options=options) as driver:
        driver.set_window_size(1000, 1000)
        yield driver


@pytest.fixture(scope="session")
def driver() -> Iterator[Remote]:
    with start_driver() as driver:
        yield driver


@pytest.fixture
def visit(driver: Remote, school: str) -> Iterator[Callable[[str], Visitor]]:
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
