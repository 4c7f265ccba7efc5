"""The endpoints, through the test client and against the fake."""

from __future__ import annotations

import re
import time
import uuid
from datetime import timedelta
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.cache import cache
from django.db import connection
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from django_examplary import services
from django_examplary.flows import GenerateExam
from django_examplary.launch import LaunchRequest, sign_return
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.signals import session_closed, session_completed
from django_examplary.views import launch
from tests.html import find, find_all

pytestmark = pytest.mark.django_db

JSON = {"accept": "application/json"}
Status = ExamplarySession.Status


@pytest.fixture(autouse=True)
def no_interval(monkeypatch):
    """Let a test ask twice in a second."""
    monkeypatch.setattr("django_examplary.views.VERIFY_INTERVAL", timedelta(0))


@pytest.fixture
def signed_in(client, teacher):
    client.force_login(teacher)
    return client


@pytest.fixture
def announced():
    received = []

    def receiver(session, **kwargs):
        received.append(session.pk)

    session_completed.connect(receiver)
    session_closed.connect(receiver)
    yield received
    session_completed.disconnect(receiver)
    session_closed.disconnect(receiver)


def url(name, user, flow="generate-exam", **facts):
    launch = LaunchRequest(user_id=str(user.pk), flow=flow, **facts)
    key = launch.session_id or launch.fingerprint("http://testserver")
    argument = launch.sign() if name in ("launch", "window") else key
    return reverse(f"django_examplary:{name}", args=[argument])


def problem(response):
    """Return the reason that a page of ours gives, for the frame's script to find."""
    return re.search(r'data-examplary-problem="([\w-]+)"', response.content.decode()).group(1)


def sync_url(html):
    """Return the address that the script derives from the markup of an embed."""
    key = find(html, "examplary-embed")["data-key"]
    return urljoin(find(html, "iframe")["src"], f"../../sync/{key}/")


# launch


def test_launch_sends_the_frame_to_the_embed(fake, signed_in, teacher):
    response = signed_in.get(url("launch", teacher, presets={"subject": "Sums"}))
    (session,) = fake.sessions.values()
    assert response.status_code == 302
    assert response["Location"] == session.embed_url
    assert session.allowed_origin == "http://testserver"
    assert response["Cache-Control"] == "no-store, private"
    assert response["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert response["X-Frame-Options"] == "SAMEORIGIN"


def test_first_launch_makes_two_calls_and_a_reload_none(fake, signed_in, teacher):
    for _ in range(3):
        signed_in.get(url("launch", teacher))
    assert [(call.method, call.path) for call in fake.requests] == [
        ("POST", "/users"),
        ("POST", "/embed-sessions"),
    ]


def test_warm_launch_takes_three_queries(fake, signed_in, teacher, django_assert_num_queries):
    signed_in.get(url("launch", teacher))
    with django_assert_num_queries(3):  # Django's session, its user, and our row.
        signed_in.get(url("launch", teacher))


def test_launch_in_a_window_of_its_own_comes_back(fake, signed_in, teacher):
    launch = url("launch", teacher)
    for destination in ("iframe", "document"):
        signed_in.get(launch, headers={"sec-fetch-dest": destination})
    framed, whole = fake.sessions.values()
    assert (framed.allowed_origin, framed.return_url) == ("http://testserver", None)
    assert whole.allowed_origin is None
    # Whatever the browser reports, one of the addresses is that of the whole window.
    signed_in.get(url("window", teacher))
    assert len(fake.sessions) == 2
    assert whole.return_url.startswith("http://testserver/examplary/return/")


def test_public_origin_comes_from_the_setting(fake, signed_in, teacher, settings):
    settings.EXAMPLARY_SITE_ORIGIN = "https://school.example"
    signed_in.get(url("launch", teacher), headers={"host": "localhost"})
    (session,) = fake.sessions.values()
    assert session.allowed_origin == "https://school.example"


def test_host_that_django_refuses_is_refused(fake, signed_in, teacher):
    response = signed_in.get(url("launch", teacher), headers={"host": "evil.example"})
    assert response.status_code == 400
    assert fake.requests == []


@pytest.mark.parametrize("method", ["head", "post", "put", "delete", "options"])
def test_only_get_launches(fake, signed_in, teacher, method):
    response = getattr(signed_in, method)(url("launch", teacher))
    assert response.status_code == 405
    assert fake.requests == []


def test_prefetch_creates_nothing(fake, signed_in, teacher):
    response = signed_in.get(url("launch", teacher), headers={"sec-purpose": "prefetch;prerender"})
    assert (response.status_code, problem(response)) == (503, "unavailable")
    assert fake.requests == []


def test_token_of_another_user_opens_nothing(fake, signed_in, student):
    response = signed_in.get(url("launch", student))
    assert (response.status_code, problem(response)) == (403, "signed-out")
    assert fake.requests == []


def test_signed_out_frame_gets_a_page_and_a_window_the_login(fake, client, teacher):
    launch = url("launch", teacher)
    response = client.get(launch, headers={"sec-fetch-dest": "iframe"})
    assert (response.status_code, problem(response)) == (403, "signed-out")
    # Not every browser reports where the response goes.
    assert problem(client.get(launch)) == "signed-out"
    for address, headers in (
        (launch, {"sec-fetch-dest": "document"}),
        (url("window", teacher), {}),
    ):
        response = client.get(address, headers=headers)
        assert response.status_code == 302
        assert response["Location"].startswith("/accounts/login/?next=/examplary/")
    assert fake.requests == []


def test_tampered_and_old_tokens_get_a_page_that_says_so(fake, signed_in, teacher, settings):
    launch = url("launch", teacher)
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
        ({"status": 404}, 403, "refused"),
        ({"status": 409}, 403, "refused"),
        ({"status": 422}, 403, "refused"),
        ({"edit": lambda body: body | {"embedUrl": "https://x.example/"}}, 500, "misconfigured"),
        ({"status": 429}, 503, "busy"),
        ({"status": 500}, 503, "unavailable"),
        ({"transport": "close"}, 503, "unavailable"),
    ],
)
def test_failure_is_a_designed_page_with_a_reference(
    fake, signed_in, teacher, settings, caplog, fault, status, reason
):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/embed-sessions", **fault)
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (status, reason)
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert response["Cache-Control"] == "no-store, private"
    reference = re.search(r"Reference: (\w+)", response.content.decode()).group(1)
    assert f"reference={reference}" in caplog.text
    assert ("Try again" in response.content.decode()) is (reason in ("busy", "unavailable"))


def test_api_that_hangs_does_not_hold_up_everybody(fake, client, settings):
    settings.EXAMPLARY_TIMEOUT, settings.EXAMPLARY_MAX_RETRIES = 0.2, 0
    fake.fail(transport="hang", times=None)
    users = [User.objects.create_user(f"u{n}", f"u{n}@school.example") for n in range(15)]
    started = time.monotonic()
    for user in users:
        client.force_login(user)
        response = client.get(url("launch", user))
        assert (response.status_code, problem(response)) == (503, "unavailable")
    # Three find out, and after some seconds another one may try.
    assert 3 <= len(fake.requests) <= 4
    assert time.monotonic() - started < 4
    # Whoever was not sent for has lost nothing.
    states = list(ExamplaryActor.objects.values_list("state", flat=True))
    assert states.count("uncertain") == len(fake.requests)
    assert states.count("pending") == len(users) - len(fake.requests)


def test_missing_key_is_a_designed_page(signed_in, teacher, settings):
    settings.EXAMPLARY_API_KEY = ""
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


def test_profile_that_cannot_be_made_is_a_designed_page(signed_in, teacher, settings, caplog):
    settings.EXAMPLARY_ACTOR_PROFILE = lambda user: 1 / 0
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")
    assert "EXAMPLARY_ACTOR_PROFILE raised ZeroDivisionError" in caplog.text
    # And where.
    assert "lambda user: 1 / 0" in caplog.text


@pytest.mark.parametrize(
    ("view", "name", "value"),
    [
        ("launch", "EXAMPLARY_LAUNCH_MAX_AGE", "3600"),
        ("launch", "EXAMPLARY_SITE_ORIGIN", 5),
        ("sync", "EXAMPLARY_TIMEOUT", "3"),
        ("close", "EXAMPLARY_TIMEOUT", "3"),
    ],
)
def test_wrong_setting_is_a_designed_page(
    signed_in, teacher, launched, settings, view, name, value
):
    setattr(settings, name, value)
    call = signed_in.get if view == "launch" else signed_in.post
    response = call(url(view, teacher, next_url="/exams/"))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


@pytest.mark.parametrize("status", [403, 500])
@pytest.mark.parametrize("debug", [True, False])
def test_developer_reads_what_went_wrong(fake, signed_in, teacher, settings, debug, status):
    settings.DEBUG, settings.EXAMPLARY_MAX_RETRIES = debug, 0
    fake.fail(status=status, times=None, body={"message": "Not <b>approved</b>."})
    page = signed_in.get(url("launch", teacher)).content.decode()
    assert ("Not &lt;b&gt;approved&lt;/b&gt;." in page) is debug
    assert "<b>" not in page


@pytest.mark.parametrize("debug", [True, False])
def test_script_is_told_what_went_wrong(fake, signed_in, teacher, launched, settings, debug):
    settings.DEBUG = debug
    fake.fail("GET", status=403, body={"message": "Not now."})
    told = signed_in.post(url("sync", teacher, next_url="/exams/"), headers=JSON).json()
    assert ("Not now." in told["detail"]) is debug


def test_session_that_examplary_does_not_know_is_over(fake, signed_in, teacher, launched):
    fake.sessions.clear()
    sync = url("sync", teacher, next_url="/exams/")
    response = signed_in.post(sync, headers=JSON)
    assert (response.status_code, response.json()["reason"]) == (410, "ended")
    assert problem(signed_in.post(sync)) == "ended"
    signed_in.get(url("launch", teacher, next_url="/exams/"))
    assert len(fake.sessions) == 1


def test_uncertain_user_is_asked_to_come_back(fake, signed_in, teacher, settings):
    """Not told that it is impossible, nor is Examplary asked again so soon."""
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/users", status=502)
    for reason in ("unavailable", "preparing"):
        response = signed_in.get(url("launch", teacher))
        assert (response.status_code, problem(response)) == (503, reason)
        assert "Try again" in response.content.decode()
    assert len(fake.calls("POST", "/users")) == 1


def test_user_with_the_address_of_the_keys_owner(fake, signed_in, teacher):
    fake.duplicates = "return"
    type(teacher).objects.update(email=fake.users[fake.owner_id]["email"])
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (500, "misconfigured")


@pytest.mark.parametrize(
    ("destination", "advice"), [("iframe", "Reload the page"), ("document", "Go back to where")]
)
def test_stale_page_is_told_where_to_go_on(fake, signed_in, teacher, settings, destination, advice):
    settings.EXAMPLARY_LAUNCH_MAX_AGE = -1
    response = signed_in.get(url("launch", teacher), headers={"sec-fetch-dest": destination})
    page = response.content.decode()
    assert advice in page
    assert '<a class="examplary-embed__link" href="/" target="_top">Back to the site</a>' in page


def test_user_without_an_address_gets_a_designed_page(fake, signed_in, teacher):
    type(teacher).objects.update(email="")
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (403, "refused")


def test_missing_permission_is_named_on_a_designed_page(fake, signed_in, teacher):
    exam = fake.add_exam()["id"]
    response = signed_in.get(url("launch", teacher, flow="edit-exam", presets={"examId": exam}))
    assert (response.status_code, problem(response)) == (403, "no-access")
    assert f"Missing permission: editor of {exam}" in response.content.decode()
    granted = {"flow": "edit-exam", "presets": {"examId": exam}, "grant_access": True}
    assert signed_in.get(url("launch", teacher, **granted)).status_code == 302


def test_while_another_request_prepares_the_page_says_so(fake, signed_in, teacher, settings):
    settings.EXAMPLARY_DEADLINE = 0.1
    ExamplaryActor.objects.create(user=teacher, state="claimed", claimed_at=timezone.now())
    response = signed_in.get(url("launch", teacher))
    assert (response.status_code, problem(response)) == (503, "preparing")


def test_stored_session_is_launched_by_its_owner_only(fake, signed_in, teacher, student):
    session = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    assert signed_in.get(url("launch", teacher, session_id=str(session.pk))).status_code == 302
    other = services.open_session(student, GenerateExam(), origin="http://testserver")
    response = signed_in.get(url("launch", teacher, session_id=str(other.pk)))
    assert (response.status_code, problem(response)) == (410, "ended")


def test_problem_page_speaks_the_users_language(client, teacher):
    response = client.get(url("launch", teacher), headers={"sec-fetch-dest": "iframe"})
    assert '<html lang="en" dir="ltr">' in response.content.decode()


# sync and close


@pytest.fixture
def launched(fake, signed_in, teacher):
    signed_in.get(url("launch", teacher, next_url="/exams/"))
    return ExamplarySession.objects.get()


def test_sync_reports_what_the_api_says(fake, signed_in, teacher, launched, announced):
    sync = url("sync", teacher, next_url="/exams/")
    response = signed_in.post(sync, headers=JSON)
    assert response.json() == {"status": "pending", "outputs": {}, "redirect": "/exams/"}
    fake.complete(launched.examplary_id, {"examId": "exam_1"})
    answer = {"status": "completed", "outputs": {"examId": "exam_1"}, "redirect": "/exams/"}
    assert signed_in.post(sync, headers=JSON).json() == answer
    assert signed_in.post(sync, headers=JSON).json() == answer
    assert announced == [launched.pk]
    assert signed_in.post(sync, headers=JSON)["Cache-Control"] == "no-store, private"


def test_what_the_browser_claims_is_not_read(fake, signed_in, teacher, launched, announced):
    response = signed_in.post(
        url("sync", teacher, next_url="/exams/") + "?status=completed&examId=exam_x",
        {"status": "completed", "outputs": '{"examId": "exam_x"}', "redirect": "//evil.example"},
        headers=JSON,
    )
    assert response.json() == {"status": "pending", "outputs": {}, "redirect": "/exams/"}
    assert announced == []


@pytest.mark.parametrize("name", ["sync", "close"])
def test_work_may_take_longer_than_a_page_can_launch(
    fake, signed_in, teacher, launched, settings, name, monkeypatch
):
    settings.EXAMPLARY_LAUNCH_MAX_AGE = 60
    fake.complete(launched.examplary_id)
    address, now = url(name, teacher, next_url="/exams/"), time.time()
    monkeypatch.setattr("time.time", lambda: now + 5 * 24 * 60 * 60)
    assert signed_in.post(address, headers=JSON).json()["status"] == "completed"


# finish


def finish_form(client, address):
    """Return the address and the fields of the form on the finish page."""
    html = client.get(address).content.decode()
    [form] = find_all(html, "form")
    fields = {each["name"]: each["value"] for each in find_all(html, "input")}
    return urljoin(address, form["action"]), fields


def test_finish_page_posts_for_the_result(fake, teacher, announced):
    client = Client(enforce_csrf_checks=True)
    client.force_login(teacher)
    client.get(url("launch", teacher, next_url="/exams/"))
    [session] = fake.sessions.values()
    action, fields = finish_form(client, url("finish", teacher, next_url="/exams/"))
    assert not fake.calls("GET", "/embed-sessions/{id}")
    assert "Not finished yet" in client.post(action, fields).content.decode()
    fake.complete(session.id)
    response = client.post(action, fields)
    assert (response.status_code, response["Location"]) == (302, "/exams/")
    assert len(announced) == 1
    assert client.post(action).status_code == 403


def test_finish_page_closes_what_never_completes(fake, signed_in, teacher, announced):
    exam = fake.add_exam()["id"]
    facts = {"flow": "edit-exam", "presets": {"examId": exam}, "grant_access": True}
    signed_in.get(url("launch", teacher, **facts))
    action, fields = finish_form(signed_in, url("finish", teacher, **facts))
    assert "<h1>Done</h1>" in signed_in.post(action, fields).content.decode()
    assert ExamplarySession.objects.get().status == Status.CLOSED


def test_finish_page_of_a_visitor_signs_in_and_comes_back(client, teacher, db):
    address = url("finish", teacher)
    assert client.get(address)["Location"] == f"/accounts/login/?next={address}"


def test_finish_page_of_another_user_is_not_found(fake, signed_in, teacher, student, launched):
    other = services.open_session(student, GenerateExam(), origin="http://testserver")
    for key in (other.pk, other.fingerprint, "unknown"):
        address = reverse("django_examplary:finish", args=[key])
        assert signed_in.get(address).status_code == 404
    mine = reverse("django_examplary:finish", args=[launched.pk])
    assert signed_in.get(mine).status_code == 200
    assert signed_in.post(mine).status_code == 405


@pytest.mark.parametrize("name", ["_csp_nonce", "csp_nonce"])
def test_pages_of_the_app_have_the_nonce_of_their_response(rf, name):
    request = rf.get("/", headers={"Sec-Fetch-Dest": "iframe"})
    request.user = AnonymousUser()
    setattr(request, name, "r4nd0m")
    page = launch(request, LaunchRequest(user_id="1", flow="generate-exam").sign())
    assert 'embed.css" nonce="r4nd0m"' in page.content.decode()


@pytest.mark.parametrize("status", [200, 403])
def test_asking_in_a_loop_costs_one_call_a_second(
    fake, signed_in, teacher, launched, monkeypatch, status
):
    monkeypatch.setattr("django_examplary.views.VERIFY_INTERVAL", timedelta(seconds=1))
    if status != 200:
        fake.fail("GET", "/embed-sessions/{id}", status=status, times=None)
    for _ in range(20):
        signed_in.post(url("sync", teacher, next_url="/exams/"), headers=JSON)
    assert len(fake.calls("GET", "/embed-sessions/{id}")) <= 2


def test_without_the_script_sync_moves_on(fake, signed_in, teacher, launched):
    sync = url("sync", teacher, next_url="/exams/")
    assert "Not finished yet" in signed_in.post(sync).content.decode()
    fake.complete(launched.examplary_id)
    response = signed_in.post(sync)
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
def test_without_a_next_page_the_outcome_has_one(fake, signed_in, teacher, status, title):
    signed_in.get(url("launch", teacher))
    ExamplarySession.objects.update(status=status)
    page = signed_in.post(url("sync", teacher)).content.decode()
    assert f"<h1>{title}</h1>" in page
    assert 'href="/" target="_top">Back to the site</a>' in page


def test_close_ends_a_flow_that_never_completes(fake, signed_in, teacher, announced):
    exam = fake.add_exam()
    facts = {"flow": "edit-exam", "presets": {"examId": exam["id"]}, "grant_access": True}
    signed_in.get(url("launch", teacher, **facts))
    answer = signed_in.post(url("close", teacher, **facts), headers=JSON).json()
    assert answer["status"] == "closed"
    session = ExamplarySession.objects.get()
    assert announced == [session.pk]
    assert fake.sessions[session.examplary_id].revoked


def test_outage_is_reported_with_a_reason(fake, signed_in, teacher, launched, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    response = signed_in.post(url("sync", teacher, next_url="/exams/"), headers=JSON)
    assert response.status_code == 503
    assert response.json()["reason"] == "unavailable"
    assert response.json()["title"] == "Examplary cannot be reached right now"
    fake.fail("GET", status=500)
    response = signed_in.post(url("sync", teacher, next_url="/exams/"))
    assert problem(response) == "unavailable"


@pytest.mark.parametrize("name", ["sync", "close"])
class TestPost:
    def test_only_post(self, fake, signed_in, teacher, launched, name):
        assert signed_in.get(url(name, teacher)).status_code == 405

    @pytest.mark.parametrize("sessions", [True, False])
    def test_csrf_is_enforced(self, fake, teacher, name, sessions):
        with override_settings(CSRF_USE_SESSIONS=sessions, CSRF_COOKIE_HTTPONLY=True):
            client = Client(enforce_csrf_checks=True)
            client.force_login(teacher)
            assert client.post(url(name, teacher), headers=JSON).status_code == 403

    def test_csrf_is_enforced_without_the_middleware(self, fake, teacher, settings, name):
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "csrf" not in name]
        client = Client(enforce_csrf_checks=True)
        client.force_login(teacher)
        assert client.post(url(name, teacher), headers=JSON).status_code == 403

    def test_other_users_sessions_are_not_found(self, fake, signed_in, teacher, student, name):
        other = services.open_session(student, GenerateExam(), origin="http://testserver")
        sent = len(fake.requests)
        for address in (
            url(name, teacher, session_id=str(other.pk)),
            url(name, teacher, flow="edit-rubric"),
            url(name, teacher).replace(f"{name}/", f"{name}/x"),
            url(name, teacher).replace(f"{name}/", f"{name}/%00"),
            url(name, student),
        ):
            assert signed_in.post(address, headers=JSON).status_code == 404
        other.refresh_from_db()
        assert other.is_open
        assert len(fake.requests) == sent

    def test_visitor_who_is_not_signed_in_any_more_is_told_so(self, fake, client, teacher, name):
        response = client.post(url(name, teacher), headers=JSON)
        assert (response.status_code, response.json()["reason"]) == (403, "signed-out")
        response = client.post(url(name, teacher))
        assert (response.status_code, problem(response)) == (403, "signed-out")


@pytest.mark.parametrize(
    ("use_sessions", "http_only"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_token_in_the_page_passes_every_csrf_configuration(
    fake, teacher, rf, settings, use_sessions, http_only
):
    settings.CSRF_USE_SESSIONS = use_sessions
    settings.CSRF_COOKIE_HTTPONLY = http_only
    client = Client(enforce_csrf_checks=True)
    client.force_login(teacher)
    html = client.get("/embed/").content.decode()
    client.get(find(html, "iframe")["src"])
    token = find(html, "examplary-embed")["data-csrf-token"]
    response = client.post(sync_url(html), headers={**JSON, "x-csrftoken": token})
    assert response.json()["status"] == "pending"
    assert client.post(sync_url(html), headers=JSON).status_code == 403


# return


@pytest.fixture
def away(fake, teacher):
    """A session that was opened in the whole window."""
    return services.open_session(
        teacher, GenerateExam(), origin="http://testserver", mode="redirect", next_url="/exams/"
    )


def return_url(session):
    return reverse("django_examplary:return", args=[sign_return(str(session.pk))])


def test_return_asks_the_api_and_moves_on(fake, signed_in, away, announced):
    fake.complete(away.examplary_id)
    response = signed_in.get(fake.sessions[away.examplary_id].return_url)
    assert (response.status_code, response["Location"]) == (302, "/exams/")
    assert announced == [away.pk]
    signed_in.get(return_url(away))
    assert announced == [away.pk]


def test_forged_return_changes_nothing(fake, signed_in, away, announced):
    query = "?status=completed&status=cancelled&examId=exam_x&rubric={" + "x" * 10_000
    response = signed_in.get(return_url(away) + query)
    assert "Not finished yet" in response.content.decode()
    away.refresh_from_db()
    assert (away.status, away.outputs) == (Status.PENDING, {})
    assert announced == []


def test_what_a_forged_return_says_is_not_shown(fake, signed_in, away):
    fake.fail("GET", "/embed-sessions/{id}", status=503, times=None)
    page = signed_in.get(return_url(away) + "?question=PAYLOAD").content.decode()
    assert "Try again" in page
    assert "PAYLOAD" not in page


def test_return_without_a_session_cookie_comes_again_and_then_signs_in(fake, client, away):
    address = return_url(away)
    page = client.get(address).content.decode()
    assert f'<meta http-equiv="refresh" content="0; url={address}?again">' in page
    response = client.get(f"{address}?again")
    assert response["Location"].startswith("/accounts/login/?next=/examplary/return/")
    assert fake.calls("GET", "/embed-sessions/{id}") == []


def test_sign_in_on_another_host_comes_back_to_this_site(fake, client, teacher, away, settings):
    settings.LOGIN_URL = "https://id.school.example/"
    for address in (url("window", teacher), url("finish", teacher), f"{return_url(away)}?again"):
        login = urlsplit(client.get(address)["Location"])
        assert login.netloc == "id.school.example"
        assert parse_qs(login.query) == {"next": [f"http://testserver{address}"]}


def test_return_of_somebody_else_or_of_nobody_is_not_found(fake, client, student, away):
    client.force_login(student)
    sent = len(fake.requests)
    for address in (
        return_url(away),
        return_url(away).replace("return/", "return/x"),
        reverse("django_examplary:return", args=[sign_return(str(uuid.uuid4()))]),
    ):
        assert client.get(address).status_code == 404
    assert len(fake.requests) == sent


def test_return_during_an_outage_can_be_tried_again(fake, signed_in, away, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("GET", status=500)
    response = signed_in.get(return_url(away))
    assert (response.status_code, problem(response)) == (503, "unavailable")
    fake.complete(away.examplary_id)
    assert signed_in.get(return_url(away)).status_code == 302


# What surrounds them


@pytest.mark.django_db(transaction=True)
def test_pages_and_endpoints_work_under_atomic_requests(fake, client, teacher, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.force_login(teacher)
    html = client.get("/embed/").content.decode()
    assert client.get(re.search(r'src="([^"]+)"', html).group(1)).status_code == 302
    assert client.post(sync_url(html), headers=JSON).json()["status"] == "pending"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["launch", "window", "sync", "close", "finish", "return"])
def test_every_endpoint_asks_outside_of_transactions_and_caches(
    fake, client, teacher, settings, monkeypatch, name
):
    session = services.open_session(
        teacher, GenerateExam(), origin="http://testserver", mode="redirect"
    )
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    client.force_login(teacher)
    if name in ("launch", "window"):
        response = client.get(url(name, teacher))
    elif name == "finish":
        response = client.get(url(name, teacher, session_id=str(session.pk)))
    elif name == "return":
        response = client.get(return_url(session))
    else:
        response = client.post(url(name, teacher, session_id=str(session.pk)), headers=JSON)
    assert response.status_code in (200, 302)
    assert response["Cache-Control"] == "no-store, private"
    assert response["X-Frame-Options"] == "SAMEORIGIN"
    assert client.get("/embed/").get("X-Frame-Options") == "DENY"


def test_origin_is_that_of_the_host_that_django_trusts(fake, signed_in, teacher):
    signed_in.get(url("launch", teacher), headers={"x-forwarded-host": "evil.example"})
    (session,) = fake.sessions.values()
    assert session.allowed_origin == "http://testserver"


@pytest.mark.parametrize(
    "address", ["//evil.example", "/\t//evil.example", "/\n/evil.example", "/\\evil.example", "x"]
)
def test_stored_address_of_another_site_is_not_followed(fake, signed_in, teacher, address):
    signed_in.get(url("launch", teacher))
    [session] = fake.sessions.values()
    fake.complete(session.id)
    ExamplarySession.objects.update(next_url=address)
    assert signed_in.post(url("sync", teacher), headers=JSON).json()["redirect"] == ""
    response = signed_in.post(url("sync", teacher))
    assert 'href="/" target="_top">Back to the site</a>' in response.content.decode()


def drop_vary(get_response):
    """What a content delivery network may do, with the headers that tell users apart."""

    def middleware(request):
        response = get_response(request)
        del response["Vary"]
        return response

    return middleware


def test_page_in_a_shared_cache_gives_another_user_nothing(
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
    html = client.get("/embed/").content.decode()
    launch = re.search(r'src="([^"]+)"', html).group(1)
    assert client.get(launch).status_code == 302
    client.force_login(student)
    # The badly configured cache gives the student the teacher's page; it opens nothing.
    assert re.search(r'src="([^"]+)"', client.get("/embed/").content.decode()).group(1) == launch
    response = client.get(launch)
    assert (response.status_code, problem(response)) == (403, "signed-out")
    cache.clear()


def test_login_required_middleware_leaves_the_endpoints_to_judge(fake, client, teacher, settings):
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    response = client.get(url("launch", teacher), headers={"sec-fetch-dest": "iframe"})
    assert problem(response) == "signed-out"
    client.force_login(teacher)
    assert client.get(url("launch", teacher)).status_code == 302


def test_cached_page_of_one_user_gives_another_nothing(fake, client, teacher, student):
    client.force_login(teacher)
    html = client.get("/embed/").content.decode()
    client.force_login(student)
    response = client.get(re.search(r'src="([^"]+)"', html).group(1))
    assert (response.status_code, problem(response)) == (403, "signed-out")
    assert client.post(sync_url(html), headers=JSON).status_code == 404
    assert fake.requests == []


def test_page_with_an_embed_makes_no_calls(fake, signed_in, django_assert_num_queries):
    with django_assert_num_queries(2):  # Django's session and its user.
        signed_in.get("/embed/")
    assert fake.requests == []
