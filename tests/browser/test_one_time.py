"""Embeds with one-time links, in a page without a session cookie."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory
from playwright.sync_api import expect

from django_examplary.embeds import embed_context, launch_url, render_panels
from django_examplary.models import ExamplarySession

CREATE = """async (data) => {
  await import("/static/django_examplary/embed.js");
  const element = customElements.get("examplary-embed").create(data);
  document.querySelector("main").replaceChildren(element);
}"""


@pytest.fixture
def request_of_api(school):
    """A request whose user a token has authenticated."""
    request = RequestFactory(headers={"host": urlsplit(school).netloc}).get("/api/")
    request.user = User.objects.get(username="teacher")
    return request


@pytest.fixture
def visitor(visit):
    visitor = visit()
    visitor.page.goto(visitor.site)
    return visitor


@pytest.fixture
def show(visitor, request_of_api):
    def show(flow, **options):
        data = embed_context(request_of_api, flow, one_time=True, load="eager", **options)
        visitor.page.evaluate(CREATE, {**data, "panels": render_panels()})
        return visitor.page.locator("examplary-embed")

    return show


def test_visitor_finishes_and_starts_again_with_another_link(visitor, show, announced):
    embed = show("generate-exam")
    visitor.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]

    # The link was used.
    embed.get_by_role("button", name="Start again").click()
    expect(embed.get_by_text("This session is over", exact=True)).to_be_visible()
    embed = show("generate-exam")
    visitor.press("cancel")
    expect(embed).to_have_attribute("data-state", "cancelled")
    assert "sessionid" not in {each["name"] for each in visitor.page.context.cookies()}
    visitor.expects_errors = True  # The used link.


def test_dialog_is_closed_by_done(visitor, show, examplary, announced):
    exam_id = examplary.add_exam()["id"]
    embed = show("edit-exam", exam_id=exam_id, grant_access=True, display="modal")
    embed.get_by_role("button").first.click()
    expect(embed).to_have_attribute("data-state", "loaded")
    embed.get_by_role("button", name="Done").click()
    expect(embed).to_have_attribute("data-state", "closed")

    assert announced == ["session_closed"]
    # This would use the link twice.
    expect(embed.get_by_text("Open in a new tab")).to_have_count(0)


def test_whole_window_returns_without_a_cookie(visitor, request_of_api):
    url = launch_url(request_of_api, "generate-exam", one_time=True)
    visitor.page.goto(url)
    visitor.page.locator("[data-examplary-action=complete]").click()
    expect(visitor.page.get_by_role("heading", name="Finished")).to_be_visible()

    assert ExamplarySession.objects.get().status == "completed"
    visitor.page.goto(url)
    expect(visitor.page.get_by_role("heading", name="This session is over")).to_be_visible()
    visitor.expects_errors = True  # The used link.
