"""Claims on actors: one holder at a time, and the row after each outcome."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from datetime import timedelta

import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError
from django.utils import timezone

from django_examplary import services
from django_examplary.data import ActorProfile
from django_examplary.exceptions import (
    ExamplaryActorIsOwnerError,
    ExamplaryAuthenticationError,
    ExamplaryConfigurationError,
    ExamplaryConflictError,
    ExamplaryConnectionError,
    ExamplaryDatabaseError,
    ExamplaryError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryNotReadyError,
    ExamplaryPermissionError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryUnavailableError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services import claims
from django_examplary.services.claims import claim_actor, describe_error, disown_actor
from tests import wire

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State


def make_actor(user, state, **fields):
    """Create an actor whose claim, if it has one, ends in a minute."""
    lapses_at = timezone.now() + timedelta(minutes=1)
    return ExamplaryActor.objects.create(
        user=user, state=state, claim_token="of another caller", lapses_at=lapses_at, **fields
    )


def keys(fake):
    return [call.headers["Idempotency-Key"] for call in fake.calls("POST", "/users")]


def run_after(monkeypatch, client, action):
    """Run `action` once, between the response of the API and its storage."""
    create_user = client.create_user

    def create(**profile):
        user = create_user(**profile)
        monkeypatch.setattr(client, "create_user", create_user)
        action()
        return user

    monkeypatch.setattr(client, "create_user", create)


# Taking a claim


def test_claim_excludes_other_callers(teacher):
    actor = ExamplaryActor.objects.create(user=teacher)
    other = ExamplaryActor.objects.get()

    assert claim_actor(actor)
    assert not claim_actor(other)

    actor.refresh_from_db()
    assert (actor.state, actor.claim_token) == (State.CLAIMED, actor.claim_token)
    assert timezone.now() < actor.lapses_at < timezone.now() + timedelta(minutes=1)


@pytest.mark.parametrize("state", [State.CLAIMED, State.UNCERTAIN])
def test_claim_succeeds_after_lease(teacher, lapse, state):
    actor = make_actor(teacher, state)
    assert not claim_actor(actor)

    lapse()
    assert claim_actor(actor)
    assert actor.claim_token != "of another caller"
    assert actor.is_repeat


@pytest.mark.parametrize("jump", [timedelta(hours=-1), timedelta(hours=1), timedelta(0)])
def test_lease_ends_by_the_clock_of_the_database(teacher, student, lapse, monkeypatch, jump):
    """A process with a wrong or stopped clock does not take over a claim."""
    now = timezone.now() + jump
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    actor = ExamplaryActor.objects.create(user=teacher)
    other = ExamplaryActor.objects.get()
    assert claim_actor(actor)
    assert not claim_actor(other)

    lapsed = make_actor(student, State.CLAIMED)
    monkeypatch.undo()
    lapse()
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)
    assert claim_actor(lapsed)


def test_claim_whose_commit_was_not_acknowledged_is_held(teacher, monkeypatch):
    def unacknowledged(work):
        work()
        return work()

    monkeypatch.setattr(claims, "commit", unacknowledged)

    assert claim_actor(ExamplaryActor.objects.create(user=teacher))


def test_claim_that_ended_before_it_was_read_is_not_held(teacher, monkeypatch):
    commit = claims.commit

    def commit_and_lose_the_claim(work):
        changed = commit(work)
        ExamplaryActor.objects.update(claim_token="of another caller")
        return changed

    monkeypatch.setattr(claims, "commit", commit_and_lose_the_claim)

    assert not claim_actor(ExamplaryActor.objects.create(user=teacher))


def test_nothing_is_sent_without_a_claim(fake, teacher, monkeypatch):
    def locked(work):
        raise OperationalError("database is locked")

    monkeypatch.setattr(claims, "commit", locked)
    with pytest.raises(OperationalError):
        services.provision_actor(teacher)

    assert fake.requests == []


# Ending a claim with an error


@pytest.mark.parametrize(
    ("fault", "error", "state"),
    [
        # The request had no effect, and the user need not be changed.
        ({"status": 401}, ExamplaryAuthenticationError, State.PENDING),
        ({"status": 403}, ExamplaryPermissionError, State.PENDING),
        ({"status": 425}, ExamplaryError, State.PENDING),
        ({"status": 429, "headers": {"Retry-After": "0"}}, ExamplaryRateLimitError, State.PENDING),
        # Refused because of the content of the request.
        ({"status": 400}, ExamplaryInvalidRequestError, State.FAILED),
        ({"status": 422}, ExamplaryInvalidRequestError, State.FAILED),
        # The user may have been created.
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


UNUSABLE = {
    "another key": {"body": {"userId": "user_9", "createdBy": {"id": "user_8"}}},
    "an underscore": {"body": {"_id": "user_9", "org": {"id": "org_1"}}},
    "two records": {"status": 207, "body": {"results": [{"id": "user_9"}, {"error": "x"}]}},
    "cut off": {"body": b'{"id": "user_9", "na'},
    "a string": {"body": b'"{\\"id\\":\\"user_9\\"}"'},
    "Location alone": {"status": 201, "body": b"", "headers": {"Location": "/users/user_9"}},
    "another address": {"body": {"id": "user_9", "email": "other@school.example"}},
    "see other": {"status": 303, "headers": {"Location": "/users/user_9"}},
    "error after creation": {"status": 500, "body": {"message": "mail failed", "id": "user_9"}},
}


@pytest.mark.parametrize("run", ["launch", "bulk"])
@pytest.mark.parametrize("fault", UNUSABLE.values(), ids=UNUSABLE)
def test_id_in_an_unusable_answer_is_logged_and_can_be_linked(fake, teacher, caplog, fault, run):
    fake.fail("POST", "/users", **fault)
    if run == "bulk":
        assert services.provision_actors(get_user_model().objects.all()).provisioned == 0
    else:
        with pytest.raises(ExamplaryError):
            services.provision_actor(teacher)

    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.examplary_id) == (State.UNCERTAIN, None)
    line = f"outcome=unusable-answer actor={actor.pk} examplary_id=user_9"
    assert [each.levelname for each in caplog.records if line in each.getMessage()] == ["ERROR"]
    assert actor.last_error.endswith("The response shows the id user_9.")
    assert services.link_actor(teacher, "user_9").is_active


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"id": 17, "role": "teacher"}, "17"),
        ({"id": "usr_17"}, "usr_17"),
        ({"id": "embed_session_17"}, ""),
        ({"id": "session_17", "embedUrl": "https://app.examplary.ai/embed/17"}, ""),
        ({"id": 17, "object": "embed_session"}, ""),
        ({"ids": ["user_8", "user_9"]}, ""),
        ({}, ""),
    ],
)
def test_id_with_another_prefix_is_logged(fake, teacher, caplog, body, shown):
    fake.fail("POST", "/users", body=body)
    with pytest.raises(ExamplaryResponseError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.UNCERTAIN
    found = re.findall(r"outcome=unusable-answer actor=\d+ examplary_id=(\S*)", caplog.text)
    assert found == ([shown] if shown else [])
    assert "session_17" not in caplog.text


def test_id_in_the_refusal_of_a_known_address_is_logged(fake, teacher, caplog):
    fake.fail("POST", "/users", status=409, body={"message": "exists", "user": {"id": "user_9"}})
    with pytest.raises(ExamplaryConflictError) as caught:
        services.provision_actor(teacher)

    actor = ExamplaryActor.objects.get()
    assert (actor.state, caught.value.examplary_id) == (State.FAILED, "user_9")
    assert "examplary_id=user_9" in caplog.text
    assert "link the id. The response shows the id user_9." in actor.last_error


def test_lease_counts_by_the_clock_of_the_database(teacher):
    actor = ExamplaryActor.objects.create(user=teacher)
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert claim_actor(actor)
    lapses_at = ExamplaryActor.objects.get().lapses_at
    assert timezone.now() < lapses_at < timezone.now() + timedelta(hours=1)


def test_request_that_was_not_sent_leaves_the_user_as_before(fake, teacher, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    settings.EXAMPLARY_API_URL = "http://127.0.0.1:1"
    for error in [ExamplaryConnectionError] * 3 + [ExamplaryUnavailableError]:
        with pytest.raises(error):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().state == State.PENDING
    settings.EXAMPLARY_API_URL = fake.base_url

    assert services.provision_actor(teacher).is_active


def test_wrong_url_leaves_the_user_as_before(fake, teacher):
    fake.fail("POST", "/users", status=404)
    with pytest.raises(ExamplaryConfigurationError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.PENDING


def test_refusal_is_stored_with_advice(fake, teacher):
    fake.add_user(teacher.email)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().last_error == (
        "POST /users was answered with 400: A user with this e-mail address already exists. "
        "If Examplary has this user already, link the id."
    )


def test_advice_is_stored_after_a_long_refusal(fake, teacher):
    fake.fail("POST", "/users", status=422, body={"message": "no " * 100})
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().last_error.endswith(" link the id.")


def test_refusal_for_the_owner_of_the_key_is_explained():
    error = ExamplaryActorIsOwnerError("POST /embed-sessions", status_code=400)

    assert "belongs to the owner of the API key" in describe_error(error)


def test_actor_claim_that_cannot_be_released_expires(fake, teacher, monkeypatch, caplog, lapse):
    fake.fail("POST", "/users", status=401)
    client, commit = services.get_client(), claims.commit

    def commit_until_the_api_was_called(work):
        if fake.requests:
            raise OperationalError("the server has gone away")
        return commit(work)

    with monkeypatch.context() as patch:
        patch.setattr(claims, "commit", commit_until_the_api_was_called)
        with pytest.raises(ExamplaryAuthenticationError):
            services.provision_actor(teacher, client=client)

    assert "operation=release-actor" in caplog.text
    assert ExamplaryActor.objects.get().state == State.CLAIMED
    lapse()
    assert services.provision_actor(teacher).is_active


# The key of a request


def test_idempotency_key_stays_until_the_outcome_is_known(fake, teacher, settings, lapse):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.duplicates = "create"
    unanswered, refused = (
        {"transport": "close", "before": False},
        {"status": 429, "headers": {"Retry-After": "0"}},
    )
    for fault in (unanswered, refused, unanswered):
        fake.fail("POST", "/users", **fault)
        with pytest.raises(ExamplaryError):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().state == State.UNCERTAIN
        if fault is unanswered:
            lapse()
    services.provision_actor(teacher)

    assert len(keys(fake)) == 4
    assert len(set(keys(fake))) == 1
    assert str(ExamplaryActor.objects.get().idempotency_key) not in keys(fake)


def test_idempotency_key_changes_after_a_refusal(fake, teacher):
    fake.fail("POST", "/users", status=400)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)
    services.provision_actor(teacher)

    assert len(set(keys(fake))) == 2


# Ending a claim with an id


@pytest.mark.parametrize(
    ("differing", "named"),
    [
        ({"name": "Somebody Else"}, "another name. If"),
        ({"role": "student"}, "another role, 'student' instead of 'teacher'. If"),
        ({"role": ["teacher", "admin"]}, "another role, 'teacher,admin' instead of 'teacher'. If"),
        ({"role": "org:teacher"}, "another role, 'org:teacher' instead of 'teacher'. If"),
    ],
)
def test_user_who_existed_before_is_not_adopted(fake, teacher, caplog, differing, named):
    fake.duplicates = "return"
    existing = fake.add_user(teacher.email, **{"name": teacher.get_full_name(), **differing})
    with pytest.raises(ExamplaryNotProvisionedError, match="EXAMPLARY_EMAILS_ARE_VERIFIED"):
        services.provision_actor(teacher)

    actor = ExamplaryActor.objects.get()
    assert (actor.state, actor.examplary_id) == (State.FAILED, None)
    assert named in actor.last_error
    assert f"link {existing['id']}, or set" in actor.last_error
    assert f"outcome=existed-before actor={actor.pk} examplary_id={existing['id']}" in caplog.text


@pytest.mark.parametrize(
    "same",
    [
        {"name": " TEA "},
        {"name": "Te\u0301a\xa0 Cup"},
        {"name": ""},
        {"role": "Teacher"},
        {"role": ["member", "teacher"]},
        {"role": ""},
    ],
)
def test_response_that_matches_the_request_is_accepted(fake, teacher, same):
    if "Cup" in same.get("name", ""):
        teacher.first_name, teacher.last_name = "T\xe9a", "Cup"
    fake.duplicates = "return"
    existing = fake.add_user(teacher.email, **same)

    assert services.provision_actor(teacher).examplary_id == existing["id"]


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("Ann Miller", "Ann Mil"),
        ("Ann Miller", "Ann M."),
        ("Ann M\xfcller", "Ann Mu\u0308ller"),
        ("Ann M\xfcller", "Ann Muller"),
        ("Ann O'Neil & Co", "Ann O&#39;Neil &amp; Co"),
        ("Ann O'Neil", "Ann O\u2019Neil"),
        ("Ann \U0001f642 Miller", "ann miller"),
    ],
)
def test_created_user_may_get_the_name_in_another_form(fake, teacher, settings, sent, answered):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email=user.email, name=sent)
    fake.fail("POST", "/users", edit=lambda user: user | {"name": answered})

    assert services.provision_actor(teacher).name == sent


@pytest.mark.parametrize("answered", ["Ann Miller Jones", "Miller", "\u5f20"])
def test_name_of_another_user_is_not_another_form(fake, teacher, settings, answered):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(
        email=user.email, name="Ann Miller"
    )
    fake.fail("POST", "/users", edit=lambda user: user | {"name": answered})
    with pytest.raises(ExamplaryNotProvisionedError, match="with another name"):
        services.provision_actor(teacher)


def test_user_who_existed_before_is_adopted_if_addresses_are_trusted(fake, teacher, settings):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    fake.duplicates = "return"
    existing = fake.add_user(teacher.email, name="Somebody Else", role="student")

    assert services.provision_actor(teacher).examplary_id == existing["id"]


@pytest.mark.parametrize(
    "case",
    ["owner", "admin", "Admin", ["teacher", "admin"], {"name": "Owner"}, "hq", "key's own user"],
)
def test_manager_of_the_workspace_is_never_adopted(fake, teacher, settings, case):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    fake.duplicates = "return"
    if case == "key's own user":
        fake.users[fake.owner_id] |= {"email": teacher.email, "role": "member"}
    else:
        fake.add_user(teacher.email, role=case)
    with pytest.raises(ExamplaryNotProvisionedError, match="manages the workspace or owns"):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().examplary_id is None


@pytest.mark.parametrize(("role", "state"), [("student", State.ACTIVE), ("admin", State.FAILED)])
def test_actor_that_was_removed_and_renamed_is_added_again(fake, teacher, role, state):
    fake.duplicates = "return"
    known = services.provision_actor(teacher).examplary_id
    fake.users[known] |= {"name": "Somebody Else", "role": role}
    # The API has reported that the id is unknown.
    ExamplaryActor.objects.update(state=State.PENDING)
    with suppress(ExamplaryNotProvisionedError):
        services.provision_actor(teacher)

    actor = ExamplaryActor.objects.get()
    assert (actor.examplary_id, actor.state) == (known, state)


@pytest.mark.parametrize("verified", [False, True])
def test_accounts_with_one_address_do_not_share_an_actor(
    fake, teacher, student, settings, provisioned, verified
):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = verified
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email="both@school.example")
    fake.duplicates = "return"
    services.provision_actor(teacher)
    with pytest.raises(ExamplaryNotProvisionedError, match="represents another account here"):
        services.provision_actor(student)

    assert ExamplaryActor.objects.get(user=student).state == State.FAILED
    assert len(provisioned) == 1


def test_broken_constraint_of_the_project_is_named(fake, teacher, monkeypatch, caplog, lapse):
    """An IntegrityError without the id is raised at once, not handled as another account."""

    def refuse(work):
        monkeypatch.undo()
        raise IntegrityError("CHECK constraint failed: policy_of_the_project")

    client = services.get_client()
    run_after(monkeypatch, client, lambda: monkeypatch.setattr(claims, "commit", refuse))
    with pytest.raises(ExamplaryDatabaseError, match=r"IntegrityError \(policy_of_the_project\)"):
        services.provision_actor(teacher, client=client)

    actor = ExamplaryActor.objects.get()
    # The user exists at Examplary, and the id is in the log.
    assert actor.state == State.UNCERTAIN
    assert f"outcome=not-stored actor={actor.pk} examplary_id={[*fake.users][-1]}" in caplog.text
    lapse()
    fake.duplicates = "return"
    assert services.provision_actor(teacher).examplary_id == [*fake.users][-1]


def test_error_of_the_database_does_not_quote_the_row(fake, teacher, monkeypatch):
    def refuse(work):
        monkeypatch.undo()
        raise DatabaseError("Failing row contains (teacher@school.example)")

    client = services.get_client()
    run_after(monkeypatch, client, lambda: monkeypatch.setattr(claims, "commit", refuse))
    with pytest.raises(ExamplaryDatabaseError) as caught:
        services.provision_actor(teacher, client=client)

    assert str(caught.value) == "The actor could not be stored: DatabaseError."
    assert caught.value.__context__ is None


def test_holder_that_lost_its_claim_stores_nothing(fake, teacher, caplog, monkeypatch, lapse):
    fake.duplicates = "create"
    client = services.get_client()

    def take_over():
        lapse()
        services.provision_actor(teacher)

    run_after(monkeypatch, client, take_over)
    with caplog.at_level(logging.ERROR), pytest.raises(ExamplaryNotReadyError, match="was lost"):
        services.provision_actor(teacher, client=client)

    # The log has the id, so that an operator can find the user without a row.
    assert re.search(rf"outcome=claim-lost actor=\d+ examplary_id={[*fake.users][1]}", caplog.text)
    actor = ExamplaryActor.objects.get()
    assert actor.is_active
    assert actor.examplary_id == [*fake.users][-1]


def test_holder_whose_user_was_deleted_stores_nothing(fake, teacher, monkeypatch):
    client = services.get_client()
    run_after(monkeypatch, client, get_user_model().objects.all().delete)
    with pytest.raises(ExamplaryNotReadyError):
        services.provision_actor(teacher, client=client)

    assert not ExamplaryActor.objects.exists()


@pytest.mark.parametrize("duplicates", ["refuse", "return"])
def test_database_lost_after_the_response(fake, teacher, monkeypatch, caplog, duplicates, lapse):
    fake.duplicates = duplicates

    def away(work):
        raise InterfaceError("the connection is closed")

    with monkeypatch.context() as patch:
        client = services.get_client()
        run_after(patch, client, lambda: patch.setattr(claims, "commit", away))
        with pytest.raises(ExamplaryDatabaseError, match="InterfaceError"):
            services.provision_actor(teacher, client=client)
    actor = ExamplaryActor.objects.get()
    assert actor.state == State.CLAIMED
    assert f"outcome=not-stored actor={actor.pk} examplary_id={[*fake.users][-1]}" in caplog.text

    lapse()
    if duplicates == "refuse":
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        services.link_actor(teacher, [*fake.users][-1])
    assert services.provision_actor(teacher).examplary_id == [*fake.users][-1]
    assert len(fake.users) == 2


def test_id_whose_commit_was_not_acknowledged_is_announced(fake, teacher, provisioned, monkeypatch):
    def unacknowledged(work):
        work()
        return work()

    client = services.get_client()
    run_after(monkeypatch, client, lambda: monkeypatch.setattr(claims, "commit", unacknowledged))
    actor = services.provision_actor(teacher, client=client)

    assert actor.is_active
    assert provisioned == [actor]


def test_id_stays_with_its_user_when_addresses_move(fake, teacher, student):
    fake.duplicates = "return"
    before = services.provision_actor(teacher).examplary_id
    teacher.email, student.email = "new@school.example", teacher.email
    student.first_name = teacher.first_name
    assert services.provision_actor(teacher).examplary_id == before

    with pytest.raises(ExamplaryNotProvisionedError, match="represents another account"):
        services.provision_actor(student)
    assert ExamplaryActor.objects.get(user=teacher).examplary_id == before
    assert len(fake.calls("POST", "/users")) == 2


def test_disowned_id_is_deleted_unless_replaced(fake, teacher):
    former = services.provision_actor(teacher)
    services.link_actor(teacher, fake.add_user("known@school.example")["id"])
    error = ExamplaryActorIsOwnerError("POST /embed-sessions", status_code=400)
    disown_actor(former, error)
    actor = ExamplaryActor.objects.get()
    assert actor.is_active

    disown_actor(actor, error)
    actor.refresh_from_db()
    assert (actor.state, actor.examplary_id) == (State.FAILED, None)


def test_response_without_name_and_role_is_accepted(fake, teacher):
    fake.fail("POST", "/users", edit=lambda body: {"id": body["id"]})
    actor = services.provision_actor(teacher)

    assert (actor.name, actor.role) == (teacher.get_full_name(), "teacher")
