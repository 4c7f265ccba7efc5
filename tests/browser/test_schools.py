"""Two schools on one site, each with its own workspace, key and fake Examplary."""

from __future__ import annotations

from urllib.parse import urljoin

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from django_examplary.models import ExamplarySession
from django_examplary.testing import FakeExamplary, serve

Sessions = ExamplarySession.objects
RUBRIC = {"flow": "edit-rubric", "metadata": {"course": "1"}}


@pytest.fixture
def southern(examplary, settings):
    """The fake Examplary of the second school, selected by the e-mail domain of its users."""
    with serve(FakeExamplary(api_key=f"examp_{'s' * 32}")) as server:
        settings.EXAMPLARY_WORKSPACES = {
            "south": {
                "API_KEY": server.fake.api_key,
                "API_URL": server.url,
                "EMBED_ORIGINS": [server.url],
            }
        }
        settings.EXAMPLARY_WORKSPACE = lambda user: (
            "south" if user.email.endswith("@southfield.example") else "default"
        )
        yield server.fake


def open_rubric(visitor):
    """Open an embed; return the addresses of its launch and of its report to the site."""
    embed = visitor.open_embeds(RUBRIC)
    expect(visitor.embed.locator("[data-examplary-action=complete]")).to_be_visible()
    launch = urljoin(visitor.site, embed.locator("iframe").get_attribute("src"))
    return launch, urljoin(launch, f"../../sync/{embed.get_attribute('data-key')}/")


def test_two_schools(visit, examplary, southern):
    User.objects.create_user("rosa", "rosa@southfield.example")
    north, south = visit(), visit()
    north.enter_as("teacher")
    south.enter_as("rosa")

    # Each teacher works in the workspace of their school.
    northern_urls, southern_urls = open_rubric(north), open_rubric(south)
    [northern_session] = examplary.sessions.values()
    [southern_session] = southern.sessions.values()
    for fake in (examplary, southern):
        [call] = fake.calls("POST", "/embed-sessions")
        assert call.headers["Authorization"] == f"Bearer {fake.api_key}"
    assert set(Sessions.values_list("actor__user__username", "workspace")) == {
        ("teacher", "default"),
        ("rosa", "south"),
    }

    # A teacher cannot use the tokens of the other teacher.
    for visitor, (launch, report) in ((north, southern_urls), (south, northern_urls)):
        assert visitor.page.request.get(launch, max_redirects=0).status == 403
        token = visitor.page.locator("examplary-embed").get_attribute("data-csrf-token")
        form = {"csrfmiddlewaretoken": token}
        assert visitor.page.request.post(report, form=form).status == 404
    assert (len(examplary.sessions), len(southern.sessions)) == (1, 1)

    south.press("complete")
    expect(south.page.locator("examplary-embed")).to_have_attribute("data-state", "completed")
    assert southern_session.status == "completed"
    assert northern_session.status == "pending"

    # The key of one school is revoked; the other school still works.
    southern.api_key = f"examp_{'t' * 32}"
    south.open_embeds(RUBRIC)
    expect(south.page.locator("examplary-embed")).to_have_attribute("data-state", "failed")
    assert southern.calls()[-1].headers["Authorization"] != f"Bearer {southern.api_key}"
    north.press("complete")
    expect(north.page.locator("examplary-embed")).to_have_attribute("data-state", "completed")
    open_rubric(north)
    assert len(examplary.sessions) == 2
    assert not [each for each in north.errors if "forbids" in each]
    # Chromium reports the response of the refused launch.
    south.expects_errors = True
