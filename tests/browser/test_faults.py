"""Every failure is shown in time, and the user continues with one click when it is over."""

from __future__ import annotations

import re
import socket
import threading

import pytest
from django.http import StreamingHttpResponse
from django.test import override_settings
from playwright.sync_api import expect

from django_examplary import urls, views
from django_examplary.testing import serve

GRACE = 0.5


@pytest.fixture
def teacher(visit, settings):
    settings.EXAMPLARY_MAX_RETRIES = 0
    teacher = visit()
    teacher.enter_as("teacher")

    def launch(**options):
        embed = teacher.open_embeds({"load": "click", "grace": GRACE, **options})
        embed.get_by_role("button").first.click()
        return embed

    teacher.launch = launch
    yield teacher
    teacher.expects_errors = True


def short_deadline(fault):
    """Shorten the deadline if the API is slow, and keep it otherwise for slow machines."""
    names = ("EXAMPLARY_DEADLINE", "EXAMPLARY_TIMEOUT") if "delay" in fault else ()
    return override_settings(**dict.fromkeys(names, 5))


def try_again(teacher):
    teacher.page.get_by_role("button", name="Try again").click()
    expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"status": 500}, "Examplary cannot be reached right now"),
        ({"status": 401}, "This is not set up yet"),
        ({"transport": "close"}, "Examplary cannot be reached right now"),
        ({"delay": 30}, "Examplary cannot be reached right now"),
        (
            {"edit": lambda session: {**session, "embedUrl": "javascript:alert(1)"}},
            "This is not set up yet",
        ),
    ],
    ids=["500", "401", "closed", "slow", "javascript"],
)
def test_launch_fails(teacher, examplary, fault, text):
    examplary.fail("POST", "/embed-sessions", **fault)
    with short_deadline(fault):
        embed = teacher.launch()
        expect(embed).to_have_attribute("data-state", "failed")

    panel = embed.locator("[data-examplary-state=failed]")
    expect(panel.get_by_text(text)).to_be_visible()
    expect(panel.get_by_text("Reference:")).to_be_visible()
    link = panel.get_by_role("link", name="Open in a new tab")
    assert link.get_attribute("rel") == "noopener"
    assert "javascript:" not in teacher.page.content()
    try_again(teacher)


def test_frame_page_arrives_slowly(teacher, examplary, monkeypatch):
    examplary.fail("POST", "/embed-sessions", status=500)
    rest = threading.Event()

    def in_two_parts(request, token):
        response = views.launch(request, token)
        start, tag, end = response.content.partition(b"<main")

        def parts():
            yield start
            rest.wait(60)
            yield tag + end

        return StreamingHttpResponse(parts(), headers=response.headers)

    monkeypatch.setattr(urls.urlpatterns[0], "callback", in_two_parts)
    scripts, asked = [], []
    teacher.page.route("**/embed.js", lambda route: scripts.append(route))
    teacher.page.on("request", lambda request: asked.append(request.url))
    with teacher.page.expect_event("framenavigated", lambda frame: "/launch/" in frame.url):
        embed = teacher.open_embeds({}, wait_until="commit")
    scripts[0].continue_()
    expect(embed).to_have_attribute("data-state", "loading")
    rest.set()

    expect(embed).to_have_attribute("data-state", "failed")
    assert not any("/sync/" in url for url in asked)


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_prerendered_page_launches_when_it_is_shown(teacher, examplary, monkeypatch, display):
    """Browsers prerender probable next pages; here a script simulates this."""
    page = teacher.page
    page.add_init_script(
        "Object.defineProperty(document, 'prerendering', { value: true, writable: true })"
    )

    def early(request, token):
        request.META["HTTP_SEC_PURPOSE"] = "prefetch;prerender"
        return views.launch(request, token)

    with monkeypatch.context() as pretence:
        pretence.setattr(urls.urlpatterns[0], "callback", early)
        with page.expect_response("**/launch/**") as launched:
            embed = teacher.open_embeds({"display": display})
    assert launched.value.status == 403
    expect(embed).to_have_attribute("data-state", "loading")
    assert not examplary.sessions

    page.evaluate(
        "document.prerendering = false; document.dispatchEvent(new Event('prerenderingchange'))"
    )
    expect(embed).to_have_attribute("data-state", "loaded")
    assert len(examplary.sessions) == 1


def test_embed_is_unreachable(teacher, examplary, settings):
    # Reserves the port, which refuses connections until the server listens. Both sockets can bind
    # it because both set SO_REUSEADDR.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        examplary.embed_origin = f"http://127.0.0.1:{port}"
        settings.EXAMPLARY_EMBED_ORIGINS = [examplary.embed_origin]
        embed = teacher.launch()

        expect(embed.get_by_role("link", name="Open in a new tab")).to_be_visible()
        with serve(examplary, port=port):
            try_again(teacher)


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_embed_refuses_the_frame(teacher, examplary, display):
    examplary.embed_headers["X-Frame-Options"] = "DENY"
    embed = teacher.launch(display=display)

    expect(embed.get_by_role("link", name="Open in a new tab")).to_be_visible()
    examplary.embed_headers.clear()
    try_again(teacher)


def test_embed_is_slow(teacher, examplary):
    examplary.fail("GET", "/embeds/{token}", delay=30)
    # Chromium ignores the same navigation within three seconds.
    embed = teacher.launch(grace=3.5)

    expect(embed.get_by_role("link", name="Open in a new tab")).to_be_visible()
    expect(embed).to_have_attribute("data-state", "loading")
    try_again(teacher)


def test_session_expired_before_reload(teacher, examplary):
    teacher.launch()
    expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()
    [session] = examplary.sessions.values()
    examplary.expire(session.id)
    embed = teacher.launch()

    # While the frame is loading, the script cannot detect that the session ended.
    expect(embed).to_have_attribute("data-state", "loaded")
    expect(embed.get_by_role("link", name="Open in a new tab")).to_be_visible()
    try_again(teacher)
    assert len(examplary.sessions) == 2


def test_session_expired_during_work(teacher, examplary):
    embed = teacher.launch()
    expect(embed).to_have_attribute("data-state", "loaded")
    [session] = examplary.sessions.values()
    examplary.expire(session.id)
    embed.evaluate("embed => { embed.close() }")

    expect(embed).to_have_attribute("data-state", "ended")
    embed.get_by_role("button", name="Start again").click()
    expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()


@pytest.mark.parametrize(
    "fault",
    [{"status": 500}, {"delay": 30}],
    ids=["500", "slow"],
)
def test_result_cannot_be_verified(teacher, examplary, announced, fault):
    embed = teacher.launch()
    examplary.fail("GET", "/embed-sessions/{id}", **fault)
    with short_deadline(fault):
        teacher.press("complete")
        expect(embed).to_have_attribute("data-state", "unverified")

    reference = embed.locator("[data-examplary-state=unverified] [data-examplary-reference]")
    expect(reference).to_have_text(re.compile(r"\w{8}"))
    embed.get_by_role("button", name="Try again").click()
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


# Collects the timeouts of requests, so that the test controls when they end.
COLLECT_LIMITS = """
window.limits = [];
AbortSignal.timeout = (milliseconds) => {
  const limit = new AbortController();
  limits.push({ milliseconds, end: () => limit.abort() });
  return limit.signal;
};
"""


def test_site_never_answers(teacher, announced):
    teacher.page.add_init_script(COLLECT_LIMITS)
    embed = teacher.launch()
    teacher.page.route("**/sync/**", lambda route: None, times=1)
    with teacher.page.expect_request("**/sync/**"):
        teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "verifying")
    assert teacher.page.evaluate("limits.map((limit) => limit.milliseconds)") == [60_000]
    teacher.page.evaluate("limits[0].end()")

    expect(embed).to_have_attribute("data-state", "unverified")
    embed.get_by_role("button", name="Try again").click()
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 403, "json": {"detail": "CSRF Failed"}},
        {"status": 401, "json": {"detail": "Sign in"}},
        {"status": 302, "headers": {"Location": "/admin/login/"}},
    ],
    ids=["403", "401", "redirect"],
)
def test_middleware_refuses_the_report(teacher, answer):
    embed = teacher.launch()
    teacher.page.route("**/sync/**", lambda route: route.fulfill(**answer))
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "stale")
    expect(embed.get_by_role("button", name="Reload the page")).to_be_visible()


def test_answer_to_the_report_is_not_an_object(teacher):
    embed = teacher.launch()
    teacher.page.route("**/sync/**", lambda route: route.fulfill(body="null"), times=1)
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "unverified")
    embed.get_by_role("button", name="Try again").click()
    expect(embed).to_have_attribute("data-state", "completed")


def test_result_is_late(teacher, examplary, announced):
    """The embed reports its end only once."""
    embed = teacher.launch()
    late = {"edit": lambda session: {**session, "status": "pending"}}
    examplary.fail("GET", "/embed-sessions/{id}", times=None, **late)
    teacher.press("complete")

    # Longer than the script retries.
    expect(embed).to_have_attribute("data-state", "unverified", timeout=60_000)
    expect(embed.get_by_role("status")).to_have_text(
        "The result could not be checked yet Nothing is lost."
    )
    assert announced == []
    examplary.heal()
    embed.get_by_role("button", name="Try again").click()
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


def test_browser_is_offline_at_launch(teacher):
    embed = teacher.open_embeds({"load": "click"})
    teacher.page.context.set_offline(True)
    embed.get_by_role("button").first.click()

    expect(embed.get_by_text("You are offline", exact=True)).to_be_visible()
    teacher.page.context.set_offline(False)
    expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()


def test_browser_without_network_reaches_a_site_on_localhost(teacher):
    teacher.page.add_init_script(
        "Object.defineProperty(Navigator.prototype, 'onLine', {get: () => false})"
    )
    embed = teacher.launch()

    expect(embed).to_have_attribute("data-state", "loaded")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")


def test_browser_is_offline_at_the_end(teacher, announced):
    embed = teacher.launch()
    expect(embed).to_have_attribute("data-state", "loaded")
    teacher.page.route("**/sync/**", lambda route: route.abort())
    teacher.page.evaluate("Object.defineProperty(navigator, 'onLine', {get: () => false})")
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "offline")
    assert announced == []
    teacher.page.unroute_all()
    teacher.page.evaluate("window.dispatchEvent(new Event('online'))")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


@pytest.mark.parametrize("when", ["launch", "end"])
def test_user_was_signed_out(teacher, when):
    embed = teacher.open_embeds({"load": "click"})
    if when == "end":
        embed.get_by_role("button").first.click()
        expect(teacher.embed.get_by_role("heading", name="Generate an exam")).to_be_visible()
    teacher.page.context.clear_cookies(name="sessionid")
    if when == "launch":
        embed.get_by_role("button").first.click()
    else:
        teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "stale")
    expect(embed.get_by_text("You are not signed in").first).to_be_visible()
    embed.get_by_role("button", name="Reload the page").click()
    teacher.page.wait_for_load_state()
    expect(teacher.page.get_by_role("link", name="Sign in")).to_be_visible()


def test_help_waits_for_the_frame_to_be_in_view(teacher):
    embed = teacher.open_embeds({"grace": GRACE})
    embed.evaluate("embed => embed.style.marginTop = '3000px'")
    embed.evaluate("embed => embed.reload()")
    teacher.page.wait_for_timeout(1500)
    expect(embed.locator("[data-examplary-help]")).to_be_hidden()

    embed.scroll_into_view_if_needed()
    expect(embed.locator("[data-examplary-help]")).to_be_visible()


@pytest.mark.parametrize("sign", ["message", "press"])
def test_help_disappears(teacher, sign):
    embed = teacher.launch()
    expect(embed).to_have_attribute("data-state", "loaded")
    advice = embed.locator("[data-examplary-help]")
    expect(advice).to_be_visible()
    height = embed.bounding_box()["height"]
    if sign == "message":
        teacher.page.frames[-1].evaluate("parent.postMessage({type: 'hello'}, '*')")
        expect(embed).to_have_attribute("data-state", "ready")
    else:
        embed.get_by_role("button", name="Hide this").click()

    expect(advice).to_be_hidden()
    assert embed.bounding_box()["height"] == height


def test_another_tab_completes_the_flow(teacher, examplary, announced):
    examplary.embed_headers["X-Frame-Options"] = "DENY"
    embed = teacher.launch()
    with teacher.page.context.expect_page() as opened:
        embed.get_by_role("link", name="Open in a new tab").click()
    tab = opened.value
    tab.wait_for_load_state()
    assert tab.evaluate("window.opener") is None
    tab.locator("[data-examplary-action=complete]").click()

    expect(tab.get_by_role("heading", name="Finished")).to_be_visible()
    assert announced == ["session_completed"]
