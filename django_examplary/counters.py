"""Count the calls to Examplary by day in Django's cache, for the activity page of the admin.

Disabled by default. To enable it, connect `count_api_call` in `ready()` of an app::

    api_call_finished.connect(count_api_call)

Use a cache that all processes share and that increments atomically: Redis or Memcached.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.cache import cache
from django.utils import timezone

#: The topics of calls, by the first segment of their path. Others are `other`.
TOPICS = ("users", "embed-sessions", "permissions", "other")
#: Results of calls: a success, a refusal (status 4xx), or an outage.
RESULTS = ("ok", "refused", "failed")

# The activity page shows up to 90 days.
_KEPT_FOR = dt.timedelta(days=91)


def count_api_call(sender: object, *, operation: str, outcome: str, status: int, **_: Any) -> None:
    """Count a call. A receiver for the signal `api_call_finished`."""
    topic = operation.partition("/")[2].partition("/")[0]
    if outcome == "ok":
        result = "ok"
    else:
        result = "refused" if 400 <= status < 500 else "failed"
    now = timezone.now()
    if timezone.is_aware(now):
        # The default time zone, because the current one may be that of a user.
        now = now.astimezone(timezone.get_default_timezone())
    key = _key(now.date(), topic if topic in TOPICS else "other", result)
    cache.add(key, 0, _KEPT_FOR.total_seconds())
    cache.incr(key)


def read_api_calls(days: Sequence[dt.date]) -> Mapping[str, Counter[str]]:
    """Return the number of calls on these days, by topic and result, with one call to the cache."""
    keys = {
        _key(day, topic, result): (topic, result)
        for day in days
        for topic in TOPICS
        for result in RESULTS
    }
    calls: dict[str, Counter[str]] = {}
    for key, count in cache.get_many(keys).items():
        topic, result = keys[key]
        calls.setdefault(topic, Counter())[result] += count
    return calls


def _key(day: dt.date, topic: str, result: str) -> str:
    return f"examplary-calls:{day}:{topic}:{result}"
