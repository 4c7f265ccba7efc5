"""The clock of deadlines and pauses."""

from __future__ import annotations

import time

# In a tuple, where freezegun doesn't replace it: a pause on a clock that stands still never ends.
_CLOCK = (time.monotonic,)


def monotonic() -> float:
    """Return seconds since an arbitrary moment, also in a test that has stopped `time`."""
    return _CLOCK[0]()
