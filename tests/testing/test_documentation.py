"""``docs/howto/testing.md`` lists the profiles, options and seeds of the testing kit."""

from __future__ import annotations

import re
from pathlib import Path

from django_examplary.testing import FakeExamplary
from django_examplary.testing.__main__ import _parser
from django_examplary.testing.answers import PROFILES
from django_examplary.testing.store import load

TEXT = (Path(__file__).parents[2] / "docs/howto/testing.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def first_cells(title: str) -> list[str]:
    rows = re.findall(r"^\| (`.*?) \|", section(title), re.MULTILINE)
    return [name for cell in rows for name in re.findall(r"`([^`]+)`", cell)]


def test_every_profile_is_listed():
    assert first_cells("Undocumented answers") == list(PROFILES)


def test_every_option_is_listed():
    options = {action.option_strings[0] for action in _parser()._actions if action.dest != "help"}
    assert set(first_cells("The fake on its own")) == options


def test_seed_can_be_loaded(tmp_path):
    [seed] = re.findall(r"```json\n(.*?)```", section("The fake on its own"), re.DOTALL)
    path = tmp_path / "seed.json"
    path.write_text(seed)
    fake = FakeExamplary()
    load(fake, path)
    assert fake.exams["exam_1"]["name"] == "Fractions"
    assert fake.role_of("user_tea", "exam_1") == "editor"
    assert len(fake.workspaces) == 2
