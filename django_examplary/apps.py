from __future__ import annotations

from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_out
from django.core.checks import Tags, register
from django.db.models.signals import post_save, pre_delete
from django.utils.translation import gettext_lazy as _


class DjangoExamplaryConfig(AppConfig):
    name = "django_examplary"
    verbose_name = _("Examplary")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Models can be imported only now.
        from django_examplary import checks, receivers  # noqa: PLC0415  # need models

        register(checks.check_settings, self.name, Tags.security)
        register(checks.check_deployment, self.name, Tags.security, deploy=True)
        register(checks.check_project, self.name)
        register(checks.check_policies, self.name)
        register(checks.check_urls, self.name, Tags.urls)
        # Without the tag of the app, because `check --tag django_examplary` needs no database.
        register(checks.check_migrations, Tags.database)

        # Without a sender, because proxies and children of the user model are senders, too.
        post_save.connect(receivers.revoke_when_user_changes, dispatch_uid=self.name)
        pre_delete.connect(
            receivers.revoke_when_deleted,
            sender=self.get_model("ExamplaryActor"),
            dispatch_uid=self.name,
        )
        user_logged_out.connect(receivers.revoke_when_signed_out, dispatch_uid=self.name)
