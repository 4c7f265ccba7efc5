from __future__ import annotations

import json
import logging
import random
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.client.retries import Cooldown
from django_examplary.data import ActorProfile
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryInvalidRequestError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services import actors, bulk, claims
from tests import wire
from tests.threads import call_at_once

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State
User = get_user_model()


def provision(users=None, **options):
    users = User.objects.all() if users is None else users
    return services.provision_actors(users, **{"rate": 0, "concurrency": 2, **options})


def states():
    return sorted(ExamplaryActor.objects.values_list("user__username", "state"))


def bodies(fake):
    return [json.loads(call.body) for call in fake.calls("POST", "/users")]


# Runs


def test_every_user_is_provisioned_and_announced_once(fake, make_users, provisioned):
    make_users(10)
    seen = []

    result = provision(role="student", progress=lambda result: seen.append(result.provisioned))

    assert (result.provisioned, result.failed, result.skipped, result.stopped) == (10, {}, 0, "")
    assert not result.interrupted
    assert {actor.user for actor in provisioned} == set(User.objects.all())
    assert len(provisioned) == 10
    assert seen == list(range(1, 11))
    assert {body["role"] for body in bodies(fake)} == {"student"}
    for actor in ExamplaryActor.objects.all():
        assert actor.is_active
        assert fake.users[actor.examplary_id]["email"] == actor.email == actor.user.email


def test_users_are_read_in_pages(fake, make_users):
    make_users(201)

    assert provision(concurrency=16).provisioned == 201


def test_second_run_finds_nothing_to_do(fake, make_users):
    make_users(3)
    provision()

    assert provision().provisioned == 0
    assert len(fake.calls("POST", "/users")) == 3


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
def test_failed_users_are_tried_again(fake, teacher, state):
    ExamplaryActor.objects.create(user=teacher, state=state, last_error="before")

    assert provision().provisioned == 1
    assert ExamplaryActor.objects.get().last_error == ""


@pytest.mark.parametrize("state", [State.CLAIMED, State.UNCERTAIN])
def test_users_of_other_callers_are_skipped(fake, teacher, state, lapse):
    lapses_at = timezone.now() + timedelta(minutes=1)
    ExamplaryActor.objects.create(user=teacher, state=state, lapses_at=lapses_at)

    assert provision().skipped == 1
    assert fake.requests == []

    lapse()
    assert provision().provisioned == 1


def test_inactive_users_are_not_selected(fake, make_users):
    make_users(2, is_active=False)

    assert provision().provisioned == 0
    assert not ExamplaryActor.objects.exists()


def test_user_deactivated_meanwhile_is_skipped(fake, teacher, monkeypatch):
    pages = bulk._pages

    def deactivate_after_reading(users):
        for page in pages(users):
            User.objects.update(is_active=False)
            yield page

    monkeypatch.setattr(bulk, "_pages", deactivate_after_reading)

    assert provision().skipped == 1
    assert fake.requests == []


@pytest.mark.django_db(transaction=True)
def test_transaction_is_refused(fake, teacher):
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="provision_actors"):
        provision()
    assert fake.requests == []


def test_missing_key_creates_no_claim(settings, teacher):
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_KEY"):
        provision()

    assert not ExamplaryActor.objects.exists()


def test_wrong_url_ends_the_run_without_claims(fake, make_users):
    make_users(4)
    fake.fail("POST", "/users", status=404, times=None)
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_URL"):
        provision(concurrency=2)

    assert {state for _, state in states()} == {State.PENDING}


def test_client_has_a_connection_for_every_thread(fake, teacher, monkeypatch):
    pools = []

    def get_client(*workspace, **options):
        pools.append(options)
        return services.get_client(*workspace, **options)

    monkeypatch.setattr(bulk, "get_client", get_client)
    provision(concurrency=17)

    assert pools[-1] == {"max_retries": 0, "pool_size": 17}


def test_no_more_users_are_claimed_than_calls_are_under_way(fake, make_users):
    make_users(20)
    fake.latency = 0.02
    claimed = []

    provision(
        concurrency=2,
        progress=lambda result: claimed.append(
            ExamplaryActor.objects.filter(state=State.CLAIMED).count()
        ),
    )

    assert max(claimed) <= 2


def test_query_count_per_user_is_constant(fake, make_users, django_assert_max_num_queries):
    make_users(64)
    # For each user: the claim, its read, the update, and two savepoints of two queries.
    with django_assert_max_num_queries(64 * 7 + 10):
        provision(concurrency=8)


# Which users


def test_users_by_group_flag_and_search(db):
    ann, ben, cat = (
        User.objects.create_user(name, f"{name}@school.example", **fields)
        for name, fields in (
            ("ann", {"is_staff": True, "first_name": "Anna"}),
            ("ben", {"last_name": "Bennet"}),
            ("cat", {}),
        )
    )
    teachers, heads = (Group.objects.create(name=name) for name in ("Teachers", "Heads"))
    ann.groups.set([teachers, heads])
    ben.groups.set([teachers])

    assert set(services.select_users()) == {ann, ben, cat}
    assert list(services.select_users(groups=["Teachers", "Heads"]).order_by("pk")) == [ann, ben]
    assert list(services.select_users(staff=True)) == [ann]
    assert set(services.select_users(staff=False)) == {ben, cat}
    for search, user in (("nnA", ann), ("bennet", ben), ("cat@", cat)):
        assert list(services.select_users(search=search)) == [user]
    assert list(services.select_users(groups=["Teachers"], staff=False, search="b")) == [ben]


def test_user_of_two_groups_is_provisioned_once(fake, teacher):
    groups = [Group.objects.create(name=name) for name in ("Teachers", "Heads")]
    teacher.groups.set(groups)

    assert provision(services.select_users(groups=["Teachers", "Heads"])).provisioned == 1


def test_user_model_without_a_flag(fake, teacher, monkeypatch):
    monkeypatch.setattr(bulk, "user_has_field", lambda name: False)

    assert provision().provisioned == 1


# Failures


def test_failure_of_one_user_does_not_stop_the_others(fake, make_users):
    make_users(4)
    User.objects.filter(username="user001").update(email="no address")
    fake.add_user("user002@school.example")

    result = provision()

    assert result.provisioned == 2
    assert sorted(result.failed.values()) == [1, 1]
    assert "400 A user with this e-mail address already exists." in result.failed
    assert states()[1:3] == [("user001", State.FAILED), ("user002", State.FAILED)]
    assert "already exists" in ExamplaryActor.objects.get(user__username="user002").last_error


def test_user_who_existed_before_does_not_stop_the_others(fake, make_users):
    fake.duplicates = "return"
    make_users(3)
    fake.add_user("user001@school.example", role="student")

    result = provision()

    assert result.provisioned == 2
    assert states()[1] == ("user001", State.FAILED)


def test_call_ends_by_the_deadline_of_the_settings(fake, teacher, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 100, 0.5
    fake.fail("POST", "/users", transport=wire.HANG)
    started = time.monotonic()

    result = provision(client=services.get_client(deadline=100, max_retries=0))

    assert sum(result.failed.values()) == 1
    assert time.monotonic() - started < 50


def test_profile_that_raises_fails_its_user_only(fake, settings, make_users, caplog):
    def profile(user):
        if user.username == "user000":
            raise LookupError("secret of the directory")
        return ActorProfile(email=user.email)

    settings.EXAMPLARY_ACTOR_PROFILE = profile
    make_users(2)

    with caplog.at_level(logging.ERROR):
        result = provision()

    assert result.failed == {"EXAMPLARY_ACTOR_PROFILE raised LookupError.": 1}
    assert states() == [("user000", State.PENDING), ("user001", State.ACTIVE)]
    assert "operation=provision-actors actor=" in caplog.text


def test_accounts_that_share_an_address(fake, settings, teacher, student):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email="both@school.example")
    fake.duplicates = "return"

    result = provision(concurrency=1)

    assert result.provisioned == 1
    [reason] = result.failed
    assert "represents another account here already" in reason
    assert sorted(state for _, state in states()) == [State.ACTIVE, State.FAILED]


def test_reasons_are_counted_separately_up_to_a_number(fake, make_users):
    make_users(23)
    for number in range(23):
        fake.fail("POST", "/users", status=422, body={"message": f"reason {number}"})

    failed = provision(concurrency=1).failed

    assert len(failed) == 21
    assert (failed["422 reason 0"], failed["other reasons"]) == (1, 3)


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_stops_the_run_at_once(fake, make_users, status):
    make_users(20)
    fake.fail("POST", "/users", status=status, times=None)

    result = provision(concurrency=2)

    assert f"was answered with {status}" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 2
    assert {state for _, state in states()} == {State.PENDING}


def test_refused_key_stops_its_workspace_only(fake, settings, make_users):
    make_users(6)
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": "examp_of_another_workspace_00000000"}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user.pk % 2 else "default"

    result = provision(concurrency=2)

    assert result.provisioned == 3
    assert "was answered with 401" in result.stopped
    workspaces = ExamplaryActor.objects.filter(state=State.ACTIVE).values_list("workspace")
    assert set(workspaces) == {("default",)}


def test_run_for_one_workspace(fake, settings, make_users):
    make_users(6)
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": settings.EXAMPLARY_API_KEY}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user.pk % 2 else "default"

    result = provision(workspace="north")

    assert (result.provisioned, result.skipped) == (3, 0)
    assert set(ExamplaryActor.objects.values_list("workspace")) == {("north",)}
    with pytest.raises(ExamplaryConfigurationError, match="There is no workspace 'gone'"):
        provision(workspace="gone")


def test_users_who_moved_are_provisioned_again(fake, settings, make_users):
    make_users(4)
    provision()
    fake.duplicates = "create"
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": settings.EXAMPLARY_API_KEY}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user.pk % 2 else "default"

    result = provision()

    assert (result.provisioned, result.skipped) == (2, 0)
    actors = ExamplaryActor.objects.filter(state=State.ACTIVE, workspace="north")
    assert actors.count() == 2


def test_user_who_moved_to_an_unknown_workspace_keeps_the_actor(fake, settings, make_users, caplog):
    make_users(1)
    provision()
    former = ExamplaryActor.objects.get()
    settings.EXAMPLARY_WORKSPACE = lambda user: "gone"

    result = provision()

    assert (result.provisioned, result.skipped) == (0, 0)
    [reason] = result.failed
    assert "There is no workspace 'gone'" in reason
    assert "There is no workspace 'gone'" in caplog.text
    actor = ExamplaryActor.objects.get()
    assert (actor.examplary_id, actor.state) == (former.examplary_id, State.ACTIVE)


@pytest.mark.parametrize("workspace", [None, "default"])
def test_user_of_unknown_workspace_does_not_stop_others(
    fake, make_users, settings, caplog, workspace
):
    first, *others = make_users(4)
    settings.EXAMPLARY_WORKSPACE = lambda user: {each.pk: "default" for each in others}[user.pk]

    result = provision(workspace=workspace)

    assert (result.provisioned, result.failed) == (3, {"EXAMPLARY_WORKSPACE raised KeyError.": 1})
    assert f"user={first.pk} error=EXAMPLARY_WORKSPACE raised KeyError." in caplog.text


def test_unknown_workspace_fails_its_users_only(fake, settings, make_users):
    make_users(4)
    settings.EXAMPLARY_WORKSPACE = lambda user: "gone" if user.pk % 2 else "default"

    result = provision()

    assert result.provisioned == 2
    [reason] = result.failed
    assert "There is no workspace 'gone'" in reason


def test_second_page_is_not_read_after_the_only_key_was_refused(fake, make_users):
    make_users(201)
    fake.fail("POST", "/users", status=401, times=None)

    provision()

    assert ExamplaryActor.objects.count() == 200


def test_outage_stops_the_run(fake, make_users):
    make_users(20)
    fake.fail("POST", "/users", status=500, times=None, before=False)

    result = provision(concurrency=2, max_failures=3)

    assert "3 calls in a row failed" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 4
    # Users whose requests were sent may exist; the other claims were released.
    assert State.UNCERTAIN in {state for _, state in states()} <= {State.UNCERTAIN, State.PENDING}


@pytest.mark.parametrize("fault", [wire.GARBAGE, {"body": {"user": 1}}])
def test_unreadable_answers_stop_the_run(fake, make_users, fault):
    """Each response may belong to a created user whose id is unknown."""
    make_users(20)
    fake.fail("POST", "/users", times=None, before=False, **fault)

    result = provision(concurrency=2, max_failures=3)

    assert "3 calls in a row failed" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 4


def test_unsent_request_is_sent_again(fake, settings, make_users, monkeypatch):
    """The server is down for a moment."""
    make_users(3)
    client = services.get_client(max_retries=0)
    create_user = ExamplaryClient.create_user
    away = ExamplaryClient(settings.EXAMPLARY_API_KEY, base_url="http://127.0.0.1:1", max_retries=0)
    calls = []

    def create(self, **profile):
        calls.append(profile["email"])
        return create_user(self if len(calls) > 2 else away, **profile)

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    result = provision(concurrency=1, client=client)

    assert (result.provisioned, result.failed, result.stopped) == (3, {}, "")
    # Released and claimed again, after the others.
    assert sorted(calls) == sorted([*{*calls}, *calls[:2]])


def test_released_claim_is_not_an_unanswered_request(fake, teacher, settings):
    """After a 429 the refusal as a duplicate starts no look-up."""
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    fake.add_user(teacher.email)
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "0"})

    assert provision().provisioned == 0
    assert fake.calls("POST", "/exams") == []


def test_run_waits_for_a_client_that_cools_down(fake, teacher, monkeypatch):
    monkeypatch.setattr(Cooldown, "SECONDS", 0.5)
    client = services.get_client(max_retries=0)
    for number in range(3):
        fake.fail("GET", "/exams/{id}", status=500)
        with pytest.raises(Exception, match="500"):
            client.get_exam(f"exam_{number}")

    result = provision(client=client)

    assert (result.provisioned, result.failed) == (1, {})


def test_error_of_another_kind_ends_the_run(fake, make_users, monkeypatch):
    make_users(6)

    def create(self, **profile):
        raise ZeroDivisionError

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    with pytest.raises(ZeroDivisionError):
        provision(concurrency=2)

    # Claims of calls under way expire; the other users are released at once.
    assert 1 <= ExamplaryActor.objects.filter(state=State.CLAIMED).count() <= 2


@pytest.mark.django_db(transaction=True)
def test_created_users_are_stored_when_progress_fails(fake, make_users, provisioned):
    """For example, the reader of the output has exited."""
    make_users(12)
    fake.latency = 0.05

    def progress(result):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        provision(concurrency=4, progress=progress)

    created = set(fake.users) - {fake.owner_id}
    active = ExamplaryActor.objects.filter(state=State.ACTIVE)
    assert set(active.values_list("examplary_id", flat=True)) == created
    assert 4 <= len(created) == len(provisioned)
    assert not ExamplaryActor.objects.filter(state=State.CLAIMED).exists()


def test_calls_under_way_are_recorded_after_an_error(fake, make_users, monkeypatch, caplog):
    make_users(4)
    over = threading.Event()
    create_user = ExamplaryClient.create_user
    errors = {
        "user001": ZeroDivisionError(),
        "user002": ExamplaryInvalidRequestError("POST /users", status_code=422),
    }

    def create(self, *, email, **profile):
        name = email.partition("@")[0]
        if name != "user000":
            over.wait(60)
        if name in errors:
            raise errors[name]
        return create_user(self, email=email, **profile)

    def progress(result):
        over.set()
        raise BrokenPipeError

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    with pytest.raises(BrokenPipeError):
        provision(concurrency=4, progress=progress)

    assert states() == [
        ("user000", State.ACTIVE),
        # The outcome is unknown, so its claim stays until it expires.
        ("user001", State.CLAIMED),
        ("user002", State.FAILED),
        ("user003", State.ACTIVE),
    ]
    assert "error=ZeroDivisionError" in caplog.text


def test_run_that_the_database_ends_logs_every_id(fake, make_users, monkeypatch, caplog):
    make_users(4)
    commit = claims.commit

    def commit_until_all_were_sent(work):
        if len(fake.calls("POST", "/users")) == 4:
            raise OperationalError("the server has gone away")
        return commit(work)

    fake.latency = 0.2
    monkeypatch.setattr(claims, "commit", commit_until_all_were_sent)
    result = provision(concurrency=4)

    created = {user_id for user_id, user in fake.users.items() if user["email"][:4] == "user"}
    assert len(created) == 4
    stored = set(ExamplaryActor.objects.values_list("examplary_id", flat=True))
    lost = created - stored
    assert lost
    assert [user_id for user_id in lost if user_id not in caplog.text] == []
    assert sum(result.failed.values()) == len(lost)


def test_lost_claim_stores_nothing(fake, make_users, lapse):
    fake.duplicates = "create"
    make_users(2)

    def take_over(result):
        lapse()
        for user in User.objects.all():
            services.provision_actor(user)

    fake.latency = 0.2
    result = provision(progress=take_over)

    assert sorted(result.failed.values()) in ([], [1])
    assert {state for _, state in states()} == {State.ACTIVE}
    ids = ExamplaryActor.objects.values_list("examplary_id", flat=True)
    assert len(set(ids)) == 2


# Stopping


def test_stopped_run_leaves_no_claims(fake, make_users):
    make_users(12)
    stop = threading.Event()

    result = provision(progress=lambda result: stop.set(), should_stop=stop.is_set)

    assert (result.interrupted, result.stopped) == (True, "")
    assert 1 <= result.provisioned <= 4
    assert State.CLAIMED not in {state for _, state in states()}
    assert provision().provisioned == 12 - result.provisioned


def test_run_stopped_before_it_begins_calls_nothing(fake, teacher):
    assert provision(should_stop=lambda: True).interrupted
    assert not ExamplaryActor.objects.exists()


def test_run_stops_between_users_who_need_no_call(fake, make_users):
    make_users(3)
    User.objects.update(email="no address")
    failed = ExamplaryActor.objects.filter(state=State.FAILED)

    assert provision(should_stop=failed.exists).interrupted
    assert failed.count() == 1


# The pace


def test_rate_is_respected(fake, make_users):
    make_users(6)
    started = time.monotonic()

    provision(rate=20)

    # Six calls have five gaps of 50 ms.
    assert time.monotonic() - started >= 0.25


def test_429_pauses_the_whole_run_and_loses_no_user(fake, make_users):
    make_users(12)
    fake.rate_limit(6)

    result = provision(concurrency=4)

    assert (result.provisioned, result.failed, result.stopped) == (12, {}, "")
    assert len(fake.calls("POST", "/users")) <= 12 + 3 * 4


@pytest.mark.parametrize("status", [425, 503])
def test_postponed_request_is_not_a_failure(fake, teacher, status):
    fake.fail("POST", "/users", status=status, headers={"Retry-After": "0"})

    assert provision().provisioned == 1


def test_server_error_that_names_a_time_may_have_created_the_user(fake, teacher):
    fake.fail("POST", "/users", status=500, headers={"Retry-After": "0"}, before=False)

    assert provision().provisioned == 0
    assert states() == [("teacher", State.UNCERTAIN)]
    assert len(fake.calls("POST", "/users")) == 1


def test_role_of_failed_try_is_sent_again(fake, student):
    fake.fail("POST", "/users", status=400)
    provision(role="student")

    assert provision().provisioned == 1
    assert {body["role"] for body in bodies(fake)} == {"student"}


def test_long_pause_is_left_to_the_next_run(fake, teacher):
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "3600"})

    result = provision()

    assert "was answered with 429" in result.stopped
    assert result.pause > 3590
    assert states() == [("teacher", State.PENDING)]


# Rows


@pytest.mark.parametrize("error", [IntegrityError, OperationalError])
def test_page_that_cannot_be_prepared_is_prepared_row_by_row(fake, make_users, monkeypatch, error):
    gone, *rest = make_users(4)
    prepare = bulk.prepare_actors

    def prepare_actors(users):
        if len(users) > 1:
            raise error("in each other's way")
        if gone in users:
            raise IntegrityError("deleted this moment")
        return prepare(users)

    monkeypatch.setattr(bulk, "prepare_actors", prepare_actors)
    result = provision(concurrency=4)

    assert (result.provisioned, result.skipped) == (3, 1)
    assert {actor.user for actor in ExamplaryActor.objects.all()} == set(rest)


# With real commits


@pytest.mark.django_db(transaction=True)
def test_runs_and_launches_at_the_same_time_create_each_user_once(
    fake, make_users, provisioned, patiently
):
    users = make_users(30)
    fake.latency = 0.01
    fake.duplicates = "create"  # Makes duplicates visible.

    def run():
        provision(concurrency=4)

    def launch():
        for user in reversed(users):
            patiently(lambda user=user: services.provision_actor(user))

    call_at_once(run, run, launch)

    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 30
    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == 30
    assert len(provisioned) == 30


# Without 429, which would only slow down the run and this test.
FAULTS = [
    {"status": 400},
    {"status": 500},
    {"status": 500, "before": False},
    {"transport": "close"},
    {"transport": "reset", "before": False},
    {"transport": wire.TRUNCATE},
    {**wire.GARBAGE, "before": False},
]


@pytest.mark.parametrize(
    ("duplicates", "verified"), [("return", False), ("refuse", False), ("refuse", True)]
)
def test_every_user_is_eventually_provisioned_or_explained(
    fake, settings, make_users, lapse, duplicates, verified
):
    """One call in twenty fails, and four runs follow each other."""
    chance = random.Random(duplicates)  # noqa: S311  # the same every time
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = verified
    fake.duplicates = duplicates
    make_users(100)
    for _ in range(4):
        for _ in range(5):
            fake.fail("POST", "/users", delay=0, times=chance.randint(1, 20))
            fake.fail("POST", "/users", **chance.choice(FAULTS))
        provision(concurrency=8, max_failures=50)
        fake.heal()
        lapse()
    provision(concurrency=8)

    assert len(fake.users) - 1 == 100
    rest = ExamplaryActor.objects.exclude(state=State.ACTIVE)
    if duplicates == "return" or verified:
        # With trusted addresses the look-up finds users whose response was lost.
        assert not rest
    else:
        # Created by a call whose response was lost: an operator must link their ids.
        assert rest
        assert all("already exists" in actor.last_error for actor in rest)
    ids = set(
        ExamplaryActor.objects.filter(state=State.ACTIVE).values_list("examplary_id", flat=True)
    )
    assert ids <= set(fake.users)
    assert len(ids) + len(rest) == 100


@pytest.mark.django_db(transaction=True)
def test_user_deleted_while_the_page_is_prepared(fake, make_users, monkeypatch):
    gone, *rest = make_users(3)
    prepare = bulk.prepare_actors

    def prepare_actors(users):
        User.objects.filter(pk=gone.pk).delete()
        return prepare(users)

    monkeypatch.setattr(bulk, "prepare_actors", prepare_actors)
    result = provision(concurrency=4)

    assert result.provisioned == 2
    assert {actor.user for actor in ExamplaryActor.objects.all()} == set(rest)
    assert actors.prepare_actors({}) == []
