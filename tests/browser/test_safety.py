"""Reports of the browser are only hints, and repeated reports have no effect."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import expect

from django_examplary.models import ExamplarySession
from tests.processes import wait_for

NEW_EXAM = ("Mathematics 9", "Generate an exam")
HEADING = "Generate an exam"
FORGED = '{type: "examplary:embed-status-update", status: "completed", outputs: {examId: "exam_1"}}'


@pytest.fixture
def teacher(visit):
    """A teacher with an open embed."""
    teacher = visit("teacher")
    teacher.follow(*NEW_EXAM)
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    return teacher


def assert_still_open(announced):
    assert [session.status for session in ExamplarySession.objects.all()] == ["pending"]
    assert announced == []


def test_page_makes_no_calls_until_its_frame_loads(visit, examplary):
    teacher = visit("teacher")
    teacher.page.route("**/examplary/launch/**", lambda route: route.abort())
    teacher.follow(*NEW_EXAM)
    teacher.page.wait_for_load_state("networkidle")

    assert examplary.calls() == []
    teacher.expects_errors = True  # The blocked frame.


def test_reload_makes_no_calls(teacher, examplary):
    before = len(examplary.calls("POST"))
    assert before == 2
    teacher.page.reload()
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()

    assert len(examplary.calls("POST")) == before
    assert not examplary.calls("GET", "/embed-sessions/{id}")


def add_frame(teacher, **attributes):
    teacher.page.evaluate(
        """attributes => {
          const frame = document.createElement("iframe");
          for (const name in attributes) frame.setAttribute(name, attributes[name]);
          document.body.append(frame);
        }""",
        {"title": "forger", **attributes},
    )


def navigate_frame(teacher, url, **attributes):
    """Navigate the frame of the embed to another page."""
    teacher.page.evaluate(
        """attributes => {
          const frame = document.querySelector("examplary-embed iframe");
          const { setAttribute } = Element.prototype;
          for (const name in attributes) setAttribute.call(frame, name, attributes[name]);
        }""",
        {**attributes, "src": url},
    )


def from_the_page(teacher, examplary):
    teacher.page.evaluate(f"window.postMessage({FORGED}, '*')")


def from_another_frame_of_the_origin(teacher, examplary):
    add_frame(teacher, src=f"{examplary.base_url}/hostile")


def from_another_frame_of_the_site(teacher, examplary):
    add_frame(teacher, srcdoc="<body>")
    teacher.page.frames[-1].evaluate(f"parent.postMessage({FORGED}, '*')")


def from_a_frame_of_no_origin(teacher, examplary):
    add_frame(teacher, sandbox="allow-scripts", src=f"{examplary.base_url}/hostile")


def from_a_frame_inside_the_embed(teacher, examplary):
    navigate_frame(teacher, f"{teacher.page.frames[-1].url}?misbehave=nested")


def from_the_embed_at_another_origin(teacher, examplary):
    elsewhere = examplary.base_url.replace("127.0.0.1", "localhost")
    navigate_frame(teacher, f"{elsewhere}/hostile")


def from_the_embed_in_a_sandbox(teacher, examplary):
    navigate_frame(teacher, f"{examplary.base_url}/hostile", sandbox="allow-scripts")


@pytest.mark.parametrize(
    "forge",
    [
        from_the_page,
        from_another_frame_of_the_origin,
        from_another_frame_of_the_site,
        from_a_frame_of_no_origin,
        from_a_frame_inside_the_embed,
        from_the_embed_at_another_origin,
        from_the_embed_in_a_sandbox,
    ],
)
def test_message_of_another_source_is_ignored(visit, forge, examplary, announced):
    # The policy would block some of these frames. The embed must not rely on it.
    teacher = visit(bypass_csp=True)
    teacher.enter_as("teacher")
    teacher.open_embeds({})
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    teacher.page.evaluate(
        """() => {
          window.arrived = new Promise((resolve) => {
            window.addEventListener("message", () => resolve(true));
          });
        }"""
    )
    forge(teacher, examplary)
    assert teacher.page.evaluate("window.arrived")
    teacher.page.wait_for_timeout(300)

    assert not examplary.calls("GET", "/embed-sessions/{id}")
    assert_still_open(announced)
    teacher.expects_errors = True


def test_message_of_the_other_embed_is_ignored(teacher, examplary, announced):
    """Each embed listens to its own frame only."""
    embeds = teacher.open_embeds({}, {"flow": "generate-question"})
    question = teacher.page.frame_locator("examplary-embed iframe").nth(1)
    question.locator("[data-examplary-action=complete]").click()

    expect(embeds.nth(1)).to_have_attribute("data-state", "completed")
    expect(embeds.nth(0)).to_have_attribute("data-state", "loaded")
    assert len(examplary.calls("GET", "/embed-sessions/{id}")) == 1


MALFORMED = [
    "null",
    "undefined",
    "1",
    "'examplary:embed-status-update'",
    "[]",
    "{}",
    "{type: ['examplary:embed-status-update'], status: ['completed']}",
    "{type: 'EXAMPLARY:embed-status-update', status: 'completed'}",
    'JSON.parse(\'{"__proto__": {"type": "examplary:embed-status-update", '
    '"status": "completed"}}\')',
    "new Map([['type', 'examplary:embed-status-update'], ['status', 'completed']])",
    "(() => { const self = {type: 'x'}; self.self = self; return self; })()",
    "'x'.repeat(1_000_000)",
    "{type: 'x', src: 'javascript:alert(1)', url: 'javascript:alert(1)'}",
]


def test_malformed_messages_are_ignored(visit, examplary, announced):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    for data in MALFORMED:
        teacher.page.frames[-1].evaluate(f"parent.postMessage({data}, '*')")
    # The messages only show that the frame is alive.
    expect(embed).to_have_attribute("data-state", "ready")
    teacher.page.wait_for_timeout(300)

    assert not examplary.calls("GET", "/embed-sessions/{id}")
    assert_still_open(announced)
    assert "javascript:" not in teacher.page.content()


OTHER_STATUSES = ["'done'", "'canceled'", "'constructor'", "{toString: 1}", "undefined"]


@pytest.mark.parametrize("status", OTHER_STATUSES)
def test_message_with_another_status_triggers_sync(visit, examplary, announced, status):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    report = f"parent.postMessage({{type: 'examplary:embed-status-update', status: {status}}}, '*')"
    with teacher.page.expect_response("**/sync/**"):
        teacher.page.frames[-1].evaluate(report)
    # The user continues to work during the request.
    expect(embed).to_have_attribute("data-state", "ready")
    assert_still_open(announced)

    [session_id] = examplary.sessions
    examplary.complete(session_id)
    teacher.page.frames[-1].evaluate(report)
    expect(embed).to_have_attribute("data-state", "completed")


def test_message_during_sync_triggers_another_sync(visit, examplary):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    page, frame = teacher.page, teacher.page.frames[-1]
    # This listener runs after that of the embed, so the embed has received every counted message.
    page.evaluate("window.count = 0; window.addEventListener('message', () => count++); null")
    requests = []
    page.route("**/sync/**", lambda route: requests.append(route), times=2)
    report = "parent.postMessage({type: 'examplary:embed-status-update', status: 'done'}, '*')"
    frame.evaluate(report)
    wait_for(lambda: page.title() and len(requests) == 1)
    requests[0].continue_()
    wait_for(lambda: page.title() and len(requests) == 2)
    [session_id] = examplary.sessions
    examplary.complete(session_id)
    frame.evaluate(report)
    page.wait_for_function("count === 2")
    requests[1].fulfill(json={"status": "pending"})

    expect(embed).to_have_attribute("data-state", "completed")


def test_flood_of_messages(teacher, examplary, announced):
    started = time.monotonic()
    with teacher.page.expect_response("**/sync/**"):
        teacher.page.frames[-1].goto(f"{teacher.page.frames[-1].url}?misbehave=flood")
    teacher.page.wait_for_timeout(3_000)

    # One per second, and one at the start.
    seconds = time.monotonic() - started
    assert 1 <= len(examplary.calls("GET", "/embed-sessions/{id}")) <= seconds + 1
    assert_still_open(announced)


def test_message_before_the_page_is_ready(teacher, examplary, announced):
    frame = teacher.page.frames[-1]
    frame.goto(f"{frame.url}?misbehave=early")
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "verifying")

    assert_still_open(announced)


def test_embed_in_a_sandbox_cannot_navigate_the_window(visit):
    """Without a sandbox, browsers allow this after the user has interacted with the frame."""
    teacher = visit()
    teacher.enter_as("teacher")
    teacher.open_embeds({"sandbox": True})
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    before = teacher.page.url
    navigate_frame(teacher, f"{teacher.page.frames[-1].url}?misbehave=navigate")
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    teacher.page.wait_for_timeout(300)

    assert teacher.page.url == before
    teacher.expects_errors = True  # The blocked navigation.


def test_false_message_of_the_embed_completes_nothing(teacher, examplary, announced):
    frame = teacher.page.frames[-1]
    assert frame.url.startswith(examplary.base_url)
    frame.evaluate(f"parent.postMessage({FORGED}, '*')")

    # The site verifies twice, and the session is still open both times.
    embed = teacher.page.locator("examplary-embed")
    expect(embed).to_have_attribute("data-state", "verifying")
    expect(embed).to_have_attribute("data-state", "unverified", timeout=60_000)
    assert examplary.calls("GET", "/embed-sessions/{id}")
    assert_still_open(announced)


def test_false_return_completes_nothing(visit, examplary, announced):
    teacher = visit("teacher")
    # Only the session of the whole window should exist.
    teacher.page.route("**/examplary/launch/**", lambda route: route.abort(), times=1)
    teacher.follow(*NEW_EXAM, "Use the whole window")
    teacher.page.wait_for_url(f"{examplary.base_url}/embeds/*")
    [session] = examplary.sessions.values()
    teacher.page.goto(f"{session.return_url}?status=completed&examId=exam_forged")

    expect(teacher.page.get_by_role("heading", name="Not finished yet")).to_be_visible()
    assert_still_open(announced)
    teacher.expects_errors = True  # The blocked frame.


def test_token_of_another_user_is_refused(teacher, visit, examplary, announced):
    embed = teacher.page.locator("examplary-embed")
    launch_url = embed.locator("iframe").get_attribute("src")
    close_url = f"/examplary/close/{embed.get_attribute('data-key')}/"
    before = len(examplary.calls())

    student = visit("student")
    student.page.goto(student.site + launch_url)
    expect(
        student.page.get_by_role("heading", name="This page was opened with another account")
    ).to_be_visible()
    answer = student.page.evaluate(
        """async (url) => {
          const token = document.cookie.match(/csrftoken=([^;]+)/)[1];
          const headers = {"X-CSRFToken": token, "Accept": "application/json"};
          return (await fetch(url, {method: "POST", headers})).status;
        }""",
        close_url,
    )

    assert answer == 404
    assert len(examplary.calls()) == before
    assert_still_open(announced)
    student.expects_errors = True  # The two refused requests.


@pytest.mark.parametrize("models", ["Examplary actors", "Examplary sessions"])
def test_admin_obeys_the_policy(teacher, visit, models):
    admin = visit("admin")
    admin.follow("Administration", models)
    admin.page.locator("#result_list tbody th a").click()
    admin.page.wait_for_url("**/change/")
