"""Constructions that are hard to read are rare in the documentation and in the code.

`python -m tests.test_words` prints the rates.
"""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# The contract quotes its sources, and the log of measurements has its own style.
EXEMPT = {"docs/maintainers/api.md", "docs/maintainers/performance.md"}
PAGES = [
    page
    for pattern in ("*.md", ".github/**/*.md", "docs/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page.relative_to(ROOT).as_posix() not in EXEMPT
]

# By name, because other folders contain installed packages.
FOLDERS = (".ci", "django_examplary", "example_project", "tests")
MODULES = [
    module
    for folder in FOLDERS
    for module in sorted(ROOT.glob(f"{folder}/**/*.py"))
    if module != Path(__file__)
]
CATALOGUES = [
    catalogue
    for folder in FOLDERS
    for catalogue in sorted(ROOT.glob(f"{folder}/**/nl/LC_MESSAGES/django.po"))
]
TEXTS_OF_THE_FAKE = ROOT / "django_examplary/testing/texts.json"
#: The comments of other files; each match is a comment, or the lines of one.
SLASHES = r"/\*.*?\*/|(?:^[ \t]*//[^\n]*\n)+|[ \t]// [^\n]*"
HASHES = r"(?:^[ \t]*#[^\n]*\n)+|[ \t]# [^\n]*"
TEMPLATE_COMMENTS = r"\{#.*?#\}|\{% comment.*?%\}.*?\{% endcomment %\}|<!--.*?-->"
COMMENTS = {
    "django_examplary/static/**/*.*s": SLASHES,
    "django_examplary/testing/templates/*.*s": SLASHES,
    "example_project/**/*.css": SLASHES,
    "docs/*.css": SLASHES,
    "django_examplary/**/*.html": TEMPLATE_COMMENTS,
    "example_project/**/*.html": TEMPLATE_COMMENTS,
    "tests/**/*.html": TEMPLATE_COMMENTS,
    "*.toml": HASHES,
    "tests/**/*.toml": HASHES,
    "*.yml": HASHES,
    ".github/**/*.yml": HASHES,
    "tox.ini": rf"{HASHES}|^description = [^\n]*",
    ".ci/run": HASHES,
}
MARKS = r"^[ \t]*(?:#|//|/?\*+/?|description =)|\*/|[{]#|#[}]|\{%.*?%\}|<!--|-->"

#: The patterns by name.
CONSTRUCTIONS = {
    "clauses without a noun": (
        r"\b(?:of|to|for|and|with|than|says|by|at) (?:what|whatever|whoever|who) |"
        r"(?:^|[.:;,] )what (?:is|was|it|they|you)\b|\bwho has\b|\bis what\b"
    ),
    "begins with What": r"^(?:What|Whatever|Who|Whoever|Whom|Of|Nor|That which)\b(?!.*\?$)",
    "nobody": r"\b(?:nobody|somebody|anybody|whoever|everybody)\b",
    "says": r"\b(?:says|said|is told|are told|tells)\b",
    "old turns": r"\b(?:but for|be it|for ever|all the same|by then|in vain|anew|alike)\b",
    "idioms": (
        r"\b(?:holds? up|held up|hand(?:s|ed|ing)? out|go(?:es)? on|asked about|called about|"
        r"so many|sooner or later|in earnest|in the end)\b"
    ),
}
#: The maximum of each in 1,000 sentences.
LIMITS = {
    "pages": (5, 2, 1, 3, 1, 1),
    "messages": (5, 2, 1, 3, 1, 1),
    "docstrings": (5, 2, 1, 3, 1, 1),
    "comments": (5, 2, 1, 3, 1, 1),
    "test names": (5, 2, 1, 3, 1, 1),
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


def docstrings(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def comments(source: str) -> Iterator[str]:
    """Return each comment; the lines of a block are one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = [each for each in tokens if each.type == tokenize.COMMENT]
    lines = [re.sub(r"^#:? ?|(?:noqa|pragma|type):.*", "", each.string) for each in found]
    text = "".join(lines[:1])
    for (above, below), line in zip(pairwise(found), lines[1:], strict=True):
        follows = (below.start[0], below.start[1]) == (above.start[0] + 1, above.start[1])
        text += f"\n{line}" if follows else f"\n\n{line}"
    yield text


def find_comments(source: str, pattern: str) -> Iterator[str]:
    for each in re.findall(pattern, source, re.DOTALL | re.MULTILINE):
        yield re.sub(MARKS, "", each, flags=re.MULTILINE)


def strings(nodes: list[ast.AST]) -> Iterator[str]:
    """Return the strings that are not docstrings, such as errors and log lines."""
    skipped = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in node.values}
            parts = [str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values]
            yield "".join(parts)
        elif isinstance(node, ast.Constant) and id(node) not in skipped and " " in str(node.value):
            yield str(node.value)


def names_of_tests(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = re.match(r"test_(\w)(\w*)", node.name)
            if name:
                yield f"{name[1].upper()}{name[2]}".replace("_", " ")


def messages(catalogue: str) -> Iterator[str]:
    for quoted in re.findall(r'^msgid(?:_plural)? ((?:".*"\s)+)', catalogue, re.MULTILINE):
        yield "".join(ast.literal_eval(each) for each in quoted.splitlines())


def collect() -> dict[str, list[tuple[str, str]]]:
    """Return the sentences of each kind with their files."""
    found: dict[str, list[tuple[str, str]]] = {kind: [] for kind in LIMITS}

    def add(kind: str, path: Path, texts: Iterator[str]) -> None:
        name = path.relative_to(ROOT).as_posix()
        found[kind] += [(name, each) for text in texts for each in sentences(text)]

    for page in PAGES:
        add("pages", page, iter([page.read_text(encoding="utf-8")]))
    for catalogue in CATALOGUES:
        add("messages", catalogue, messages(catalogue.read_text(encoding="utf-8")))
    for text in json.loads(TEXTS_OF_THE_FAKE.read_text(encoding="utf-8")).values():
        add("messages", TEXTS_OF_THE_FAKE, iter([text["en"]]))
    for pattern, comment in COMMENTS.items():
        for path in sorted(ROOT.glob(pattern)):
            add("comments", path, find_comments(path.read_text(encoding="utf-8"), comment))
    for module in MODULES:
        source = module.read_text(encoding="utf-8")
        nodes = list(ast.walk(ast.parse(source)))
        add("docstrings", module, docstrings(nodes))
        add("comments", module, comments(source))
        add("test names", module, names_of_tests(nodes))
        if module.parts[len(ROOT.parts)] != "tests":
            add("messages", module, strings(nodes))
    return found


def main(collected: dict[str, list[tuple[str, str]]]) -> int:
    """Print the rates and the sentences; return whether a rate is too high."""
    failed = False
    for kind, limits in LIMITS.items():
        for (name, pattern), limit in zip(CONSTRUCTIONS.items(), limits, strict=True):
            flags = 0 if name == "begins with What" else re.IGNORECASE
            hits = [each for each in collected[kind] if re.search(pattern, each[1], flags)]
            rate = len(hits) * 1000 / len(collected[kind])
            failed |= rate > limit
            print(f"{kind}, {name}: {rate:.1f} of at most {limit}")  # noqa: T201
            for path, sentence in hits:
                print(f"    {path}: {sentence[:140]}")  # noqa: T201
    return int(failed)


def test_hard_constructions_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    collected = collect()

    formats = {Path(path).suffix for path, _ in collected["comments"]}
    assert formats == {"", ".css", ".html", ".ini", ".js", ".py", ".toml", ".ts", ".yml"}
    assert main(collected) == 0, capsys.readouterr().out


@pytest.mark.parametrize("kind", LIMITS)
def test_hard_constructions_are_reported(kind: str) -> None:
    easy = {each: [("a.md", "Users see a link.")] for each in LIMITS}

    assert main(easy) == 0
    assert main({**easy, kind: [("a.md", "What it does, nobody says.")]}) == 1


@pytest.mark.parametrize(
    ("source", "pattern"),
    [
        ("a = 1; // One.\n  // Two\n  // lines.\n", SLASHES),
        ("/** One. */ a /* Two\n * lines. */", SLASHES),
        ("[a]\nb = 1 # One.\n# Two\n# lines.\nc = 2", HASHES),
        (
            "{# One. #}a{% comment %}Two\nlines.{% endcomment %}",
            TEMPLATE_COMMENTS,
        ),
        ("description = One.\ncommands =\n# Two\n# lines.\n", COMMENTS["tox.ini"]),
    ],
)
def test_comments_are_separated_from_code(source: str, pattern: str) -> None:
    found = [" ".join(each.split()) for each in find_comments(source, pattern)]

    assert found == ["One.", "Two lines."]


def test_messages_are_read_from_strings_and_not_from_docstrings():
    tree = ast.parse('"""A module."""\nlog("One of %s", f"{a} is two", "three")')

    assert list(strings([*ast.walk(tree)])) == ["One of %s", "… is two"]


if __name__ == "__main__":  # pragma: no cover
    sys.exit(main(collect()))
