"""Counters of API calls by day, in the cache and on the activity page."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_examplary import services
from django_examplary.counters import RESULTS, TOPICS, count_api_call, read_api_calls
from django_examplary.exceptions import ExamplaryError
from django_examplary.signals import api_call_finished

ACTIVITY = "/admin/django_examplary/examplarysession/activity/"


@pytest.fixture(autouse=True)
def _one_day(monkeypatch):
    """Prevent a change of the day during a test."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)


@pytest.fixture(autouse=True)
def _empty_cache():
    cache.clear()
    yield
    cache.clear()


@pytest.fixture
def counting():
    api_call_finished.connect(count_api_call)
    yield
    api_call_finished.disconnect(count_api_call)


def today():
    return read_api_calls([timezone.localdate()])


def count(operation="GET /me", outcome="ok", status=200):
    count_api_call(None, operation=operation, outcome=outcome, status=status, attempts=1)


def test_calls_are_counted_by_topic_and_result(fake, counting):
    client = services.get_client(max_retries=0)
    client.get_me()
    client.get_me()
    fake.fail("GET", "/me", status=403)
    fake.fail("GET", "/me", status=500)
    for _ in range(2):
        with pytest.raises(ExamplaryError):
            client.get_me()

    assert today() == {"other": {"ok": 2, "refused": 1, "failed": 1}}


@pytest.mark.parametrize(
    ("operation", "topic"),
    [
        ("POST /users", "users"),
        ("POST /embed-sessions", "embed-sessions"),
        ("GET /embed-sessions/{id}", "embed-sessions"),
        ("POST /permissions/{resource}", "permissions"),
        ("GET the QTI 3 export", "other"),
    ],
)
def test_topic_is_the_first_segment_of_the_path(operation, topic):
    count(operation)

    assert today() == {topic: {"ok": 1}}


@pytest.mark.parametrize(
    ("outcome", "status", "result"),
    [
        ("ok", 204, "ok"),
        ("ExamplaryRateLimitError", 429, "refused"),
        ("ExamplaryServerError", 500, "failed"),
        ("ExamplaryConnectionError", 0, "failed"),
        ("ExamplaryResponseError", 200, "failed"),
    ],
)
def test_result_follows_from_outcome_and_status(outcome, status, result):
    count(outcome=outcome, status=status)

    assert today() == {"other": {result: 1}}


@pytest.mark.parametrize(("use_tz", "day"), [(True, date(2026, 3, 2)), (False, date(2026, 3, 1))])
def test_day_is_in_the_time_zone_of_the_site(settings, monkeypatch, use_tz, day):
    settings.USE_TZ = use_tz
    settings.TIME_ZONE = "Asia/Tokyo"
    evening = datetime(2026, 3, 1, 20, tzinfo=UTC if use_tz else None)
    monkeypatch.setattr(timezone, "now", lambda: evening)

    with timezone.override("America/Chicago"):
        count()

    assert read_api_calls([day]) == {"other": {"ok": 1}}
    assert read_api_calls([date(2026, 3, 3)]) == {}


@pytest.mark.django_db
def test_activity_page_shows_calls(admin_client, counting):
    count("POST /users")
    count("POST /users", "ExamplaryConnectionError", 0)

    page = admin_client.get(ACTIVITY).content.decode()

    section = page.partition("Requests to Examplary")[2].partition("</table>")[0]
    assert re.findall(r">(?:<th scope=\"row\">)?([^<>]+)</t[hd]>", section)[-4:] == [
        "Accounts",
        "1",
        "0",
        "1",
    ]
    assert "Access to exams" not in section


@pytest.mark.django_db
def test_activity_page_reads_no_cache_unless_calls_are_counted(admin_client, monkeypatch):
    count("POST /users")
    monkeypatch.setattr(api_call_finished, "receivers", [])
    monkeypatch.setattr(cache, "get_many", pytest.fail)
    api_call_finished.sender_receivers_cache.clear()

    assert "Requests to Examplary" not in admin_client.get(ACTIVITY).content.decode()


@pytest.mark.django_db
def test_activity_page_with_counters_uses_at_most_six_queries(admin_client, settings, counting):
    settings.CACHES = {
        "default": {
            "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
            "LOCATION": "counters",
        }
    }
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(f"{ACTIVITY}?days=90")

    # The first two read the staff member's session and the staff member.
    assert len(queries) <= 2 + 6


def test_all_counters_are_read_with_one_call(monkeypatch):
    asked = []
    monkeypatch.setattr(cache, "get_many", lambda keys: asked.append(list(keys)) or {})

    read_api_calls([date(2026, 3, 1), date(2026, 3, 2)])

    assert [len(keys) for keys in asked] == [2 * len(TOPICS) * len(RESULTS)]
