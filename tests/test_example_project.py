from __future__ import annotations

import socket

import pytest
import requests

from tests import example, processes

# In memory, so that nothing is left behind.
ENVIRONMENT = {
    "DATABASE_URL": "sqlite://:memory:",
    "EXAMPLARY_API_KEY": "examp_0123456789abcdefghijklmnopqrstuv",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--fail-level", "WARNING"],
        ["makemigrations", "courses", "--check", "--dry-run"],
        ["test", "courses"],
    ],
    ids=" ".join,
)
def test_command(arguments):
    code, said = example.run(*arguments, **ENVIRONMENT)

    assert code == 0, said


def test_demo():
    with example.demo() as address:
        answer = requests.get(f"{address}/admin/", timeout=processes.PATIENCE)

    assert "Northfield School" in answer.text


@pytest.mark.parametrize("option", ["--port", "--fake-port"])
def test_demo_says_that_a_port_is_taken(option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        others = {"--port": "0", "--fake-port": "0", option: port}
        code, said = example.run("demo", *(word for pair in others.items() for word in pair))

    assert code == 1
    assert f"Port {port} is not free" in said
    assert f"Choose another with {option}." in said
