"""The page "Examplary activity", and lists as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.db.models.signals import post_init
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_examplary.admin.activity import measure_activity
from django_examplary.admin.chart import COLOURS, draw_chart
from django_examplary.admin.exporting import cell
from django_examplary.models import ExamplaryActor, ExamplarySession
from tests.admin_rows import State, Status, make_actor, make_session, make_user

pytestmark = pytest.mark.django_db

ACTORS = "/admin/django_examplary/examplaryactor/"
SESSIONS = "/admin/django_examplary/examplarysession/"
ACTIVITY = f"{SESSIONS}activity/"


@pytest.fixture(autouse=True)
def _utc(settings):
    """Use a time zone that every database has."""
    settings.TIME_ZONE = "UTC"


def measure(days=7):
    return measure_activity(ExamplarySession.objects.all(), ExamplaryActor.objects.all(), days)


def ended(actor, minutes, **fields):
    now = timezone.now()
    values = {"status": Status.COMPLETED, "created_at": now - timedelta(minutes=minutes), **fields}
    return make_session(actor, ended_at=values["created_at"] + timedelta(minutes=minutes), **values)


def test_sessions_are_counted_by_day_and_flow(monkeypatch):
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    ada = make_actor("ada")
    yesterday = now - timedelta(days=1)
    for days, flow in [(0, "take-exam"), (0, "take-exam"), (0, "edit-exam"), (1, "take-exam")]:
        make_session(ada, flow=flow, created_at=now - timedelta(days=days))
    make_session(ada, created_at=now - timedelta(days=40))

    activity = measure()

    assert len(activity.days) == 7
    assert activity.days[-1] == timezone.localdate()
    assert activity.per_day == {
        timezone.localdate(): {"take-exam": 2, "edit-exam": 1},
        timezone.localdate(yesterday): {"take-exam": 1},
    }
    assert activity.flows == ["take-exam", "edit-exam"]
    assert measure(90).flows == ["take-exam", "edit-exam", "generate-exam"]


def test_exams_are_counted_by_teacher():
    ada, bob = make_actor("ada"), make_actor("bob")
    for actor in (ada, bob, bob):
        ended(actor, 1)
    ended(None, 1)
    make_session(ada)
    ended(ada, 1, flow="edit-rubric")

    assert [(actor.user.username, count) for actor, count in measure().teachers] == [
        ("bob", 2),
        ("ada", 1),
    ]


def test_failures_are_counted_by_reason():
    for number in range(3):
        make_actor(f"a{number}", state=State.FAILED, last_error=f"The address exists: {number}.")
    make_actor("b", state=State.UNCERTAIN)
    make_actor("c")

    failures = [(str(reason.name), count) for reason, count in measure().failures]

    assert failures == [("address already in use", 3), ("no response from Examplary", 1)]


@pytest.mark.parametrize(("minutes", "median"), [([], None), ([30, 1, 5], 5), ([4, 2], 4)])
def test_median_time_to_finish(minutes, median):
    ada = make_actor("ada")
    for each in minutes:
        ended(ada, each)
    ended(ada, 50, status=Status.CANCELLED)

    assert measure().median == (median and timedelta(minutes=median))


@pytest.mark.parametrize(("zones", "day"), [(True, date(2026, 3, 2)), (False, date(2026, 3, 1))])
def test_days_are_in_utc_where_the_database_lacks_time_zones(monkeypatch, settings, zones, day):
    if connection.vendor == "mysql" and zones:  # pragma: no cover  # only on MariaDB
        pytest.skip("This server may lack time zone tables.")
    settings.TIME_ZONE = "Asia/Tokyo"
    monkeypatch.setattr(connection.features, "has_zoneinfo_database", zones, raising=False)
    evening = datetime(2026, 3, 1, 20, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: evening)
    make_session(make_actor("ada"), created_at=evening)

    assert list(measure().per_day) == [day]


@pytest.mark.parametrize(
    ("name", "now"),
    [
        # Days of 23 and 25 hours, in some zones with the change at midnight.
        ("Europe/Amsterdam", datetime(2026, 3, 31, 12, tzinfo=UTC)),
        ("Europe/Amsterdam", datetime(2026, 10, 27, 12, tzinfo=UTC)),
        ("Africa/Cairo", datetime(2026, 4, 26, 12, tzinfo=UTC)),
        ("Africa/Cairo", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("Pacific/Auckland", datetime(2026, 4, 7, 12, tzinfo=UTC)),
    ],
)
def test_days_agree_with_python(monkeypatch, settings, name, now):
    settings.TIME_ZONE = name
    monkeypatch.setattr(timezone, "now", lambda: now)
    actor = make_actor("ada", created_at=now)
    times = [now - timedelta(minutes=20 * number) for number in range(3 * 24 * 8)]
    ExamplarySession.objects.bulk_create(
        ExamplarySession(actor=actor, flow="take-exam", created_at=each) for each in times
    )
    # A MariaDB server without time zone tables counts days in UTC, which the page states.
    zone = ZoneInfo(name) if connection.features.has_zoneinfo_database else UTC
    expected = Counter(each.astimezone(zone).date() for each in times)

    activity = measure()

    assert len(activity.per_day) == 7
    assert activity.per_day == {day: {"take-exam": expected[day]} for day in activity.days}
    # Days of 23 or 25 hours, and of 24.
    assert zone == UTC or {69, 75} & set(expected.values())
    assert 72 in expected.values()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Servers keep the zone they began with.")
def test_days_without_time_zones(settings, monkeypatch):
    settings.USE_TZ = False
    now = datetime(2026, 3, 1, 20)  # noqa: DTZ001
    monkeypatch.setattr(timezone, "now", lambda: now)
    actor = make_actor("ada", created_at=now)
    ExamplarySession.objects.bulk_create([ExamplarySession(actor=actor, created_at=now)])

    assert list(measure().per_day) == [now.date()]


@pytest.mark.parametrize(
    ("query", "days"), [("", 7), ("?days=30", 30), ("?days=90", 90), ("?days=8", 7), ("?days=x", 7)]
)
def test_period_is_chosen(admin_client, query, days):
    response = admin_client.get(f"{ACTIVITY}{query}")

    assert len(response.context["activity"].days) == days
    assert f'href="?days={days}" aria-current="true"' in response.content.decode()


def test_page_shows_all_values_as_text(admin_client):
    ada = make_actor("ada")
    make_actor("bob", state=State.FAILED, last_error="The address exists.")
    ended(ada, 65)
    make_session(ada, flow="of-tomorrow")
    make_session(ada, status=Status.EXPIRED)

    page = admin_client.get(ACTIVITY).content.decode()

    for text in (
        "Generate an exam",
        "of-tomorrow",
        "1\xa0hour, 5\xa0minutes",
        ">ada<",
        "Address already in use",
        ">33 %<",
        ">expired<",
    ):
        assert text in page
    assert page.count("<rect") >= 4
    assert "<script" not in page.partition('class="examplary"')[2].partition("</main>")[0]
    assert " style=" not in page.partition('class="examplary"')[2].partition("</main>")[0]


def test_page_in_another_language(admin_client):
    make_session(make_actor("ada"))

    page = admin_client.get(ACTIVITY, headers={"accept-language": "de"}).content.decode()

    numbers = re.findall(r'<rect x="([^"]+)" y="([^"]+)"', page)
    assert numbers
    assert all(float(x) >= 0 and float(y) >= 0 for x, y in numbers)


def test_page_without_sessions(admin_client):
    page = admin_client.get(ACTIVITY).content.decode()

    assert "No sessions in this period." in page


def test_page_without_completed_sessions(admin_client):
    make_session(make_actor("ada"))

    assert "No session was completed in this period." in admin_client.get(ACTIVITY).content.decode()


def test_page_requires_the_permission_to_view_sessions(client):
    client.force_login(make_user("staff", is_staff=True))

    assert client.get(ACTIVITY).status_code == 403


def test_activity_uses_five_queries():
    ended(make_actor("ada"), 1)

    with CaptureQueriesContext(connection) as queries:
        measure()

    assert len(queries) == 5


def test_bars_are_stacked_to_the_maximum():
    chart = draw_chart(["Mon", "Tue"], {"a": [3, 0], "b": [1, 2]})

    assert chart["maximum"] == 4
    first, second, third = chart["bars"]
    assert second["y"] == 10
    assert first["y"] == pytest.approx(second["y"] + second["height"], abs=0.02)
    assert third["title"] == "Tue, b: 2"
    assert chart["legend"] == [(COLOURS[0], "a"), (COLOURS[1], "b")]


def test_chart_without_values():
    assert draw_chart(["Mon"], {})["maximum"] == 0
    assert draw_chart(["Mon"], {"a": [0]})["bars"] == []


# CSV


def rows(response):
    text = b"".join(response).decode()
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))


def test_csv_of_sessions_has_the_listed_rows(admin_client):
    ada = make_actor("ada")
    done = ended(ada, 5, outputs={"examId": "exam_1"})
    make_session(ada)
    make_session(None, status=Status.COMPLETED)

    response = admin_client.get(f"{SESSIONS}csv/?status__exact=completed&q=ada")

    assert response.streaming
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in response["Cache-Control"]
    head, row = rows(response)
    assert head[:3] == ["id", "flow", "user"]
    assert row[:4] == [str(done.pk), "Generate an exam", "ada", "completed"]
    assert row[-1] == "exam_1"


@pytest.mark.skipif(connection.vendor != "sqlite", reason="Servers keep the zone they began with.")
@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
def test_csv_without_time_zones(admin_client, settings, url):
    make_session(make_actor("ada"))
    settings.USE_TZ = False
    day = datetime(2026, 3, 1, 20)  # noqa: DTZ001
    ExamplaryActor.objects.update(created_at=day)
    ExamplarySession.objects.update(created_at=day, expires_at=day)

    response = admin_client.get(f"{url}csv/")

    assert f"-{timezone.now().date()}.csv" in response["Content-Disposition"]
    assert "2026-03-01 20:00:00" in rows(response)[1]


def test_csv_of_actors_has_reasons(admin_client):
    make_actor("ada", state=State.FAILED, examplary_id=None, last_error="The address exists.")

    _head, row = rows(admin_client.get(f"{ACTORS}csv/"))

    assert row[:3] == ["ada", "failed", "address already in use"]


def test_csv_has_the_rows_of_all_pages(admin_client):
    ada = make_actor("ada")
    for _ in range(105):
        make_session(ada)

    assert len(rows(admin_client.get(f"{SESSIONS}csv/?p=2"))) == 106


def test_csv_is_streamed(admin_client):
    for name in ("ada", "bob", "eve"):
        make_session(make_actor(name))
    response = admin_client.get(f"{SESSIONS}csv/")
    read = []

    def count(**_: object) -> None:
        read.append(1)

    post_init.connect(count, sender=ExamplarySession)
    _mark, _head, _row = (next(response.streaming_content) for _ in range(3))
    post_init.disconnect(count, sender=ExamplarySession)
    # Read to the end, so that the response closes without closing the test connection.
    assert len(list(response.streaming_content)) == 2

    assert len(read) == 1


def test_csv_with_an_invalid_filter_redirects_to_the_list(admin_client):
    response = admin_client.get(f"{SESSIONS}csv/?created_at__gte=yesterday")

    assert response.url == SESSIONS


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
def test_csv_requires_its_permission(client, url):
    model = url.split("/")[-2]
    staff = make_user("staff", is_staff=True)
    client.force_login(staff)
    staff.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    assert "csv/" not in client.get(url).content.decode()
    assert client.get(f"{url}csv/").status_code == 403

    staff.user_permissions.set(Permission.objects.filter(codename=f"export_{model}"))
    assert client.get(f"{url}csv/").status_code == 403

    view = Permission.objects.filter(codename__in=[f"view_{model}", f"export_{model}"])
    staff.user_permissions.set(view)
    assert "csv/?q=ada" in client.get(f"{url}?q=ada").content.decode()
    assert rows(client.get(f"{url}csv/"))


def test_csv_of_sessions_hides_outputs_without_their_permission(client):
    staff = make_user("staff", is_staff=True)
    client.force_login(staff)
    codenames = ["view_examplarysession", "export_examplarysession"]
    staff.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    make_session(make_actor("ada"), outputs={"examId": "exam_canary"})

    assert "exam_canary" not in str(rows(client.get(f"{SESSIONS}csv/")))


def test_csv_has_no_secret(admin_client):
    secrets = {"examplary_id": "s_canary", "embed_url": "canary", "open_key": "7:canary"}
    make_session(make_actor("ada"), **secrets)

    assert "canary" not in str(rows(admin_client.get(f"{SESSIONS}csv/")))


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＋", "＠"])
def test_cells_are_not_formulas(start):
    assert cell(f"{start}cmd()") == f"'{start}cmd()"


@pytest.mark.parametrize("separator", [";", "; ", ';"', "\t", "\n", "\r\n", "|"])
def test_cells_are_not_formulas_with_other_separators(separator):
    """In many countries spreadsheets do not treat the comma as a separator."""
    assert "'" in cell(f"Ada{separator}=cmd()").partition("=")[0]
    assert cell(f"Ada{separator}b=c") == f"Ada{separator}b=c"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        ("Ada", "Ada"),
        (datetime(2026, 3, 1, 20, tzinfo=UTC), "2026-03-01 20:00:00+00:00"),
        (datetime(2026, 3, 1, 20), "2026-03-01 20:00:00"),  # noqa: DTZ001
    ],
)
def test_cell(value, text):
    assert cell(value) == text
