"""Who stands for whom at Examplary, and every session that was opened.

Rows are all these models touch: the API is called by the services.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django_examplary.flows import Outputs


class ExamplaryActor(models.Model):
    """The Examplary user that stands for a Django user."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        CLAIMED = "claimed", _("being provisioned")
        ACTIVE = "active", _("active")
        # The API may have made the user, and we do not know its id.
        UNCERTAIN = "uncertain", _("uncertain")
        FAILED = "failed", _("failed")

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="examplary_actor",
        verbose_name=_("user"),
    )
    examplary_id = models.CharField(  # noqa: DJ001  # unique, and unknown in many rows
        _("Examplary id"), max_length=255, unique=True, null=True, editable=False
    )
    state = models.CharField(
        _("state"), max_length=16, choices=State, default=State.PENDING, editable=False
    )
    # Also tells one claim from the next: whoever lost the claim cannot store a result.
    claimed_at = models.DateTimeField(_("claimed at"), null=True, editable=False)
    email = models.EmailField(_("e-mail address, as sent"), blank=True, editable=False)
    name = models.CharField(_("name, as sent"), max_length=100, blank=True, editable=False)
    role = models.CharField(_("role"), max_length=16, blank=True, editable=False)
    last_error = models.CharField(_("last error"), max_length=255, blank=True, editable=False)
    provisioned_at = models.DateTimeField(_("provisioned at"), null=True, editable=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("Examplary actor")
        verbose_name_plural = _("Examplary actors")
        permissions = [
            ("provision_examplaryactor", _("Can provision Examplary actors")),
            ("retry_examplaryactor", _("Can retry failed Examplary actors")),
            ("link_examplaryactor", _("Can link Examplary actors to ids")),
            ("erase_examplaryactor", _("Can erase the Examplary data of users")),
            ("export_examplaryactor", _("Can export Examplary actors")),
        ]

    def __str__(self) -> str:
        return str(self.user)

    @property
    def is_active(self) -> bool:
        return self.state == self.State.ACTIVE


class ExamplarySessionQuerySet(models.QuerySet["ExamplarySession"]):
    def open(self) -> ExamplarySessionQuerySet:
        """Those that can still come to an outcome."""
        return self.filter(status=ExamplarySession.Status.PENDING)

    def for_user(self, user: Any) -> ExamplarySessionQuerySet:
        return self.filter(actor__user=user)


class ExamplarySession(models.Model):
    """One launch of a flow for one actor.

    `examplary_id` and `embed_url` are secrets: whoever has one can work in the session. Fixtures
    (`dumpdata`) leave them out.
    """

    class Status(models.TextChoices):
        # Claimed by a launch that is asking the API for it right now.
        CREATING = "creating", _("being created")
        PENDING = "pending", _("open")
        COMPLETED = "completed", _("completed")
        CANCELLED = "cancelled", _("cancelled")
        CLOSED = "closed", _("closed")
        EXPIRED = "expired", _("expired")
        REVOKED = "revoked", _("revoked")

    #: The only id that a browser ever sees.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    actor = models.ForeignKey(
        ExamplaryActor,
        on_delete=models.SET_NULL,
        null=True,
        related_name="sessions",
        verbose_name=_("actor"),
    )
    examplary_id = models.CharField(  # noqa: DJ001  # unique, and unknown in many rows
        max_length=255, unique=True, null=True, editable=False, serialize=False
    )
    embed_url = models.TextField(blank=True, editable=False, serialize=False)
    flow = models.CharField(_("flow"), max_length=64)
    presets = models.JSONField(_("presets"), default=dict)
    theme = models.JSONField(_("theme"), default=dict)
    metadata = models.JSONField(_("metadata"), default=dict)
    fingerprint = models.CharField(max_length=64, editable=False)
    #: `actor:fingerprint` while the session is handed out, so that the database allows only one.
    open_key = models.CharField(  # noqa: DJ001  # unique, and unknown in many rows
        max_length=128, unique=True, null=True, editable=False
    )
    status = models.CharField(_("status"), max_length=16, choices=Status, default=Status.CREATING)
    #: The `fingerprint` of the client that last met the session at Examplary.
    known_to = models.CharField(max_length=64, blank=True, editable=False, serialize=False)
    remote_status = models.CharField(_("status at Examplary"), max_length=64, blank=True)
    outputs = models.JSONField(_("outputs"), default=dict)
    next_url = models.TextField(_("page to go on to"), blank=True)
    revoke_pending = models.BooleanField(_("still to be revoked"), default=False)
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires at"), null=True)
    ended_at = models.DateTimeField(_("ended at"), null=True)
    verified_at = models.DateTimeField(_("verified at"), null=True)
    #: When the API was last asked about the session, whatever came of it.
    asked_at = models.DateTimeField(null=True, editable=False)

    objects = ExamplarySessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("Examplary session")
        verbose_name_plural = _("Examplary sessions")
        permissions = [
            ("verify_examplarysession", _("Can ask Examplary about sessions")),
            ("revoke_examplarysession", _("Can revoke Examplary sessions")),
            ("view_outputs", _("Can view the outputs of Examplary sessions")),
            ("export_examplarysession", _("Can export Examplary sessions")),
        ]
        indexes = [
            models.Index(fields=["actor", "fingerprint", "created_at"], name="examplary_by_launch"),
            # For the sweep: what to ask about, what to revoke and what to prune.
            models.Index(fields=["status", "asked_at"], name="examplary_by_status"),
            models.Index(fields=["revoke_pending", "asked_at"], name="examplary_by_revocation"),
            models.Index(fields=["ended_at"], name="examplary_by_end"),
        ]

    def __str__(self) -> str:
        return f"{self.flow} ({self.get_status_display()})"

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.PENDING

    def get_outputs(self) -> Outputs:
        """The outputs as the flow's own type."""
        from django_examplary.flows import FLOWS, Outputs  # noqa: PLC0415  # slow, and few need it

        flow = FLOWS.get(self.flow)
        return (flow.outputs_class if flow else Outputs)(self.outputs)

    def lives_for(self, margin: timedelta) -> bool:
        """Whether the session is open and will be for `margin` more."""
        return bool(self.is_open and self.expires_at and self.expires_at > timezone.now() + margin)
