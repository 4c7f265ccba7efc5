"""The part of a sweep that makes no API call: old claims, late signals, and retention."""

from __future__ import annotations

import contextlib
import functools
import logging
from datetime import timedelta

from django.db.models import ProtectedError, RestrictedError
from django.utils import timezone

from django_examplary.conf import conf
from django_examplary.models import LIFETIME
from django_examplary.services.database import commit, lease, new_token, session_rows
from django_examplary.services.opening import drop_claims
from django_examplary.services.outcomes import announce_end

logger = logging.getLogger("django_examplary")

# Maximum number of late signals per sweep.
_LATE = 200
# Expired claims are deleted at this age, when launches no longer retry their requests.
_UNKNOWN = timedelta(hours=1)


def tidy() -> tuple[int, int]:
    """Do the work without API calls; return the numbers of sent signals and deleted rows."""
    drop_claims(session_rows(), older_than=_UNKNOWN)
    # A pending revocation ends with the maximum lifetime of the session.
    over = session_rows().filter(revoke_pending=True, created_at__lt=timezone.now() - LIFETIME)
    commit(lambda: over.update(revoke_pending=False))
    announced = 0
    for session in session_rows().unannounced().select_related("actor__user")[:_LATE]:
        unclaimed = session_rows().filter(pk=session.pk, claim_token=session.claim_token)
        if commit(functools.partial(unclaimed.update, claim_token=new_token(), lapses_at=lease())):
            logger.warning("operation=announce session=%s outcome=late", session.pk)
            announce_end(session)
            announced += 1
    return announced, _prune()


def _prune() -> int:
    """Delete old rows, except for those that rows of the project protect."""
    prunable = session_rows().prunable(conf.EXAMPLARY_RETENTION)
    try:
        return int(commit(prunable.delete)[0])
    except (ProtectedError, RestrictedError):
        pruned = 0
        for pk in list(prunable.values_list("pk", flat=True)):
            with contextlib.suppress(ProtectedError, RestrictedError):
                pruned += commit(session_rows().filter(pk=pk).delete)[0]
        return pruned
