"""Every admin page under common admin themes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from tests.themes.pages import PAGES, POSTED
from tests.themes.render import THEMES


@pytest.fixture(scope="module", params=THEMES)
def faults(request: pytest.FixtureRequest) -> dict[str, list[str]]:
    """The faults of every page under one theme."""
    theme: str = request.param
    app = THEMES[theme][0][0]
    if find_spec(app) is None:
        pytest.skip(f"{app} is not installed: run tox -e admin-themes.")
    run = subprocess.run(
        [sys.executable, "-m", "tests.themes.render", theme],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found: dict[str, Any] = json.loads(run.stdout)
    return found


@pytest.mark.parametrize("url", [*PAGES, *POSTED])
def test_page_renders_with_its_buttons(faults, url):
    assert faults[url] == [], "\n".join(faults[url])
