from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import User
from django.db import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    connection,
    connections,
    transaction,
)
from django.db.transaction import TransactionManagementError

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import (
    ExamplaryInvalidRequestError,
    ExamplaryPermissionError,
    ExamplarySessionEndedError,
)
from django_examplary.flows import GenerateExam
from django_examplary.models import DatabaseNow, ExamplaryActor, ExamplarySession
from django_examplary.services.database import (
    commit,
    database_error,
    non_atomic,
    release_connections,
)
from django_examplary.services.limits import embed_with_connection
from tests.threads import call_at_once

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


@pytest.mark.django_db(transaction=True)
def test_every_write_is_repeated_when_the_database_gives_up(fake, teacher, student, settings):
    settings.EXAMPLARY_RETENTION = 0
    failed = set()

    def fail_once(execute, sql, params, many, context):
        if sql.startswith(("INSERT", "UPDATE", "DELETE")) and sql not in failed:
            failed.add(sql)
            raise OperationalError("deadlock detected")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail_once):
        services.provision_actors(User.objects.filter(pk=teacher.pk), rate=0)
        subjects = "Art", "Biology", "Chemistry", "Dance", "Economics"
        art, biology, chemistry, *others = (
            services.open_session(student, GenerateExam(subject=subject), origin=ORIGIN)
            for subject in subjects
        )
        for ended in (art, biology):
            fake.complete(ended.examplary_id)
        services.verify_session(art)
        services.close_session(chemistry)
        services.revoke_session(others[0])
        swept = services.sweep_sessions()
        services.open_session(student, GenerateExam(subject="French"), origin=ORIGIN)
        erasure = services.erase_user(student)

    assert (swept.failed, swept.pruned) == (0, 3)
    assert (erasure.sessions, erasure.still_to_revoke) == (3, 0)
    assert {sql.split()[0] for sql in failed} == {"INSERT", "UPDATE", "DELETE"}
    assert ExamplaryActor.objects.get().user == teacher


def test_commit_gives_up_too():
    def work():
        raise OperationalError("disk full")

    with pytest.raises(OperationalError, match="disk full"):
        commit(work)


def test_commit_does_not_repeat_a_long_wait_for_a_lock():
    tries = []

    def work():
        tries.append(None)
        raise OperationalError("lock wait timeout exceeded")

    with pytest.raises(OperationalError, match="lock wait timeout"):
        commit(work, patience=0)
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
def test_commit_does_not_repeat_a_transaction_of_its_caller(monkeypatch):
    """MariaDB ends a deadlock by rolling back the whole transaction, with its savepoints."""
    tries = []

    def fail():
        tries.append(None)
        raise OperationalError("Deadlock found")

    def lose(savepoint):
        raise OperationalError("SAVEPOINT does not exist")

    monkeypatch.setattr(connection, "savepoint_rollback", lose)
    with pytest.raises(OperationalError, match="Deadlock found"), transaction.atomic():
        commit(fail)
    assert len(tries) == 1


def test_commit_does_not_repeat_a_constraint_violation():
    tries = []

    def work():
        tries.append(None)
        raise IntegrityError("UNIQUE constraint failed: auth_user.username")

    with pytest.raises(IntegrityError):
        commit(work)
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_commit_replaces_a_lost_connection(error, monkeypatch):
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
def test_commit_keeps_a_usable_connection(monkeypatch):
    """A deadlock does not close the connection, on which the caller may have a cursor."""
    monkeypatch.setattr(connection, "close", None)
    failures = [OperationalError("deadlock")]

    def work():
        if failures:
            raise failures.pop()
        return User.objects.create_user("ann")

    assert commit(work) == User.objects.get()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("vendor", "expected"),
    [("postgresql", ["bound inside"]), ("mysql", ["bound inside", "restored outside"])],
)
def test_commit_bounds_waits_for_locks_and_restores_the_connection(monkeypatch, vendor, expected):
    """Further tests show the effect with the databases themselves."""
    statements = []

    def record(execute, sql, params, many, context):
        if "lock_" not in sql:
            return execute(sql, params, many, context)
        kind = "restored" if sql.endswith("@examplary_wait") else "bound"
        statements.append(f"{kind} {'inside' if connection.in_atomic_block else 'outside'}")
        return None

    def work():
        assert statements == expected[:1]
        return User.objects.create_user("ann")

    monkeypatch.setattr(connection, "vendor", vendor)
    with connection.execute_wrapper(record):
        commit(work)
        with transaction.atomic():
            # The timeout would apply to the rest of the transaction of the caller.
            commit(lambda: User.objects.create_user("bob"))
    assert statements == expected


#: By vendor: the lock timeout setting, its values for two seconds and for very long, the query that
#: reads it, and the statement that sets the timeout of idle transactions.
LOCK_WAITS = {
    "postgresql": (
        *("lock_timeout", "'2s'", "0", "SHOW lock_timeout"),
        "SET idle_in_transaction_session_timeout = '60s'",
    ),
    "mysql": (
        *("innodb_lock_wait_timeout", "2", "1000", "SELECT @@innodb_lock_wait_timeout"),
        "SET idle_transaction_timeout = 60",
    ),
}


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bounded", [False, True])
def test_wait_for_a_lock_is_bounded(teacher, bounded):  # pragma: no cover  # for servers only
    name, short, long, read, end_idle = LOCK_WAITS[connection.vendor]

    def execute(sql):
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone() if sql == read else None

    execute(f"SET {name} = {short if bounded else long}")
    before = execute(read)
    other = connection.copy()
    other.set_autocommit(False)
    try:
        with other.cursor() as cursor:
            # Without a timeout this would never end, because this thread uses both connections.
            cursor.execute(end_idle)
            cursor.execute("UPDATE auth_user SET first_name = 'x' WHERE id = %s", [teacher.pk])
        started = time.monotonic()
        with pytest.raises(OperationalError):
            commit(lambda: User.objects.update(first_name="y"))
        waited = time.monotonic() - started
    finally:
        other.close()
    # The wait of two seconds is repeated once.
    assert (1.9 if bounded else 4.9) < waited < 60
    assert execute(read) == before
    execute(f"SET {name} = DEFAULT")


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one lock")
@pytest.mark.django_db(transaction=True)
def test_deadlock_is_repeated(teacher, student):  # pragma: no cover  # for servers only
    both = threading.Barrier(2)
    one_is_done = threading.Event()

    def lock(first, second):
        tries = []

        def work():
            tries.append(None)
            if len(tries) > 1:
                # PostgreSQL may give it the lock again before it wakes the other transaction.
                assert one_is_done.wait(60)
            User.objects.filter(pk=first.pk).update(first_name="x")
            if len(tries) == 1:
                both.wait(60)
            User.objects.filter(pk=second.pk).update(first_name="x")

        commit(work, patience=120)  # The wait at the barrier counts too.
        one_is_done.set()
        return len(tries)

    outcomes = call_at_once(lambda: lock(teacher, student), lambda: lock(student, teacher))
    assert sorted(outcomes) == [1, 2]


def lose_the_connection():  # pragma: no cover  # for servers only
    """Close the connection, as a server does after a failover or a timeout."""
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
def test_connection_lost_during_a_call_loses_nothing(
    fake, teacher, monkeypatch, refused
):  # pragma: no cover  # for servers only
    run = ExamplaryClient._run

    def lose_the_connection_and_run(self, call):
        if threading.current_thread() is threading.main_thread():
            lose_the_connection()
        return run(self, call)

    monkeypatch.setattr(ExamplaryClient, "_run", lose_the_connection_and_run)
    if refused:
        fake.fail("POST", "/users", status=400)
        with pytest.raises(ExamplaryInvalidRequestError):
            services.provision_actor(teacher)
        assert ExamplaryActor.objects.get().last_error
        fake.fail("POST", "/embed-sessions", status=403)
        with pytest.raises(ExamplaryPermissionError):
            services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        assert not ExamplarySession.objects.exists()
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    fake.complete(session.examplary_id)
    if refused:
        fake.fail("GET", status=403)
        assert services.sweep_sessions().missing == 1
        fake.fail("GET", status=404)
        with pytest.raises(ExamplarySessionEndedError):
            services.verify_session(session)
    sweep = services.sweep_sessions()
    assert (sweep.ended, sweep.failed) == ({"completed": 1}, 0)
    assert not ExamplarySession.objects.get().revoke_pending


# Transactions

CALLS = {
    "provision_actor": lambda user: services.provision_actor(user),
    "link_actor": lambda user: services.link_actor(user, "user_1"),
    "find_remote_actor": services.find_remote_actor,
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
def test_services_refuse_a_connection_without_autocommit(fake, teacher):
    transaction.set_autocommit(False)
    try:
        with pytest.raises(TransactionManagementError, match="provision_actor"):
            services.provision_actor(teacher)
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert fake.requests == []


def test_non_atomic_exempts_a_view_for_every_database():
    view = non_atomic(lambda request: None)
    assert view._non_atomic_requests == set(connections)


@pytest.mark.django_db(transaction=True)
def test_release_closes_only_idle_connections(monkeypatch):
    connection.ensure_connection()
    with transaction.atomic():
        release_connections()
        assert connection.connection is not None

    transaction.set_autocommit(False)
    release_connections()
    assert connection.connection is not None
    transaction.set_autocommit(True)

    release_connections()
    assert connection.connection is None

    # A closed connection stays closed.
    monkeypatch.setattr(connection, "connect", pytest.fail)
    release_connections()


@pytest.mark.django_db(transaction=True)
def test_launch_releases_connections_that_django_would_close(teacher):
    with embed_with_connection():
        connection.ensure_connection()
    assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_error_names_the_constraint_and_no_values(teacher):
    failure = None
    try:
        User.objects.create_user("teacher", "secret@school.example")
    except IntegrityError as error:
        failure = database_error("The user", error)

    text = str(failure)
    assert text.startswith("The user could not be stored: IntegrityError (")
    assert "username" in text
    assert "secret@" not in text


def test_error_of_postgresql_names_the_constraint():
    class DriverError(Exception):
        diag = SimpleNamespace(constraint_name="policy_of_the_project")

    error = IntegrityError("Failing row contains (secret)")
    error.__cause__ = DriverError()

    text = str(database_error("The user", error))
    assert text == "The user could not be stored: IntegrityError (policy_of_the_project)."


def test_error_without_a_constraint_names_its_type():
    text = str(database_error("The user", OperationalError("disk full of secrets")))

    assert text == "The user could not be stored: OperationalError."


# Replicas


class ReadsElsewhere:
    """Route reads to a replica that never gets any rows."""

    def db_for_read(self, model, **hints):
        return "replica" if model in (ExamplaryActor, ExamplarySession) else None


@pytest.mark.django_db(transaction=True)
def test_services_read_their_own_writes(fake, teacher, settings, monkeypatch):
    monkeypatch.setitem(connections.settings, "replica", connection.settings_dict)
    settings.DATABASE_ROUTERS = [ReadsElsewhere()]

    replica = connections["replica"]
    # A read from it fails.
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


def test_actor_and_user_may_be_read_from_different_databases(teacher):
    """Also without a router that decides about their relation."""
    actor = ExamplaryActor()
    actor._state.db = "elsewhere"
    actor.set_user(teacher)
    assert (actor.user, actor.user_id) == (teacher, teacher.pk)


# Forks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_fork_during_a_call_does_not_block_the_child(fake):
    script = """
import os, signal, sys
import django
django.setup()
from contextlib import ExitStack
from django.conf import settings
from django_examplary import services
from django_examplary.services import limits
settings.EXAMPLARY_CONCURRENT_LAUNCHES = 1
client = services.get_client()
with ExitStack() as held:
    held.enter_context(client._connections._lock)
    held.enter_context(client._connections.cooldown._lock)
    held.enter_context(limits.embed_that_waits())
    for _ in range(8):
        held.enter_context(limits.embed_with_connection())
    pid = os.fork()
    if not pid:
        signal.alarm(100)
        with limits.embed_with_connection(), limits.embed_that_waits():
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


@pytest.mark.parametrize(
    ("vendor", "stored"), [("mysql", "Ann \ufffd \u00e9"), ("postgresql", "Ann \U0001f600 \u00e9")]
)
def test_characters_that_a_table_may_lack_are_replaced(vendor, stored):
    field = ExamplaryActor._meta.get_field("name")
    server = SimpleNamespace(vendor=vendor)

    assert field.get_db_prep_save("Ann \U0001f600 \u00e9", server) == stored
    assert field.get_db_prep_save(None, server) is None


def test_clock_of_mariadb_does_not_follow_the_time_zone():
    compiler = ExamplaryActor.objects.all().query.get_compiler("default")

    assert DatabaseNow().as_mysql(compiler, connection)[0] == "UTC_TIMESTAMP(6)"


def test_setup_does_not_import_requests():
    """The admin and the services, which every process imports, do not import it either."""
    script = (
        "import sys, django; django.setup();"
        "assert 'django_examplary.admin' in sys.modules;"
        "assert 'django_examplary.services' in sys.modules;"
        "sys.exit('requests' in sys.modules)"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, env=environment, check=False).returncode == 0
