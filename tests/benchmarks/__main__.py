"""Run all benchmarks: ``python -m tests.benchmarks``.

Each result is a ratio of two variants that took turns in the same run, followed by their medians.
DATABASE_URL selects the database, except for the three benchmarks of databases. Those use
POSTGRESQL_URL, and are skipped without it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import django

BENCHMARKS = (
    "pages",
    "launches",
    "client",
    "bulk",
    "sweep",
    "startup",
    "growth",
    "admin",
    "asgi",
    "load",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="benchmark", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", type=Path, help="a file to write the results to")
    options = parser.parse_args()
    results = []
    for name in options.names or BENCHMARKS:
        for environment in environments(name):
            results += run(name, environment)
    machine = {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "django": django.__version__,
    }
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2))
    sys.stdout.write("\n" + table(results) + "\n\n")
    sys.stdout.write(", ".join(f"{name} {value}" for name, value in machine.items()) + "\n")
    return 0 if all(is_met(result) for result in results) else 1


def environments(name: str) -> list[dict[str, str]]:
    """Return the environments of a benchmark: one for each database."""
    postgresql = os.environ.get("POSTGRESQL_URL")
    on_postgresql = [{"DATABASE_URL": postgresql}] if postgresql else []
    if name == "load":
        return on_postgresql
    return [{}, *on_postgresql] if name in ("growth", "admin") else [{}]


def run(name: str, environment: dict[str, str]) -> list[dict[str, Any]]:
    sys.stderr.write(f"{name}…\n")
    command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
    said = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    lines = [json.loads(line) for line in said.splitlines()]
    return [from_bulk(line) for line in lines] if name == "bulk" else lines


def from_bulk(line: dict[str, Any]) -> dict[str, Any]:
    """Convert a result of the bulk benchmark, which has different fields."""
    threads = line["concurrency"]
    return {
        "what": f"bulk, {threads} threads / the shortest time possible",
        "value": line["times_the_shortest"],
        "goal": "<= 1.15" if threads == 32 else "",
        **line,
    }


def is_met(result: dict[str, Any]) -> bool:
    if not result["goal"]:
        return True
    sign, _, bound = result["goal"].partition(" ")
    value = result["value"]
    return bool(value <= float(bound) if sign == "<=" else value >= float(bound))


def table(results: list[dict[str, Any]]) -> str:
    rows = [("what", "measured", "goal", "")]
    for result in results:
        met = "" if not result["goal"] else "met" if is_met(result) else "MISSED"
        rows.append((result["what"], f"{result['value']:.2f}", result["goal"], met))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join([lines[0], "-|-".join("-" * width for width in widths), *lines[1:]])


if __name__ == "__main__":
    sys.exit(main())
