"""One-time links: embeds of pages that have no session cookie."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.test import Client, override_settings

from django_examplary import services
from django_examplary.embeds import embed_context, launch_url, render_embed
from django_examplary.exceptions import ExamplarySessionEndedError
from django_examplary.flows import GenerateExam
from django_examplary.launch import TICKET_MAX_AGE, Launch, new_ticket, sign_report, unsign_report
from django_examplary.models import ExamplarySession
from django_examplary.services.tickets import use_ticket
from tests.html import find
from tests.test_views import post, problem

pytestmark = pytest.mark.django_db

SYNC, CLOSE = "/examplary/report/sync/", "/examplary/report/close/"


@pytest.fixture
def request_of(rf):
    """Create a request authenticated by a token, as Django REST framework does."""

    def make(user):
        request = rf.get("/api/embed/")
        request.user = user
        return request

    return make


@pytest.fixture
def embed(request_of, teacher):
    """Return the data of a new embed of the teacher."""

    def make(flow="generate-exam", user=teacher, **options):
        return embed_context(request_of(user), flow, one_time=True, **options)

    return make


def go(client, url, **headers):
    return client.get(urlsplit(url).path, headers=headers)


def test_user_of_a_link_finishes_without_a_cookie(fake, embed, teacher, announced):
    client = Client(enforce_csrf_checks=True)
    data = embed(next="/exams/")
    response = go(client, data["url"], **{"sec-fetch-dest": "iframe"})

    (remote,) = fake.sessions.values()
    assert (response.status_code, response["Location"]) == (302, remote.embed_url)
    assert response["Referrer-Policy"] == "strict-origin-when-cross-origin"
    assert response["Cache-Control"] == "no-store, private"
    session = ExamplarySession.objects.for_user(teacher).get()
    fake.complete(remote.id, {"examId": "exam_1"})
    response = post(client, SYNC, data={"token": data["token"]})
    assert response.json() == {
        "status": "completed",
        "outputs": {"examId": "exam_1"},
        "redirect": "/exams/",
    }
    assert announced == [("completed", session.pk)]
    # The user is set for this launch only.
    assert client.cookies == {}


def test_user_hidden_by_the_default_manager_can_use_a_link(
    fake, client, embed, teacher, monkeypatch
):
    """For example, a manager that excludes archived users."""
    data = embed()
    hidden = type(teacher)._default_manager.none()
    monkeypatch.setattr(type(teacher), "objects", hidden)

    assert go(client, data["url"]).status_code == 302


def test_close_ends_the_session(fake, client, embed):
    data = embed("edit-rubric")
    go(client, data["url"])

    assert post(client, CLOSE, data={"token": data["token"]}).json()["status"] == "closed"


def test_data_holds_neither_cookie_nor_csrf_token(rf, teacher, embed):
    data = embed()

    assert data["url"].startswith("http://testserver/examplary/launch/")
    assert (data["csrf_token"], data["finish_url"]) == ("", "")
    request = rf.get("/")
    request.user = teacher
    launch_url(request, "generate-exam", one_time=True)
    element = find(render_embed(request, "generate-exam", one_time=True), "examplary-embed")
    assert "data-csrf-token" not in element
    assert unsign_report(element["data-token"], max_age=9)[0] == str(teacher.pk)
    # Django would set the cookie then.
    assert "CSRF_COOKIE_NEEDS_UPDATE" not in request.META
    assert embed_context(request, "generate-exam")["token"] == ""


@pytest.mark.parametrize("destination", ["iframe", "document"])
@pytest.mark.parametrize("again", ["iframe", "document"])
def test_link_is_used_once(fake, client, embed, destination, again):
    data = embed()
    assert go(client, data["url"], **{"sec-fetch-dest": destination}).status_code == 302
    response = go(client, data["url"], **{"sec-fetch-dest": again})

    assert (response.status_code, problem(response)) == (410, "ended")
    assert len(fake.sessions) == 1


def test_link_is_used_once_although_its_session_has_ended(fake, client, embed, settings):
    settings.EXAMPLARY_RETENTION = 0
    data = embed()
    go(client, data["url"])
    post(client, CLOSE, data={"token": data["token"]})
    services.sweep_sessions()

    assert problem(go(client, data["url"])) == "ended"
    assert len(fake.sessions) <= 1


def test_newer_link_resumes_the_session_and_ends_older_links(fake, client, embed):
    older, newer = embed(), embed()
    first = go(client, embed()["url"])

    assert problem(go(client, older["url"])) == "ended"
    assert problem(go(client, newer["url"])) == "ended"
    assert go(client, embed()["url"])["Location"] == first["Location"]


def test_link_of_another_embed_is_not_ended(fake, client, embed):
    exam, rubric = embed(), embed("edit-rubric")

    assert go(client, rubric["url"]).status_code == 302
    assert go(client, exam["url"]).status_code == 302


def test_link_opens_a_stored_session_once(fake, client, embed, teacher):
    session = services.open_session(teacher, GenerateExam(), origin="http://testserver")
    data = embed(session)

    assert go(client, data["url"])["Location"] == session.embed_url.value
    assert problem(go(client, data["url"])) == "ended"


def test_link_that_opened_no_session_can_be_used_again(fake, client, embed, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    fake.fail("POST", "/embed-sessions", status=503)
    data = embed()

    assert problem(go(client, data["url"])) == "unavailable"
    assert go(client, data["url"]).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_concurrent_uses_of_a_link_open_one(fake, embed):
    url, answers = embed()["url"], []
    ready = threading.Barrier(4)

    def use():
        ready.wait(60)
        answers.append(go(Client(), url).status_code)
        connection.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert sorted(answers) == [302, 410, 410, 410]
    assert len(fake.sessions) == 1


def test_late_use_gets_the_session_of_the_first_use(fake, teacher):
    """The link was checked before the first use, and used after its session ended."""
    launch = Launch(
        user_id=str(teacher.pk), flow=GenerateExam(), origin="http://testserver", ticket=7
    )
    other, late = (
        services.sessions.create_session(teacher, replace(launch, nonce=nonce))
        for nonce in ("a", "b")
    )
    ExamplarySession.objects.update(fingerprint=launch.key)
    use_ticket(teacher, launch, other)

    with pytest.raises(ExamplarySessionEndedError):
        use_ticket(teacher, launch, late)


def test_link_expires_after_minutes(fake, client, embed, pass_time):
    data = embed()
    pass_time(TICKET_MAX_AGE + 2)

    assert problem(go(client, data["url"])) == "stale"
    # The page still works.
    assert post(client, SYNC, data={"token": data["token"]}).status_code == 404
    assert fake.requests == []


def test_launch_without_a_ticket_expires_after_hours(teacher, pass_time):
    token = Launch(user_id=str(teacher.pk), flow=GenerateExam()).sign()
    pass_time(TICKET_MAX_AGE + 2)

    assert Launch.unsign(token, max_age=3600).user_id == str(teacher.pk)


@pytest.fixture
def pass_time(monkeypatch):
    """Advance the clock of signatures."""
    real = signing.time.time

    def wait(seconds):
        monkeypatch.setattr(signing.time, "time", lambda: real() + seconds)

    return wait


@pytest.mark.parametrize("answer", [False, PermissionDenied])
def test_authorize_applies_to_links(fake, client, embed, teacher, answer):
    seen = []

    def authorize(request, launch):
        seen.append((request.user, bool(launch.ticket)))
        if answer is PermissionDenied:
            raise PermissionDenied
        return answer

    with override_settings(EXAMPLARY_AUTHORIZE=authorize):
        assert problem(go(client, embed()["url"])) == "no-access"
    assert (seen, fake.requests) == ([(teacher, True)], [])


@pytest.mark.parametrize("opened", [True, False])
def test_new_password_ends_links_and_reports(fake, client, embed, teacher, opened):
    data = embed()
    if opened:
        go(client, embed()["url"])
        data = embed()
    sent = len(fake.requests)
    teacher.set_password("another")
    teacher.save()

    assert problem(go(client, data["url"])) == "signed-out"
    response = post(client, SYNC, data={"token": data["token"]})
    assert (response.status_code, response.json()["reason"]) == (403, "signed-out")
    assert len(fake.requests) == sent
    assert go(client, embed()["url"]).status_code == 302


def test_user_of_a_token_need_not_be_a_row(fake, client, embed, teacher):
    """Authentication with JSON Web Tokens need not read the user."""
    data = embed(user=SimpleNamespace(pk=teacher.pk, is_authenticated=True))

    assert go(client, data["url"]).status_code == 302
    assert post(client, SYNC, data={"token": data["token"]}).json()["status"] == "pending"
    assert ExamplarySession.objects.get().actor.user == teacher


# The keys of users grow during a run of the tests, but no user gets so large a key.
@pytest.mark.parametrize("pk", [None, "auth0|7", "2000000000"])
def test_token_of_a_user_who_is_not_a_row_here_opens_nothing(fake, client, embed, pk):
    data = embed(user=SimpleNamespace(pk=pk, is_authenticated=True))

    assert problem(go(client, data["url"])) == "signed-out"
    response = post(client, SYNC, data={"token": data["token"]})
    assert (response.status_code, response.json()["reason"]) == (403, "signed-out")
    assert fake.requests == []


def test_former_secret_key_is_accepted_as_a_fallback(fake, client, embed, settings):
    data, another = embed(), embed(subject="Art")
    go(client, data["url"])
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"

    assert post(client, SYNC, data={"token": data["token"]}).status_code == 200
    assert go(client, another["url"]).status_code == 302


@pytest.mark.parametrize("name", ["launch", "report"])
def test_deactivated_or_deleted_user_is_refused(fake, client, embed, teacher, name):
    data = embed()

    def answer():
        if name == "launch":
            return problem(go(client, data["url"]))
        return post(client, SYNC, data={"token": data["token"]}).json()["reason"]

    teacher.is_active = False
    teacher.save()
    assert answer() == "signed-out"
    teacher.delete()
    assert answer() == "signed-out"


def test_link_of_another_user_is_refused(fake, client, embed, student):
    data = embed()
    client.force_login(student)

    assert problem(go(client, data["url"])) == "other-account"
    response = post(client, SYNC, data={"token": data["token"]})
    assert (response.status_code, response.json()["reason"]) == (403, "other-account")
    assert fake.requests == []


def test_prefetch_does_not_use_the_link(fake, client, embed):
    data = embed()
    go(client, data["url"], **{"sec-purpose": "prefetch"})

    assert go(client, data["url"]).status_code == 302


def test_failed_launch_does_not_use_the_link(fake, client, embed):
    data = embed()
    fake.fail("POST", "/embed-sessions", status=401)
    assert problem(go(client, data["url"])) == "misconfigured"

    assert go(client, data["url"]).status_code == 302


def test_request_without_user_attribute_uses_the_user_of_the_link(fake, client, embed, settings):
    settings.MIDDLEWARE = [
        each for each in settings.MIDDLEWARE if "auth" not in each and "messages" not in each
    ]

    assert go(client, embed()["url"]).status_code == 302


@pytest.mark.parametrize("token", ["", "x", "x:y:z"])
def test_report_needs_a_token_of_this_site(fake, client, embed, token):
    go(client, embed()["url"])
    response = post(client, SYNC, data={"token": token})

    assert (response.status_code, response.json()["reason"]) == (400, "stale")


def test_report_is_authenticated_by_its_token(fake, client, teacher, embed):
    """It ignores the cookie and needs no CSRF token, because other sites have no report token."""
    client.force_login(teacher)
    data = embed("edit-rubric")
    go(client, data["url"])

    assert post(client, CLOSE).json()["reason"] == "stale"
    assert ExamplarySession.objects.get().is_open


def test_tokens_of_links_and_reports_differ(fake, client, embed, teacher):
    data = embed()
    launch_token = urlsplit(data["url"]).path.split("/")[-2]

    assert post(client, SYNC, data={"token": launch_token}).status_code == 400
    assert problem(go(client, f"/examplary/launch/{data['token']}/")) == "stale"


def test_report_token_is_valid_for_its_session_only(fake, client, embed, request_of, student):
    data = embed(user=student)
    go(client, embed()["url"])

    # The student has not opened it.
    assert post(client, SYNC, data={"token": data["token"]}).status_code == 404
    assert client.get(SYNC).status_code == 405


@pytest.mark.parametrize("url", [SYNC, CLOSE])
def test_reports_are_not_cached(fake, client, embed, url):
    data = embed("edit-rubric")
    go(client, data["url"])

    for token in (data["token"], "x"):
        assert post(client, url, data={"token": token})["Cache-Control"] == "no-store, private"


def test_report_token_expires_with_the_page(settings, teacher, client, pass_time):
    settings.EXAMPLARY_LAUNCH_MAX_AGE = 60
    token = sign_report(Launch(user_id=str(teacher.pk), flow=GenerateExam(), ticket=new_ticket()))
    pass_time(62)

    assert post(client, SYNC, data={"token": token}).json()["reason"] == "stale"


def test_whole_window_returns(fake, client, request_of, teacher):
    url = launch_url(request_of(teacher), "generate-exam", next="/exams/", one_time=True)
    assert url.startswith("http://testserver/examplary/window/")
    go(client, url)
    (remote,) = fake.sessions.values()
    fake.complete(remote.id)

    assert "?again" in client.get(remote.return_url).content.decode()
    response = client.get(f"{remote.return_url}?again")
    assert (response.status_code, response["Location"]) == (302, "/exams/")
    assert ExamplarySession.objects.get().status == "completed"
    # Logs contain the URL, so it must not return outputs.
    response = client.get(f"{remote.return_url}?again", headers={"accept": "application/json"})
    assert response["Location"].startswith("/accounts/login/")


def test_window_with_a_session_cookie_needs_it_to_return(fake, client, request_of, teacher):
    url = launch_url(request_of(teacher), "generate-exam", next="/exams/")
    client.force_login(teacher)
    client.get(url)
    client.logout()
    (remote,) = fake.sessions.values()

    response = client.get(f"{remote.return_url}?again")
    assert response["Location"].startswith("/accounts/login/")


def test_window_of_an_erased_user_does_not_return(fake, client, request_of, teacher):
    go(client, launch_url(request_of(teacher), "generate-exam", one_time=True))
    (remote,) = fake.sessions.values()
    ExamplarySession.objects.update(actor=None)

    response = client.get(f"{remote.return_url}?again")
    assert response["Location"].startswith("/accounts/login/")


def test_visitor_gets_no_link(request_of):
    visitor = request_of(AnonymousUser())

    assert set(embed_context(visitor, "generate-exam", one_time=True)) == {"login_url"}
    assert "launch" not in launch_url(visitor, "generate-exam", one_time=True)
