"""The page "Examplary activity": what happened in the last weeks, in five queries."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connections
from django.db.models import Count, F, QuerySet
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext

from django_examplary.admin.advice import explain
from django_examplary.admin.base import RowPagesMixin
from django_examplary.admin.chart import Chart, draw_chart
from django_examplary.admin.names import flow_name
from django_examplary.admin.progress import BROKEN
from django_examplary.admin.sites import only_visible
from django_examplary.models import ExamplaryActor, ExamplarySession

Status = ExamplarySession.Status

#: The periods to choose from, in days.
PERIODS = (7, 30, 90)
_TEACHERS = 20
# Error messages that differ, of which there may be one for each user.
_MESSAGES = 1000


@dataclass(kw_only=True)
class Activity:
    """What the page shows. `days` are the days of the period, the oldest first."""

    days: list[dt.date]
    #: Sessions by day and flow.
    per_day: dict[dt.date, Counter[str]] = field(default_factory=dict)
    #: Sessions by status.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: The actors of the users who generated most exams, with the numbers.
    teachers: list[tuple[ExamplaryActor, int]] = field(default_factory=list)
    #: Actors by the reason of their failure.
    failures: list[tuple[Any, int]] = field(default_factory=list)
    #: The median time from the creation to the completion of a session.
    median: dt.timedelta | None = None

    @property
    def flows(self) -> list[str]:
        """The flows of the period, the most used first."""
        total: Counter[str] = Counter()
        for counts in self.per_day.values():
            total += counts
        return sorted(total, key=lambda flow: (-total[flow], flow))


def measure_activity(
    sessions: QuerySet[ExamplarySession], actors: QuerySet[ExamplaryActor], days: int
) -> Activity:
    """Count what happened on the last days, today included."""
    zone = _day_zone(sessions)
    now = timezone.now()
    today = (now.astimezone(zone) if zone else now).date()
    first = today - dt.timedelta(days=days - 1)
    since = dt.datetime.combine(first, dt.time.min, tzinfo=zone)
    activity = Activity(days=[first + dt.timedelta(days=number) for number in range(days)])
    recent = sessions.order_by().filter(created_at__gte=since)
    completed = recent.filter(status=Status.COMPLETED)

    groups = (
        recent.annotate(day=TruncDate("created_at", tzinfo=zone))
        .values_list("day", "flow", "status")
        .annotate(count=Count("*"))
    )
    for day, flow, status, count in groups:
        activity.per_day.setdefault(day, Counter())[flow] += count
        activity.outcomes[status] += count

    makers = (
        completed.filter(flow="generate-exam", actor__isnull=False)
        .values_list("actor")
        .annotate(count=Count("*"))
        .order_by("-count", "actor")[:_TEACHERS]
    )
    exams = dict(makers)
    found = ExamplaryActor.objects.select_related("user").in_bulk(list(exams))
    activity.teachers = [(found[key], count) for key, count in exams.items() if key in found]

    messages = (
        actors.order_by()
        .filter(state__in=BROKEN)
        .values_list("state", "last_error")
        .annotate(count=Count("pk"))
        .order_by("-count")[:_MESSAGES]
    )
    failures: Counter[Any] = Counter()
    for state, message, count in messages:
        failures[explain(state, message)] += count
    activity.failures = sorted(failures.items(), key=lambda item: (-item[1], str(item[0].name)))

    middle = activity.outcomes[Status.COMPLETED] // 2
    durations = completed.annotate(duration=F("ended_at") - F("created_at")).order_by("duration")
    activity.median = next(iter(durations.values_list("duration", flat=True)[middle:][:1]), None)
    return activity


def _day_zone(rows: QuerySet[Any]) -> dt.tzinfo | None:
    """Return the time zone whose days the database can count, or None without USE_TZ."""
    if not settings.USE_TZ:
        return None
    # MySQL and MariaDB know no zone but UTC without time zone tables.
    known = connections[rows.db].features.has_zoneinfo_database
    return timezone.get_current_timezone() if known else dt.UTC


class ActivityPageMixin(RowPagesMixin):
    """The page "Examplary activity", beside the list of sessions."""

    def activity_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        chosen = request.GET.get("days", "")
        days = int(chosen) if chosen in map(str, PERIODS) else PERIODS[0]
        actors = only_visible(ExamplaryActor.objects.all(), "user", self.admin_site, request)
        activity = measure_activity(self.get_queryset(request), actors, days)
        total = activity.outcomes.total()
        flows = {flow: flow_name(flow) for flow in activity.flows}
        rows = [activity.per_day.get(day, Counter()) for day in activity.days]
        context = {
            "title": gettext("Examplary activity"),
            "activity": activity,
            "days": days,
            "periods": PERIODS,
            "zone": _day_zone(self.get_queryset(request)),
            "total": total,
            "median": _duration(activity.median),
            "chart": _draw(activity, flows),
            "flows": flows.values(),
            "rows": [
                (day, [counts[flow] for flow in flows])
                for day, counts in zip(activity.days, rows, strict=True)
                if counts
            ],
            "outcomes": [
                (label, activity.outcomes[status], activity.outcomes[status] / total * 100)
                for status, label in Status.choices
                if activity.outcomes[status]
            ],
        }
        return self.render_page(request, "activity", context)


def _duration(value: dt.timedelta | None) -> str:
    if value is None:
        return ""
    minutes, seconds = divmod(round(value.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _draw(activity: Activity, flows: dict[str, str]) -> Chart:
    labels = [date_format(day, "SHORT_DATE_FORMAT") for day in activity.days]
    series = {
        name: [activity.per_day.get(day, Counter())[flow] for day in activity.days]
        for flow, name in flows.items()
    }
    return draw_chart(labels, series)
