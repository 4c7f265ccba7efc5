"""An unusual project: users have a UUID key and no username, other keys are small integers."""

from __future__ import annotations

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS

AUTH_USER_MODEL = "custom_user.User"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = [*INSTALLED_APPS, "tests.custom_user"]
