"""Everything ends, even if a test has stopped the clock."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime

import freezegun
import pytest
import time_machine
from django.contrib.auth.models import User

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryRateLimitError, ExamplaryTimeoutError
from django_examplary.flows import GenerateExam
from django_examplary.launch import new_ticket

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


@pytest.fixture(params=["freezegun", "time-machine"])
def stopped_clock(request):
    if request.param == "freezegun":
        # Not the clock with which pytest measures tests.
        with freezegun.freeze_time(NOON, ignore=["_pytest.timing"]):
            yield
    else:
        with time_machine.travel(NOON, tick=False):
            yield


@pytest.fixture
def users(db):
    return [User.objects.create_user(f"u{n}", f"u{n}@school.example") for n in range(3)]


@pytest.mark.django_db
@pytest.mark.parametrize("rate", [0, 20])
def test_users_are_provisioned_while_the_clock_is_stopped(fake, users, stopped_clock, rate):
    fake.fail("POST", "/users", status=429, headers={"Retry-After": "0.2"})

    result = services.provision_actors(User.objects.all(), rate=rate)

    assert result.provisioned == len(users)


@pytest.mark.django_db
def test_session_ends_while_the_clock_is_stopped(fake, teacher, stopped_clock):
    session = services.open_session(teacher, GenerateExam(), origin="https://school.example")
    fake.complete(session.examplary_id)

    assert services.sweep_sessions().ended == {"completed": 1}


@pytest.mark.parametrize("times", [1, None])
def test_busy_api_is_called_again_while_the_clock_is_stopped(fake, client_of, stopped_clock, times):
    fake.fail("GET", status=429, headers={"Retry-After": "0.2"}, times=times)
    outcome = pytest.raises(ExamplaryRateLimitError) if times is None else nullcontext()

    with outcome:
        client_of(fake).list_source_materials()


def test_wait_for_source_material_ends_while_the_clock_is_stopped(fake, client_of, stopped_clock):
    client = client_of(fake)
    material = client.create_source_material("https://school.example/lines.pdf")
    fake.processing_polls = 1_000_000

    with pytest.raises(ExamplaryTimeoutError):
        client.wait_for_source_material(material.id, timeout=0.3, interval=0.1)


def test_links_are_unique_while_the_clock_is_stopped(stopped_clock):
    assert len({new_ticket() for _ in range(9)}) == 9


@pytest.fixture
def client_of():
    return lambda fake: ExamplaryClient(fake.api_key, base_url=fake.base_url)
