from __future__ import annotations

import socket
import sys
import unittest

import pytest
import requests
from django.conf import settings
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, SimpleTestCase, TestCase
from django.urls import reverse

from django_examplary import services
from django_examplary.embeds import render_embed
from django_examplary.flows import GenerateExam
from django_examplary.launch import Launch
from django_examplary.models import ExamplarySession
from django_examplary.testing import (
    ExamplaryTestMixin,
    FakeExamplary,
    RealExamplaryError,
    Window,
    assert_sent,
    fake_examplary,
    find_embeds,
    open_embed,
    refuse_examplary,
)
from tests.processes import COVERAGE

pytest_plugins = ["pytester", "django_examplary.testing.fixtures"]


@pytest.fixture
def client(teacher) -> Client:
    client = Client()
    client.force_login(teacher)
    return client


@pytest.fixture
def fake():
    with fake_examplary() as fake:
        yield fake


# Hosts of the real Examplary


def test_real_examplary_is_refused(teacher):
    with refuse_examplary(), pytest.raises(RealExamplaryError, match=r"api\.examplary\.ai"):
        services.provision_actor(teacher)


@pytest.mark.parametrize("host", ["examplary.ai", "API-STAGING.Examplary.ai.", b"app.examplary.ai"])
def test_every_host_of_examplary_is_refused(host):
    with refuse_examplary(), pytest.raises(RealExamplaryError, match="fake_examplary"):
        socket.getaddrinfo(host, 443)


def test_other_hosts_are_accepted(fake):
    with refuse_examplary():
        assert requests.get(f"{fake.base_url}/openapi", timeout=60).ok


# The settings


def test_settings_point_to_the_fake_inside_the_context():
    before = settings.EXAMPLARY_API_KEY
    with fake_examplary(FakeExamplary(api_key="examp_1")) as fake:
        assert settings.EXAMPLARY_API_KEY == "examp_1"
        assert fake.base_url == settings.EXAMPLARY_API_URL
        assert [fake.embed_origin] == settings.EXAMPLARY_EMBED_ORIGINS
        assert not settings.DEBUG
    assert before == settings.EXAMPLARY_API_KEY


def test_embeds_of_a_fake_for_browsers_can_be_opened(teacher):
    with fake_examplary(browser=True) as fake:
        session = services.open_session(teacher, GenerateExam(), origin="https://school.example")
        assert session.embed_url.value.startswith(f"{fake.base_url}/")
        assert settings.DEBUG
        assert requests.get(session.embed_url.value, timeout=60).ok


# A user at an embed


def test_complete(client, fake):
    embed = open_embed(client, fake, "/embed/")

    assert embed.session.flow == "generate-exam"
    assert embed.complete({"examId": "exam_1"}) == {
        "status": "completed",
        "outputs": {"examId": "exam_1"},
        "redirect": "",
    }
    assert embed.response.status_code == 200


def test_complete_with_outputs_like_those_of_the_flow(client, fake):
    response = open_embed(client, fake, "/embed/").complete()

    assert response["outputs"]["examId"] in fake.exams


def test_cancel(client, fake):
    assert open_embed(client, fake, "/embed/").cancel()["status"] == "cancelled"


def test_expire(client, fake):
    assert open_embed(client, fake, "/embed/").expire()["reason"] == "ended"


def test_close(client, fake):
    assert open_embed(client, fake, "/embed/").close()["status"] == "closed"


def test_site_that_checks_csrf(fake, teacher):
    client = Client(enforce_csrf_checks=True)
    client.force_login(teacher)

    assert open_embed(client, fake, "/embed/").complete()["status"] == "completed"


def test_addresses_are_those_of_each_embed(client, fake):
    frame = '<examplary-embed><iframe slot="frame" src="/a/launch/one/"></iframe></examplary-embed>'
    opener = '<a data-examplary-opener href="/b/window/two/">Open</a>'
    waiting = f'<examplary-embed>{opener}<iframe slot="frame"></iframe></examplary-embed>'
    page = HttpResponse(f'<iframe src="/"></iframe>{frame}{waiting}<a href="/">After</a>')

    addresses = [embed.launch_url for embed in find_embeds(client, fake, page)]
    assert addresses == ["/a/launch/one/", "/b/launch/two/"]


def test_embed_of_a_one_time_link_needs_no_cookie(client, fake, teacher, rf):
    request = rf.get("/")
    request.user = teacher
    page = HttpResponse(render_embed(request, "generate-exam", one_time=True))
    [embed] = find_embeds(Client(enforce_csrf_checks=True), fake, page)

    assert embed.load().complete()["status"] == "completed"


def test_site_that_refuses(client, fake):
    embed = open_embed(client, fake, "/embed/")
    client.logout()
    assert embed.report()["reason"] == "signed-out"

    ExamplarySession.objects.all().delete()
    client.force_login(User.objects.get())
    assert embed.report()["reason"] == "stale"

    embed.client = Client(enforce_csrf_checks=True)
    with pytest.raises(AssertionError, match=r"/examplary/\S+ returned 403, not JSON\.$"):
        embed.report()


def test_break(client, fake):
    embed = open_embed(client, fake, "/embed/")
    fake.fail("GET", "/embed-sessions/{id}", status=401)

    assert embed.report()["reason"] == "misconfigured"
    assert embed.response.status_code == 500
    assert ExamplarySession.objects.get().is_open


def test_site_that_opens_no_session(client, fake):
    fake.approved = False

    with pytest.raises(AssertionError, match=r"it returned 500, “This is not set up yet”\."):
        open_embed(client, fake, "/embed/")


def test_page_without_an_embed(client, fake):
    with pytest.raises(AssertionError, match=r"has 0 embeds, not one\. Is the client"):
        open_embed(Client(), fake, "/admin/login/")


def test_embed_must_be_loaded_before_its_actions(client, fake):
    [embed] = find_embeds(client, fake, client.get("/embed/"))

    assert fake.calls() == []
    assert embed.load().session.status == "pending"


# A user in a window


def launch(user: User) -> str:
    wanted = Launch(
        user_id=str(user.pk),
        flow=GenerateExam(),
        origin="http://testserver",
        mode="window",
        next_url="/",
    )
    return reverse("django_examplary:window", args=[wanted.sign()])


def test_window_complete(client, fake, teacher):
    window = Window(client, fake, launch(teacher))

    assert window.session.return_url
    assert window.complete().url == "/"
    assert ExamplarySession.objects.get().status == "completed"


def test_window_cancel(client, fake, teacher):
    assert Window(client, fake, launch(teacher)).cancel().url == "/"


def test_window_that_is_redirected_to_a_problem_page(fake, teacher):
    with pytest.raises(AssertionError, match="it returned 302, to /accounts/login/"):
        Window(Client(), fake, launch(teacher))


# Sent requests


def test_assert_sent(client, fake):
    open_embed(client, fake, "/embed/")

    assert_sent(fake, "POST", "/users", email="teacher@school.example", role="teacher")
    assert_sent(fake, "POST", "/embed-sessions", flow="generate-exam")
    with pytest.raises(AssertionError, match="was sent 0 times, not once"):
        assert_sent(fake, "GET", "/me")
    with pytest.raises(AssertionError, match="with flow 'generate-exam', not 'take-exam'"):
        assert_sent(fake, "POST", "/embed-sessions", flow="take-exam")


# The two frameworks


class CourseTests(ExamplaryTestMixin, TestCase):
    fake_options = {"staging": True}

    def test_all(self):
        teacher = User.objects.create_user("teacher", "teacher@school.example")
        self.client.force_login(teacher)

        assert self.fake.staging
        assert self.open_embed("/embed/").complete()["status"] == "completed"
        self.assert_sent("POST", "/users", role="teacher")
        assert self.open_window(launch(teacher)).complete().url == "/"


def test_mixin(db):
    """Run the tests again with the runner of unittest."""
    result = unittest.TestResult()
    CourseTests("test_all")(result)

    assert result.wasSuccessful(), result
    assert result.testsRun == 1


def test_mixin_refuses_real_examplary_in_set_up_class(monkeypatch):
    """Without a fixture."""
    looked_up = []
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *args: looked_up.append(host))

    class Early(SimpleTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            with pytest.raises(RealExamplaryError):
                socket.getaddrinfo("api.examplary.ai", 443)

    class EarlyTests(ExamplaryTestMixin, Early):
        def test_nothing(self):
            pass

    result = unittest.TestResult()
    unittest.TestSuite([EarlyTests("test_nothing")])(result)

    assert result.wasSuccessful(), result
    assert result.testsRun == 1
    socket.getaddrinfo("api.examplary.ai", 443)
    assert looked_up == ["api.examplary.ai"]


def test_fixture_for_browsers(browser_examplary):
    assert settings.DEBUG
    assert [browser_examplary.base_url] == settings.EXAMPLARY_EMBED_ORIGINS


def test_fixture(request):
    fake = request.getfixturevalue("fake_examplary")
    assert fake.base_url == settings.EXAMPLARY_API_URL
    assert not settings.DEBUG


def test_fixture_refuses_real_examplary(teacher):
    with pytest.raises(RealExamplaryError):
        services.provision_actor(teacher)


def test_fixtures(pytester, monkeypatch):
    pytester.makepyfile(project='SECRET_KEY = "not-a-secret"')
    pytester.makeconftest('pytest_plugins = ["django_examplary.testing.fixtures"]')
    pytester.makepyfile(
        """
        import pytest
        from django.conf import settings
        from django_examplary.client import ExamplaryClient
        from django_examplary.testing import RealExamplaryError

        def test_refused():
            with pytest.raises(RealExamplaryError):
                ExamplaryClient("examp_1").get_me()

        def test_fake(fake_examplary):
            assert settings.EXAMPLARY_API_URL == fake_examplary.base_url
            assert not settings.DEBUG

        def test_fake_for_browsers(browser_examplary):
            assert settings.EXAMPLARY_EMBED_ORIGINS == [browser_examplary.base_url]
        """
    )
    for name, value in COVERAGE.items():
        monkeypatch.setenv(name, value)
    # Other plugins take longer to import than the tests to run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plugin = "pytest_django.plugin"
    # With its folder on the path, as in projects.
    result = pytester.run(sys.executable, "-m", "pytest", "-p", plugin, "--ds=project")

    result.assert_outcomes(passed=3)
