"""The cost of the client: CPU per call, compared with a bare pooled `requests.Session`."""

from __future__ import annotations

from typing import Any

import requests

from tests.benchmarks.measuring import interleave, ratio, report
from tests.chaos.stub import serve_stub

BODY: dict[str, Any] = {
    "flow": "generate-exam",
    "actor": "user_1",
    "presets": {"subject": "Mathematics"},
    "allowedOrigin": "https://school.example",
}


def main() -> None:
    from django_examplary.client import ExamplaryClient  # noqa: PLC0415  # needs no settings

    with serve_stub() as stub, ExamplaryClient("examp_0", base_url=stub.url) as client:
        pool = requests.Session()
        pool.headers["Authorization"] = "Bearer examp_0"

        def ours() -> None:
            client.create_embed_session(
                flow="generate-exam",
                actor="user_1",
                presets={"subject": "Mathematics"},
                allowed_origin="https://school.example",
            )

        def bare() -> None:
            answer = pool.post(f"{stub.url}/embed-sessions", json=BODY, timeout=10)
            answer.raise_for_status()
            answer.json()

        timings = interleave({"ours": ours, "bare": bare}, rounds=60, calls=20)
        report(
            "CPU of a client call / a bare pooled session",
            ratio(timings["ours"].cpu, timings["bare"].cpu),
            goal="<= 1.2",
            cpu_ms=[timings["ours"].cpu_ms, timings["bare"].cpu_ms],
        )


if __name__ == "__main__":
    main()
