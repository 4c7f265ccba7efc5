"""A site that `tests/test_situations.py` sets up in many ways, each in its own process."""

from __future__ import annotations

import importlib
import json
import os
from typing import Any


def visit(situation: dict[str, Any]) -> dict[str, Any]:
    """Set up a site in this process, let a user finish an embed, and return the results."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.situations.settings"
    os.environ["SITUATION"] = json.dumps(situation)
    result: dict[str, Any] = importlib.import_module("tests.situations.journey").finish_embed()
    return result
