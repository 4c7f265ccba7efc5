from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.core.checks import Tags, register
from django.db.models.signals import post_save, pre_delete
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _


class DjangoExamplaryConfig(AppConfig):
    name = "django_examplary"
    verbose_name = _("Examplary")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        register(_lazy("checks.check_settings"), self.name, Tags.security)
        register(_lazy("checks.check_deployment"), self.name, Tags.security, deploy=True)
        register(_lazy("checks.check_project"), self.name)
        register(_lazy("checks.check_policies"), self.name)
        register(_lazy("checks.check_urls"), self.name, Tags.urls)
        # Not by name: `check --tag django_examplary` needs no database.
        register(_lazy("checks.check_migrations"), Tags.database)

        for signal, receiver, sender in (
            # Any sender: proxies and children of the user model send the signal themselves.
            (post_save, "receivers.revoke_when_deactivated", None),
            (pre_delete, "receivers.revoke_when_deleted", self.get_model("ExamplaryActor")),
            (user_logged_out, "receivers.revoke_when_signed_out", None),
        ):
            signal.connect(_lazy(receiver), sender, weak=False, dispatch_uid=self.name)


def _lazy(path: str) -> Callable[..., Any]:
    """Return a function that imports its module at the first call.

    Importing `checks` and `receivers`, and so all services, would add 20 % to `django.setup()`.
    Most processes run no checks, and many save no user.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return import_string(f"django_examplary.{path}")(*args, **kwargs)

    return call
