"""Databases that refuse rows, characters, locks, tables or all writes."""

from __future__ import annotations

import time

from django.contrib.auth.models import User
from django.db import transaction

from django_examplary.models import ExamplaryActor
from tests import processes
from tests.chaos.visitors import Visitor, at_once
from tests.chaos.world import on

BOTH = on(("gunicorn", "postgresql"), ("gunicorn", "mariadb"))
READ_ONLY = {
    "postgresql": "?options=-c%20default_transaction_read_only%3Don",
    "mariadb": "?init_command=SET%20SESSION%20TRANSACTION%20READ%20ONLY",
}
TABLES = ("django_examplary_examplaryactor", "django_examplary_examplarysession")


def assert_problem(visitor, world, **settings):
    """Verify that pages work, launches show an error, and commands exit with an error."""
    with world.serve(workers=1, **settings) as address:
        visitor.move_to(address)
        assert visitor.page()
        status, _, body = visitor.request("GET", visitor.launch_path)
    assert status == 503
    assert b'data-examplary-problem="unavailable"' in body
    for command in (["examplary_sweep"], ["examplary_provision"]):
        code, output = world.run(*command, **settings)
        assert code == 1, output
        assert "Traceback" not in output
        assert "\nCommandError: " in f"\n{output}"


@BOTH
def test_read_only_database_is_explained(world):
    (visitor,) = world.visitors(1, "")[:1]
    with world.serve(workers=1) as address:
        visitor.move_to(address)
        assert visitor.open()
    world.control(complete=True)
    (other,) = User.objects.using(world.alias).bulk_create([User(username="other", email="o@x.nl")])
    visitor = Visitor(other, "")
    url = world.database_url + READ_ONLY[world.alias]
    assert_problem(visitor, world, DATABASE_URL=url)
    assert world.rows().filter(status="pending").count() == 1
    assert len(world.control()["users"]) == 1


@BOTH
def test_missing_tables_are_explained_and_users_can_be_saved(world):
    (visitor,) = world.visitors(1, "")[:1]
    assert world.run("migrate", "django_examplary", "zero")[0] == 0
    try:
        assert_problem(visitor, world)
        code, output = world.run(
            "shell",
            "--verbosity=0",
            "--command=from django.contrib.auth.models import User\n"
            "from django.db import transaction\n"
            "user = User.objects.get()\n"
            "user.is_active = False\n"
            "user.set_password('other')\n"
            "with transaction.atomic():\n"
            "    user.save()\n"
            "print(User.objects.filter(is_active=False).count())",
        )
    finally:
        assert world.run("migrate", "django_examplary")[0] == 0
    assert (code, output.splitlines()[-1]) == (0, "1"), output
    assert not User.objects.using(world.alias).get().is_active


@on(("gunicorn", "mariadb"))
def test_characters_of_four_bytes_fit_into_tables_of_three(world):
    convert = "ALTER TABLE {} CONVERT TO CHARACTER SET {}"
    world.execute(*(convert.format(table, "utf8mb3") for table in TABLES))
    try:
        ann, bob = world.users(2)
        for user in (ann, bob):
            user.first_name = "Ann \U0001f600"
            user.save(using=world.alias)
        with world.serve(workers=1) as address:
            visitor, refused = Visitor(ann, address), Visitor(bob, address)
            assert visitor.open()
            outputs = {"examId": "\U0001f600"}
            world.control(complete={"status": "completed \U0001f600", "outputs": outputs})
            assert visitor.sync() == 200
            world.control(complete={"status": "completed"})
            time.sleep(1.1)
            assert visitor.sync() == 200
            world.control(refuse="No \U0001f600")
            assert refused.request("GET", refused.launch_path)[0] == 403
            code, output = world.run("examplary_provision")
        assert (code, "Traceback" in output) == (1, False), output
        actors = ExamplaryActor.objects.using(world.alias)
        sent = [user["name"] for user in world.control()["users"].values()]
        stored = actors.get(user=ann)
        failed = actors.get(user=bob)
        session = world.rows().get()
    finally:
        world.execute(*(convert.format(table, "utf8mb4") for table in TABLES))
    assert sent == ["Ann \U0001f600"]
    assert (stored.name, stored.state) == ("Ann \ufffd", "active")
    assert failed.state == "failed"
    assert "No \ufffd" in failed.last_error
    assert (session.status, session.outputs) == ("completed", outputs)
    assert len(world.signals()) == 1


@BOTH
def test_router_without_allow_relation(world):
    with world.serve(CHAOS_ROUTER=1) as address:
        visitors = world.visitors(2, address)
        urls = at_once(Visitor.open, visitors)
        world.control(complete=True)
        assert at_once(Visitor.sync, visitors) == [200] * len(visitors)
    code, output = world.run("examplary_provision", CHAOS_ROUTER=1)
    assert code == 0, output
    code, output = world.run("examplary_sweep", CHAOS_ROUTER=1)
    assert code == 0, output
    assert (world.lost(visitors, urls), world.duplicates()) == (0, 0)
    assert len(world.signals()) == len(visitors)


@BOTH
def test_actor_deleted_while_tabs_wait(world):
    # Longer than a command takes to start.
    world.control(latency=6.0)
    with world.serve(workers=1) as address:
        (user,) = world.users(1)
        tabs = [Visitor(user, address) for _ in range(8)]
        delete = world.start(
            "shell",
            "--verbosity=0",
            "--command=import time\n"
            "from django_examplary.models import ExamplaryActor\n"
            "while not ExamplaryActor.objects.all().delete()[0]:\n"
            "    time.sleep(0.1)",
        )
        urls = at_once(Visitor.open, tabs)
        output = processes.finish(delete)
    assert delete.returncode == 0, output
    assert all(urls)
    assert {status for tab in tabs for status in tab.statuses} <= {302, 409}


@BOTH
def test_constraint_of_another_app_is_named(world):
    add = "ALTER TABLE {} ADD CONSTRAINT policy_of_the_project CHECK (flow <> 'generate-exam')"
    world.execute(add.format(TABLES[1]))
    try:
        (visitor,) = world.visitors(1, "")[:1]
        with world.serve(workers=1) as address:
            visitor.move_to(address)
            status = visitor.request("GET", visitor.launch_path)[0]
        code, output = world.run(
            "shell",
            "--verbosity=0",
            "--command=from django.contrib.auth.models import User\n"
            "from django_examplary import services, flows\n"
            "try:\n"
            "    user, flow = User.objects.get(), flows.GenerateExam()\n"
            "    services.open_session(user, flow, origin='https://school.example')\n"
            "except Exception as error:\n"
            "    print(error)",
        )
    finally:
        world.execute(f"ALTER TABLE {TABLES[1]} DROP CONSTRAINT policy_of_the_project")
    assert (code, status) == (0, 503), output
    # A launch that mistook this for the row of another caller would wait.
    assert "policy_of_the_project" in output.splitlines()[-1]


@BOTH
def test_locked_row_delays_a_launch_briefly(world):
    (visitor,) = world.visitors(1, "")[:1]
    actor = ExamplaryActor(user=visitor.user, state="pending")
    actor.save(using=world.alias)
    with world.serve(workers=1) as address:
        visitor.move_to(address)
        with transaction.atomic(using=world.alias):
            ExamplaryActor.objects.using(world.alias).select_for_update().get()
            started = time.monotonic()
            assert not visitor.try_once()
            seconds = time.monotonic() - started
        url = visitor.open()
    world.note("locked row", seconds=f"{seconds:.1f}", statuses=dict(visitor.statuses))
    assert url
    # MariaDB's own bound is 50 seconds.
    assert seconds < 45
    assert set(visitor.statuses) <= {302, 409, 503}
