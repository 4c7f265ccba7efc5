"""Explain the error of an actor to school administrators, and suggest a solution.

`ExamplaryActor.last_error` is for developers. The tests cause every kind of failure, so they detect
error messages that no longer match any advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from django_examplary.admin.searching import is_searchable
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryError
from django_examplary.models import ExamplaryActor
from django_examplary.services.profiles import get_profile, is_active

State = ExamplaryActor.State


class Advice(NamedTuple):
    """`name` is a short reason that actors are grouped by; `text` has one or two sentences."""

    name: Any
    text: Any
    #: Matches `last_error`.
    pattern: str = ""


_OWNER = Advice(
    _("address of the API key’s owner"),
    _(
        "The user’s e-mail address belongs to the person whose API key this site uses. Give the "
        "user another address, or ask the developers to use another person’s key."
    ),
    r"owner of the API key|owns the API key",
)
_SHARED = Advice(
    _("address shared with another user"),
    _(
        "Another user of this site has the same e-mail address. Give each of them an address of "
        "their own, then try again."
    ),
    r"another account",
)
_ADDRESS = Advice(
    _("no valid e-mail address"),
    _(
        "The user has no e-mail address that Examplary accepts. Correct the address in the user’s "
        "account, then try again."
    ),
    r"^email:|valid e-?mail",
)
_IN_USE = Advice(
    _("address already in use"),
    _(
        "The e-mail address is used by another Examplary account. Ask an admin of your Examplary "
        "workspace for the id of that account and link it, or give the user another address."
    ),
    r"\bexists\b|\btaken\b|\bin use\b|\b409\b|\baddress already\b",
)
_KEY = Advice(
    _("API key rejected"),
    _(
        "Examplary rejects this site’s API key. Ask the developers of this site to check the key; "
        "the user’s data are fine."
    ),
    r"\b(401|403)\b|EXAMPLARY_API_KEY",
)
_PROFILE = Advice(
    _("error in the site’s code"),
    _(
        "This site could not describe the user to Examplary. Pass the technical details to the "
        "developers of this site."
    ),
    r"ACTOR_PROFILE|^role:|^name:",
)
_REFUSED = Advice(
    _("refused by Examplary"),
    _(
        "Examplary refused to create an account for the user. Pass the technical details to the "
        "developers of this site."
    ),
)
_REASONS = (_OWNER, _SHARED, _ADDRESS, _IN_USE, _KEY, _PROFILE)

_UNCERTAIN = Advice(
    _("no response from Examplary"),
    _(
        "Examplary may have created the account, but its response did not arrive. Try again; if "
        "the address is in use then, link the account."
    ),
)
_UNAVAILABLE = Advice(
    _("Examplary was not available"),
    _(
        "Examplary did not respond properly the last time. The account is created when the user "
        "next opens an embed, or try again now."
    ),
)
_INACTIVE = Advice(
    _("user is inactive"),
    _("The user is inactive on this site, so they can open nothing. Activate the user first."),
)
_BY_STATE = {
    State.ACTIVE: Advice("", _("The user has an Examplary account and can open embeds.")),
    State.CLAIMED: Advice(
        _("in progress"), _("The account is being created right now. Reload the page in a minute.")
    ),
    State.UNCERTAIN: _UNCERTAIN,
    State.PENDING: Advice(
        _("not created yet"),
        _(
            "The user has no Examplary account yet. It is created when the user first opens an "
            "embed, or with the button “Provision”."
        ),
    ),
}


def advise(actor: ExamplaryActor) -> Advice:
    """Return the advice for an actor, whose user must be loaded."""
    if not is_active(actor.user):
        return _INACTIVE
    return explain(actor.state, actor.last_error)


def advise_each(actors: Iterable[ExamplaryActor]) -> Iterator[tuple[Advice, Any]]:
    """Yield the advice for each actor, and the other user of this site with its address, or None.

    Examplary refuses addresses that another account has, perhaps that of another user of this site.
    One query finds those users. It is skipped if no address was refused.
    """
    rows = [(actor, advise(actor)) for actor in actors]
    addresses = {
        actor.pk: _email_of(actor) for actor, advice in rows if advice in (_SHARED, _IN_USE)
    }
    found = _users_with(set(addresses.values()) - {""})
    for actor, advice in rows:
        others = found.get(addresses.get(actor.pk, ""), [])
        other = next((user for user in others if user.pk != actor.user_id), None)
        yield (advice if other is None else _SHARED), other


def _email_of(actor: ExamplaryActor) -> str:
    try:
        return get_profile(actor).email.lower()
    except (ExamplaryError, ExamplaryConfigurationError):
        return ""


def _users_with(addresses: set[str]) -> dict[str, list[Any]]:
    """Return the users by address, on this site or at Examplary."""
    if not addresses:
        return {}
    model = get_user_model()
    field = model.get_email_field_name()
    users: Any = model._default_manager.annotate(sent=Lower("examplary_actor__email"))
    condition = Q(sent__in=addresses)
    if is_searchable(model, field):
        users = users.annotate(current=Lower(field))
        condition |= Q(current__in=addresses)
    found: dict[str, list[Any]] = {}
    for user in users.filter(condition).order_by("pk"):
        for address in {user.sent, getattr(user, "current", None)} & addresses:
            found.setdefault(address, []).append(user)
    return found


def explain(state: str, last_error: str) -> Advice:
    """Return the advice for a state and the error message that was stored with it."""
    if state == State.PENDING and last_error:
        return _match((_KEY, _PROFILE), last_error) or _UNAVAILABLE
    if state != State.FAILED:
        return _BY_STATE[State(state)]
    return _match(_REASONS, last_error) or _REFUSED


def _match(reasons: Iterable[Advice], last_error: str) -> Advice | None:
    matches = (each for each in reasons if re.search(each.pattern, last_error, re.IGNORECASE))
    return next(matches, None)
