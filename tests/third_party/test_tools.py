"""Test tools of projects, with and without the fake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import freezegun
import pytest
import pytest_socket
import requests_mock
import responses
import time_machine
import vcr
from django.contrib.auth.models import User

from django_examplary import services
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplarySession
from django_examplary.testing import FakeExamplary, fake_examplary, refuse_examplary
from django_examplary.testing.helpers import RealExamplaryError

pytestmark = pytest.mark.django_db

API = "https://api.examplary.ai"
SESSION = {
    "id": "embed_session_1",
    "status": "pending",
    "embedUrl": "https://app.examplary.ai/embed/1",
}


@pytest.fixture
def user() -> User:
    return User.objects.create_user("tea", "tea@school.example")


@pytest.fixture
def real(settings: Any) -> None:
    """Settings as in production, with the guard against real calls."""
    settings.EXAMPLARY_API_KEY = "examp_0123456789abcdefghijklmnopqrstuv"


def open_session(user: User) -> ExamplarySession:
    return services.open_session(user, GenerateExam(), origin="https://school.example")


def finish(fake: FakeExamplary, user: User) -> str:
    session = open_session(user)
    fake.complete(session.examplary_id)
    return services.verify_session(session).status


@pytest.mark.parametrize(
    "stop",
    [freezegun.freeze_time, lambda moment: time_machine.travel(moment, tick=False)],
    ids=["freezegun", "time-machine"],
)
def test_stopped_clock_blocks_nothing(user: User, stop: Any) -> None:
    with fake_examplary() as fake, stop("2027-01-01 08:00"):
        assert finish(fake, user) == "completed"


@pytest.mark.usefixtures("real")
def test_responses_library_mocks_the_calls(user: User) -> None:
    with refuse_examplary(), responses.RequestsMock() as mock:
        mock.post(f"{API}/users", json={"id": "user_1"}, status=201)
        mock.post(f"{API}/embed-sessions", json=SESSION, status=201)

        assert open_session(user).is_usable()


@pytest.mark.usefixtures("real")
def test_ineffective_mock_does_not_reach_the_real_api(user: User) -> None:
    with refuse_examplary(), requests_mock.Mocker() as mock:
        mock.post(f"{API}/users", json={"id": "user_1"}, status_code=201)

        with pytest.raises(RealExamplaryError):
            open_session(user)
    assert mock.call_count == 0


def test_vcr_records_nothing(user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Makes the first call import this module again, during the recording.
    monkeypatch.delitem(sys.modules, "django_examplary.client.transport", raising=False)
    cassette = tmp_path / "cassette.yaml"
    with fake_examplary() as fake, vcr.use_cassette(str(cassette)):
        assert finish(fake, user) == "completed"

    assert not cassette.exists()


def test_fake_is_an_allowed_host(user: User) -> None:
    with fake_examplary() as fake:
        pytest_socket.socket_allow_hosts(["127.0.0.1"])
        try:
            assert finish(fake, user) == "completed"
        finally:
            pytest_socket._remove_restrictions()
