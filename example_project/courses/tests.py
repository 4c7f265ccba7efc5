"""Example tests of a project: with the fake, over HTTP, without a browser."""

# ruff: noqa: PT009  # Run by Django, as in most projects: manage.py test

from __future__ import annotations

import io
import re
import zipfile
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import TestCase, override_settings
from django.urls import reverse
from django.utils import timezone

from courses import confirmation, content
from courses.models import Course, Exam, Question, Rubric, Sitting
from courses.schools import workspace_of
from django_examplary.models import ExamplarySession
from django_examplary.testing import Embed, ExamplaryTestMixin, open_embed


def seed() -> None:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        call_command("seed")


class SchoolTestCase(ExamplaryTestMixin, TestCase):
    fake_options = {"staging": True}

    @classmethod
    def setUpTestData(cls) -> None:
        seed()
        cls.course = Course.objects.get(name="Mathematics 9")
        cls.exam = Exam.objects.get()
        cls.rubric = Rubric.objects.get()
        cls.handed_in = Sitting.objects.get()

    def sign_in(self, username: str) -> None:
        self.client.force_login(User.objects.get(username=username))

    def finish(self, url: str, **outputs: Any) -> None:
        """Open a page, and finish its embed."""
        answer = self.open_embed(url).complete(outputs or None)
        self.assertEqual(answer["status"], "completed")


class PageTests(SchoolTestCase):
    def assert_answers(self, username: str, expected: dict[str, int]) -> None:
        self.sign_in(username)
        for url, status in expected.items():
            with self.subTest(username=username, url=url):
                self.assertEqual(self.client.get(url).status_code, status)

    def test_each_role_has_its_pages(self) -> None:
        both = [reverse("home"), self.course.get_absolute_url(), reverse("results")]
        teachers = [
            *(
                reverse(name, args=[self.course.pk])
                for name in ("exam-new", "rubric-new", "lesson")
            ),
            reverse("rubric-edit", args=[self.rubric.pk]),
            self.exam.get_absolute_url(),
            reverse("exam-edit", args=[self.exam.pk]),
            reverse("exam-download", args=[self.exam.pk]),
            reverse("mark", args=[self.handed_in.pk]),
        ]
        students = [reverse("practice", args=[self.course.pk])]

        self.assert_answers("teacher", dict.fromkeys([*both, *teachers], 200))
        self.assert_answers("teacher", dict.fromkeys(students, 404))
        self.assert_answers("student", dict.fromkeys([*both, *students], 200))
        self.assert_answers("student", dict.fromkeys(teachers, 404))
        # An administrator neither teaches nor takes a course.
        self.assert_answers("admin", {both[0]: 200, both[1]: 404, teachers[0]: 404})

    def test_signed_out_visitors_are_asked_to_sign_in(self) -> None:
        for url in (reverse("home"), self.exam.get_absolute_url()):
            self.assertRedirects(self.client.get(url), f"{reverse('login')}?next={url}")

    def test_pages_make_no_calls(self) -> None:
        self.sign_in("teacher")
        for name in ("course", "exam-new", "rubric-new", "lesson"):
            self.client.get(reverse(name, args=[self.course.pk]))
        self.assertEqual(self.fake.calls(), [])

    def test_head_creates_nothing(self) -> None:
        for username, name, pk in (
            ("teacher", "rubric-edit", self.rubric.pk),
            ("teacher", "exam-edit", self.exam.pk),
            ("teacher", "exam-download", self.exam.pk),
            ("teacher", "mark", self.handed_in.pk),
            ("student", "practice", self.course.pk),
        ):
            self.sign_in(username)
            with self.subTest(name):
                self.assertEqual(self.client.head(reverse(name, args=[pk])).status_code, 405)
        self.assertEqual(self.fake.calls(), [])

    def test_outage_shows_an_error_page(self) -> None:
        self.sign_in("teacher")
        self.fake.fail(status=503, times=None)
        with self.assertLogs("courses.views", "ERROR"):
            response = self.client.get(reverse("exam-download", args=[self.exam.pk]))
        self.assertContains(response, "Nothing is lost", status_code=503)

    def test_students_see_published_exams_only(self) -> None:
        self.sign_in("teacher")
        publish = reverse("exam-publish", args=[self.exam.pk])
        start = reverse("exam-start", args=[self.exam.pk])
        for data, status in (({}, 404), ({"publish": ""}, 302)):
            self.sign_in("teacher")
            self.client.post(publish, data)
            self.sign_in("student")
            self.assertEqual(self.client.post(start).status_code, status)

    def test_sitting_is_for_students_of_the_course_while_it_is_published(self) -> None:
        self.sign_in("student")
        page = self.client.post(reverse("exam-start", args=[self.exam.pk])).url
        gone = {page: 404}

        self.assert_answers("student", {page: 200})
        self.assert_answers("noor", gone)
        Exam.objects.update(is_published=False)
        self.assert_answers("student", gone)
        Exam.objects.update(is_published=True)
        self.course.students.remove(User.objects.get(username="student"))
        self.assert_answers("student", gone)

    def test_policy_allows_the_embeds(self) -> None:
        policy = self.client.get(reverse("login"))["Content-Security-Policy"]
        self.assertIn("script-src 'self';", policy)
        self.assertIn(f"frame-src 'self' {self.fake.embed_origin};", policy)
        self.assertNotIn("unsafe", policy)

    @override_settings(STATIC_URL="https://static.northfield.example/")
    def test_policy_keeps_the_sources_of_the_site(self) -> None:
        policy = self.client.get(reverse("login"))["Content-Security-Policy"]
        self.assertIn("script-src 'self' https://static.northfield.example;", policy)


class LaunchTests(SchoolTestCase):
    """Launches from a page that stays open after its user loses the permission."""

    def open_sitting(self) -> Embed:
        self.sign_in("student")
        return self.open_embed(self.client.post(reverse("exam-start", args=[self.exam.pk])).url)

    def assert_launches(self, embed: Embed, status: int) -> None:
        self.assertEqual(self.client.get(embed.launch_url).status_code, status)

    def test_withdrawn_exam_is_not_opened(self) -> None:
        embed = self.open_sitting()

        Exam.objects.update(is_published=False)
        self.assert_launches(embed, 403)
        Exam.objects.update(is_published=True)
        self.assert_launches(embed, 302)

    def test_exam_that_was_handed_in_is_not_opened_again(self) -> None:
        embed = self.open_sitting()
        embed.complete()

        self.assert_launches(embed, 410)
        self.assertEqual(len(self.fake.sessions), 1)

    def test_lost_permissions_open_nothing(self) -> None:
        pages = {
            "teacher": [
                self.course.get_absolute_url(),
                *(reverse(name, args=[self.course.pk]) for name in ("exam-new", "rubric-new")),
                reverse("rubric-edit", args=[self.rubric.pk]),
                reverse("exam-edit", args=[self.exam.pk]),
                reverse("mark", args=[self.handed_in.pk]),
            ],
            "student": [reverse("practice", args=[self.course.pk])],
        }
        for username, urls in pages.items():
            self.sign_in(username)
            course = Course.objects.filter(pk=self.course.pk)
            for url in urls:
                with self.subTest(url):
                    embed = self.open_embed(url)
                    course.update(teacher=User.objects.get(username="noor"))
                    self.course.students.clear()
                    self.assert_launches(embed, 403)
                    course.update(teacher=self.course.teacher)
                    self.course.students.set(User.objects.filter(username="student"))


class ResultTests(SchoolTestCase):
    def test_generated_exam(self) -> None:
        self.sign_in("teacher")
        self.finish(reverse("exam-new", args=[self.course.pk]))

        exam = Exam.objects.latest("created_at")
        self.assertIn(exam.examplary_id, self.fake.exams)
        self.assertEqual(exam.name, "Mathematics 9, exam 2")
        page = self.client.get(self.course.done_url, follow=True)
        self.assertContains(page, "The exam “Mathematics 9, exam 2” is ready.")
        self.assertNotContains(page, exam.examplary_id)

    def test_generated_exam_is_stored_if_its_name_cannot_be_read(self) -> None:
        self.sign_in("teacher")
        self.fake.fail("GET", "/exams/{id}", status=404)
        with self.assertLogs("django.dispatch", "ERROR"):
            self.finish(reverse("exam-new", args=[self.course.pk]))

        self.assertEqual(Exam.objects.latest("created_at").name, "Untitled exam")

    def test_question(self) -> None:
        self.sign_in("teacher")
        question = {"type": "essay", "title": "Why is zero even?"}
        self.finish(self.course.get_absolute_url(), question=question)

        self.assertEqual(Question.objects.get().content, question)

    def test_new_rubric(self) -> None:
        self.sign_in("teacher")
        self.finish(reverse("rubric-new", args=[self.course.pk]))

        self.assertEqual(str(Rubric.objects.latest("pk")), "Correctness")

    def test_changed_rubric(self) -> None:
        self.sign_in("teacher")
        changed = {"criteria": [{"title": "Argument", "levels": []}]}
        self.finish(reverse("rubric-edit", args=[self.rubric.pk]), rubric=changed)

        self.assertEqual(Rubric.objects.get().content, changed)

    def test_sitting(self) -> None:
        self.sign_in("student")
        response = self.client.post(reverse("exam-start", args=[self.exam.pk]))
        self.finish(response.url)

        sitting = Sitting.objects.get(student__username="student")
        self.assertIsNotNone(sitting.handed_in_at)
        self.assertRedirects(self.client.get(response.url), self.course.get_absolute_url())

    def test_marking(self) -> None:
        self.sign_in("teacher")
        page = reverse("mark", args=[self.handed_in.pk])
        self.client.get(page)
        # The page only waits for the exam; the frame makes the other calls.
        self.assertEqual(self.fake.calls(), self.fake.calls("POST", "/exams"))
        self.finish(page)
        self.assert_sent("POST", "/permissions/{resource}", role="editor")

        self.handed_in.refresh_from_db()
        self.assertIsNotNone(self.handed_in.marked_at)


class ConfirmationTests(SchoolTestCase):
    def assert_confirmed(self, url: str, text: str) -> None:
        page = self.client.get(url, follow=True)
        self.assertRedirects(page, url.partition("?")[0])
        self.assertContains(page, f'<p class="message" role="status">{text}</p>', html=True)
        self.assertNotContains(self.client.get(page.request["PATH_INFO"]), 'class="message"')

    def test_each_flow_is_confirmed(self) -> None:
        course, exam = self.course, self.exam
        for name, pk, done_url, text in (
            ("exam-new", course.pk, course.done_url, "Mathematics 9, exam 2"),
            ("rubric-new", course.pk, course.done_url, "The rubric is saved."),
            ("mark", self.handed_in.pk, exam.done_url, "Your marks are saved."),
        ):
            with self.subTest(name):
                self.sign_in("teacher")
                self.finish(reverse(name, args=[pk]))
                if name == "exam-new":
                    text = f"The exam “{text}” is ready. Publish it when you like."
                self.assert_confirmed(done_url, text)
        self.sign_in("student")
        self.finish(self.client.post(reverse("exam-start", args=[exam.pk])).url)
        self.assert_confirmed(course.done_url, "You have handed in “Fractions and ratios”.")

    def test_outcome_without_an_id_names_no_other_exam(self) -> None:
        Exam.objects.update(examplary_id=None)
        session = ExamplarySession(flow="generate-exam", status="completed")
        self.assertNotIn(str(self.exam), confirmation.describe(session))

    def test_flow_that_was_cancelled(self) -> None:
        self.sign_in("teacher")
        self.open_embed(reverse("exam-new", args=[self.course.pk])).cancel()

        self.assert_confirmed(self.course.done_url, "You cancelled. Nothing has changed.")

    def test_old_url_confirms_nothing(self) -> None:
        self.sign_in("teacher")
        self.finish(reverse("rubric-new", args=[self.course.pk]))
        ExamplarySession.objects.update(ended_at=timezone.now() - timedelta(minutes=2))

        page = self.client.get(self.course.done_url, follow=True)
        self.assertNotContains(page, 'class="message"')


class TourTests(SchoolTestCase):
    def test_tour_of_each_account_has_links_that_exist(self) -> None:
        for username, count in (("teacher", 3), ("student", 2), ("admin", 2)):
            self.sign_in(username)
            page = self.client.get(reverse("home")).content.decode()
            links = re.findall(
                r'<li>.*?<a href="([^"]+)"', page.partition("tour")[2].partition("<form")[0]
            )
            self.assertEqual(len(links), count)
            for link in links:
                with self.subTest(username=username, link=link):
                    self.assertEqual(self.client.get(link).status_code, 200)

    def test_tour_is_hidden_until_the_next_sign_in(self) -> None:
        self.sign_in("student")
        self.assertContains(self.client.get(reverse("home")), "A tour in five minutes")
        self.client.post(reverse("tour-hide"))
        self.assertNotContains(self.client.get(reverse("home")), "A tour in five minutes")
        self.client.logout()
        self.sign_in("student")
        self.assertContains(self.client.get(reverse("home")), "A tour in five minutes")


class ContentTests(SchoolTestCase):
    """Concurrent visitors read the row before one of them updates it."""

    def test_concurrent_visitors_use_the_same_exam(self) -> None:
        first, second = Exam.objects.get(), Exam.objects.get()
        content.send_exam(first)
        content.send_exam(second)

        self.exam.refresh_from_db()
        self.assertEqual(first.examplary_id, self.exam.examplary_id)
        self.assertEqual(second.examplary_id, self.exam.examplary_id)

    def test_concurrent_visitors_use_the_same_practice_space(self) -> None:
        first, second = (Course.objects.get(pk=self.course.pk) for _ in range(2))
        content.open_practice_space(first)
        content.open_practice_space(second)

        self.course.refresh_from_db()
        self.assertEqual(first.practice_space_id, self.course.practice_space_id)
        self.assertEqual(second.practice_space_id, self.course.practice_space_id)


class TwoSchoolsTests(ExamplaryTestMixin, TestCase):
    """Southfield has an API key, so it has its own workspace."""

    fake_options = {"staging": True}

    def setUp(self) -> None:
        super().setUp()
        self.south = self.fake.add_workspace(staging=True)
        key = self.south.api_key
        self.enterContext(
            override_settings(
                SOUTHFIELD_API_KEY=key, EXAMPLARY_WORKSPACES={"southfield": {"API_KEY": key}}
            )
        )
        seed()
        self.northern, self.southern = (
            Exam.objects.get(course__name="Mathematics 9"),
            Exam.objects.get(course__name="History 9"),
        )

    def sign_in(self, username: str) -> None:
        self.client.force_login(User.objects.get(username=username))

    def test_each_school_has_its_content_in_its_own_workspace(self) -> None:
        for username, exam, workspace in (
            ("teacher", self.northern, self.fake),
            ("rosa", self.southern, self.south),
        ):
            self.sign_in(username)
            download = self.client.get(reverse("exam-download", args=[exam.pk]))
            self.assertEqual(download.status_code, 200)
            exam.refresh_from_db()
            self.assertEqual(list(workspace.exams), [exam.examplary_id])
        for username, workspace in (("student", self.fake), ("luis", self.south)):
            self.sign_in(username)
            course = Course.objects.filter(students__username=username).latest("name")
            self.client.get(reverse("practice", args=[course.pk]))
            course.refresh_from_db()
            self.assertEqual(list(workspace.practice_spaces), [course.practice_space_id])

    def test_result_comes_from_the_workspace_of_the_school(self) -> None:
        self.sign_in("rosa")
        page = reverse("exam-new", args=[self.southern.course.pk])
        open_embed(self.client, self.south, page).complete()

        exam = Exam.objects.latest("created_at")
        self.assertIn(exam.examplary_id, self.south.exams)
        self.assertNotEqual(exam.name, "Untitled exam")
        self.assertEqual(self.fake.sessions, {})

    def test_student_takes_an_exam_in_the_workspace_of_the_school(self) -> None:
        self.sign_in("luis")
        start = self.client.post(reverse("exam-start", args=[self.southern.pk]))
        open_embed(self.client, self.south, start.url).complete()

        self.assertTrue(
            Sitting.objects.filter(student__username="luis", handed_in_at__isnull=False)
        )

    def test_pages_name_the_school_and_its_accounts(self) -> None:
        for username, school, other in (
            ("teacher", "Northfield School", "Sign in as student"),
            ("rosa", "Southfield School", "Sign in as luis"),
            ("luis", "Southfield School", "Sign in as rosa"),
        ):
            self.sign_in(username)
            page = self.client.get(reverse("home"))
            self.assertContains(page, f"· {school}</title>")
            self.assertContains(page, other)

    def test_sign_in_names_the_accounts_of_both_schools(self) -> None:
        page = self.client.get(reverse("login"))
        for account in ("teacher", "student", "admin", "rosa", "luis"):
            self.assertContains(page, f"<b>{account}</b>")

    def test_site_without_the_key_has_one_school(self) -> None:
        with override_settings(SOUTHFIELD_API_KEY="", EXAMPLARY_WORKSPACES={}):
            self.assertNotContains(self.client.get(reverse("login")), "<b>rosa</b>")
            self.assertEqual(workspace_of(User.objects.get(username="rosa")), "default")


class DownloadTests(SchoolTestCase):
    def test_package(self) -> None:
        self.sign_in("teacher")
        response = self.client.get(reverse("exam-download", args=[self.exam.pk]))

        self.assertEqual(
            response["Content-Disposition"], 'attachment; filename="fractions-and-ratios-qti3.zip"'
        )
        with zipfile.ZipFile(io.BytesIO(response.content)) as package:
            self.assertIn("imsmanifest.xml", package.namelist())

    def test_download_is_for_the_teacher_of_the_course_only(self) -> None:
        other = User.objects.create_user("other", "other@northfield.example")
        Course.objects.create(name="Art", subject="Art", teacher=other)
        for username in ("other", "student", "admin"):
            self.sign_in(username)
            response = self.client.get(reverse("exam-download", args=[self.exam.pk]))
            self.assertEqual(response.status_code, 404)
        self.assertEqual(self.fake.calls(), [])
