"""The Examplary user of each Django user, and every embed session that was opened.

These models only touch rows. The services call the API.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import F, Q, Window
from django.db.models.functions import Coalesce, Now, RowNumber
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_examplary.fields import PlainTextField, SecretField
from django_examplary.flows import FLOWS, Flow, Outputs, flow_name

if TYPE_CHECKING:
    from django.db.models.fields.related_descriptors import RelatedManager

    # For type checkers without a plugin for Django.
    Identifier = models.UUIDField[uuid.UUID, uuid.UUID]
    JSON = models.JSONField[Any, Any]
    Text = models.CharField[str, str]
    OptionalText = models.CharField[str | None, str | None]
    Time = models.DateTimeField[datetime, datetime]
    OptionalTime = models.DateTimeField[datetime | None, datetime | None]

#: The alias of the workspace that the flat settings describe.
DEFAULT_WORKSPACE = "default"
#: The documented lifetime of a session. Longer ones of the API are shortened.
LIFETIME = timedelta(days=7)
#: A session with less time left than this is not reused.
MARGIN = timedelta(hours=1)


class DatabaseNow(Now):
    """The clock of the database server, which all processes and machines share."""

    def as_mysql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        # CURRENT_TIMESTAMP follows the time zone of the connection, with daylight saving time.
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra)


class ExamplaryActorQuerySet(models.QuerySet["ExamplaryActor"]):
    def claimable(self) -> ExamplaryActorQuerySet:
        """Return the actors that no caller is provisioning."""
        State = ExamplaryActor.State
        return self.filter(
            Q(state__in=[State.PENDING, State.FAILED])
            | Q(state__in=[State.CLAIMED, State.UNCERTAIN], lapses_at__lt=DatabaseNow())
        )

    def claimed_with(self, token: str) -> ExamplaryActorQuerySet:
        return self.filter(state=ExamplaryActor.State.CLAIMED, claim_token=token)


class ExamplaryActor(models.Model):
    """The Examplary user that represents a Django user."""

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        CLAIMED = "claimed", _("being provisioned")
        ACTIVE = "active", _("active")
        # The API may have created the user, but its id is unknown.
        UNCERTAIN = "uncertain", _("uncertain")
        FAILED = "failed", _("failed")

    user: models.OneToOneField[Any, Any] = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="examplary_actor",
        verbose_name=_("user"),
    )
    workspace: Text = models.CharField(
        _("workspace"), max_length=64, default=DEFAULT_WORKSPACE, editable=False
    )
    # Unique, and unknown in many rows.
    examplary_id: OptionalText = models.CharField(  # noqa: DJ001  # unique
        _("Examplary id"), max_length=255, unique=True, null=True, editable=False
    )
    state: Text = models.CharField(
        _("state"), max_length=16, choices=State, default=State.PENDING, editable=False
    )
    #: Identifies the caller that provisions this actor. Only that caller can store a result.
    claim_token: Text = models.CharField(max_length=32, blank=True, editable=False)
    #: When the claim ends, by the clock of the database.
    lapses_at: OptionalTime = models.DateTimeField(null=True, editable=False)
    #: Sent with `POST /users`. It stays the same until the outcome of the request is known.
    idempotency_key: Identifier = models.UUIDField(default=uuid.uuid4, editable=False)
    email: Text = models.EmailField(_("e-mail address, as sent"), blank=True, editable=False)
    name: Text = PlainTextField(_("name, as sent"), max_length=100, blank=True, editable=False)
    role: Text = models.CharField(_("role"), max_length=16, blank=True, editable=False)
    last_error: Text = PlainTextField(_("last error"), max_length=255, blank=True, editable=False)
    provisioned_at: OptionalTime = models.DateTimeField(
        _("provisioned at"), null=True, editable=False
    )
    created_at: Time = models.DateTimeField(_("created at"), default=timezone.now, editable=False)
    updated_at: Time = models.DateTimeField(_("updated at"), auto_now=True)

    objects = ExamplaryActorQuerySet.as_manager()

    #: Whether an earlier `POST /users` was not answered. Set by the claim, and not stored.
    is_repeat = False

    if TYPE_CHECKING:
        sessions: RelatedManager[ExamplarySession]

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

    def set_user(self, user: Any) -> None:
        """Set the user, even if a router has read the user from another database.

        Django would refuse `actor.user = user`, unless a router allows the relation.
        """
        self.user_id = user.pk
        self._state.fields_cache["user"] = user

    @property
    def is_active(self) -> bool:
        return self.state == self.State.ACTIVE


class ExamplarySessionQuerySet(models.QuerySet["ExamplarySession"]):
    def open(self) -> ExamplarySessionQuerySet:
        """Return the sessions without an outcome."""
        return self.filter(status=ExamplarySession.Status.PENDING)

    def for_user(self, user: Any) -> ExamplarySessionQuerySet:
        # A visitor has no primary key. Sessions without an actor belong to deleted users.
        if getattr(user, "pk", user) is None:
            return self.none()
        return self.filter(actor__user=user)

    def for_key(self, key: str) -> ExamplarySessionQuerySet:
        """Return the sessions of a launch, by `Launch.key`: a fingerprint or a session id."""
        try:
            return self.filter(pk=uuid.UUID(key))
        except ValueError:
            return self.filter(fingerprint=key)

    def abandoned(self) -> ExamplarySessionQuerySet:
        """Return expired claims, whose process died or whose request was not answered."""
        return self.filter(status=ExamplarySession.Status.CREATING, lapses_at__lt=DatabaseNow())

    def due(self) -> ExamplarySessionQuerySet:
        """Return the sessions that a sweep must verify, the longest waiting first.

        Sessions older than a day rarely get an outcome, so they are due once an hour. The sessions
        are interleaved by user, so that the sessions of one user do not delay the others.
        """
        now = timezone.now()
        open_ = Q(status=ExamplarySession.Status.PENDING) & (
            Q(asked_at=None)
            | Q(asked_at__lt=now - timedelta(hours=1))
            | Q(created_at__gt=now - timedelta(days=1))
            | Q(expires_at__lte=now)
        )
        revocable = Q(revoke_pending=True, created_at__gte=now - LIFETIME)
        waiting_since = Coalesce("asked_at", "created_at")
        return (
            self.filter(open_ | revocable)
            .annotate(
                waiting_since=waiting_since,
                turn=Window(RowNumber(), partition_by=F("actor"), order_by=waiting_since.asc()),
            )
            .order_by("turn", "waiting_since")
        )

    def unannounced(self) -> ExamplarySessionQuerySet:
        """Return ended sessions whose signal was not recorded as sent, because the process died."""
        status = ExamplarySession.Status
        return self.filter(
            status__in=[status.COMPLETED, status.CANCELLED, status.CLOSED],
            announced_at=None,
            lapses_at__lt=DatabaseNow(),
        )

    def prunable(self, days: float | None) -> ExamplarySessionQuerySet:
        """Return the sessions that ended more than `days` days ago; with None, none."""
        if days is None:
            return self.none()
        status = ExamplarySession.Status
        ended = self.exclude(status__in=[status.CREATING, status.PENDING])
        return ended.filter(
            ended_at__lt=timezone.now() - timedelta(days=days),
            revoke_pending=False,
            # Without the row that records its use, a one-time link would work again.
            ticket__lt=int((timezone.now() - MARGIN).timestamp()) * 10**9,
        )


class ExamplarySession(models.Model):
    """One launch of a flow for one actor.

    `examplary_id` and `embed_url` are secrets: each of them opens the session. They are `Secret`
    objects; read their `value`.
    """

    class Status(models.TextChoices):
        # Claimed by a launch that is requesting the session from the API.
        CREATING = "creating", _("being created")
        PENDING = "pending", _("open")
        COMPLETED = "completed", _("completed")
        CANCELLED = "cancelled", _("cancelled")
        CLOSED = "closed", _("closed")
        EXPIRED = "expired", _("expired")
        REVOKED = "revoked", _("revoked")

    #: The only id that a browser ever receives.
    id: Identifier = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    actor: models.ForeignKey[ExamplaryActor | None, ExamplaryActor | None] = models.ForeignKey(
        ExamplaryActor,
        on_delete=models.SET_NULL,
        null=True,
        related_name="sessions",
        verbose_name=_("actor"),
    )
    workspace: Text = models.CharField(_("workspace"), max_length=64, default=DEFAULT_WORKSPACE)
    examplary_id = SecretField(max_length=255, unique=True, null=True)
    #: An origin and at most 2,000 characters; see `origins`.
    embed_url = SecretField(max_length=2500, blank=True)
    flow: Text = models.CharField(_("flow"), max_length=64)
    presets: JSON = models.JSONField(_("presets"), default=dict)
    theme: JSON = models.JSONField(_("theme"), default=dict)
    metadata: JSON = models.JSONField(_("metadata"), default=dict)
    fingerprint: Text = models.CharField(max_length=64, editable=False)
    #: The fingerprint of the launch while the session is reusable; unique in the database.
    # Unique, and unknown in many rows.
    open_key: OptionalText = models.CharField(  # noqa: DJ001  # unique
        max_length=64, unique=True, null=True, editable=False
    )
    #: The newest one-time link that opened the session. This and older links no longer work.
    ticket: models.BigIntegerField[int, int] = models.BigIntegerField(default=0, editable=False)
    status: Text = models.CharField(
        _("status"), max_length=16, choices=Status, default=Status.CREATING
    )
    #: Identifies the caller that opens the session, or that ended it and sends the signal.
    claim_token: Text = models.CharField(max_length=32, blank=True, editable=False, serialize=False)
    #: When the claim on a session ends, by the clock of the database.
    lapses_at: OptionalTime = models.DateTimeField(null=True, editable=False, serialize=False)
    remote_status: Text = PlainTextField(_("status at Examplary"), max_length=64, blank=True)
    outputs: JSON = models.JSONField(_("outputs"), default=dict)
    next_url: models.TextField[str, str] = models.TextField(_("page to continue to"), blank=True)
    revoke_pending: models.BooleanField[bool, bool] = models.BooleanField(
        _("still to be revoked"), default=False
    )
    created_at: Time = models.DateTimeField(_("created at"), default=timezone.now)
    expires_at: OptionalTime = models.DateTimeField(_("expires at"), null=True)
    ended_at: OptionalTime = models.DateTimeField(_("ended at"), null=True)
    verified_at: OptionalTime = models.DateTimeField(_("verified at"), null=True)
    #: Time of the last call for the session, with any outcome.
    asked_at: OptionalTime = models.DateTimeField(null=True, editable=False)
    #: When the signal about the session's end was sent.
    announced_at: OptionalTime = models.DateTimeField(null=True, editable=False)

    # For type checkers without a plugin for Django, which do not know the methods of this manager.
    objects: ClassVar[ExamplarySessionQuerySet] = ExamplarySessionQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("Examplary session")
        verbose_name_plural = _("Examplary sessions")
        permissions = [
            ("verify_examplarysession", _("Can verify Examplary sessions")),
            ("revoke_examplarysession", _("Can revoke Examplary sessions")),
            ("view_outputs", _("Can view the outputs of Examplary sessions")),
            ("export_examplarysession", _("Can export Examplary sessions")),
        ]
        indexes = [
            models.Index(fields=["actor", "fingerprint", "created_at"], name="examplary_by_launch"),
            # For the sweep: the sessions to verify, to revoke and to prune.
            models.Index(fields=["status", "asked_at"], name="examplary_by_status"),
            models.Index(fields=["revoke_pending", "asked_at"], name="examplary_by_revocation"),
            models.Index(fields=["ended_at"], name="examplary_by_end"),
            # For the activity page of the admin.
            models.Index(fields=["created_at"], name="examplary_by_creation"),
        ]

    def __str__(self) -> str:
        return f"{flow_name(self.flow)} ({self.get_status_display()})"

    @property
    def is_open(self) -> bool:
        return self.status == self.Status.PENDING

    def is_usable(self) -> bool:
        """Return whether the session is open and has enough time left to be reused."""
        return bool(self.is_open and self.expires_at and self.expires_at > timezone.now() + MARGIN)

    def is_past_expiry(self) -> bool:
        return (self.expires_at or self.created_at + LIFETIME) <= timezone.now()

    def get_outputs_class(self) -> type[Outputs]:
        return FLOWS.get(self.flow, Flow).outputs_class

    def get_outputs(self) -> Outputs:
        """Return the outputs as the type of the flow."""
        return self.get_outputs_class()(self.outputs)
