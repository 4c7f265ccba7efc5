"""`examplary_link`: users and ids from a CSV file."""

from __future__ import annotations

import io
import json

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command

from django_examplary import services
from django_examplary.management.base import ExamplaryCommand
from django_examplary.models import ExamplaryActor
from django_examplary.services.linking import store_link

User = get_user_model()

pytestmark = pytest.mark.django_db


@pytest.fixture
def users(fake):
    for number in range(3):
        fake.add_user(f"user{number}@school.example", user_id=f"user_{number}")
    return [
        User.objects.create_user(f"user{number}", f"user{number}@school.example")
        for number in range(3)
    ]


@pytest.fixture
def link(tmp_path):
    """Run the command on a string; return the exit code, the output and the message."""

    def run(content, *arguments, **options):
        path = tmp_path / "users.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        stdout, stderr = io.StringIO(), io.StringIO()
        options = {"csv": str(path), "stdout": stdout, "stderr": stderr, **options}
        try:
            call_command("examplary_link", *arguments, **options)
        except CommandError as error:
            return error.returncode, stdout.getvalue(), str(error)
        return 0, stdout.getvalue(), ""

    return run


def linked():
    return dict(ExamplaryActor.objects.values_list("user__username", "examplary_id"))


def test_users_are_linked_by_name_and_by_address(users, link):
    code, text, _ = link("user0,user_0\nUSER1@school.example,user_1\n")

    assert (code, text) == (0, "2 users linked, 0 were already linked.\n")
    assert linked() == {"user0": "user_0", "user1": "user_1"}
    assert services.provision_actor(users[0]).examplary_id == "user_0"


def test_name_with_separate_accents_is_found(users, link):
    """Django composes the letters of user names when they are stored and when they sign in."""
    User.objects.create_user("Zoe\u0308")
    User.objects.bulk_create([User(username="Ine\u0300s")])

    link("Zoe\u0308,user_7\nIne\u0300s,user_8\n")

    assert linked() == {"Zo\u00eb": "user_7", "Ine\u0300s": "user_8"}


def test_address_with_separate_accents_that_another_user_chose_as_name_is_ambiguous(fake, link):
    User.objects.create_user("zoe", "zo\u00eb@school.example")
    User.objects.create_user("zo\u00eb@school.example", "other@school.example")

    assert "Several users have this address" in link("zoe\u0308@school.example,user_7\n")[1]
    assert linked() == {}


def test_user_of_unknown_workspace_does_not_stop_others(users, link, settings):
    settings.EXAMPLARY_WORKSPACE = lambda user: {users[1].pk: "default"}[user.pk]

    code, text, message = link("user0,user_0\nuser1,user_1\n")

    assert code == 1
    assert "EXAMPLARY_WORKSPACE raised KeyError." in text + message
    assert linked() == {"user1": "user_1"}


@pytest.mark.parametrize(
    "content",
    [
        "user,id\nuser0,user_0\n",
        "User;Examplary_ID\r\nuser0;user_0\r\n\r\n",
        "User\tExamplary ID\nuser0\tuser_0\n",
        b"\xef\xbb\xbfuser0;user_0",
        "user0 , user_0 \n , \n",
        "\ufeffUser\tId\r\nuser0\tuser_0\r\n".encode("utf-16-le"),
        "\ufeffuser0\tuser_0".encode("utf-16-be"),
    ],
)
def test_files_of_spreadsheets(users, link, content):
    assert link(content)[0] == 0
    assert linked() == {"user0": "user_0"}


def test_dry_run_makes_no_calls(fake, users, link):
    code, text, _ = link("user0,user_0\nnobody,user_1\n", dry_run=True)

    assert code == 1
    assert text.splitlines() == [
        "1 users would be linked, 0 were already linked.",
        "line 2, nobody: There is no such user.",
    ]
    assert fake.requests == []
    assert linked() == {}


def test_second_run_makes_no_calls(fake, users, link):
    link("user0,user_0\n")
    fake.requests.clear()

    assert link("user0,user_0\n")[:2] == (0, "0 users linked, 1 were already linked.\n")
    assert fake.requests == []


def test_existing_id_is_replaced_only_on_request(users, link):
    link("user0,user_0\n")

    code, text, _ = link("user0,user_1\n")
    assert code == 1
    assert "line 1, user0: The user has the id user_0. Pass --replace" in text
    assert linked() == {"user0": "user_0"}
    assert link("user0,user_1\n", replace=True)[0] == 0
    assert linked() == {"user0": "user_1"}


def test_failed_lines_do_not_stop_the_others(users, link):
    User.objects.create_user("twin", "USER2@school.example")
    content = "user2@school.example,user_2\nuser1,user_owner\nuser0,user_0\n"

    code, text, message = link(content, "--json")

    result = json.loads(text)
    assert (code, message) == (1, "Some users are not linked.")
    assert (result["linked"], result["unchanged"], result["stopped"]) == (1, 0, "")
    assert [(each["line"], each["user"]) for each in result["failed"]] == [
        (1, "user2@school.example"),
        (2, "user1"),
    ]
    assert "Several users have this address" in result["failed"][0]["reason"]
    assert linked() == {"user0": "user_0"}


@pytest.mark.parametrize("problem", ["key", "alias"])
def test_school_that_cannot_be_called_does_not_stop_the_others(
    fake, users, link, settings, problem
):
    north = {"API_KEY": f"examp_{'x' * 32}"}
    settings.EXAMPLARY_WORKSPACES = {"north": north} if problem == "key" else {}
    settings.EXAMPLARY_WORKSPACE = lambda user: "default" if user == users[1] else "north"

    code, text, message = link("user0,user_0\nuser1,user_1\nuser2,user_2\n", "--json")

    assert (code, message) == (1, "Some users are not linked.")
    failed = json.loads(text)["failed"]
    assert [each["line"] for each in failed] == [1, 3]
    expected = "401" if problem == "key" else "There is no workspace 'north'"
    assert all(expected in each["reason"] for each in failed)
    assert linked() == {"user1": "user_1"}
    assert len(fake.requests) == (2 if problem == "key" else 1)


def test_outage_stops_the_run_and_the_next_one_continues(fake, users, link):
    content = "user0,user_0\nuser1,user_1\nuser2,user_2\n"
    fake.fail("GET", "/me", status=401)
    assert link("user0,user_0\n")[::2] == (
        1,
        "Stopped at line 1: GET /me was answered with 401: Unauthorized",
    )

    assert link(content)[:2] == (0, "3 users linked, 0 were already linked.\n")


def test_signal_stops_the_run(users, link, monkeypatch):
    monkeypatch.setattr(ExamplaryCommand, "should_stop", lambda self: bool(linked()))

    assert link("user0,user_0\nuser1,user_1\n")[1].startswith("1 users linked")
    assert linked() == {"user0": "user_0"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user0\n", "line 1: The line must have a user name"),
        ("user0,user_0,user_1\n", "line 1: The line must have a user name"),
        ("user0,user_0\nuser1,exam_1\n", "line 2: The line must have a user name"),
        ("user0,user_0\nuser1,user_0\n", "line 1: Another line has the same"),
        ("user0,user_0\nuser0,user_1\n", "line 1: Another line has the same"),
        (b"\xff\xfe\x00", "could not be read"),
        (b"\xff", "could not be read"),
        (b"user0," + b"x" * 200_000, "is not CSV"),
        ("user\x000,user_0\n", "line 1: The line must have a user name"),
    ],
)
def test_wrong_file_links_no_users(fake, users, link, content, message):
    code, text, error = link(content)

    assert (code, text) == (2, "")
    assert message in error
    assert fake.requests == []


def test_missing_file(link):
    assert link("", csv="/nowhere/users.csv")[0] == 2


def test_id_of_another_user_is_found_before_any_call(fake, users, link):
    link("user0,user_0\n")
    fake.requests.clear()

    code, text, _ = link("user1,user_0\n", dry_run=True)

    assert code == 1
    assert "line 1, user1: Another user of this site has this id already." in text
    assert fake.requests == []


def test_user_on_two_lines_is_not_linked(users, link):
    code, text, _ = link("user0,user_0\nUSER0@school.example,user_1\nuser2,user_2\n")

    assert (code, text.count("Another line has the same user")) == (1, 2)
    assert linked() == {"user2": "user_2"}


def test_address_that_another_user_chose_as_name_is_ambiguous(users, link):
    User.objects.create_user("user0@school.example", "thief@school.example")

    code, text, _ = link("user0@school.example,user_0\nuser1,user_1\n")

    assert code == 1
    assert "line 1, user0@school.example: Several users have this address" in text
    assert linked() == {"user1": "user_1"}


def test_name_that_is_the_own_address_is_found(users, link):
    User.objects.create_user("head@school.example", "head@school.example")

    assert link("head@school.example,user_9\n")[0] == 0


def test_id_stored_during_the_call_is_kept(fake, users, link, during_call):
    during_call("get_me", lambda: store_link(users[0], "user_new", "default"))

    code, text, _ = link("user0,user_0\n")

    assert code == 1
    assert "line 1, user0: The user has the id user_new. Pass --replace" in text
    assert linked() == {"user0": "user_new"}


def test_user_claimed_by_another_process_is_not_linked(users, link, monkeypatch):
    link("user1,user_0\n")
    monkeypatch.setattr("django_examplary.services.link_file._compare_actors", lambda *a, **k: None)

    assert "Another user of this site has this id already." in link("user0,user_0\n")[1]


def test_number_of_queries_is_constant(users, link, django_assert_num_queries):
    lines = [f"user{number}@school.example,user_{number}" for number in range(3)]
    for count in (1, 3):
        with django_assert_num_queries(3):
            link("\n".join(lines[:count]), dry_run=True)


def test_number_beyond_the_column_range_is_an_unknown_user(users, link, monkeypatch):
    monkeypatch.setattr(User, "USERNAME_FIELD", "id")

    code, text, _ = link(f"{'9' * 20},user_0\n")

    assert (code, "There is no such user." in text) == (1, True)
