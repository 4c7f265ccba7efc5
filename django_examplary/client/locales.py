"""Open sessions without locales that the API refuses. The valid locales are not documented."""

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
    """Send a request; if the API refuses it with 400 or 422, send it once without its locale.

    `send` gets the body and the Idempotency-Key. If the second request succeeds, the locale is
    added to `refused` and not sent again. If it fails, the first error is raised, unless the second
    one is uncertain or one of the two documented errors about the actor.
    """
    theme = dict(body.get("theme") or {})
    locale = theme.pop("locale", "")
    if not (locale and isinstance(locale, str)):
        return send(body, key)
    # The body differs, so the request needs another key, also in other processes.
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
        # The API validates the theme before the actor, so the first error hides this one.
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
