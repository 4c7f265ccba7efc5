from __future__ import annotations

import pytest

from django_examplary import services
from django_examplary.exceptions import ExamplaryPermissionError
from django_examplary.signals import api_call_finished


@pytest.fixture
def measured():
    """Return the arguments that a receiver of `api_call_finished` gets."""
    calls = []

    def receiver(signal, sender, **call):
        calls.append(call)

    api_call_finished.connect(receiver)
    yield calls
    api_call_finished.disconnect(receiver)


def test_call_is_measured(fake, measured):
    services.get_client().get_me()

    [call] = measured
    assert 0 < call.pop("seconds") < 5
    assert abs(call.pop("clock_difference")) < 60
    assert call == {"operation": "GET /me", "outcome": "ok", "status": 200, "attempts": 1}


def test_attempts_are_one_call(fake, measured):
    fake.fail("GET", "/me", status=503, headers={"Retry-After": "0"})
    fake.fail("GET", "/me", status=403)

    with pytest.raises(ExamplaryPermissionError):
        services.get_client().get_me()

    [call] = measured
    assert (call["outcome"], call["status"], call["attempts"]) == (
        "ExamplaryPermissionError",
        403,
        2,
    )


def test_receiver_that_raises_does_not_fail_the_call(fake):
    def receiver(**call):
        raise ZeroDivisionError

    api_call_finished.connect(receiver)
    try:
        assert services.get_client().get_me().id == "user_owner"
    finally:
        api_call_finished.disconnect(receiver)
