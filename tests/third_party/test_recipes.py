"""Recipes of the documentation for other packages and servers, in real projects."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, expect

from django_examplary.testing import FakeExamplary
from tests import processes
from tests.projects import ROOT, Manage
from tests.third_party.conftest import Visit
from tests.third_party.test_packages import (
    assert_result,
    create_teacher,
    finish,
    migrate,
    sign_in,
    sign_in_here,
)


def blocks(package: str) -> list[str]:
    """Return the code blocks of the documentation that need this package."""
    pattern = re.compile(rf"<!-- needs {package} -->\n\n```python\n(.*?)^```$", re.S | re.M)
    return [
        code
        for page in sorted((ROOT / "docs").rglob("*.md"))
        for code in pattern.findall(page.read_text(encoding="utf-8"))
    ]


# Components

COTTON = """
{% load examplary %}<!doctype html><title>Exams</title>
<c-exam only :request="request" />{% examplary_script %}
"""
COMPONENTS = """
{% load component_tags examplary %}<!doctype html><title>Exams</title>
{% component "exam" only / %}{% examplary_script %}
"""
EXAM = '{% load examplary %}{% examplary_embed "generate-exam" next="/admin/" %}'


def write_cotton(project: Manage, page: str) -> None:
    project.write("school/settings.py", 'INSTALLED_APPS += ["django_cotton"]\n')
    project.write("templates/cotton/exam.html", EXAM)
    project.write("templates/exams.html", page)


def write_components(project: Manage, page: str) -> None:
    project.write("school/settings.py", 'INSTALLED_APPS += ["django_components"]\n')
    project.write(
        "school/components/exam.py",
        f"""\
        from django_components import Component, register


        @register("exam")
        class Exam(Component):
            template = '{EXAM}'
        """,
    )
    project.write("school/urls.py", "import school.components.exam\n")
    project.write("templates/exams.html", page)


@pytest.mark.parametrize(
    ("write", "source"),
    [(write_cotton, COTTON), (write_components, COMPONENTS)],
    ids=["django-cotton", "django-components"],
)
def test_isolated_component_renders_an_embed(
    project: Manage,
    fake: FakeExamplary,
    visit: Visit,
    write: Callable[[Manage, str], None],
    source: str,
) -> None:
    write(project, source)
    project.write(
        "school/urls.py",
        'urlpatterns += [path("exams/", TemplateView.as_view(template_name="exams.html"))]\n',
    )
    migrate(project)
    create_teacher(project)
    with visit(project) as page:
        sign_in(page, "/admin/login/?next=/exams/")
        finish(page)
        page.wait_for_url("/admin/")
    assert_result(project, fake)


def test_isolated_component_of_cotton_without_the_request_is_explained(project: Manage) -> None:
    write_cotton(project, COTTON.replace(' :request="request"', ""))
    code = """
from django.template.loader import render_to_string
from django.test import RequestFactory
try:
    render_to_string("exams.html", request=RequestFactory().get("/"))
except Exception as error:
    print(error)
"""
    assert '<c-exam only :request="request" />' in project.run("shell", "-c", code)


# Transactions

REVERSION = 'INSTALLED_APPS += ["reversion"]\nMIDDLEWARE += ["{}"]\n'


def test_subclass_of_revision_middleware_accepts_results(
    project: Manage, fake: FakeExamplary, visit: Visit
) -> None:
    code, _ = blocks("django-reversion")
    project.write("school/middleware.py", code)
    project.write("school/settings.py", REVERSION.format("school.middleware.Revisions"))
    migrate(project)
    create_teacher(project)
    with visit(project) as page:
        sign_in(page, "/admin/login/?next=/")
        finish(page)
        page.wait_for_url("/admin/")
    assert_result(project, fake)


def test_revision_middleware_itself_is_reported(project: Manage) -> None:
    middleware = "reversion.middleware.RevisionMiddleware"
    project.write("school/settings.py", REVERSION.format(middleware))
    code = "from django.core.checks import run_checks; print([m.id for m in run_checks()])"
    assert "['django_examplary.W028']" in project.run("shell", "-c", code)


def test_version_admin_provisions_users(project: Manage) -> None:
    _, code = blocks("django-reversion")
    project.write("school/admin.py", code)
    project.write(
        "school/admin.py",
        """
        from django.contrib import admin
        from django.contrib.auth.models import User

        admin.site.unregister(User)
        admin.site.register(User, SchoolUserAdmin)
        """,
    )
    project.write("school/settings.py", 'INSTALLED_APPS += ["reversion", "school"]\n')
    migrate(project)
    create_teacher(project)
    provision = """
from django.contrib.auth.models import User
from django.test import Client
user = User.objects.get()
client = Client(headers={"host": "localhost"})
client.force_login(user)
data = {"action": "provision_teachers", "_selected_action": [user.pk]}
client.post("/admin/auth/user/", data)
print(user.examplary_actor.state)
"""
    assert "active" in project.run("shell", "-c", provision)


# Static files on another host


@contextmanager
def serve_files(folder: Path, allowed_origin: str) -> Iterator[str]:
    """Serve a folder, and let pages of an origin load modules from it."""

    class Files(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            if allowed_origin:
                self.send_header("Access-Control-Allow-Origin", allowed_origin)
            super().end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("has_cors", [True, False])
def test_static_files_on_another_host(
    project: Manage, fake: FakeExamplary, visit: Visit, has_cors: bool
) -> None:
    project.write("school/settings.py", 'STATIC_ROOT = BASE_DIR / "collected"\n')
    migrate(project)
    create_teacher(project)
    project.run("collectstatic", "--verbosity", "0")
    with serve_files(project.folder / "collected", "*" if has_cors else "") as address:
        project.write("school/settings.py", f'STATIC_URL = "{address}"\n')
        with visit(project) as page:
            errors: list[str] = []
            page.on("console", lambda message: errors.append(message.text))
            sign_in(page, "/admin/login/?next=/")
            expect(page.locator("examplary-embed")).to_have_css("display", "flex")
            if has_cors:
                finish(page)
            else:
                # The page has no script that reports when the script of the frame has run.
                button = page.frame_locator("iframe").locator("[data-examplary-action=complete]")
                button.wait_for()
                page.frames[-1].wait_for_load_state()
                button.click()
                processes.wait_for(lambda: fake.exams)
                page.get_by_role("link", name="I have finished").click()
                page.get_by_role("button", name="I have finished").click()
            page.wait_for_url("/admin/")
    assert any("Access-Control-Allow-Origin" in each for each in errors) is not has_cors
    assert_result(project, fake)


# Impersonation

IMPERSONATE = """
INSTALLED_APPS += ["impersonate"]
MIDDLEWARE += ["impersonate.middleware.ImpersonateMiddleware"]
"""
SU = """
INSTALLED_APPS += ["django_su"]
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "django_su.backends.SuBackend",
]
"""

STAFF = """
import html
import re

from django.contrib.auth import get_user_model
from django.test import Client, override_settings

from django_examplary.models import ExamplarySession
from school.policy import refuse_impersonation

User = get_user_model()
pupil = User.objects.create_user("pupil", "pupil@school.example")


def enter_as(user):
    client = Client(headers={"host": "localhost"})
    client.force_login(user, "django.contrib.auth.backends.ModelBackend")
    return client


def launch(client):
    page = client.get("/").content.decode()
    return client.get(html.unescape(re.search('src="([^"]+)"', page)[1])).status_code


results = [launch(enter_as(pupil))]
for leave in (lambda: staff.get("LEAVE"), lambda: staff.post("/logout/")):
    staff = enter_as(User.objects.get(username="tea"))
    staff.METHOD(f"/staff/{pupil.pk}/")
    results.append(launch(staff))
    with override_settings(EXAMPLARY_AUTHORIZE=refuse_impersonation):
        results.append(launch(staff))
        leave()
        if "_auth_user_id" in staff.session:
            results.append(launch(staff))
print(*results, ExamplarySession.objects.get(actor__user=pupil).status)
"""


@pytest.mark.parametrize(
    ("settings", "urls", "method", "leave"),
    [
        (IMPERSONATE, "impersonate.urls", "get", "/staff/stop/"),
        (SU, "django_su.urls", "post", "/staff/"),
    ],
    ids=["django-impersonate", "django-su"],
)
def test_staff_member_acts_as_a_user(
    project: Manage, settings: str, urls: str, method: str, leave: str
) -> None:
    page = (ROOT / "docs/howto/other-apps.md").read_text(encoding="utf-8")
    [recipe] = re.findall(r"^def refuse_impersonation.*?(?=^```)", page, re.S | re.M)
    project.write("school/policy.py", recipe)
    project.write("school/settings.py", settings)
    project.write(
        "school/urls.py",
        f"""\
        from django.contrib.auth.views import LogoutView

        urlpatterns += [
            path("staff/", include("{urls}")),
            path("logout/", LogoutView.as_view(next_page="/")),
        ]
        """,
    )
    migrate(project)
    create_teacher(project)
    code = STAFF.replace("METHOD", method).replace("LEAVE", leave)

    # The user; a staff member as the user, refused, then after leaving; a staff member as the user,
    # refused, then signing out.
    assert project.run("shell", "-c", code).split()[-7:] == [
        *("302", "302", "403", "302", "302", "403"),
        "pending",
    ]


# Clients with a token

TOKENS = """
from django.contrib.auth import get_user_model


def find_user(token):
    return get_user_model().objects.filter(username=token).first()
"""

API_CLIENT = """
import json

from django.test import Client

client = Client(headers={"host": "localhost"})
print(client.post("/api/new-exam/").status_code)
data = client.post("/api/new-exam/", headers={"authorization": "%s"}).json()
page = Client(headers={"host": "localhost"}).get(data["url"])
print(page.status_code, page.headers.get("Location", page.content))
"""


def assert_api_opens_a_session(project: Manage, fake: FakeExamplary, authorization: str) -> None:
    output = project.run("shell", "-c", API_CLIENT % authorization)
    [session] = fake.sessions.values()
    assert output.split()[-3:] == ["401", "302", session.embed_url]


def test_recipe_for_django_rest_framework(project: Manage, fake: FakeExamplary) -> None:
    [code] = blocks("djangorestframework")
    project.write(
        "school/settings.py",
        """\
        INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken"]
        REST_FRAMEWORK = {
            "DEFAULT_AUTHENTICATION_CLASSES": [
                "rest_framework.authentication.TokenAuthentication",
            ],
        }
        """,
    )
    project.write("school/api.py", code)
    project.write(
        "school/urls.py",
        """\
        from school.api import new_exam

        urlpatterns += [path("api/new-exam/", new_exam)]
        """,
    )
    migrate(project)
    create_teacher(project)
    token = project.run("drf_create_token", "tea").split()[2]

    assert_api_opens_a_session(project, fake, f"Token {token}")


def test_recipe_for_django_ninja(project: Manage, fake: FakeExamplary) -> None:
    [code] = blocks("django-ninja")
    project.write("school/tokens.py", TOKENS)
    project.write("school/api.py", code)
    project.write(
        "school/urls.py",
        """\
        from school.api import api

        urlpatterns += [path("api/", api.urls)]
        """,
    )
    migrate(project)
    create_teacher(project)

    assert_api_opens_a_session(project, fake, "Bearer tea")


# A site below a path

MOUNTED = """
{% load examplary %}<!doctype html><title>Exams</title>
{% examplary_embed "generate-exam" load="eager" %}{% examplary_script %}
<a href="{% examplary_url "generate-exam" %}">In the window</a>
<form></form>
"""

# A proxy in front of the site does the same.
STRIP = """
serve = application


def application(environ, start_response):
    environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/school")
    return serve(environ, start_response)
"""


def serve(project: Manage, **environment: str) -> AbstractContextManager[str]:
    """Serve the project with gunicorn."""
    return processes.serve(
        *(sys.executable, "-m", "gunicorn", "school.wsgi", "--chdir", str(project.folder)),
        *("--bind", "127.0.0.1:0", "--threads", "4"),
        environment=project.environment | environment,
    )


@pytest.mark.parametrize("kind", ["SCRIPT_NAME", "FORCE_SCRIPT_NAME"])
def test_site_below_a_path(
    project: Manage, fake: FakeExamplary, browser: Browser, kind: str
) -> None:
    environment = {}
    if kind == "SCRIPT_NAME":
        environment = {"SCRIPT_NAME": "/school"}
    else:
        project.write("school/settings.py", 'FORCE_SCRIPT_NAME = "/school"\n')
        project.write("school/wsgi.py", STRIP)
    project.write("templates/mounted.html", MOUNTED)
    project.write(
        "school/settings.py",
        """\
        LOGIN_URL = "admin:login"
        STATIC_URL = "static/"
        ALLOWED_HOSTS = ["127.0.0.1"]
        """,
    )
    project.write(
        "school/urls.py",
        """\
        from django.contrib.staticfiles.urls import staticfiles_urlpatterns

        urlpatterns += [path("mounted/", TemplateView.as_view(template_name="mounted.html"))]
        urlpatterns += staticfiles_urlpatterns("/static/")
        """,
    )
    migrate(project)
    create_teacher(project)
    with serve(project, **environment) as address, browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{address}/school/mounted/")
        # The link that visitors see instead of the embed.
        page.get_by_role("link").first.click()
        sign_in_here(page)
        finish(page)
        expect(page.locator("examplary-embed")).to_have_attribute("data-state", "completed")
        with page.expect_navigation():
            page.get_by_role("link", name="In the window").click()
        page.locator("[data-examplary-action=complete]").click()
        page.wait_for_url(f"{address}/school/examplary/return/**")
        expect(page.locator("h1")).to_have_text("Finished")
        assert page.get_by_role("link").first.get_attribute("href") == "/school/"
    assert [each.status for each in fake.sessions.values()] == ["completed", "completed"]
