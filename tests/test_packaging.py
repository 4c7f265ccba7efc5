from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest
import yaml

import django_examplary

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github/workflows"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOX = ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini")

# The tested pairs of Python and Django: {("3.11", "5.2"), ...}
MATRIX = {
    (f"3.{python}", f"{django[0]}.{django[1]}")
    for pythons, djangos in re.findall(r"py3\{(.+?)\}-django\{(.+?)\}", TOX["tox"]["labels"])
    for python, django in product(pythons.split(","), djangos.split(","))
}
PYTHONS = {python for python, _ in MATRIX}
DJANGOS = {django for _, django in MATRIX}


def oldest(versions: set[str]) -> str:
    return min(versions, key=lambda each: [int(part) for part in each.split(".")])


def classified(subject: str) -> set[str]:
    """Return the versions of a subject in the classifiers."""
    pattern = re.compile(rf"{subject} :: (\d+\.\d+)")
    return {match[1] for line in PROJECT["classifiers"] if (match := pattern.fullmatch(line))}


def test_dependencies():
    assert PROJECT["dependencies"] == [
        f"django>={oldest(DJANGOS)}",
        "django-environ>=0.11",
        "requests>=2.32.5",
    ]


def test_lowest_versions_are_tested():
    pinned = dict(re.findall(r"([\w-]+)==([\d.]+)", TOX["testenv:lowest"]["deps"]))

    for dependency in PROJECT["dependencies"]:
        name, _, floor = dependency.partition(">=")
        assert f"{pinned[name]}.".startswith(f"{floor}.")


def test_every_python_is_declared_and_tested():
    assert PROJECT["requires-python"] == f">={oldest(PYTHONS)}"
    assert classified("Programming Language :: Python") == PYTHONS


def test_every_django_is_declared_and_tested():
    assert classified("Framework :: Django") == DJANGOS


@pytest.mark.parametrize("django", sorted(DJANGOS))
def test_every_django_is_pinned(django):
    factor = "django" + django.replace(".", "")

    assert re.search(rf"{factor}: django>={django},<", TOX["testenv"]["deps"])


@pytest.mark.parametrize("django", ["5.2", "6.1"])
def test_default_environments_run_every_python(django):
    environment = TOX["testenv:django" + django.replace(".", "")]

    assert set(re.findall(r"python(3\.\d+)", environment["base_python"])) == {
        python for python, supported in MATRIX if supported == django
    }


def test_summary_names_the_environments_that_the_oldest_python_skips():
    summary = (ROOT / ".ci/summary.py").read_text()
    newer = TOX["testenv:django61"]["base_python"]
    names = TOX["tox"]["env_list"].split()
    pythons = {name: TOX[f"testenv:{name}"].get("base_python", "") for name in names}
    skipped = [
        name for name in names if pythons[name] in (newer, "{[testenv:django61]base_python}")
    ]

    assert f"{', '.join(skipped[:-1])} and {skipped[-1]} (" in summary


def test_actions_are_pinned_by_commit():
    """An attacker who controls an action can move its tags, but not its commits."""
    for workflow in WORKFLOWS.glob("*.yml"):
        for action in re.findall(r"uses: (\S+)", workflow.read_text()):
            assert re.search(r"^\./|@[0-9a-f]{40}$", action), action


def test_release_needs_the_tests():
    ci = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())
    release = yaml.safe_load((WORKFLOWS / "release.yml").read_text())

    # YAML parses the key "on" as a boolean.
    assert "workflow_call" in ci[True]
    assert release["jobs"]["tests"]["uses"] == "./.github/workflows/ci.yml"
    assert set(release["jobs"]["publish"]["needs"]) == {"tests", "build"}


def test_version_is_the_version_of_the_distribution():
    assert django_examplary.__version__ == version("django-examplary") == PROJECT["version"]


def test_copy_of_the_folder_needs_no_distribution(monkeypatch):
    def refuse(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", refuse)
    assert django_examplary.__version__ == "unknown"


def test_version_is_the_only_lazy_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'spam'"):
        django_examplary.spam  # noqa: B018  # reading it is the test


def test_package_is_typed():
    assert files("django_examplary").joinpath("py.typed").is_file()
