from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.template.backends.jinja2 import Jinja2
from django.urls import resolve
from pytest_django.asserts import assertHTMLEqual

from django_examplary.embeds import render_script
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryValidationError
from django_examplary.launch import Launch
from tests.html import find, find_all


@pytest.fixture
def page(rf) -> HttpRequest:
    request: HttpRequest = rf.get("/exams/")
    request.user = User(pk=7, username="teacher")
    return request


def render(request: HttpRequest | None, source: str, **context: object) -> str:
    backend = Jinja2(
        {
            "NAME": "jinja2",
            "DIRS": [],
            "APP_DIRS": False,
            "OPTIONS": {"extensions": ["django_examplary.jinja2.ExamplaryExtension"]},
        }
    )
    html: str = backend.from_string(source).render(context, request)
    return html


def launched(url: str) -> Launch:
    return Launch.unsign(resolve(url).kwargs["token"], max_age=60)


def test_embed(page):
    html = render(
        page, "{{ examplary_embed('generate-exam', subject='Art', title=title) }}", title='A "<b>"'
    )

    assert find(html, "iframe")["title"] == 'A "<b>"'
    assert not find_all(html, "b")
    assert launched(find(html, "iframe")["src"]).flow.presets == {"subject": "Art"}


def test_context_is_also_a_preset(page):
    html = render(page, "{{ examplary_embed('generate-exam', context='Only fractions.') }}")

    assert launched(find(html, "iframe")["src"]).flow.presets == {"context": "Only fractions."}


def test_url(page):
    html = render(page, "<a href=\"{{ examplary_url('generate-exam', subject='Art') }}\">Go</a>")

    request = launched(find(html, "a")["href"])
    assert (request.mode, request.flow.presets) == ("window", {"subject": "Art"})


@pytest.mark.parametrize("attribute", ["_csp_nonce", "csp_nonce"])
def test_script_has_the_nonce_of_the_response(page, attribute):
    assertHTMLEqual(render(page, "{{ examplary_script() }}"), render_script())

    setattr(page, attribute, "r4nd0m")

    assertHTMLEqual(render(page, "{{ examplary_script() }}"), render_script(nonce="r4nd0m"))


@pytest.mark.parametrize(
    "call",
    ["examplary_embed('generate-exam')", "examplary_url('generate-exam')", "examplary_script()"],
)
def test_missing_request_is_explained(call):
    with pytest.raises(ExamplaryConfigurationError, match="need the request"):
        render(None, f"{{{{ {call} }}}}")


def test_error_names_the_argument(page):
    with pytest.raises(ExamplaryValidationError, match="exam_id: is required by edit-exam"):
        render(page, "{{ examplary_embed('edit-exam') }}")
