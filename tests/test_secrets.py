"""Use unique secrets, and search for them in all outputs: API key, embed URL, session id."""

from __future__ import annotations

import logging
import sys
from io import StringIO

import pytest
from django.contrib.auth import get_user_model
from django.core.cache import cache
from django.core.management import call_command
from django.core.signals import got_request_exception
from django.db import DataError, IntegrityError, OperationalError
from django.test import override_settings
from django.urls import reverse
from django.utils.crypto import get_random_string
from django.views.debug import ExceptionReporter

from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryDatabaseError,
    ExamplaryError,
)
from django_examplary.flows import GenerateExam
from django_examplary.launch import Launch
from django_examplary.models import ExamplarySession
from django_examplary.testing import FakeExamplary, serve
from tests import wire

pytestmark = pytest.mark.django_db

KEY = "examp_CanaryCanaryCanaryCanaryCanary01"
BROKEN_KEY = f"{KEY}\n"
ORIGIN = "https://school.example"
UNTRUSTED = f"https://evil.example/{get_random_string(40)}"


@pytest.fixture
def fake(settings):
    """A fake Examplary with a unique key."""
    with serve(FakeExamplary(api_key=KEY)) as server:
        settings.EXAMPLARY_API_KEY = KEY
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [server.url]
        settings.EXAMPLARY_MAX_RETRIES = 0
        settings.DEBUG = True  # Allows embeds over http.
        yield server.fake


@pytest.fixture
def session(fake, teacher):
    return services.open_session(teacher, GenerateExam(), origin=ORIGIN)


def assert_clean(text, fake):
    """Assert that the text contains none of the current secrets."""
    assert KEY not in text
    for session in fake.sessions.values():
        assert session.token not in text
        assert session.id not in text


def report_on(error_type):
    """Return the report that Django mails to the admins, as text and HTML."""
    _, error, traceback = sys.exc_info()
    assert isinstance(error, error_type)
    with override_settings(DEBUG=False):
        reporter = ExceptionReporter(None, error_type, error, traceback)
        return reporter.get_traceback_html() + reporter.get_traceback_text()


FAULTS = {
    "refused": {"status": 400, "times": 2},
    "unauthorised": {"status": 401},
    "server error": {"status": 500, "before": False},
    "closed": {"transport": "close"},
    "cut": {"transport": wire.TRUNCATE},
    "garbage": {**wire.GARBAGE, "before": False},
    "no id": {"edit": lambda body: body | {"id": 7}},
    "foreign flow": {"edit": lambda body: body | {"flow": "edit-rubric"}},
    "foreign embed": {"edit": lambda body: body | {"embedUrl": UNTRUSTED}},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_error_report_of_an_opening_holds_no_secret(fake, teacher, caplog, fault):
    services.provision_actor(teacher)
    fake.fail("POST", "/embed-sessions", **FAULTS[fault])
    caplog.set_level(logging.DEBUG)
    try:
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    except ExamplaryError as error:
        report = report_on(type(error)) + str(error) + repr(error)
    assert_clean(report, fake)
    assert UNTRUSTED not in report
    assert_clean(caplog.text, fake)


@pytest.mark.parametrize(
    "fault", ["refused", "unauthorised", "server error", "closed", "cut", "garbage", "no id"]
)
def test_error_report_of_a_provisioning_holds_no_secret(fake, teacher, caplog, fault):
    fake.fail("POST", "/users", **FAULTS[fault])
    caplog.set_level(logging.DEBUG)
    try:
        services.provision_actor(teacher)
    except ExamplaryError as error:
        report = report_on(type(error)) + str(error) + repr(error)
    assert_clean(report, fake)
    assert_clean(caplog.text, fake)
    assert teacher.email not in str(error_text(report)) + caplog.text


def error_text(report):
    """Return the error itself, without the variables in the report."""
    return report.partition("Exception Value:")[2].partition("Raised during")[0]


def test_error_report_of_a_bug_in_the_transport_holds_no_secret(fake, session, monkeypatch):
    """During a call, frames hold the key."""
    monkeypatch.setattr(
        "django_examplary.client.transport._DeadlineReader.readinto", lambda self, buffer: 1 / 0
    )
    try:
        services.verify_session(session)
    except ZeroDivisionError as error:
        report = report_on(type(error))
    assert_clean(report, fake)


@pytest.mark.parametrize(
    "fault", ["refused", "server error", "closed", "cut", "garbage", "no id", "foreign flow"]
)
def test_error_report_of_a_verification_holds_no_secret(fake, session, caplog, fault):
    fake.fail("GET", "/embed-sessions/{id}", **FAULTS[fault])
    caplog.set_level(logging.DEBUG)
    try:
        services.verify_session(session)
    except ExamplaryError as error:
        report = report_on(type(error)) + str(error) + repr(error)
    assert_clean(report, fake)
    assert_clean(caplog.text, fake)


def test_error_report_of_a_bug_in_the_services_holds_no_secret(fake, teacher, monkeypatch):
    """The exception is raised in a frame that holds the secrets."""
    monkeypatch.setattr("django_examplary.services.opening._lifetime", lambda remote: 1 / 0)
    try:
        services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    except ZeroDivisionError as error:
        report = report_on(type(error))
    assert_clean(report, fake)


@pytest.mark.parametrize(
    "error", [DataError("Failing row"), OperationalError("disk full"), IntegrityError("NOT NULL")]
)
def test_error_report_of_a_session_that_cannot_be_stored_holds_no_secret(
    fake, teacher, before_query, caplog, error
):
    """The frames of the ORM hold the row with its embed URL and remote id."""
    services.provision_actor(teacher)

    def fail():
        raise error

    with before_query(fail, "UPDATE", "embed_url", times=6):
        try:
            services.open_session(teacher, GenerateExam(), origin=ORIGIN)
        except ExamplaryDatabaseError as caught:
            report = report_on(type(caught)) + str(caught) + repr(caught)
    assert_clean(report + caplog.text, fake)
    [remote] = fake.sessions.values()
    assert remote.revoked


def fail_on_the_way_out(get_response):
    def middleware(request):
        response = get_response(request)
        assert response.status_code == 302
        raise ZeroDivisionError

    return middleware


def test_error_report_of_a_middleware_holds_no_secret(fake, client, teacher, settings):
    """The frames of the middleware hold the redirect to the embed."""
    reports = []

    def receiver(**kwargs):
        reports.append(report_on(ZeroDivisionError))

    settings.MIDDLEWARE = [f"{__name__}.fail_on_the_way_out", *settings.MIDDLEWARE]
    client.force_login(teacher)
    client.raise_request_exception = False
    launch = Launch(user_id=str(teacher.pk), flow=GenerateExam(), origin=ORIGIN)
    got_request_exception.connect(receiver)
    try:
        client.get(reverse("django_examplary:launch", args=[launch.sign()]))
    finally:
        got_request_exception.disconnect(receiver)
    [report] = reports
    assert "response" in report
    assert_clean(report, fake)


def test_invalid_key_is_not_in_the_error_report(settings):
    settings.EXAMPLARY_API_KEY = f"{KEY} {KEY}"
    for use in (lambda: ExamplaryClient(BROKEN_KEY), services.get_client):
        try:
            use()
        except ExamplaryConfigurationError as error:
            report = report_on(type(error)) + str(error)
        assert KEY not in report


def test_complete_run_leaks_no_secret(
    fake, client, admin_client, teacher, student, caplog, settings
):
    caplog.set_level(logging.DEBUG)
    seen = StringIO()
    client.force_login(teacher)
    page = client.get("/embed/").content.decode()
    seen.write(page)
    launch = page.split('src="')[1].split('"')[0]
    key = page.split('data-key="')[1].split('"')[0]
    sync = reverse("django_examplary:sync", args=[key])
    response = client.get(launch)
    assert fake.sessions[next(iter(fake.sessions))].embed_url == response["Location"]
    for format_ in ("json", "xml"):
        call_command("dumpdata", "django_examplary", format=format_, stdout=seen)
    session = ExamplarySession.objects.get()
    api = services.get_client()
    seen.write(f"{session} {session!r} {vars(api)} {vars(api._connections)}")
    for name in ("examplaryactor", "examplarysession"):
        seen.write(
            admin_client.get(reverse(f"admin:django_examplary_{name}_changelist")).content.decode()
        )
    seen.write(
        admin_client.get(
            reverse("admin:django_examplary_examplarysession_change", args=[session.pk])
        ).content.decode()
    )
    headers = {"accept": "application/json"}
    seen.write(client.post(sync, headers=headers).content.decode())
    client.force_login(student)
    seen.write(client.get("/embed/").content.decode())
    seen.write(client.get(launch).content.decode())
    fake.fail("POST", "/embed-sessions", status=401, body=f"The key {KEY} was revoked.")
    own = client.get("/embed/").content.decode().split('src="')[1].split('"')[0]
    response = client.get(own)
    assert response.status_code == 500
    seen.write(response.content.decode())
    for command in ("examplary_ping", "examplary_provision", "examplary_sweep"):
        for options in ({}, {"json": True}):
            call_command(command, stdout=seen, stderr=seen, **options)
    fake.complete(session.examplary_id)
    services.sweep_sessions()
    seen.write(str(services.erase_user(get_user_model().objects.get(pk=teacher.pk))))
    seen.write("".join(map(str, getattr(cache, "_cache", {}))))
    seen.write(caplog.text)
    assert_clean(seen.getvalue(), fake)
