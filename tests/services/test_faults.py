"""The fault matrix: each fault on the wire, in each of the four journeys.

The fake causes the faults over real sockets. A table has the expected number of requests and the
expected state of the rows. After the fault, every journey must still succeed. Faults before a
request is sent are in `test_transport`. Faults of databases and processes are in
`test_concurrency`.
"""

from __future__ import annotations

import gc
import logging
import time
from pathlib import Path

import pytest

from django_examplary import services
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryError
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.testing import DEFAULT_API_KEY
from tests import wire
from tests.processes import wait_for

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("quick_collection")]

State = ExamplaryActor.State
Status = ExamplarySession.Status


def provision(user):
    services.provision_actor(user)


def launch(user):
    services.open_session(user, GenerateExam(), origin="https://school.example")


def verify(user):
    services.verify_session(ExamplarySession.objects.get())


def revoke(user):
    # Does not raise: a sweep repeats the request.
    services.revoke_session(ExamplarySession.objects.get())


#: By journey: the request that fails.
JOURNEYS = {
    provision: ("POST", "/users"),
    launch: ("POST", "/embed-sessions"),
    verify: ("GET", "/embed-sessions/{id}"),
    revoke: ("DELETE", "/embed-sessions/{id}"),
}

#: The effects of faults: the state of the actor after `provision`, and the number of requests of
#: each journey.
UNANSWERED = (State.UNCERTAIN, {provision: 1, launch: 2, verify: 3, revoke: 3})
UNREADABLE = (State.UNCERTAIN, {provision: 1, launch: 2, verify: 3, revoke: 1})
UNUSABLE = (State.UNCERTAIN, {provision: 1, launch: 1, verify: 1, revoke: 1})
TOO_LARGE = (State.UNCERTAIN, {provision: 1, launch: 1, verify: 1, revoke: 1})
SHORT_PAUSE = (State.PENDING, {provision: 3, launch: 3, verify: 3, revoke: 3})
LONG_PAUSE = (State.PENDING, {provision: 1, launch: 1, verify: 1, revoke: 1})
KEY_REFUSED = LONG_PAUSE
WRONG_URL = LONG_PAUSE
REFUSED = (State.FAILED, {provision: 1, launch: 1, verify: 1, revoke: 1})
# A launch is retried without its locale.
INVALID = (State.FAILED, {provision: 1, launch: 2, verify: 1, revoke: 1})

FAULTS = {
    # The connection
    "no answer, connection closed": ({"transport": "close"}, UNANSWERED),
    "no answer, connection reset": ({"transport": "reset"}, UNANSWERED),
    "reset after it was processed": ({"transport": "reset", "before": False}, UNANSWERED),
    "shorter than its length": ({"transport": wire.TRUNCATE}, UNANSWERED),
    "broken chunk": ({"transport": wire.BAD_CHUNK}, UNANSWERED),
    "endless": ({"transport": wire.ENDLESS}, TOO_LARGE),
    "100 MiB": ({"transport": wire.HUGE_BODY}, TOO_LARGE),
    "compressed": ({"transport": wire.GZIP}, TOO_LARGE),
    "a thousand headers": ({"transport": wire.MANY_HEADERS}, UNANSWERED),
    "102 first": ({"transport": wire.INTERIM_102}, UNANSWERED),
    "103 first": ({"transport": wire.INTERIM_103}, UNANSWERED),
    # Time
    "no answer at all": ({"transport": wire.HANG}, UNANSWERED),
    "headers byte by byte": ({"transport": wire.drip_headers()}, UNANSWERED),
    "body byte by byte": ({"transport": wire.drip_body()}, UNANSWERED),
    # The body of the response
    "half of it, without a length": ({"transport": wire.NO_LENGTH}, UNREADABLE),
    "HTML": (wire.GARBAGE, UNREADABLE),
    "empty": ({"body": b""}, UNUSABLE),
    "a list": ({"body": []}, UNUSABLE),
    "null": ({"body": b"null", "headers": {"Content-Type": "application/json"}}, UNUSABLE),
    "without an id": ({"body": {"status": "pending"}}, UNUSABLE),
    "an id of another kind": ({"body": {"id": "group_1"}}, UNUSABLE),
    "an id of 10 kB": ({"body": {"id": "user_" + "x" * 10_000}}, UNUSABLE),
    "an id with a path": ({"body": {"id": "user_../me"}}, UNUSABLE),
    # Status
    "408": ({"status": 408}, UNANSWERED),
    "500": ({"status": 500}, UNANSWERED),
    "500 after it was processed": ({"status": 500, "before": False}, UNANSWERED),
    "502": ({"status": 502}, UNANSWERED),
    "503": ({"status": 503}, UNANSWERED),
    "504": ({"status": 504}, UNANSWERED),
    "503, come later": ({"status": 503, "headers": {"Retry-After": "0"}}, SHORT_PAUSE),
    "429": ({"status": 429}, SHORT_PAUSE),
    "429, come later": ({"status": 429, "headers": {"Retry-After": "0"}}, SHORT_PAUSE),
    "429, come tomorrow": ({"status": 429, "headers": {"Retry-After": "86400"}}, LONG_PAUSE),
    "401": ({"status": 401}, KEY_REFUSED),
    "403": ({"status": 403}, KEY_REFUSED),
    "400": ({"status": 400}, INVALID),
    "409": ({"status": 409}, REFUSED),
    "422": ({"status": 422}, INVALID),
    "301 to itself": ({"status": 301, "headers": {"Location": "/me"}}, WRONG_URL),
    "307 elsewhere": ({"status": 307, "headers": {"Location": "http://127.0.0.1:9/"}}, WRONG_URL),
    "423": ({"status": 423}, LONG_PAUSE),
    "400 that quotes everything": (
        {"status": 400, "body": f"\x1b[31m{DEFAULT_API_KEY} teacher@school.example\r\n" * 9999},
        INVALID,
    ),
}
SLOW = {"no answer at all", "headers byte by byte", "body byte by byte"}
#: Any 2xx confirms the deletion of a session, and its response has no body that could be damaged.
DELETED = {
    "compressed",
    "shorter than its length",
    "body byte by byte",
    *(
        name
        for name, (_, meaning) in FAULTS.items()
        if meaning is UNREADABLE or meaning is UNUSABLE
    ),
}


#: Another DELETE would get the same response.
REFUSED_FINALLY = {"400", "400 that quotes everything", "403", "409", "422"}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """Shorten the pauses between attempts."""
    monkeypatch.setattr("random.uniform", lambda low, high: 0.01)


def open_files():
    # Only Linux has this folder.
    return len(list(Path("/proc/self/fd").glob("*")))


@pytest.mark.parametrize("journey", JOURNEYS, ids=lambda journey: journey.__name__)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault(fake, teacher, settings, caplog, lapse, journey, fault):
    ordered, (state, attempts) = FAULTS[fault]
    settings.EXAMPLARY_DEADLINE = 10.0
    # A second request with the same e-mail address gets the same user.
    fake.duplicates = "return"
    if journey is not provision:
        provision(teacher)
    if journey in (verify, revoke):
        launch(teacher)
    services.get_client().close()
    if fault in SLOW:
        settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 0.4, 2.0
    gc.collect()
    before = wait_until_stable(open_files)
    fake.requests.clear()
    fake.fail(*JOURNEYS[journey], times=None, **ordered)

    error, started = None, time.monotonic()
    with caplog.at_level(logging.DEBUG):
        try:
            journey(teacher)
        except (ExamplaryError, ExamplaryConfigurationError) as caught:
            error = caught

    assert time.monotonic() - started < settings.EXAMPLARY_DEADLINE + 20
    sent = len(fake.calls(*JOURNEYS[journey]))
    if fault in SLOW or (journey is revoke and fault in DELETED):
        assert 1 <= sent <= attempts[journey]
    else:
        assert sent == attempts[journey]
    actor = ExamplaryActor.objects.get()
    session = ExamplarySession.objects.first()
    if journey is provision:
        assert (actor.state, actor.examplary_id, session) == (state, None, None)
        assert actor.last_error.startswith(str(error)[:180].rstrip("."))
    elif journey is launch:
        assert error is not None
        assert actor.is_active
        # The next launch repeats a request that was not answered.
        assert (session is not None) == (FAULTS[fault][1] is UNANSWERED)
    elif journey is verify:
        assert error is not None
        assert session.is_open
    else:
        over = fault in DELETED or fault in REFUSED_FINALLY
        assert (session.status, session.revoke_pending) == (Status.REVOKED, not over)
    output = f"{caplog.text}{error!r}{error}{actor.last_error}"
    for secret in (DEFAULT_API_KEY, "teacher@school.example", *fake.sessions):
        assert secret not in output
    services.get_client().close()
    wait_for(lambda: open_files() <= before)

    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_DEADLINE = 10.0, 15.0
    finish_journey(fake, teacher, journey, lapse)


def wait_until_stable(count):
    """Return the count when it no longer changes, because the fake finishes a little later."""
    last = None
    while (now := count()) != last:
        last = now
        time.sleep(0.01)
    return now


def finish_journey(fake, teacher, journey, lapse):
    """End the fault and the claims, and verify that the journey succeeds."""
    fake.heal()
    lapse()
    if journey in (provision, launch):
        launch(teacher)
    session = ExamplarySession.objects.get()
    if journey is revoke:
        services.sweep_sessions()
        session.refresh_from_db()
        assert (session.status, session.revoke_pending) == (Status.REVOKED, False)
    else:
        fake.complete(session.examplary_id)
        assert services.verify_session(session).status == Status.COMPLETED
    assert list(ExamplaryActor.objects.values_list("examplary_id", flat=True)) == [
        examplary_id for examplary_id in fake.users if examplary_id != fake.owner_id
    ]
