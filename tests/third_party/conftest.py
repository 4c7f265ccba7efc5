"""Projects based on the quick start, each with another package, in Chromium."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from django_examplary.testing import FakeExamplary, serve
from tests.projects import Manage, start_quick_start

expect.set_options(timeout=60_000)

#: The actions of a visitor on the site of a project.
Visit = Callable[[Manage], AbstractContextManager[Page]]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not path:
        pytest.skip("chromium is not installed. Install it, or set CHROMIUM to its path.")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()


@pytest.fixture
def fake() -> Iterator[FakeExamplary]:
    with serve() as server:
        yield server.fake


@pytest.fixture
def project(tmp_path: Path, fake: FakeExamplary) -> Manage:
    """The project of the quick start before its commands are run."""
    return start_quick_start(tmp_path, fake)


@pytest.fixture
def visit(browser: Browser) -> Visit:
    """Run the site of the project, and open it in a browser."""

    @contextmanager
    def visit(project: Manage) -> Iterator[Page]:
        project.run("check", "--fail-level", "WARNING")
        with project.serve() as address, browser.new_context(base_url=address) as context:
            context.set_default_timeout(60_000)
            yield context.new_page()

    return visit


#: Packages of npm with scripts for pages, and the SHA-512 of version 18.3.1.
REACT = {
    "react": (
        "c12fa1020252851d0a844bcf240adfb8f54dd7e1f3d6dd18ea7e632eb1906e46"
        "f8bab80f13fd11bdefb590c075bffa16807826e1621c57e8bb176a53563fb689"
    ),
    "react-dom": (
        "e66e2740aa7ead945bd3d2cd1f9f463380714e1f76e75ff295b2886e97bb4e91"
        "b17c9fbd92fe812e42c15c88e3b296e06e720136a948db7b519d3593d2c9d423"
    ),
}


@pytest.fixture(scope="session")
def react(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The two scripts of React 18, the last version that needs no build."""
    npm = shutil.which("npm")
    if not npm:
        pytest.skip("npm is not installed.")
    folder = tmp_path_factory.mktemp("react")
    packages = [f"{name}@18.3.1" for name in REACT]
    done = subprocess.run(
        [npm, "pack", *packages], cwd=folder, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch React: {done.stderr}")
    scripts = []
    for name, digest in REACT.items():
        package = folder / f"{name}-18.3.1.tgz"
        assert hashlib.sha512(package.read_bytes()).hexdigest() == digest
        script = folder / f"{name}.production.min.js"
        with tarfile.open(package) as archive:
            member = archive.extractfile(f"package/umd/{script.name}")
            assert member is not None
            script.write_bytes(member.read())
        scripts.append(script)
    return scripts
