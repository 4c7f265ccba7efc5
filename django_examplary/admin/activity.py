"""The page "Examplary activity": recent sessions and failures, read with five queries."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.models import Count, F, QuerySet
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.timesince import timesince
from django.utils.translation import gettext

from django_examplary.admin.advice import explain
from django_examplary.admin.base import RowAdmin
from django_examplary.admin.chart import draw_chart
from django_examplary.admin.names import TOPICS, user_name
from django_examplary.admin.progress import FAILED_STATES
from django_examplary.admin.sites import object_link, only_visible, permitted_url
from django_examplary.counters import RESULTS, read_api_calls
from django_examplary.flows import flow_name
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.signals import api_call_finished

Status = ExamplarySession.Status

#: The periods to choose from, in days.
PERIODS = (7, 30, 90)
_TEACHERS = 20
# Distinct error messages, of which each user may have another one.
_MESSAGES = 1000
_ALMOST_A_MINUTE = dt.timedelta(seconds=59)


@dataclass(kw_only=True)
class Activity:
    """The content of the page. `days` has the days of the period, the oldest first."""

    days: list[dt.date]
    #: The time zone of the days; None without USE_TZ.
    zone: dt.tzinfo | None
    #: Sessions by day and flow.
    per_day: dict[dt.date, Counter[str]] = field(default_factory=dict)
    #: Sessions by status.
    outcomes: Counter[str] = field(default_factory=Counter)
    #: The actors that generated most exams, with their numbers.
    teachers: list[tuple[ExamplaryActor, int]] = field(default_factory=list)
    #: Actors by the reason of their failure.
    failures: list[tuple[Any, int]] = field(default_factory=list)
    #: The median time from the creation to the completion of a session.
    median: dt.timedelta | None = None

    @property
    def flows(self) -> list[str]:
        """The flows of the period, the most used first."""
        total = sum(self.per_day.values(), Counter[str]())
        return sorted(total, key=lambda flow: (-total[flow], flow))


def measure_activity(
    sessions: QuerySet[ExamplarySession], actors: QuerySet[ExamplaryActor], days: int
) -> Activity:
    """Count the sessions of the last days, including today."""
    zone = _day_zone(sessions)
    now = timezone.now()
    today = (now.astimezone(zone) if zone else now).date()
    first = today - dt.timedelta(days=days - 1)
    since = dt.datetime.combine(first, dt.time.min, tzinfo=zone)
    all_days = [first + dt.timedelta(days=number) for number in range(days)]
    activity = Activity(days=all_days, zone=zone)
    recent = sessions.order_by().filter(created_at__gte=since)
    completed = recent.filter(status=Status.COMPLETED)

    by_day = recent.annotate(day=TruncDate("created_at", tzinfo=zone))
    groups = by_day.values_list("day", "flow", "status").annotate(Count("pk"))
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
        .filter(state__in=FAILED_STATES)
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
    """Return the time zone for counting days in the database, or None without USE_TZ."""
    if not settings.USE_TZ:
        return None
    # Without time zone tables, MySQL and MariaDB only support UTC.
    known = connections[rows.db].features.has_zoneinfo_database
    return timezone.get_current_timezone() if known else dt.UTC


class ActivityPageMixin(RowAdmin):
    """The page "Examplary activity", beside the list of sessions."""

    def activity_view(self, request: HttpRequest) -> HttpResponse:
        chosen = request.GET.get("days", "")
        days = int(chosen) if chosen in map(str, PERIODS) else PERIODS[0]
        actors = only_visible(ExamplaryActor.objects.all(), "user", self.admin_site, request)
        activity = measure_activity(self.get_queryset(request), actors, days)
        total = activity.outcomes.total()
        flows = {flow: flow_name(flow) for flow in activity.flows}
        actors_url = permitted_url(self.admin_site, request, ExamplaryActor)
        context = {
            "title": gettext("Examplary activity"),
            "activity": activity,
            "teachers": [
                (object_link(self.admin_site, actor, name) if actors_url else name, count)
                for actor, count in activity.teachers
                for name in [user_name(actor.user)]
            ],
            "actors_url": actors_url,
            "days": days,
            "periods": PERIODS,
            "zone": activity.zone,
            "total": total,
            "median": _in_words(activity.median),
            "calls": _read_calls(activity.days),
            "chart": draw_chart(
                [date_format(day, "SHORT_DATE_FORMAT") for day in activity.days],
                {
                    name: [activity.per_day.get(day, Counter())[flow] for day in activity.days]
                    for flow, name in flows.items()
                },
            ),
            "flows": flows.values(),
            "rows": [
                (day, [activity.per_day[day][flow] for flow in flows])
                for day in activity.days
                if day in activity.per_day
            ],
            "outcomes": [
                (label, activity.outcomes[status], activity.outcomes[status] / total * 100)
                for status, label in Status.choices
                if activity.outcomes[status]
            ],
        }
        return self.render_page(request, "activity", context)


def _in_words(duration: dt.timedelta | None) -> str:
    """Return a duration such as "1 hour, 5 minutes", rounded up to minutes."""
    if duration is None:
        return ""
    now = timezone.now()
    return timesince(now - max(duration + _ALMOST_A_MINUTE, dt.timedelta(minutes=1)), now)


def _read_calls(days: list[dt.date]) -> list[tuple[Any, list[int]]]:
    """Return the calls to Examplary by subject, if this site counts them."""
    if not api_call_finished.has_listeners():
        return []
    calls = read_api_calls(days)
    return [
        (TOPICS[topic], [calls[topic][result] for result in RESULTS])
        for topic in TOPICS
        if topic in calls
    ]
