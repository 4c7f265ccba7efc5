"""The look of the example project's pages."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

MATHEMATICS = ("Mathematics 9",)
EXAM = (*MATHEMATICS, "Fractions and ratios")

PATHS = {
    "teacher": {
        "home": (),
        "course": MATHEMATICS,
        "lesson": (*MATHEMATICS, "Prepare a lesson"),
        "exam-new": (*MATHEMATICS, "Generate an exam"),
        "rubric-new": (*MATHEMATICS, "New rubric"),
        "exam": EXAM,
        "exam-edit": (*EXAM, "Edit the exam"),
        "mark": (*EXAM, "Mark the answers of Noor Haddad"),
        "results": ("Results",),
    },
    "student": {
        "home": (),
        "course": MATHEMATICS,
        "practice": (*MATHEMATICS, "Practise"),
        "sitting": (*MATHEMATICS, "Start Fractions and ratios"),
        "results": ("Results",),
    },
}


@pytest.mark.parametrize("username", PATHS)
def test_pages(visit, pictures, username):
    visitor = visit()
    visitor.page.goto(visitor.site)
    problems = {"login": visitor.audit(pictures / f"{username}-login")}
    visitor.enter_as(username)
    for name, path in PATHS[username].items():
        visitor.page.goto(visitor.site)
        visitor.follow(*path)
        embeds = visitor.page.locator("examplary-embed:not(.examplary-embed--modal)")
        for embed in embeds.all():
            embed.scroll_into_view_if_needed()
            expect(embed).not_to_have_attribute("data-state", "loading")
        visitor.page.evaluate("scrollTo(0, 0)")
        problems[name] = visitor.audit(pictures / f"{username}-{name}")

    assert {name: found for name, found in problems.items() if found} == {}
