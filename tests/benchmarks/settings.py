"""A site as in production: no DEBUG, sessions, users and persistent connections."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

ROOT_URLCONF = "tests.benchmarks.views"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.benchmarks"]

default: dict[str, Any] = {**DATABASES["default"], "CONN_MAX_AGE": None}
DATABASES = {"default": default}
if "BENCHMARK_DATABASES" in os.environ:
    # A second database to compare with.
    name = default.get("TEST", {}).get("NAME")
    second = Path(name).with_suffix(".second") if name else f"test_{default['NAME']}_second"
    DATABASES["second"] = {**default, "TEST": {"NAME": str(second)}}
    DATABASE_ROUTERS = ["tests.benchmarks.databases.Router"]
