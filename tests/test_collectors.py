"""Collectors of errors and traces receive neither the API key nor what opens a session."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests import processes


@pytest.mark.parametrize("collector", ["sentry", "opentelemetry"])
def test_collector_receives_no_secret(collector):
    command = [sys.executable, "-m", "tests.collected", collector]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        result = json.loads(processes.finish(process).splitlines()[-1])

    assert process.returncode == 0
    # It was at work, and saw the calls by the templates of their paths.
    assert "/embed-sessions/%7Bid%7D" in result["collected"]
    assert [text for text in result["secrets"] if text in result["collected"]] == []
    assert len(result["secrets"]) > 10
