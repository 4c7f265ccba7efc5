"""Embeds and links. Rendering does not use the database, so most tests have no access to it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser, User
from django.core.management import call_command
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import (
    clear_script_prefix,
    include,
    path,
    resolve,
    reverse_lazy,
    set_script_prefix,
    set_urlconf,
)
from django.utils import translation
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy
from pytest_django.asserts import assertHTMLEqual

import django_examplary
from django_examplary import problems
from django_examplary.data import Theme
from django_examplary.embeds import (
    DISPLAYS,
    LOADING,
    embed_context,
    launch_url,
    render_embed,
    render_panels,
    render_script,
)
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryValidationError,
    ExamplaryWarning,
)
from django_examplary.flows import (
    FLOWS,
    EditExam,
    EditRubric,
    GenerateExam,
    TakeExam,
)
from django_examplary.launch import Launch
from django_examplary.models import ExamplarySession
from tests.html import elements, find, find_all, skeleton

PRESETS = {
    "edit-exam": {"exam_id": "exam_abc"},
    "take-exam": {"exam_id": "exam_abc"},
    "practice-space-student": {"practice_space_id": "space_abc"},
}
HOSTILE = [
    '"><script>alert(1)</script>',
    "' onload='alert(1)' x='",
    "</iframe></examplary-embed><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    "&quot;&#62;<b>",
    "</title><!--",
    "{{ 7|add:7 }}{% csrf_token %}",
    "line\u2028line\u2029\x0bline\ttab",
    "`${alert(1)}`",
]


urlpatterns = [path("elsewhere/", include("django_examplary.urls"))]


def return_theme(request: HttpRequest) -> dict[str, Any]:
    return {"primary_color": f"#{request.user.pk:06d}", "locale": "fy"}


async def return_theme_later(request: HttpRequest) -> None:
    """Return a coroutine, which nothing awaits."""


@pytest.fixture
def page(rf) -> Iterator[HttpRequest]:
    """A request of a signed-in user, with English as the language."""
    request: HttpRequest = rf.get("/exams/?page=2")
    request.user = User(pk=7, username="teacher")
    with translation.override("en"):
        yield request


@pytest.fixture
def visit(rf) -> HttpRequest:
    """A request of a visitor who is not signed in."""
    request: HttpRequest = rf.get("/exams/?page=2&by=name")
    request.user = AnonymousUser()
    return request


def launched(url: str, view: str = "launch") -> Launch:
    """Return the launch of a launch URL."""
    match = resolve(url)
    assert match.view_name == f"django_examplary:{view}"
    return Launch.unsign(match.kwargs["token"], max_age=60)


def opened(url: str) -> Launch:
    """Return the launch of a whole-window URL."""
    return launched(url, "window")


def asked(html: str) -> Launch:
    """Return the launch of the frame in some HTML."""
    return launched(find(html, "iframe")["src"])


# Rendering


def test_embed(page):
    html = render_embed(page, "generate-exam", subject="Mathematics", next="/exams/")

    token = resolve(find(html, "iframe")["src"]).kwargs["token"]
    key = asked(html).key
    assert find(html, "examplary-embed") == {
        "class": "examplary-embed",
        "data-flow": "generate-exam",
        "data-key": key,
        "data-csrf-token": find(html, "examplary-embed")["data-csrf-token"],
        "data-origins": "https://app.examplary.ai",
        "data-site-origin": "http://testserver",
        "data-grace": "10",
        "data-confirm-close": "",
    }
    assert find(html, "iframe") == {
        "class": "examplary-embed__frame",
        "slot": "frame",
        "name": hashlib.sha256(token.encode()).hexdigest()[:16],
        "src": f"/examplary/launch/{token}/",
        "title": "Generate an exam",
        "loading": "lazy",
        "referrerpolicy": "strict-origin-when-cross-origin",
    }
    assert find(html, "a") == {
        "class": "examplary-embed__finish",
        "href": f"/examplary/finish/{key}/",
        "hx-boost": "false",
        "data-turbo": "false",
    }
    assert [tag for tag, _ in elements(html)] == ["examplary-embed", "iframe", "a"]
    assert asked(html) == Launch(
        user_id="7",
        flow=GenerateExam(subject="Mathematics"),
        theme={"locale": "en"},
        next_url="/exams/",
        origin="http://testserver",
        language="en",
    )


def test_embed_has_the_debug_attribute_only_with_debug(page, settings):
    settings.DEBUG = True
    assert "data-debug" in find(render_embed(page, "generate-exam"), "examplary-embed")


def test_options_reach_the_frame(page):
    html = render_embed(
        page,
        "generate-exam",
        title="A new exam",
        load="eager",
        allow="camera",
        css_class="wide tall",
        metadata={"course": "1b"},
    )

    assert find(html, "examplary-embed")["class"] == "examplary-embed wide tall"
    assert find(html, "iframe")["title"] == "A new exam"
    assert find(html, "iframe")["loading"] == "eager"
    assert find(html, "iframe")["allow"] == "camera"
    assert asked(html).metadata == {"course": "1b"}


@pytest.mark.parametrize("grant_access", [True, False])
def test_access_is_granted_only_on_request(page, grant_access):
    flow = TakeExam(exam_id="exam_abc")

    html = render_embed(page, flow, grant_access=grant_access)
    url = launch_url(page, flow, grant_access=grant_access)

    assert asked(html).grant_access is opened(url).grant_access is grant_access
    assert not asked(render_embed(page, flow)).grant_access


@pytest.mark.parametrize("load", ["lazy", "eager"])
def test_loading_uses_the_attribute_of_the_frame(page, load):
    html = render_embed(page, "generate-exam", load=load)

    assert find(html, "iframe")["loading"] == load
    assert "src" in find(html, "iframe")
    assert not find_all(html, "a")[0].get("data-examplary-opener")


@pytest.mark.parametrize("options", [{"load": "click"}, {"display": "modal"}])
def test_frame_without_src_until_it_is_opened(page, options):
    html = render_embed(page, "generate-exam", **options)

    assert "src" not in find(html, "iframe")
    # Without JavaScript it is a link to the whole window.
    assert opened(find(html, "a")["href"]).flow.slug == "generate-exam"
    opener = find(html, "a")
    assert "data-examplary-opener" in opener
    assert (opener["hx-boost"], opener["data-turbo"]) == ("false", "false")


def test_dialog_can_load_before_it_opens(page):
    def is_eager(**options):
        html = render_embed(page, "generate-exam", **options)
        return "data-eager" in find(html, "examplary-embed")

    assert is_eager(display="modal", load="eager")
    assert not is_eager(display="modal")
    assert not is_eager(load="eager")


def test_modal(page):
    html = render_embed(page, "generate-exam", display="modal", title="A new exam")

    assert find(html, "examplary-embed")["class"] == "examplary-embed examplary-embed--modal"
    assert find(html, "iframe")["title"] == "A new exam"
    assert ">A new exam</a>" in html


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("load", LOADING)
@pytest.mark.parametrize("flow", [GenerateExam(subject="Mathematics"), EditExam(exam_id="exam_a")])
def test_embed_has_at_most_two_kilobytes(page, display, load, flow):
    html = render_embed(page, flow, display=display, load=load, next="/exams/")

    assert len(html.encode()) <= 2048
    assert not find_all(html, "form")
    # The token occurs once.
    addresses = [*find_all(html, "iframe"), *find_all(html, "a")]
    tokens = [
        each
        for each in addresses
        if re.search("/(launch|window)/", each.get("src", each.get("href", "")))
    ]
    assert len(tokens) == 1


def test_links_without_javascript_belong_to_one_session(page):
    """Links end the session of the frame, or of the whole window if there is an opener."""
    inline, modal = (
        render_embed(page, EditExam(exam_id="exam_a"), display=display) for display in DISPLAYS
    )

    def finished(html):
        return resolve(find_all(html, "a")[-1]["href"]).kwargs["key"]

    assert finished(inline) == asked(inline).key
    assert finished(inline) == find(inline, "examplary-embed")["data-key"]
    window = opened(find_all(modal, "a")[0]["href"])
    whole = dataclasses.replace(window, mode="window")
    assert finished(modal) == whole.key
    assert find(modal, "examplary-embed")["data-key"] == window.key


def test_data_of_an_embed_is_json(page):
    data = embed_context(
        page, "generate-exam", title=gettext_lazy("Yes"), css_class=SafeString("wide"), grace=2
    )

    assert json.loads(json.dumps(data)) == data
    assert data["title"] == "Yes"
    assert launched(data["url"]) == asked(render_embed(page, "generate-exam"))


def test_typescript_types_match_the_code(page, visit):
    static = Path(django_examplary.__file__).parent / "static/django_examplary"
    types, script = ((static / name).read_text() for name in ("embed.d.ts", "embed.js"))

    def members(name):
        body = types.partition(f" {name} {{")[2].partition("\n}")[0]
        return set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE))

    def union(start):
        return set(re.findall(r'\| "([\w-]+)"', types.partition(start)[2].partition(";")[0]))

    assert members("EmbedData") == {*embed_context(page, "generate-exam"), "panels"}
    assert members("SignInData") == set(embed_context(visit, "generate-exam"))
    table = script.partition("const STATES = {")[2].partition("};")[0]
    assert union("type EmbedState =") == set(re.findall(r"^    (\w+):", table, re.M))
    reasons = {reason for _, reason, _ in problems.REASONS}
    assert union("reason:") == reasons | {
        "stale",
        "signed-out",
        "other-account",
        "offline",
        "pending",
    }


def test_data_of_a_visitor_is_the_login_url(visit):
    data = embed_context(visit, "generate-exam")

    assert data == {"login_url": "/accounts/login/?next=/exams/%3Fpage%3D2%26by%3Dname"}


def test_dialog_confirms_by_default(page):
    html = render_embed(page, "generate-exam", display="modal", confirm_close=False)

    assert "data-confirm-close" not in find(html, "examplary-embed")


@override_settings(USE_THOUSAND_SEPARATOR=True)
@pytest.mark.parametrize(("grace", "text"), [(1, "1"), (2.5, "2.5"), (1500, "1500")])
def test_grace_is_not_localised(page, grace, text):
    with translation.override("de"):
        html = render_embed(page, "generate-exam", grace=grace)

    assert find(html, "examplary-embed")["data-grace"] == text


def test_sandbox_permissions(page):
    assert "sandbox" not in find(render_embed(page, "generate-exam"), "iframe")

    allowed = find(render_embed(page, "generate-exam", sandbox=True), "iframe")["sandbox"].split()

    # Messages need the origin, and the embed needs scripts. It must not navigate the window.
    assert {"allow-same-origin", "allow-scripts"} <= set(allowed)
    assert not [permission for permission in allowed if "top-navigation" in permission]


def test_links_to_new_windows_have_noopener():
    links = [link for link in find_all(render_panels(), "a") if "target" in link]
    assert links
    assert {(link["target"], link["rel"]) for link in links} == {("_blank", "noopener")}


@pytest.mark.parametrize("slug", FLOWS)
def test_frame_has_the_title_of_its_flow(page, slug):
    html = render_embed(page, slug, presets=PRESETS.get(slug))

    assert find(html, "iframe")["title"] == FLOWS[slug].title
    assert find(html, "examplary-embed")["data-flow"] == slug


def test_frame_of_an_unknown_flow_has_its_name_as_title(page):
    with pytest.warns(ExamplaryWarning):
        html = render_embed(page, "draw-graph")

    assert find(html, "iframe")["title"] == "draw-graph"


@pytest.mark.parametrize(
    ("flow", "done"),
    [
        ("generate-exam", False),
        (TakeExam(exam_id="exam_abc"), False),
        (EditRubric(show_done_button=False), True),
        (EditExam(exam_id="exam_abc"), True),
        ("mark-answer", True),
    ],
)
def test_done_button_is_for_flows_without_completion(page, flow, done):
    def links(**options):
        return [
            "finish" in each["href"] for each in find_all(render_embed(page, flow, **options), "a")
        ]

    assert ("data-done" in find(render_embed(page, flow), "examplary-embed")) is done
    # Without JavaScript the user must confirm the end; a whole window returns by itself.
    assert links() == [True]
    assert links(load="click") == links(display="modal") == ([False, True] if done else [False])


@pytest.mark.parametrize(
    ("slug", "allow"),
    [
        ("generate-exam", None),
        ("edit-rubric", None),
        ("generate-question", None),
        ("mark-answer", None),
        ("edit-exam", None),
        (
            "take-exam",
            "fullscreen https://a.example https://b.example; "
            "microphone https://a.example https://b.example",
        ),
        ("practice-space-student", "microphone https://a.example https://b.example"),
    ],
)
@override_settings(EXAMPLARY_EMBED_ORIGINS=["https://a.example", "https://b.example"])
def test_frame_allows_the_features_of_its_flow(page, slug, allow):
    html = render_embed(page, slug, presets=PRESETS.get(slug))

    assert find(html, "iframe").get("allow") == allow
    assert find(html, "examplary-embed")["data-origins"] == "https://a.example https://b.example"


def test_empty_allow_omits_the_attribute(page):
    html = render_embed(page, TakeExam(exam_id="exam_abc"), allow="")

    assert "allow" not in find(html, "iframe")


def test_urls_have_the_script_prefix_of_the_request(page):
    def addresses():
        html = render_embed(page, "generate-exam")
        return [
            address.rsplit("/", 2)[0]
            for address in (find(html, "iframe")["src"], find(html, "a")["href"])
        ]

    assert addresses() == ["/examplary/launch", "/examplary/finish"]
    set_script_prefix("/school/")
    try:
        assert addresses()[0] == "/school/examplary/launch"
    finally:
        clear_script_prefix()
    set_urlconf(__name__)
    try:
        assert addresses()[0] == "/elsewhere/launch"
    finally:
        set_urlconf(None)
    assert addresses()[0] == "/examplary/launch"


def test_csrf_token_is_the_token_of_the_page(page):
    html = render_embed(page, "generate-exam")

    assert len(find(html, "examplary-embed")["data-csrf-token"]) == 64
    assert page.META["CSRF_COOKIE_NEEDS_UPDATE"]


@pytest.mark.parametrize("name", ["title", "css_class", "allow"])
def test_text_from_a_template_is_escaped_like_any_other(page, name):
    """Template text is marked as safe, which must not apply to attributes."""
    text = 'a" onclick="b'
    marked = render_embed(page, "generate-exam", **{name: SafeString(text)})
    plain = render_embed(page, "generate-exam", **{name: text})

    assert skeleton(marked) == skeleton(plain)
    assert "&quot; onclick=" in marked


def test_nothing_runs_or_is_styled_inline(page):
    html = render_embed(page, "edit-exam", exam_id="exam_abc") + render_script()

    for _, attributes in elements(html):
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert all("src" in script for script in find_all(html, "script"))
    assert find_all(html, "template")
    assert not find_all(html, "style")


def test_texts_are_translated(page):
    with translation.override("en"):
        html = render_embed(page, "generate-exam", title=gettext_lazy("Yes"))
    with translation.override("nl"):
        dutch = render_embed(page, "generate-exam", title=gettext_lazy("Yes"))

    assert find(html, "iframe")["title"] == "Yes"
    assert find(dutch, "iframe")["title"] == "Ja"


@pytest.mark.parametrize("nonce", ["", "r4nd0m"])
def test_script(nonce):
    html = render_script(nonce=nonce)

    # In the page, and in the panels for shadow trees.
    sheets = find_all(html, "link")
    assert [sheet["href"] for sheet in sheets] == ["/static/django_examplary/embed.css"] * 2
    script = find(html, "script")
    assert (script["type"], script["src"]) == ("module", "/static/django_examplary/embed.js")
    assert [each.get("nonce", "") for each in (*sheets, script)] == [nonce] * 3
    assert render_panels(nonce) in html


def test_every_state_of_the_script_has_its_panel():
    """Only the states with a visible frame have no panel."""
    script = (
        Path(django_examplary.__file__).parent / "static/django_examplary/embed.js"
    ).read_text()
    table = script.partition("const STATES = {")[2].partition("};")[0]
    states = set(re.findall(r"^    (\w+):", table, re.MULTILINE))
    panels = [
        part["data-examplary-state"]
        for part in find_all(render_panels(), "div")
        if "data-examplary-state" in part
    ]

    assert set(panels) == (states - {"loaded", "ready"}) | {"leaving"}
    assert len(panels) == len(set(panels))


def test_panels_are_translated():
    with translation.override("nl"):
        assert "Het resultaat wordt bewaard" in render_panels()


def test_embed_with_hashed_file_names(tmp_path):
    storages = {
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}
    }
    with override_settings(STATIC_ROOT=tmp_path, STORAGES={**settings.STORAGES, **storages}):
        call_command("collectstatic", interactive=False, verbosity=0)
        html = render_script()

    for address in (find_all(html, "link")[0]["href"], find(html, "script")["src"]):
        assert re.fullmatch(r"/static/django_examplary/embed\.\w{12}\.(css|js)", address)
        assert (tmp_path / address.removeprefix("/static/")).is_file()


# Costs


@pytest.mark.django_db
def test_rendering_uses_neither_the_api_nor_the_database(
    page, fake, teacher, django_assert_num_queries
):
    page.user = teacher
    with django_assert_num_queries(0):
        html = render_embed(page, "generate-exam", subject="Mathematics")
        launch_url(page, "generate-exam", subject="Mathematics")
        render_script()
    assert fake.calls() == []

    # The frame does so when it loads.
    browser = Client()
    browser.force_login(teacher)
    answer = browser.get(find(html, "iframe")["src"])
    assert answer.url.startswith(f"{fake.base_url}/embeds/")
    assert len(fake.calls("POST", "/embed-sessions")) == 1


# Launches


@pytest.mark.parametrize(
    "options",
    [
        {"student_level": "us_high_school_lower", "name": "Fractions"},
        {"studentLevel": "us_high_school_lower", "name": "Fractions"},
        {"presets": {"student_level": "us_high_school_lower", "name": "Fractions"}},
        {
            "presets": {"student_level": "another", "name": "Fractions"},
            "student_level": "us_high_school_lower",
        },
    ],
    ids=["snake_case", "camelCase", "mapping", "keyword over mapping"],
)
def test_presets(page, options):
    expected = {"studentLevel": "us_high_school_lower", "name": "Fractions"}

    assert asked(render_embed(page, "generate-exam", **options)).flow.presets == expected
    assert opened(launch_url(page, "generate-exam", **options)).flow.presets == expected


def test_lazy_text_is_a_preset(page):
    with translation.override("nl"):
        html = render_embed(page, "generate-exam", name=gettext_lazy("Yes"))

    assert asked(html).flow.presets == {"name": "Ja"}


def test_flow_instance(page):
    flow = GenerateExam(subject="Mathematics")

    assert asked(render_embed(page, flow)) == asked(
        render_embed(page, "generate-exam", subject="Mathematics")
    )


def test_session(page):
    session = ExamplarySession(
        flow="edit-exam",
        presets={"examId": "exam_abc"},
        embed_url="https://app.examplary.ai/embeds/canary",
        examplary_id="embed_session_canary",
        status=ExamplarySession.Status.PENDING,
    )

    html = render_embed(page, session)

    assert asked(html) == Launch(user_id="7", session_id=str(session.pk), language="en")
    assert find(html, "iframe")["title"] == "Edit an exam"
    assert find(html, "examplary-embed")["data-key"] == str(session.pk)
    assert resolve(find(html, "a")["href"]).kwargs == {"key": str(session.pk)}
    assert "canary" not in html


def test_pages_share_a_session(page):
    first, second = (asked(render_embed(page, "generate-exam")) for _ in range(2))

    assert first == second


@pytest.mark.parametrize(
    "render",
    [
        lambda page: asked(render_embed(page, "generate-exam", reuse=False)),
        lambda page: opened(launch_url(page, "generate-exam", reuse=False)),
    ],
    ids=["embed", "link"],
)
def test_pages_with_reuse_false_have_separate_sessions(page, render):
    first, second = render(page), render(page)

    assert first.nonce != second.nonce


@pytest.mark.parametrize(
    ("site", "own", "expected"),
    [
        ({}, None, {"locale": "nl"}),
        ({}, {}, {"locale": "nl"}),
        ({"locale": "de"}, None, {"locale": "de"}),
        ({"primary_color": "#111111"}, None, {"locale": "nl", "primaryColor": "#111111"}),
        (
            {"primaryColor": "#111111", "locale": "de"},
            {"primary_color": "#222222"},
            {"locale": "de", "primaryColor": "#222222"},
        ),
        (
            {"primary_color": "#111111", "locale": "de"},
            Theme(locale="fr"),
            {"locale": "fr", "primaryColor": "#111111"},
        ),
        (return_theme, {"primary_color": "#222222"}, {"locale": "fy", "primaryColor": "#222222"}),
        (return_theme, None, {"locale": "fy", "primaryColor": "#000007"}),
        (f"{__name__}.return_theme", None, {"locale": "fy", "primaryColor": "#000007"}),
        (Theme(primary_color="#111111"), None, {"locale": "nl", "primaryColor": "#111111"}),
    ],
)
def test_theme_precedence(page, site, own, expected):
    with override_settings(EXAMPLARY_THEME=site), translation.override("nl"):
        assert asked(render_embed(page, "generate-exam", theme=own)).theme == expected
        assert opened(launch_url(page, "generate-exam", theme=own)).theme == expected


@pytest.mark.filterwarnings("ignore:coroutine")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("theme", "problem"),
    [
        (lambda request: ["nl"], "returned a list, not a mapping or a Theme"),
        (lambda request: return_theme_later(request), "returned a coroutine, not a mapping"),
        (return_theme_later, "must be a normal function, not an async one"),
    ],
)
def test_mistake_in_the_function_of_the_theme_is_named(page, settings, theme, problem):
    settings.EXAMPLARY_THEME = theme
    with pytest.raises(ExamplaryConfigurationError, match=f"EXAMPLARY_THEME {problem}"):
        render_embed(page, "generate-exam")


@pytest.mark.parametrize(
    ("language", "locales", "theme"),
    [
        (None, {}, {}),
        ("en", {}, {"locale": "en"}),
        ("en-gb", {}, {"locale": "en"}),
        ("pt-br", {}, {"locale": "pt"}),
        ("zh-hans", {}, {"locale": "zh"}),
        ("pt-br", {"pt-br": "pt-BR"}, {"locale": "pt-BR"}),
        ("pt", {"pt-br": "pt-BR"}, {"locale": "pt"}),
        ("zh-hans", {"zh-hans": ""}, {}),
    ],
)
def test_locale_is_the_language_of_the_page(page, language, locales, theme):
    with override_settings(EXAMPLARY_LOCALES=locales), translation.override(language):
        assert asked(render_embed(page, "generate-exam")).theme == theme


def test_launch_url(page):
    url = launch_url(
        page, "generate-exam", subject="Mathematics", next="/exams/", metadata={"course": "1b"}
    )

    assert opened(url) == Launch(
        user_id="7",
        flow=GenerateExam(subject="Mathematics"),
        theme={"locale": "en"},
        metadata={"course": "1b"},
        next_url="/exams/",
        origin="http://testserver",
        mode="window",
        language="en",
    )


# Anonymous visitors


def test_request_without_a_user_is_anonymous(rf):
    """On error pages the middleware has not run."""
    request = rf.get("/exams/")

    assert "launch" not in render_embed(request, "generate-exam")
    assert launch_url(request, "generate-exam").startswith("/accounts/login/")


@override_settings(LOGIN_URL="login")
def test_visitor_is_invited_to_sign_in(visit):
    assertHTMLEqual(
        render_embed(visit, "generate-exam"),
        """
        <div class="examplary-embed examplary-embed--signed-out">
          <p class="examplary-embed__title">Sign in to continue</p>
          <p>This part of the page is for people with an account.</p>
          <a class="examplary-embed__button"
             href="/accounts/login/?next=/exams/%3Fpage%3D2%26by%3Dname"
             hx-boost="false" data-turbo="false">Sign in</a>
        </div>
        """,
    )


@pytest.mark.parametrize("display", DISPLAYS)
def test_preview_shows_the_title_and_opens_no_session(page, display):
    page.is_preview = True
    html = render_embed(page, "generate-exam", title="A & B", display=display)
    assert "A &amp; B" in html
    assert {name for name, _ in elements(html)} == {"div", "p"}


@pytest.mark.parametrize(
    ("login_url", "path", "query", "site"),
    [
        ("login", "/accounts/login/", {}, ""),
        ("/sign-in/", "/sign-in/", {}, ""),
        ("/sign-in/?tenant=north", "/sign-in/", {"tenant": ["north"]}, ""),
        ("http://testserver/sign-in/", "/sign-in/", {}, ""),
        # From another host or scheme the return link needs an absolute URL.
        ("https://testserver/sign-in/", "/sign-in/", {}, "http://testserver"),
        ("https://id.school.example/", "/", {}, "http://testserver"),
        ("http://id.school.example/", "/", {}, "http://testserver"),
        ("//id.school.example/", "/", {}, "http://testserver"),
    ],
)
def test_visitor_returns_to_the_page_after_sign_in(visit, login_url, path, query, site):
    with override_settings(LOGIN_URL=login_url):
        urls = [
            find(render_embed(visit, "generate-exam"), "a")["href"],
            launch_url(visit, "generate-exam"),
        ]

    for url in urls:
        assert urlsplit(url).path == path
        expected = {**query, "next": [f"{site}/exams/?page=2&by=name"]}
        assert parse_qs(urlsplit(url).query) == expected


def test_visitor_gets_no_token(visit):
    html = render_embed(visit, "generate-exam", subject="Mathematics")

    assert "launch" not in html
    assert "launch" not in launch_url(visit, "generate-exam", subject="Mathematics")


# Refused arguments


@pytest.mark.parametrize(
    ("flow", "options", "field", "problem"),
    [
        ("edit-exam", {}, "exam_id", "is required by edit-exam"),
        ("take-exam", {"exam_id": "abc"}, "exam_id", "must be an id that starts with 'exam_'"),
        ("generate-exam", {"subject": 7}, "subject", "must be a string, not 7"),
        ("generate-exam", {"next": "//evil.example"}, "next", "must be a path on this site"),
        ("generate-exam", {"metadata": {"course": 1}}, "metadata", "must be a flat mapping"),
        ("generate-exam", {"metadata": {1: "course"}}, "metadata", "must be a flat mapping"),
        ("generate-exam", {"metadata": {"a": {"b": "c"}}}, "metadata", "must be a flat mapping"),
        (GenerateExam(), {"subject": "Art"}, "subject", "by the GenerateExam that was given"),
        (GenerateExam(), {"presets": {"name": "A"}}, "name", "by the GenerateExam that was given"),
        (
            ExamplarySession(flow="generate-exam"),
            {"subject": "Art"},
            "subject",
            "by the ExamplarySession that was given",
        ),
        (
            ExamplarySession(flow="generate-exam"),
            {"next": "/exams/"},
            "next",
            "was decided when the session was opened",
        ),
    ],
)
def test_error_names_the_argument(page, flow, options, field, problem):
    with pytest.raises(ExamplaryValidationError) as caught:
        render_embed(page, flow, **options)

    assert caught.value.field == field
    assert problem in caught.value.problem


@pytest.mark.parametrize("render", [render_embed, launch_url])
@pytest.mark.parametrize(
    ("flow", "keyword", "meant"),
    [
        ("generate-exam", "metdata", "metadata"),
        ("generate-exam", "grant_acces", "grant_access"),
        ("mark-answer", "titel", "title"),
        ("draw-graph", "displya", "display"),
    ],
)
def test_misspelt_keyword_is_refused(page, render, flow, keyword, meant):
    with pytest.raises(ExamplaryValidationError, match=f"Did you mean '{meant}'") as caught:
        render(page, flow, **{keyword: "x"})

    assert caught.value.field == keyword


def test_unknown_presets_warn(page):
    with pytest.warns(ExamplaryWarning, match="colour"):
        html = render_embed(page, "generate-exam", colour="red")
    with pytest.warns(ExamplaryWarning, match="topic"):
        mapping = render_embed(page, "generate-exam", presets={"topic": "Art"})

    with pytest.warns(ExamplaryWarning, match="colour"):
        assert asked(html).flow.presets == {"colour": "red"}
    with pytest.warns(ExamplaryWarning, match="topic"):
        assert asked(mapping).flow.presets == {"topic": "Art"}


def test_option_of_embeds_is_refused_for_links(page):
    with pytest.raises(ExamplaryValidationError, match="title: is an option of embeds"):
        launch_url(page, "generate-exam", title="A new exam")


@pytest.mark.parametrize("render", [render_embed, launch_url])
@pytest.mark.parametrize("name", ["metadata", "theme", "presets"])
@pytest.mark.parametrize("value", ["", "blue", ["a"], 0])
def test_error_names_argument_that_is_not_a_mapping(page, render, name, value):
    with pytest.raises(ExamplaryValidationError, match=f"{name}: must be a mapping, not"):
        render(page, "generate-exam", **{name: value})


@pytest.mark.parametrize("option", ["load", "display"])
@pytest.mark.parametrize("value", ["", "LAZY", '"><script>', None])
def test_unknown_choice_is_refused(page, option, value):
    with pytest.raises(ExamplaryValidationError, match=f"{option}: must be one of"):
        render_embed(page, "generate-exam", **{option: value})


@pytest.mark.parametrize("grace", [0, -1, "10", None, True, float("nan"), float("inf")])
def test_invalid_grace_is_refused(page, grace):
    with pytest.raises(ExamplaryValidationError, match="grace: must be a number of seconds"):
        render_embed(page, "generate-exam", grace=grace)


def test_error_is_the_same_for_a_visitor(visit):
    with pytest.raises(ExamplaryValidationError, match="exam_id: is required"):
        render_embed(visit, "edit-exam")


# Escaping


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize(
    ("option", "tag", "attribute"),
    [
        ("title", "iframe", "title"),
        ("allow", "iframe", "allow"),
        ("css_class", "examplary-embed", "class"),
    ],
)
def test_option_stays_in_its_attribute(page, option, tag, attribute, text):
    html = render_embed(page, "generate-exam", **{option: text})

    assert skeleton(html) == skeleton(render_embed(page, "generate-exam", **{option: "x"}))
    assert find(html, tag)[attribute].endswith(text)


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.filterwarnings("ignore::django_examplary.exceptions.ExamplaryWarning")
def test_name_of_a_flow_stays_in_its_attributes(page, text):
    html = render_embed(page, text)

    assert skeleton(html) == skeleton(render_embed(page, "draw-graph"))
    assert find(html, "examplary-embed")["data-flow"] == text
    assert find(html, "iframe")["title"] == text
    assert asked(html).flow.slug == text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.filterwarnings("ignore::django_examplary.exceptions.ExamplaryWarning")
@pytest.mark.parametrize(
    ("option", "name"),
    [("presets", "subject"), ("theme", "primaryColor"), ("theme", "locale"), ("metadata", "a")],
)
def test_signed_options_stay_in_the_token(page, option, name, text):
    html = render_embed(page, "generate-exam", **{option: {name: text}})

    assert skeleton(html) == skeleton(render_embed(page, "generate-exam"))
    launch = asked(html)
    signed = {"presets": launch.flow.presets, "theme": launch.theme, "metadata": launch.metadata}
    assert signed[option][name] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_next_stays_in_the_token(page, text):
    html = render_embed(page, "generate-exam", next="/" + re.sub(r"[\x00-\x1f\x85\\]", "", text))

    assert skeleton(html) == skeleton(render_embed(page, "generate-exam"))


def test_next_accepts_lazy_strings_and_none(page):
    address = reverse_lazy("django_examplary:launch", args=["token"])
    assert asked(render_embed(page, "generate-exam", next=address)).next_url == str(address)
    assert asked(render_embed(page, "generate-exam", next=None)).next_url == ""
    assert opened(launch_url(page, "generate-exam", next=address)).next_url == str(address)


@pytest.mark.parametrize("flow", ["", None, 7])
def test_invalid_flow_is_refused(page, flow):
    with pytest.raises(ExamplaryValidationError, match="flow: must be a flow or a session"):
        render_embed(page, flow)


@pytest.mark.parametrize("text", HOSTILE)
def test_origins_stay_in_their_attribute(page, text):
    with override_settings(EXAMPLARY_EMBED_ORIGINS=[text]):
        html = render_embed(page, TakeExam(exam_id="exam_abc"))

    assert skeleton(html) == skeleton(render_embed(page, TakeExam(exam_id="exam_abc")))
    assert find(html, "examplary-embed")["data-origins"] == text
    assert find(html, "iframe")["allow"] == f"fullscreen {text}; microphone {text}"


@pytest.mark.parametrize("text", HOSTILE)
def test_nonce_stays_in_its_attribute(text):
    html = render_script(nonce=text)

    assert skeleton(html) == skeleton(render_script(nonce="r4nd0m"))
    assert find(html, "script")["nonce"] == find_all(html, "link")[0]["nonce"] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_address_of_the_page_stays_in_the_link(rf, text):
    visit = rf.get("/exams/", {"page": text})
    visit.user = AnonymousUser()
    html = render_embed(visit, "generate-exam")

    assert skeleton(html) == [
        ("div", ["class"]),
        ("p", ["class"]),
        ("p", []),
        ("a", ["class", "href", "hx-boost", "data-turbo"]),
    ]
    assert find(html, "a")["href"].startswith("/accounts/login/?next=/exams/%3Fpage%3D")


@pytest.mark.parametrize("text", HOSTILE)
def test_address_of_the_login_page_stays_in_the_link(visit, text):
    with override_settings(LOGIN_URL=f"/sign-in/{text}"):
        html = render_embed(visit, "generate-exam")

    assert skeleton(html) == skeleton(render_embed(visit, "generate-exam"))
