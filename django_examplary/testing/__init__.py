"""A fake Examplary for tests and demonstrations.

Production code doesn't use it. It follows the API contract and uses no code of the client, so that
the two cannot share a misunderstanding.
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
