"""The seven flows, from signing in to the result on the site."""

from __future__ import annotations

import zipfile

import pytest
from django.apps import apps
from playwright.sync_api import expect

NEW_EXAM = ("Mathematics 9", "Generate an exam")


@pytest.fixture(autouse=True)
def rule(examplary, settings):
    """Use the EXAMPLARY_AUTHORIZE of the example project."""
    settings.EXAMPLARY_AUTHORIZE = "courses.access.may_launch"


def test_whole_job(visit, examplary, announced):
    teacher = visit("teacher")
    teacher.follow(*NEW_EXAM)
    teacher.embed.get_by_label("Name").fill("Powers and roots")
    teacher.press("complete")

    # The embed notifies the page, the page calls the site, the site calls Examplary.
    teacher.page.wait_for_url("**/courses/*/")
    expect(teacher.page.get_by_text("The exam “Powers and roots” is ready.")).to_be_visible()
    assert announced == ["session_completed"]
    assert len(examplary.calls("POST", "/users")) == 1
    assert len(examplary.calls("POST", "/embed-sessions")) == 1

    teacher.follow("Powers and roots")
    with teacher.page.expect_download() as download:
        teacher.follow("Download QTI 3")
    assert download.value.suggested_filename == "powers-and-roots-qti3.zip"
    with zipfile.ZipFile(download.value.path()) as package:
        assert "imsmanifest.xml" in package.namelist()
        assert package.testzip() is None


def test_cancel(visit, examplary, announced):
    teacher = visit("teacher")
    teacher.follow(*NEW_EXAM)
    teacher.press("cancel")

    expect(teacher.page.get_by_text("You cancelled. Nothing has changed.")).to_be_visible()
    assert announced == ["session_cancelled"]
    assert not examplary.exams


def test_whole_window(visit, examplary, announced):
    teacher = visit("teacher")
    teacher.follow(*NEW_EXAM, "Use the whole window")
    teacher.page.wait_for_url(f"{examplary.base_url}/embeds/*")
    teacher.page.locator("[data-examplary-action=complete]").click()

    teacher.page.wait_for_url("**/courses/*/")
    expect(teacher.page.get_by_text("Mathematics 9, exam 2", exact=True)).to_be_visible()
    assert len(examplary.exams) == 1
    assert announced == ["session_completed"]


def test_done(visit, examplary, announced):
    teacher = visit("teacher")
    teacher.follow("Mathematics 9", "Fractions and ratios", "Edit the exam")
    # From now on its script saves the input.
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")
    question = teacher.embed.get_by_label("Question").first
    question.fill("Write 0.625 as a fraction in its lowest terms.")
    expect(teacher.embed.get_by_text("All changes saved")).to_be_visible()
    teacher.follow("Done")

    expect(teacher.page.get_by_role("heading", name="Fractions and ratios")).to_be_visible()
    assert announced == ["session_closed"]
    [exam] = examplary.exams.values()
    assert "0.625" in exam["questions"][0]["title"]
    [session] = examplary.sessions.values()
    assert session.revoked


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        (NEW_EXAM, "Generate an exam"),
        (("Mathematics 9", "Generate a question"), "Generate a question"),
        (("Mathematics 9", "New rubric"), "Edit the rubric"),
        (("Mathematics 9", "Edit the rubric Explanation"), "Edit the rubric"),
        (
            ("Mathematics 9", "Fractions and ratios", "Mark the answers of Noor Haddad"),
            "Mark an answer",
        ),
        (("Mathematics 9", "Fractions and ratios", "Edit the exam"), "Edit the exam"),
    ],
)
def test_teacher_reaches(visit, path, heading):
    teacher = visit("teacher")
    teacher.follow(*path)

    expect(teacher.embed.get_by_role("heading", name=heading, exact=True)).to_be_visible()


@pytest.mark.parametrize(
    ("path", "heading"),
    [
        (("Mathematics 9", "Start Fractions and ratios"), "Take the exam"),
        (("Mathematics 9", "Practise", "Start practising"), "Practice"),
    ],
)
def test_student_reaches(visit, path, heading):
    student = visit("student")
    student.follow(*path)

    expect(student.embed.get_by_role("heading", name=heading, exact=True)).to_be_visible()


def test_question_is_stored(visit):
    teacher = visit("teacher")
    teacher.follow("Biology 10", "Generate a question")
    teacher.embed.locator("textarea").fill("What do mitochondria do?")
    teacher.press("complete")

    expect(teacher.page.get_by_text("What do mitochondria do?")).to_be_visible()


def test_lesson_has_two_embeds(visit, announced):
    teacher = visit("teacher")
    teacher.follow("Mathematics 9", "Prepare a lesson")
    embeds = teacher.page.locator("examplary-embed")
    for number in range(2):
        frame = embeds.nth(number).frame_locator("iframe")
        frame.locator("[data-examplary-action=complete]").click()
        expect(embeds.nth(number)).to_have_attribute("data-state", "completed")

    assert announced == ["session_completed"] * 2
    teacher.follow("Mathematics 9")
    expect(teacher.page.get_by_text("No questions yet")).to_be_hidden()


def test_language_is_that_of_the_reader(visit):
    teacher = visit("teacher")
    teacher.follow("Mathematics 9", "Nederlands")
    teacher.follow("Toets genereren")

    expect(teacher.page.get_by_text("verschijnt op de pagina van het vak")).to_be_visible()
    expect(teacher.page.locator("iframe")).to_have_attribute("title", "Toets genereren")
    expect(teacher.embed.get_by_role("heading", name="Toets genereren")).to_be_visible()


def test_edited_rubric_is_stored(visit):
    teacher = visit("teacher")
    teacher.follow("Mathematics 9", "Edit the rubric Explanation")
    teacher.embed.get_by_label("Criterion").fill("Argument")
    teacher.press("complete")

    expect(teacher.page.get_by_role("link", name="Edit the rubric Argument")).to_be_visible()
    expect(teacher.page.get_by_text("Explanation")).to_be_hidden()


def test_exam_is_taken_and_marked(visit):
    student = visit("student")
    student.follow("Mathematics 9", "Start Fractions and ratios")
    student.embed.get_by_label("Your answer").first.fill("Three eighths")
    student.press("complete")
    expect(student.page.get_by_text("Handed in", exact=True)).to_be_visible()

    teacher = visit("teacher")
    teacher.follow("Mathematics 9", "Fractions and ratios", "Mark the answers of Sam Okafor")
    expect(teacher.page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")
    teacher.embed.get_by_label("Another equal fraction").check()
    expect(teacher.embed.get_by_text("All changes saved")).to_be_visible()
    teacher.follow("Done")
    expect(teacher.page.get_by_text("Your marks are saved.")).to_be_visible()
    expect(teacher.page.get_by_text("Marked on")).to_be_visible()

    student.page.reload()
    expect(student.page.get_by_text("Marked", exact=True)).to_be_visible()


def test_exam_is_taken_only_once_and_only_while_published(visit, examplary):
    student = visit("student")
    student.expects_errors = True  # Refused requests.
    student.follow("Mathematics 9", "Start Fractions and ratios")
    expect(student.embed.get_by_role("heading", name="Take the exam")).to_be_visible()
    launch = student.page.locator("examplary-embed iframe").get_attribute("src")
    tab = student.page.context.new_page()
    exams = apps.get_model("courses", "Exam").objects
    exams.update(is_published=False)
    tab.goto(f"{student.site}{launch}")
    expect(tab.get_by_text("You have no access to this yet")).to_be_visible()

    exams.update(is_published=True)
    student.press("complete")
    expect(student.page.get_by_text("Handed in", exact=True)).to_be_visible()
    tab.goto(f"{student.site}{launch}")
    expect(tab.get_by_text("This session is over")).to_be_visible()
    assert len(examplary.sessions) == 1


@pytest.mark.parametrize("scripting", [True, False])
def test_generate_exam_without_the_script(visit, examplary, announced, scripting):
    """Missing static files, a policy that blocks them, or no JavaScript."""
    teacher = visit("teacher", java_script_enabled=scripting)
    teacher.expects_errors = True
    teacher.page.route("**/embed.js", lambda route: route.abort())
    teacher.follow(*NEW_EXAM)
    link = teacher.page.get_by_role("link", name="I have finished")
    expect(link).to_be_visible()
    expect(teacher.embed.get_by_role("button", name="Create exam")).to_be_visible()
    # The fake's own embeds need JavaScript.
    [session_id] = examplary.sessions
    examplary.complete(session_id)
    link.click()
    expect(teacher.page.get_by_role("heading", name="Have you finished?")).to_be_visible()
    assert announced == []
    teacher.follow("I have finished")

    expect(teacher.page.get_by_role("heading", name="Mathematics 9")).to_be_visible()
    assert announced == ["session_completed"]


def test_without_javascript(visit, announced):
    teacher = visit("teacher", java_script_enabled=False)
    teacher.follow("Mathematics 9", "Fractions and ratios", "Edit the exam")
    expect(teacher.embed.get_by_role("heading", name="Edit the exam")).to_be_visible()
    # One link leads to a page, and the other button posts.
    teacher.follow("I have finished", "I have finished")

    expect(teacher.page.get_by_role("heading", name="Fractions and ratios")).to_be_visible()
    assert announced == ["session_closed"]
