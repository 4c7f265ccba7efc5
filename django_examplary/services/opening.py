"""Open a session for a launch without one: claim a row, then call the API."""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import Error, IntegrityError
from django.db.models import Q
from django.utils import timezone

from django_examplary.addresses import reverse_view
from django_examplary.client import ExamplaryClient
from django_examplary.client.retries import is_uncertain
from django_examplary.conf import conf
from django_examplary.data import EmbedSession, Secret
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryBusyError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryNotReadyError,
    ExamplaryResponseError,
    without_frames,
)
from django_examplary.flows import Flow
from django_examplary.launch import Launch, sign_return
from django_examplary.models import (
    LIFETIME,
    DatabaseNow,
    ExamplaryActor,
    ExamplarySession,
    ExamplarySessionQuerySet,
)
from django_examplary.origins import embed_origin
from django_examplary.services.access import ensure_access
from django_examplary.services.actors import (
    activate_actor,
    prepare_actor,
    refresh_actor,
    refresh_user,
    renew_actor,
)
from django_examplary.services.claims import disown_actor
from django_examplary.services.database import (
    PAUSES,
    actor_rows,
    commit,
    database,
    database_error,
    lease,
    new_token,
    session_rows,
    set_values,
)
from django_examplary.services.outcomes import is_answer

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

# Newer actors may still be unknown to a part of the API.
_NEW_ACTOR_AGE = timedelta(minutes=1)
_NEW_ACTOR_PAUSE = 0.5

# Requests with an unknown outcome are retried with the same Idempotency-Key for this time.
_RETRY_PERIOD = timedelta(minutes=30)


def is_launchable(session: ExamplarySession) -> bool:
    """Return whether the session can be reused: it is open, and its URL is still allowed."""
    # A row from a fixture has no URL.
    if not (session.is_usable() and session.embed_url):
        return False
    try:
        _check_url(session.embed_url, session.workspace)
    except ExamplaryEmbedURLError:
        return False
    return True


def _check_url(url: Secret, workspace: str) -> None:
    """Raise ExamplaryEmbedURLError for a URL that is not safe to put into a frame."""
    configured = conf.get_workspace(workspace)
    try:
        embed_origin(
            url.value,
            configured.embed_origins,
            http_loopback=settings.DEBUG,
            setting=configured.setting("EMBED_ORIGINS"),
        )
    except ExamplaryEmbedURLError as error:
        refusal = without_frames(error)
    else:
        return
    raise refusal


def drop_claims(claims: ExamplarySessionQuerySet, *, older_than: timedelta) -> int:
    """Delete expired claims, and log their ids, because Examplary may have the sessions."""
    ended = claims.abandoned().filter(created_at__lte=DatabaseNow() - older_than)
    dropped = 0
    for pk in list(ended.values_list("pk", flat=True)):
        if commit(ended.filter(pk=pk).delete)[0]:
            logger.warning("operation=open-session session=%s outcome=unknown", pk)
            dropped += 1
    return dropped


@dataclass
class Opening:
    """An attempt to open a session for a launch without one."""

    actor: ExamplaryActor
    flow: Flow
    launch: Launch
    client: ExamplaryClient
    #: Whether a request for the claimed row was sent and its outcome is unknown.
    _is_unanswered: bool = field(default=False, init=False)

    def open(self) -> ExamplarySession:
        """Return the session that this caller or another one has created."""
        for pause in PAUSES:
            if (session := self._claim()) is not None:
                if not session.is_open:
                    self._fill(session)
                return session
            if self.client.time_left < pause:
                break
            time.sleep(pause)
            # The user may have been deactivated or linked to another id meanwhile.
            refresh_user(self.actor.user)
            workspace = self.actor.workspace
            self.actor = prepare_actor(self.actor.user)
            if self.actor.workspace != workspace:
                break  # The client has the key of the former workspace.
        raise ExamplaryNotReadyError("Another request is still opening this session.")

    def _claim(self) -> ExamplarySession | None:
        """Return a new row for this caller, or the session of another caller.

        Return None if another caller is creating it.
        """
        open_key = self.launch.key
        # Read first, because an UPDATE without matching rows locks the gap into which other callers
        # insert.
        rival = session_rows().filter(actor=self.actor, open_key=open_key).first()
        if rival is not None and is_launchable(rival):
            return rival
        if rival is not None:
            found = session_rows().filter(pk=rival.pk, status=rival.status)
            if rival.is_open:
                # It expires soon, but a page that has it open may still complete it.
                commit(lambda: found.update(open_key=None))
            elif self._take_over(rival):
                return rival
            elif not drop_claims(found, older_than=_RETRY_PERIOD):
                return None
        self._check_limit()
        now: Any = DatabaseNow()
        session = ExamplarySession(
            actor=self.actor,
            workspace=self.actor.workspace,
            flow=self.flow.slug,
            presets=self.flow.presets,
            theme=dict(self.launch.theme),
            metadata=dict(self.launch.metadata),
            next_url=self.launch.next_url,
            fingerprint=self.launch.key,
            open_key=open_key,
            claim_token=new_token(),
            lapses_at=lease(),
            created_at=now,
        )
        failure = None
        try:
            commit(lambda: session.save(force_insert=True, using=database()))
        except Error as error:
            failure = error
        if failure is None or session_rows().filter(pk=session.pk).exists():
            return session
        if isinstance(failure, IntegrityError) and (
            session_rows().filter(open_key=open_key).exists()
        ):
            # Another caller was faster.
            return None
        refresh_user(self.actor.user)
        if not actor_rows().filter(pk=self.actor.pk).exists():
            return None
        raise database_error("The session", failure)

    def _take_over(self, session: ExamplarySession) -> bool:
        """Claim a row whose holder has died, or whose request was not answered."""
        token = new_token()
        rows = session_rows().filter(pk=session.pk)
        ended = rows.abandoned().filter(created_at__gt=DatabaseNow() - _RETRY_PERIOD)
        # An earlier attempt whose commit was not acknowledged has stored the token.
        claimable = ended | rows.filter(claim_token=token)
        if not commit(lambda: claimable.update(claim_token=token, lapses_at=lease())):
            return False
        session.claim_token = token
        self._is_unanswered = True
        return True

    def _check_limit(self) -> None:
        limit = conf.EXAMPLARY_SESSIONS_PER_HOUR
        if not limit:
            return
        an_hour_ago = timezone.now() - timedelta(hours=1)
        recent = session_rows().filter(actor=self.actor, created_at__gt=an_hour_ago)
        if recent.count() >= limit:
            raise ExamplaryBusyError(
                f"This user has opened {limit} sessions within an hour, which is the limit of "
                "EXAMPLARY_SESSIONS_PER_HOUR."
            )

    def _fill(self, session: ExamplarySession) -> None:
        """Request a session for a claimed row, or release the row."""
        remote: EmbedSession | None = None
        try:
            # Any later change of the user or actor deletes the claim.
            self.actor = refresh_actor(self.actor)
            self.actor = activate_actor(self.actor, role=self.flow.audience, client=self.client)
            remote = self._create(session)
            _check_url(Secret(remote.embed_url), session.workspace)
            # The user may have been deactivated while this caller waited for the API.
            refresh_user(self.actor.user)
            self._store(session, remote)
        except BaseException:
            self._give_up(session, remote)
            raise

    def _create(self, session: ExamplarySession) -> EmbedSession:
        """Request a session from the API; retry once if the actor is unknown."""
        try:
            return self._request(session)
        except ExamplaryActorIsOwnerError as error:
            disown_actor(self.actor, error)
            raise
        except ExamplaryActorNotFoundError:
            pass
        provisioned_at = self.actor.provisioned_at
        if provisioned_at is not None and provisioned_at > timezone.now() - _NEW_ACTOR_AGE:
            time.sleep(_NEW_ACTOR_PAUSE)
            try:
                return self._request(session)
            except ExamplaryActorNotFoundError:
                pass
        self.actor = renew_actor(self.actor, role=self.flow.audience, client=self.client)
        return self._request(session)

    def _request(self, session: ExamplarySession) -> EmbedSession:
        launch = self.launch
        ensure_access(self.actor, self.flow, self.client, grant=launch.grant_access)
        report_to = {"allowed_origin": launch.origin}
        if launch.mode == "window":
            path = reverse_view("return", sign_return(str(session.pk)))
            report_to = {"return_url": launch.origin + path}
        examplary_id = self.actor.examplary_id or ""
        was_unanswered, self._is_unanswered = self._is_unanswered, True
        try:
            remote = self.client.create_embed_session(
                flow=self.flow.slug,
                actor=examplary_id,
                presets=self.flow.presets,
                theme=launch.theme,
                metadata=launch.metadata,
                # The request differs, because it has another actor.
                idempotency_key=str(uuid.uuid5(session.pk, examplary_id)),
                **report_to,
            )
        except Exception as error:
            self._is_unanswered = not is_answer(error) and (was_unanswered or is_uncertain(error))
            raise
        self._is_unanswered = False
        return remote

    def _store(self, session: ExamplarySession, remote: EmbedSession) -> None:
        """Store the created session in the claimed row."""
        lifetime = _lifetime(remote)
        facts = {
            "status": Status.PENDING,
            "actor": self.actor,
            # Not when it was claimed: the actor may have been provisioned since.
            "created_at": timezone.now(),
            "examplary_id": Secret(remote.id),
            "embed_url": Secret(remote.embed_url),
            "remote_status": remote.status[:64],
            # By the clock of this server, because that of the API may differ.
            "expires_at": timezone.now() + (lifetime or LIFETIME),
        }
        if not lifetime:
            # Returned once and not reused. Sweeps verify it until the maximum lifetime.
            facts["open_key"] = None
        rows = session_rows().filter(pk=session.pk, claim_token=session.claim_token)
        # An earlier attempt whose commit was not acknowledged has stored the id.
        claimed = rows.filter(status=Status.CREATING) | rows.filter(
            status=Status.PENDING, examplary_id=remote.id
        )
        failure: BaseException | None = None
        try:
            if not commit(lambda: claimed.update(**facts)):
                failure = ExamplaryNotReadyError(
                    "The claim on this session was lost; try again in a moment."
                )
        except Error as error:
            failure = database_error("The session", error)
            if isinstance(error, IntegrityError) and self._is_stored_elsewhere(session, remote):
                failure = ExamplaryResponseError("The API returned the same session twice.")
        except BaseException as error:
            # For example the time limit of a task queue. The frames below contain the row.
            failure = without_frames(error)
        if failure is not None:
            raise failure
        set_values(session, facts)

    def _is_stored_elsewhere(self, session: ExamplarySession, remote: EmbedSession) -> bool:
        others = session_rows().exclude(pk=session.pk).filter(examplary_id=remote.id)
        try:
            return others.exists()
        except Error:
            # Not raised, because the frames of the query contain the id.
            return False

    def _give_up(self, session: ExamplarySession, remote: EmbedSession | None) -> None:
        """Release the claim, and revoke a session that cannot be stored."""
        claimed = session_rows().filter(
            pk=session.pk, status=Status.CREATING, claim_token=session.claim_token
        )
        try:
            if self._is_unanswered:
                # The next caller retries the request.
                commit(lambda: claimed.update(lapses_at=DatabaseNow() - timedelta(seconds=1)))
                return
            commit(claimed.delete)
            # A caller that took over this row retries the request, and may get the same session. If
            # the API returned a session twice, another user may be using it.
            is_kept = remote is not None and (
                session_rows().filter(Q(pk=session.pk) | Q(examplary_id=remote.id)).exists()
            )
        except Error as error:
            # The claim expires.
            logger.warning(
                "operation=give-up session=%s error=%s", session.pk, type(error).__name__
            )
            return
        if is_kept:
            logger.warning("operation=discard session=%s outcome=kept", session.pk)
        elif remote is not None:
            try:
                self.client.delete_embed_session(Secret(remote.id))
            except ExamplaryError as error:
                # The session expires.
                logger.error("operation=discard session=%s outcome=%s", session.pk, error)


def _lifetime(remote: EmbedSession) -> timedelta:
    """Return the lifetime of the session; zero if it has already expired for the API."""
    if remote.expires_at is None:
        return LIFETIME
    created_at = remote.created_at or datetime.now(UTC)
    return max(timedelta(0), min(remote.expires_at - created_at, LIFETIME))
