from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend

from tests.situations.models import Teacher


class ProxyBackend(ModelBackend):
    """Signs users in as instances of a proxy model."""

    def get_user(self, user_id: Any) -> Any:
        return Teacher._default_manager.filter(pk=user_id).first()
