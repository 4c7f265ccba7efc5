"""The page that links users from a CSV file."""

from __future__ import annotations

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_examplary.models import ExamplaryActor
from django_examplary.services.link_file import UNKNOWN, find_users, read_lines
from tests.admin_rows import allow, limit, make_actor, make_user

ACTORS = "/admin/django_examplary/examplaryactor/"
PAGE = f"{ACTORS}link/"

User = get_user_model()

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def users(fake):
    return [make_user(f"user{number}") for number in range(3)]


def results(response):
    assert response.status_code == 200
    return [(line.name, result) for line, result in response.context["results"]]


def errors(response):
    assert response.status_code == 200
    return response.context["form"].non_field_errors()


def messages(response):
    return [str(message) for message in response.context["messages"]]


def linked():
    return dict(ExamplaryActor.objects.values_list("user__username", "examplary_id"))


def upload(content):
    return {"file": SimpleUploadedFile("users.csv", content)}


def test_page_is_linked_from_the_list(admin_client):
    assert f'href="{PAGE}"' in admin_client.get(ACTORS).content.decode()
    assert "multipart/form-data" in admin_client.get(PAGE).content.decode()


def test_preview_links_no_users(fake, admin_client):
    make_actor("bob")
    content = (
        b"\xef\xbb\xbfuser,id\nuser0,user_0\nUSER1@school.example,user_1\n"
        b"nobody,user_9\nbob,user_bob\nx\n"
    )

    response = admin_client.post(PAGE, upload(content))

    assert results(response) == [
        ("user0", "will be linked"),
        ("USER1@school.example", "will be linked"),
        ("nobody", "There is no such user."),
        ("bob", "linked"),
        (
            "x",
            "The line must have a user name or an e-mail address, and an id that begins with "
            "user_.",
        ),
    ]
    assert "Link 2 users" in response.content.decode()
    assert fake.requests == []
    assert linked() == {"bob": "user_bob"}


def test_file_with_carriage_returns_is_read(fake, admin_client):
    response = admin_client.post(PAGE, upload(b"user,id\ruser0,user_0\r"))

    assert results(response) == [("user0", "will be linked")]


def test_users_are_linked_and_logged(fake, admin_client):
    text = "user0,user_0\nnobody,user_9\nuser1,user_owner\nuser2,user_2\n"

    response = admin_client.post(PAGE, {"text": text, "apply": "1"})

    assert [result for _, result in results(response)] == [
        "linked",
        "There is no such user.",
        "This is the owner of the API key, who cannot be an actor.",
        "linked",
    ]
    assert messages(response) == ["2 users are linked."]
    assert linked() == {"user0": "user_0", "user2": "user_2"}
    entries = [entry.get_change_message() for entry in LogEntry.objects.order_by("pk")]
    assert [entry.partition(":")[0] for entry in entries] == ["Linked", "Linked"]
    assert "Examplary id - → user_0" in entries[0]
    # One call for all lines.
    assert [each.path for each in fake.requests] == ["/me"]


def test_text_of_the_page_can_be_sent_again(fake, admin_client):
    data = {"text": "user0,user_0\n", "apply": "1"}
    admin_client.post(PAGE, data)
    fake.requests.clear()

    response = admin_client.post(PAGE, data)

    assert results(response) == [("user0", "linked")]
    assert messages(response) == []
    assert fake.requests == []
    assert LogEntry.objects.count() == 1


def test_remaining_users_are_linked_by_the_next_request(admin_client, monkeypatch):
    limit(monkeypatch, duration=0)

    response = admin_client.post(PAGE, {"text": "user0,user_0\n", "apply": "1"})

    assert results(response) == [("user0", "will be linked")]
    assert "Link 1 user<" in response.content.decode()


def test_existing_id_is_replaced_only_on_request(admin_client):
    make_actor("bob")
    data = {"text": "bob,user_new\n"}

    assert results(admin_client.post(PAGE, data)) == [("bob", "The user has another id.")]
    data["replace"] = "on"
    response = admin_client.post(PAGE, data)
    assert results(response) == [("bob", "will be linked instead of user_bob")]
    assert 'name="replace" value="on"' in response.content.decode()
    admin_client.post(PAGE, {**data, "apply": "1"})

    assert linked() == {"bob": "user_new"}
    assert "Examplary id user_bob → user_new" in LogEntry.objects.get().get_change_message()


@pytest.mark.parametrize("fault", [{"status": 401}, {"transport": "reset"}])
def test_outage_is_shown_and_stops_the_import(fake, admin_client, fault):
    fake.fail("GET", "/me", **fault)

    response = admin_client.post(PAGE, {"text": "user0,user_0\n", "apply": "1"})

    assert messages(response)[0].startswith("The call to Examplary failed: GET /me")
    assert results(response) == [("user0", "will be linked")]


def test_missing_key_is_shown(settings, admin_client):
    settings.EXAMPLARY_API_KEY = ""

    response = admin_client.post(PAGE, {"text": "user0,user_0\n", "apply": "1"})

    assert "EXAMPLARY_API_KEY is not set" in messages(response)[0]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"text": ""}, "Choose a file with lines, or enter its text."),
        ({"text": "user,id\n"}, "Choose a file with lines, or enter its text."),
        ({"text": "x" * 200_000}, "This is not CSV."),
        ({"text": "a,user_0\nb,user_1\nc,user_2\n"}, "These are more than 2 lines."),
    ],
)
def test_invalid_text_is_refused(admin_client, monkeypatch, data, problem):
    limit(monkeypatch, rows=2)

    [error] = errors(admin_client.post(PAGE, data))

    assert error.startswith(problem)


def test_invalid_files_are_refused(admin_client):
    assert errors(admin_client.post(PAGE, upload(b"\xff"))) == ["The file must be UTF-8."]
    response = admin_client.post(PAGE, upload(b""))
    assert errors(response) == []
    assert response.context["form"].errors["file"] == ["The submitted file is empty."]


def test_large_file_is_refused(admin_client):
    # Truncated after a megabyte, the last line would end in another id.
    content = b"\n" * (1024 * 1024 - len(b"user1,user_1")) + b"user1,user_12\n"
    [error] = errors(admin_client.post(PAGE, upload(content)))

    assert error.startswith("These are more than")


@pytest.mark.parametrize(
    "end",
    # A truncated character in UTF-8, or a quote without its end and a too long cell.
    ["\xe9" * 1024 * 1024, '"' + "x" * 1024 * 1024],
)
def test_large_file_is_refused_for_its_size_wherever_it_would_be_cut(admin_client, end):
    [error] = errors(admin_client.post(PAGE, upload(f"user0,user_0\n{end}".encode())))

    assert error.startswith("These are more than")


def test_file_with_a_null_character_shows_the_line(admin_client):
    response = admin_client.post(PAGE, upload(b"us\x00er0,user_0\nuser1,user_1\n"))

    assert [result for _, result in results(response)][1] == "will be linked"
    assert results(response)[0][1].startswith("The line must have")


def test_staff_cannot_link_themselves(client, staff):
    allow(staff, "link_examplaryactor")
    data = {"text": "staff,user_admin\nuser0,user_0\n", "apply": "1"}

    assert results(client.post(PAGE, data)) == [
        ("staff", "You can’t link your own account."),
        ("user0", "linked"),
    ]
    assert linked() == {"user0": "user_0"}


def test_superuser_may_link_themselves(admin_client):
    admin_client.post(PAGE, {"text": "admin,user_head\n", "apply": "1"})

    assert linked() == {"admin": "user_head"}


def test_link_file_page_requires_its_permission(client, staff):
    staff.user_permissions.set(Permission.objects.exclude(codename="link_examplaryactor"))

    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE, {"text": "user0,user_0\n", "apply": "1"}).status_code == 403
    assert PAGE not in client.get(ACTORS).content.decode()
    assert linked() == {}


@pytest.fixture
def hidden_user(staff, monkeypatch):
    """A user hidden from a staff member who can link other users."""

    class SchoolUserAdmin(type(admin.site.get_model_admin(User))):
        def get_queryset(self, request):
            return super().get_queryset(request).exclude(username="user1")

    allow(staff, "link_examplaryactor")
    monkeypatch.setitem(admin.site._registry, User, SchoolUserAdmin(User, admin.site))
    return User.objects.get(username="user1")


def test_users_hidden_by_the_user_admin_are_unknown(client, hidden_user):
    text = "user0,user_0\nuser1,user_1\nUSER1@school.example,user_2\n"

    response = client.post(PAGE, {"text": text, "apply": "1"})

    assert [result for _, result in results(response)] == [
        "linked",
        *["There is no such user."] * 2,
    ]
    assert linked() == {"user0": "user_0"}


def test_address_shared_with_a_hidden_user_is_ambiguous(client, hidden_user):
    User.objects.filter(pk=hidden_user.pk).update(email="user0@school.example")

    response = client.post(PAGE, {"text": "user0@school.example,user_0\n", "apply": "1"})

    assert [result for _, result in results(response)] == [
        "Several users have this address. Write the user name."
    ]
    assert linked() == {}
    client.post(PAGE, {"text": "user0,user_0\n", "apply": "1"})
    assert linked() == {"user0": "user_0"}


def test_number_of_queries_is_constant(admin_client):
    lines = [f"USER{number}@school.example,user_{number}" for number in range(3)]
    counts = []
    for count in (1, 3):
        with CaptureQueriesContext(connection) as queries:
            results(admin_client.post(PAGE, {"text": "\n".join(lines[:count])}))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_address_is_unknown_if_addresses_cannot_be_searched(monkeypatch):
    """It may be the address of another user, which the search cannot find."""
    monkeypatch.setattr(User, "get_email_field_name", lambda: "missing")
    make_user("ada@school.example")
    bob = make_user("bob")
    lines = read_lines("ada@school.example,user_1\nbob,user_2\n")

    find_users(lines)

    assert [(line.user, line.problem) for line in lines] == [(None, UNKNOWN), (bob, "")]
