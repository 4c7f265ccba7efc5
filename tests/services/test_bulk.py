from __future__ import annotations

import json
import logging
import random
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone
from django_examplary.services.connections import ASKED_TO_STOP

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.data import ActorProfile
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryInvalidRequestError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services import actors, bulk
from django_examplary.signals import actor_provisioned
from tests import wire

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State
User = get_user_model()


def make_users(count, **fields):
    return User.objects.bulk_create(
        User(username=f"user{number:03}", email=f"user{number:03}@school.example", **fields)
        for number in range(count)
    )


def provision(users=None, **options):
    users = User.objects.all() if users is None else users
    return services.provision_actors(users, **{"rate": 0, "concurrency": 2, **options})


def states():
    return sorted(ExamplaryActor.objects.values_list("user__username", "state"))


def bodies(fake):
    return [json.loads(call.body) for call in fake.calls("POST", "/users")]


@pytest.fixture
def announced():
    received = []

    def receiver(actor, **kwargs):
        received.append(actor.user.username)

    actor_provisioned.connect(receiver)
    yield received
    actor_provisioned.disconnect(receiver)


# What it does


def test_every_user_is_provisioned_and_announced_once(fake, announced, monkeypatch):
    monkeypatch.setattr(bulk, "_PAGE", 3)
    make_users(10)
    seen = []

    result = provision(role="student", progress=lambda result: seen.append(result.provisioned))

    assert (result.provisioned, result.failed, result.skipped, result.stopped) == (10, {}, 0, "")
    assert sorted(announced) == [user.username for user in User.objects.order_by("username")]
    assert seen == list(range(1, 11))
    assert {body["role"] for body in bodies(fake)} == {"student"}
    for actor in ExamplaryActor.objects.all():
        assert actor.is_active
        assert fake.users[actor.examplary_id]["email"] == actor.email == actor.user.email


def test_second_run_finds_nothing_to_do(fake):
    make_users(3)
    provision()

    assert provision().provisioned == 0
    assert len(fake.calls("POST", "/users")) == 3


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
def test_what_failed_before_is_tried_again(fake, teacher, state):
    ExamplaryActor.objects.create(user=teacher, state=state, last_error="before")

    assert provision().provisioned == 1
    assert ExamplaryActor.objects.get().last_error == ""


@pytest.mark.parametrize("state", [State.CLAIMED, State.UNCERTAIN])
def test_what_others_hold_is_passed_over(fake, teacher, state):
    ExamplaryActor.objects.create(user=teacher, state=state, claimed_at=timezone.now())

    assert provision().skipped == 1
    assert fake.requests == []

    ExamplaryActor.objects.update(claimed_at=timezone.now() - timedelta(minutes=5))
    assert provision().provisioned == 1


def test_inactive_users_are_left_alone(fake):
    make_users(2, is_active=False)

    assert provision().provisioned == 0
    assert not ExamplaryActor.objects.exists()


def test_user_deactivated_meanwhile_is_passed_over(fake, teacher, monkeypatch):
    def keys(users):
        pks = list(users.values_list("pk", flat=True))
        User.objects.update(is_active=False)
        return iter(pks)

    monkeypatch.setattr(bulk, "_keys", keys)

    assert provision().skipped == 1
    assert fake.requests == []


def test_no_transaction_may_be_open(fake, teacher, transactional_db):
    with transaction.atomic(), pytest.raises(TransactionManagementError, match="provision_actors"):
        provision()
    assert fake.requests == []


def test_missing_key_claims_nothing(settings, teacher):
    settings.EXAMPLARY_API_KEY = ""

    with pytest.raises(ExamplaryConfigurationError, match="Set EXAMPLARY_API_KEY"):
        provision()
    assert not ExamplaryActor.objects.exists()


def test_client_has_a_connection_for_every_thread(fake, teacher, monkeypatch):
    clients = []
    create_user = ExamplaryClient.create_user

    def create(self, **profile):
        clients.append(self)
        return create_user(self, **profile)

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    provision(concurrency=17)

    assert [(client.pool_size, client.max_retries) for client in clients] == [(17, 0)]


def test_threads_are_never_more_than_asked_for(fake, monkeypatch):
    make_users(12)
    fake.latency = 0.05
    create_user = ExamplaryClient.create_user
    lock, under_way, most = threading.Lock(), [], []

    def create(self, **profile):
        with lock:
            under_way.append(profile)
            most.append(len(under_way))
        try:
            return create_user(self, **profile)
        finally:
            with lock:
                under_way.remove(profile)

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    assert provision(concurrency=3).provisioned == 12
    assert max(most) == 3


def test_no_more_is_claimed_than_is_soon_sent(fake):
    make_users(20)
    fake.latency = 0.02
    claimed = []

    provision(
        concurrency=2,
        progress=lambda result: claimed.append(
            ExamplaryActor.objects.filter(state=State.CLAIMED).count()
        ),
    )

    assert max(claimed) <= 4


def test_queries_do_not_grow_with_the_number_of_users(fake, django_assert_max_num_queries):
    make_users(64)
    # For each user an UPDATE and its savepoint; for each handful, the claims.
    with django_assert_max_num_queries(64 * 3 + 16 * 6 + 10):
        provision(concurrency=8)


# Whom it takes


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
    monkeypatch.setattr(bulk, "_has_field", lambda name: False)

    assert provision().provisioned == 1


# Failures


def test_failure_of_one_user_does_not_stop_the_others(fake, caplog):
    make_users(4)
    User.objects.filter(username="user001").update(email="no address")
    fake.add_user("user002@school.example")

    result = provision()

    assert result.provisioned == 2
    assert sorted(result.failed.values()) == [1, 1]
    assert "400 A user with this e-mail address already exists." in result.failed
    assert states()[1:3] == [("user001", State.FAILED), ("user002", State.FAILED)]
    assert "already exists" in ExamplaryActor.objects.get(user__username="user002").last_error


def test_call_ends_within_the_claim_whatever_the_client_would_take(fake, teacher, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 100, 0.5
    fake.fail("POST", "/users", transport=wire.HANG)
    started = time.monotonic()

    result = provision(client=services.get_client(deadline=100, max_retries=0))

    assert sum(result.failed.values()) == 1
    assert time.monotonic() - started < 50


def test_project_that_cannot_describe_a_user(fake, settings, caplog):
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


def test_accounts_that_share_an_address(fake, teacher, student):
    fake.duplicates = "return"
    User.objects.update(email="both@school.example")

    result = provision(concurrency=1)

    assert result.provisioned == 1
    assert list(result.failed) == [
        "Examplary answered with another account's user. Do they share an e-mail address?"
    ]
    assert sorted(state for _, state in states()) == [State.ACTIVE, State.FAILED]


def test_reasons_are_told_apart_up_to_a_number(fake, monkeypatch):
    monkeypatch.setattr(bulk, "_REASONS", 1)
    make_users(3)
    for text in ("one", "two", "three"):
        fake.fail("POST", "/users", status=422, body={"message": text})

    assert provision(concurrency=1).failed == {"422 one": 1, "other reasons": 2}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_stops_the_run_at_once(fake, status):
    make_users(20)
    fake.fail("POST", "/users", status=status, times=None)

    result = provision(concurrency=2)

    assert f"was answered with {status}" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 2
    assert {state for _, state in states()} == {State.PENDING}


def test_outage_stops_the_run(fake, settings):
    make_users(20)
    fake.fail("POST", "/users", status=500, times=None, before=False)

    result = provision(concurrency=2, max_failures=3)

    assert "3 calls in a row failed" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 4
    # Those that were sent may exist; the others, if any were claimed, were put back.
    assert State.UNCERTAIN in {state for _, state in states()} <= {State.UNCERTAIN, State.PENDING}


@pytest.mark.parametrize("fault", [wire.GARBAGE, {"edit": lambda body: {"user": body}}])
def test_answers_that_cannot_be_read_stop_the_run(fake, fault):
    """Each of them may have made a user whose id nobody has."""
    make_users(20)
    fake.fail("POST", "/users", times=None, before=False, **fault)

    result = provision(concurrency=2, max_failures=3)

    assert "3 calls in a row failed" in result.stopped
    assert len(fake.calls("POST", "/users")) <= 4


def test_failures_that_are_not_in_a_row_do_not_stop_the_run(fake):
    make_users(12)
    for _ in range(3):
        fake.fail("POST", "/users", status=500)
        fake.fail("POST", "/users", delay=0)

    result = provision(concurrency=1, max_failures=2)

    assert (result.provisioned, result.stopped) == (9, "")


def test_what_was_not_sent_is_sent_again(fake, settings, monkeypatch):
    """The server is away for a moment."""
    make_users(3)
    url, away = settings.EXAMPLARY_API_URL, "http://127.0.0.1:1"
    client = services.get_client(max_retries=0)
    client.base_url = away
    create_user = client.create_user
    calls = []

    def create(**profile):
        calls.append(profile["email"])
        client.close()
        client.base_url = url if len(calls) > 2 else away
        return create_user(**profile)

    monkeypatch.setattr(client, "create_user", create)
    result = provision(concurrency=1, client=client)

    assert (result.provisioned, result.failed, result.stopped) == (3, {}, "")
    assert calls[0] == calls[1] == calls[2]


def test_client_that_rests_is_waited_for(fake, teacher, monkeypatch):
    client = services.get_client(max_retries=0)
    cooldown = client._connections.cooldown
    monkeypatch.setattr(cooldown, "_failed", [b"1", b"2", b"3"])
    monkeypatch.setattr(cooldown, "_until", time.monotonic() + 0.5)

    result = provision(client=client)

    assert (result.provisioned, result.failed) == (1, {})


def test_error_that_is_none_of_ours_ends_the_run_in_good_order(fake, monkeypatch):
    make_users(6)

    def create(self, **profile):
        raise ZeroDivisionError

    monkeypatch.setattr(ExamplaryClient, "create_user", create)
    with pytest.raises(ZeroDivisionError):
        provision(concurrency=2)

    # Those that were under way lapse; what was not sent is free at once.
    assert 2 <= ExamplaryActor.objects.filter(state=State.CLAIMED).count() <= 4


@pytest.mark.django_db(transaction=True)
def test_what_was_made_is_kept_when_the_run_breaks_off(fake, announced):
    """Nobody reads what it says any more, for one."""
    make_users(12)
    fake.latency = 0.05

    def progress(result):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        provision(concurrency=4, progress=progress)

    made = set(fake.users) - {fake.owner_id}
    active = ExamplaryActor.objects.filter(state=State.ACTIVE)
    assert set(active.values_list("examplary_id", flat=True)) == made
    assert 4 <= len(made) == len(announced)
    assert not ExamplaryActor.objects.filter(state=State.CLAIMED).exists()


def test_calls_under_way_are_recorded_though_one_of_them_breaks(fake, monkeypatch):
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
        # Nobody knows what came of it, so its claim lapses.
        ("user001", State.CLAIMED),
        ("user002", State.FAILED),
        ("user003", State.ACTIVE),
    ]


def test_run_that_breaks_leaves_no_claims(fake):
    make_users(12)

    def progress(result):
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        provision(concurrency=4, rate=1, progress=progress)
    assert {state for _, state in states()} == {State.ACTIVE, State.PENDING}


def test_run_that_the_database_ends_loses_no_id(fake, monkeypatch, caplog):
    make_users(4)
    commit = actors.commit

    def commit_until_users_are_made(work):
        if fake.calls("POST", "/users"):
            raise OperationalError("the server has gone away")
        return commit(work)

    monkeypatch.setattr(actors, "commit", commit_until_users_are_made)
    with pytest.raises(OperationalError):
        provision(concurrency=4)

    made = [made for made, user in fake.users.items() if user["email"].startswith("user")]
    assert len(made) == 4
    assert [examplary_id for examplary_id in made if examplary_id not in caplog.text] == []


def test_claim_that_was_lost_while_it_waited_is_not_sent(fake, teacher, monkeypatch):
    monkeypatch.setattr(bulk, "renew_claim", lambda actor: False)

    result = provision()

    assert (result.provisioned, result.skipped) == (0, 1)
    assert fake.requests == []


# Stopping


def test_run_that_is_asked_to_stop_leaves_no_claims(fake):
    make_users(12)
    stop = threading.Event()

    result = provision(progress=lambda result: stop.set(), should_stop=stop.is_set)

    assert result.stopped == ASKED_TO_STOP
    assert 1 <= result.provisioned <= 4
    assert State.CLAIMED not in {state for _, state in states()}
    assert provision().provisioned == 12 - result.provisioned


def test_run_that_is_stopped_before_it_begins(fake, teacher):
    assert provision(should_stop=lambda: True).stopped == ASKED_TO_STOP
    assert not ExamplaryActor.objects.exists()


# The rate


def test_rate_is_kept(fake):
    make_users(6)
    started = time.monotonic()

    provision(rate=20)

    # Six calls have five gaps of 50 ms.
    assert time.monotonic() - started >= 0.25


def test_refusal_pauses_everybody_and_goes_on(fake):
    make_users(30)
    fake.rate_limit(10)

    result = provision(concurrency=4)

    assert (result.provisioned, result.failed, result.stopped) == (30, {}, "")
    assert len(fake.calls("POST", "/users")) <= 30 + 3 * 4


@pytest.mark.parametrize("status", [425, 503])
def test_answer_that_nothing_was_done_yet_is_no_failure(fake, teacher, status):
    fake.fail("POST", "/users", status=status, headers={"Retry-After": "0"})

    assert provision().provisioned == 1


def test_server_error_that_names_a_time_may_have_made_the_user(fake, teacher):
    fake.fail("POST", "/users", status=500, headers={"Retry-After": "0"}, before=False)

    assert provision().provisioned == 0
    assert states() == [("teacher", State.UNCERTAIN)]
    assert len(fake.calls("POST", "/users")) == 1


def test_student_is_still_one_in_a_run_that_tries_again(fake, student):
    fake.fail("POST", "/users", status=400)
    provision(role="student")

    assert provision().provisioned == 1
    assert {body["role"] for body in bodies(fake)} == {"student"}


def test_refusal_without_a_time(fake, teacher):
    fake.fail("POST", "/users", status=429)
    started = time.monotonic()

    assert provision().provisioned == 1
    assert time.monotonic() - started >= 1


def test_long_pause_is_left_to_the_next_run(fake, teacher):
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "3600"})

    result = provision()

    assert "was answered with 429" in result.stopped
    assert result.pause > 3590
    assert states() == [("teacher", State.PENDING)]


def test_endless_refusals_stop_the_run(fake, teacher):
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "0"}, times=None)

    result = provision(max_failures=3)

    assert "was answered with 429" in result.stopped
    assert len(fake.calls("POST", "/users")) == 4


class Clock:
    """Time that passes when the test says so."""

    def __init__(self, monkeypatch):
        self.now = 1000.0
        monkeypatch.setattr(bulk.time, "monotonic", lambda: self.now)


def test_gate_slows_down_below_what_was_accepted_and_speeds_up_again(monkeypatch):
    clock = Clock(monkeypatch)
    gate = bulk._Gate(0)
    for _ in range(50):
        gate.count()
        gate.speed_up()
    assert gate.delay() == 0
    gate.slow_down(2.0)
    gate.slow_down(2.0)
    assert (gate.refusals, gate.delay(), gate.paused()) == (1, 2.0, 2.0)
    clock.now += 2.0
    gate.count()
    # Nine tenths of the fifty that were accepted within the first second.
    assert gate.delay() == pytest.approx(1 / 45)
    for _ in range(45):
        gate.speed_up()
    clock.now += 1
    gate.count()
    gate.count()
    assert gate.delay() == pytest.approx(1 / 45.45)
    assert (gate.refusals, gate.paused()) == (0, 0.0)


def test_gate_never_exceeds_what_was_asked_for(monkeypatch):
    clock = Clock(monkeypatch)
    gate = bulk._Gate(0.5)
    gate.slow_down(None)
    gate.speed_up()
    clock.now += 1
    gate.count()
    assert gate.delay() == pytest.approx(2)


# Claims


def test_waiting_claim_is_renewed(teacher):
    [actor] = actors.claim_actors([teacher])
    assert actors.renew_claim(actor)
    fresh = actor.claimed_at
    assert ExamplaryActor.objects.get().claimed_at == fresh

    stale = timezone.now() - timedelta(seconds=20)
    ExamplaryActor.objects.update(claimed_at=stale)
    actor.claimed_at = stale
    assert actors.renew_claim(actor)
    assert ExamplaryActor.objects.get().claimed_at == actor.claimed_at > fresh

    actor.claimed_at = stale
    assert not actors.renew_claim(actor)


def test_claims_of_the_same_microsecond_are_told_apart(teacher, student, monkeypatch):
    now = timezone.now()
    ExamplaryActor.objects.create(user=teacher, state=State.CLAIMED, claimed_at=now)
    times = [now, now + timedelta(microseconds=1)]
    monkeypatch.setattr(actors, "timezone", SimpleNamespace(now=lambda: times.pop(0)))

    claimed = actors.claim_actors([teacher, student])

    assert [actor.user for actor in claimed] == [student]
    assert times == []


@pytest.mark.parametrize("error", [IntegrityError, OperationalError])
def test_window_that_cannot_be_claimed_is_claimed_row_by_row(fake, monkeypatch, error):
    gone, *rest = make_users(4)
    claim = bulk.claim_actors

    def claim_actors(users):
        if len(users) > 1:
            raise error("in each other's way")
        if users[0] == gone:
            raise IntegrityError("deleted this moment")
        return claim(users)

    monkeypatch.setattr(bulk, "claim_actors", claim_actors)
    result = provision(concurrency=4)

    assert (result.provisioned, result.skipped) == (3, 1)
    assert {actor.user for actor in ExamplaryActor.objects.all()} == set(rest)


# With real commits


@pytest.mark.django_db(transaction=True)
def test_runs_and_launches_at_the_same_time_make_each_user_once(fake, announced):
    users = make_users(60)
    fake.latency = 0.01
    fake.duplicates = "create"  # So that a second one would show.
    results = []

    def run():
        try:
            results.append(provision(concurrency=4).provisioned)
        finally:
            connection.close()

    def launch():
        try:
            for user in reversed(users):
                services.provision_actor(user)
        finally:
            connection.close()

    threads = [threading.Thread(target=target) for target in (run, run, launch)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 60
    assert len(fake.calls("POST", "/users")) == len(fake.users) - 1 == 60
    assert len(announced) == 60


# A 429 is left out: it only slows the run down, and so it would this test.
FAULTS = [
    {"status": 400},
    {"status": 500},
    {"status": 500, "before": False},
    {"transport": "close"},
    {"transport": "reset", "before": False},
    {"transport": wire.TRUNCATE},
    {**wire.GARBAGE, "before": False},
]


@pytest.mark.parametrize("duplicates", ["return", "refuse"])
def test_everybody_is_provisioned_or_explained_in_the_end(fake, duplicates):
    """One call in twenty goes wrong, and four runs come after each other."""
    chance = random.Random(duplicates)  # noqa: S311  # the same every time
    fake.duplicates = duplicates
    make_users(200)
    for _ in range(4):
        for _ in range(10):
            fake.fail("POST", "/users", delay=0, times=chance.randint(1, 20))
            fake.fail("POST", "/users", **chance.choice(FAULTS))
        provision(concurrency=8, max_failures=50)
        fake.heal()
        ExamplaryActor.objects.filter(state__in=[State.CLAIMED, State.UNCERTAIN]).update(
            claimed_at=timezone.now() - timedelta(minutes=5)
        )
    provision(concurrency=8)

    assert len(fake.users) - 1 == 200
    rest = ExamplaryActor.objects.exclude(state=State.ACTIVE)
    if duplicates == "return":
        assert not rest
    else:
        # Made by a call whose answer never came: their ids have to be linked by hand.
        assert all("already exists" in actor.last_error for actor in rest)
    ids = set(
        ExamplaryActor.objects.filter(state=State.ACTIVE).values_list("examplary_id", flat=True)
    )
    assert ids <= set(fake.users)
    assert len(ids) + len(rest) == 200


@pytest.mark.django_db(transaction=True)
def test_user_who_is_deleted_meanwhile(fake, monkeypatch):
    gone, *rest = make_users(3)
    claim = bulk.claim_actors

    def claim_actors(users):
        User.objects.filter(pk=gone.pk).delete()
        return claim(users)

    monkeypatch.setattr(bulk, "claim_actors", claim_actors)
    result = provision(concurrency=4)

    assert result.provisioned == 2
    assert {actor.user for actor in ExamplaryActor.objects.all()} == set(rest)
