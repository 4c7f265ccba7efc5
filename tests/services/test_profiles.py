from __future__ import annotations

import json

import pytest
from django.contrib.auth import get_user_model

from django_examplary import services
from django_examplary.data import ActorProfile
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryInvalidRequestError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor

pytestmark = pytest.mark.django_db

State = ExamplaryActor.State


@pytest.mark.parametrize(("role", "sent"), [(None, "teacher"), ("student", "student")])
def test_role_is_always_sent(fake, teacher, role, sent):
    services.provision_actor(teacher, role=role)

    assert json.loads(fake.requests[0].body)["role"] == sent


def test_profile_of_project_is_sent(fake, teacher, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(
        email=f" {user.pk}@pupils.example ", name="x" * 150, role="member"
    )

    actor = services.provision_actor(teacher, role="student")

    assert (actor.email, actor.name, actor.role) == (
        f"{teacher.pk}@pupils.example",
        "x" * 100,
        "member",
    )


# From the table in section 5 of the API contract.
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
    # Longer than the limit of e-mail addresses.
    f"{'a' * 249}@x.org",
]


@pytest.mark.parametrize("email", ACCEPTED)
def test_accepted_address_is_sent(fake, teacher, email):
    teacher.email = email

    assert services.provision_actor(teacher).email == email


@pytest.mark.parametrize("email", REJECTED)
def test_rejected_address_is_not_sent(fake, teacher, email):
    teacher.email = email
    with pytest.raises(ExamplaryValidationError, match="email: the user has no address"):
        services.provision_actor(teacher)

    assert fake.requests == []
    actor = ExamplaryActor.objects.get(user=teacher)
    assert (actor.state, actor.last_error[:6]) == (State.FAILED, "email:")

    teacher.email = "ann@school.example"
    assert services.provision_actor(teacher).is_active


@pytest.mark.parametrize("name", ["Ann\ud800", "Ann\0"])
def test_unstorable_characters_of_name_are_replaced(fake, teacher, settings, name):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email=user.email, name=name)

    actor = services.provision_actor(teacher)

    actor.refresh_from_db()
    assert actor.name == json.loads(fake.requests[0].body)["name"] == "Ann\ufffd"


def test_role_of_failed_try_is_sent_again(fake, student):
    fake.fail("POST", "/users", status=400)
    with pytest.raises(ExamplaryInvalidRequestError):
        services.provision_actor(student, role="student")

    assert services.provision_actor(student).role == "student"


def test_profile_may_raise_validation_error(fake, teacher, settings):
    def profile(user):
        raise ExamplaryValidationError("email", "pupils have none")

    settings.EXAMPLARY_ACTOR_PROFILE = profile
    with pytest.raises(ExamplaryValidationError, match="email: pupils have none"):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().last_error == "email: pupils have none"


def test_profile_of_wrong_type_is_configuration_error(fake, teacher, settings):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: {"email": user.email}
    with pytest.raises(ExamplaryConfigurationError, match="returned a dict, not an ActorProfile"):
        services.provision_actor(teacher)

    assert ExamplaryActor.objects.get().state == State.PENDING


def test_profile_that_raises_is_configuration_error(fake, teacher, settings):
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


@pytest.mark.parametrize("role", ["owner", "admin", "king"])
def test_profile_with_manager_role_is_refused(fake, teacher, settings, role):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: ActorProfile(email=user.email, role=role)
    with pytest.raises(ExamplaryValidationError, match="role: an end user must not be"):
        services.provision_actor(teacher)

    assert fake.requests == []


@pytest.mark.parametrize("role", ["owner", "admin", "king"])
def test_argument_with_manager_role_is_refused(fake, teacher, role):
    for call in (
        lambda: services.provision_actor(teacher, role=role),
        lambda: services.provision_actors(get_user_model().objects.all(), role=role),
    ):
        with pytest.raises(ExamplaryValidationError, match="role: an end user must not be"):
            call()

    assert not ExamplaryActor.objects.exists()
    assert fake.requests == []


def test_user_model_without_get_full_name(fake, teacher, monkeypatch):
    monkeypatch.delattr("django.contrib.auth.models.AbstractUser.get_full_name")

    assert services.provision_actor(teacher).name == ""
