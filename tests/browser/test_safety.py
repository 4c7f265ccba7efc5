"""A browser's report is only a hint, and a repeated report has no effect."""

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
    teacher.forgiven = True  # About the frame that did not load.


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


def lead_astray(teacher, url, **attributes):
    """Let the embed's own frame show another page."""
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
    lead_astray(teacher, f"{teacher.page.frames[-1].url}?misbehave=nested")


def from_the_embed_at_another_origin(teacher, examplary):
    elsewhere = examplary.base_url.replace("127.0.0.1", "localhost")
    lead_astray(teacher, f"{elsewhere}/hostile")


def from_the_embed_in_a_sandbox(teacher, examplary):
    lead_astray(teacher, f"{examplary.base_url}/hostile", sandbox="allow-scripts")


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
def test_message_of_anyone_else(visit, forge, examplary, announced):
    # The policy would keep some of these frames out, and the embed must do without it.
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
    teacher.forgiven = True


def test_message_of_the_other_embed(teacher, examplary, announced):
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


def test_malformed_messages(visit, examplary, announced):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    for data in MALFORMED:
        teacher.page.frames[-1].evaluate(f"parent.postMessage({data}, '*')")
    # Any of them is a sign of life, and nothing else.
    expect(embed).to_have_attribute("data-state", "ready")
    teacher.page.wait_for_timeout(300)

    assert not examplary.calls("GET", "/embed-sessions/{id}")
    assert_still_open(announced)
    assert "javascript:" not in teacher.page.content()


OTHER_STATUSES = ["'done'", "'canceled'", "'constructor'", "{toString: 1}", "undefined"]


@pytest.mark.parametrize("status", OTHER_STATUSES)
def test_message_with_another_status_makes_the_page_ask(visit, examplary, announced, status):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    report = f"parent.postMessage({{type: 'examplary:embed-status-update', status: {status}}}, '*')"
    with teacher.page.expect_response("**/sync/**"):
        teacher.page.frames[-1].evaluate(report)
    # The user works on while the page asks.
    expect(embed).to_have_attribute("data-state", "ready")
    assert_still_open(announced)

    [session_id] = examplary.sessions
    examplary.complete(session_id)
    teacher.page.frames[-1].evaluate(report)
    expect(embed).to_have_attribute("data-state", "completed")


def test_message_while_the_page_asks_makes_it_ask_again(visit, examplary):
    teacher = visit()
    teacher.enter_as("teacher")
    embed = teacher.open_embeds({})
    expect(embed).to_have_attribute("data-state", "loaded")
    page, frame = teacher.page, teacher.page.frames[-1]
    # Listens after the embed, which has therefore received all that this counts.
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

    # One a second, and one at the start.
    seconds = time.monotonic() - started
    assert 1 <= len(examplary.calls("GET", "/embed-sessions/{id}")) <= seconds + 1
    assert_still_open(announced)


def test_message_before_the_page_is_ready(teacher, examplary, announced):
    frame = teacher.page.frames[-1]
    frame.goto(f"{frame.url}?misbehave=early")
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "verifying")

    assert_still_open(announced)


def test_embed_in_a_sandbox_cannot_take_the_window_elsewhere(visit):
    """Without one the user has to have been in the frame for that."""
    teacher = visit()
    teacher.enter_as("teacher")
    teacher.open_embeds({"sandbox": True})
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    before = teacher.page.url
    lead_astray(teacher, f"{teacher.page.frames[-1].url}?misbehave=navigate")
    expect(teacher.embed.get_by_role("heading", name=HEADING)).to_be_visible()
    teacher.page.wait_for_timeout(300)

    assert teacher.page.url == before
    teacher.forgiven = True  # About the attempt.


def test_message_of_an_embed_that_lies(teacher, examplary, announced):
    frame = teacher.page.frames[-1]
    assert frame.url.startswith(examplary.base_url)
    frame.evaluate(f"parent.postMessage({FORGED}, '*')")

    # The site verifies twice, and both times the session is still open.
    embed = teacher.page.locator("examplary-embed")
    expect(embed).to_have_attribute("data-state", "verifying")
    expect(embed).to_have_attribute("data-state", "unverified", timeout=60_000)
    assert examplary.calls("GET", "/embed-sessions/{id}")
    assert_still_open(announced)


def test_return_that_lies(visit, examplary, announced):
    teacher = visit("teacher")
    # So that there is the session of the whole window only.
    teacher.page.route("**/examplary/launch/**", lambda route: route.abort(), times=1)
    teacher.follow(*NEW_EXAM, "Use the whole window")
    teacher.page.wait_for_url(f"{examplary.base_url}/embeds/*")
    [session] = examplary.sessions.values()
    teacher.page.goto(f"{session.return_url}?status=completed&examId=exam_forged")

    expect(teacher.page.get_by_role("heading", name="Not finished yet")).to_be_visible()
    assert_still_open(announced)
    teacher.forgiven = True  # About the frame that did not load.


def test_token_of_another_user(teacher, visit, examplary, announced):
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
    student.forgiven = True  # About these two answers.


@pytest.mark.parametrize("models", ["Examplary actors", "Examplary sessions"])
def test_admin_keeps_the_policy(teacher, visit, models):
    admin = visit("admin")
    admin.follow("Administration", models)
    admin.page.locator("#result_list tbody th a").click()
    admin.page.wait_for_url("**/change/")
