"""Concurrent and killed callers, and a state machine that generates sequences of events."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from datetime import timedelta
from functools import partial

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError, connection
from django.db.models import F
from django.urls import reverse
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryError
from django_examplary.flows import GenerateExam
from django_examplary.launch import Launch, sign_return
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.signals import session_completed
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve
from tests import processes, wire
from tests.threads import call_at_once

pytestmark = pytest.mark.django_db(transaction=True)

State = ExamplaryActor.State
Status = ExamplarySession.Status
ORIGIN = "https://school.example"


# Processes

PREAMBLE = """
import os, signal, sys, time
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["TEST_DATABASE"]
settings.DATABASES["default"].pop("TEST", None)
import django
django.setup()
settings.EXAMPLARY_API_URL = os.environ["FAKE_URL"]
settings.EXAMPLARY_EMBED_ORIGINS = [os.environ["FAKE_URL"]]
settings.EXAMPLARY_MAX_RETRIES = int(os.environ["RETRIES"])
settings.DEBUG = True
from django.contrib.auth import get_user_model
from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryNotReadyError
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import actors
from django_examplary.services.opening import Opening
user = get_user_model().objects.get(username="teacher")

def patiently(call):
    # On a busy machine the call of one may take longer than the others wait.
    while True:
        try:
            return call()
        except ExamplaryNotReadyError:
            time.sleep(0.1)

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def before(owner, name):
    setattr(owner, name, die)

def after(owner, name):
    function = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: (function(*args, **kwargs), die()))
"""


def start(script, fake, retries=0):
    """Run a script in another process, on the database of the test."""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "TEST_DATABASE": str(connection.settings_dict["NAME"]),
        "FAKE_URL": fake.base_url,
        "RETRIES": str(retries),
    }
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """Wait for a process, and return its exit code."""
    processes.finish(process)
    return process.returncode


def test_processes_create_each_user_and_session_once(fake, teacher):
    fake.latency = 0.2
    calls = [
        "services.provision_actor(user)",
        f"services.open_session(user, GenerateExam(), origin={ORIGIN!r})",
    ]
    started = [start(f"patiently(lambda: {call})", fake) for call in calls * 2]
    assert [finish(process) for process in started] == [0] * 4
    assert len(fake.calls("POST", "/users")) == 1
    assert len(fake.sessions) == 1
    assert ExamplaryActor.objects.get().is_active


KILLED = {
    # Where the process is killed, the users at Examplary afterwards, and the state of the row.
    "after the claim": ("before(ExamplaryClient, 'create_user')", 0, State.CLAIMED),
    "after the answer": ("after(ExamplaryClient, 'create_user')", 1, State.CLAIMED),
    "after the store": ("after(actors, 'store_actor')", 1, State.ACTIVE),
}


@pytest.mark.parametrize(
    ("point", "duplicates"),
    [
        # There is no second request, so `duplicates` has no effect.
        ("after the claim", "refuse"),
        ("after the store", "refuse"),
        ("after the answer", "refuse"),
        ("after the answer", "return"),
        ("after the answer", "create"),
    ],
)
def test_killed_while_provisioning(fake, teacher, point, duplicates, lapse):
    crash, created, state = KILLED[point]
    fake.duplicates = duplicates
    process = start(f"{crash}\nservices.provision_actor(user)", fake)
    assert finish(process) == -signal.SIGKILL
    assert len(fake.users) == 1 + created
    assert ExamplaryActor.objects.get().state == state
    lapse()
    outcome = attempt(lambda: services.provision_actor(teacher))
    actor = ExamplaryActor.objects.get()
    if created and state == State.CLAIMED and duplicates == "refuse":
        # An operator looks the id up, and links it.
        assert (outcome, actor.state) == ("ExamplaryInvalidRequestError", State.FAILED)
        services.link_actor(teacher, services.find_remote_actor(teacher))
        actor.refresh_from_db()
    assert actor.is_active
    assert actor.examplary_id in fake.users
    orphans = len(fake.users) - 2
    assert orphans == (created and state == State.CLAIMED and duplicates == "create")


@pytest.mark.parametrize("point", KILLED)
def test_killed_while_provisioning_with_trusted_addresses(fake, teacher, settings, point, lapse):
    """The look-up by address needs no operator."""
    settings.EXAMPLARY_EMAILS_ARE_VERIFIED = True
    crash, _, _ = KILLED[point]
    assert finish(start(f"{crash}\nservices.provision_actor(user)", fake)) == -signal.SIGKILL
    lapse()

    assert services.provision_actor(teacher).examplary_id in fake.users
    assert len(fake.users) == 2


@pytest.mark.parametrize(
    ("crash", "left"),
    [
        ("before(ExamplaryClient, 'create_embed_session')", Status.CREATING),
        ("after(ExamplaryClient, 'create_embed_session')", Status.CREATING),
        ("before(Opening, '_store')", Status.CREATING),
        ("after(Opening, '_store')", Status.PENDING),
    ],
)
def test_killed_while_opening(fake, teacher, crash, left, lapse):
    script = f"{crash}\nservices.open_session(user, GenerateExam(), origin={ORIGIN!r})"
    assert finish(start(script, fake)) == -signal.SIGKILL
    assert ExamplarySession.objects.get().status == left
    lapse()
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    assert session.is_open
    assert ExamplarySession.objects.count() == 1
    assert session.embed_url == fake.sessions[session.examplary_id].embed_url


# Threads


def attempt(call):
    try:
        return call()
    except ExamplaryError as error:
        return type(error).__name__


def at_once(*calls):
    """Run the calls in threads that start together, and return their outcomes."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return attempt(call)

    return call_at_once(*(partial(run, call) for call in calls))


def test_concurrent_message_return_and_sweep_announce_once(fake, client, teacher):
    received = []

    def receiver(session, outputs, **kwargs):
        received.append(outputs.exam_id)

    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    key = Launch(user_id=str(teacher.pk), session_id=str(session.pk)).key
    sync, close = (reverse(f"django_examplary:{name}", args=[key]) for name in ("sync", "close"))
    back = reverse("django_examplary:return", args=[sign_return(str(session.pk))])
    client.force_login(teacher)
    fake.complete(session.examplary_id, {"examId": "exam_1"})
    fake.latency = 0.05
    session_completed.connect(receiver)
    try:
        at_once(
            *[lambda: client.post(sync)] * 3,
            *[lambda: client.post(close)] * 3,
            *[lambda: client.get(back)] * 3,
            *[services.sweep_sessions] * 2,
        )
    finally:
        session_completed.disconnect(receiver)
    assert received == ["exam_1"]
    session.refresh_from_db()
    assert (session.status, session.outputs) == (Status.COMPLETED, {"examId": "exam_1"})


def test_concurrent_revoke_and_verify_end_in_one_status(fake, teacher):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    fake.latency = 0.02
    at_once(
        *[lambda: services.verify_session(ExamplarySession.objects.get())] * 3,
        *[lambda: services.revoke_session(ExamplarySession.objects.get())] * 3,
    )
    session.refresh_from_db()
    assert (session.status, session.embed_url, session.open_key) == (Status.REVOKED, "", None)
    assert fake.sessions[session.examplary_id].revoked


def test_user_deleted_while_many_launch(fake, teacher):
    fake.latency = 0.1
    users = get_user_model().objects

    def launch():
        return services.open_session(teacher, GenerateExam(), origin=ORIGIN).pk

    def delete():
        # A concurrent insert or a deadlock: a race in the delete of Django.
        with contextlib.suppress(IntegrityError, OperationalError):
            users.filter(pk=teacher.pk).delete()

    outcomes = at_once(*[launch] * 6, *[delete] * 3)
    users.filter(pk=teacher.pk).delete()
    assert len(outcomes) == 9
    assert not ExamplaryActor.objects.exists()
    assert not ExamplarySession.objects.open().exists()
    assert attempt(launch) == "ExamplaryNotProvisionedError"


def test_many_users_with_many_tabs_are_created_once(fake, patiently):
    users = [
        get_user_model().objects.create_user(f"u{number}", f"u{number}@school.example")
        for number in range(6)
    ]
    fake.latency = 0.05

    def launch(user):
        return services.open_session(user, GenerateExam(), origin=ORIGIN).embed_url

    outcomes = at_once(*[lambda user=user: patiently(lambda: launch(user)) for user in users * 5])
    assert Counter(Counter(outcomes).values()) == {5: 6}
    assert len(fake.calls("POST", "/users")) == len(fake.calls("POST", "/embed-sessions")) == 6


# Many users, processes and faults

CROWD = """
import json, logging, random, threading, time
from django_examplary.exceptions import ExamplaryNotReadyError
logging.basicConfig(level=logging.DEBUG)
settings.EXAMPLARY_TIMEOUT = settings.EXAMPLARY_DEADLINE = 60.0
users = list(get_user_model().objects.filter(username__startswith="u"))
answers = []

def visit():
    for user in random.sample(users, len(users)):
        started = time.monotonic()
        for _ in range(30):
            try:
                url = services.open_session(user, GenerateExam(), origin="https://x.example").embed_url.value
                break
            except ExamplaryNotReadyError as error:
                # A page tries again by itself.
                url = repr(error)
            except Exception as error:
                url = repr(error)
                break
        answers.append([user.pk, url, time.monotonic() - started])

threads = [threading.Thread(target=visit) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(answers))
"""


def test_crowd(fake, record_property):
    """Three processes of four threads launch for eight users each, while the API answers 429."""
    users = [
        get_user_model().objects.create_user(f"u{number}", f"u{number}@school.example")
        for number in range(8)
    ]
    get_user_model().objects.create_user("teacher")
    fake.latency = 0.02
    fake.fail("POST", times=6, status=429, headers={"Retry-After": "0"})
    crowd = [start(CROWD, fake, retries=2) for _ in range(3)]
    outputs = [process.communicate(timeout=processes.PATIENCE) for process in crowd]
    assert [process.returncode for process in crowd] == [0, 0, 0], outputs
    answers = [answer for output, _ in outputs for answer in json.loads(output)]
    logs = "".join(log for _, log in outputs)
    actors = dict(ExamplaryActor.objects.values_list("user", "examplary_id"))
    sessions = {session.embed_url: session.actor for session in fake.sessions.values()}
    figures = {
        "calls": len(answers),
        "duplicates": len(fake.users) - 1 - len(users) + len(fake.sessions) - len(users),
        "lost ids": len(fake.users.keys() - actors.values() - {fake.owner_id}),
        "wrong answers": sum(sessions.get(url) != actors[user] for user, url, _ in answers),
        "leaked secrets": sum(
            secret in logs for secret in (DEFAULT_API_KEY, *sessions, *fake.sessions)
        ),
        "hung workers": sum(seconds > 60 for *_, seconds in answers),
    }
    counts = ", ".join(f"{name} {count}" for name, count in figures.items())
    record_property(f"A crowd on {connection.vendor}", counts)
    assert figures == {"calls": 96, **dict.fromkeys(list(figures)[1:], 0)}


# Any order of events

FAULTS = [
    {"status": 400},
    {"status": 403},
    {"status": 429},
    {"status": 500},
    {"status": 500, "before": False},
    {"transport": "close"},
    {"transport": "reset", "before": False},
    {"transport": wire.TRUNCATE},
    {**wire.GARBAGE, "before": False},
]


class Provisioning(RuleBasedStateMachine):
    """Two users who come and go, while the API fails in every way."""

    @initialize(duplicates=st.sampled_from(["refuse", "return", "create"]), shared=st.booleans())
    def begin(self, duplicates, shared):
        self.server = serve(FakeExamplary(duplicates=duplicates))
        running = self.server.__enter__()
        self.fake = running.fake
        self.overrides = {
            "EXAMPLARY_API_URL": running.url,
            "EXAMPLARY_EMBED_ORIGINS": [running.url],
            "EXAMPLARY_MAX_RETRIES": 0,
            "DEBUG": True,
        }
        for name, value in self.overrides.items():
            setattr(django_settings, name, value)
        for client in (services.get_client(), bulk_client()):
            # Disable the pause after an outage, which other tests cover.
            client._connections.cooldown.FAILURES = 10**9
        #: The number of users that may be created: two, and one for each lost or unknown
        #: outcome.
        self.allowed = 2
        users = get_user_model().objects
        self.users = [
            users.create_user("a", "a@school.example"),
            users.create_user("b", "a@school.example" if shared else "b@school.example"),
        ]

    @rule(who=st.integers(0, 1))
    def provision(self, who):
        attempt(lambda: services.provision_actor(self.users[who]))

    @rule(who=st.integers(0, 1))
    def launch(self, who):
        attempt(lambda: services.open_session(self.users[who], GenerateExam(), origin=ORIGIN))

    @rule()
    def provision_all(self):
        attempt(
            lambda: services.provision_actors(
                get_user_model().objects.all(), concurrency=2, rate=0, client=bulk_client()
            )
        )

    @rule(
        who=st.integers(0, 1),
        fault=st.sampled_from(FAULTS),
        path=st.sampled_from(["/users", "/embed-sessions"]),
    )
    def launch_with_a_fault(self, who, fault, path):
        self.fake.fail("POST", path, **fault)
        self.launch(who)
        self.fake.heal()
        self.allowed += 1

    @rule(
        who=st.integers(0, 1),
        name=st.sampled_from(["create_user", "create_embed_session"]),
    )
    def crash_after_the_response(self, who, name):
        """The claim stays without a holder until it expires."""

        def crash(self, **options):
            function(self, **options)
            raise KeyboardInterrupt

        function = getattr(ExamplaryClient, name)
        setattr(ExamplaryClient, name, crash)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                self.launch(who)
        finally:
            setattr(ExamplaryClient, name, function)
        self.allowed += 1

    @rule()
    def end_all_claims(self):
        type(self).lapse()

    @rule(hours=st.sampled_from([-1, 1]))
    def change_the_clock(self, hours):
        """Move the stored times, as if the clock of this machine had changed."""
        moved = F("asked_at") - timedelta(hours=hours)
        ExamplarySession.objects.exclude(asked_at=None).update(asked_at=moved)

    @rule(who=st.integers(0, 1))
    def revoke(self, who):
        rows = ExamplarySession.objects.open().filter(actor__user=self.users[who])
        attempt(lambda: [services.revoke_session(session) for session in rows])

    @rule(who=st.integers(0, 1))
    def deactivate_and_return(self, who):
        for is_active in (False, True):
            self.users[who].is_active = is_active
            self.users[who].save()

    @rule()
    def complete_and_sweep(self):
        for session in self.fake.sessions.values():
            attempt_to_complete(self.fake, session)
        attempt(services.sweep_sessions)

    @rule(who=st.integers(0, 1))
    def delete_user_at_examplary(self, who):
        actor = ExamplaryActor.objects.filter(user=self.users[who]).first()
        if actor is not None and actor.examplary_id:
            self.fake.users.pop(actor.examplary_id, None)
            self.allowed += 1

    @rule(who=st.integers(0, 1))
    def erase(self, who):
        attempt(lambda: services.erase_user(self.users[who]))
        self.allowed += 1

    @invariant()
    @precondition(lambda self: hasattr(self, "fake"))
    def no_two_users_share_an_actor(self):
        ids = list(ExamplaryActor.objects.exclude(examplary_id=None).values_list("examplary_id"))
        assert len(set(ids)) == len(ids)

    @invariant()
    @precondition(lambda self: hasattr(self, "fake"))
    def active_actors_have_an_id(self):
        for actor in ExamplaryActor.objects.all():
            # An actor that is renewed keeps its id until there is a new one.
            assert actor.examplary_id is not None or not actor.is_active

    @invariant()
    @precondition(lambda self: hasattr(self, "fake"))
    def open_sessions_are_usable(self):
        for session in ExamplarySession.objects.all():
            assert session.is_open == bool(session.embed_url)
            assert session.is_open or session.open_key is None or session.status == Status.CREATING

    @invariant()
    @precondition(lambda self: hasattr(self, "fake"))
    def no_user_is_created_twice(self):
        if self.fake.duplicates == "create":
            assert len(self.fake.users) - 1 <= self.allowed

    @invariant()
    @precondition(lambda self: hasattr(self, "fake"))
    def ended_sessions_are_revoked(self):
        """Ended sessions are revoked at Examplary, or have a pending revocation."""
        for session in ExamplarySession.objects.exclude(status__in=[Status.PENDING]):
            remote = self.fake.sessions.get(session.examplary_id)
            open_there = remote is not None and self.fake.is_open(remote)
            assert session.revoke_pending or not open_there

    def teardown(self):
        self.server.__exit__(None, None, None)
        get_user_model().objects.all().delete()
        ExamplarySession.objects.all().delete()


def bulk_client():
    return services.get_client(max_retries=0, pool_size=2)


def attempt_to_complete(fake, session):
    if session.status == "pending" and fake.is_open(session):
        fake.complete(session.id)


def test_any_order_of_events(settings, monkeypatch, lapse):
    # There is no other caller, so waiting is useless.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(Provisioning, "lapse", lapse, raising=False)
    for name in ("API_URL", "EMBED_ORIGINS", "MAX_RETRIES"):
        # Restored after the test.
        setattr(settings, f"EXAMPLARY_{name}", getattr(settings, f"EXAMPLARY_{name}", None))
    settings.DEBUG = settings.DEBUG
    run_state_machine_as_test(
        Provisioning,
        settings=hypothesis_settings,
    )


hypothesis_settings = settings(
    max_examples=30,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
