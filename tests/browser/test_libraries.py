"""Embeds in pages that other libraries build, boost or morph."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

HEADING = "Generate an exam"


@pytest.fixture
def teacher(visit):
    teacher = visit()
    teacher.enter_as("teacher")
    return teacher


@pytest.fixture
def exam(examplary):
    """The options of an embed that edits an exam."""
    exam_id = examplary.add_exam()["id"]
    return {"flow": "edit-exam", "presets": {"exam_id": exam_id}, "grant_access": True}


def refresh(teacher, embed):
    """Morph the page into a newer copy of itself."""
    before = embed.get_attribute("data-csrf-token")
    # The timestamps of tokens have a resolution of one second.
    teacher.page.wait_for_timeout(1100)
    teacher.page.get_by_role("button", name="Refresh").click()
    expect(embed).not_to_have_attribute("data-csrf-token", before)


@pytest.mark.parametrize("display", ["inline", "modal"])
def test_running_embed_survives_a_newer_copy_of_its_page(teacher, examplary, announced, display):
    # Without `reuse` the newer copy has another session.
    embed = teacher.open_embeds({"display": display, "reuse": False}, htmx="4")
    if display == "modal":
        embed.get_by_role("button").first.click()
    teacher.embed.get_by_label("Name").fill("Powers and roots")
    expect(embed).to_have_attribute("data-state", "loaded")
    if display == "modal":
        # The page is behind the dialog.
        embed.evaluate("embed => embed.shadowRoot.querySelector('dialog').close()")
    refresh(teacher, embed)
    if display == "modal":
        embed.get_by_role("button").first.click()

    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers and roots")
    assert embed.get_attribute("data-state") == "loaded"
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]
    assert len(examplary.calls("GET", "/embeds/{token}")) == 1

    # The finished session stays finished, and the next launch uses the newer address.
    if display == "modal":
        embed.get_by_role("button", name="Close").click()
    refresh(teacher, embed)
    expect(embed).to_have_attribute("data-state", "completed")
    if display == "modal":
        embed.evaluate("embed => embed.shadowRoot.querySelector('dialog').showModal()")
    embed.get_by_role("button", name="Start again").click()
    expect(embed).to_have_attribute("data-state", "loaded")
    assert len(examplary.calls("POST", "/embed-sessions")) == 2


COPY = """async (embed) => {
  const frame = embed.querySelector("iframe");
  const page = await (await fetch(location.href)).text();
  const fresh = new DOMParser().parseFromString(page, "text/html").querySelector("iframe");
  CHANGE;
}"""


@pytest.mark.parametrize(
    "change",
    [
        "frame.src = fresh.src",
        "frame.setAttribute('name', fresh.name)",
        "frame.removeAttribute('src')",
        "frame.removeAttribute('name')",
    ],
)
def test_running_embed_survives_other_ways_to_change_its_frame(teacher, examplary, change):
    embed = teacher.open_embeds({"reuse": False})
    teacher.embed.get_by_label("Name").fill("Powers and roots")
    name = embed.locator("iframe").get_attribute("name")
    embed.evaluate(COPY.replace("CHANGE", change))

    assert embed.locator("iframe").get_attribute("name") == name
    expect(teacher.embed.get_by_label("Name")).to_have_value("Powers and roots")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert len(examplary.calls("GET", "/embeds/{token}")) == 1


def test_replaced_frame_starts_again(teacher, examplary):
    embed = teacher.open_embeds({})
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    embed.evaluate("""async (embed) => {
      const page = await (await fetch(location.href)).text();
      const fresh = new DOMParser().parseFromString(page, "text/html").querySelector("iframe");
      embed.querySelector("iframe").replaceWith(document.adoptNode(fresh));
    }""")

    expect(embed).to_have_attribute("data-state", "loaded")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")


@pytest.mark.parametrize("htmx", ["2", "4"])
def test_links_of_an_embed_are_not_boosted(teacher, announced, exam, htmx):
    asked = []
    teacher.page.on("request", lambda request: asked.append(request))
    embeds = teacher.open_embeds(exam, {"display": "modal"}, {"load": "click"}, htmx=htmx)
    for number in (1, 2):
        embeds.nth(number).get_by_role("button").first.click()
        expect(embeds.nth(number)).to_have_attribute("data-state", "loaded")
        if number == 1:
            embeds.nth(number).evaluate("embed => embed.shadowRoot.querySelector('dialog').close()")
    embeds.nth(0).get_by_role("button", name="Done").click()
    expect(embeds.nth(0)).to_have_attribute("data-state", "closed")

    assert len([request for request in asked if "/close/" in request.url]) == 1
    assert not [request for request in asked if request.headers.get("hx-request")]
    assert not [request for request in asked if "/window/" in request.url]
    assert announced == ["session_closed"]


@pytest.mark.parametrize("htmx", ["2", "4"])
def test_links_without_the_script_are_not_boosted(teacher, announced, exam, htmx):
    teacher.page.route("**/embed.js", lambda route: route.abort())
    teacher.open_embeds(exam, htmx=htmx)
    teacher.page.wait_for_load_state("networkidle")
    with teacher.page.expect_request("**/finish/**") as request:
        teacher.page.get_by_role("link", name="I have finished").click()
    assert request.value.is_navigation_request()
    teacher.follow("I have finished")

    expect(teacher.page.get_by_role("heading", name="Done")).to_be_visible()
    assert announced == ["session_closed"]
    teacher.expects_errors = True  # The missing script.


@pytest.mark.parametrize("htmx", ["2", "4"])
def test_opener_without_the_script_is_not_boosted(teacher, htmx):
    teacher.page.route("**/embed.js", lambda route: route.abort())
    teacher.open_embeds({"display": "modal"}, htmx=htmx)
    teacher.page.wait_for_load_state("networkidle")
    with teacher.page.expect_request("**/window/**") as request:
        teacher.page.get_by_role("link", name=HEADING).click()

    assert request.value.is_navigation_request()
    teacher.expects_errors = True  # The missing script.


@pytest.mark.parametrize("htmx", ["2", "4"])
def test_link_to_sign_in_is_not_boosted(visit, htmx):
    visitor = visit()
    query = urlencode({"embed": "{}", "htmx": htmx})
    visitor.page.goto(f"{visitor.site}/embeds/public/?{query}")
    with visitor.page.expect_request("**/sign-in/**") as request:
        visitor.page.get_by_role("link", name="Sign in").click()

    assert request.value.is_navigation_request()


@pytest.mark.parametrize("htmx", ["2", "4"])
def test_boosted_link_to_a_page_with_an_embed(teacher, announced, htmx):
    query = urlencode({"embed": json.dumps({"next": ""}), "in_body": 1, "htmx": htmx})
    # The first page has neither script nor stylesheet.
    plain = urlencode({"htmx": htmx, "script": "none", "link": f"/embeds/?{query}"})
    teacher.page.goto(f"{teacher.site}/embeds/?{plain}")
    teacher.follow("Next")
    embed = teacher.page.locator("examplary-embed")

    expect(embed).to_have_css("display", "flex")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


@pytest.mark.parametrize("options", [{}, {"display": "modal"}])
@pytest.mark.parametrize("in_body", ["", "1"])
def test_script_works_without_type_module(teacher, announced, options, in_body):
    """Script bundlers can change the type, so that the script runs before the body exists."""
    embed = teacher.open_embeds(options, script="classic", in_body=in_body)
    if options:
        embed.get_by_role("button").first.click()
    teacher.press("complete")

    expect(embed).to_have_attribute("data-state", "completed")
    assert announced == ["session_completed"]


@pytest.mark.parametrize(
    "options",
    [
        {"load": "lazy"},
        {"load": "click"},
        {"display": "modal"},
        {"display": "modal", "load": "lazy"},
        {"one_time": True},
        {"flow": "take-exam", "sandbox": True, "css_class": "wide", "title": "An exam"},
    ],
)
@pytest.mark.parametrize("has_panels", [True, False])
def test_element_is_built_from_data(teacher, examplary, options, has_panels):
    if "flow" in options:
        exam = examplary.add_exam()["id"]
        options = {**options, "presets": {"exam_id": exam}, "grant_access": True}
    embed = teacher.open_embeds(options)
    expected = embed.evaluate(MARKUP)
    if has_panels:
        embed.evaluate("embed => embed.remove()")
    else:
        teacher.page.goto(f"{teacher.site}/results/")
    query = urlencode({"embed": json.dumps(options)})
    teacher.page.evaluate(CREATE, f"/embeds/data/?{query}")

    assert embed.evaluate(MARKUP) == expected
    expect(embed).to_have_css("box-sizing", "border-box")
    assert teacher.page.locator("template[data-examplary-panels]").count() == 1
    if "src" not in expected[1]:
        embed.get_by_role("button").first.click()
    expect(embed).to_have_attribute("data-state", "loaded")
    teacher.press("complete")
    expect(embed).to_have_attribute("data-state", "completed")
    teacher.expects_errors = True  # Frames that navigate away.


CREATE = """async (address) => {
  await import("/static/django_examplary/embed.js");
  const data = await (await fetch(address)).json();
  const element = customElements.get("examplary-embed").create(data);
  document.querySelector("main").append(element);
}"""
# The attributes of the element and its frame, without the values that always differ.
MARKUP = """(embed) => [embed, embed.querySelector("iframe")].map((part) => Object.fromEntries(
  [...part.attributes]
    .filter(({ name }) => name !== "data-state")
    .map(({ name, value }) => [name, /token|src|^name/.test(name) ? "" : value])
))"""


def test_visitor_gets_no_element(teacher):
    teacher.open_embeds()
    error = teacher.page.evaluate("""() => {
      try {
        customElements.get("examplary-embed").create({ login_url: "/" });
      } catch (error) {
        return error.message;
      }
    }""")

    assert "not signed in" in error
