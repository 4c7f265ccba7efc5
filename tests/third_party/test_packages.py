"""A user finishes an embed on the site of each project, which stores the result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from django_examplary.testing import FakeExamplary
from tests.processes import wait_for
from tests.projects import Manage
from tests.third_party.conftest import Visit

LAST_SESSION = """
from django_examplary.models import ExamplarySession
session = ExamplarySession.objects.get()
print(session.status, session.actor.user.email, session.outputs.get("examId"))
"""

# A React page without a build, with a token in its URL and no cookie.
APP = """
const { createElement: h, useEffect, useRef, useState } = React;

function NewExam({ token }) {
  const [data, setData] = useState(null);
  const [exam, setExam] = useState("");
  const box = useRef(null);
  useEffect(() => {
    fetch("/api/new-exam/", { headers: { Authorization: `Token ${token}` } })
      .then((response) => response.json())
      .then(setData);
  }, [token]);
  useEffect(() => {
    if (!data) return;
    const embed = customElements.get("examplary-embed").create(data);
    embed.addEventListener("examplary:completed", (event) => {
      event.preventDefault();
      setExam(event.detail.outputs.examId);
    });
    box.current.append(embed);
    return () => embed.remove();
  }, [data]);
  return h("section", null, h("div", { ref: box }), h("p", null, exam && `Generated ${exam}`));
}

const root = ReactDOM.createRoot(document.querySelector("main"));
root.render(h(NewExam, { token: location.hash.slice(1) }));
"""


def migrate(project: Manage) -> None:
    project.run("migrate", "--verbosity", "0")


def create_teacher(project: Manage) -> None:
    project.run("createsuperuser", "--email", "tea@school.example")


def sign_in(page: Page, path: str, label: str = "Username:") -> None:
    """Sign in as the teacher on the page of the project, and wait for the next page."""
    page.goto(path)
    sign_in_here(page, label)


def sign_in_here(page: Page, label: str = "Username:") -> None:
    page.get_by_label(label).fill("tea")
    page.get_by_label("Password").first.fill("demo")
    # Clicks are lost until the scripts of the next page have run.
    with page.expect_navigation():
        page.locator("[type=submit]").first.click()


def finish(page: Page) -> None:
    """Finish the only embed of a page, in the frame of the fake."""
    # The scripts of the page and the frame have run.
    expect(page.locator("examplary-embed")).to_have_attribute("data-state", "loaded")
    page.frame_locator("iframe").locator("[data-examplary-action=complete]").click()


def assert_result(project: Manage, fake: FakeExamplary) -> None:
    [exam] = fake.exams
    assert project.run("shell", "-c", LAST_SESSION).split()[-3:] == [
        "completed",
        "tea@school.example",
        exam,
    ]


def test_htmx_loads_the_embed(project: Manage, fake: FakeExamplary, visit: Visit) -> None:
    project.write("school/settings.py", 'INSTALLED_APPS += ["django_htmx"]\n')
    project.write(
        "templates/home.html",
        """\
        {% load django_htmx examplary %}<!doctype html><title>Exams</title>
        <body hx-boost="true">{% htmx_script %}{% examplary_script %}
        <button hx-get="/embed/" hx-target="#embed">New exam</button><main id="embed"></main>
        """,
    )
    project.write(
        "templates/embed.html",
        '{% load examplary %}{% examplary_embed "generate-exam" next="/admin/" %}',
    )
    project.write(
        "school/urls.py",
        """\
        urlpatterns += [
            path("home/", TemplateView.as_view(template_name="home.html")),
            path("embed/", TemplateView.as_view(template_name="embed.html")),
        ]
        """,
    )
    migrate(project)
    create_teacher(project)
    with visit(project) as page:
        sign_in(page, "/admin/login/?next=/home/")
        page.get_by_role("button", name="New exam").click()
        finish(page)
        page.wait_for_url("/admin/")
    assert_result(project, fake)


def test_unfold_shows_the_session(project: Manage, fake: FakeExamplary, visit: Visit) -> None:
    project.write("school/settings.py", 'INSTALLED_APPS = ["unfold", *INSTALLED_APPS]\n')
    migrate(project)
    create_teacher(project)
    with visit(project) as page:
        sign_in(page, "/admin/login/?next=/", "Username")
        finish(page)
        page.wait_for_url("/admin/")
        page.goto("/admin/django_examplary/examplarysession/")
        expect(page.locator("#result_list")).to_contain_text("Generate an exam")
    assert_result(project, fake)


def test_allauth_signs_up_with_an_address(
    project: Manage, fake: FakeExamplary, visit: Visit
) -> None:
    project.write(
        "people/models.py",
        """\
        import uuid

        from django.contrib.auth.models import AbstractUser
        from django.db import models


        class User(AbstractUser):
            id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
        """,
    )
    project.write("people/__init__.py", "")
    project.write("people/migrations/__init__.py", "")
    project.write(
        "school/settings.py",
        """\
        INSTALLED_APPS += ["people", "allauth", "allauth.account"]
        AUTH_USER_MODEL = "people.User"
        AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
        MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
        ACCOUNT_LOGIN_METHODS = {"email"}
        ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
        EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
        LOGIN_URL = "account_login"
        LOGIN_REDIRECT_URL = "/"
        """,
    )
    project.write("school/urls.py", 'urlpatterns += [path("accounts/", include("allauth.urls"))]\n')
    project.run("makemigrations", "people", "--verbosity", "0")
    migrate(project)
    with visit(project) as page:
        page.goto("/")
        # The link that visitors see instead of the embed.
        page.get_by_role("link").first.click()
        page.get_by_role("link", name="Sign up").first.click()
        page.get_by_label("Email").fill("tea@school.example")
        page.get_by_label("Password", exact=False).nth(0).fill("a long pass phrase")
        page.get_by_label("Password", exact=False).nth(1).fill("a long pass phrase")
        page.get_by_role("button", name="Sign Up").click()
        finish(page)
        page.wait_for_url("**/admin/**")
    assert_result(project, fake)


def test_react_page_uses_a_token_alone(
    project: Manage, fake: FakeExamplary, visit: Visit, react: list[Path]
) -> None:
    for script in react:
        project.write(f"static/{script.name}", script.read_text(encoding="utf-8"))
    project.write("static/app.js", APP)
    project.write(
        "templates/app.html",
        """\
        {% load static %}<!doctype html><title>Exams</title>
        <link rel="stylesheet" href="{% static "django_examplary/embed.css" %}">
        <main></main>
        <script src="{% static "react.production.min.js" %}"></script>
        <script src="{% static "react-dom.production.min.js" %}"></script>
        <script type="module" src="{% static "django_examplary/embed.js" %}"></script>
        <script type="module" src="{% static "app.js" %}"></script>
        """,
    )
    project.write(
        "school/settings.py",
        """\
        INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken"]
        STATICFILES_DIRS = [BASE_DIR / "static"]
        """,
    )
    project.write(
        "school/urls.py",
        """\
        from rest_framework.authentication import TokenAuthentication
        from rest_framework.permissions import IsAuthenticated
        from rest_framework.response import Response
        from rest_framework.views import APIView

        from django_examplary.embeds import embed_context, render_panels


        class NewExam(APIView):
            authentication_classes = [TokenAuthentication]
            permission_classes = [IsAuthenticated]

            def get(self, request):
                embed = embed_context(request, "generate-exam", one_time=True)
                return Response({**embed, "panels": render_panels()})


        urlpatterns += [
            path("app/", TemplateView.as_view(template_name="app.html")),
            path("api/new-exam/", NewExam.as_view()),
        ]
        """,
    )
    migrate(project)
    create_teacher(project)
    token = project.run("drf_create_token", "tea").split()[2]
    with visit(project) as page:
        page.goto(f"/app/#{token}")
        finish(page)
        page.get_by_text("Generated exam_").wait_for()
        assert page.context.cookies() == []
    assert_result(project, fake)


def test_wagtail_page_and_its_preview(project: Manage, fake: FakeExamplary, visit: Visit) -> None:
    project.write(
        "home/models.py",
        """\
        from wagtail.models import Page


        class ExamPage(Page):
            pass
        """,
    )
    project.write("home/__init__.py", "")
    project.write("home/migrations/__init__.py", "")
    project.write(
        "templates/home/exam_page.html",
        """\
        {% load examplary %}<!doctype html><title>{{ page.title }}</title>
        {% examplary_embed "generate-exam" title=page.title next="/admin/" %}
        {% examplary_script %}
        """,
    )
    project.write(
        "school/settings.py",
        """\
        INSTALLED_APPS += [
            "home",
            *(f"wagtail.{name}" for name in ("sites", "users", "snippets", "documents", "images")),
            *(f"wagtail.{name}" for name in ("embeds", "search", "admin")),
            "wagtail",
            "modelcluster",
            "taggit",
        ]
        WAGTAIL_SITE_NAME = "School"
        WAGTAILADMIN_BASE_URL = "http://localhost"
        MEDIA_ROOT = BASE_DIR / "media"
        """,
    )
    project.write(
        "school/urls.py",
        """\
        from wagtail import urls as wagtail_urls
        from wagtail.admin import urls as wagtailadmin_urls

        urlpatterns += [
            path("cms/", include(wagtailadmin_urls)),
            path("pages/", include(wagtail_urls)),
        ]
        """,
    )
    project.run("makemigrations", "home", "--verbosity", "0")
    migrate(project)
    create_teacher(project)
    create = """
from home.models import ExamPage
from wagtail.models import Site
page = ExamPage(title="New exam", slug="new-exam")
print(Site.objects.get().root_page.add_child(instance=page).pk)
"""
    pk = project.run("shell", "-c", create).split()[-1]
    with visit(project) as page:
        sign_in(page, f"/admin/login/?next=/cms/pages/{pk}/edit/")
        page.get_by_role("button", name="Toggle preview").click()
        preview = page.frame_locator("#w-preview-iframe")
        expect(preview.get_by_text("New exam")).to_be_visible()
        # The preview cannot launch.
        expect(preview.locator("iframe, examplary-embed")).to_have_count(0)
        assert fake.sessions == {}

        page.goto("/pages/new-exam/")
        finish(page)
        page.wait_for_url("/admin/")
    assert_result(project, fake)


def test_celery_sweeps_unreported_results(
    project: Manage, fake: FakeExamplary, visit: Visit, tmp_path: Path
) -> None:
    project.write(
        "school/celery.py",
        """\
        import os

        from celery import Celery

        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "school.settings")
        app = Celery("school")
        app.config_from_object("django.conf:settings", namespace="CELERY")
        app.autodiscover_tasks()
        """,
    )
    project.write(
        "school/__init__.py",
        """\
        from school.celery import app

        __all__ = ["app"]
        """,
    )
    project.write(
        "exams/tasks.py",
        """\
        from celery import shared_task

        from django_examplary import services


        @shared_task
        def sweep_sessions():
            services.sweep_sessions(limit=500)
        """,
    )
    project.write("exams/__init__.py", "")
    (tmp_path / "queue").mkdir()
    project.write(
        "school/settings.py",
        """\
        INSTALLED_APPS += ["exams"]
        CELERY_BROKER_URL = "filesystem://"
        CELERY_BROKER_TRANSPORT_OPTIONS = {
            "data_folder_in": BASE_DIR / "queue",
            "data_folder_out": BASE_DIR / "queue",
        }
        """,
    )
    migrate(project)
    create_teacher(project)
    with visit(project) as page:
        sign_in(page, "/admin/login/?next=/")
        page.frame_locator("iframe").locator("[data-examplary-action=complete]").wait_for()
        [session] = fake.sessions
        page.goto("about:blank")
    fake.complete(session)
    project.run("shell", "-c", "from exams.tasks import *; sweep_sessions.delay()")
    with subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "school", "worker", "--pool", "solo"],
        env=project.environment,
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as worker:
        try:
            wait_for(lambda: "completed" in project.run("shell", "-c", LAST_SESSION), worker)
        finally:
            worker.kill()
    assert_result(project, fake)
