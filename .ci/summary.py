"""Print the checks that `tox` did not run: python .ci/summary.py"""

from __future__ import annotations

import sys

left_out = "the tests on PostgreSQL, on MariaDB and in a browser (tox run -m servers)"
# tox runs this on the newest Python that it finds.
if sys.version_info < (3, 12):
    left_out = f"typing, docs and coverage (they need Python 3.12 or newer), {left_out}"
sys.stdout.write(f"Not run: {left_out}.\n")
