"""Pages with the tag: against the same page without it, and against the plain integration."""

from __future__ import annotations

import functools

from tests.benchmarks.measuring import interleave, ratio, report, report_ratio
from tests.benchmarks.site import Visitor, site
from tests.benchmarks.stub import serve_stub

LATENCY = 0.1


def main() -> None:
    with serve_stub(LATENCY) as stub, site(stub.url):
        from django.contrib.auth.models import User  # noqa: PLC0415  # after django.setup()

        from django_examplary.models import ExamplaryActor  # noqa: PLC0415

        visitor = Visitor()
        User.objects.bulk_create(
            User(username=f"user-{number}", first_name="Pupil", last_name=f"No. {number}")
            for number in range(25)
        )
        queries = visitor.queries("/with/") - visitor.queries("/without/")
        for what, query in (("page", ""), ("page with a list of 25 rows", "rows")):
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
                goal="<= 1.1",
            )
        report("queries that the tag adds", queries, goal="<= 0")
        report("HTTP calls that the tag makes", stub.requests(), goal="<= 0")

        def plain_first_visit() -> None:
            ExamplaryActor.objects.all().delete()
            visitor.page("/plain/")

        timings = interleave(
            {
                "with": lambda: visitor.page("/with/"),
                "without": lambda: visitor.page("/without/"),
                "first visits": plain_first_visit,
                # After the others, so that the user is known.
                "known users": lambda: visitor.page("/plain/"),
            },
            rounds=7,
            calls=10,
        )
        for users in ("known users", "first visits"):
            report(
                f"page views a second / plain integration, {users}",
                ratio(timings[users].wall, timings["with"].wall),
                goal=">= 100",
                # No page can be faster than the one without any embed.
                limit=round(ratio(timings[users].wall, timings["without"].wall), 1),
                per_second=[timings["with"].per_second, timings[users].per_second],
            )


if __name__ == "__main__":
    main()
