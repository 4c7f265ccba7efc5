from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.db.transaction import TransactionManagementError
from django.utils import timezone

from django_examplary import services
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryDatabaseError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryTimeoutError,
)
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import actors
from django_examplary.services.actors import prepare_actors, renew_actor
from django_examplary.signals import actor_moved
from tests import wire
from tests.threads import call_at_once

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State


def hold(user, state=State.CLAIMED, **fields):
    """Create an actor that another caller is provisioning."""
    lapses_at = timezone.now() + timedelta(minutes=1)
    return ExamplaryActor.objects.create(user=user, state=state, lapses_at=lapses_at, **fields)


def test_user_is_created_once(fake, teacher, provisioned):
    actor = services.provision_actor(teacher)

    assert actor.state == State.ACTIVE
    assert actor.examplary_id in fake.users
    assert (actor.email, actor.role) == (teacher.email, "teacher")
    assert actor.name == teacher.get_full_name()
    assert actor.provisioned_at is not None
    assert services.provision_actor(teacher) == actor
    assert len(fake.requests) == 1
    assert provisioned == [actor]
    assert str(actor) == str(teacher)


def test_active_actor_uses_one_query(fake, teacher, django_assert_num_queries):
    services.provision_actor(teacher)

    with django_assert_num_queries(1):
        services.provision_actor(teacher)


def test_inactive_user_is_not_provisioned(fake, teacher):
    teacher.is_active = False
    with pytest.raises(ExamplaryNotProvisionedError, match="Inactive"):
        services.provision_actor(teacher)

    assert fake.requests == []


def test_call_ends_by_the_deadline_of_the_settings(fake, teacher, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 100, 0.5
    fake.fail("POST", "/users", transport=wire.HANG)
    client = services.get_client(deadline=100, max_retries=0)
    started = time.monotonic()
    with pytest.raises(ExamplaryTimeoutError):
        services.provision_actor(teacher, client=client)

    assert time.monotonic() - started < 50


def test_missing_key_creates_no_claim(teacher, settings):
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_KEY"):
        services.provision_actor(teacher)

    assert not ExamplaryActor.objects.filter(state=State.CLAIMED).exists()


@pytest.mark.parametrize("state", [State.PENDING, State.FAILED])
def test_actor_without_a_holder_is_provisioned_at_once(fake, teacher, state):
    ExamplaryActor.objects.create(user=teacher, state=state, last_error="before")

    assert services.provision_actor(teacher).is_active
    assert ExamplaryActor.objects.get().last_error == ""


@pytest.mark.parametrize("duplicates", ["refuse", "return", "create"])
def test_unanswered_request_is_repeated_after_the_lease(fake, teacher, settings, duplicates, lapse):
    fake.duplicates = duplicates
    fake.fail("POST", "/users", transport="close", before=False)
    with pytest.raises(ExamplaryError):
        services.provision_actor(teacher)
    assert len(fake.users) == 2  # The key's owner, and the user without a row.
    with pytest.raises(ExamplaryNotReadyError, match="not provisioned yet"):
        services.provision_actor(teacher)
    assert len(fake.requests) == 1

    lapse()
    if duplicates == "refuse":
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().state == State.FAILED
    else:
        assert services.provision_actor(teacher).is_active
    assert len(fake.users) == (3 if duplicates == "create" else 2)


# Waiting for another caller


def test_caller_waits_about_two_seconds_for_a_claim(fake, teacher, lapse):
    hold(teacher)
    started = time.monotonic()
    with pytest.raises(ExamplaryNotReadyError, match="not provisioned yet"):
        services.provision_actor(teacher)
    assert time.monotonic() - started >= 1.9
    assert fake.requests == []

    lapse()
    assert services.provision_actor(teacher).is_active


def test_wait_is_bounded_without_a_clock(fake, teacher, monkeypatch):
    """The number of attempts is limited, so a stopped clock does not prolong the wait."""
    hold(teacher)
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    with pytest.raises(ExamplaryNotReadyError):
        services.provision_actor(teacher)

    assert 1.5 <= sum(pauses) <= 2.5


def test_wait_respects_the_deadline_of_the_client(fake, teacher, monkeypatch):
    hold(teacher)
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    with pytest.raises(ExamplaryNotReadyError):
        services.provision_actor(teacher, client=services.get_client().within(0))

    assert pauses == []


def on_sleep(monkeypatch, action):
    """Let `action` run instead of the first pause."""
    sleep = time.sleep

    def act(seconds):
        monkeypatch.setattr(time, "sleep", sleep)
        action()

    monkeypatch.setattr(time, "sleep", act)


def test_caller_gets_the_actor_it_waited_for(fake, teacher, monkeypatch):
    hold(teacher)
    on_sleep(
        monkeypatch,
        lambda: ExamplaryActor.objects.update(state=State.ACTIVE, examplary_id="user_1"),
    )

    assert services.provision_actor(teacher).examplary_id == "user_1"
    assert fake.requests == []


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.PENDING, ExamplaryNotReadyError),
        (State.UNCERTAIN, ExamplaryNotReadyError),
        (State.FAILED, ExamplaryNotProvisionedError),
    ],
)
def test_caller_gets_the_error_of_the_actor_it_waited_for(fake, teacher, monkeypatch, state, error):
    hold(teacher)
    on_sleep(
        monkeypatch,
        lambda: ExamplaryActor.objects.update(state=state, last_error="email: a reason"),
    )
    with pytest.raises(error, match="a reason" if state == State.FAILED else "try again"):
        services.provision_actor(teacher)

    assert fake.requests == []


def test_actor_deleted_while_a_caller_waits_is_not_a_refusal(fake, teacher, monkeypatch):
    hold(teacher)
    on_sleep(monkeypatch, ExamplaryActor.objects.all().delete)
    with pytest.raises(ExamplaryNotReadyError, match="try again"):
        services.provision_actor(teacher)

    assert services.provision_actor(teacher).is_active


def test_user_deactivated_while_a_caller_waits_is_refused(fake, teacher, monkeypatch):
    hold(teacher)

    def deactivate():
        ExamplaryActor.objects.update(state=State.ACTIVE, examplary_id="user_1")
        get_user_model().objects.update(is_active=False)

    on_sleep(monkeypatch, deactivate)
    with pytest.raises(ExamplaryNotProvisionedError, match="Inactive"):
        services.provision_actor(teacher)


# Rows that cannot be written


@pytest.mark.django_db(transaction=True)
def test_user_deleted_before_the_row_is_written(fake, teacher):
    get_user_model().objects.all().delete()
    with pytest.raises(ExamplaryNotProvisionedError, match="does not exist any more"):
        services.provision_actor(teacher)

    assert fake.requests == []


def test_row_refused_by_the_database_raises_at_once(fake, teacher, monkeypatch):
    """It is not mistaken for the row of another caller."""

    commit = actors.commit

    def refuse(work):
        monkeypatch.setattr(actors, "commit", commit)
        raise IntegrityError("CHECK constraint failed: policy_of_the_project")

    monkeypatch.setattr(actors, "commit", refuse)
    started = time.monotonic()
    with pytest.raises(ExamplaryDatabaseError, match="policy_of_the_project"):
        services.provision_actor(teacher)

    assert time.monotonic() - started < 60
    assert fake.requests == []


# Another id


def test_unknown_id_is_renewed_once(fake, teacher, caplog):
    actor = services.provision_actor(teacher, role="student")
    del fake.users[actor.examplary_id]
    client = services.get_client()

    fresh = renew_actor(actor, role="teacher", client=client)

    assert fresh.pk == actor.pk
    assert fresh.examplary_id in fake.users
    assert fresh.role == "student"
    # If the API key is of another workspace, an operator can link the id again.
    assert "operation=renew-actor" in caplog.text
    assert f"examplary_id={actor.examplary_id}" in caplog.text
    caplog.clear()
    # A caller that still has the former id gets the new one.
    assert renew_actor(actor, role="teacher", client=client).examplary_id == fresh.examplary_id
    assert "renew-actor" not in caplog.text
    assert len(fake.calls("POST", "/users")) == 2


@pytest.mark.parametrize("status", [401, 400, 500])
def test_id_is_kept_until_there_is_a_new_one(fake, teacher, settings, status):
    settings.EXAMPLARY_MAX_RETRIES = 0
    actor = services.provision_actor(teacher)
    fake.fail("POST", "/users", status=status)
    with pytest.raises(ExamplaryError):
        renew_actor(actor, role="teacher", client=services.get_client())

    current = ExamplaryActor.objects.get()
    assert (current.is_active, current.examplary_id) == (False, actor.examplary_id)


def test_renewal_of_a_deleted_actor_may_be_tried_again(fake, teacher):
    actor = services.provision_actor(teacher)
    ExamplaryActor.objects.all().delete()
    with pytest.raises(ExamplaryNotReadyError, match="deleted"):
        renew_actor(actor, role="teacher", client=services.get_client())


# Another workspace


@pytest.fixture
def north(settings):
    """A second workspace, on the same fake."""
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": settings.EXAMPLARY_API_KEY}}
    return "north"


@pytest.fixture
def moved():
    received = []

    def receiver(actor, former_workspace, workspace, **kwargs):
        received.append((actor, former_workspace, workspace))

    actor_moved.connect(receiver)
    yield received
    actor_moved.disconnect(receiver)


def move_all_users(settings, workspace):
    settings.EXAMPLARY_WORKSPACE = lambda user: workspace


@pytest.mark.parametrize("bulk", [False, True])
def test_moved_user_is_provisioned_again(fake, teacher, settings, north, moved, caplog, bulk):
    fake.duplicates = "create"
    session = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    former = session.actor.examplary_id
    move_all_users(settings, north)

    if bulk:
        [prepared] = prepare_actors({teacher: north})
        assert prepared.state == State.PENDING
    actor = services.provision_actor(teacher)

    assert (actor.pk, actor.workspace) == (session.actor.pk, north)
    assert actor.examplary_id not in (None, former)
    assert moved == [(actor, "default", north)]
    move = f"operation=move-actor actor={actor.pk} from=default to=north former_id={former}"
    assert move in caplog.text
    session.refresh_from_db()
    # The ended session and the pending revocation belong to the former workspace.
    assert (session.status, session.workspace) == (ExamplarySession.Status.REVOKED, "default")
    assert session.revoke_pending
    new = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    assert new.workspace == north


def test_concurrent_move_is_announced_once(fake, teacher, settings, north, moved):
    services.provision_actor(teacher)
    move_all_users(settings, north)
    rows = list(ExamplaryActor.objects.all())
    for row in rows + list(ExamplaryActor.objects.all()):
        row.user = teacher
        actors._move(row, north)

    assert len(moved) == 1


def test_open_session_of_the_former_workspace_is_not_reused(
    fake, teacher, settings, north, django_assert_num_queries
):
    fake.duplicates = "create"
    former = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    with django_assert_num_queries(1):
        again = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    assert again == former
    move_all_users(settings, north)

    session = services.open_session(teacher, GenerateExam(), origin="https://school.example")

    assert (session.workspace, session.actor.workspace) == (north, north)
    assert session.embed_url != former.embed_url
    with django_assert_num_queries(1):
        again = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    assert again == session


def test_user_who_moves_during_the_claim_is_not_created(
    fake, teacher, settings, north, monkeypatch
):
    """The client has the key of the former workspace, where no account may be created."""
    prepare = actors.prepare_actor

    def prepare_and_move(user):
        actor = prepare(user)
        ExamplaryActor.objects.update(workspace=north)
        return actor

    monkeypatch.setattr(actors, "prepare_actor", prepare_and_move)
    with pytest.raises(ExamplaryNotReadyError, match="another workspace"):
        services.provision_actor(teacher)

    assert fake.requests == []
    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.workspace) == (State.PENDING, north)


def test_actor_that_moves_while_a_caller_waits_is_not_used(fake, teacher, north, monkeypatch):
    """The client has the key of the former workspace."""
    services.provision_actor(teacher)
    actor = ExamplaryActor.objects.get()
    ExamplaryActor.objects.update(workspace=north)

    with pytest.raises(ExamplaryNotReadyError):
        actors._await_actor(actor, services.get_client())


def test_actor_that_moved_is_not_renewed_in_the_former_workspace(fake, teacher, north):
    actor = services.provision_actor(teacher)
    sent = len(fake.requests)
    ExamplaryActor.objects.update(workspace=north, state=State.PENDING, examplary_id=None)

    with pytest.raises(ExamplaryNotReadyError, match="deleted or moved"):
        actors.renew_actor(actor, role="teacher", client=services.get_client())

    assert len(fake.requests) == sent


def test_existing_rows_work_after_workspaces_are_set(fake, teacher, settings, north):
    """A site that had one workspace: its rows belong to `default`."""
    session = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    fake.complete(session.examplary_id)
    settings.EXAMPLARY_WORKSPACE = lambda user: "default" if user == teacher else north

    assert services.provision_actor(teacher) == session.actor
    assert services.sweep_sessions().ended == {"completed": 1}
    session = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    assert session.workspace == "default"


def test_unknown_workspace_is_configuration_error(fake, teacher, settings):
    move_all_users(settings, "south")
    with pytest.raises(ExamplaryConfigurationError, match="no workspace 'south'"):
        services.provision_actor(teacher)

    assert not ExamplaryActor.objects.exists()
    assert fake.requests == []


# Transactions and threads, with real commits


@pytest.mark.django_db(transaction=True)
def test_transaction_is_refused_unless_the_actor_is_active(fake, teacher):
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
def test_no_transaction_is_open_during_the_call(fake, teacher, monkeypatch):
    client = services.get_client()
    create_user = client.create_user
    open_blocks = []

    def create(**profile):
        open_blocks.append(connection.in_atomic_block)
        return create_user(**profile)

    monkeypatch.setattr(type(client), "create_user", lambda self, **profile: create(**profile))
    services.provision_actor(teacher)

    assert open_blocks == [False]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", [None, {"status": 429, "headers": {"Retry-After": "0"}}])
def test_simultaneous_callers_call_the_api_once(fake, teacher, provisioned, patiently, fault):
    fake.latency = 0.1
    if fault:
        fake.fail("POST", "/users", **fault)

    def provision():
        return patiently(lambda: services.provision_actor(teacher)).examplary_id

    outcomes = call_at_once(*[provision] * 32)
    actor = ExamplaryActor.objects.get()
    assert set(outcomes) == {actor.examplary_id}
    assert len(fake.calls("POST", "/users")) == (2 if fault else 1)
    assert len(provisioned) == 1
