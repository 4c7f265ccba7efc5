"""Several schools on one site: a failure of one does not affect the others."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.template import RequestContext, Template
from django.test import RequestFactory

from django_examplary import services
from django_examplary.client.retries import Cooldown
from django_examplary.exceptions import (
    ExamplaryAuthenticationError,
    ExamplaryEmbedURLError,
    ExamplaryRateLimitError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.bulk import count_waiting

pytestmark = pytest.mark.django_db

ORIGIN = "https://site.example"
NAMES = ["north", "south"]
Status = ExamplarySession.Status
WAIT = {"Retry-After": "30"}


@pytest.fixture
def schools(fake, settings):
    """Two schools, each with a workspace, a domain for its embeds and a teacher."""
    settings.EXAMPLARY_MAX_RETRIES = 0
    schools = {}
    for name in NAMES:
        workspace = fake.add_workspace(embed_origin=f"https://{name}.example")
        user = get_user_model().objects.create_user(f"{name}-1", f"1@{name}.example")
        schools[name] = SimpleNamespace(name=name, api=workspace, teacher=user)
    settings.EXAMPLARY_WORKSPACES = {
        name: {"API_KEY": school.api.api_key, "EMBED_ORIGINS": [school.api.embed_origin]}
        for name, school in schools.items()
    }
    settings.EXAMPLARY_WORKSPACE = lambda user: user.username.partition("-")[0]
    return schools


@pytest.fixture(params=NAMES)
def pair(request, schools):
    """The affected school and the other school, in both orders."""
    [other] = {*NAMES} - {request.param}
    return schools[request.param], schools[other]


def launch(school, subject="Sums"):
    return services.open_session(school.teacher, GenerateExam(subject=subject), origin=ORIGIN)


# Origins


def test_embed_of_another_school_is_refused(pair):
    school, other = pair
    school.api.embed_origin = other.api.embed_origin

    with pytest.raises(ExamplaryEmbedURLError) as caught:
        launch(school)

    setting = f"EXAMPLARY_WORKSPACES['{school.name}']['EMBED_ORIGINS']"
    assert f"which {setting} does not list" in str(caught.value)
    assert f"set {setting} = [" in str(caught.value)
    assert all(session.revoked for session in school.api.sessions.values())
    assert not ExamplarySession.objects.exists()
    assert launch(other).status == Status.PENDING


def test_session_is_not_reused_after_its_origin_moved_to_another_school(pair, settings):
    school, other = pair
    first = launch(school)
    workspaces = settings.EXAMPLARY_WORKSPACES
    own = {**workspaces[school.name], "EMBED_ORIGINS": ["https://new.example"]}
    others = {**workspaces[other.name], "EMBED_ORIGINS": [school.api.embed_origin]}
    settings.EXAMPLARY_WORKSPACES = {school.name: own, other.name: others}
    school.api.embed_origin = "https://new.example"

    second = launch(school)

    assert second.pk != first.pk
    assert second.embed_url.value.startswith("https://new.example/")


def test_page_accepts_messages_of_its_own_school_only(pair):
    school, other = pair
    request = RequestFactory().get("/")
    request.user = school.teacher
    page = Template('{% load examplary %}{% examplary_embed "generate-exam" %}')

    html = page.render(RequestContext(request))

    assert school.api.embed_origin in html
    assert other.api.embed_origin not in html


@pytest.mark.parametrize("call", ["/users", "/embed-sessions"])
def test_next_launch_revokes_a_session_that_opened_while_the_user_moved(pair, settings, call):
    school, other = pair

    def move(body):
        settings.EXAMPLARY_WORKSPACE = lambda user: other.name
        return body

    school.api.fail("POST", call, edit=move)
    first = launch(school)
    assert (first.workspace, first.status) == (school.name, Status.PENDING)

    second = launch(school)

    assert (second.workspace, second.status) == (other.name, Status.PENDING)
    first.refresh_from_db()
    assert first.status == Status.REVOKED
    [remote] = school.api.sessions.values()
    services.sweep_sessions()
    assert remote.revoked


# Outages, refusals and pauses


@pytest.mark.parametrize(
    ("status", "first", "then"),
    [
        (500, ExamplaryServerError, ExamplaryUnavailableError),
        (401, ExamplaryAuthenticationError, ExamplaryUnavailableError),
        (429, ExamplaryRateLimitError, ExamplaryRateLimitError),
    ],
)
def test_failures_of_one_school_pause_its_launches_only(pair, status, first, then, monkeypatch):
    monkeypatch.setattr(Cooldown, "SECONDS", 600.0)
    school, other = pair
    for each in pair:
        services.provision_actor(each.teacher)
    school.api.fail("POST", "/embed-sessions", status=status, times=None, headers=WAIT)
    for subject in ("1", "2", "3"):
        with pytest.raises((first, then)):
            launch(school, subject)
    sent = len(school.api.calls("POST", "/embed-sessions"))

    with pytest.raises(then):
        launch(school, "4")

    assert len(school.api.calls("POST", "/embed-sessions")) == sent
    assert launch(other).status == Status.PENDING


def test_slow_school_does_not_delay_the_other(pair, settings):
    school, other = pair
    for each in pair:
        launch(each)
    settings.EXAMPLARY_DEADLINE = 1.0
    school.api.fail("GET", "/embed-sessions/{id}", delay=3, times=None)

    # On a busy machine the other school may need more than a second, too.
    assert any(services.sweep_sessions(concurrency=1) and count_verified(other) for _ in range(30))
    assert count_verified(school) == 0


@pytest.fixture
def crowds(schools):
    """Create seven more teachers for each school, those of the north first."""
    for name in NAMES:
        for number in range(2, 9):
            email = f"{number}@{name}.example"
            get_user_model().objects.create_user(f"{name}-{number}", email)


@pytest.mark.parametrize("status", [500, 401, 403])
def test_failing_school_stops_only_its_part_of_a_bulk_run(pair, crowds, status):
    school, other = pair
    school.api.fail("POST", "/users", status=status, times=None)

    result = services.provision_actors(
        get_user_model().objects.all(), rate=0, concurrency=2, max_failures=3
    )

    assert result.provisioned == 8
    assert result.stopped.startswith(f"{school.name}: ")
    assert len(school.api.calls("POST", "/users")) <= 4
    active = ExamplaryActor.objects.filter(state=ExamplaryActor.State.ACTIVE)
    assert set(active.values_list("workspace", flat=True)) == {other.name}


def test_wrong_url_of_one_school_stops_only_its_part_of_a_bulk_run(pair, crowds, settings, fake):
    school = pair[0]
    workspaces = settings.EXAMPLARY_WORKSPACES
    wrong = {**workspaces[school.name], "API_URL": f"{fake.base_url}/v0"}
    settings.EXAMPLARY_WORKSPACES = {**workspaces, school.name: wrong}

    result = services.provision_actors(get_user_model().objects.all(), rate=0)

    assert result.provisioned == 8
    assert result.stopped.startswith(f"{school.name}: ")
    assert "is not the address of the API" in result.stopped
    pending = ExamplaryActor.objects.exclude(state=ExamplaryActor.State.ACTIVE)
    assert set(pending.values_list("workspace", flat=True)) <= {school.name}


def count_active(school):
    return ExamplaryActor.objects.filter(workspace=school.name, state="active").count()


def test_pause_of_one_school_does_not_pause_the_others_in_a_bulk_run(pair, crowds):
    school, other = pair
    school.api.fail("POST", "/users", status=429, headers={"Retry-After": "60"})

    result = services.provision_actors(
        get_user_model().objects.all(),
        rate=0,
        concurrency=1,
        should_stop=lambda: bool(school.api.calls("POST", "/users")) and count_active(other) == 8,
    )

    assert (result.provisioned, result.failed, result.interrupted) == (8, {}, True)
    assert (count_active(school), count_active(other)) == (0, 8)
    assert result.pause > 0


def test_users_whose_school_pauses_are_provisioned_later(pair, crowds):
    school = pair[0]
    school.api.fail("POST", "/users", status=429, headers={"Retry-After": "0.3"})

    result = services.provision_actors(get_user_model().objects.all(), rate=0, concurrency=1)

    assert (result.provisioned, result.failed, result.stopped) == (16, {}, "")
    assert len(school.api.calls("POST", "/users")) == 9


def count_verified(school):
    sessions = ExamplarySession.objects.filter(workspace=school.name)
    return sessions.exclude(verified_at=None).count()


def test_pause_of_one_school_does_not_pause_the_others_in_a_sweep(pair):
    school, other = pair
    for subject in ("1", "2", "3"):
        for each in pair:
            launch(each, subject)
    school.api.fail("GET", "/embed-sessions/{id}", status=429, headers={"Retry-After": "60"})

    result = services.sweep_sessions(concurrency=1, should_stop=lambda: count_verified(other) == 3)

    assert (result.verified, result.failed, result.interrupted) == (3, 0, True)
    assert count_verified(school) == 0


def test_sessions_whose_school_pauses_are_verified_later(pair):
    school = pair[0]
    for subject in ("1", "2", "3"):
        for each in pair:
            launch(each, subject)
    school.api.fail("GET", "/embed-sessions/{id}", status=429, headers={"Retry-After": "0.3"})

    result = services.sweep_sessions(concurrency=1)

    assert (result.verified, result.failed, result.stopped) == (6, 0, "")


def test_failing_school_stops_only_its_part_of_a_sweep(pair, monkeypatch):
    # After three failures the client would wait five seconds before each call.
    monkeypatch.setattr(Cooldown, "FAILURES", 100)
    school = pair[0]
    for number in range(14):
        for each in pair:
            launch(each, str(number))
    school.api.fail("GET", "/embed-sessions/{id}", status=500, times=None)

    result = services.sweep_sessions(concurrency=2)

    assert result.verified == 14
    assert result.stopped.startswith(f"{school.name}: ")


# Counting


def test_users_of_a_school_are_counted(schools, crowds, settings):
    users = get_user_model().objects.all()
    assert count_waiting(users) == 16
    assert count_waiting(users, "north") == count_waiting(users, "south") == 8

    services.provision_actor(schools["north"].teacher)
    get_user_model().objects.filter(username="north-2").update(is_active=False)
    assert (count_waiting(users), count_waiting(users, "north")) == (14, 6)
    # A user who moves is provisioned again.
    settings.EXAMPLARY_WORKSPACE = lambda user: "south"
    assert (count_waiting(users, "north"), count_waiting(users, "south")) == (0, 15)
    assert services.provision_actors(users, workspace="south", rate=0).provisioned == 15


def test_user_without_a_workspace_is_not_counted(schools, settings):
    settings.EXAMPLARY_WORKSPACE = lambda user: {"north-1": "north"}[user.username]

    assert count_waiting(get_user_model().objects.all()) == 1
