"""The words of the documentation: constructions that are hard to read stay rare.

`python -m tests.test_words` prints the rates.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The contract quotes its sources, and the log of measurements has a form of its own.
EXEMPT = {"docs/maintainers/api.md", "docs/maintainers/performance.md"}
PAGES = [
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/**/*.md")))
    if page.relative_to(ROOT).as_posix() not in EXEMPT
]

#: Each construction, and how often it may occur in 1,000 sentences.
LIMITS = {
    "clauses without a noun": (
        r"\b(?:of|to|for|and|with|than|says|by|at) (?:what|whatever|whoever|who) |"
        r"(?:^|[.:;,] )what (?:is|was|it|they|you)\b|\bwho has\b|\bis what\b",
        5,
    ),
    "begins with What": (r"^(?:What|Whatever|Who|Whoever|Whom|Of|Nor|That which)\b(?!.*\?$)", 2),
    "nobody": (r"\b(?:nobody|somebody|anybody|whoever|everybody)\b", 1),
    "says": (r"\b(?:says|said|is told|are told|tells)\b", 3),
    "old turns": (r"\b(?:but for|be it|for ever|all the same|by then|in vain|anew|alike)\b", 1),
}


def sentences(text: str) -> list[str]:
    """Return the sentences of a page, without its code."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(
        r"^:::.*\n(?:    .*\n)*|^#.*$|^\|[ |-]+\|$|<!--.*?-->", "", text, flags=re.MULTILINE
    )
    text = re.sub(r"\]\([^)]*\)|[\[`*]", "", text)
    # A blank line, a list item and a cell end a sentence too.
    parts = re.split(r"\n\s*\n|\n\s*[-\d.]+ +|\n?\|", text)
    lines = [" ".join(part.split()) for part in parts]
    return [each for line in lines for each in re.split(r"(?<=[.!?]) +(?=[A-Z`])", line) if each]


SENTENCES = [
    (page.relative_to(ROOT).as_posix(), sentence)
    for page in PAGES
    for sentence in sentences(page.read_text(encoding="utf-8"))
]


def find(name: str) -> list[tuple[str, str]]:
    pattern = re.compile(LIMITS[name][0], re.IGNORECASE if name != "begins with What" else 0)
    return [each for each in SENTENCES if pattern.search(each[1])]


def main() -> int:
    """Print the rates and the sentences; return whether a rate is too high."""
    failed = False
    for name, (_, limit) in LIMITS.items():
        hits = find(name)
        rate = len(hits) * 1000 / len(SENTENCES)
        failed |= rate > limit
        print(f"{name}: {rate:.1f} of at most {limit}")  # noqa: T201
        for page, sentence in hits:
            print(f"    {page}: {sentence[:140]}")  # noqa: T201
    return int(failed)


def test_hard_constructions_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0, capsys.readouterr().out


def test_hard_constructions_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [("a.md", "What it does, nobody says.")]
    monkeypatch.setattr(sys.modules[__name__], "SENTENCES", sentences)

    assert main() == 1


if __name__ == "__main__":  # pragma: no cover
    sys.exit(main())
