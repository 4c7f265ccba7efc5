"""Use an embed while Sentry or OpenTelemetry collects, and print what they have collected.

A process of its own, because both change the interpreter that they run in. Prints JSON: the
collected text, and the secrets that existed meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from unittest import mock

KEY = "examp_CanaryCanaryCanaryCanaryCanary01"

os.environ["DATABASE_URL"] = "sqlite://:memory:"
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"

Collected = Callable[[], str]


def start_sentry() -> Collected:
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
        # Longer values would be cut, and a secret behind the cut not be found.
        max_value_length=100_000,
    )
    return lambda: "\n".join(collected)


def start_opentelemetry() -> Collected:
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
    return lambda: "\n".join(span.to_json() for span in exporter.get_finished_spans())


class TimeUp(Exception):
    """As task queues raise it, wherever the code is at that moment."""


def fail_on_the_way_out(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        if "fail" in request.GET:
            raise ZeroDivisionError
        return response

    return middleware


def use_embeds(settings: Any, fake: Any) -> None:
    from django.contrib.auth.models import User  # noqa: PLC0415  # after django.setup()
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import DataError, connection  # noqa: PLC0415
    from django.test import Client  # noqa: PLC0415
    from django.urls import reverse  # noqa: PLC0415

    from django_examplary.flows import GenerateExam  # noqa: PLC0415
    from django_examplary.launch import Launch  # noqa: PLC0415
    from django_examplary.models import ExamplarySession  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    teacher = User.objects.create_user("teacher", "teacher@school.example")
    client = Client(raise_request_exception=False)
    client.force_login(teacher)

    def launch(number: int, query: str = "") -> Any:
        wanted = Launch(
            user_id=str(teacher.pk),
            flow=GenerateExam(),
            origin="http://testserver",
            nonce=str(number),
        )
        url = reverse("django_examplary:launch", args=[wanted.sign()])
        return client.get(url + query), reverse("django_examplary:sync", args=[wanted.key])

    response, sync = launch(1)
    assert response.status_code == 302, response.content
    assert client.post(sync).status_code == 200
    # A middleware of the project fails while it holds the redirect.
    assert launch(1, "?fail")[0].status_code == 500
    # The time is up while the bytes of an answer are read.
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

    # The database fails, or the time is up, while the session is stored.
    for number, error in ((3, DataError("Failing row")), (4, TimeUp())):
        with fail(error):
            assert launch(number)[0].status_code in (500, 503)
    # The answer cannot be used, and the site's own code calls the service.
    with mock.patch("django_examplary.services.opening._expiry", side_effect=TimeUp):
        assert launch(5)[0].status_code == 500
    fake.fail("POST", "/embed-sessions", edit=lambda body: body | {"flow": "edit-rubric"})
    assert launch(6)[0].status_code == 503
    fake.fail("GET", "/embed-sessions/{id}", status=500, times=None)
    ExamplarySession.objects.update(asked_at=None)
    assert client.post(sync).status_code == 503


def main(collector: str) -> None:
    start = {"sentry": start_sentry, "opentelemetry": start_opentelemetry}[collector]
    collected = start()

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
        use_embeds(settings, server.fake)
        sessions = server.fake.sessions.values()
        secrets = [KEY, *(text for each in sessions for text in (each.id, each.token))]
    print(json.dumps({"collected": collected(), "secrets": secrets}))  # noqa: T201  # for the test


main(sys.argv[1])
