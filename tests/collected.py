"""Use an embed under Sentry or OpenTelemetry, and print the collected data.

Runs in its own process, because both change the interpreter. With the argument
"scrubbed" the scrubbers of the documentation are used. Prints JSON: the collected text, and the
secrets and tokens that existed meanwhile.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

KEY = "examp_CanaryCanaryCanaryCanaryCanary01"

os.environ["DATABASE_URL"] = "sqlite://:memory:"
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

Collected = Callable[[], str]


def read_scrubbers() -> dict[str, Any]:
    """Return the functions that the documentation shows."""
    page = Path(__file__).parents[1] / "docs/howto/monitoring.md"
    names: dict[str, Any] = {}
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(code, names)  # noqa: S102  # as its readers do
    return names


def start_sentry(scrubbers: dict[str, Any]) -> Collected:
    import sentry_sdk  # noqa: PLC0415  # each in a process without the other
    from sentry_sdk.transport import Transport  # noqa: PLC0415

    collected: list[str] = []

    class Keep(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            collected.extend(json.dumps(item.payload.json or {}) for item in envelope.items)

    sentry_sdk.init(
        dsn="https://public@localhost/1",
        transport=Keep,
        traces_sample_rate=1.0,
        send_default_pii=True,
        max_request_body_size="always",
        # Longer values would be cut, which could hide a secret.
        max_value_length=100_000,
        before_send=scrubbers.get("scrub_event"),
        before_send_transaction=scrubbers.get("scrub_event"),
    )
    return lambda: "\n".join(collected)


def start_opentelemetry(scrubbers: dict[str, Any]) -> Collected:
    from opentelemetry.instrumentation.django import DjangoInstrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.requests import RequestsInstrumentor  # noqa: PLC0415
    from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import (  # noqa: PLC0415
        InMemorySpanExporter,
    )

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for instrumentor in (RequestsInstrumentor(), URLLib3Instrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    hook = scrubbers.get("scrub_span")
    DjangoInstrumentor().instrument(tracer_provider=provider, request_hook=hook)
    return lambda: "\n".join(span.to_json() for span in exporter.get_finished_spans())


class TimeUp(Exception):
    """Like the error of task queues, which can interrupt any line of code."""


def fail_on_the_way_out(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        if "fail" in request.GET:
            raise ZeroDivisionError
        return response

    return middleware


def use_embeds(settings: Any, fake: Any) -> list[str]:
    """Return the signatures of the tokens in addresses and forms."""
    from django.contrib.auth.models import User  # noqa: PLC0415  # after django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import DataError, connection  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.urls import reverse  # noqa: PLC0415

    from django_examplary.flows import GenerateExam  # noqa: PLC0415
    from django_examplary.launch import (  # noqa: PLC0415
        Launch,
        one_time_options,
        sign_report,
        sign_return,
    )
    from django_examplary.models import ExamplarySession  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    teacher = User.objects.create_user("teacher", "teacher@school.example")
    client = Client(raise_request_exception=False)
    client.force_login(teacher)

    def wanted_of(number: int) -> Launch:
        return Launch(
            user_id=str(teacher.pk),
            flow=GenerateExam(),
            origin="http://testserver",
            nonce=str(number),
        )

    def launch(number: int, query: str = "") -> Any:
        wanted = wanted_of(number)
        url = reverse("django_examplary:launch", args=[wanted.sign()])
        return client.get(url + query), reverse("django_examplary:sync", args=[wanted.key])

    response, sync = launch(1)
    assert response.status_code == 302, response.content
    assert client.post(sync).status_code == 200
    # A middleware of the project fails while it holds the redirect.
    assert launch(1, "?fail")[0].status_code == 500
    # The time limit interrupts the reading of a response.
    with mock.patch(
        "django_examplary.client.transport._DeadlineReader.readinto", side_effect=TimeUp
    ):
        assert launch(2)[0].status_code == 500
        ExamplarySession.objects.update(asked_at=None)
        assert client.post(sync).status_code == 500

    def fail(error: Exception) -> Any:
        def wrapper(execute: Any, sql: str, *args: Any) -> Any:
            if "UPDATE" in sql and "embed_url" in sql:
                raise error
            return execute(sql, *args)

        return connection.execute_wrapper(wrapper)

    # The database or the time limit interrupts the storing of the session.
    for number, error in ((3, DataError("Failing row")), (4, TimeUp())):
        with fail(error):
            assert launch(number)[0].status_code in (500, 503)
    # The response is unusable, in a call by the site's own code.
    with mock.patch("django_examplary.services.opening._lifetime", side_effect=TimeUp):
        assert launch(5)[0].status_code == 500
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"flow": "edit-rubric"})
    assert launch(6)[0].status_code == 503
    fake.fail("GET", "/embed-sessions/{id}", status=500, times=None)
    ExamplarySession.objects.update(asked_at=None)
    assert client.post(sync).status_code == 503

    # Addresses and fields with tokens are in use when something fails.
    wanted = replace(wanted_of(7), **one_time_options(teacher))
    token, reported = wanted.sign(), sign_report(replace(wanted, nonce="1"))
    returned = sign_return(str(ExamplarySession.objects.latest("created_at").pk))
    visitor = Client(raise_request_exception=False)
    fake.fail("POST", "/embed-sessions", status=500)
    link = reverse("django_examplary:window", args=[token])
    launched = wanted_of(8).sign()
    assert visitor.get(link).status_code == 503
    failing = mock.patch("django_examplary.views.services.verify_session", side_effect=TimeUp)
    with failing:
        url = reverse("django_examplary:report-sync")
        assert visitor.post(url, {"token": reported}).status_code == 500
    with mock.patch("django_examplary.views._find_session", side_effect=TimeUp):
        url = reverse("django_examplary:return", args=[returned])
        assert client.get(url).status_code == 500
    with mock.patch("django_examplary.views.find_session", side_effect=TimeUp):
        assert visitor.get(link).status_code == 500
        url = reverse("django_examplary:launch", args=[launched])
        assert client.get(url).status_code == 500
    # Their signatures, since some collectors encode the colons.
    return [each.rpartition(":")[2] for each in (token, launched, reported, returned)]


def main(collector: str, *options: str) -> None:
    start = {"sentry": start_sentry, "opentelemetry": start_opentelemetry}[collector]
    collected = start(read_scrubbers() if "scrubbed" in options else {})

    import django  # noqa: PLC0415  # Sentry changes it
    from django.conf import settings  # noqa: PLC0415
    from django.test.utils import setup_test_environment  # noqa: PLC0415

    django.setup()
    from django_examplary.testing import FakeExamplary, serve  # noqa: PLC0415

    setup_test_environment(debug=True)
    with serve(FakeExamplary(api_key=KEY)) as server:
        settings.EXAMPLARY_API_KEY = KEY
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [server.url]
        settings.EXAMPLARY_MAX_RETRIES = 0
        settings.MIDDLEWARE = [f"{__name__}.fail_on_the_way_out", *settings.MIDDLEWARE]
        settings.LOGGING_CONFIG = None
        tokens = use_embeds(settings, server.fake)
        sessions = server.fake.sessions.values()
        secrets = [KEY, *(text for each in sessions for text in (each.id, each.token))]
    result = {"collected": collected(), "secrets": secrets, "tokens": tokens}
    print(json.dumps(result))  # noqa: T201  # for the test


main(*sys.argv[1:])
