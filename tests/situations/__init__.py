"""A site that `tests/test_situations.py` sets up in many ways, each in a process of its own."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any


def visit(situation: dict[str, Any]) -> dict[str, Any]:
    """Set a site up in this process, and return what happened when a user finished an embed."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.situations.settings"
    os.environ["SITUATION"] = json.dumps(situation)
    result: dict[str, Any] = importlib.import_module("tests.situations.journey").finish_embed()
    return result
