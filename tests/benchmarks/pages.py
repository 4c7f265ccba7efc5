"""Compare pages with the tag to the same page without it."""

from __future__ import annotations

import functools

from tests.benchmarks.measuring import interleave, report, report_ratio
from tests.benchmarks.site import Visitor, site
from tests.chaos.stub import serve_stub

LATENCY = 0.1


def main() -> None:
    with serve_stub(LATENCY) as stub, site(stub.url):
        from django.contrib.auth.models import User  # noqa: PLC0415  # after django.setup()

        visitor = Visitor()
        User.objects.bulk_create(
            User(username=f"user-{number}", first_name="Pupil", last_name=f"No. {number}")
            for number in range(25)
        )
        queries = visitor.queries("/with/") - visitor.queries("/without/")
        for what, query, goal in (
            ("page", "", "<= 1.25"),
            ("page with a list of 25 rows", "rows", "<= 1.10"),
        ):
            timings = interleave(
                {
                    "with": functools.partial(visitor.page, "/with/", query),
                    "without": functools.partial(visitor.page, "/without/", query),
                },
                rounds=100,
                calls=10,
            )
            report_ratio(
                f"{what} with the tag / without",
                timings["with"],
                timings["without"],
                goal=goal,
            )
        report("queries that the tag adds", queries, goal="<= 0")
        report("HTTP calls that the tag makes", stub.requests(), goal="<= 0")
        for number, size in enumerate(visitor.embed_sizes("/with/"), start=1):
            report(f"bytes of HTML of embed {number} on a page", size, goal="<= 2048")


if __name__ == "__main__":
    main()
