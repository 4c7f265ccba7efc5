"""Opening embed sessions, and finding out what became of them.

A session's outcome is what the API says of it: a message, a return or a Done button only make us
ask. Every change of status is a compare-and-set, so of any number of simultaneous askers one wins,
and the winner alone sends the signal.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError
from django.db.models import Q
from django.dispatch import Signal
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.views.decorators.debug import sensitive_variables

from django_examplary import signals
from django_examplary.addresses import reverse_view
from django_examplary.client import (
    PRODUCTION_URL,
    ExamplaryClient,
    is_loopback,
    latest,
    time_limit,
)
from django_examplary.conf import conf
from django_examplary.data import EmbedSession, Theme
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotFoundError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplarySessionEndedError,
    ExamplaryValidationError,
)
from django_examplary.flows import Flow, get_flow
from django_examplary.launch import LaunchRequest, Mode, sign_return
from django_examplary.models import (
    ExamplaryActor,
    ExamplarySession,
    ExamplarySessionQuerySet,
)
from django_examplary.services.actors import disown_actor, provision_actor, replace_stale_actor
from django_examplary.services.connections import (
    actor_rows,
    announce,
    commit,
    database,
    get_client,
    lapsed_before,
    refuse_transaction,
    session_rows,
    update_rows,
)
from django_examplary.services.content import actor_has_access, give_access
from django_examplary.services.themes import complete_theme

logger = logging.getLogger("django_examplary")

Status = ExamplarySession.Status

#: A session with less life left than this is not given to anyone any more.
MARGIN = timedelta(hours=1)
#: The documented life of a session, and the longest that we believe the API.
LIFETIME = timedelta(days=7)

# Stricter than any URL parser: no credentials, no upper case, no backslash, ASCII only.
EMBED_URL = re.compile(
    r"(?P<origin>(?P<scheme>https?)://([a-z0-9.-]+|\[::1\])(:\d+)?)"
    r"([/?#][!-\[\]-~]{0,2000})?"
)

#: All that a launch looks at in a stored session.
_LAUNCHED = ("status", "expires_at", "embed_url")

_SIGNALS: Mapping[str, Signal] = {
    Status.COMPLETED: signals.session_completed,
    Status.CANCELLED: signals.session_cancelled,
    Status.CLOSED: signals.session_closed,
}


def open_session(
    user: Any,
    flow: Flow,
    *,
    origin: str = "",
    mode: Mode = "frame",
    theme: Mapping[str, Any] | Theme | None = None,
    metadata: Mapping[str, str] | None = None,
    next_url: str = "",
    grant_access: bool = False,
    reuse: bool = True,
    client: ExamplaryClient | None = None,
) -> ExamplarySession:
    """Return an open session of `flow` for `user`, the stored one if there is one just like it.

    `origin` is the site's own as the request has it, `https://school.example`; where
    EXAMPLARY_SITE_ORIGIN is set, that takes its place. With `mode="frame"` the embed reports to a
    page of that origin, with `"redirect"` the browser comes back to it and goes on to `next_url`.
    `theme` is laid over EXAMPLARY_THEME, unless that is a callable, and over the active language.
    With `grant_access` the user is given the content role that the flow needs on its exam or space;
    without, the lack of it is an ExamplaryAccessError.

    Raises ExamplaryError (see `provision_actor` for the ones about the user), and
    TransactionManagementError inside a transaction unless the stored session will do.
    """
    request = LaunchRequest(
        user_id=str(user.pk),
        flow=flow.slug,
        presets=flow.presets,
        theme=complete_theme(theme),
        metadata=metadata or {},
        next_url=str(next_url),
        mode=mode,
        grant_access=grant_access,
        nonce="" if reuse else get_random_string(12),
    )
    origin = conf.EXAMPLARY_SITE_ORIGIN or origin
    if not origin:
        raise ExamplaryValidationError("origin", "is required while EXAMPLARY_SITE_ORIGIN is empty")
    return _launch(user, request, origin, client, session_rows())


def launch_session(
    user: Any, request: LaunchRequest, *, origin: str, client: ExamplaryClient | None = None
) -> ExamplarySession:
    """Do for a launch request what `open_session` does for a flow.

    Of a stored session little more than the URL is loaded, because launches are many; the rest is
    when it is first looked at. Raises ExamplarySessionEndedError when the request is for one stored
    session and that is over.
    """
    return _launch(user, request, origin, client, session_rows().only(*_LAUNCHED))


def _launch(
    user: Any,
    request: LaunchRequest,
    origin: str,
    client: ExamplaryClient | None,
    rows: ExamplarySessionQuerySet,
) -> ExamplarySession:
    if not user.is_active:
        raise ExamplaryNotProvisionedError("An inactive user opens no sessions.")
    # One at most has an open key: there is nothing to sort, which would take a third longer.
    found = rows.filter(open_key__isnull=False, **_wanted(user, request, origin))
    session = next(iter(found), None)
    if session is not None and _is_usable(session):
        return session
    if request.session_id:
        raise ExamplarySessionEndedError("This session is over.")
    refuse_transaction("open_session")
    client = client or get_client()
    flow = get_flow(request.flow, request.presets)
    _refuse_prerelease(flow, client)
    # The leases of the claims are made for one deadline, so all calls of a launch share it.
    with time_limit(conf.EXAMPLARY_DEADLINE):
        actor = provision_actor(user, role=flow.audience, client=client)
        session = _claim_or_wait(actor, request, origin)
        if session.status == Status.CREATING:
            _fill(session, actor, flow, request, origin, client)
    return session


def _fill(
    session: ExamplarySession,
    actor: ExamplaryActor,
    flow: Flow,
    request: LaunchRequest,
    origin: str,
    client: ExamplaryClient,
) -> None:
    """Have a session made for a claim of ours, or give the claim up."""
    try:
        remote = _create_remote(session, actor, flow, request, origin, client)
        try:
            embed_origin(remote.embed_url)
            _store(session, remote, client)
        except (ExamplaryEmbedURLError, ExamplaryNotReadyError):
            _discard(remote, client)
            raise
    except BaseException:
        commit(session_rows().filter(pk=session.pk, status=Status.CREATING).delete)
        raise


def _discard(remote: EmbedSession, client: ExamplaryClient) -> None:
    """Revoke what nobody is going to open. If that fails it expires by itself."""
    try:
        client.delete_embed_session(remote.id)
    except ExamplaryError as error:
        logger.warning("operation=discard outcome=%s", error)


def find_session(user: Any, request: LaunchRequest, *, origin: str) -> ExamplarySession | None:
    """Return the newest session of this user for a launch request, whatever its status."""
    found = session_rows().filter(**_wanted(user, request, origin))
    return found.select_related("actor").order_by("-created_at").first()


def verify_session(
    session: ExamplarySession,
    *,
    max_age: timedelta = timedelta(0),
    client: ExamplaryClient | None = None,
) -> ExamplarySession:
    """Ask the API what became of a session, store it, and return the session.

    The first to learn of an outcome sends its signal. Within `max_age` of the last time the API is
    not asked again, whatever came of that; the session is returned as it is known.

    Raises ExamplaryError when the API cannot be asked; the session stays open. So it does with
    ExamplaryNotFoundError, but it is not launched again.
    """
    if not session.is_open:
        return session
    now = timezone.now()
    # The clock may have been set back since.
    if session.asked_at and timedelta(0) <= now - session.asked_at < max_age:
        return session
    refuse_transaction("verify_session")
    # Of those who ask at the same time, one does.
    unasked = session_rows().filter(pk=session.pk)
    unasked = unasked.exclude(asked_at__gt=now - max_age, asked_at__lte=now)
    if max_age and not unasked.update(asked_at=now):
        return session
    try:
        learn_outcome(session, client or get_client())
    except ExamplaryNotFoundError:
        if update_rows(session_rows().open().filter(pk=session.pk), open_key=None):
            raise
        # Another caller has ended it meanwhile, and had it deleted.
        _reload(session)
    return session


def learn_outcome(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Ask the API about an open session, and store what it says.

    What GET says of an expired or deleted session is not documented. One that is not there is over
    when its time is; until then the key may be of another workspace, or a proxy have said so, and
    there may be a result. Raises ExamplaryNotFoundError for it, and other ExamplaryErrors when the
    API cannot be asked. The session stays open then.
    """
    if not session.examplary_id:
        # It came from a fixture, which holds no ids.
        end_session(session, Status.EXPIRED)
        return
    try:
        remote = _ask(session, client)
    except ExamplaryError as error:
        if isinstance(error, ExamplaryNotFoundError) and _is_past_expiry(session):
            end_session(session, Status.EXPIRED)
            return
        note_attempt(session)
        raise
    if not _end_as_told(session, remote):
        facts = _facts(session, remote)
        if _is_past_expiry(session):
            end_session(session, Status.EXPIRED, **facts)
        else:
            # Any other status is not final: there may be more than are documented.
            update_rows(session_rows().open().filter(pk=session.pk), **facts)
            _reload(session)
    revoke_remote(session, client)


def note_attempt(session: ExamplarySession) -> None:
    """Let a sweep ask about the others first the next time."""
    update_rows(session_rows().filter(pk=session.pk), asked_at=timezone.now())


def close_session(
    session: ExamplarySession, *, client: ExamplaryClient | None = None
) -> ExamplarySession:
    """End a session because its user is done, as flows that never complete need.

    The API is asked first: a session that turns out to be completed or cancelled is that. Raises
    ExamplaryError when the API cannot be asked.
    """
    refuse_transaction("close_session")
    client = client or get_client()
    verify_session(session, client=client)
    if session.is_open:
        end_session(session, Status.CLOSED, revoke_pending=True)
        revoke_remote(session, client)
    return session


def revoke_session(
    session: ExamplarySession, *, client: ExamplaryClient | None = None
) -> ExamplarySession:
    """Make an open session's URL stop working, here at once and then at Examplary.

    If its user turns out to have finished before, the session is completed or cancelled instead.
    When the API cannot be asked, or does not know the session, `revoke_pending` stays true and a
    later sweep asks again.
    """
    refuse_transaction("revoke_session")
    end_session(session, Status.REVOKED, revoke_pending=True)
    revoke_remote(session, client or get_client())
    return session


@sensitive_variables("url", "match")
def embed_origin(url: str) -> str:
    """Return the origin of an embed URL that is safe to put into a frame.

    Raises ExamplaryEmbedURLError. Escaping alone would not do: a `javascript:` URL runs in the page
    that frames it.
    """
    problem = "is not an absolute https URL"
    match = EMBED_URL.fullmatch(url)
    if match and (match["scheme"] == "https" or (settings.DEBUG and is_loopback(url))):
        if match["origin"] in conf.EXAMPLARY_EMBED_ORIGINS:
            return match["origin"]
        problem = "is not of an origin listed in EXAMPLARY_EMBED_ORIGINS"
    raise ExamplaryEmbedURLError(f"Examplary gave an embed URL that {problem}.")


def _wanted(user: Any, request: LaunchRequest, origin: str) -> dict[str, Any]:
    """What tells the sessions of this user for a launch request from all others."""
    if request.session_id:
        return {"actor__user": user, "pk": request.session_id}
    return {"actor__user": user, "fingerprint": request.fingerprint(origin)}


def _reload(session: ExamplarySession) -> None:
    try:
        session.refresh_from_db(using=database())
    except ExamplarySession.DoesNotExist:
        # Erased by somebody else since.
        raise ExamplarySessionEndedError("This session does not exist any more.") from None


def _is_usable(session: ExamplarySession) -> bool:
    if not session.lives_for(MARGIN):
        return False
    try:
        embed_origin(session.embed_url)
    except ExamplaryEmbedURLError:
        return False
    return True


def _refuse_prerelease(flow: Flow, client: ExamplaryClient) -> None:
    if (
        flow.prerelease
        and client.base_url == PRODUCTION_URL
        and not conf.EXAMPLARY_PRERELEASE_FLOWS
    ):
        raise ExamplaryValidationError(
            "flow",
            f"{flow.slug} is only available on Examplary's staging API so far; once it is released "
            "set EXAMPLARY_PRERELEASE_FLOWS = True",
        )


def _ensure_access(
    actor: ExamplaryActor, flow: Flow, *, grant: bool, client: ExamplaryClient
) -> None:
    """Look whether the actor may use the flow's exam or space: the API opens a session without
    it, and the user would find out inside the frame."""
    if flow.needs is None:
        return
    if not flow.resource:
        if grant:
            raise ExamplaryValidationError(
                "grant_access", f"needs to know the {flow.needs.preset} to grant access to"
            )
        return
    if grant:
        give_access(actor, flow.resource, flow.needs.role, client=client)
        return
    try:
        if actor_has_access(actor, flow.resource, flow.needs.role, client=client):
            return
    except ExamplaryPermissionError:
        # The key may not look. It need not be able to.
        return
    raise ExamplaryAccessError(flow.resource, flow.needs.role)


def _claim_or_wait(actor: ExamplaryActor, request: LaunchRequest, origin: str) -> ExamplarySession:
    """Return a new row in CREATING that this caller must fill, or the session another one made."""
    fingerprint = request.fingerprint(origin)
    deadline = latest(conf.EXAMPLARY_DEADLINE)
    pause = 0.02
    while True:
        session = _claim(actor, request, fingerprint)
        if session is not None:
            return session
        if not actor_rows().filter(pk=actor.pk).exists():
            raise ExamplaryNotProvisionedError("The user does not exist any more.")
        if time.monotonic() > deadline:
            raise ExamplaryNotReadyError("Another request is still opening this session.")
        time.sleep(pause)
        pause = min(0.25, pause * 1.5)


def _claim(
    actor: ExamplaryActor, request: LaunchRequest, fingerprint: str
) -> ExamplarySession | None:
    """Return a new row, or the session another one made; None while another one makes it."""
    now = timezone.now()
    # Read before anything is written: what looks for rows to change, and finds none, locks the gap
    # that the others want to insert into.
    rival = session_rows().filter(open_key=_open_key(actor, fingerprint)).first()
    if rival is not None:
        if _is_usable(rival):
            return rival
        found = session_rows().filter(pk=rival.pk, status=rival.status)
        if rival.is_open:
            # About to expire, it may still be completed by whoever has it open.
            update_rows(found, open_key=None)
        elif rival.created_at < lapsed_before():
            # A claim whose holder died.
            commit(found.delete)
        else:
            return None
    session = ExamplarySession(
        actor=actor,
        flow=request.flow,
        presets=request.presets,
        theme=request.theme,
        metadata=request.metadata,
        next_url=request.next_url,
        fingerprint=fingerprint,
        open_key=_open_key(actor, fingerprint),
        created_at=now,
    )
    try:
        commit(lambda: session.save(force_insert=True, using=database()))
    except IntegrityError:
        # Another caller was faster; or the database had kept it, and was lost before it could say.
        return session if session_rows().filter(pk=session.pk).exists() else None
    return session


def _open_key(actor: ExamplaryActor, fingerprint: str) -> str:
    return f"{actor.pk}:{fingerprint}"


def _create_remote(
    session: ExamplarySession,
    actor: ExamplaryActor,
    flow: Flow,
    request: LaunchRequest,
    origin: str,
    client: ExamplaryClient,
) -> EmbedSession:
    """Ask the API for a session; once more if it has lost the actor since."""
    report_to = {"allowed_origin": origin}
    if request.mode == "redirect":
        path = reverse_view("return", sign_return(str(session.pk)))
        report_to = {"return_url": origin + path}

    def create(actor: ExamplaryActor) -> EmbedSession:
        _ensure_access(actor, flow, grant=request.grant_access, client=client)
        return client.create_embed_session(
            flow=request.flow,
            actor=actor.examplary_id or "",
            presets=request.presets,
            theme=request.theme,
            metadata=request.metadata,
            **report_to,
        )

    try:
        return create(actor)
    except ExamplaryActorIsOwnerError as error:
        disown_actor(actor, error)
        raise
    except ExamplaryActorNotFoundError:
        pass
    session.actor = replace_stale_actor(actor, role=flow.audience, client=client)
    return create(session.actor)


@sensitive_variables("facts", "value")
def _store(session: ExamplarySession, remote: EmbedSession, client: ExamplaryClient) -> None:
    facts = {
        "status": Status.PENDING,
        "examplary_id": remote.id,
        "embed_url": remote.embed_url,
        "known_to": client.fingerprint,
        "remote_status": remote.status[:64],
        "expires_at": _expiry(remote),
    }
    claim = session_rows().filter(pk=session.pk, status=Status.CREATING)
    # The database may have kept it, and then have been lost before it could say so.
    kept_before = session_rows().filter(pk=session.pk, examplary_id=remote.id)
    try:
        kept = commit(lambda: claim.update(**facts) or kept_before.exists())
    except IntegrityError:
        raise ExamplaryResponseError("Examplary gave the same session twice.") from None
    if not kept:
        raise ExamplaryNotReadyError("The claim on this session was lost; try again in a moment.")
    for field, value in facts.items():
        setattr(session, field, value)


def _flattened(value: Any, levels: int = 30) -> Any:
    """Keep what is nested too deeply for MariaDB's JSON, which has 32 levels, as a text of JSON."""
    if not isinstance(value, (dict, list)):
        return value
    if not levels:
        return json.dumps(value)
    if isinstance(value, list):
        return [_flattened(item, levels - 1) for item in value]
    return {key: _flattened(item, levels - 1) for key, item in value.items()}


def _expiry(remote: EmbedSession) -> datetime | None:
    """When the session expires by our clock; the API's own may be fast or slow."""
    if remote.expires_at is None:
        return None
    created_at = remote.created_at or datetime.now(UTC)
    lifetime = max(timedelta(0), min(remote.expires_at - created_at, LIFETIME))
    return timezone.now() + lifetime


def _is_past_expiry(session: ExamplarySession) -> bool:
    return (session.expires_at or session.created_at + LIFETIME) <= timezone.now()


def _ask(session: ExamplarySession, client: ExamplaryClient) -> EmbedSession:
    """Read the session at Examplary.

    Raises ExamplaryResponseError if the answer is about another flow or another actor.
    """
    remote = client.get_embed_session(session.examplary_id or "")
    actor = session.actor
    if (
        actor is None
        or actor.provisioned_at is None
        # Dropped since: whom the session was opened for is no longer known either.
        or actor.examplary_id is None
        # Provisioned anew since: the session was opened for an id that is no longer known.
        or actor.provisioned_at > session.created_at
    ):
        same_actor = True
    else:
        same_actor = remote.actor in ("", actor.examplary_id)
    if remote.flow == session.flow and same_actor:
        session.known_to = client.fingerprint
        return remote
    logger.error("operation=verify-session outcome=foreign-answer session=%s", session.pk)
    raise ExamplaryResponseError("The API answered with another user's session.")


def _facts(session: ExamplarySession, remote: EmbedSession) -> dict[str, Any]:
    now = timezone.now()
    return {
        "known_to": session.known_to,
        "remote_status": remote.status[:64],
        "verified_at": now,
        "asked_at": now,
    }


def _end_as_told(session: ExamplarySession, remote: EmbedSession) -> bool:
    """End the session if the API says that it has."""
    facts = _facts(session, remote)
    if remote.status == "completed":
        end_session(session, Status.COMPLETED, outputs=_flattened(remote.outputs), **facts)
    elif remote.status == "cancelled":
        end_session(session, Status.CANCELLED, **facts)
    else:
        return False
    return True


def end_session(session: ExamplarySession, status: ExamplarySession.Status, **facts: Any) -> None:
    """Bring an open session to its end, unless somebody else just did, and announce it."""
    endable = Q(status=Status.PENDING)
    if status in (Status.COMPLETED, Status.CANCELLED):
        # Its user may have finished just before it was revoked; not if that user is gone.
        endable |= Q(status=Status.REVOKED, actor__isnull=False)
        if conf.EXAMPLARY_REVOKE_ON_COMPLETION:
            facts["revoke_pending"] = True
    ending = session_rows().filter(endable, pk=session.pk)
    now = timezone.now()
    facts |= {"status": status, "embed_url": "", "open_key": None, "ended_at": now}
    # The database may have kept it, and then have been lost before it could say so.
    kept_before = session_rows().filter(pk=session.pk, status=status, ended_at=now)
    won = commit(lambda: ending.update(**facts) or kept_before.exists())
    _reload(session)
    if won and (signal := _SIGNALS.get(status)):
        outputs = {"outputs": session.get_outputs()} if status == Status.COMPLETED else {}
        announce(signal, ExamplarySession, session=session, **outputs)


def revoke_remote(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Revoke at Examplary what is to be revoked there. A sweep does so again where that fails."""
    if not session.revoke_pending:
        return
    try:
        finish_revocation(session, client)
    except ExamplaryError as error:
        logger.warning("operation=revoke session=%s outcome=%s", session.pk, error)


def finish_revocation(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Revoke a session at Examplary.

    Raises ExamplaryError; an ExamplaryNotFoundError only if the API or the key is another one than
    knew the session. It may be there for those.
    """
    # A row that came from a fixture has no id, and nothing to revoke.
    if session.examplary_id:
        if session.status == Status.REVOKED and session.actor is not None:
            _save_outcome(session, client)
        known = session.known_to == client.fingerprint
        client.delete_embed_session(session.examplary_id, missing_ok=known)
    update_rows(session_rows().filter(pk=session.pk), revoke_pending=False)
    session.revoke_pending = False


def _save_outcome(session: ExamplarySession, client: ExamplaryClient) -> None:
    """Learn what a user may have finished just before the session was revoked here."""
    try:
        remote = _ask(session, client)
    except (ExamplaryNotFoundError, ExamplaryPermissionError, ExamplaryInvalidRequestError):
        # It will not say, and the URL must stop working all the same.
        return
    _end_as_told(session, remote)
