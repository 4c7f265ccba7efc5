from __future__ import annotations

import functools
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, register
from django.utils.translation import gettext_lazy as _


class DjangoExamplaryConfig(AppConfig):
    name = "django_examplary"
    verbose_name = _("Examplary")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_examplary import receivers  # noqa: PLC0415  # models are loaded only now

        for name, tags in (
            ("check_settings", [Tags.security]),
            ("check_project", []),
            ("check_urls", [Tags.urls]),
        ):
            register(functools.partial(_check, name), self.name, *tags)
        register(
            functools.partial(_check, "check_deployment"), self.name, Tags.security, deploy=True
        )
        receivers.connect()


def _check(name: str, **kwargs: Any) -> list[CheckMessage]:
    """Run one of our checks."""
    from django_examplary import checks  # noqa: PLC0415  # slow, and servers do not check

    messages: list[CheckMessage] = getattr(checks, name)(**kwargs)
    return messages
