"""The settings of the tests, changed by the environment variable SITUATION."""

from __future__ import annotations

import json
import os

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS, SQLITE

DATABASES = {"default": SQLITE}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL = "/embed/"

globals().update(json.loads(os.environ["SITUATION"]))

# Create tables from the models, which is much faster.
MIGRATION_MODULES = {app.rpartition(".")[2]: None for app in INSTALLED_APPS}
