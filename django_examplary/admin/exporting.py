"""Export a list as CSV: streamed, and safe for spreadsheets."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone

# The first character of a formula, including full-width forms. It is at the start of a string, or
# after a character that a spreadsheet may use as a separator: many countries use semicolons.
_FORMULA = re.compile(r"""(^|[;\t\r\n|])([\s"']*)(?=[=+\-@＝＋－＠])|^(?=[\t\r\n])""")


def csv_response(
    name: str, columns: dict[str, Callable[[Any], Any]], rows: Iterable[Any]
) -> StreamingHttpResponse:
    """Return a CSV file with the date in its name, with columns as in `get_export_columns`."""
    # `localdate()` would fail without USE_TZ.
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
    # Excel needs this byte order mark for UTF-8.
    yield "\ufeff"
    yield writer.writerow(columns)
    for row in rows:
        yield writer.writerow([cell(column(row)) for column in columns.values()])


def cell(value: Any) -> str:
    """Return the text of a cell, with a quote before text that a spreadsheet would calculate."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        local = timezone.localtime(value) if timezone.is_aware(value) else value
        return local.isoformat(sep=" ", timespec="seconds")
    return _FORMULA.sub(r"\1'\2", str(value))
