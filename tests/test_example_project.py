from __future__ import annotations

import json
import re
import socket
import sqlite3

import pytest
import requests

from tests import example, processes

# In memory, so that no files remain.
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
    code, output = example.run(*arguments, **ENVIRONMENT)

    assert code == 0, output


def test_demo_keeps_its_data_in_a_store(tmp_path):
    seed, store = tmp_path / "seed.json", tmp_path / "store"
    seed.write_text('{"exams": [{"id": "exam_1", "name": "Algebra"}]}')
    with example.demo("--noreload", "--seed", str(seed), "--store", str(store)):
        database = sqlite3.connect(store / "db.sqlite3")
        with database:
            database.execute("UPDATE courses_exam SET name = 'Renamed'")
    with example.demo("--noreload", "--store", str(store)):
        names = database.execute("SELECT name FROM courses_exam").fetchall()
    database.close()

    assert names == [("Renamed",)]
    assert [exam["name"] for exam in read_exams(store)] == ["Algebra"]


def read_exams(store):
    return json.loads((store / "examplary.json").read_text())["exams"]


def test_demo_reports_an_unusable_seed():
    code, output = example.run("demo", "--seed", "missing.json", "--port", "0", "--fake-port", "0")

    assert code == 1
    assert "--seed or --store can't be used: missing.json" in output


def test_demo_of_two_schools():
    """A teacher of each school downloads an exam from the workspace of the school."""
    with example.demo(SOUTHFIELD_API_KEY="examp_south") as address:
        answer = requests.get(f"{address}/admin/", timeout=processes.PATIENCE)
        assert "Northfield School" in answer.text
        for username, exam in (("rosa", 1), ("teacher", 2)):
            page = f"{address}/exams/{exam}/qti3/"
            with requests.Session() as visitor:
                form = visitor.get(page, timeout=processes.PATIENCE).text
                [token] = set(re.findall(r'csrfmiddlewaretoken" value="(\w+)"', form))
                data = {"username": username, "password": "demo", "csrfmiddlewaretoken": token}
                visitor.post(f"{address}/sign-in/", data, timeout=processes.PATIENCE)
                answer = visitor.get(page, timeout=processes.PATIENCE)

            assert answer.headers["Content-Type"] == "application/zip", answer.text


@pytest.mark.parametrize("option", ["--port", "--fake-port"])
def test_demo_reports_a_port_in_use(option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        others = {"--port": "0", "--fake-port": "0", option: port}
        code, output = example.run("demo", *(word for pair in others.items() for word in pair))

    assert code == 1
    assert f"Port {port} is not free" in output
    assert f"Choose another with {option}." in output
