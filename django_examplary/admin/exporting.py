"""A list as CSV: streamed, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect, StreamingHttpResponse
from django.urls import URLPattern
from django.utils import timezone

from django_examplary.admin.base import RowPagesMixin

# The beginning of a formula, the full-width forms included, at the start of a text or behind what a
# spreadsheet may take for the end of a cell: many countries separate cells by semicolons.
_FORMULA = re.compile(r"""(^|[;\t\r\n|])([\s"']*)(?=[=+\-@＝＋－＠])|^(?=[\t\r\n])""")


class ExportMixin(RowPagesMixin):
    # Not `has_export_permission` and `export/`: django-import-export has those.
    def has_csv_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(f"django_examplary.export_{self.opts.model_name}")

    def get_urls(self) -> list[URLPattern]:
        return [self.page_path("csv/", self.csv_view, "csv"), *super().get_urls()]

    @abstractmethod
    def get_export_columns(self, request: HttpRequest) -> dict[str, Callable[[Any], Any]]:
        """Return the columns: their titles, and what each takes from a row."""

    def csv_view(self, request: HttpRequest) -> HttpResponseBase:
        """Return the rows that the list shows for the same query string, on all its pages."""
        if not (self.has_view_permission(request) and self.has_csv_permission(request)):
            raise PermissionDenied
        try:
            rows = self.get_changelist_instance(request).queryset
        except IncorrectLookupParameters:
            return HttpResponseRedirect(self.page_url("changelist"))
        columns = self.get_export_columns(request)
        lines = _lines(columns, rows.iterator(chunk_size=2000))
        response = StreamingHttpResponse(lines, content_type="text/csv; charset=utf-8")
        name = f"{self.opts.model_name}-{timezone.localdate():%Y-%m-%d}.csv"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        response["Cache-Control"] = "no-store, private"
        return response


class _Echo:
    """A file that returns what is written."""

    def write(self, text: str) -> str:
        return text


def _lines(columns: dict[str, Callable[[Any], Any]], rows: Iterator[Any]) -> Iterator[str]:
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
