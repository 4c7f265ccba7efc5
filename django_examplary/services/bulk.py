"""Provision many users at a steady pace, and each user once."""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db import Error
from django.db.models import Q, QuerySet

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole, User
from django_examplary.exceptions import (
    ExamplaryAPIError,
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryPermissionError,
)
from django_examplary.models import DEFAULT_WORKSPACE, ExamplaryActor
from django_examplary.services.actors import create_user, prepare_actors
from django_examplary.services.claims import claim_actor, describe_error, release_actor, store_actor
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import refuse_transaction
from django_examplary.services.paced import Outcome, PacedCalls
from django_examplary.services.profiles import get_profile, is_active, refuse_role

logger = logging.getLogger("django_examplary")

# Number of users per query.
_PAGE = 200
# Number of failure reasons that are counted separately.
_MAX_REASONS = 20


@dataclass
class Provisioning:
    """The result of provisioning many users."""

    #: Number of provisioned users.
    provisioned: int = 0
    #: Number of failed users by reason. `ExamplaryActor.last_error` has the error of each user.
    failed: dict[str, int] = field(default_factory=dict)
    #: Number of skipped users, whom another caller is provisioning or whose earlier call has an
    #: unknown outcome.
    skipped: int = 0
    #: Whether the run ended because `should_stop()` returned true.
    interrupted: bool = False
    #: Why the run ended early, if it did.
    stopped: str = ""
    #: Remaining seconds of the pause that the API requested.
    pause: float = 0.0


def select_users(
    *, groups: Collection[str] = (), staff: bool | None = None, search: str = ""
) -> QuerySet[Any]:
    """Return users by the names of their groups, by staff, and by a part of a name or an address.

    Raises FieldError if the project's user model has no such field.
    """
    model = get_user_model()
    users = model._default_manager.all()
    if groups:
        users = users.filter(groups__name__in=groups).distinct()
    if staff is not None:
        users = users.filter(is_staff=staff)
    if search:
        names = [model.USERNAME_FIELD, model.get_email_field_name(), "first_name", "last_name"]
        matches = [(f"{name}__icontains", search) for name in names if user_has_field(name)]
        users = users.filter(Q(*matches, _connector=Q.OR))
    return users


def unprovisioned(users: QuerySet[Any]) -> QuerySet[Any]:
    """Return the active users of the queryset who have no active actor."""
    if user_has_field("is_active"):
        users = users.filter(is_active=True)
    return users.exclude(examplary_actor__state=ExamplaryActor.State.ACTIVE)


def count_waiting(users: QuerySet[Any], workspace: str | None = None) -> int:
    """Return how many of these users `provision_actors` would try to provision.

    Raises ExamplaryConfigurationError if there is no such workspace.
    """
    if conf.EXAMPLARY_WORKSPACE is None and workspace is None:
        return unprovisioned(users).count()
    if workspace is not None:
        conf.get_workspace(workspace)
    count = 0
    for keys in _candidates(users):
        for user in users.filter(pk__in=keys).select_related("examplary_actor"):
            actor = getattr(user, "examplary_actor", None)
            try:
                alias = workspace_of(user)
            except ExamplaryConfigurationError:
                continue  # The run counts this user as failed.
            is_new = actor is None or not actor.is_active or actor.workspace != alias
            count += is_active(user) and is_new and workspace in (None, alias)
    return count


def provision_actors(
    users: QuerySet[Any],
    *,
    role: ActorRole | None = None,
    workspace: str | None = None,
    concurrency: int = 4,
    rate: float = 5.0,
    max_failures: int = 10,
    deadline: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    progress: Callable[[Provisioning], None] = lambda result: None,
    client: ExamplaryClient | None = None,
) -> Provisioning:
    """Provision the active users who have no active actor, including failed ones.

    Users whose workspace has changed are moved and provisioned again. With `workspace`, only
    users of that workspace are provisioned. At most `concurrency` requests are sent at a time and
    `rate` a second (0: no limit). The run pauses when the API requests that. A request takes at
    most `deadline` seconds, by default EXAMPLARY_DEADLINE.

    A failure for one user is stored in the row, and the run continues. Only the affected workspace
    stops if its API key is refused, or after `max_failures` calls in a row without a usable
    response. The run stops when `should_stop()` returns true, and a new run continues. `progress`
    is called after each user. Any number of runs may work at the same time.

    Raises ExamplaryConfigurationError, ExamplaryValidationError for a role that no end user may
    have, and TransactionManagementError inside a transaction.
    """
    refuse_role(role)
    refuse_transaction("provision_actors")
    if client is None and (workspace or conf.EXAMPLARY_WORKSPACE is None):
        # In a single workspace every user would fail for the same reason.
        get_client(workspace or DEFAULT_WORKSPACE)
    calls = PacedCalls(
        concurrency=concurrency, rate=rate, max_failures=max_failures, should_stop=should_stop
    )
    seconds = conf.EXAMPLARY_DEADLINE if deadline is None else deadline
    return _BulkRun(users, role, workspace, calls, seconds, client).work(progress)


class _Claim(NamedTuple):
    """A claimed user, with the values for the thread that makes the call."""

    actor: ExamplaryActor
    profile: ActorProfile
    client: ExamplaryClient


@dataclass
class _BulkRun:
    users: QuerySet[Any]
    role: ActorRole | None
    workspace: str | None
    calls: PacedCalls
    deadline: float
    client: ExamplaryClient | None
    result: Provisioning = field(default_factory=Provisioning)
    waiting: deque[ExamplaryActor] = field(default_factory=deque)
    #: Primary keys of users whose workspace is paused, by alias.
    postponed: dict[str, list[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pages = _candidates(self.users)

    def work(self, progress: Callable[[Provisioning], None]) -> Provisioning:
        def send(claim: _Claim) -> User:
            return create_user(claim.actor, claim.profile, claim.client.within(self.deadline))

        batches = self.calls.run(self._take, send, lambda each: each.actor.workspace)
        outcomes = chain.from_iterable(batches)
        try:
            for outcome in outcomes:
                if self._record(outcome):
                    progress(self.result)
        except BaseException:
            # The API may have created users whose ids are not stored yet.
            self.calls.stop()
            for outcome in outcomes:
                self._record_after_error(outcome)
            raise
        self.result.interrupted = self.calls.interrupted
        self.result.stopped = self.calls.reason
        self.result.pause = self.calls.pause
        return self.result

    def _take(self, room: int) -> list[_Claim]:
        """Claim the next user whose profile can be sent."""
        while not self.calls.is_over():
            if not self.waiting:
                if not self._read_page():
                    return []
                continue
            actor = self.waiting.popleft()
            if not self._is_callable(actor.user_id, actor.workspace):
                continue
            if not claim_actor(actor):
                self.result.skipped += 1
                continue
            actor.role = self.role or actor.role
            try:
                client = self.client or get_client(
                    actor.workspace, max_retries=0, pool_size=self.calls.concurrency
                )
                return [_Claim(actor, get_profile(actor), client)]
            except ExamplaryError as error:
                self._fail(actor, error)
            except ExamplaryConfigurationError as error:
                # The code of the project failed for this user only.
                logger.exception("operation=provision-actors actor=%s", actor.pk)
                self._fail(actor, error)
        return []

    def _read_page(self) -> bool:
        if conf.EXAMPLARY_WORKSPACE is None and not self.calls.accepts(DEFAULT_WORKSPACE):
            return False
        keys = next(self.pages, None) or self._take_postponed()
        if not keys:
            return False
        users = [user for user in self.users.filter(pk__in=keys) if is_active(user)]
        self.result.skipped += len(keys) - len(users)
        workspaces = self._select(users)
        actors = _prepare_each(workspaces)
        self.result.skipped += len(workspaces) - len(actors)
        self.waiting += [actor for actor in actors if not actor.is_active]
        return True

    def _select(self, users: list[Any]) -> dict[Any, str]:
        """Return the users whom this run can provision now, with their aliases.

        A user without a workspace, or with one that is not configured, counts as failed.
        """
        selected = {}
        configured = functools.cache(conf.get_workspace)
        for user in users:
            try:
                workspace = workspace_of(user)
                configured(workspace)
            except ExamplaryConfigurationError as error:
                # The code of the project failed for this user only.
                logger.error("operation=provision-actors user=%s error=%s", user.pk, error)
                self._count_failure(error)
            else:
                if self.workspace in (None, workspace) and self._is_callable(user.pk, workspace):
                    selected[user] = workspace
        return selected

    def _is_callable(self, key: Any, workspace: str) -> bool:
        """Return whether the user can be provisioned now; postpone users of paused workspaces."""
        if self.calls.accepts(workspace):
            return True
        if workspace not in self.calls.stopped_lanes:
            self.postponed.setdefault(workspace, []).append(key)
        return False

    def _take_postponed(self) -> list[Any]:
        """Return primary keys of users whose workspace is no longer paused."""
        for workspace, keys in self.postponed.items():
            if keys and self.calls.accepts(workspace):
                self.postponed[workspace] = keys[_PAGE:]
                return keys[:_PAGE]
        return []

    def _record(self, outcome: Outcome[_Claim, User]) -> bool:
        """Store the outcome. Return False if the call had no result, so it must be repeated."""
        claim, error = outcome.item, outcome.error
        if not outcome.was_processed:
            release_actor(claim.actor)
            self.waiting.append(claim.actor)
            return False
        if isinstance(error, ExamplaryPermissionError):
            # Like a refused key, the error would be the same for every user.
            self.calls.stop_lane(claim.actor.workspace, str(error))
        try:
            store_actor(claim.actor, outcome.call.result(), claim.profile, client=claim.client)
        except ExamplaryError as failure:
            self._fail(claim.actor, failure)
        except ExamplaryConfigurationError as failure:
            # The URL is wrong, for every user of the workspace.
            release_actor(claim.actor, failure)
            if conf.EXAMPLARY_WORKSPACE is None:
                raise
            self.calls.stop_lane(claim.actor.workspace, str(failure))
        else:
            self.result.provisioned += 1
        return True

    def _record_after_error(self, outcome: Outcome[_Claim, User]) -> None:
        try:
            self._record(outcome)
        except Exception as error:
            # The error that ended the run is raised. The claim expires.
            logger.warning(
                "operation=provision-actors actor=%s error=%s",
                outcome.item.actor.pk,
                type(error).__name__,
            )

    def _fail(self, actor: ExamplaryActor, error: Exception) -> None:
        # No effect if the claim was lost, which `store_actor` detects.
        release_actor(actor, error)
        self._count_failure(error)

    def _count_failure(self, error: Exception) -> None:
        failed = self.result.failed
        if isinstance(error, ExamplaryAPIError):
            # Without the request id, so that equal failures are counted together.
            reason = f"{error.status_code} {error.message}".strip()
        else:
            reason = describe_error(error)
        if reason not in failed and len(failed) >= _MAX_REASONS:
            reason = "other reasons"
        failed[reason] = failed.get(reason, 0) + 1


def user_has_field(name: str) -> bool:
    """Return whether the project's user model has a field, or a relation, of this name."""
    return any(each.name == name for each in get_user_model()._meta.get_fields())


def _candidates(users: QuerySet[Any]) -> Iterator[list[Any]]:
    """Yield the primary keys of users who may have to be provisioned, a page at a time."""
    yield from _pages(unprovisioned(users))
    if conf.EXAMPLARY_WORKSPACE is not None:
        # A query cannot find the users who have moved to another workspace.
        yield from _pages(users.filter(examplary_actor__state=ExamplaryActor.State.ACTIVE))


def _pages(users: QuerySet[Any]) -> Iterator[list[Any]]:
    """Yield pages of primary keys, without loading all and without an open cursor."""
    keys = users.order_by("pk").values_list("pk", flat=True)
    page = list(keys[:_PAGE])
    while page:
        yield page
        page = list(keys.filter(pk__gt=page[-1])[:_PAGE])


def _prepare_each(workspaces: Mapping[Any, str]) -> list[ExamplaryActor]:
    try:
        return prepare_actors(workspaces)
    except Error:
        # A user was deleted concurrently. Prepare the others one by one.
        actors = []
        for user, workspace in workspaces.items():
            try:
                actors += prepare_actors({user: workspace})
            except Error as error:
                logger.warning(
                    "operation=provision-actors user=%s error=%s", user.pk, type(error).__name__
                )
        return actors
