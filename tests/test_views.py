"""The endpoints, with the test client and the fake."""

from __future__ import annotations

import html
import re
import uuid
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import DataError, OperationalError, connection, connections, transaction
from django.http import HttpResponseForbidden
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone, translation

from django_examplary import problems, services
from django_examplary.flows import GenerateExam, get_flow
from django_examplary.launch import Launch, new_ticket, sign_report, sign_return
from django_examplary.models import LIFETIME, ExamplaryActor, ExamplarySession
from django_examplary.services import limits
from django_examplary.views import launch
from tests import wire
from tests.threads import call_at_once

pytestmark = pytest.mark.django_db

JSON = {"accept": "application/json"}
Status = ExamplarySession.Status


@pytest.fixture
def signed_in(client, teacher):
    client.force_login(teacher)
    return client


def address(name, user, flow="generate-exam", presets=None, **facts):
    """Return the URL of a view for a launch of the user."""
    facts = {"origin": "http://testserver", **facts}
    if "session_id" not in facts:
        facts["flow"] = get_flow(flow, presets or {})
    launch = Launch(user_id=str(user.pk), **facts)
    argument = launch.sign() if name in ("launch", "window") else launch.key
    return reverse(f"django_examplary:{name}", args=[argument])


def post(client, url, **options):
    """Post as if the session had not been verified before."""
    ExamplarySession.objects.update(asked_at=None)
    return client.post(url, **{"headers": JSON, **options})


def embed_of(client):
    """Return the URLs of launch and sync, and the CSRF token, of a page with an embed."""
    html = client.get("/embed/").content.decode()
    key = re.search(r'data-key="([^"]+)"', html).group(1)
    return (
        re.search(r'src="([^"]+)"', html).group(1),
        reverse("django_examplary:sync", args=[key]),
        re.search(r'data-csrf-token="(\w+)"', html).group(1),
    )


def problem(response):
    """Return the reason in the page for the script of the frame."""
    return re.search(r'data-examplary-problem="([\w-]+)"', response.content.decode()).group(1)


# launch


def test_launch_redirects_the_frame_to_the_embed(fake, signed_in, teacher):
    response = signed_in.get(address("launch", teacher, presets={"subject": "Sums"}))
    (session,) = fake.sessions.values()
    assert response.status_code == 302
    assert response["Location"] == session.embed_url
    assert session.allowed_origin == "http://testserver"
    assert response["Cache-Control"] == "no-store, private"
    assert response["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert "X-Frame-Options" not in response


def test_first_launch_makes_two_calls_and_a_reload_none(fake, signed_in, teacher):
    for _ in range(3):
        signed_in.get(address("launch", teacher))
    assert [(call.method, call.path) for call in fake.requests] == [
        ("POST", "/users"),
        ("POST", "/embed-sessions"),
    ]


def test_warm_launch_uses_three_queries(fake, signed_in, teacher, django_assert_num_queries):
    signed_in.get(address("launch", teacher))
    with django_assert_num_queries(3):  # Web session, user, embed session.
        signed_in.get(address("launch", teacher))


def test_whole_window_launch_returns_to_the_site(fake, signed_in, teacher):
    launch = address("launch", teacher)
    for destination in ("iframe", "document"):
        signed_in.get(launch, headers={"sec-fetch-dest": destination})
    signed_in.get(address("window", teacher))
    framed, whole = fake.sessions.values()
    assert (framed.allowed_origin, framed.return_url) == ("http://testserver", None)
    assert whole.allowed_origin is None
    assert whole.return_url.startswith("http://testserver/examplary/return/")


def test_origin_of_the_session_is_the_signed_origin(fake, signed_in, teacher):
    """The Host header of the launch is ignored, because each spelling would create a session."""
    launch = address("launch", teacher, origin="https://school.example")
    for host in ("localhost", "LOCALHOST:8000", "testserver"):
        signed_in.get(launch, headers={"host": host, "x-forwarded-host": "evil.example"})
    (session,) = fake.sessions.values()
    assert session.allowed_origin == "https://school.example"


@pytest.mark.parametrize(
    ("referer", "logged"),
    [
        ("https://www.school.example/exams/", True),
        ("https://school.example.evil.example/", True),
        ("http://[", True),
        ("https://school.example/exams/?a=b", False),
        ("https://school.example", False),
        ("", False),
    ],
)
def test_page_of_another_origin_is_logged(fake, signed_in, teacher, caplog, referer, logged):
    launch = address("launch", teacher, origin="https://school.example")
    assert signed_in.get(launch, headers={"referer": referer}).status_code == 302
    assert ("outcome=other-origin" in caplog.text) is logged
    assert "a=b" not in caplog.text


def test_origin_of_a_window_launch_is_not_compared(fake, signed_in, teacher, caplog):
    elsewhere = {"referer": "https://mail.example/"}
    stored = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    for url in (
        # A link to the whole window may be on any page.
        address("window", teacher, mode="window"),
        # The view that opened the session has set its origin.
        address("launch", teacher, session_id=str(stored.pk), origin=""),
    ):
        assert signed_in.get(url, headers=elsewhere).status_code == 302
    assert "other-origin" not in caplog.text


@pytest.mark.parametrize("method", ["head", "post", "put", "delete", "options"])
def test_launch_refuses_other_methods(fake, signed_in, teacher, method):
    response = getattr(signed_in, method)(address("launch", teacher))
    assert response.status_code == 405
    assert fake.requests == []


@pytest.mark.parametrize(
    "headers",
    [{"sec-purpose": "prefetch;prerender"}, {"purpose": "prefetch"}, {"x-moz": "Prefetch"}],
)
def test_prefetch_creates_nothing(fake, signed_in, teacher, headers):
    response = signed_in.get(address("launch", teacher), headers=headers)
    # Django mails 5xx responses to the administrators.
    assert (response.status_code, problem(response)) == (403, "unavailable")
    assert fake.requests == []


def test_token_of_another_user_opens_nothing(fake, signed_in, student):
    response = signed_in.get(address("launch", student))
    assert (response.status_code, problem(response)) == (403, "other-account")
    assert fake.requests == []


def test_signed_out_frame_gets_page_and_window_gets_login(fake, client, teacher):
    launch = address("launch", teacher)
    response = client.get(launch, headers={"sec-fetch-dest": "iframe"})
    assert (response.status_code, problem(response)) == (403, "signed-out")
    response = client.get(launch, headers={"sec-fetch-dest": "document"})
    assert response["Location"].startswith("/accounts/login/?next=/examplary/launch/")
    response = client.get(address("window", teacher))
    assert response["Location"].startswith("/accounts/login/?next=/examplary/window/")
    assert fake.requests == []


def test_tampered_and_old_tokens_get_an_error_page(fake, signed_in, teacher, settings):
    launch = address("launch", teacher)
    response = signed_in.get(launch.replace("launch/", "launch/x"))
    assert (response.status_code, problem(response)) == (400, "stale")
    settings.EXAMPLARY_LAUNCH_MAX_AGE = -1
    response = signed_in.get(launch)
    assert (response.status_code, problem(response)) == (400, "stale")
    assert fake.requests == []


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ({"status": 401}, 500, "misconfigured"),
        ({"status": 403}, 500, "misconfigured"),
        ({"status": 400}, 403, "refused"),
        ({"status": 404, "body": {"message": "No such actor."}}, 403, "refused"),
        ({"status": 409}, 403, "refused"),
        ({"status": 422}, 403, "refused"),
        ({"edit": lambda body: body | {"embedUrl": "https://x.example/"}}, 500, "misconfigured"),
        ({"status": 429}, 429, "busy"),
        ({"status": 500}, 503, "unavailable"),
        ({"transport": "close"}, 503, "unavailable"),
    ],
)
def test_failure_is_a_designed_page_with_a_reference(
    fake, signed_in, teacher, settings, caplog, fault, status, reason
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/embed-sessions", **fault)
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (status, reason)
    assert "X-Frame-Options" not in response
    assert response["Cache-Control"] == "no-store, private"
    reference = re.search(r"Reference: (\w+)", response.content.decode()).group(1)
    assert f"reference={reference}" in caplog.text
    assert ("Try again" in response.content.decode()) is (reason in ("busy", "unavailable"))


def test_hanging_api_is_not_called_by_every_launch(fake, client, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_MAX_RETRIES = 0.2, 0
    fake.fail(transport=wire.HANG, times=None)
    users = [User.objects.create_user(f"u{n}", f"u{n}@school.example") for n in range(15)]
    for user in users:
        client.force_login(user)
        response = client.get(address("launch", user))
        assert (response.status_code, problem(response)) == (503, "unavailable")
    # Three calls time out; then one is sent every few seconds.
    assert 3 <= len(fake.requests) < len(users)
    # Users without a sent request are not uncertain.
    states = list(ExamplaryActor.objects.values_list("state", flat=True))
    assert states.count("uncertain") == len(fake.requests)
    assert states.count("pending") == len(users) - len(fake.requests)


def test_missing_key_is_a_designed_page(signed_in, teacher, settings):
    settings.EXAMPLARY_API_KEY = ""
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


def test_profile_that_raises_is_a_designed_page(signed_in, teacher, settings, caplog):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: 1 / 0
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")
    assert "EXAMPLARY_ACTOR_PROFILE raised ZeroDivisionError" in caplog.text
    # With the location.
    assert "lambda user: 1 / 0" in caplog.text


@pytest.mark.parametrize(
    ("view", "name", "value"),
    [
        ("launch", "EXAMPLARY_LAUNCH_MAX_AGE", "3600"),
        ("launch", "EXAMPLARY_CONCURRENT_LAUNCHES", "4"),
        ("sync", "EXAMPLARY_DEADLINE", "5"),
        ("close", "EXAMPLARY_API_URL", 5),
    ],
)
def test_setting_of_a_wrong_type_is_a_designed_page(
    signed_in, teacher, launched, settings, view, name, value
):
    setattr(settings, name, value)
    call = signed_in.get if view == "launch" else signed_in.post
    response = call(address(view, teacher, next_url="/exams/" if view != "launch" else ""))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("debug", [True, False])
def test_error_is_shown_to_developers(fake, signed_in, teacher, settings, debug, status):
    settings.DEBUG, settings.EXAMPLARY_MAX_RETRIES = debug, 0
    fake.fail(status=status, times=None, body={"message": "Not <b>approved</b>."})
    page = signed_in.get(address("launch", teacher)).content.decode()
    assert ("Not &lt;b&gt;approved&lt;/b&gt;." in page) is debug
    assert "<b>" not in page


def test_refused_embed_url_names_its_origin_to_developers(
    fake, signed_in, teacher, settings, caplog
):
    settings.EXAMPLARY_EMBED_ORIGINS = ["https://app.examplary.ai"]
    settings.DEBUG = True
    page = signed_in.get(address("launch", teacher)).content.decode()

    [session] = fake.sessions.values()
    path = session.embed_url.removeprefix(fake.base_url)
    for text in (html.unescape(page), caplog.text):
        assert f"EXAMPLARY_EMBED_ORIGINS = ['https://app.examplary.ai', '{fake.base_url}']" in text
        assert path not in text


@pytest.mark.parametrize("debug", [True, False])
def test_script_receives_the_reason(fake, signed_in, teacher, launched, settings, debug):
    settings.DEBUG = debug
    fake.fail("GET", status=403, body={"message": "Not now."})
    shown = signed_in.post(address("sync", teacher, next_url="/exams/"), headers=JSON).json()
    assert ("Not now." in shown["detail"]) is debug


def test_session_unknown_to_examplary_is_reported_as_ended(fake, signed_in, teacher, launched):
    fake.sessions.clear()
    sync = address("sync", teacher, next_url="/exams/")
    response = signed_in.post(sync, headers=JSON)
    assert (response.status_code, response.json()["reason"]) == (410, "ended")
    assert problem(post(signed_in, sync, headers={})) == "ended"
    signed_in.get(address("launch", teacher, next_url="/exams/"))
    assert len(fake.sessions) == 1


def test_uncertain_user_gets_a_retry_message(fake, signed_in, teacher, settings):
    """The launch is reported as temporary, and the API is not called again at once."""
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/users", status=502)
    for expected in ((503, "unavailable"), (409, "preparing")):
        response = signed_in.get(address("launch", teacher))
        assert (response.status_code, problem(response)) == expected
        assert "Try again" in response.content.decode()
    assert len(fake.calls("POST", "/users")) == 1


def test_user_who_owns_the_key_is_a_designed_page(fake, signed_in, teacher):
    fake.owner_id = services.provision_actor(teacher).examplary_id
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


@pytest.mark.parametrize(
    ("destination", "advice"), [("iframe", "Reload the page"), ("document", "Go back to where")]
)
def test_stale_page_gets_the_address_to_continue(
    fake, signed_in, teacher, settings, destination, advice
):
    settings.EXAMPLARY_LAUNCH_MAX_AGE = -1
    response = signed_in.get(address("launch", teacher), headers={"sec-fetch-dest": destination})
    page = response.content.decode()
    assert advice in page
    assert '<a class="examplary-embed__link" href="/" target="_top">Back to the site</a>' in page


def test_user_without_an_address_gets_a_designed_page(fake, signed_in, teacher):
    type(teacher).objects.update(email="")
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (403, "refused")


def test_missing_permission_is_named_on_a_designed_page(fake, signed_in, teacher):
    exam = fake.add_exam()["id"]
    response = signed_in.get(address("launch", teacher, flow="edit-exam", presets={"examId": exam}))
    assert (response.status_code, problem(response)) == (403, "no-access")
    assert f"Missing permission: editor of {exam}" in response.content.decode()
    granted = {"flow": "edit-exam", "presets": {"examId": exam}, "grant_access": True}
    assert signed_in.get(address("launch", teacher, **granted)).status_code == 302


def test_launch_claimed_by_another_request_is_retried_by_the_page(
    fake, signed_in, teacher, settings
):
    settings.EXAMPLARY_DEADLINE = 0.1
    ExamplaryActor.objects.create(
        user=teacher, state="claimed", claim_token="other", lapses_at=timezone.now() + LIFETIME
    )
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (409, "preparing")


@pytest.mark.django_db(transaction=True)
def test_view_holds_no_database_connection_during_the_call(fake, signed_in, teacher):
    # The connection of this thread, in which the view runs.
    database = connections["default"]
    held = []

    def look(body):
        held.append(database.connection is not None)
        return body

    fake.fail(times=None, edit=look)
    signed_in.get(address("launch", teacher))
    fake.complete(ExamplarySession.objects.get().examplary_id)
    assert signed_in.post(address("sync", teacher), headers=JSON).json()["status"] == "completed"

    # Creation of the user, creation of the session, and its outcome.
    assert held[:3] == [False] * 3
    assert not any(held)


def test_concurrent_launches_of_a_process_are_limited(
    fake, signed_in, teacher, settings, during_call
):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 1
    ready = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    responses = []

    def launch_elsewhere():
        responses.append(signed_in.get(address("launch", teacher, presets={"subject": "Art"})))
        # An open session needs no call.
        responses.append(signed_in.get(address("launch", teacher, session_id=str(ready.pk))))

    during_call("create_embed_session", launch_elsewhere)
    signed_in.get(address("launch", teacher, presets={"subject": "Sums"}))
    assert [each.status_code for each in responses] == [409, 302]
    assert problem(responses[0]) == "preparing"
    # A failed launch releases its place, too.
    fake.fail("POST", "/embed-sessions", status=400)
    launch = address("launch", teacher, presets={"subject": "Art"})
    assert [signed_in.get(launch).status_code for _ in range(2)] == [403, 302]


@pytest.mark.parametrize("name", ["sync", "close", "return"])
def test_concurrent_ends_of_a_process_are_limited(
    fake, signed_in, teacher, settings, during_call, name
):
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 1
    art, sums = (
        services.open_session(
            teacher, GenerateExam(subject=subject), origin="http://testserver", mode="window"
        )
        for subject in ("Art", "Sums")
    )
    responses = []

    def end(session):
        if name == "return":
            return signed_in.get(return_url(session))
        return post(signed_in, reverse(f"django_examplary:{name}", args=[session.fingerprint]))

    during_call("get_embed_session", lambda: responses.append(end(sums)))
    responses.append(end(art))
    responses.append(end(sums))
    assert [each.status_code for each in responses] == [409, 200, 200]
    if name == "sync":
        assert responses[0].json()["reason"] == "preparing"


def test_ends_wait_for_a_database_connection(fake, signed_in, teacher):
    session = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    launch = Launch(user_id=str(teacher.pk), session_id=str(session.pk), ticket=new_ticket())
    key, token = session.fingerprint, {"token": sign_report(launch)}
    ends = [
        partial(signed_in.get, return_url(session)),
        partial(signed_in.post, reverse("django_examplary:sync", args=[key])),
        partial(signed_in.post, reverse("django_examplary:close", args=[key])),
        partial(signed_in.post, reverse("django_examplary:report-sync"), token),
    ]

    def call(send):
        response = send(headers=JSON)
        assert connection.connection is None, "It has used the database."
        return response.status_code, response.json()["reason"]

    with ExitStack() as held:
        for _ in range(8):
            held.enter_context(limits.embed_with_connection())
        answers = call_at_once(*(partial(call, send) for send in ends))
    assert answers == [(409, "preparing")] * 4


def test_connection_that_fails_to_close_leaves_room_for_others(
    fake, signed_in, teacher, monkeypatch
):
    def fail():
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr(limits, "release_obsolete_connections", fail)
        for _ in range(9):
            assert signed_in.get(address("launch", teacher)).status_code == 503
    assert signed_in.get(address("launch", teacher)).status_code == 302


def test_launch_beyond_the_limit_of_the_user_is_busy(fake, signed_in, teacher, settings):
    settings.EXAMPLARY_SESSIONS_PER_HOUR = 1
    signed_in.get(address("launch", teacher))
    response = signed_in.get(address("launch", teacher, presets={"subject": "Art"}))
    assert (response.status_code, problem(response)) == (429, "busy")
    assert signed_in.get(address("launch", teacher)).status_code == 302


@pytest.mark.parametrize("debug", [True, False])
def test_database_error_is_a_designed_page_without_values(
    fake, signed_in, teacher, settings, before_query, caplog, debug
):
    settings.DEBUG = debug

    def fail():
        raise DataError("Failing row contains (SECRET)")

    with before_query(fail, "SELECT", "open_key"):
        response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (503, "unavailable")
    assert "SECRET" not in response.content.decode() + caplog.text
    assert "error=DataError" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", [ExamplaryActor, ExamplarySession])
def test_missing_table_is_a_designed_page_with_a_reference(fake, signed_in, teacher, model, caplog):
    table, away = model._meta.db_table, "renamed_by_a_test"
    with connection.schema_editor() as editor:
        editor.alter_db_table(model, table, away)
    try:
        response = signed_in.get(address("launch", teacher))
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(model, away, table)
    assert (response.status_code, problem(response)) == (503, "unavailable")
    assert response.get("X-Frame-Options") is None
    [reference] = re.findall(r"reference=(\w+)", caplog.text)
    assert reference in response.content.decode()


def count_groups(request):
    """A context processor that needs the database."""
    return {"groups": request.user.groups.count()}


@pytest.mark.parametrize("error", [OperationalError("(SECRET)"), KeyError("not of the database")])
def test_problem_page_does_without_context_processors_that_fail(
    fake, signed_in, teacher, settings, before_query, caplog, error
):
    [engine] = settings.TEMPLATES
    processors = [*engine["OPTIONS"]["context_processors"], f"{__name__}.count_groups"]
    settings.TEMPLATES = [{**engine, "OPTIONS": {"context_processors": processors}}]
    signed_in.raise_request_exception = False

    def fail():
        raise error

    with before_query(fail, "SELECT", "auth_", times=9):
        response = signed_in.get(address("launch", teacher))
        with pytest.raises(type(error)):
            problems.page(response.wsgi_request, "outcome", {})
    assert problem(response) in ("unavailable", "misconfigured")
    assert response.get("X-Frame-Options") is None
    assert "operation=render-problem" in caplog.text
    assert "SECRET" not in caplog.text


def test_problem_page_links_to_another_try_without_context_processors(
    fake, signed_in, teacher, settings
):
    [engine] = settings.TEMPLATES
    settings.TEMPLATES = [{**engine, "OPTIONS": {}}]
    fake.fail("POST", "/users", status=503, times=None)
    url = address("launch", teacher)
    assert f'href="{url}"' in signed_in.get(url).content.decode()


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("setting", ["EXAMPLARY_AUTHORIZE", "EXAMPLARY_WORKSPACE"])
def test_error_of_the_project_is_a_designed_page_with_a_reference(
    fake, signed_in, teacher, settings, caplog, setting, debug
):
    def fail(*arguments):
        raise KeyError("tea@school.example")

    settings.DEBUG = debug
    setattr(settings, setting, fail)
    signed_in.raise_request_exception = False
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")
    assert response.get("X-Frame-Options") is None
    [record] = [record for record in caplog.records if record.name == "django_examplary"]
    assert record.exc_info[0] is KeyError
    html = response.content.decode()
    assert re.search(r"reference=(\w+)", record.getMessage())[1] in html
    assert "tea@school.example" not in html
    assert ("KeyError" in html) is debug


def test_error_of_the_project_reaches_the_test_client(fake, signed_in, teacher, settings):
    settings.EXAMPLARY_AUTHORIZE = lambda request, launch: launch.spam
    with pytest.raises(AttributeError, match="spam"):
        signed_in.get(address("launch", teacher))


def test_post_refused_by_django_is_not_reported_as_an_error(signed_in, settings, caplog):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1
    response = signed_in.post(reverse("django_examplary:sync", args=["x"]), {"language": "en"})
    assert response.status_code in (400, 413)
    assert "django_examplary" not in {record.name for record in caplog.records}


# EXAMPLARY_AUTHORIZE and once


def deny(request, launch):
    raise PermissionDenied


@pytest.mark.parametrize("authorize", [deny, lambda request, launch: False])
@pytest.mark.parametrize("warm", [True, False])
def test_unauthorized_launch_makes_no_calls(fake, signed_in, teacher, settings, authorize, warm):
    launch = address("launch", teacher)
    if warm:
        signed_in.get(launch)
    sent = len(fake.requests)
    settings.EXAMPLARY_AUTHORIZE = authorize
    response = signed_in.get(launch)
    assert (response.status_code, problem(response)) == (403, "no-access")
    assert len(fake.requests) == sent
    assert ExamplaryActor.objects.exists() is warm


def test_authorize_receives_the_launch(fake, signed_in, teacher, settings):
    exam = fake.add_exam()["id"]
    launches = []

    def authorize(request, launch):
        launches.append((request.user, launch))
        return True

    settings.EXAMPLARY_AUTHORIZE = authorize
    facts = {"flow": "edit-exam", "presets": {"examId": exam}, "grant_access": True}
    for _ in range(2):
        assert signed_in.get(address("launch", teacher, **facts)).status_code == 302
    # Called each time, even if the session is reused.
    assert [user for user, _ in launches] == [teacher, teacher]
    assert {launch.flow.resource for _, launch in launches} == {exam}
    assert all(launch.grant_access for _, launch in launches)


def test_authorize_receives_the_fields_of_a_stored_session(fake, signed_in, teacher, settings):
    session = services.open_session(
        teacher, GenerateExam(subject="Sums"), origin="http://testserver", metadata={"course": "1"}
    )
    settings.EXAMPLARY_AUTHORIZE = lambda request, launch: launch.flow.subject != "Sums"
    launch = address("launch", teacher, session_id=str(session.pk))
    assert problem(signed_in.get(launch)) == "no-access"
    settings.EXAMPLARY_AUTHORIZE = lambda request, launch: launch.metadata == {"course": "1"}
    assert signed_in.get(launch).status_code == 302
    services.revoke_session(session)
    assert problem(signed_in.get(launch)) == "ended"


async def deny_later(*arguments):
    """Deny, but as a coroutine that nothing awaits."""


@pytest.mark.parametrize(
    "setting", ["EXAMPLARY_AUTHORIZE", "EXAMPLARY_ACTOR_PROFILE", "EXAMPLARY_WORKSPACE"]
)
def test_async_function_of_the_project_is_a_designed_page(
    fake, signed_in, teacher, settings, caplog, setting
):
    settings.DEBUG = False
    setattr(settings, setting, deny_later)
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")
    assert f"{setting} must be a normal function" in caplog.text
    assert fake.requests == []


def deny_with_a_response(request, launch):
    return HttpResponseForbidden()


def forget_to_return(request, launch):
    pass


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "authorize",
    [lambda *arguments: deny_later(*arguments), deny_with_a_response, forget_to_return],
)
def test_authorize_must_return_a_boolean(fake, signed_in, teacher, settings, caplog, authorize):
    """A coroutine and a response are truthy, but not True."""
    settings.EXAMPLARY_AUTHORIZE = authorize
    response = signed_in.get(address("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")
    assert "not a boolean" in caplog.text
    assert fake.requests == []


@pytest.mark.django_db(transaction=True)
def test_user_deactivated_during_authorize_opens_nothing(fake, signed_in, teacher, settings):
    launch = address("launch", teacher)
    signed_in.get(launch)
    sent = len(fake.requests)

    def deactivate(request, launch):
        user = User.objects.get(pk=teacher.pk)
        user.is_active = False
        user.save()
        return True

    settings.EXAMPLARY_AUTHORIZE = deactivate
    assert problem(signed_in.get(launch)) == "refused"
    assert len(fake.requests) == sent


@pytest.mark.parametrize(("revokes", "left"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("name", ["launch", "window"])
def test_visitor_who_signs_out_during_the_launch_gets_no_url(
    fake, signed_in, teacher, settings, name, revokes, left
):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = revokes

    def sign_out(request, launch):
        return signed_in.post("/accounts/logout/").status_code == 200

    settings.EXAMPLARY_AUTHORIZE = sign_out
    response = signed_in.get(address(name, teacher))
    assert (response.status_code, problem(response)) == (403, "signed-out")
    [remote] = fake.sessions.values()
    assert remote.revoked is revokes
    assert ExamplarySession.objects.open().count() == left


def sign_in_at_once(get_response):
    """Middleware like that of single sign-on packages."""

    def middleware(request):
        login(request, User.objects.get())
        return get_response(request)

    return middleware


@pytest.mark.parametrize("engine", ["db", "cache", "signed_cookies"])
def test_launch_that_signs_its_user_in(fake, client, teacher, settings, engine):
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.sign_in_at_once"]
    assert client.get(address("launch", teacher)).status_code == 302


@pytest.mark.parametrize("session", [None, {}])
def test_launch_of_a_user_without_a_web_session(fake, rf, teacher, session):
    """A middleware may authenticate requests by a header."""
    request = rf.get("/")
    request.user, request.resolver_match = teacher, None
    if session is not None:
        request.session = session
    token = Launch(user_id=str(teacher.pk), flow=GenerateExam(), origin="http://testserver").sign()
    assert launch(request, token).status_code == 302


def test_once_refuses_a_completed_launch(fake, signed_in, teacher):
    launch = address("launch", teacher, once=True)
    assert [signed_in.get(launch).status_code for _ in range(2)] == [302, 302]
    session = ExamplarySession.objects.get()
    fake.complete(session.examplary_id)
    services.verify_session(session)
    response = signed_in.get(launch)
    assert (response.status_code, problem(response)) == (410, "ended")
    assert len(fake.sessions) == 1


def test_stored_session_is_launched_by_its_owner_only(fake, signed_in, teacher, student):
    session = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    assert signed_in.get(address("launch", teacher, session_id=str(session.pk))).status_code == 302
    other = services.open_session(student, GenerateExam(), origin="http://testserver")
    response = signed_in.get(address("launch", teacher, session_id=str(other.pk)))
    assert (response.status_code, problem(response)) == (410, "ended")


@pytest.mark.parametrize("fault", [None, {"status": 403}])
def test_problem_page_has_the_language_of_the_page(fake, signed_in, teacher, settings, fault):
    if fault:
        fake.fail("POST", "/embed-sessions", **fault)
    else:
        settings.EXAMPLARY_AUTHORIZE = lambda request, launch: False
    page = signed_in.get(address("launch", teacher, language="nl")).content.decode()
    assert '<html lang="nl" dir="ltr">' in page
    # The language is reset for the next request of this thread.
    assert translation.get_language() == "en"


def test_problem_page_has_the_language_of_the_request(client, teacher):
    response = client.get(address("launch", teacher), headers={"sec-fetch-dest": "iframe"})
    assert '<html lang="en" dir="ltr">' in response.content.decode()


# sync and close


@pytest.fixture
def launched(fake, signed_in, teacher):
    signed_in.get(address("launch", teacher, next_url="/exams/"))
    return ExamplarySession.objects.get()


def test_sync_returns_the_status_of_the_api(fake, signed_in, teacher, launched, announced):
    sync = address("sync", teacher, next_url="/exams/")
    response = post(signed_in, sync)
    assert response.json() == {"status": "pending", "outputs": {}, "redirect": "/exams/"}
    fake.complete(launched.examplary_id, {"examId": "exam_1"})
    answer = {"status": "completed", "outputs": {"examId": "exam_1"}, "redirect": "/exams/"}
    assert post(signed_in, sync).json() == answer
    response = post(signed_in, sync)
    assert response.json() == answer
    assert response["Cache-Control"] == "no-store, private"
    assert announced == [("completed", launched.pk)]


def test_values_sent_by_the_browser_are_ignored(fake, signed_in, teacher, launched, announced):
    response = signed_in.post(
        address("sync", teacher, next_url="/exams/") + "?status=completed&examId=exam_x",
        {"status": "completed", "outputs": '{"examId": "exam_x"}', "redirect": "//evil.example"},
        headers=JSON,
    )
    assert response.json() == {"status": "pending", "outputs": {}, "redirect": "/exams/"}
    assert announced == []


@pytest.mark.parametrize("name", ["sync", "close"])
def test_session_can_end_after_its_launch_token_expired(
    fake, signed_in, teacher, launched, settings, name
):
    settings.EXAMPLARY_LAUNCH_MAX_AGE = -1
    fake.complete(launched.examplary_id)
    assert post(signed_in, address(name, teacher, next_url="/exams/")).json()["status"] == (
        "completed"
    )


@pytest.mark.parametrize("name", ["sync", "close"])
def test_key_selects_the_newest_session_of_its_launch(fake, signed_in, teacher, launched, name):
    ExamplarySession.objects.update(open_key=None, created_at=timezone.now() - timedelta(days=1))
    signed_in.get(address("launch", teacher, next_url="/exams/"))
    newest = ExamplarySession.objects.latest("created_at")
    assert newest != launched
    fake.complete(newest.examplary_id)
    post(signed_in, address(name, teacher, next_url="/exams/"))
    assert list(ExamplarySession.objects.filter(status="completed")) == [newest]


@pytest.mark.parametrize(
    ("language", "title"), [("nl", "Examplary is nu niet bereikbaar"), ("xx", None), ("", None)]
)
def test_sync_responds_in_the_language_of_the_page(
    fake, signed_in, teacher, launched, settings, language, title
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    url = address("sync", teacher, next_url="/exams/")
    answer = signed_in.post(url, {"language": language}, headers=JSON).json()
    assert answer["title"] == (title or "Examplary cannot be reached right now")


@pytest.mark.parametrize("name", ["_csp_nonce", "csp_nonce"])
def test_pages_of_the_app_have_the_nonce_of_their_response(rf, name):
    request = rf.get("/", headers={"Sec-Fetch-Dest": "iframe"})
    request.user, request.resolver_match = AnonymousUser(), None
    setattr(request, name, "r4nd0m")
    page = launch(request, Launch(user_id="1", flow=GenerateExam()).sign())
    assert 'embed.css" nonce="r4nd0m"' in page.content.decode()


@pytest.mark.parametrize("name", ["sync", "close"])
@pytest.mark.parametrize("status", [None, 404, 500])
def test_posting_in_a_loop_makes_one_call(
    fake, signed_in, teacher, launched, settings, name, status
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    if status:
        fake.fail("GET", "/embed-sessions/{id}", status=status, times=None)
    url = address(name, teacher, next_url="/exams/")
    responses = []
    for _ in range(20):
        # On a slow machine too, the last call was just now.
        ExamplarySession.objects.filter(asked_at__isnull=False).update(asked_at=timezone.now())
        responses.append(signed_in.post(url, headers=JSON))
    assert len(fake.calls("GET", "/embed-sessions/{id}")) == 1
    if name == "close" and status:
        # The outcome is unknown, so the session is not closed.
        assert responses[-1].json()["reason"] == "preparing"
        assert ExamplarySession.objects.get().is_open


def test_sync_without_the_script_redirects(fake, signed_in, teacher, launched):
    sync = address("sync", teacher, next_url="/exams/")
    assert "Not finished yet" in post(signed_in, sync, headers={}).content.decode()
    fake.complete(launched.examplary_id)
    response = post(signed_in, sync, headers={})
    assert (response.status_code, response["Location"]) == (302, "/exams/")


@pytest.mark.parametrize(
    ("status", "title"),
    [
        ("completed", "Finished"),
        ("cancelled", "Cancelled"),
        ("closed", "Done"),
        ("expired", "This session is over"),
    ],
)
def test_outcome_page_without_next_links_to_the_site(fake, signed_in, teacher, status, title):
    signed_in.get(address("launch", teacher))
    ExamplarySession.objects.update(status=status)
    page = signed_in.post(address("sync", teacher)).content.decode()
    assert f"<h1>{title}</h1>" in page
    assert 'href="/" target="_top">Back to the site</a>' in page


def test_close_ends_a_flow_that_never_completes(fake, signed_in, teacher, announced):
    exam = fake.add_exam()
    facts = {"flow": "edit-exam", "presets": {"examId": exam["id"]}, "grant_access": True}
    signed_in.get(address("launch", teacher, **facts))
    answer = signed_in.post(address("close", teacher, **facts), headers=JSON).json()
    assert answer["status"] == "closed"
    session = ExamplarySession.objects.get()
    assert announced == [("closed", session.pk)]
    assert fake.sessions[session.examplary_id].revoked


def test_outage_is_reported_with_a_reason(fake, signed_in, teacher, launched, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    response = signed_in.post(address("sync", teacher, next_url="/exams/"), headers=JSON)
    assert response.status_code == 503
    assert response.json()["reason"] == "unavailable"
    assert response.json()["title"] == "Examplary cannot be reached right now"
    fake.fail("GET", status=500)
    response = post(signed_in, address("sync", teacher, next_url="/exams/"), headers={})
    assert problem(response) == "unavailable"


def test_failures_of_one_kind_share_a_log_template(
    fake, signed_in, teacher, launched, settings, caplog
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    for status in (500, 502, 401):
        fake.fail("GET", status=status)
        post(signed_in, address("sync", teacher, next_url="/exams/"))
    lines = [each for each in caplog.records if "reference=" in each.getMessage()]
    assert [each.levelname for each in lines] == ["WARNING", "WARNING", "ERROR"]
    first, second, third = (each.msg for each in lines)
    assert first == second != third
    assert all(each.getMessage().startswith("operation=sync outcome=") for each in lines)


@pytest.mark.parametrize("name", ["sync", "close"])
class TestPost:
    def test_only_post(self, fake, signed_in, teacher, launched, name):
        assert signed_in.get(address(name, teacher)).status_code == 405

    @pytest.mark.parametrize("sessions", [True, False])
    def test_csrf_is_enforced(self, fake, teacher, name, sessions):
        with override_settings(CSRF_USE_SESSIONS=sessions, CSRF_COOKIE_HTTPONLY=True):
            client = Client(enforce_csrf_checks=True)
            client.force_login(teacher)
            assert client.post(address(name, teacher), headers=JSON).status_code == 403

    def test_csrf_is_enforced_without_the_middleware(self, fake, teacher, settings, name):
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
        client = Client(enforce_csrf_checks=True)
        client.force_login(teacher)
        assert client.post(address(name, teacher), headers=JSON).status_code == 403

    def test_sessions_of_other_users_are_not_found(self, fake, signed_in, teacher, student, name):
        other = services.open_session(student, GenerateExam(), origin="http://testserver")
        sent = len(fake.requests)
        for key in (str(other.pk), other.pk.hex, other.fingerprint, str(uuid.uuid4()), "x"):
            url = reverse(f"django_examplary:{name}", args=[key])
            assert signed_in.post(url, headers=JSON).status_code == 404
        other.refresh_from_db()
        assert other.is_open
        assert len(fake.requests) == sent

    def test_stored_session_is_found_by_its_id(self, fake, signed_in, teacher, launched, name):
        fake.complete(launched.examplary_id)
        url = reverse(f"django_examplary:{name}", args=[launched.pk])
        assert signed_in.post(url, headers=JSON).json()["status"] == "completed"

    def test_visitor_who_is_not_signed_in_is_refused(self, fake, client, teacher, name):
        response = client.post(address(name, teacher), headers=JSON)
        assert (response.status_code, response.json()["reason"]) == (403, "signed-out")
        response = client.post(address(name, teacher))
        assert (response.status_code, problem(response)) == (403, "signed-out")


@pytest.mark.parametrize(
    ("use_sessions", "http_only"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_csrf_token_works_with_every_configuration(
    fake, teacher, rf, settings, use_sessions, http_only
):
    settings.CSRF_USE_SESSIONS = use_sessions
    settings.CSRF_COOKIE_HTTPONLY = http_only
    client = Client(enforce_csrf_checks=True)
    client.force_login(teacher)
    launch, sync, token = embed_of(client)
    client.get(launch)
    response = client.post(sync, headers={**JSON, "x-csrftoken": token})
    assert response.json()["status"] == "pending"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"), True),
        ("CSRF_TRUSTED_ORIGINS", ["https://testserver"], True),
        # The check does not use the origin of the embed messages.
        ("EXAMPLARY_SITE_ORIGIN", "https://testserver", False),
    ],
)
def test_result_behind_a_tls_proxy(fake, teacher, settings, name, value, accepted):
    setattr(settings, name, value)
    forwarded = {"host": "testserver", "x-forwarded-proto": "https"}
    client = Client(enforce_csrf_checks=True, headers=forwarded)
    client.force_login(teacher)
    launch, sync, token = embed_of(client)
    client.get(launch)
    headers = {**JSON, "origin": "https://testserver", "referer": "https://testserver/"}
    response = client.post(sync, {"csrfmiddlewaretoken": token}, headers=headers)
    assert response.status_code == (200 if accepted else 403)


# finish


@pytest.mark.parametrize(
    ("flow", "target", "title"),
    [("generate-exam", "sync", "Finished"), ("edit-exam", "close", "Done")],
)
def test_finish_posts_to_the_url_that_ends_the_flow(fake, teacher, flow, target, title):
    exam = fake.add_exam()["id"]
    presets = {"examId": exam} if flow == "edit-exam" else {}
    facts = {"flow": flow, "presets": presets, "grant_access": True}
    client = Client(enforce_csrf_checks=True)
    client.force_login(teacher)
    client.get(address("launch", teacher, **facts))
    finish = address("finish", teacher, **facts)
    response = client.get(finish)
    assert response["Cache-Control"] == "no-store, private"
    html = response.content.decode()
    # The browser resolves it relative to the URL of the page.
    action = urljoin(finish, re.search(r'action="([^"]+)"', html).group(1))
    assert action == address(target, teacher, **facts)
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', html).group(1)
    if target == "sync":
        fake.complete(next(iter(fake.sessions)))
    page = client.post(action, {"csrfmiddlewaretoken": token}).content.decode()
    assert f"<h1>{title}</h1>" in page


def test_finish_page_changes_nothing(fake, signed_in, teacher, launched):
    sent = len(fake.requests)
    signed_in.get(address("finish", teacher, next_url="/exams/"))
    assert signed_in.post(address("finish", teacher, next_url="/exams/")).status_code == 405
    assert len(fake.requests) == sent


def test_finish_finds_sessions_of_the_user_only(fake, client, teacher, student):
    services.open_session(student, GenerateExam(), origin="http://testserver")
    finish = address("finish", student)
    response = client.get(finish)
    assert response["Location"].startswith("/accounts/login/?next=/examplary/finish/")
    client.force_login(teacher)
    assert client.get(finish).status_code == 404


# return


@pytest.fixture
def away(fake, teacher):
    """A session opened in the whole window."""
    return services.open_session(
        teacher, GenerateExam(), origin="http://testserver", mode="window", next_url="/exams/"
    )


def return_url(session):
    return reverse("django_examplary:return", args=[sign_return(str(session.pk))])


def test_return_verifies_the_session_and_redirects(fake, signed_in, away, announced):
    fake.complete(away.examplary_id)
    response = signed_in.get(fake.sessions[away.examplary_id].return_url)
    assert (response.status_code, response["Location"]) == (302, "/exams/")
    signed_in.get(return_url(away))
    assert announced == [("completed", away.pk)]


def test_forged_return_changes_nothing(fake, signed_in, away, announced):
    query = "?status=completed&status=cancelled&examId=exam_x&rubric={" + "x" * 10_000
    response = signed_in.get(return_url(away) + query)
    assert "Not finished yet" in response.content.decode()
    away.refresh_from_db()
    assert (away.status, away.outputs) == (Status.PENDING, {})
    assert announced == []


def test_forged_return_is_not_shown(fake, signed_in, away):
    fake.fail("GET", "/embed-sessions/{id}", status=503, times=None)
    page = signed_in.get(return_url(away) + "?question=PAYLOAD").content.decode()
    assert "Try again" in page
    assert "PAYLOAD" not in page


def test_return_without_a_session_cookie_reloads_then_asks_to_sign_in(fake, client, away):
    address = return_url(away)
    page = client.get(address).content.decode()
    assert f'<meta http-equiv="refresh" content="0; url={address}?again">' in page
    response = client.get(f"{address}?again")
    assert response["Location"].startswith("/accounts/login/?next=/examplary/return/")
    assert fake.calls("GET", "/embed-sessions/{id}") == []


def test_sign_in_on_another_host_returns_to_this_site(fake, client, teacher, away, settings):
    settings.LOGIN_URL = "https://id.school.example/"
    pages = (address("window", teacher), address("finish", teacher), f"{return_url(away)}?again")
    for page in pages:
        login = urlsplit(client.get(page)["Location"])
        assert login.netloc == "id.school.example"
        assert parse_qs(login.query) == {"next": [f"http://testserver{page}"]}


def test_return_of_another_user_or_a_visitor_is_not_found(fake, client, student, away):
    client.force_login(student)
    sent = len(fake.requests)
    for address in (
        return_url(away),
        return_url(away).replace("return/", "return/x"),
        reverse("django_examplary:return", args=[sign_return(str(uuid.uuid4()))]),
    ):
        assert client.get(address).status_code == 404
    assert len(fake.requests) == sent


def test_return_during_an_outage_can_be_retried(fake, signed_in, away, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    response = signed_in.get(return_url(away))
    assert (response.status_code, problem(response)) == (503, "unavailable")
    fake.complete(away.examplary_id)
    ExamplarySession.objects.update(asked_at=None)
    assert signed_in.get(return_url(away)).status_code == 302


# Middleware, caches and transactions


@pytest.mark.django_db(transaction=True)
def test_pages_and_endpoints_work_under_atomic_requests(fake, client, teacher, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.force_login(teacher)
    launch, sync, _ = embed_of(client)
    assert client.get(launch).status_code == 302
    assert client.post(sync, headers=JSON).json()["status"] == "pending"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["launch", "window", "sync", "close", "finish", "return"])
def test_every_endpoint_works_outside_of_transactions_and_caches(
    fake, client, teacher, settings, monkeypatch, name
):
    session = services.open_session(
        teacher, GenerateExam(), origin="http://testserver", mode="window"
    )
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.force_login(teacher)
    if name in ("launch", "window"):
        response = client.get(address(name, teacher))
    elif name == "return":
        response = client.get(return_url(session))
    elif name == "finish":
        response = client.get(address(name, teacher, session_id=str(session.pk)))
    else:
        response = client.post(address(name, teacher, session_id=str(session.pk)), headers=JSON)
    assert response.status_code in (200, 302)
    assert response["Cache-Control"] == "no-store, private"
    framed = name in ("launch", "window")
    assert response.get("X-Frame-Options") == (None if framed else "DENY")
    assert client.get("/embed/").get("X-Frame-Options") == "DENY"


def atomic_middleware(get_response):
    """Middleware of projects that run each request in a transaction."""
    return transaction.atomic(get_response)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["launch", "sync", "close"])
def test_transaction_of_a_middleware_is_explained(fake, client, teacher, settings, caplog, name):
    session = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    calls = len(fake.calls())
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.atomic_middleware"]
    settings.DEBUG = True
    client.force_login(teacher)
    if name == "launch":
        response = client.get(address(name, teacher, nonce="another"))
    else:
        response = client.post(address(name, teacher, session_id=str(session.pk)))

    assert (response.status_code, problem(response)) == (500, "misconfigured")
    for text in (html.unescape(response.content.decode()), caplog.text):
        assert "A middleware that opens transactions must leave out" in text
    assert caplog.records[0].levelname == "ERROR"
    assert len(fake.calls()) == calls
    session.refresh_from_db()
    assert session.is_open


@pytest.mark.parametrize("name", ["launch", "window", "sync", "close", "finish", "return"])
@pytest.mark.parametrize("method", ["get", "post", "put", "options"])
def test_refusals_are_not_cached(fake, signed_in, name, method):
    """Caches may store 404, 405 and 410 responses unless a header forbids it."""
    response = getattr(signed_in, method)(reverse(f"django_examplary:{name}", args=["x"]))
    assert response.status_code in (400, 404, 405)
    assert response["Cache-Control"] == "no-store, private"


@pytest.mark.parametrize(
    "stored", ["//evil.example", "/\t//evil.example", "/\n/evil.example", "/\\evil.example", "x"]
)
def test_stored_address_of_another_site_is_not_followed(fake, signed_in, teacher, stored):
    signed_in.get(address("launch", teacher))
    [session] = fake.sessions.values()
    fake.complete(session.id)
    ExamplarySession.objects.update(next_url=stored)
    assert signed_in.post(address("sync", teacher), headers=JSON).json()["redirect"] == ""
    response = signed_in.post(address("sync", teacher))
    assert 'href="/" target="_top">Back to the site</a>' in response.content.decode()


def drop_vary(get_response):
    """Remove the Vary header that distinguishes users, as a content delivery network may."""

    def middleware(request):
        response = get_response(request)
        del response["Vary"]
        return response

    return middleware


def test_page_from_a_shared_cache_is_useless_for_other_users(
    fake, client, teacher, student, settings
):
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        f"{__name__}.drop_vary",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    cache.clear()
    client.force_login(teacher)
    launch, _, _ = embed_of(client)
    assert client.get(launch).status_code == 302
    client.force_login(student)
    # The badly configured cache returns the page of the teacher to the student.
    assert embed_of(client)[0] == launch
    response = client.get(launch)
    assert (response.status_code, problem(response)) == (403, "other-account")
    cache.clear()


def test_endpoints_are_exempt_from_login_required_middleware(fake, client, teacher, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    response = client.get(address("launch", teacher), headers={"sec-fetch-dest": "iframe"})
    assert problem(response) == "signed-out"
    client.force_login(teacher)
    assert client.get(address("launch", teacher)).status_code == 302


def test_cached_page_of_one_user_is_useless_for_another(fake, client, teacher, student):
    client.force_login(teacher)
    launch, sync, _ = embed_of(client)
    client.force_login(student)
    response = client.get(launch)
    assert (response.status_code, problem(response)) == (403, "other-account")
    assert client.post(sync, headers=JSON).status_code == 404
    assert fake.requests == []


def test_page_with_an_embed_makes_no_calls(fake, signed_in, django_assert_num_queries):
    with django_assert_num_queries(2):  # The web session and the user.
        signed_in.get("/embed/")
    assert fake.requests == []
