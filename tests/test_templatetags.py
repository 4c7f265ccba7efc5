from __future__ import annotations

import django
import pytest
from csp.constants import NONCE
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpRequest
from django.template import (
    Context,
    Engine,
    Library,
    RequestContext,
    Template,
    TemplateSyntaxError,
)
from django.urls import resolve
from django.utils import translation
from pytest_django.asserts import assertHTMLEqual

from django_examplary.embeds import render_embed, render_script
from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryValidationError
from django_examplary.flows import GenerateExam
from django_examplary.launch import Launch
from django_examplary.models import ExamplarySession
from tests.html import find


class Nonce:
    """Like the nonce of Django: false until it is used."""

    used = False

    def __bool__(self) -> bool:
        return self.used

    def __str__(self) -> str:
        self.used = True
        return "r4nd0m"


@pytest.fixture
def page(rf) -> HttpRequest:
    request: HttpRequest = rf.get("/exams/")
    request.user = User(pk=7, username="teacher")
    return request


def render(request: HttpRequest, source: str, **context: object) -> str:
    template = Template("{% load examplary %}" + source)
    return template.render(RequestContext(request, context))


def launched(url: str) -> Launch:
    """Return the launch of the URL of a frame or of a whole window."""
    return Launch.unsign(resolve(url).kwargs["token"], max_age=60)


def asked(html: str) -> Launch:
    return launched(find(html, "iframe")["src"])


def test_visitor_who_gets_no_embed_gets_no_csrf_cookie(page):
    page.user = AnonymousUser()

    render(page, '{% examplary_embed "generate-exam" %}')

    assert "CSRF_COOKIE" not in page.META


def test_tag_renders_the_same_as_the_function(page):
    html = render(page, '{% examplary_embed "generate-exam" subject="Art" load="eager" %}')

    embed = render_embed(page, "generate-exam", subject="Art", load="eager")
    assert asked(html) == asked(embed)
    assert find(html, "iframe")["loading"] == find(embed, "iframe")["loading"]


def test_options(page):
    html = render(
        page,
        "{% examplary_embed flow name=name next=next title=title theme=theme metadata=metadata"
        " presets=presets css_class='wide' reuse=False %}",
        flow="generate-exam",
        name="Fractions",
        next="/exams/",
        title='A "new" exam',
        theme={"primary_color": "#4338ca"},
        metadata={"course": "1b"},
        presets={"student_level": "us_undergraduate"},
    )

    request = asked(html)
    assert request.flow.presets == {"name": "Fractions", "studentLevel": "us_undergraduate"}
    assert request.next_url == "/exams/"
    assert request.theme == {"locale": "en", "primaryColor": "#4338ca"}
    assert request.metadata == {"course": "1b"}
    assert request.nonce
    assert find(html, "iframe")["title"] == 'A "new" exam'
    assert find(html, "examplary-embed")["class"] == "examplary-embed wide"


@pytest.mark.parametrize(
    "flow", [GenerateExam(subject="Art"), ExamplarySession(flow="generate-exam")]
)
def test_flow_may_be_an_object(page, flow):
    html = render(page, "{% examplary_embed flow %}", flow=flow)

    assert asked(html) == asked(render_embed(page, flow))


@pytest.mark.parametrize("tag", ["examplary_embed", "examplary_url"])
def test_context_is_also_a_preset(page, tag):
    text = render(page, f'{{% {tag} "generate-exam" context="Only fractions." %}}')

    request = asked(text) if tag == "examplary_embed" else launched(text)
    assert request.flow.presets == {"context": "Only fractions."}


def test_text_of_a_template_is_translated(page):
    with translation.override("nl"):
        html = render(page, '{% examplary_embed "generate-exam" name=_("Yes") title=_("No") %}')

    assert asked(html).flow.presets == {"name": "Ja"}
    assert find(html, "iframe")["title"] == "Nee"


def test_url_is_a_link(page):
    html = render(page, '<a href="{% examplary_url "generate-exam" subject="Art" %}">Go</a>')

    request = launched(find(html, "a")["href"])
    assert (request.mode, request.flow.presets) == ("window", {"subject": "Art"})


def test_url_can_be_stored_in_a_variable(page):
    html = render(page, '{% examplary_url "generate-exam" as url %}<a href="{{ url }}">Go</a>')

    assert launched(find(html, "a")["href"]).mode == "window"


def test_url_of_a_visitor_is_escaped(page, settings):
    settings.LOGIN_URL = "/sign-in/?tenant=north"
    page.user = AnonymousUser()

    html = render(page, '{% examplary_url "generate-exam" %}')

    assert html == "/sign-in/?tenant=north&amp;next=/exams/"


def test_script(page):
    assertHTMLEqual(render(page, "{% examplary_script %}"), render_script())


def test_script_evaluates_a_lazy_nonce(page):
    nonce = page.csp_nonce = Nonce()
    assert not nonce

    html = render(page, "{% examplary_script %}")

    assert nonce
    assertHTMLEqual(html, render_script(nonce="r4nd0m"))


def test_script_has_the_nonce_of_the_response(page):
    page.csp_nonce = "r4nd0m"

    html = render(page, "{% examplary_script %}")

    assertHTMLEqual(html, render_script(nonce="r4nd0m"))


@pytest.mark.parametrize(
    "middleware",
    [
        pytest.param(
            "django.middleware.csp.ContentSecurityPolicyMiddleware",
            marks=pytest.mark.skipif(django.VERSION < (6,), reason="Django has none yet."),
        ),
        "csp.middleware.CSPMiddleware",
    ],
)
def test_nonce_is_in_the_policy(teacher, client, settings, middleware):
    settings.MIDDLEWARE = [middleware, *settings.MIDDLEWARE]
    # The placeholders of Django and django-csp for the nonce.
    settings.SECURE_CSP = {"script-src": ["<CSP_NONCE_SENTINEL>"]}
    settings.CONTENT_SECURITY_POLICY = {"DIRECTIVES": {"script-src": [NONCE]}}
    client.force_login(teacher)

    response = client.get("/embed/")
    nonce = find(response.content.decode(), "script")["nonce"]

    assert f"script-src 'nonce-{nonce}'" in response["Content-Security-Policy"]


@pytest.mark.parametrize("nonce", [None, ""])
def test_script_without_a_nonce(page, nonce):
    page.csp_nonce = nonce

    html = render(page, "{% examplary_script %}")

    assertHTMLEqual(html, render_script())


def test_script_needs_no_request():
    html = Template("{% load examplary %}{% examplary_script %}").render(Context())

    assertHTMLEqual(html, render_script())


def test_script_without_a_request_is_explained_in_debug(settings):
    settings.DEBUG = True
    template = Template("{% load examplary %}{% examplary_script %}")

    with pytest.warns(UserWarning, match=r'CSP nonce.*<c-exam only :request="request" />'):
        html = template.render(Context())

    assertHTMLEqual(html, render_script())


def include_part(context):
    """Inclusion tag whose template gets only these variables."""
    return {}


@pytest.mark.parametrize("tag", ['examplary_embed "generate-exam"', "examplary_script"])
def test_request_is_found_without_the_context(page, tag):
    """`only` and inclusion tags pass the request, but not its variables."""
    page.csp_nonce = "r4nd0m"
    part = Template(f"{{% load examplary %}}{{% {tag} %}}")
    library = Library()
    library.inclusion_tag(part, takes_context=True)(include_part)
    engine = Engine(builtins=["django.template.defaulttags"])
    engine.template_builtins.append(library)
    sources = ["{% include part only %}", "{% include_part %}"]
    for source in sources:
        template = Template(source, engine=engine)
        html = template.render(RequestContext(page, {"part": part}))

        if tag == "examplary_script":
            assertHTMLEqual(html, render_script(nonce="r4nd0m"))
        else:
            assert asked(html).flow.slug == "generate-exam"


def test_request_is_found_as_a_variable(page):
    """Components get only their attributes."""
    page.csp_nonce = "r4nd0m"
    template = Template('{% load examplary %}{% examplary_embed "generate-exam" %}')
    script = Template("{% load examplary %}{% examplary_script %}")

    assert asked(template.render(Context({"request": page}))).flow.slug == "generate-exam"
    assert 'nonce="r4nd0m"' in script.render(Context({"request": page}))


@pytest.mark.parametrize("tag", ["examplary_embed", "examplary_url"])
def test_missing_request_is_explained(tag):
    template = Template(f'{{% load examplary %}}{{% {tag} "generate-exam" %}}')

    with pytest.raises(ExamplaryConfigurationError, match=r"context_processors\.request") as error:
        template.render(Context())

    assert '<c-exam only :request="request" />' in str(error.value)


@pytest.mark.parametrize(
    ("tag", "error"),
    [
        ('{% examplary_embed "edit-exam" %}', "exam_id: is required by edit-exam"),
        ('{% examplary_embed "generate-exam" next="//evil.example" %}', "next: must be a path"),
        ('{% examplary_embed "generate-exam" load="soon" %}', "load: must be one of"),
        ('{% examplary_url "take-exam" exam_id="abc" %}', "exam_id: must be an id"),
    ],
)
def test_error_names_the_argument(page, tag, error):
    with pytest.raises(ExamplaryValidationError, match=error):
        render(page, tag)


@pytest.mark.parametrize("tag", ["examplary_embed", "examplary_url"])
def test_flow_is_required(tag):
    with pytest.raises(TemplateSyntaxError, match="'flow'"):
        Template(f"{{% load examplary %}}{{% {tag} %}}")


def test_page_needs_only_the_queries_of_its_user(teacher, client, django_assert_num_queries):
    client.force_login(teacher)

    # The session and the user.
    with django_assert_num_queries(2):
        client.get("/embed/")
