"""A list as CSV: streamed, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone

# The beginning of a formula, the full-width forms included. It is at the start of a text, or behind
# a character that a spreadsheet may take for the end of a cell: many countries separate cells by
# semicolons.
_FORMULA = re.compile(r"""(^|[;\t\r\n|])([\s"']*)(?=[=+\-@＝＋－＠])|^(?=[\t\r\n])""")


def csv_response(
    name: str, columns: dict[str, Callable[[Any], Any]], rows: Iterable[Any]
) -> StreamingHttpResponse:
    """Return a file with today's date in its name, for columns as in `get_export_columns`."""
    # Not `localdate()`, which fails without USE_TZ.
    date = cell(timezone.now())[:10]
    return StreamingHttpResponse(
        _lines(columns, rows),
        content_type="text/csv; charset=utf-8",
        headers={
            "Content-Disposition": f'attachment; filename="{name}-{date}.csv"',
            "Cache-Control": "no-store, private",
        },
    )


class _Echo:
    """A file whose `write()` returns its argument."""

    def write(self, text: str) -> str:
        return text


def _lines(columns: dict[str, Callable[[Any], Any]], rows: Iterable[Any]) -> Iterator[str]:
    writer: Any = csv.writer(_Echo())
    # Excel reads UTF-8 only with this mark.
    yield "\ufeff"
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([cell(column(row)) for column in columns.values()])


def cell(value: Any) -> str:
    """Return the text of a cell, with a quote before all that a spreadsheet would calculate."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return local.isoformat(sep=" ", timespec="seconds")
    return _FORMULA.sub(r"\1'\2", str(value))
