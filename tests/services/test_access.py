from __future__ import annotations

import json

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError

from django_examplary import services
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryPermissionError,
    ExamplaryResponseError,
    ExamplaryServerError,
    ExamplaryValidationError,
)
from django_examplary.flows import EditExam, MarkAnswer, PracticeSpaceStudent, TakeExam
from django_examplary.models import ExamplarySession

pytestmark = pytest.mark.django_db

ORIGIN = "https://school.example"


@pytest.fixture
def exam(fake):
    return fake.add_exam()["id"]


@pytest.fixture
def actor(fake, teacher):
    return services.provision_actor(teacher).examplary_id


@pytest.mark.parametrize(
    ("has", "wants", "answer"),
    [
        (None, "participant", False),
        ("participant", "participant", True),
        ("participant", "viewer", False),
        ("viewer", "editor", False),
        ("editor", "editor", True),
        ("manager", "editor", True),
        ("owner", "participant", True),
    ],
)
def test_check_access_follows_the_order_of_roles(fake, teacher, actor, exam, has, wants, answer):
    if has:
        fake.grant(exam, actor, has)
    assert services.check_access(teacher, exam, wants) is answer


def test_check_access_does_not_provision(fake, teacher, exam):
    assert services.check_access(teacher, exam, "viewer") is False
    assert fake.requests == []


@pytest.mark.parametrize("role", ["owner", "manager", "editor"])
def test_grant_access_never_lowers_a_role(fake, teacher, actor, exam, role):
    fake.grant(exam, actor, role)
    services.grant_access(teacher, exam, "editor")
    assert fake.calls("POST", "/permissions/{resource}") == []
    assert fake.permissions[exam][actor]["role"] == role


def test_grant_access_raises_a_lower_role(fake, teacher, actor, exam):
    fake.grant(exam, actor, "viewer")
    services.grant_access(teacher, exam, "editor")
    assert fake.permissions[exam][actor]["role"] == "editor"


def test_grant_access_keeps_an_unknown_role(fake, teacher, actor, exam, caplog):
    fake.grant(exam, actor, "viewer")
    fake.permissions[exam][actor]["role"] = "co-owner"
    services.grant_access(teacher, exam, "editor")
    assert fake.permissions[exam][actor]["role"] == "co-owner"
    assert "outcome=unknown-role role='co-owner'" in caplog.text


@pytest.mark.parametrize(("role", "sent"), [("participant", "student"), ("viewer", "teacher")])
def test_grant_access_provisions_by_the_role(fake, student, exam, role, sent):
    actor = services.grant_access(student, exam, role)
    assert actor.role == sent
    assert fake.permissions[exam][actor.examplary_id]["role"] == role


def test_exam_that_the_key_cannot_access_raises(fake, teacher, actor, exam):
    fake.forbidden.add(exam)
    with pytest.raises(ExamplaryPermissionError):
        services.check_access(teacher, exam, "viewer")
    with pytest.raises(ExamplaryPermissionError):
        services.grant_access(teacher, exam, "viewer")


@pytest.mark.parametrize("resource", ["org_1", "group_1", "user_1", "exam_1/../users", ""])
def test_access_is_granted_on_exams_and_spaces_only(fake, teacher, actor, resource):
    sent = len(fake.requests)
    with pytest.raises(ExamplaryValidationError, match="grant_access: needs an exam or a space"):
        services.grant_access(teacher, resource, "editor")
    assert len(fake.requests) == sent


def test_launch_grants_access_on_exams_and_spaces_only(fake, teacher, actor):
    flow = MarkAnswer(extra={"examId": "org_1"})
    with pytest.raises(ExamplaryValidationError, match="grant_access: needs an exam or a space"):
        services.open_session(teacher, flow, origin=ORIGIN, grant_access=True)
    assert fake.calls("POST", "/permissions/{resource}") == []
    assert fake.calls("POST", "/embed-sessions") == []


@pytest.mark.django_db(transaction=True)
def test_access_services_refuse_a_transaction(fake, teacher, actor, exam):
    sent = len(fake.requests)
    for call in (services.check_access, services.grant_access):
        with transaction.atomic(), pytest.raises(TransactionManagementError):
            call(teacher, exam, "viewer")
    assert len(fake.requests) == sent


@pytest.mark.parametrize(("audience", "expected"), [("group_1", True), ("user_other", False)])
def test_role_of_a_group_applies_to_the_user(fake, teacher, actor, exam, audience, expected):
    fake.fail(
        "GET",
        "/permissions/{resource}",
        body=[{"resource": exam, "actor": audience, "role": "editor"}],
    )
    assert services.check_access(teacher, exam, "editor") is expected


@pytest.mark.parametrize("has", [None, "viewer"])
def test_key_without_permission_to_list_uses_the_role_of_the_user(fake, teacher, actor, exam, has):
    if has:
        fake.grant(exam, actor, has)
    fake.fail("GET", "/permissions/{resource}", status=403)
    if has:
        assert services.check_access(teacher, exam, "editor") is False
    else:
        with pytest.raises(ExamplaryPermissionError):
            services.check_access(teacher, exam, "editor")


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([{"actorId": "user_x", "role": "editor"}], True),
        ([{"actor": "ann@school.example", "role": "owner"}], True),
        ([{"actor": "user_other", "role": "owner"}], False),
        ([], False),
    ],
)
@pytest.mark.parametrize("own", [b"", b"null", b"{}", b'{"hasAccess": false}'])
def test_unreadable_role_falls_back_to_the_list(fake, teacher, actor, exam, own, listed, expected):
    fake.fail("GET", "/permissions/{resource}/{actor}", body=own)
    fake.fail("GET", "/permissions/{resource}", body=listed)
    assert services.check_access(teacher, exam, "editor") is expected


def test_missing_role_falls_back_to_the_list(fake, teacher, actor, exam):
    fake.grant(exam, actor, "editor")
    fake.fail("GET", "/permissions/{resource}/{actor}", status=404)
    assert services.check_access(teacher, exam, "editor") is True


@pytest.mark.parametrize("body", [b"", {"user_1": "editor"}, ["user_1"]])
def test_launch_passes_if_permissions_cannot_be_read(fake, teacher, actor, exam, body):
    fake.fail("GET", "/permissions/{resource}/{actor}", body=b"")
    fake.fail("GET", "/permissions/{resource}", body=body)
    assert services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN).is_open


def test_incomplete_list_is_an_error_and_stops_no_launch(fake, teacher, actor, exam):
    # The actor, or a group of the actor's, may be on the next page.
    fake.fail(
        "GET",
        "/permissions/{resource}",
        times=None,
        edit=lambda body: {"items": body, "nextPageToken": "x"},
    )
    with pytest.raises(ExamplaryResponseError, match="only a part of the permissions on exam_"):
        services.check_access(teacher, exam, "editor")
    assert services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN).is_open
    fake.grant(exam, actor, "editor")
    assert services.check_access(teacher, exam, "editor") is True


@pytest.mark.parametrize("audience", ["user", "group"])
def test_unknown_role_raises_but_does_not_block_launches(fake, teacher, actor, exam, audience):
    holder = actor if audience == "user" else "group_1"
    fake.grant(exam, actor, "viewer")
    permission = fake.permissions[exam].pop(actor)
    fake.permissions[exam][holder] = permission | {"actor": holder, "role": "co-owner"}
    with pytest.raises(ExamplaryResponseError, match="The role 'co-owner' on exam_"):
        services.check_access(teacher, exam, "editor")
    assert services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN).is_open


@pytest.mark.parametrize("status", [400, 404, 422])
def test_refused_permission_request_does_not_block_launches(fake, teacher, actor, exam, status):
    fake.fail("GET", "/permissions/{resource}/{actor}", status=404)
    fake.fail("GET", "/permissions/{resource}", status=status)
    assert services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN).is_open


def test_permission_request_is_retried_for_a_new_actor(fake, teacher, actor, exam):
    message = "Actor with the given ID does not exist as a user within your workspace."
    fake.grant(exam, actor, "editor")
    fake.fail("GET", "/permissions/{resource}/{actor}", status=400, body={"message": message})
    assert services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN).is_open
    assert len(fake.calls("GET", "/permissions/{resource}/{actor}")) == 2


def test_failed_permission_request_blocks_the_launch(fake, teacher, actor, exam, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", "/permissions/{resource}/{actor}", status=500)
    with pytest.raises(ExamplaryServerError):
        services.open_session(teacher, EditExam(exam_id=exam), origin=ORIGIN)


@pytest.mark.parametrize("body", [b"", {"success": True}])
def test_launch_grants_access_with_unexpected_response(fake, teacher, actor, exam, body):
    fake.fail("POST", "/permissions/{resource}", body=body, before=False)
    flow = EditExam(exam_id=exam)
    assert services.open_session(teacher, flow, origin=ORIGIN, grant_access=True).is_open
    assert fake.permissions[exam][actor]["role"] == "editor"


# At launch

FLOWS = {
    "edit-exam": (lambda fake: EditExam(exam_id=fake.add_exam()["id"]), "editor"),
    "mark-answer": (lambda fake: MarkAnswer(extra={"examId": fake.add_exam()["id"]}), "editor"),
    "take-exam": (lambda fake: TakeExam(exam_id=fake.add_exam()["id"]), "participant"),
    "practice-space-student": (
        lambda fake: PracticeSpaceStudent(practice_space_id=fake.add_practice_space()["id"]),
        "participant",
    ),
}


@pytest.mark.parametrize("slug", FLOWS)
def test_launch_checks_access_and_grants_only_on_request(fake, student, slug):
    fake.staging = True
    make, role = FLOWS[slug]
    flow = make(fake)
    problem = f"lacks the role {role} on {flow.resource}"
    with pytest.raises(ExamplaryAccessError, match=problem) as caught:
        services.open_session(student, flow, origin=ORIGIN)
    assert (caught.value.resource, caught.value.role) == (flow.resource, role)
    assert fake.calls("POST", "/embed-sessions") == []
    assert not ExamplarySession.objects.exists()
    session = services.open_session(student, flow, origin=ORIGIN, grant_access=True)
    assert session.is_open
    assert fake.permissions[flow.resource][session.actor.examplary_id]["role"] == role
    # The role exists now, so it is not granted again.
    assert services.open_session(student, flow, origin=ORIGIN, reuse=False).is_open
    assert len(fake.calls("POST", "/permissions/{resource}")) == 1


def test_launch_with_key_that_cannot_read_permissions(fake, teacher, actor, exam):
    fake.forbidden.add(exam)
    flow = EditExam(exam_id=exam)
    assert services.open_session(teacher, flow, origin=ORIGIN).is_open
    with pytest.raises(ExamplaryPermissionError):
        services.open_session(teacher, flow, origin=ORIGIN, grant_access=True)


def test_flow_without_an_exam_cannot_grant_access(fake, teacher):
    assert services.open_session(teacher, MarkAnswer(), origin=ORIGIN).is_open
    with pytest.raises(ExamplaryValidationError, match="needs to know the exam_id"):
        services.open_session(teacher, MarkAnswer(), origin=ORIGIN, grant_access=True)


def test_lost_actor_is_replaced_before_it_is_granted_access(fake, teacher, actor, exam):
    del fake.users[actor]
    session = services.open_session(
        teacher, EditExam(exam_id=exam), origin=ORIGIN, grant_access=True
    )
    fresh = json.loads(fake.calls("POST", "/embed-sessions")[0].body)["actor"]
    assert fresh != actor
    assert fake.permissions[exam][fresh]["role"] == "editor"
    assert fake.sessions[session.examplary_id].actor == fresh


def test_grant_access_replaces_a_lost_actor(fake, teacher, actor, exam):
    del fake.users[actor]
    fresh = services.grant_access(teacher, exam, "editor").examplary_id
    assert fresh != actor
    assert fake.permissions[exam][fresh]["role"] == "editor"
