"""Measure whether launches that wait for a slow API delay other requests, under uvicorn."""

from __future__ import annotations

import http.client
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.measuring import report
from tests.benchmarks.site import Visitor, launch_path, site
from tests.chaos.stub import serve_stub

LATENCY = 2.0
LAUNCHES = 32


def main() -> None:
    with serve_stub(LATENCY) as stub, site(stub.url):
        from tests.asgi import serve_site  # noqa: PLC0415  # after django.setup()

        visitors = [Visitor(f"visitor-{number}") for number in range(LAUNCHES)]
        with serve_site() as port, ThreadPoolExecutor(LAUNCHES) as pool:

            def get(visitor: Visitor, path: str) -> float:
                started = time.perf_counter()
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                headers = {"Cookie": visitor.cookie_header, "Sec-Fetch-Dest": "iframe"}
                connection.request("GET", path, headers=headers)
                connection.getresponse().read()
                connection.close()
                return time.perf_counter() - started

            def pages() -> list[float]:
                return [get(visitors[0], "/without/") for _ in range(50)]

            pages()
            alone = pages()
            launches = [
                pool.submit(get, visitor, launch_path(visitor.user)) for visitor in visitors
            ]
            # Until all of them wait.
            time.sleep(1.0)
            beside = pages()
            waited = [launch.result() for launch in launches]
        report(
            f"a page beside {LAUNCHES} launches that wait {LATENCY:g} s a call / alone, uvicorn",
            statistics.median(beside) / statistics.median(alone),
            ms=[round(statistics.median(each) * 1000, 1) for each in (beside, alone)],
            slowest_ms=[round(max(each) * 1000, 1) for each in (beside, alone)],
            launch_seconds=round(statistics.median(waited), 2),
        )


if __name__ == "__main__":
    main()
