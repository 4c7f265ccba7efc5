"""Get the profile of a Django user for `POST /users`."""

from __future__ import annotations

import re
from typing import Any, cast, get_args

from django_examplary.conf import conf
from django_examplary.data import ActorProfile, ActorRole
from django_examplary.encoding import storable
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor

# The exact pattern of `POST /users` (contract, section 5), which is stricter than Django's.
EMAIL_PATTERN = re.compile(
    r"^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+"
    r"[A-Za-z]{2,}\Z"
)


def get_profile(actor: ExamplaryActor) -> ActorProfile:
    """Return the profile of a user, from EXAMPLARY_ACTOR_PROFILE or the user model.

    Raises ExamplaryValidationError, naming the field, if the API would refuse it, and
    ExamplaryConfigurationError if the code of the project fails.
    """
    describe = conf.EXAMPLARY_ACTOR_PROFILE or _describe_user
    try:
        profile = describe(actor.user)
    except ExamplaryError:
        raise
    except Exception as error:
        # The original message may contain personal data, and more people read this one.
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_ACTOR_PROFILE raised {type(error).__name__}."
        ) from error
    if not isinstance(profile, ActorProfile):
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_ACTOR_PROFILE returned a {type(profile).__name__}, not an ActorProfile."
        )
    email = str(profile.email or "").strip()
    # No e-mail address is longer, and the column stores no longer one.
    if not EMAIL_PATTERN.match(email) or len(email) > 254:
        raise ExamplaryValidationError(
            "email",
            "the user has no address that Examplary accepts; correct it, or return another one "
            "from EXAMPLARY_ACTOR_PROFILE",
        )
    role = cast("ActorRole", profile.role or actor.role or "teacher")
    refuse_role(role)
    # A name may contain characters that databases and the API reject.
    name = str(storable(str(profile.name or ""))).strip()[:100]
    return ActorProfile(email=email, name=name, role=role)


def is_active(user: Any) -> bool:
    """Return whether the user may sign in. As in Django, a user model need not have the field."""
    return bool(getattr(user, "is_active", True))


def refuse_role(role: str | None) -> None:
    """Raise ExamplaryValidationError for unknown roles and roles that manage the workspace."""
    if role is not None and role not in get_args(ActorRole):
        raise ExamplaryValidationError("role", f"an end user must not be {role!r} in Examplary")


def _describe_user(user: Any) -> ActorProfile:
    name = user.get_full_name() if hasattr(user, "get_full_name") else ""
    return ActorProfile(email=getattr(user, user.get_email_field_name(), ""), name=name)
