"""A fake Examplary for tests and demonstrations.

Production code doesn't use it. It is written from the API's contract alone, and uses no code that
knows the API, so that it can't share a misunderstanding with the client.
"""

from __future__ import annotations

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.faults import Fault
from django_examplary.testing.helpers import (
    Embed,
    ExamplaryTestMixin,
    RealExamplaryError,
    Window,
    assert_sent,
    fake_examplary,
    find_embeds,
    open_embed,
    refuse_examplary,
)
from django_examplary.testing.server import serve
from django_examplary.testing.workspace import DEFAULT_API_KEY, Workspace

__all__ = [
    "DEFAULT_API_KEY",
    "Embed",
    "ExamplaryTestMixin",
    "FakeExamplary",
    "Fault",
    "RealExamplaryError",
    "Window",
    "Workspace",
    "assert_sent",
    "fake_examplary",
    "find_embeds",
    "open_embed",
    "refuse_examplary",
    "serve",
]
