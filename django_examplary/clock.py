"""The clock of deadlines and pauses."""

from __future__ import annotations

import time

# In a tuple, where freezegun doesn't replace it: with a stopped clock a pause would never end.
_CLOCK = (time.monotonic,)


def monotonic() -> float:
    """Return seconds since an arbitrary moment, even if a test has stopped `time`."""
    return _CLOCK[0]()
