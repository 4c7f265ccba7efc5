"""Collectors of errors and traces receive neither the API key nor session ids and URLs."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests import processes

COLLECTORS = [
    "sentry",
    pytest.param(
        "opentelemetry",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("opentelemetry.instrumentation.django") is None,
            reason="opentelemetry-instrumentation-django is not installed",
        ),
    ),
]


def collect(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.collected", *arguments]
    environment = {**os.environ}
    if arguments[1:]:
        # The other runs cover no more lines, and coverage nearly doubles their time.
        environment |= processes.COVERAGE
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        result: dict[str, Any] = json.loads(processes.finish(process).splitlines()[-1])
    assert process.returncode == 0
    # The collector was active, and received the path templates of the calls.
    assert "/embed-sessions/%7Bid%7D" in result["collected"]
    return result


@pytest.mark.parametrize("collector", COLLECTORS)
def test_collector_receives_no_secret(collector):
    """Tokens in URLs are removed by the scrubbers of the documentation."""
    before = collect(collector)
    after = collect(collector, "scrubbed")

    assert [text for text in before["secrets"] if text in before["collected"]] == []
    assert len(before["secrets"]) > 10
    found = [text for text in before["tokens"] if text in before["collected"]]
    # Only tokens in URLs: spans have no body, and Sentry filters a field with this name.
    assert len(found) == 3
    assert [text for text in after["tokens"] if text in after["collected"]] == []
    assert "[Filtered]" in after["collected"]
