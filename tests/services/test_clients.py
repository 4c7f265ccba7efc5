"""The client of each workspace."""

from __future__ import annotations

import gc
import weakref

import pytest

from django_examplary import services
from django_examplary.exceptions import ExamplaryConfigurationError
from django_examplary.models import ExamplaryActor
from django_examplary.services.clients import list_workspaces, workspace_of

NORTH = {"API_KEY": "examp_of_the_north_workspace_00000000"}


def test_client_is_shared_until_the_settings_change(settings):
    client = services.get_client()
    assert services.get_client() is client
    assert services.get_client("default") is client

    settings.EXAMPLARY_TIMEOUT = 3.0
    other = services.get_client()
    assert other is not client
    assert other.timeout == 3.0


def test_client_of_an_earlier_server_is_forgotten(fake, settings):
    """Otherwise a test run with many servers would keep a connection to each."""
    client = weakref.ref(services.get_client())
    client().get_me()

    settings.EXAMPLARY_API_URL = "https://other.example"
    gc.collect()

    assert client() is None


def test_arguments_replace_settings(settings):
    settings.EXAMPLARY_DEADLINE, settings.EXAMPLARY_MAX_RETRIES = 9.0, 5
    client = services.get_client()
    assert (client.deadline, client.max_retries) == (9.0, 5)

    client = services.get_client(deadline=1.0, max_retries=0)
    assert (client.deadline, client.max_retries) == (1.0, 0)


def test_missing_key_is_configuration_error(settings):
    settings.EXAMPLARY_API_KEY = ""
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_KEY"):
        services.get_client()


@pytest.mark.parametrize("kind", ["mapping", "callable"])
def test_workspace_has_its_own_key(fake, settings, kind):
    workspaces = {"north": NORTH}
    settings.EXAMPLARY_WORKSPACES = workspaces if kind == "mapping" else workspaces.get
    north = services.get_client("north")
    assert north is not services.get_client()

    fake.api_key = NORTH["API_KEY"]
    assert north.get_me().id == fake.owner_id
    assert NORTH["API_KEY"] not in repr(north)


def test_workspace_has_its_own_url(settings):
    settings.EXAMPLARY_WORKSPACES = {"north": {**NORTH, "API_URL": "https://north.example/"}}

    assert services.get_client("north").base_url == "https://north.example"


@pytest.mark.parametrize("workspaces", [{}, {"north": NORTH}, lambda alias: None])
def test_unknown_workspace_is_named(settings, workspaces):
    settings.EXAMPLARY_WORKSPACES = workspaces
    with pytest.raises(ExamplaryConfigurationError, match="There is no workspace 'south'"):
        services.get_client("south")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"API_KEY": None}, r"\['north'\]\['API_KEY'\] must be a string"),
        ({"EMBED_ORIGINS": "https://a.example"}, r"\['EMBED_ORIGINS'\] must be a list of strings"),
        ({"API_KEY": ""}, r"EXAMPLARY_WORKSPACES\['north'\]\['API_KEY'\] is not set"),
        ({"API_KEY": "a b"}, r"\['north'\]\['API_KEY'\] may only hold visible ASCII"),
        ({"API_URL": "http://a.example"}, r"\['north'\]\['API_URL'\] must be an https URL"),
        ({"API_KYE": "x"}, "unknown key 'API_KYE'"),
        (NORTH["API_KEY"], r"\['north'\] must be a mapping"),
    ],
)
@pytest.mark.parametrize("kind", ["mapping", "callable"])
def test_settings_of_a_workspace_are_checked(settings, changed, message, kind):
    workspaces = {"north": {**NORTH, **changed} if isinstance(changed, dict) else changed}
    settings.EXAMPLARY_WORKSPACES = workspaces if kind == "mapping" else workspaces.get
    with pytest.raises(ExamplaryConfigurationError, match=message) as caught:
        services.get_client("north")
    assert NORTH["API_KEY"] not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "workspaces", "expected"),
    [
        ("examp_1", {}, ["default"]),
        ("", {}, ["default"]),
        ("examp_1", {"south": NORTH, "north": NORTH}, ["default", "north", "south"]),
        ("", {"north": NORTH}, ["north"]),
        ("examp_1", {"default": NORTH}, ["default"]),
        ("", {7: NORTH, None: NORTH, "": NORTH, "north": NORTH}, ["north"]),
    ],
)
def test_workspaces_are_listed(settings, key, workspaces, expected):
    settings.EXAMPLARY_API_KEY, settings.EXAMPLARY_WORKSPACES = key, workspaces

    assert list_workspaces() == expected


def test_workspaces_of_a_callable_are_those_of_users(settings, teacher):
    settings.EXAMPLARY_API_KEY = ""
    settings.EXAMPLARY_WORKSPACES = {"north": NORTH}.get
    assert list_workspaces() == []

    ExamplaryActor.objects.create(user=teacher, workspace="north")
    assert list_workspaces() == ["north"]
    settings.EXAMPLARY_API_KEY = "examp_1"
    assert list_workspaces() == ["default", "north"]


def test_user_belongs_to_the_default_workspace_unless_the_project_decides(settings):
    assert workspace_of(None) == "default"

    settings.EXAMPLARY_WORKSPACE = lambda user: "north"
    assert workspace_of(None) == "north"


@pytest.mark.parametrize("alias", [None, "", 7, ["north"], "n" * 65, "north\n", "north\0"])
def test_alias_that_no_row_can_store_is_refused(settings, alias):
    settings.EXAMPLARY_WORKSPACE = lambda user: alias
    with pytest.raises(ExamplaryConfigurationError, match="must return an alias of 1 to 64"):
        workspace_of(None)


@pytest.mark.parametrize("alias", ["Łódź 3", "'; --", "a/b?c#d", "%s{0}"])
def test_alias_accepts_all_printable_characters(settings, alias):
    settings.EXAMPLARY_WORKSPACES = {alias: NORTH}
    settings.EXAMPLARY_WORKSPACE = lambda user: alias
    assert workspace_of(None) == alias
    assert services.get_client(alias)


def fail(value):
    raise ConnectionError("The password is hunter2.")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("EXAMPLARY_WORKSPACE", "EXAMPLARY_WORKSPACE raised ConnectionError."),
        ("EXAMPLARY_WORKSPACES", "EXAMPLARY_WORKSPACES raised ConnectionError for 'north'."),
    ],
)
def test_error_of_workspace_callable_is_reported_without_message(settings, setting, message):
    settings.EXAMPLARY_WORKSPACE = lambda user: "north"
    setattr(settings, setting, fail)
    with pytest.raises(ExamplaryConfigurationError) as caught:
        services.get_client(workspace_of(None))

    assert str(caught.value) == message


def test_each_of_three_hundred_workspaces_keeps_its_client(settings):
    """A new client would not know that its API is down."""
    aliases = [f"school-{number}" for number in range(300)]
    settings.EXAMPLARY_WORKSPACES = {alias: {"API_KEY": f"examp_{alias}"} for alias in aliases}

    clients = [services.get_client(alias) for alias in aliases]

    assert [services.get_client(alias) for alias in aliases] == clients
    assert len(set(clients)) == 300


def test_workspaces_may_share_a_key(settings):
    settings.EXAMPLARY_WORKSPACES = {"north": NORTH, "south": NORTH}

    assert services.get_client("north") is services.get_client("south")
