"""Search, filters, summaries and links of the two lists and of the user admin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.widgets import AutocompleteSelect
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone, translation
from django.utils.translation import gettext

from django_examplary.admin import (
    ExamplaryActorAdmin,
    ExamplaryActorInline,
    ExamplarySessionAdmin,
    ProvisionActorsMixin,
    base,
    searching,
)
from django_examplary.admin.advice import explain
from django_examplary.admin.names import user_name
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import bulk
from tests.admin_rows import State, Status, allow, make_actor, make_session, make_user
from tests.processes import COVERAGE


class SchoolUserAdmin(ProvisionActorsMixin, UserAdmin):  # type: ignore[type-arg]
    inlines = [ExamplaryActorInline]


class OnlyPupils(SchoolUserAdmin):
    """A user admin that shows only pupils."""

    def get_queryset(self, request):
        return super().get_queryset(request).filter(username__startswith="pupil")


site = admin.AdminSite(name="school")
restricted = admin.AdminSite(name="restricted")
lonely = admin.AdminSite(name="lonely")
for each, user_admin in ((site, SchoolUserAdmin), (restricted, OnlyPupils)):
    each.register(User, user_admin)
plain = admin.AdminSite(name="plain")
for each in (site, restricted, lonely, plain):
    each.register(ExamplaryActor, ExamplaryActorAdmin)
for each in (site, restricted):
    each.register(ExamplarySession, ExamplarySessionAdmin)
plain.register(ExamplarySession, admin.ModelAdmin)

urlpatterns = [path(f"{each.name}/", each.urls) for each in (site, restricted, lonely, plain)]

pytestmark = [pytest.mark.usefixtures("module_urls"), pytest.mark.django_db]

ACTORS = "/school/django_examplary/examplaryactor/"
SESSIONS = "/school/django_examplary/examplarysession/"
USERS = "/school/auth/user/"


def found(browser, url, **query: Any) -> list[Any]:
    response = browser.get(url, query)
    assert response.status_code == 200
    return list(response.context["cl"].queryset)


def html(browser, url) -> str:
    response = browser.get(url)
    assert response.status_code == 200
    page: str = response.content.decode()
    return page


@pytest.fixture
def ada():
    return make_actor(
        "ada",
        user=make_user("ada", first_name="Ada", last_name="Lovelace", email="now@school.example"),
        email="sent@school.example",
        name="A. L.",
    )


SEARCHES = ["ada", "Lovelace", "Ada Lovelace", "now@school", "sent@school", "A. L."]


@pytest.mark.parametrize("text", [*SEARCHES, "user_ada"])
def test_search_finds_actor_by_name_address_and_id(admin_client, ada, text):
    make_actor("bob")

    assert found(admin_client, ACTORS, q=text) == [ada]


@pytest.mark.parametrize("text", SEARCHES)
def test_search_finds_session_by_user(admin_client, ada, text):
    make_session(make_actor("bob"))
    session = make_session(ada)

    assert found(admin_client, SESSIONS, q=text) == [session]


def test_search_compares_each_actor_once_and_not_each_session(admin_client, ada):
    make_session(ada)

    with CaptureQueriesContext(connection) as queries:
        assert found(admin_client, SESSIONS, q="Lovelace")

    searches = [each["sql"] for each in queries if "lovelace" in each["sql"].lower()]
    assert searches
    for sql in searches:
        _, _, before = sql.lower().partition(" from ")
        assert " in (select " in before.partition(" like ")[0]
        assert "presets" not in before


@pytest.mark.parametrize(
    ("model_admin", "url", "field"),
    [
        (ExamplaryActorAdmin, ACTORS, "last_error"),
        (ExamplarySessionAdmin, SESSIONS, "next_url"),
        (ExamplarySessionAdmin, SESSIONS, "actor__last_error"),
    ],
)
def test_search_in_the_fields_of_a_subclass(
    admin_client, ada, monkeypatch, model_admin, url, field
):
    monkeypatch.setattr(model_admin, "search_fields", [field])
    ExamplaryActor.objects.update(last_error="exams/12")
    row: Any = make_session(ada, next_url="/exams/12/")
    make_session(make_actor("bob"), next_url="/exams/13/")
    row = ada if url == ACTORS else row

    assert found(admin_client, url, q="exams/12") == [row]
    assert found(admin_client, url, q="ada") == [row]


def test_other_models_may_autocomplete_actors(admin_client, ada):
    class Other(admin.ModelAdmin):
        autocomplete_fields = ["actor"]

    make_actor("bob")
    query = {"app_label": "django_examplary", "model_name": "examplarysession"}

    assert Other(ExamplarySession, site).check() == []
    response = admin_client.get(
        "/school/autocomplete/", {**query, "field_name": "actor", "term": "Ada"}
    )
    assert [each["id"] for each in response.json()["results"]] == [str(ada.pk)]


def test_search_for_users_finds_full_name(ada):
    make_user("bob", first_name="Ada")

    fields = searching.user_search_fields()

    assert list(searching.search_rows(User.objects.all(), fields, "Ada Lovelace")) == [ada.user]


def test_search_finds_failed_actor_without_sent_name(admin_client):
    actor = make_actor("bob", state=State.FAILED, examplary_id=None)

    assert found(admin_client, ACTORS, q="bob@school") == [actor]


def test_search_finds_rows_by_local_id(admin_client, ada):
    session = make_session(ada)
    make_session(make_actor("bob"))

    assert ada in found(admin_client, ACTORS, q=str(ada.pk))
    assert ada in found(admin_client, ACTORS, q=str(ada.user_id))
    assert found(admin_client, SESSIONS, q=str(session.pk)) == [session]
    assert session in found(admin_client, SESSIONS, q=str(ada.user_id))
    assert found(admin_client, ACTORS, q="9" * 30) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"flow": "take-exam", "presets": {"examId": "exam_1"}},
        {"flow": "practice-space-student", "presets": {"practiceSpaceId": "exam_1"}},
        {"outputs": {"examId": "exam_1"}},
    ],
)
def test_search_finds_session_by_exam_id(admin_client, ada, fields):
    session = make_session(ada, **fields)
    make_session(ada, presets={"examId": "exam_2"}, outputs={"examId": "exam_12"})

    assert found(admin_client, SESSIONS, q="exam_1") == [session]


@pytest.mark.parametrize("text", [" exam_1", "exam_1\t", " {} "])
def test_search_ignores_spaces_around_an_id(admin_client, ada, text):
    session = make_session(ada, outputs={"examId": "exam_1"})
    make_session(ada)

    assert found(admin_client, SESSIONS, q=text.format(session.pk)) == [session]


def test_search_in_outputs_requires_a_permission(client, ada):
    staff = make_user("staff", is_staff=True)
    staff.user_permissions.set(Permission.objects.exclude(codename="view_outputs"))
    client.force_login(staff)
    make_session(ada, outputs={"examId": "exam_1"})

    assert found(client, SESSIONS, q="exam_1") == []


def test_search_works_with_a_foreign_key_and_an_encrypted_field():
    run = subprocess.run(
        [sys.executable, "-m", "tests.odd_user.render"],
        env={**os.environ, **COVERAGE},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    # By a first name, an encrypted address, and an unknown string.
    unknown = "There is no such user."
    assert json.loads(run.stdout) == {
        "actors": [["person ada"], [], []],
        "sessions": [["ada"], [], []],
        "provision": [["person ada"], [], []],
        "link": [unknown, unknown, unknown, "will be linked"],
        # The users without an account, and the user of an actor and of a session.
        "links": [[200], [200], [200]],
        "rows": 2,
    }


class Plain(models.Model):  # noqa: DJ008  # It has no rows.
    """A user model without text fields and groups."""

    USERNAME_FIELD = "number"
    number = models.ForeignKey("auth.User", on_delete=models.CASCADE)

    class Meta:
        app_label = "plain"

    @classmethod
    def get_email_field_name(cls):
        return "email"


def test_user_model_without_text_has_no_search_and_no_groups(rf, monkeypatch):
    actors = admin.site.get_model_admin(ExamplaryActor)
    assert "user__groups" in actors.get_list_filter(rf.get("/"))

    monkeypatch.setattr(searching, "get_user_model", lambda: Plain)
    monkeypatch.setattr(bulk, "get_user_model", lambda: Plain)

    assert searching.user_search_fields() == []
    assert searching.search_rows(Plain._default_manager.all(), [], "ada").query.is_empty()
    assert "user__groups" not in actors.get_list_filter(rf.get("/"))


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
def test_newest_row_is_first(admin_client, url):
    now = timezone.now()
    rows = []
    for days in (2, 0, 1):
        actor = make_actor(f"user{days}", created_at=now - timedelta(days=days))
        session = make_session(actor, created_at=now - timedelta(days=days))
        rows.append(actor if url == ACTORS else session)

    assert found(admin_client, url) == [rows[1], rows[2], rows[0]]


@pytest.mark.parametrize("url", [ACTORS, SESSIONS])
@pytest.mark.parametrize("zones", [True, False])
def test_date_hierarchy_needs_time_zones_in_the_database(
    admin_client, ada, monkeypatch, url, zones
):
    if connection.vendor == "mysql" and zones:  # pragma: no cover  # only on MariaDB
        pytest.skip("This server may lack time zone tables.")
    make_session(ada)
    monkeypatch.setattr(connection.features, "has_zoneinfo_database", zones, raising=False)

    changelist = admin_client.get(url).context["cl"]

    assert changelist.date_hierarchy == ("created_at" if zones else None)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({"flow__exact": "take-exam"}, 1),
        ({"status__exact": "completed"}, 1),
        ({"actor__user__groups__id__exact": "1"}, 1),
        ({"created_at__year": "2000"}, 0),
    ],
)
def test_sessions_are_filtered(admin_client, ada, query, count):
    Group.objects.create(pk=1, name="Pupils").user_set.add(ada.user)
    make_session(ada, flow="take-exam")
    make_session(make_actor("bob"), status=Status.COMPLETED)

    assert len(found(admin_client, SESSIONS, **query)) == count


def test_filters_have_translated_names(admin_client, ada):
    make_session(ada, flow="take-exam")
    make_session(ada, flow="of-tomorrow")
    ExamplaryActor.objects.update(role="teacher")

    sessions = admin_client.get(SESSIONS, headers={"accept-language": "nl"}).content.decode()
    actors = admin_client.get(ACTORS, headers={"accept-language": "nl"}).content.decode()

    with translation.override("nl"):
        assert f">{gettext('Take an exam')}<" in sessions
    assert ">of-tomorrow<" in sessions
    assert ">docent<" in actors


TEMPLATES = {
    # Like django-guardian, and a template that extends another with the same name.
    "guarded.html": """{% extends "admin/change_form.html" %}
        {% block object-tools-items %}<li>Object permissions</li>{{ block.super }}{% endblock %}""",
    "own.html": """{% extends "admin/django_examplary/change_form.html" %}
        {% block object-tools-items %}<li>Object permissions</li>{{ block.super }}{% endblock %}""",
    "variable.html": """{% extends base|default:"admin/django_examplary/change_form.html" %}
        {% block object-tools-items %}<li>Object permissions</li>{{ block.super }}{% endblock %}""",
    # As in django-reversion.
    "versions.html": """{% extends "admin/change_list.html" %}
        {% block object-tools-items %}<li>Recover deleted</li>{{ block.super }}{% endblock %}""",
    "unknown.html": """{% extends base %}""",
    "again.html": """{% extends "again.html" %}""",
    "whole.html": """Object permissions{% block content %}{% endblock %}""",
}


@pytest.fixture
def templates(settings):
    """Install templates of mixins and projects."""
    [engine] = settings.TEMPLATES
    loaders = [
        ("django.template.loaders.locmem.Loader", TEMPLATES),
        "django.template.loaders.app_directories.Loader",
    ]
    options = {**engine["OPTIONS"], "loaders": loaders}
    settings.TEMPLATES = [{**engine, "APP_DIRS": False, "OPTIONS": options}]


@pytest.mark.parametrize("name", ["guarded.html", "own.html", "variable.html", "whole.html"])
def test_template_of_a_mixin_keeps_the_buttons(admin_client, ada, templates, monkeypatch, name):
    monkeypatch.setattr(ExamplaryActorAdmin, "change_form_template", name)

    page = html(admin_client, f"{ACTORS}{ada.pk}/change/")

    assert page.count("Object permissions") == 1
    assert page.count("Erase data…") == 1


def test_list_template_of_a_mixin_keeps_the_buttons(admin_client, ada, templates, monkeypatch):
    monkeypatch.setattr(ExamplaryActorAdmin, "change_list_template", "versions.html")

    page = html(admin_client, ACTORS)
    assert page.count("Recover deleted") == 1
    assert page.count("Link users from a file") == 1

    chosen = {"action": "erase_actors", "_selected_action": [ada.pk]}
    assert "Yes, erase the data" in admin_client.post(ACTORS, chosen).text


@pytest.mark.parametrize(("name", "is_based"), [("unknown.html", True), ("again.html", False)])
def test_parents_of_a_template_are_found_without_its_context(templates, name, is_based):
    assert base._is_based_on(name, "admin/django_examplary/change_form.html") is is_based


@pytest.mark.parametrize("language", ["de", "es", "fr", "nl"])
def test_rows_have_translated_names_in_lists_and_on_pages(admin_client, language):
    actor = make_actor("ada", state=State.FAILED, role="student", last_error="The address exists.")
    session = make_session(actor, flow="take-exam", status=Status.CANCELLED)
    head = {"accept-language": language}
    with translation.override(language):
        role, flow, state = gettext("student"), gettext("Take an exam"), gettext("failed")
        status, reason = gettext("cancelled"), gettext("address already in use")
        advice = str(explain(actor.state, actor.last_error).text)
    pages = {
        ACTORS: [role, state, reason],
        f"{ACTORS}{actor.pk}/change/": [role, state, advice],
        SESSIONS: [flow, status],
        f"{SESSIONS}{session.pk}/change/": [flow, status],
        f"{SESSIONS}activity/": [flow, status, advice],
        f"{USERS}{actor.user_id}/change/": [role, state, advice],
    }

    for url, names in pages.items():
        page = unescape(admin_client.get(url, headers=head).content.decode())
        assert [name for name in names if name not in page] == [], url
    assert reason != "address already in use"
    assert flow != "Take an exam"


@pytest.mark.parametrize(("state", "names"), [("none", ["eve"]), ("failed", ["bob"])])
def test_users_are_filtered_by_account(admin_client, ada, admin_user, state, names):
    make_actor("bob", state=State.FAILED, examplary_id=None)
    make_user("eve")

    users = found(admin_client, USERS, examplary=state)

    assert [user.username for user in users if user != admin_user] == names


@pytest.mark.parametrize("page", ["", "csv/"])
@pytest.mark.parametrize(
    "query",
    [
        "created_at__year=9999",
        f"created_at__year={'9' * 20}",
        "created_at__gte=9999-12-31T23:59:59-14:00",
        "created_at__gte=0001-01-01T00:00:00%2B14:00",
        f"{{}}__in={'9' * 20}",
        "{}__exact=a%00b",
        "q=a%00b",
        f"p={'9' * 20}",
        f"o={'9' * 20}",
        "{}__exact=a&{}__exact=%00",
        "{}__regex=[",
        "{}__range=0",
    ],
)
@pytest.mark.parametrize(
    ("url", "field", "key"), [(ACTORS, "state", "id"), (SESSIONS, "status", "actor__id")]
)
def test_list_accepts_every_value_of_a_filter(admin_client, ada, url, page, query, field, key):
    query = query.replace("{}", key if "__in" in query else field)

    response = admin_client.get(f"{url}{page}?{query}")

    # Depending on the database, the list is empty or the filter is ignored.
    assert response.status_code in (200, 302)


@pytest.mark.parametrize("page", ["", "csv/"])
@pytest.mark.parametrize(
    "query", ["presets__contains=1", "metadata__contained_by=1", "theme__has_keys="]
)
def test_list_of_sessions_answers_every_filter_of_json(admin_client, ada, page, query):
    """No database has all of these filters."""
    assert admin_client.get(f"{SESSIONS}{page}?{query}").status_code in (200, 302)


@pytest.mark.parametrize("query", ["", "?e=1"])
def test_error_of_a_list_without_a_filter_is_raised(admin_client, monkeypatch, query):
    """Otherwise the page would show a hint about the installation in place of the error."""

    def fail(*_: object) -> None:
        raise ValueError("A subclass of the project fails.")

    monkeypatch.setattr(ExamplaryActorAdmin, "get_queryset", fail)

    with pytest.raises(ValueError, match="A subclass"):
        admin_client.get(f"{ACTORS}{query}")


@pytest.mark.parametrize("key", ["", "abc", "\0", "9" * 20, "9" * 5000])
@pytest.mark.parametrize(("url", "action"), [(ACTORS, "provision_actors"), (SESSIONS, "revoke")])
def test_action_refuses_an_invalid_key(admin_client, fake, ada, url, action, key):
    chosen = {"action": action, "_selected_action": ["1", key]}

    assert admin_client.post(url, chosen).status_code == 400
    assert fake.requests == []


@pytest.mark.parametrize("state", ["lost", "a%00b"])
def test_unknown_state_of_an_account_filters_nothing(admin_client, ada, admin_user, state):
    users = admin_client.get(f"{USERS}?examplary={state}").context["cl"].queryset

    assert set(users) == {ada.user, admin_user}


@pytest.mark.parametrize(("url", "links"), [(ACTORS, 6), (SESSIONS, 7)])
def test_every_link_of_the_summary_shows_its_count(admin_client, ada, url, links):
    make_actor("bob", state=State.FAILED, examplary_id=None)
    make_session(ada, status=Status.COMPLETED)
    make_user("eve")
    make_user("gone", is_active=False)

    summary = admin_client.get(url).context["summary"]()

    assert len(summary) == links
    for part in summary:
        assert len(found(admin_client, part["url"])) == part["count"]


def test_summary_without_a_user_admin_has_no_link_to_users(admin_client):
    summary = admin_client.get("/lonely/django_examplary/examplaryactor/").context["summary"]()

    assert not summary[-1]["url"]


def test_pages_link_user_actor_and_sessions(admin_client, ada):
    session = make_session(ada)
    make_session(ada, status=Status.COMPLETED)

    user_page = html(admin_client, f"{USERS}{ada.user_id}/change/")
    actor_page = html(admin_client, f"{ACTORS}{ada.pk}/change/")
    session_page = html(admin_client, f"{SESSIONS}{session.pk}/change/")

    assert f'href="{SESSIONS}?actor__id__exact={ada.pk}">2</a>' in user_page
    assert f"{ACTORS}{ada.pk}/change/" in user_page
    user_link = f'href="{USERS}{ada.user_id}/change/">ada (Ada Lovelace)</a>, now@school.example'
    assert user_link in actor_page
    assert f'{SESSIONS}?actor__id__exact={ada.pk}">Sessions</a> <b>2</b>' in actor_page
    assert 'status__exact=pending">Open sessions</a> <b>1</b>' in actor_page
    assert user_link in session_page
    assert f'href="{ACTORS}{ada.pk}/change/">ada (active)</a>' in session_page
    assert len(found(admin_client, SESSIONS, actor__id__exact=ada.pk)) == 2


def test_empty_values_are_shown_as_a_dash(admin_client):
    session, actor = make_session(None), make_actor("ada", role="")

    assert ">None<" not in html(admin_client, f"{SESSIONS}{session.pk}/change/")
    assert ">None<" not in html(admin_client, f"{ACTORS}{actor.pk}/change/")
    assert ">None<" not in html(admin_client, f"{USERS}{actor.user_id}/change/")


def test_site_without_sessions_has_no_links_to_them(admin_client, ada):
    page = html(admin_client, f"/lonely/django_examplary/examplaryactor/{ada.pk}/change/")

    assert "Sessions" not in page


def test_staff_see_only_the_users_of_their_user_admin(admin_client, ada):
    pupil = make_actor("pupil1")
    ours, _other = make_session(pupil), make_session(ada)
    make_user("pupil2")

    base = "/restricted/django_examplary"

    assert found(admin_client, f"{base}/examplaryactor/") == [pupil]
    assert found(admin_client, f"{base}/examplarysession/") == [ours]
    summary = admin_client.get(f"{base}/examplaryactor/").context["summary"]()
    assert {str(part["label"]): part["count"] for part in summary}["users without an account"] == 1
    run = admin_client.get(f"{base}/examplaryactor/provision/?role=teacher").context["run"]
    assert [user.username for user in run.remaining] == ["pupil2"]
    answer = admin_client.get(f"{base}/examplaryactor/{ada.pk}/change/")
    assert answer.status_code == 302


@pytest.mark.parametrize("name", ["restricted", "school"])
def test_staff_add_actors_only_for_the_users_of_their_user_admin(admin_client, name):
    eve, pupil = make_user("eve"), make_user("pupil1")
    is_hidden = name == "restricted"
    actors = f"/{name}/django_examplary/examplaryactor/"

    # The form shows the name of the user in the query string, and of a user it has refused.
    assert (">eve<" in html(admin_client, f"{actors}add/?user={eve.pk}")) is not is_hidden
    assert ">pupil1<" in html(admin_client, f"{actors}add/?user={pupil.pk}")
    assert 'value="x"' in html(admin_client, f"{actors}add/?user=x")
    answer = admin_client.post(f"{actors}add/", {"user": eve.pk})

    assert ExamplaryActor.objects.filter(user=eve).exists() is not is_hidden
    if is_hidden:
        assert "not one of the available choices" in answer.content.decode()
        assert ">eve<" not in answer.content.decode()
    assert admin_client.post(f"{actors}add/", {"user": pupil.pk}).status_code == 302
    assert ExamplaryActor.objects.filter(user=pupil).exists()


def test_autocomplete_of_the_project_offers_only_visible_users(rf, admin_user):
    class Autocompleted(ExamplaryActorAdmin):
        autocomplete_fields = ["user"]

    request = rf.get("/")
    request.user = admin_user
    pupil = make_user("pupil1")

    field = Autocompleted(ExamplaryActor, restricted).get_form(request).base_fields["user"]

    assert isinstance(field.widget, AutocompleteSelect)
    assert list(field.queryset) == [pupil]


@pytest.mark.parametrize("page", ["link/", "history/", "delete/", "do/provision_actors/"])
def test_actor_of_a_hidden_user_has_no_pages(admin_client, fake, ada, page):
    ExamplaryActor.objects.update(state=State.FAILED, examplary_id=None)
    url = f"/restricted/django_examplary/examplaryactor/{ada.pk}/{page}"

    answer = admin_client.post(url, {"examplary_id": "user_1", "post": "yes"})

    assert answer.status_code in (302, 404)
    ada.refresh_from_db()
    assert (ada.state, fake.requests) == (State.FAILED, [])


def test_actions_do_not_reach_actors_of_hidden_users(admin_client, fake, ada):
    ExamplaryActor.objects.update(state=State.FAILED, examplary_id=None)
    pupil = make_actor("pupil1", state=State.FAILED, examplary_id=None)
    data = {"action": "provision_actors", "_selected_action": [ada.pk, pupil.pk]}

    admin_client.post("/restricted/django_examplary/examplaryactor/", data)

    ada.refresh_from_db()
    pupil.refresh_from_db()
    assert (ada.state, pupil.state) == (State.FAILED, State.ACTIVE)


@pytest.mark.parametrize(
    ("name", "link"), [("school", "<li><a href="), ("restricted", None), ("lonely", "<li>Other")]
)
def test_user_who_has_the_refused_address_is_shown_if_visible(admin_client, ada, name, link):
    pupil = make_actor(
        "pupil1",
        user=make_user("pupil1", email="now@school.example"),
        state=State.FAILED,
        last_error="The address exists.",
    )

    page = html(admin_client, f"/{name}/django_examplary/examplaryactor/{pupil.pk}/change/")

    assert "Another user of this site has the same e-mail address." in page
    assert ("Ada Lovelace" in page) == (link is not None)
    if link:
        assert link in next(line for line in page.splitlines() if "Ada Lovelace" in line)


@pytest.mark.parametrize(("url", "other"), [(SESSIONS, ACTORS), (ACTORS, USERS)])
def test_search_without_result_leads_to_the_next_list(admin_client, ada, url, other):
    make_user("eve & co")
    link = f'href="{other}?q=eve%20%26%20co"'

    assert link in html(admin_client, f"{url}?q=eve+%26+co")
    assert "No actor matches" not in html(admin_client, f"{ACTORS}?q=ada")
    assert "No actor matches" not in html(admin_client, f"{ACTORS}?state__exact=failed")
    assert "matches:" not in html(admin_client, "/lonely/django_examplary/examplaryactor/?q=eve")
    assert [user.username for user in found(admin_client, USERS, q="eve & co")] == ["eve & co"]


def test_lists_show_the_full_name(admin_client, ada):
    make_session(ada)

    for url in (ACTORS, SESSIONS):
        assert "ada (Ada Lovelace)" in html(admin_client, url)


def test_full_name_equal_to_the_user_name_is_shown_once():
    assert user_name(make_user("Ada Lovelace", first_name="Ada", last_name="Lovelace")) == (
        "Ada Lovelace"
    )


def test_list_of_actors_links_the_activity_page_if_permitted(admin_client, client, ada):
    assert f'href="{SESSIONS}activity/"' in html(admin_client, ACTORS)
    assert "activity/" not in html(admin_client, "/lonely/django_examplary/examplaryactor/")
    # An admin class of the project without an activity page.
    assert "activity/" not in html(admin_client, "/plain/django_examplary/examplaryactor/")

    staff = make_user("staff", is_staff=True)
    allow(staff, "view_examplaryactor")
    client.force_login(staff)
    assert "activity/" not in html(client, ACTORS)


def test_activity_page_links_the_teachers_and_the_failures(admin_client, client, ada):
    make_session(ada, status=Status.COMPLETED, ended_at=timezone.now())
    make_actor("bob", state=State.FAILED, last_error="The address exists.")
    failures = f'href="{ACTORS}?state__exact=failed"'

    page = html(admin_client, f"{SESSIONS}activity/")

    assert f'href="{ACTORS}{ada.pk}/change/">ada (Ada Lovelace)</a>' in page
    assert failures in page

    staff = make_user("staff", is_staff=True)
    allow(staff, "view_examplarysession")
    client.force_login(staff)
    page = html(client, f"{SESSIONS}activity/")
    assert failures not in page
    assert ">ada (Ada Lovelace)<" in page
    assert f'href="{ACTORS}{ada.pk}/' not in page


def test_pages_of_actors_link_only_pages_that_may_be_viewed(client, ada):
    make_session(ada)
    staff = make_user("staff", is_staff=True)
    allow(staff, "view_examplaryactor")
    client.force_login(staff)
    ada.user.email = "staff@school.example"
    ada.user.save()
    ExamplaryActor.objects.update(state=State.FAILED, last_error="The address exists.")
    row = f"{ACTORS}{ada.pk}/change/"

    assert not client.get(ACTORS).context["summary"]()[-1]["url"]
    [other] = client.get(row).context["links"]
    assert (other["count"], other["url"]) == ("staff", "")

    allow(staff, "view_examplarysession", "view_user")
    assert client.get(ACTORS).context["summary"]()[-1]["url"]
    links = client.get(row).context["links"]
    assert [client.get(each["url"]).status_code for each in links] == [200, 200, 200]


@pytest.mark.parametrize(
    "url",
    [
        ACTORS,
        SESSIONS,
        USERS,
        f"{ACTORS}?q=pupil",
        f"{SESSIONS}?q=pupil",
        f"{ACTORS}{{actor}}/change/",
        f"{ACTORS}{{actor}}/link/",
        f"{SESSIONS}{{session}}/change/",
        f"{SESSIONS}activity/?days=90",
        f"{SESSIONS}csv/",
        f"{ACTORS}csv/",
        f"{USERS}{{user}}/change/",
        f"{ACTORS}{{actor}}/history/",
        f"{ACTORS}{{actor}}/delete/",
        f"{SESSIONS}{{session}}/history/",
        f"{SESSIONS}?actor__user__groups__isnull=True",
        f"{ACTORS}?workspace=default",
        f"{SESSIONS}?workspace=default",
        f"{SESSIONS}?flow__exact=generate-exam",
        f"{USERS}?examplary=failed",
    ],
)
def test_number_of_queries_is_constant(admin_client, settings, url):
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"
    first = make_actor("pupil", state=State.FAILED, last_error="first")
    session = make_session(first, status=Status.COMPLETED, ended_at=timezone.now())
    url = url.format(actor=first.pk, session=session.pk, user=first.user_id)

    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            response = admin_client.get(url)
            b"".join(response)
        return len(queries)

    count()  # Fills the cache of content types.
    few = count()
    for number in range(5):
        actor = make_actor(f"pupil{number}", state=State.FAILED, last_error=str(number))
        make_session(actor, status=Status.COMPLETED, ended_at=timezone.now())
        make_session(actor)
    assert count() == few


def test_pages_with_string_if_invalid(admin_client, ada, settings):
    [engine] = settings.TEMPLATES
    options = {**engine["OPTIONS"], "string_if_invalid": "INVALID"}
    settings.TEMPLATES = [{**engine, "OPTIONS": options}]
    session = make_session(ada)
    for page in (ACTORS, f"{ACTORS}{ada.pk}/change/", f"{SESSIONS}{session.pk}/change/"):
        response = admin_client.get(page)
        assert (response.status_code, "INVALID" in response.text) == (200, False)
