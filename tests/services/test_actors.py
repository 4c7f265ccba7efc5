from __future__ import annotations

import json
import logging
import re
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.conf import conf
from django_examplary.data import ActorProfile
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAPIError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConnectionError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryTimeoutError,
    ExamplaryUnavailableError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services.actors import disown_actor, replace_stale_actor
from django_examplary.signals import actor_provisioned
from tests import wire

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State


@pytest.fixture
def announced():
    received = []

    def receiver(actor, **kwargs):
        received.append(actor)

    actor_provisioned.connect(receiver)
    yield received
    actor_provisioned.disconnect(receiver)


def lapse(actor):
    """Let the claim on an actor be older than any holder can still be."""
    ExamplaryActor.objects.filter(pk=actor.pk).update(
        claimed_at=timezone.now() - timedelta(minutes=5)
    )


def test_first_call_makes_the_user_and_later_ones_do_not(fake, teacher, announced):
    actor = services.provision_actor(teacher)
    assert actor.state == State.ACTIVE
    assert actor.examplary_id in fake.users
    assert (actor.email, actor.role) == (teacher.email, "teacher")
    assert actor.name == teacher.get_full_name()
    assert actor.provisioned_at is not None
    assert services.provision_actor(teacher) == actor
    assert len(fake.requests) == 1
    assert announced == [actor]
    assert str(actor) == str(teacher)


def test_active_actor_takes_one_query(fake, teacher, django_assert_num_queries):
    services.provision_actor(teacher)
    with django_assert_num_queries(1):
        services.provision_actor(teacher)


@pytest.mark.parametrize(("role", "sent"), [(None, "teacher"), ("student", "student")])
def test_role_is_always_sent(fake, teacher, role, sent):
    services.provision_actor(teacher, role=role)
    assert json.loads(fake.requests[0].body)["role"] == sent


def test_profile_of_the_project_comes_first(fake, teacher, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(
        email=f" {user.pk}@pupils.example ", name="x" * 150, role="member"
    )
    actor = services.provision_actor(teacher, role="student")
    assert (actor.email, actor.name, actor.role) == (
        f"{teacher.pk}@pupils.example",
        "x" * 100,
        "member",
    )


# The table of section 5 of the API contract.
ACCEPTED = ["a+b@x.org", "o'neil@x.org", "A@X.ORG", "_@x.org", "a@xn--bcher-kva.example"]
REJECTED = [
    "",
    "user@localhost",
    "a@1.2.3.4",
    "a@[127.0.0.1]",
    "a!b@x.org",
    "a%b@x.org",
    "a&b@x.org",
    '"q"@x.org',
    ".a@x.org",
    "a.@x.org",
    "a..b@x.org",
    "o'@x.org",
    "jörg@x.org",
    "a@bücher.example",
    "a@x_y.org",
    "a@-x.org",
    "a@x.c",
    "a@x.org\nb",
    # Longer than any address can be.
    f"{'a' * 249}@x.org",
]


@pytest.mark.parametrize("email", ACCEPTED)
def test_address_that_the_api_takes(fake, teacher, email):
    teacher.email = email
    assert services.provision_actor(teacher).email == email


@pytest.mark.parametrize("email", REJECTED)
def test_address_that_the_api_refuses_is_not_sent(fake, teacher, email):
    teacher.email = email
    with pytest.raises(ExamplaryValidationError, match="email: the user has no address"):
        services.provision_actor(teacher)
    assert fake.requests == []
    actor = ExamplaryActor.objects.get(user=teacher)
    assert (actor.state, actor.last_error[:6]) == (State.FAILED, "email:")
    teacher.email = "ann@school.example"
    assert services.provision_actor(teacher).is_active


def test_student_is_still_one_when_somebody_tries_again(fake, student):
    fake.fail("POST", "/users", status=400)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(student, role="student")
    assert services.provision_actor(student).role == "student"


@pytest.mark.parametrize("status", [425, 429])
def test_api_that_wants_to_be_asked_later_leaves_the_user_as_before(
    fake, student, settings, status
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/users", status=status)
    with pytest.raises(ExamplaryAPIError):
        services.provision_actor(student)
    assert ExamplaryActor.objects.get().state == State.PENDING


def test_profile_may_refuse_a_user_in_the_words_of_the_api(fake, teacher, settings):
    def profile(user):
        raise ExamplaryValidationError("email", "pupils have none")

    settings.EXAMPLARY_ACTOR_PROFILE = profile
    with pytest.raises(ExamplaryValidationError, match="email: pupils have none"):
        services.provision_actor(teacher)
    assert ExamplaryActor.objects.get().last_error == "email: pupils have none"


def test_profile_that_is_none_is_told_of(fake, teacher, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: {"email": user.email}
    with pytest.raises(ExamplaryConfigurationError, match="gave a dict, and no ActorProfile"):
        services.provision_actor(teacher)
    assert ExamplaryActor.objects.get().state == State.PENDING


@pytest.mark.parametrize("role", ["owner", "admin", "king"])
def test_end_user_is_never_given_power_over_the_workspace(fake, teacher, settings, role):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email=user.email, role=role)
    with pytest.raises(ExamplaryValidationError, match="role: an end user must not be"):
        services.provision_actor(teacher)
    assert fake.requests == []


@pytest.mark.parametrize("role", ["owner", "admin", "king"])
def test_caller_who_asks_for_such_a_role_is_told_and_not_the_user(fake, teacher, role):
    for call in (
        lambda: services.provision_actor(teacher, role=role),
        lambda: services.provision_actors(get_user_model().objects.all(), role=role),
    ):
        with pytest.raises(ExamplaryValidationError, match="role: an end user must not be"):
            call()
    assert not ExamplaryActor.objects.exists()
    assert fake.requests == []


def test_user_model_without_names_will_do(fake, teacher, monkeypatch):
    monkeypatch.delattr("django.contrib.auth.models.AbstractUser.get_full_name")
    assert services.provision_actor(teacher).name == ""


def test_inactive_user_gets_none(fake, teacher):
    teacher.is_active = False
    with pytest.raises(ExamplaryNotProvisionedError, match="inactive"):
        services.provision_actor(teacher)
    assert fake.requests == []


def test_profile_that_raises_leaves_the_user_as_before(fake, teacher, settings):
    def profile(user):
        raise LookupError("directory is down")

    settings.EXAMPLARY_ACTOR_PROFILE = profile
    with pytest.raises(ExamplaryConfigurationError) as caught:
        services.provision_actor(teacher)
    assert isinstance(caught.value.__cause__, LookupError)
    actor = ExamplaryActor.objects.get(user=teacher)
    assert actor.state == State.PENDING
    assert actor.last_error == "EXAMPLARY_ACTOR_PROFILE raised LookupError."
    settings.EXAMPLARY_ACTOR_PROFILE = None
    assert services.provision_actor(teacher).is_active


def test_call_ends_within_the_claim_whatever_the_client_would_take(fake, teacher, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 100, 0.5
    fake.fail("POST", "/users", transport=wire.HANG)
    client = services.get_client(deadline=100, max_retries=0)
    started = time.monotonic()
    with pytest.raises(ExamplaryTimeoutError):
        services.provision_actor(teacher, client=client)
    assert time.monotonic() - started < 50


def test_missing_key_claims_nothing(teacher, settings):
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError, match="Set EXAMPLARY_API_KEY"):
        services.provision_actor(teacher)
    assert not ExamplaryActor.objects.exists()


@pytest.mark.parametrize(
    ("fault", "error", "state"),
    [
        # Nothing was done, and the user need not change.
        ({"status": 401}, ExamplaryAuthenticationError, State.PENDING),
        ({"status": 403}, ExamplaryPermissionError, State.PENDING),
        ({"status": 429}, ExamplaryRateLimitError, State.PENDING),
        # Refused because of what was sent.
        ({"status": 400}, ExamplaryInvalidRequestError, State.FAILED),
        ({"status": 422}, ExamplaryInvalidRequestError, State.FAILED),
        # The user may have been made.
        ({"transport": "close"}, ExamplaryConnectionError, State.UNCERTAIN),
        ({"transport": "reset", "before": False}, ExamplaryConnectionError, State.UNCERTAIN),
        ({**wire.GARBAGE, "before": False}, ExamplaryResponseError, State.UNCERTAIN),
        ({"status": 500, "before": False}, ExamplaryServerError, State.UNCERTAIN),
        ({"body": {"id": "group_1"}}, ExamplaryResponseError, State.UNCERTAIN),
    ],
)
def test_state_after_a_failure(fake, teacher, settings, fault, error, state):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail(**fault)
    with pytest.raises(error) as caught:
        services.provision_actor(teacher)
    actor = ExamplaryActor.objects.get(user=teacher)
    assert (actor.state, actor.examplary_id) == (state, None)
    assert actor.last_error.startswith(str(caught.value)[:180].rstrip("."))
    assert ("link the id" in actor.last_error) is (state == State.FAILED)
    assert len(fake.requests) == 1


def test_what_was_never_sent_leaves_the_user_as_before(fake, teacher, settings):
    settings.EXAMPLARY_API_URL = "http://127.0.0.1:1"
    for error in [ExamplaryConnectionError] * 3 + [ExamplaryUnavailableError]:
        with pytest.raises(error):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().state == State.PENDING
    settings.EXAMPLARY_API_URL = fake.base_url
    assert services.provision_actor(teacher).is_active


def test_failure_comes_with_advice_for_the_operator(fake, teacher):
    fake.add_user(teacher.email)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)
    assert ExamplaryActor.objects.get().last_error == (
        "POST /users was answered with 400: A user with this e-mail address already exists. "
        "If Examplary has this user already, link the id."
    )


def test_advice_for_the_operator_is_kept_however_long_the_refusal_is(fake, teacher):
    fake.fail("POST", "/users", status=422, body={"message": "no " * 100})
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)
    assert ExamplaryActor.objects.get().last_error.endswith(" link the id.")


@pytest.mark.parametrize("state", [State.PENDING, State.UNCERTAIN, State.FAILED])
def test_caller_who_waited_for_another_in_vain(fake, teacher, state, monkeypatch):
    """Only what needs somebody's help is called that."""
    ExamplaryActor.objects.create(user=teacher, state=state, last_error="a reason")
    monkeypatch.setattr("django_examplary.services.actors.claim_actors", lambda users: [])
    error = ExamplaryNotProvisionedError if state == State.FAILED else ExamplaryNotReadyError
    with pytest.raises(error):
        services.provision_actor(teacher)
    ExamplaryActor.objects.all().delete()
    with pytest.raises(ExamplaryNotProvisionedError, match="does not exist any more"):
        services.provision_actor(teacher)
    assert fake.requests == []


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
def test_what_did_not_happen_is_tried_again_at_once(fake, teacher, state):
    ExamplaryActor.objects.create(user=teacher, state=state, last_error="before")
    assert services.provision_actor(teacher).is_active
    assert ExamplaryActor.objects.get().last_error == ""


@pytest.mark.parametrize("duplicates", ["refuse", "return", "create"])
def test_uncertain_is_tried_again_after_the_lease_only(fake, teacher, duplicates):
    fake.duplicates = duplicates
    fake.fail("POST", "/users", transport="close", before=False)
    with pytest.raises(ExamplaryConnectionError):
        services.provision_actor(teacher)
    assert len(fake.users) == 2  # The key's owner, and the one we never heard of.
    with pytest.raises(ExamplaryNotReadyError, match="not provisioned yet"):
        services.provision_actor(teacher)
    assert len(fake.requests) == 1
    lapse(ExamplaryActor.objects.get())
    if duplicates == "refuse":
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().state == State.FAILED
    else:
        assert services.provision_actor(teacher).is_active
    assert len(fake.users) == (3 if duplicates == "create" else 2)


def test_claim_of_a_killed_worker_lapses(fake, teacher, settings):
    settings.EXAMPLARY_DEADLINE = 0.2
    actor = ExamplaryActor.objects.create(
        user=teacher, state=State.CLAIMED, claimed_at=timezone.now()
    )
    with pytest.raises(ExamplaryNotReadyError, match="not provisioned yet"):
        services.provision_actor(teacher)
    assert fake.requests == []
    settings.EXAMPLARY_DEADLINE = 15
    lapse(actor)
    assert services.provision_actor(teacher).is_active


def test_caller_waits_for_another_no_longer_than_it_has_time(fake, teacher):
    ExamplaryActor.objects.create(user=teacher, state=State.CLAIMED, claimed_at=timezone.now())
    started = time.monotonic()
    with pytest.raises(ExamplaryNotReadyError):
        services.provision_actor(teacher, client=services.get_client().within(0))
    assert time.monotonic() - started < conf.EXAMPLARY_DEADLINE


def test_two_accounts_with_one_address_never_share_an_actor(fake, teacher, student, announced):
    fake.duplicates = "return"
    student.email = teacher.email
    services.provision_actor(teacher)
    with pytest.raises(ExamplaryNotProvisionedError, match="Do they share an e-mail address"):
        services.provision_actor(student)
    assert ExamplaryActor.objects.get(user=student).state == State.FAILED
    assert len(announced) == 1


def test_holder_that_lost_its_claim_stores_nothing(fake, teacher, caplog, monkeypatch):
    fake.duplicates = "create"
    client = services.get_client()
    create_user = client.create_user

    def create_while_another_takes_over(**profile):
        user = create_user(**profile)
        lapse(ExamplaryActor.objects.get())
        monkeypatch.setattr(client, "create_user", create_user)
        services.provision_actor(teacher)
        return user

    monkeypatch.setattr(client, "create_user", create_while_another_takes_over)
    with caplog.at_level(logging.ERROR), pytest.raises(ExamplaryNotReadyError, match="was lost"):
        services.provision_actor(teacher, client=client)
    # Whoever looks for the user that nobody has finds it in the log.
    assert f"outcome=claim-lost actor=1 examplary_id={list(fake.users)[1]}" in re.sub(
        r"actor=\d+", "actor=1", caplog.text
    )
    actor = ExamplaryActor.objects.get()
    assert actor.is_active
    assert actor.examplary_id == list(fake.users)[-1]


@pytest.mark.parametrize("duplicates", ["refuse", "return"])
def test_database_that_is_away_when_the_answer_comes(
    fake, teacher, monkeypatch, caplog, duplicates
):
    fake.duplicates = duplicates

    def away(work):
        raise InterfaceError("the connection is closed")

    caplog.set_level(logging.ERROR)
    with monkeypatch.context() as patch:
        client = services.get_client()
        create_user = client.create_user

        def create_user_and_lose_the_database(**profile):
            user = create_user(**profile)
            patch.setattr("django_examplary.services.actors.commit", away)
            return user

        patch.setattr(client, "create_user", create_user_and_lose_the_database)
        with pytest.raises(InterfaceError):
            services.provision_actor(teacher)
    actor = ExamplaryActor.objects.get()
    assert actor.state == State.CLAIMED
    # The operator who is to link it finds the id nowhere else.
    assert f"outcome=not-stored actor={actor.pk} examplary_id={[*fake.users][-1]}" in caplog.text
    lapse(actor)
    if duplicates == "refuse":
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        services.link_actor(teacher, list(fake.users)[-1])
    assert services.provision_actor(teacher).examplary_id == list(fake.users)[-1]
    assert len(fake.users) == 2


def test_actor_that_the_database_kept_without_saying_so(fake, teacher, announced, monkeypatch):
    client = services.get_client()
    create_user = client.create_user

    def unacknowledged(work):
        work()
        return work()

    def create_user_and_lose_the_next_answer(**profile):
        user = create_user(**profile)
        monkeypatch.setattr("django_examplary.services.actors.commit", unacknowledged)
        return user

    monkeypatch.setattr(client, "create_user", create_user_and_lose_the_next_answer)
    actor = services.provision_actor(teacher)
    assert actor.is_active
    assert announced == [actor]


def test_nothing_is_sent_without_a_claim(fake, teacher, monkeypatch):
    def locked(work):
        raise OperationalError("database is locked")

    monkeypatch.setattr("django_examplary.services.actors.commit", locked)
    with pytest.raises(OperationalError):
        services.provision_actor(teacher)
    assert fake.requests == []


def test_id_stays_with_its_user_when_addresses_move(fake, teacher, student):
    fake.duplicates = "return"
    before = services.provision_actor(teacher).examplary_id
    teacher.email, student.email = "new@school.example", teacher.email
    assert services.provision_actor(teacher).examplary_id == before
    with pytest.raises(ExamplaryNotProvisionedError, match="another account's user"):
        services.provision_actor(student)
    assert ExamplaryActor.objects.get(user=teacher).examplary_id == before
    assert len(fake.calls("POST", "/users")) == 2


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1)])
def test_clock_that_jumps_while_the_api_answers(fake, teacher, monkeypatch, jump):
    """A claim may lapse early then, or late; nobody ends up with two ids, or none."""
    fake.duplicates = "return"
    client, now = services.get_client(), timezone.now
    create_user = client.create_user

    def create_user_while_the_clock_jumps(**profile):
        user = create_user(**profile)
        monkeypatch.setattr("django.utils.timezone.now", lambda: now() + jump)
        monkeypatch.setattr(client, "create_user", create_user)
        if jump < timedelta(0):
            # The claim stands, and whoever comes next waits for it.
            monkeypatch.setattr("django_examplary.conf.Settings.EXAMPLARY_DEADLINE", 0.1)
        outcomes.append(attempt(lambda: services.provision_actor(teacher)))
        return user

    outcomes = []
    monkeypatch.setattr(client, "create_user", create_user_while_the_clock_jumps)
    outcomes.append(attempt(lambda: services.provision_actor(teacher, client=client)))
    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.examplary_id) == (State.ACTIVE, list(fake.users)[-1])
    # At least one of the two has it; the other one has it too, or can ask again.
    assert actor in outcomes
    assert {ExamplaryNotReadyError, actor} >= set(outcomes)
    assert services.provision_actor(teacher) == actor


def attempt(call):
    try:
        return call()
    except ExamplaryError as error:
        return type(error)


def test_user_deleted_meanwhile(fake, teacher, monkeypatch):
    client = services.get_client()
    create_user = client.create_user

    def create_while_the_user_goes(**profile):
        get_user_model().objects.all().delete()
        return create_user(**profile)

    monkeypatch.setattr(client, "create_user", create_while_the_user_goes)
    with pytest.raises(ExamplaryNotReadyError):
        services.provision_actor(teacher, client=client)
    assert not ExamplaryActor.objects.exists()


def test_stale_id_is_replaced_once(fake, teacher, caplog):
    actor = services.provision_actor(teacher, role="student")
    del fake.users[actor.examplary_id]
    client = services.get_client()
    fresh = replace_stale_actor(actor, role="teacher", client=client)
    assert fresh.pk == actor.pk
    assert fresh.examplary_id in fake.users
    assert fresh.role == "student"
    assert "operation=replace-stale-actor" in caplog.text
    # Were the API key of another workspace, the id could be linked again.
    assert f"examplary_id={actor.examplary_id}" in caplog.text
    caplog.clear()
    # Another worker that still holds the old id finds it replaced already.
    assert (
        replace_stale_actor(actor, role="teacher", client=client).examplary_id == fresh.examplary_id
    )
    assert "replace-stale-actor" not in caplog.text
    assert len(fake.calls("POST", "/users")) == 2


def test_id_that_another_worker_has_replaced_already_is_not_dropped(fake, teacher):
    former = services.provision_actor(teacher)
    services.link_actor(teacher, fake.add_user("known@school.example")["id"])
    disown_actor(former, ExamplaryActorIsOwnerError("POST /embed-sessions", status_code=400))
    actor = ExamplaryActor.objects.get()
    assert actor.is_active
    assert actor.examplary_id != former.examplary_id


# Transactions and threads, with real commits


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_it_refuses_before_anything_is_sent(fake, teacher):
    with (
        transaction.atomic(),
        pytest.raises(TransactionManagementError, match="must not run inside a transaction"),
    ):
        services.provision_actor(teacher)
    assert fake.requests == []
    assert not ExamplaryActor.objects.exists()
    services.provision_actor(teacher)
    with transaction.atomic():
        assert services.provision_actor(teacher).is_active


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_api_is_asked(fake, teacher, monkeypatch):
    client = services.get_client()
    create_user = client.create_user
    open_blocks = []

    def create(**profile):
        open_blocks.append(connection.in_atomic_block)
        return create_user(**profile)

    monkeypatch.setattr(client, "create_user", create)
    services.provision_actor(teacher, client=client)
    assert open_blocks == [False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [None, {"status": 429, "headers": {"Retry-After": "0"}}])
def test_of_many_first_calls_at_once_one_asks(fake, teacher, announced, fault):
    fake.latency = 0.1
    if fault:
        fake.fail("POST", "/users", **fault)
    outcomes = []

    def provision():
        try:
            outcomes.append(services.provision_actor(teacher).examplary_id)
        except ExamplaryError as error:  # pragma: no cover  # It would be the failure shown below.
            outcomes.append(repr(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=provision) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    actor = ExamplaryActor.objects.get()
    assert outcomes == [actor.examplary_id] * 32
    assert len(fake.calls("POST", "/users")) == (2 if fault else 1)
    assert len(announced) == 1
