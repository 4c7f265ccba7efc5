"""Existing Examplary users: link them by their id, and find them by their address."""

from __future__ import annotations

import json

import pytest

from django_examplary import services
from django_examplary.exceptions import (
    ExamplaryConnectionError,
    ExamplaryInvalidRequestError,
    ExamplaryNotProvisionedError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryValidationError,
)
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State
ORIGIN = "https://school.example"


@pytest.fixture(autouse=True)
def one_attempt(settings):
    settings.EXAMPLARY_MAX_RETRIES = 0


# By id


def test_linked_user_represents_the_account(fake, teacher, provisioned):
    ExamplaryActor.objects.create(user=teacher, state=State.FAILED, last_error="exists")
    known = fake.add_user("known@school.example")["id"]

    actor = services.link_actor(teacher, known)

    actor.refresh_from_db()
    assert (actor.examplary_id, actor.state, actor.last_error) == (known, State.ACTIVE, "")
    assert provisioned == [actor]
    assert services.open_session(teacher, GenerateExam(), origin=ORIGIN).is_open
    assert fake.calls("POST", "/users") == []


def test_linking_another_id_revokes_the_sessions_of_the_former(fake, teacher):
    services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    known = fake.add_user("known@school.example")["id"]
    for revoked in (1, 0):
        actor = services.link_actor(teacher, known)
        assert (actor.email, actor.name, actor.role) == ("", "", "")
        session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        assert fake.sessions[session.examplary_id].actor == known
        # The second call changes nothing.
        assert ExamplarySession.objects.open().count() == 1
        assert services.sweep_sessions().revoked == revoked


@pytest.mark.parametrize("examplary_id", ["", "group_1", "user_", "user_1/../2", " user_1"])
def test_id_with_another_prefix_is_refused(fake, teacher, examplary_id):
    with pytest.raises(ExamplaryValidationError, match="examplary_id: must be an id"):
        services.link_actor(teacher, examplary_id)

    assert fake.requests == []


def test_owner_of_the_key_is_not_linked(fake, teacher):
    with pytest.raises(ExamplaryValidationError, match="owns the API key"):
        services.link_actor(teacher, fake.owner_id)

    assert not ExamplaryActor.objects.exists()


def test_id_of_another_account_is_not_linked(fake, teacher, student):
    known = services.provision_actor(student).examplary_id
    with pytest.raises(ExamplaryValidationError, match="another account here"):
        services.link_actor(teacher, known)

    assert ExamplaryActor.objects.count() == 1


# By address


def test_address_is_looked_up_and_nothing_is_linked(fake, teacher):
    known = fake.add_user(teacher.email)["id"]

    assert services.find_remote_actor(teacher) == known

    assert not ExamplaryActor.objects.exists()
    assert fake.exams == {}
    [permission] = fake.calls("POST", "/permissions/{resource}")
    assert json.loads(permission.body) == {
        "email": teacher.email,
        "role": "viewer",
        "sendInvite": False,
    }


def test_look_up_creates_an_unknown_address(fake, teacher):
    """This is a documented side effect."""
    found = services.find_remote_actor(teacher)

    assert fake.users[found]["email"] == teacher.email


@pytest.mark.parametrize("case", ["address", "id", "admin", "Admin", ["admin"]])
def test_look_up_refuses_managers_of_the_workspace(fake, teacher, case):
    owner = fake.users[fake.owner_id]
    if case not in ("address", "id"):
        fake.add_user(teacher.email, role=case)
    else:
        owner |= {"email": teacher.email, "role": "member"}
        shown = f" {teacher.email.upper()}" if case == "address" else ""
        fake.fail("GET", "/me", edit=lambda body: body | {"email": shown})
    with pytest.raises(ExamplaryNotProvisionedError, match="manages the workspace"):
        services.find_remote_actor(teacher)

    # Granting a role to the address of the owner would replace the role of the owner.
    assert len(fake.calls("POST", "/exams")) == (case != "address")
    assert fake.exams == {}


def test_look_up_accepts_the_older_format_of_an_actor(fake, teacher):
    fake.permission_actor = "id"
    known = fake.add_user(teacher.email)["id"]

    assert services.find_remote_actor(teacher) == known


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 403}, ExamplaryPermissionError),
        ({"body": {"actor": {"id": "group_1"}, "role": "viewer"}}, ExamplaryResponseError),
        ({"body": {"actor": {"id": "user_1"}}}, ExamplaryResponseError),
    ],
)
def test_look_up_that_fails_deletes_its_exam(fake, teacher, fault, error):
    fake.fail("POST", "/permissions/{resource}", **fault)
    with pytest.raises(error):
        services.find_remote_actor(teacher)

    assert len(fake.calls("POST", "/exams")) == 1
    assert fake.exams == {}


def test_exam_that_cannot_be_deleted_is_logged(fake, teacher, caplog):
    known = fake.add_user(teacher.email)["id"]
    fake.fail("DELETE", "/exams/{id}", status=500)

    assert services.find_remote_actor(teacher) == known
    [exam] = fake.exams
    assert f"outcome=exam-left exam={exam}" in caplog.text


def test_look_up_needs_an_address(fake, teacher):
    teacher.email = ""
    with pytest.raises(ExamplaryValidationError, match="email"):
        services.find_remote_actor(teacher)

    assert fake.requests == []


# Duplicates of an unanswered request


def lose_the_answer(fake, user, lapse):
    """Let Examplary create the user, but lose the response."""
    fake.fail("POST", "/users", transport="close", before=False)
    with pytest.raises(ExamplaryConnectionError):
        services.provision_actor(user)
    lapse()
    return [*fake.users][-1]


@pytest.mark.parametrize("status", [400, 409, 422])
def test_unanswered_user_is_recovered(fake, teacher, settings, lapse, status):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    fake.duplicate_status = status
    created = lose_the_answer(fake, teacher, lapse)

    actor = services.provision_actor(teacher)

    assert (actor.state, actor.examplary_id, actor.role) == (State.ACTIVE, created, "teacher")
    assert fake.exams == {}


def test_unanswered_user_is_recovered_in_a_bulk_run(fake, teacher, settings, lapse):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    created = lose_the_answer(fake, teacher, lapse)

    result = services.provision_actors(type(teacher).objects.all(), rate=0)

    assert (result.provisioned, result.failed) == (1, {})
    assert ExamplaryActor.objects.get().examplary_id == created


def test_unanswered_user_is_recovered_after_a_pause(fake, teacher, settings, lapse):
    """The look-up is interrupted; the record of the first request is not lost."""
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    created = lose_the_answer(fake, teacher, lapse)
    fake.fail("POST", "/exams", status=429, headers={"Retry-After": "0"})
    with pytest.raises(Exception, match="429"):
        services.provision_actor(teacher)

    assert services.provision_actor(teacher).examplary_id == created


def test_unanswered_user_is_not_recovered_unless_addresses_are_trusted(fake, teacher, lapse):
    lose_the_answer(fake, teacher, lapse)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.FAILED
    assert fake.calls("POST", "/exams") == []


def test_duplicate_without_an_unanswered_request_is_refused(fake, teacher, settings):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    fake.add_user(teacher.email)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(teacher)

    assert fake.calls("POST", "/exams") == []


def test_other_refusal_of_a_repeat_starts_no_look_up(fake, teacher, settings, lapse):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    lose_the_answer(fake, teacher, lapse)
    fake.fail("POST", "/users", status=400, body={"message": "name is too short"})
    with pytest.raises(ExamplaryInvalidRequestError, match="too short"):
        services.provision_actor(teacher)

    assert fake.calls("POST", "/exams") == []


def test_key_that_may_not_create_exams_reports_the_refusal(fake, teacher, settings, lapse):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    lose_the_answer(fake, teacher, lapse)
    fake.fail("POST", "/exams", status=403)
    with pytest.raises(ExamplaryInvalidRequestError, match="already exists"):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.FAILED


def test_unanswered_look_up_stays_uncertain(fake, teacher, settings, lapse):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    lose_the_answer(fake, teacher, lapse)
    fake.fail("POST", "/exams", status=500)
    with pytest.raises(ExamplaryServerError):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.UNCERTAIN


def test_unanswered_user_of_another_account_is_not_recovered(
    fake, teacher, student, settings, lapse
):
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    created = lose_the_answer(fake, teacher, lapse)
    services.link_actor(student, created)
    with pytest.raises(ExamplaryNotProvisionedError, match="represents another account"):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get(user=student).examplary_id == created
