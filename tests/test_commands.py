from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection
from django.utils import timezone

from django_examplary import services
from django_examplary.flows import GenerateExam
from django_examplary.management import base
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.services import bulk
from tests import wire
from tests.processes import COVERAGE, PATIENCE, finish, wait_for

NAMES = ["ann", "ben", "cat", "dan"]

User = get_user_model()
State = ExamplaryActor.State


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(name, *arguments, stderr=None, **options):
    """Return the exit code, stdout and stderr."""
    stdout, stderr = io.StringIO(), stderr or io.StringIO()
    try:
        call_command(name, *arguments, stdout=stdout, stderr=stderr, **options)
    except CommandError as error:
        return error.returncode, stdout.getvalue(), str(error)
    return 0, stdout.getvalue(), stderr.getvalue()


def later():
    """Return the end of a claim of another caller."""
    return timezone.now() + timedelta(minutes=1)


def process(*arguments):
    """Start a command as a process, on the database of the tests."""
    script = (
        "import sys, django; django.setup()\n"
        "from django.db import connection\n"
        "connection.settings_dict['NAME'] = sys.argv.pop(1)\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)"
    )
    name = str(connection.settings_dict["NAME"])
    return subprocess.Popen(
        [sys.executable, "-c", script, name, *arguments],
        env={**os.environ, **COVERAGE, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def examplary(fake, monkeypatch):
    """The fake, for other processes too."""
    monkeypatch.setenv("EXAMPLARY_API_URL", fake.base_url)
    return fake


# All commands


@pytest.mark.parametrize(
    "name",
    [
        "examplary_contract",
        "examplary_link",
        "examplary_ping",
        "examplary_provision",
        "examplary_sweep",
    ],
)
def test_help_has_examples(name, capsys):
    with pytest.raises(SystemExit):
        call_command(name, "--help")

    text = capsys.readouterr().out
    assert f"manage.py {name}" in text
    assert "exit codes:\n  0    success" in text
    # These commands make few calls, so they cannot be continued.
    assert ("stopped by SIGTERM" in text) == (name not in ("examplary_contract", "examplary_ping"))
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("name", ["examplary_ping", "examplary_provision", "examplary_sweep"])
def test_missing_key_is_an_error_of_the_configuration(db, settings, name):
    settings.EXAMPLARY_API_KEY = ""

    code, _, message = run(name)

    assert code == 2
    assert message.startswith("EXAMPLARY_API_KEY is not set")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("examplary_provision --concurrency 0", "must be at least 1"),
        ("examplary_provision --concurrency 33", "must be at most 32"),
        ("examplary_provision --rate -1", "must be 0 or more"),
        ("examplary_provision --rate nan", "must be 0 or more"),
        ("examplary_provision --max-failures 0", "must be at least 1"),
        ("examplary_provision --role owner", "invalid choice"),
        ("examplary_provision seventeen", "These users cannot be selected"),
        ("examplary_sweep --limit -1", "must be at least 1"),
        ("examplary_sweep --concurrency 33", "must be at most 32"),
        ("examplary_sweep --rate -1", "must be 0 or more"),
    ],
)
def test_wrong_argument(db, command, message):
    with pytest.raises(CommandError, match=message):
        call_command(*command.split())


# examplary_ping


def test_ping(fake):
    code, text, _ = run("examplary_ping")

    assert code == 0
    assert f"{fake.base_url}, after 0." in text
    assert "it belongs to user_owner, owner" in text
    assert "the same as Examplary's" in text
    assert f"Embeds        may come from {fake.base_url}" in text
    assert "hi@examplary.ai" in text
    assert [(call.method, call.path) for call in fake.requests] == [("GET", "/me")]


def test_ping_as_json(fake, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://school.example"

    code, text, _ = run("examplary_ping", json=True)

    result = json.loads(text)
    assert code == 0
    assert result["key_owner"] == "user_owner"
    assert result["embed_origins"] == [fake.base_url]
    assert result["site_origin"] == "https://school.example"
    assert abs(result["clock_difference"]) < 60


@pytest.mark.parametrize(
    ("date", "text"),
    [
        ("Fri, 31 Dec 2999 23:59:59 GMT", "s ahead of this server"),
        ("Sat, 01 Jan 2000 00:00:00 GMT", "s behind this server"),
        ("today", "unknown: the response has no date"),
    ],
)
def test_ping_warns_about_the_clock(fake, date, text):
    fake.fail("GET", "/me", status=200, body={"id": "user_owner"}, headers={"Date": date})

    assert text in run("examplary_ping")[1]


@pytest.mark.parametrize(
    ("status", "code", "explanation"),
    [
        (401, 2, "https://app.examplary.ai/account/developer"),
        (403, 2, "write to hi@examplary.ai"),
        (400, 1, "GET /me was answered with 400"),
    ],
)
def test_refusal_is_explained(fake, status, code, explanation):
    fake.fail("GET", "/me", status=status)

    result = run("examplary_ping")

    assert result[0] == code
    assert explanation in result[2]


@pytest.fixture
def schools(fake, settings):
    """Two schools: `default`, and `north` with a workspace of its own."""
    north = fake.add_workspace(f"examp_{'n' * 32}")
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": north.api_key}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if "n" in user.username else "default"
    return north


def test_ping_has_a_line_for_each_workspace(fake, schools):
    code, text, _ = run("examplary_ping")

    assert code == 0
    first, second = text.splitlines()
    assert first.startswith(f"default: {fake.base_url} accepted the API key of user_owner, owner")
    assert second.startswith(f"north: {fake.base_url} accepted the API key of {schools.owner_id}")


def test_ping_of_several_workspaces_names_the_refused_key(fake, schools):
    schools.api_key = "examp_another"

    code, text, message = run("examplary_ping")

    assert (code, message) == (2, "Not every workspace responded properly.")
    first, second = text.splitlines()
    assert first.startswith("default: ")
    assert "set EXAMPLARY_WORKSPACES['north']['API_KEY']" in second
    result = json.loads(run("examplary_ping", json=True)[1])["workspaces"]
    assert result["default"]["key_owner"] == "user_owner"
    assert "401" in result["north"]["error"]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"API_KEY": "a key"}, "Not every workspace responded properly."),
        ({"EMBED_ORIGINS": ["https://app.examplary.ai/"]}, "The settings are wrong."),
    ],
)
def test_wrong_settings_of_one_workspace_do_not_stop_the_others(
    fake, schools, settings, wrong, expected
):
    settings.EXAMPLARY_WORKSPACES["west"] = {"API_KEY": schools.api_key, **wrong}

    code, text, message = run("examplary_ping", stderr=(stderr := io.StringIO()))

    assert (code, message) == (2, expected)
    assert "EXAMPLARY_WORKSPACES['west']" in stderr.getvalue()
    default, north, west = text.splitlines()
    assert "accepted the API key" in default
    assert "accepted the API key" in north
    assert west.startswith("west: ")
    sent = len(fake.requests)
    assert run("examplary_ping", workspace="west")[2] == "The settings are wrong: nothing was sent."
    assert len(fake.requests) == sent


@pytest.mark.parametrize("arguments", [{"workspace": "north"}, {"session": "nan"}])
def test_ping_of_one_workspace(fake, schools, db, arguments):
    services.provision_actor(User.objects.create_user("nan", "nan@school.example"))

    result = json.loads(run("examplary_ping", json=True, **arguments)[1])

    assert (result["workspace"], result["key_owner"]) == ("north", schools.owner_id)
    assert bool(result["session"]) == ("session" in arguments)


def test_ping_of_a_callable_without_users(fake, settings, db):
    settings.EXAMPLARY_API_KEY = ""
    settings.EXAMPLARY_WORKSPACES = lambda alias: None
    settings.EXAMPLARY_WORKSPACE = lambda user: "north"

    assert run("examplary_ping")[:2] == (
        0,
        "No user has a workspace yet. Pass --workspace and an alias.\n",
    )


def test_ping_of_an_alias_that_users_have_and_the_callable_rejects(fake, settings, teacher):
    ExamplaryActor.objects.create(user=teacher, workspace="gone")
    settings.EXAMPLARY_WORKSPACES = lambda alias: None
    settings.EXAMPLARY_WORKSPACE = lambda user: "default"

    code, text, _ = run("examplary_ping")

    assert code == 2
    assert "gone: There is no workspace 'gone'" in text


def test_commands_for_one_workspace(fake, schools, db):
    for name in NAMES:
        User.objects.create_user(name, f"{name}@school.example")

    assert json.loads(
        run("examplary_provision", workspace="north", dry_run=True, json=True)[1]
    ) == {"users": 3}
    assert "3 users provisioned" in run("examplary_provision", workspace="north")[1]
    assert run("examplary_provision", workspace="north", dry_run=True)[1].startswith("0 users")
    services.open_session(
        User.objects.get(username="ann"), GenerateExam(), origin="https://school.example"
    )
    assert "0 sessions verified" in run("examplary_sweep", workspace="default")[1]
    assert "1 sessions verified" in run("examplary_sweep", workspace="north")[1]
    for command in ("examplary_sweep", "examplary_provision"):
        for dry_run in (False, True):
            code, _, message = run(command, workspace="south", dry_run=dry_run)
            assert (code, "There is no workspace 'south'" in message) == (2, True)


@pytest.mark.parametrize("alias", ["Łódź 3", "'; --", "a/b?c#d", "%s{0}%"])
def test_commands_for_an_alias_with_special_characters(fake, settings, db, alias):
    school = fake.add_workspace()
    settings.EXAMPLARY_WORKSPACES = {alias: {"API_KEY": school.api_key}}
    settings.EXAMPLARY_WORKSPACE = lambda user: alias
    user = User.objects.create_user("ann", "ann@school.example")

    assert "1 users provisioned" in run("examplary_provision", workspace=alias)[1]
    session = services.open_session(user, GenerateExam(), origin="https://school.example")
    session.refresh_from_db()
    assert (session.workspace, session.actor.workspace) == (alias, alias)
    assert "1 sessions verified" in run("examplary_sweep", workspace=alias)[1]
    assert f"{alias}: {fake.base_url} accepted the API key" in run("examplary_ping")[1]
    assert fake.users.keys() == {fake.owner_id}


def test_wrong_settings_are_reported_and_nothing_is_sent(fake, settings):
    settings.EXAMPLARY_EMBED_ORIGINS = ["https://app.examplary.ai/"]

    code, _, message = run("examplary_ping", stderr=(stderr := io.StringIO()))

    assert (code, message) == (2, "The settings are wrong: nothing was sent.")
    assert "EXAMPLARY_EMBED_ORIGINS" in stderr.getvalue()
    assert fake.requests == []


def test_setting_of_a_wrong_type_is_reported(fake, settings):
    settings.EXAMPLARY_API_KEY = 5

    code, _, message = run("examplary_ping", stderr=(stderr := io.StringIO()))

    assert (code, message) == (2, "The settings are wrong: nothing was sent.")
    assert "EXAMPLARY_API_KEY must be a string." in stderr.getvalue()


def test_ping_omits_silenced_checks(fake, settings):
    settings.EXAMPLARY_EMBED_ORIGINS = ["https://app.examplary.ai/"]
    settings.SILENCED_SYSTEM_CHECKS = ["django_examplary.E004"]

    code, _, errors = run("examplary_ping")

    assert (code, errors) == (0, "")


# examplary_ping --session


@pytest.fixture
def provisioned(fake, teacher):
    services.provision_actor(teacher)
    fake.requests.clear()
    return teacher


def test_ping_opens_and_revokes_a_session(fake, provisioned):
    code, text, _ = run("examplary_ping", session="teacher")

    assert code == 0
    assert f"Session       opened at {fake.base_url}, and revoked" in text
    assert "pass\n--session" not in text
    (session,) = fake.sessions.values()
    assert session.revoked
    assert session.allowed_origin == "https://localhost"
    row = ExamplarySession.objects.get()
    assert (row.status, row.embed_url) == (ExamplarySession.Status.REVOKED, "")
    assert session.id not in text
    assert session.token not in text


def test_ping_session_does_not_change_open_sessions(fake, provisioned, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://school.example"
    lesson = services.open_session(provisioned, GenerateExam(), origin="https://school.example")

    code, text, _ = run("examplary_ping", "--json", session=str(provisioned.pk))

    assert code == 0
    assert json.loads(text)["session"] == {"embed_origin": fake.base_url, "revoked": True}
    lesson.refresh_from_db()
    assert lesson.status == ExamplarySession.Status.PENDING
    assert {each.allowed_origin for each in fake.sessions.values()} == {"https://school.example"}


def test_ping_session_that_cannot_be_revoked(fake, provisioned):
    fake.fail("DELETE", "/embed-sessions/{id}", times=None, status=500)

    code, text, _ = run("examplary_ping", session="teacher")

    assert code == 0
    assert "but not revoked: a sweep tries again" in text


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"approved": False}, 2, "Examplary must have approved the workspace"),
        ({"embed_origin": "https://exams.other.example"}, 2, "EXAMPLARY_EMBED_ORIGINS"),
    ],
)
def test_ping_session_is_refused(fake, provisioned, change, code, message):
    for name, value in change.items():
        setattr(fake, name, value)

    result = run("examplary_ping", session="teacher")

    assert result[:2] == (code, "")
    assert message in result[2]


@pytest.mark.parametrize(("status", "code"), [(422, 2), (404, 2)])
def test_ping_session_with_invalid_response(fake, provisioned, status, code):
    fake.fail("POST", "/embed-sessions", times=None, status=status)

    assert run("examplary_ping", session="teacher")[0] == code


@pytest.mark.parametrize("name", ["nobody", "99999999999999999999"])
def test_ping_session_of_an_unknown_user(fake, db, name):
    assert run("examplary_ping", session=name) == (2, "", f"There is no user {name}.")
    assert fake.requests == []


def test_ping_session_of_a_user_without_an_actor(fake, teacher):
    code, _, message = run("examplary_ping", session="teacher")

    assert code == 2
    assert message.endswith(f"Run manage.py examplary_provision {teacher.pk}")
    assert fake.requests == []


# Strings of a server


HOSTILE = "\x1b[2J\x9b1m\rok\u202e\u061c\u2028\ud800"
ESCAPED = r"\x1b[2J\x9b1m\rok\u202e\u061c\u2028\ud800"


def test_ping_escapes_texts_of_the_server(fake):
    fake.fail("GET", "/me", status=200, body={"id": "user_owner", "role": f"{HOSTILE}\nx"})

    text = run("examplary_ping")[1]

    # The client has replaced the lone surrogate before.
    assert ESCAPED.replace(r"\ud800", "\ufffd") + r"\nx" in text


class Hostile(base.ExamplaryCommand):
    """A command that prints only strings of a server."""

    def handle(self, **options):
        self.report(HOSTILE)
        self.finish({}, HOSTILE, failed=HOSTILE)


def test_every_command_escapes_its_output():
    stdout, stderr = io.StringIO(), io.StringIO()

    with pytest.raises(CommandError) as caught:
        call_command(Hostile(), stdout=stdout, stderr=stderr)

    assert stdout.getvalue() == stderr.getvalue() == f"{ESCAPED}\n"
    assert (str(caught.value), caught.value.returncode) == (ESCAPED, 1)


# examplary_provision


@pytest.mark.django_db
def test_provision(fake, make_users):
    make_users(3)

    code, text, _ = run("examplary_provision", rate=0)

    assert (code, text) == (0, "3 users provisioned.\n")
    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 3


@pytest.mark.django_db
def test_selection(fake):
    ann, ben, cat, dan = (
        User.objects.create_user(name, f"{name}@school.example") for name in NAMES
    )
    pupils, heads = (Group.objects.create(name=name) for name in ("Pupils", "Heads"))
    pupils.user_set.set([ann, ben])
    heads.user_set.set([ben, cat])
    User.objects.filter(pk=cat.pk).update(is_staff=True)

    for arguments, count in [
        (["--group", "Pupils"], 2),
        (["--group", "Pupils", "--group", "Heads"], 3),
        (["--staff"], 1),
        (["--no-staff"], 3),
        (["--search", "DAN@"], 1),
        ([str(ann.pk), str(dan.pk)], 2),
        (["--group", "Heads", "--staff"], 1),
        ([], 4),
    ]:
        text = run("examplary_provision", "--dry-run", "--json", *arguments)[1]
        assert json.loads(text) == {"users": count}
    assert "4 users have no active actor" in run("examplary_provision", dry_run=True)[1]
    assert fake.requests == []
    assert not ExamplaryActor.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "Pupils", "--group", "Pupilz"], "There is no group Pupilz."),
        (["{pk}", "998", "999"], "There is no user 998, 999."),
        (["99999999999999999999"], "There is no user 99999999999999999999."),
    ],
)
def test_missing_rows_are_refused(fake, teacher, arguments, message, dry_run):
    Group.objects.create(name="Pupils").user_set.add(teacher)
    arguments = [each.format(pk=teacher.pk) for each in arguments]

    assert run("examplary_provision", *arguments, dry_run=dry_run) == (2, "", message)
    assert fake.requests == []


@pytest.mark.django_db
def test_skipped_users_are_reported_as_remaining(fake, teacher):
    ExamplaryActor.objects.create(user=teacher, state=State.CLAIMED, lapses_at=later())

    code, text, message = run("examplary_provision")

    assert (code, message) == (1, "Some users were skipped: run it again in a minute.")
    assert text.startswith("0 users provisioned.\n1 skipped")


@pytest.mark.django_db
def test_users_provisioned_by_another_run_do_not_remain(fake, make_users, monkeypatch):
    make_users(2)
    claim_actor = bulk.claim_actor

    def provision_first(actor):
        services.provision_actor(actor.user)
        return claim_actor(actor)

    monkeypatch.setattr(bulk, "claim_actor", provision_first)
    code, text, _ = run("examplary_provision", rate=0)

    assert (code, "2 skipped" in text) == (0, True)
    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 2


@pytest.mark.django_db
def test_role(fake, teacher):
    run("examplary_provision", role="student")

    assert ExamplaryActor.objects.get().role == "student"


@pytest.mark.django_db
def test_failures_are_grouped_by_reason(fake, teacher, student):
    User.objects.update(email="no address")
    ExamplaryActor.objects.create(
        user=User.objects.create_user("busy"), state=State.CLAIMED, lapses_at=later()
    )

    code, text, message = run("examplary_provision", rate=0)

    assert (code, message) == (1, "Some users have no actor.")
    assert text.startswith("0 users provisioned.\n1 skipped: try again in a minute.\n2 failed:")
    assert text.rstrip().endswith("The list of Examplary actors in the admin shows these users.")


@pytest.mark.django_db
def test_result_as_json(fake, teacher):
    fake.fail("POST", "/users", status=401)

    code, text, message = run("examplary_provision", json=True)

    result = json.loads(text)
    assert code == 1
    assert message == result["stopped"]
    assert result["provisioned"] == 0
    assert result["failed"] == {"401 Unauthorized": 1}


@pytest.mark.django_db
def test_progress_on_a_terminal_and_in_a_log(fake, make_users):
    make_users(2)
    run("examplary_provision", rate=0, stderr=(terminal := Terminal()))
    assert "\r1 of 2 users, 0 failed" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")

    User.objects.create_user("late", "late@school.example")
    log = run("examplary_provision", rate=0)[2]
    assert log.startswith("1 of 1 users, 0 failed")
    assert "\r" not in log


@pytest.fixture
def interrupt(examplary, monkeypatch):
    """Return a function that runs a command and sends a signal during its third call.

    The function returns the exit code and stderr. The command makes two calls at a time.
    """
    # A busy machine may need long to send the signal.
    monkeypatch.setenv("EXAMPLARY_TIMEOUT", str(PATIENCE))
    monkeypatch.setenv("EXAMPLARY_DEADLINE", str(PATIENCE))
    reached, signalled = threading.Event(), threading.Event()

    def run_and_signal(number, *arguments):
        handle, calls = examplary.handle, itertools.count(1)

        def handle_when_signalled(request):
            if next(calls) >= 3:
                reached.set()
                assert signalled.wait(PATIENCE)
            return handle(request)

        monkeypatch.setattr(examplary, "handle", handle_when_signalled)
        command = process(*arguments, "--concurrency", "2")
        wait_for(reached.is_set, command)
        command.send_signal(number)
        signalled.set()
        _, errors = command.communicate(timeout=PATIENCE)
        return command.returncode, errors

    return run_and_signal


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_command_can_be_continued(examplary, interrupt, number, code, make_users):
    make_users(40)

    returned, errors = interrupt(number, "examplary_provision", "--rate", "0")

    assert returned == code, errors
    assert f"Stopped by {number.name}. Run it again to continue." in errors
    states = set(ExamplaryActor.objects.values_list("state", flat=True))
    assert states <= {State.ACTIVE, State.PENDING}
    # Only the calls that were under way.
    assert 1 <= ExamplaryActor.objects.filter(state=State.ACTIVE).count() <= 4
    assert run("examplary_provision", rate=0, concurrency=8)[0] == 0
    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 40
    assert len(examplary.calls("POST", "/users")) == 40


@pytest.mark.django_db(transaction=True)
def test_stopped_sweep_stores_every_outcome(examplary, interrupt, teacher):
    """Each verified session has its outcome, and the next sweep verifies the others."""
    actor = services.provision_actor(teacher)
    remote = [examplary.add_session("edit-rubric", actor.examplary_id) for _ in range(40)]
    for session in remote:
        examplary.complete(session.id, {"rubric": {}})
    rows = ExamplarySession.objects
    rows.bulk_create(
        ExamplarySession(actor=actor, examplary_id=each.id, flow="edit-rubric", status="pending")
        for each in remote
    )
    completed = rows.filter(status="completed")

    returned, errors = interrupt(signal.SIGTERM, "examplary_sweep")

    assert returned == 143, errors
    assert 1 <= completed.count() <= 4
    assert rows.filter(asked_at=None).count() == rows.open().count() == 40 - completed.count()
    assert completed.filter(announced_at=None).count() == 0
    assert run("examplary_sweep")[0] == 0
    assert completed.count() == 40
    assert len(examplary.calls("GET", "/embed-sessions/{id}")) == 40


@pytest.mark.django_db(transaction=True)
def test_second_signal_kills_the_command(examplary, make_users):
    make_users(4)
    examplary.fail("POST", "/users", transport=wire.HANG, times=None)
    command = process("examplary_provision")
    wait_for(lambda: examplary.calls("POST", "/users"), command)

    command.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    assert command.poll() is None
    # Signals that arrive before the first is handled count as one.
    while command.poll() is None:
        command.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    finish(command)

    assert command.returncode == -signal.SIGTERM


@pytest.mark.django_db(transaction=True)
def test_commands_admin_and_launches_at_the_same_time_create_each_user_once(
    examplary, admin_client, make_users, patiently
):
    users = make_users(30)
    examplary.latency = 0.01
    examplary.duplicates = "create"  # Makes duplicates visible.
    arguments = ["examplary_provision", "--rate", "0", "--json"]
    commands = [process(*arguments) for _ in range(2)]
    wait_for(lambda: examplary.calls("POST", "/users"), *commands)

    def launch():
        try:
            for user in reversed(users):
                patiently(
                    lambda user=user: services.open_session(
                        user, GenerateExam(), origin="https://school.example"
                    )
                )
        finally:
            connection.close()

    browser = threading.Thread(target=launch)
    browser.start()
    page = "/admin/django_examplary/examplaryactor/provision/?role=teacher&search=school.example"
    while browser.is_alive():
        assert admin_client.post(page, headers={"Accept": "application/json"}).status_code == 200
    browser.join()

    results = [json.loads(finish(command)) for command in commands]

    # Users that another process claimed at the time are skipped.
    assert {command.returncode for command in commands} <= {0, 1}
    assert all(result["failed"] == {} for result in results)
    assert sum(result["provisioned"] for result in results) <= 31
    # Including the signed-in admin: the commands select all users.
    assert ExamplaryActor.objects.filter(state=State.ACTIVE).count() == 31
    assert len(examplary.users) - 1 == len(examplary.calls("POST", "/users")) == 31
    assert len(examplary.sessions) == 30


def test_call_command_keeps_the_signal_handlers(db, fake):
    """Only the main thread can set signal handlers."""
    codes = []
    command = base.ExamplaryCommand()

    def work():
        with command.stoppable():
            codes.append(command.should_stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert codes == [False]
    before = signal.getsignal(signal.SIGINT)
    with command.stoppable():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


# examplary_sweep


@pytest.fixture
def completed(fake, teacher):
    """Return a session that was completed at Examplary only."""
    session = services.open_session(
        teacher, GenerateExam(subject="Art"), origin="https://school.example"
    )
    fake.complete(session.examplary_id)
    return session


@pytest.mark.django_db
def test_sweep(fake, completed):
    code, text, _ = run("examplary_sweep", stderr=Terminal())

    assert code == 0
    assert text == "1 sessions verified (1 completed), 1 revoked, 0 deleted, 0 failed.\n"
    completed.refresh_from_db()
    assert completed.status == ExamplarySession.Status.COMPLETED


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["examplary_sweep", "examplary_provision"])
def test_database_error_is_reported_without_values(fake, before_query, name):
    def fail():
        raise ProgrammingError("no such table (SECRET)")

    with before_query(fail, "SELECT"):
        code, _, text = run(name)

    assert code == 1
    assert text.startswith("The database failed: ProgrammingError. Run `migrate` if")


@pytest.mark.django_db
def test_sweep_dry_run(fake, completed):
    before = len(fake.requests)

    code, text, _ = run("examplary_sweep", dry_run=True)

    assert code == 0
    assert text == "Would check 1 open sessions, revoke 0, send 0 late signals and delete 0.\n"
    assert len(fake.requests) == before


@pytest.mark.django_db
def test_sweep_with_a_limit_as_json(fake, completed):
    result = json.loads(run("examplary_sweep", json=True, limit=0)[1])

    assert (result["verified"], result["ended"]) == (0, {})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "Some sessions could not be checked."),
        (401, "GET /embed-sessions/{id} was answered with 401"),
    ],
)
def test_sweep_that_fails(fake, completed, status, message):
    fake.fail("GET", "/embed-sessions/{id}", status=status)

    code, text, errors = run("examplary_sweep")

    assert code == 1
    assert message in errors
    assert "none has ended" in text


@pytest.mark.django_db
def test_sweep_deletes_old_sessions(fake, completed, settings):
    settings.EXAMPLARY_RETENTION = 30
    run("examplary_sweep")
    ExamplarySession.objects.update(ended_at=timezone.now() - timedelta(days=31))

    assert "1 deleted" in run("examplary_sweep")[1]


@pytest.mark.django_db
def test_sweep_reports_late_signals_and_missing_sessions(fake, completed):
    fake.sessions.clear()
    past = timezone.now() - timedelta(minutes=5)
    ExamplarySession.objects.create(
        actor=completed.actor, flow="edit-rubric", status="closed", lapses_at=past
    )

    code, text, _ = run("examplary_sweep", concurrency=2, rate=50.0)

    assert code == 0
    assert "1 signals sent late" in text
    assert "1 open sessions are not returned by Examplary" in text
