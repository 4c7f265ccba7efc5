"""Follow the tutorial from an empty folder to the last stage, with only its files and commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests

from django_examplary.testing import FakeExamplary, serve
from tests.html import find, find_all
from tests.projects import follow_tutorial

JSON = {"Accept": "application/json"}


def address(page: str) -> str:
    """Return the URL of the iframe of a page, before or after a click."""
    source = find(page, "iframe").get("src")
    openers = [each["href"] for each in find_all(page, "a") if "data-examplary-opener" in each]
    return source or openers[0].replace("/window/", "/launch/")


class Visitor:
    """A user who stays signed in when the server restarts."""

    def __init__(self, site: str, fake: FakeExamplary, name: str) -> None:
        self.site = site
        self.fake = fake
        self.browser = requests.Session()
        self.post("/accounts/login/", username=name, password="demo")
        assert "sessionid" in self.browser.cookies

    def get(self, path: str) -> requests.Response:
        return self.browser.get(self.site + path, timeout=60)

    def post(self, path: str, page: str = "", **data: str) -> requests.Response:
        token = find_all(self.get(page or path).text, "input")[0]["value"]
        data["csrfmiddlewaretoken"] = token
        return self.browser.post(self.site + path, data=data, timeout=60)

    def launch(self, path: str) -> tuple[dict[str, str], requests.Response]:
        """Open a page and load its embed; return the embed's attributes and the response."""
        page = self.get(path).text
        response = self.browser.get(self.site + address(page), allow_redirects=False, timeout=60)
        return find(page, "examplary-embed"), response

    def finish(self, path: str, action: str) -> None:
        """Open an embed, finish its session, and report the end as the script does."""
        known = set(self.fake.sessions)
        embed, response = self.launch(path)
        [session_id] = set(self.fake.sessions) - known
        assert response.headers["Location"] == self.fake.sessions[session_id].embed_url
        if action == "sync":
            self.fake.complete(session_id)
        answer = self.browser.post(
            f"{self.site}/examplary/{action}/{embed['data-key']}/",
            headers=JSON,
            data={"csrfmiddlewaretoken": embed["data-csrf-token"]},
            timeout=60,
        )
        assert answer.json()["redirect"] == "/", answer.text


@dataclass
class School:
    fake: FakeExamplary
    site: str = ""
    visitors: dict[str, Visitor] = field(default_factory=dict)

    def sign_in(self, name: str) -> Visitor:
        """Sign in a user once, because hashing the password takes half a second."""
        if name not in self.visitors:
            self.visitors[name] = Visitor(self.site, self.fake, name)
        self.visitors[name].site = self.site
        return self.visitors[name]


def check_sign_in(school: School) -> None:
    assert "There are no exams yet." in school.sign_in("tea").get("/").text


def check_generate(school: School) -> None:
    teacher = school.sign_in("tea")
    teacher.finish("/exams/new/", "sync")
    [exam] = school.fake.exams.values()
    assert exam["name"] in teacher.get("/").text
    # The page is not for students.
    assert "<iframe" not in school.sign_in("sam").get("/exams/new/").text


def check_edit(school: School) -> None:
    [exam] = school.fake.exams.values()
    exam["name"] = "Powers and roots"
    teacher = school.sign_in("tea")
    teacher.finish("/exams/1/edit/", "close")
    assert "Powers and roots" in teacher.get("/").text


def check_take(school: School) -> None:
    student = school.sign_in("sam")
    assert student.get("/exams/1/take/").status_code == 404
    school.sign_in("tea").post("/exams/1/publish/", page="/")
    student.finish("/exams/1/take/", "sync")
    # A second attempt redirects to the list.
    assert "<iframe" not in student.get("/exams/1/take/").text


def check_mark(school: School) -> None:
    teacher = school.sign_in("tea")
    assert ": marked" not in " ".join(teacher.get("/sittings/").text.split())
    teacher.finish("/sittings/1/mark/", "close")
    assert ": marked" in " ".join(teacher.get("/sittings/").text.split())


def check_authorize(school: School) -> None:
    student, teacher = school.sign_in("ann"), school.sign_in("tea")
    page = student.get("/exams/1/take/").text
    teacher.post("/exams/1/publish/", page="/")

    # The page is still open, but its exam was withdrawn.
    assert student.get(address(page)).status_code == 403
    assert teacher.launch("/exams/1/edit/")[1].status_code == 302


CHECKS: dict[str, Callable[[School], None]] = {
    "sign-in": check_sign_in,
    "generate": check_generate,
    "edit": check_edit,
    "take": check_take,
    "mark": check_mark,
    "authorize": check_authorize,
}


def test_tutorial(tmp_path: Path) -> None:
    stages = []
    with serve(FakeExamplary(staging=True)) as server:
        school = School(server.fake)
        for stage, manage in follow_tutorial(tmp_path, server.fake):
            stages.append(stage)
            with manage.serve() as school.site:
                CHECKS[stage](school)
    assert stages == list(CHECKS)
