"""Fixtures for pytest. In the `conftest.py` at the root of a project::

pytest_plugins = ["django_examplary.testing.fixtures"]
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_examplary.testing import helpers
from django_examplary.testing.fake import FakeExamplary


@pytest.fixture(autouse=True, scope="session")
def refuse_examplary() -> Iterator[None]:
    """Refuse calls to the real Examplary in every test, with any settings."""
    with helpers.refuse_examplary():
        yield


@pytest.fixture
def fake_examplary() -> Iterator[FakeExamplary]:
    """Run a fake for a test, and point the settings to it."""
    with helpers.fake_examplary() as fake:
        yield fake


@pytest.fixture
def browser_examplary() -> Iterator[FakeExamplary]:
    """Run a fake whose embeds a browser can open, for a test with a live server."""
    with helpers.fake_examplary(browser=True) as fake:
        yield fake
