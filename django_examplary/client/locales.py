"""Sessions without the locale that the API refuses: the valid locales are not documented."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from django.views.decorators.debug import sensitive_variables

from django_examplary.client.retries import is_uncertain
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryActorNotFoundError,
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
)

T = TypeVar("T")

logger = logging.getLogger("django_examplary")


@sensitive_variables()
def send_with_locale(
    body: Mapping[str, Any],
    key: str,
    refused: set[str],
    send: Callable[[Mapping[str, Any], str], T],
) -> T:
    """Send a request, and once without its locale if the API refuses it with 400 or 422.

    `send` gets the body and the Idempotency-Key. A locale whose absence made the difference is
    added to `refused` and not sent again. If the second request fails too, the first error is
    raised, unless the second is one of the two documented errors about the actor or uncertain.
    """
    theme = dict(body.get("theme") or {})
    locale = theme.pop("locale", "")
    if not (locale and isinstance(locale, str)):
        return send(body, key)
    # Another body makes it another request, also when another process sends it.
    other_key = key and str(uuid.uuid5(uuid.NAMESPACE_URL, f"{key}#without-locale"))
    other = {name: value for name, value in body.items() if name != "theme"}
    if theme:
        other["theme"] = theme
    if locale in refused:
        return send(other, other_key)
    try:
        return send(body, key)
    except (ExamplaryActorIsOwnerError, ExamplaryActorNotFoundError):
        raise
    except ExamplaryInvalidRequestError as error:
        refusal = error
    try:
        result = send(other, other_key)
    except (ExamplaryActorIsOwnerError, ExamplaryActorNotFoundError):
        # The API checks the theme before the actor, so the first error would hide this one.
        raise
    except (ExamplaryError, ExamplaryConfigurationError) as error:
        if is_uncertain(error):
            # Unlike the first request, this one may have created a session.
            raise
    else:
        if locale not in refused:
            refused.add(locale)
            logger.warning("operation=open-session outcome=locale-refused locale=%r", locale)
        return result
    # Raised here, so that it is not chained to the second error.
    raise refusal
