from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django.plugin import DjangoDbBlocker

from tests import processes
from tests.chaos.world import World

FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for line in config.stash[FIGURES]:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def databases(django_db_blocker: DjangoDbBlocker) -> Iterator[Callable[[str], None]]:
    """Create a new database on a server, or skip the test if there is no such server."""
    created: dict[str, str] = {}

    def create(alias: str) -> None:
        connection = connections[alias]
        address = connection.settings_dict["HOST"], int(connection.settings_dict["PORT"])
        with socket.socket() as probe:
            if probe.connect_ex(address):
                pytest.skip(f"no {alias} listens at {address}")
        if alias not in created:
            created[alias] = connection.settings_dict["NAME"]
            connection.creation.create_test_db(verbosity=0, autoclobber=True)

    with django_db_blocker.unblock():
        yield create
        for alias, name in created.items():
            connections[alias].creation.destroy_test_db(name, verbosity=0)


@pytest.fixture
def world(
    request: pytest.FixtureRequest, databases: Callable[[str], None], tmp_path: Path
) -> Iterator[World]:
    """An empty database and a new stub, for the server and the database of the parameter."""
    server, alias = request.param
    databases(alias)
    # Not through `TransactionTestCase`, which knows the connections of this process alone.
    call_command("flush", database=alias, interactive=False, verbosity=0)
    signals_file = tmp_path / "signals"
    signals_file.touch()
    world = World(server, alias, "", signals_file, request.config.stash[FIGURES])
    with processes.serve(
        *(sys.executable, "-m", "tests.chaos.stub"),
        environment=world.environment(),
        exit_code=-signal.SIGTERM,
    ) as world.api:
        yield world
