from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import ExamplaryInvalidRequestError, ExamplaryNotFoundError
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services.connections import commit, non_atomic

pytestmark = pytest.mark.django_db

ORIGIN = "https://school.example"


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_commit_is_repeated_when_the_database_gives_up(failures):
    left = [OperationalError("deadlock")] * failures

    def work():
        user = User.objects.create_user("ann")
        if left:
            raise left.pop()
        return user

    assert commit(work) == User.objects.get()


def test_commit_gives_up_too():
    def work():
        raise OperationalError("disk full")

    with pytest.raises(OperationalError, match="disk full"):
        commit(work)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_commit_gets_a_new_connection_where_the_old_one_is_lost(error, monkeypatch):
    lost = [True]
    connection.ensure_connection()
    monkeypatch.setattr(connection, "is_usable", lambda: not lost)
    monkeypatch.setattr(connection, "close", lost.clear)

    def work():
        if lost:
            raise error("the connection is closed")
        return User.objects.create_user("ann")

    assert commit(work) == User.objects.get()


@pytest.mark.django_db(transaction=True)
def test_commit_keeps_a_connection_that_is_all_right(monkeypatch):
    """A deadlock is no reason to lose what the caller has on it, such as a cursor."""
    monkeypatch.setattr(connection, "close", None)
    failures = [OperationalError("deadlock")]

    def work():
        if failures:
            raise failures.pop()
        return User.objects.create_user("ann")

    assert commit(work) == User.objects.get()


def lose_the_connection():  # pragma: no cover  # for servers only
    """As a server does that fails over, or that has waited for too long."""
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()
    other = connection.copy()
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)" if postgresql else "KILL %s", [number])
    other.close()


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no connection to lose")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("refused", [False, True])
def test_connection_that_is_lost_while_examplary_is_asked_loses_nothing(
    fake, teacher, monkeypatch, refused
):  # pragma: no cover  # for servers only
    request = ExamplaryClient.request

    def request_and_lose_the_connection(self, *args, **options):
        lose_the_connection()
        return request(self, *args, **options)

    monkeypatch.setattr(ExamplaryClient, "request", request_and_lose_the_connection)
    if refused:
        fake.fail("POST", "/users", status=400)
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().last_error
        fake.fail("POST", "/embed-sessions", status=400)
        with pytest.raises(ExamplaryInvalidRequestError):
            services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        assert not ExamplarySession.objects.exists()
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    fake.complete(session.examplary_id)
    if refused:
        fake.fail("GET", status=403)
        assert services.sweep_sessions().failed == 1
        fake.fail("GET", status=404)
        with pytest.raises(ExamplaryNotFoundError):
            services.verify_session(session)
    sweep = services.sweep_sessions()
    assert (sweep.ended, sweep.failed) == ({"completed": 1}, 0)
    assert not ExamplarySession.objects.get().revoke_pending


# Transactions

CALLS = {
    "provision_actor": lambda user: services.provision_actor(user),
    "link_actor": lambda user: services.link_actor(user, "user_1"),
    "open_session": lambda user: services.open_session(user, GenerateExam(), origin=ORIGIN),
    "grant_access": lambda user: services.grant_access(user, "exam_1", "viewer"),
    "sweep_sessions": lambda user: services.sweep_sessions(),
    "erase_user": services.erase_user,
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", CALLS)
def test_services_refuse_a_transaction(fake, teacher, name):
    with transaction.atomic(), pytest.raises(TransactionManagementError, match=name):
        CALLS[name](teacher)
    assert fake.requests == []


@pytest.mark.django_db(transaction=True)
def test_services_refuse_a_connection_that_does_not_commit(fake, teacher):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match="provision_actor"):
            services.provision_actor(teacher)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert fake.requests == []


def test_view_is_kept_out_of_the_transactions_of_every_database():
    view = non_atomic(lambda request: None)
    assert view._non_atomic_requests == set(connections)


# A replica that is behind


class ReadsElsewhere:
    """As a project routes its reads to a replica; here it is one that never catches up."""

    def db_for_read(self, model, **hints):
        return "replica" if model in (ExamplaryActor, ExamplarySession) else None


@pytest.mark.django_db(transaction=True)
def test_services_read_what_was_written(fake, teacher, settings, monkeypatch):
    monkeypatch.setitem(connections.settings, "replica", connection.settings_dict)
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]

    replica = connections["replica"]
    # Whoever reads from it fails.
    monkeypatch.setattr(replica, "cursor", None)
    try:
        session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        fake.complete(session.examplary_id)
        session = services.verify_session(session)
        services.sweep_sessions()
        services.provision_actors(User.objects.all())
        services.revoke_sessions(ExamplaryActor.objects.using("default").get())
        services.erase_user(teacher)
    finally:
        replica.close()
        del connections["replica"]
    assert (session.status, session.get_outputs().exam_id[:5]) == ("completed", "exam_")


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_in_the_middle_of_a_call_does_not_block_the_child(fake):
    script = """
import os, signal, sys
import django
django.setup()
from django_examplary import services
client = services.get_client()
with client._lock, client._cooldown._lock:
    pid = os.fork()
    if not pid:
        signal.alarm(10)
        services.get_client().get_me()
        os._exit(0)
sys.exit(os.waitpid(pid, 0)[1] != 0)
"""
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "EXAMPLARY_API_URL": fake.base_url,
    }
    ended = subprocess.run([sys.executable, "-c", script], env=environment, check=False)
    assert ended.returncode == 0
    assert len(fake.requests) == 1


def test_start_up_loads_no_client():
    """Nor does the admin, which is there in every process."""
    script = (
        "import sys, django; django.setup();"
        "assert 'django_examplary.admin' in sys.modules;"
        "sys.exit('django_examplary.client' in sys.modules)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
