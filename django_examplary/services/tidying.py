"""The part of a sweep that makes no API call: old claims, late signals, and retention."""

from __future__ import annotations

import functools
import logging
from datetime import timedelta

from django.utils import timezone

from django_examplary.conf import conf
from django_examplary.models import LIFETIME
from django_examplary.services.database import (
    commit,
    delete_unprotected,
    lease,
    new_token,
    session_rows,
)
from django_examplary.services.opening import drop_claims
from django_examplary.services.outcomes import announce_end

logger = logging.getLogger("django_examplary")

# Maximum number of late signals per sweep.
_MAX_LATE_SIGNALS = 200
# Expired claims are deleted at this age, when launches no longer retry their requests.
_UNKNOWN = timedelta(hours=1)


def tidy() -> tuple[int, int]:
    """Do the work without API calls; return the numbers of sent signals and deleted rows."""
    drop_claims(session_rows(), older_than=_UNKNOWN)
    # A pending revocation ends with the maximum lifetime of the session.
    over = session_rows().filter(revoke_pending=True, created_at__lt=timezone.now() - LIFETIME)
    commit(lambda: over.update(revoke_pending=False))
    announced = 0
    for session in session_rows().unannounced().select_related("actor__user")[:_MAX_LATE_SIGNALS]:
        unclaimed = session_rows().filter(pk=session.pk, claim_token=session.claim_token)
        if commit(functools.partial(unclaimed.update, claim_token=new_token(), lapses_at=lease())):
            logger.warning("operation=announce session=%s outcome=late", session.pk)
            announce_end(session)
            announced += 1
    return announced, delete_unprotected(session_rows().prunable(conf.EXAMPLARY_RETENTION))
