"""Find the open session for a launch, or create a new one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.db.models import Q
from django.utils.crypto import get_random_string
from django.utils.translation import get_language

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.data import Theme
from django_examplary.exceptions import ExamplarySessionEndedError, ExamplaryValidationError
from django_examplary.flows import Flow
from django_examplary.launch import Launch, Mode
from django_examplary.models import ExamplarySession
from django_examplary.origins import PRODUCTION_URL, origin_of
from django_examplary.services.actors import prepare_actor, refuse_inactive
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import refuse_transaction, session_rows
from django_examplary.services.opening import Opening, is_launchable
from django_examplary.services.outcomes import verify_session
from django_examplary.services.themes import complete_theme
from django_examplary.services.tickets import refuse_used

Status = ExamplarySession.Status


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
    once: bool = False,
    reuse: bool = True,
    client: ExamplaryClient | None = None,
) -> ExamplarySession:
    """Return an open session of `flow` for `user`, a stored one with the same options or a new one.

    `origin` is the origin of your site, such as `https://school.example`. EXAMPLARY_SITE_ORIGIN
    replaces it. With `mode="frame"` the embed reports to a page of that origin. With `"window"` the
    browser returns to it and continues to `next_url`. `theme` overrides EXAMPLARY_THEME and the
    active language. A callable EXAMPLARY_THEME needs a request, and is ignored here.

    With `grant_access` the user gets the content role that the flow needs on its exam or space:
    check first that the user may have it. Without it, a missing role raises ExamplaryAccessError.
    With `once`, raises ExamplarySessionEndedError if the user has completed the same flow with the
    same presets. With `reuse=False` a new session is always opened.

    Raises ExamplaryError (see `provision_actor` for the errors about the user), ExamplaryBusyError
    if the user has opened EXAMPLARY_SESSIONS_PER_HOUR sessions, and TransactionManagementError
    inside a transaction unless there is a stored session.
    """
    origin = conf.EXAMPLARY_SITE_ORIGIN or origin
    if not origin:
        raise ExamplaryValidationError("origin", "is required while EXAMPLARY_SITE_ORIGIN is empty")
    launch = Launch(
        user_id=str(user.pk),
        flow=flow,
        theme=complete_theme(theme),
        metadata=metadata or {},
        next_url=str(next_url or ""),
        origin=origin_of(origin),
        mode=mode,
        grant_access=grant_access,
        once=once,
        nonce="" if reuse else get_random_string(12),
        language=get_language() or "",
    )
    session = find_session(user, launch)
    return session or create_session(user, launch, client)


def find_session(user: Any, launch: Launch) -> ExamplarySession | None:
    """Return the open session for a launch, or None.

    Raises ExamplarySessionEndedError if the launch is for a stored session that has ended, if the
    user has completed a flow that opens once, or if the one-time link was used. Raises
    ExamplaryNotProvisionedError for an inactive user.
    """
    refuse_inactive(user)
    refuse_used(user, launch)
    if launch.once and launch.flow is not None:
        _refuse_repeat(user, launch.flow)
    which: dict[str, Any] = {"open_key": launch.key}
    if launch.session_id:
        which = {"pk": launch.session_id, "open_key__isnull": False}
    # Both are unique, so no sorting is needed.
    session = next(iter(session_rows().filter(actor__user=user, **which)), None)
    # A user who moved to another workspace does not get a session of the former one.
    if session is not None and session.workspace == workspace_of(user) and is_launchable(session):
        return session
    if launch.session_id:
        raise ExamplarySessionEndedError("This session is over.")
    return None


def create_session(
    user: Any, launch: Launch, client: ExamplaryClient | None = None
) -> ExamplarySession:
    """Request a session for a launch that has none; see `open_session` for the errors."""
    refuse_transaction("open_session")
    actor = prepare_actor(user)
    client = client or get_client(actor.workspace)
    # All calls of a launch share one deadline, because claims last longer than it.
    client = client.within(conf.EXAMPLARY_DEADLINE)
    if launch.flow is None or not launch.origin:
        raise ExamplaryValidationError("launch", "needs a flow and an origin to create a session")
    _refuse_prerelease(launch.flow, client)
    if launch.once:
        _verify_similar(user, launch.flow, client)
    return Opening(actor, launch.flow, launch, client).open()


def _refuse_repeat(user: Any, flow: Flow) -> None:
    """Raise ExamplarySessionEndedError if the user completed this flow with these presets."""
    # An open session with an end time is completed but lacks its output.
    completed = Q(status=Status.COMPLETED) | Q(status=Status.PENDING, ended_at__isnull=False)
    rows = session_rows().for_user(user).filter(completed, flow=flow.slug)
    if _as_stored(flow.presets) in rows.values_list("presets", flat=True):
        raise ExamplarySessionEndedError("The user has completed this flow, which opens once.")


def _verify_similar(user: Any, flow: Flow, client: ExamplaryClient) -> None:
    """Reject a user who finished this flow in a session with an unknown outcome.

    Such a session has another theme, language or page.
    """
    rows = session_rows().open().for_user(user).filter(flow=flow.slug).select_related("actor")
    for session in rows:
        if session.presets == _as_stored(flow.presets):
            # If the API does not return the session, its outcome stays unknown.
            with suppress(ExamplarySessionEndedError):
                verify_session(session, client=client)
    _refuse_repeat(user, flow)


def _as_stored(presets: Mapping[str, Any]) -> Any:
    """Return presets as the database returns them, with lists instead of tuples."""
    return json.loads(json.dumps(presets))


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
