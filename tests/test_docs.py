"""The documentation matches the code: every block runs, every table and list is complete."""

from __future__ import annotations

import ast
import dataclasses
import gc
import html
import inspect
import json
import pydoc
import re
import socket
import sys
import textwrap
import tomllib
import types
import unittest
from collections.abc import Iterator
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import django
import pytest
import requests
from django.contrib import admin
from django.core.management import call_command, get_commands, load_command_class
from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.template.backends.jinja2 import Jinja2
from django.test import RequestFactory
from django.urls import include, path
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from django_examplary import checks, embeds, problems, services, signals
from django_examplary.conf import Settings, conf
from django_examplary.exceptions import ExamplaryPermissionError
from django_examplary.flows import FLOWS, EditExam, Flow, GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession
from django_examplary.testing import Embed, FakeExamplary, helpers, serve
from tests.html import find, find_all
from tests.projects import QUICK_START, QUICK_START_COMMANDS, TUTORIAL, start_quick_start

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MKDOCS = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    *sorted(DOCS.rglob("*.md")),
]
TOX = ConfigParser(interpolation=None)
TOX.read(ROOT / "tox.ini")

# The languages of blocks that are executed, and those of blocks that are not.
RUN = {"python", "django", "console", "jinja", "sh"}
SHOWN = {"yaml", "css", "js", "json", "text", ""}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    code: str
    needs_django_6: bool

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def read_blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    fences = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
    for match in fences.finditer(text):
        if re.search(r"<!-- needs [\w-]+ -->\n\n\Z", text[: match.start()]):
            continue  # `tests/third_party/test_recipes.py` runs it.
        yield Block(
            page=page.relative_to(ROOT).as_posix(),
            line=text.count("\n", 0, match.start()) + 1,
            language=match[2],
            code=textwrap.dedent(match[3]),
            needs_django_6=text[: match.start()].endswith("<!-- Django 6.0 -->\n\n"),
        )


# The tutorial has a test of its own.
BLOCKS = [block for page in PAGES if page != TUTORIAL for block in read_blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


def with_blocks(*languages: str) -> list[str]:
    return sorted({block.page for block in of(*languages)})


# The site of the examples


def new_exam(request: HttpRequest) -> HttpResponse:
    tags = '{% examplary_embed "generate-exam" subject="Mathematics" next="/exams/" %}'
    return HttpResponse(Template("{% load examplary %}" + tags).render(RequestContext(request)))


def exams(request: HttpRequest) -> HttpResponse:
    link = '<a href="{% examplary_url "generate-exam" next="/exams/" %}">Generate an exam</a>'
    return HttpResponse(Template("{% load examplary %}" + link).render(RequestContext(request)))


urlpatterns = [
    path("exams/", exams),
    path("exams/new/", new_exam),
    path("examplary/", include("django_examplary.urls")),
]


@pytest.fixture
def school(monkeypatch) -> None:
    """Install the models and functions that the pages import."""
    models = types.ModuleType("school.models")
    models.Exam = models.Sitting = mock.MagicMock()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "school", types.ModuleType("school"))
    monkeypatch.setitem(sys.modules, "school.models", models)


@pytest.fixture
def receivers(quick_collection) -> Iterator[None]:
    """Disconnect the receivers that a page connects."""
    every = [each for each in vars(signals).values() if isinstance(each, Signal)]
    before = [list(each.receivers) for each in every]
    yield
    for each, kept in zip(every, before, strict=True):
        each.receivers = kept
        each.sender_receivers_cache.clear()
    gc.collect()


@pytest.fixture
def fake_examplary() -> Iterator[FakeExamplary]:
    """The fixture of the testing kit, as in a project."""
    with helpers.fake_examplary() as fake:
        yield fake


@pytest.fixture
def rf_request(teacher) -> HttpRequest:
    request = RequestFactory().get("/exams/")
    request.user = teacher
    return request


# Code


def test_every_block_is_of_a_known_language():
    assert {block.language for block in BLOCKS} <= RUN | SHOWN
    assert len(of(*SHOWN)) <= 24


@pytest.fixture
def admin_classes():
    """Unregister the admin classes that a block registers."""
    registered = dict(admin.site._registry)
    yield
    admin.site._registry.clear()
    admin.site._registry.update(registered)


@pytest.mark.parametrize("page", with_blocks("python"))
@pytest.mark.usefixtures("admin_classes", "school", "receivers")
def test_python(page, request, settings, teacher, rf_request):
    settings.ROOT_URLCONF = __name__
    fake = request.getfixturevalue("fake_examplary")
    names: dict[str, Any] = {
        "__name__": "school",
        # The beginning of files to which the quick start adds lines.
        "BASE_DIR": ROOT,
        "INSTALLED_APPS": [],
        "TEMPLATES": [{}],
        "urlpatterns": [],
        # The user and the objects of the examples.
        "request": rf_request,
        "user": teacher,
        "fake": fake,
    }
    for block in of("python"):
        if block.page != page or (block.needs_django_6 and django.VERSION < (6, 0)):
            continue
        known = set(names)
        exec(compile(block.code, str(block), "exec", dont_inherit=True), names)  # noqa: S102
        run_tests({name: names[name] for name in set(names) - known}, request)
        request.getfixturevalue("fake_examplary").heal()


@pytest.mark.parametrize(
    ("page", "view", "result"),
    [
        ("headless", "new_exam", '"url": "/examplary/launch/'),
        ("whole-window", "generate_exam", "/examplary/window/"),
    ],
)
def test_recipe_of_a_view(page, view, result, rf_request):
    names: dict[str, Any] = {}
    for block in of("python"):
        if block.page == f"docs/howto/{page}.md":
            exec(compile(block.code, str(block), "exec", dont_inherit=True), names)  # noqa: S102

    response = names[view](rf_request)

    assert result in (response.headers.get("Location") or response.content.decode())


@pytest.mark.parametrize("field", ["token", "reference", "csrfmiddlewaretoken"])
def test_recipe_for_error_trackers_removes_fields(field):
    names: dict[str, Any] = {}
    for block in of("python"):
        if block.page == "docs/howto/monitoring.md":
            exec(compile(block.code, str(block), "exec", dont_inherit=True), names)  # noqa: S102
    event = {"request": {"data": {field: "canary", "page": "1"}}}

    scrubbed = names["scrub_event"](event, hint={})

    assert scrubbed == {"request": {"data": {field: "[Filtered]", "page": "1"}}}


@pytest.mark.usefixtures("school", "receivers")
def test_recipe_for_lost_signals(teacher, fake):
    names: dict[str, Any] = {"__name__": "school", "user": teacher}
    session = services.open_session(teacher, GenerateExam(), origin="https://s.example")
    fake.complete(session.examplary_id, {"examId": "exam_1"})
    services.verify_session(session)
    for block in of("python"):
        if block.page == "docs/reference/results.md":
            exec(compile(block.code, str(block), "exec", dont_inherit=True), names)  # noqa: S102
    exams = names["Exam"].objects

    exams.values_list.return_value = ["exam_1"]
    names["save_lost_exams"]()
    exams.get_or_create.assert_not_called()

    exams.values_list.return_value = ["exam_2"]
    names["save_lost_exams"]()
    exams.get_or_create.assert_called_once()
    assert exams.get_or_create.call_args.kwargs["examplary_id"] == "exam_1"


def test_recipe_to_rename_an_alias(teacher, student, fake, settings):
    workspaces = {"north": {"API_KEY": fake.add_workspace().api_key}}
    settings.EXAMPLARY_WORKSPACES = workspaces
    settings.EXAMPLARY_WORKSPACE = lambda user: "north" if user == teacher else "default"
    for user in (teacher, student):
        services.provision_actor(user)
    before = services.open_session(teacher, GenerateExam(), origin="https://s.example")
    [block] = [each for each in of("python") if "update(workspace=" in each.code]
    calls = len(fake.requests)

    exec(compile(block.code, str(block), "exec", dont_inherit=True), {})  # noqa: S102
    settings.EXAMPLARY_WORKSPACES = {"north-campus": workspaces["north"]}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north-campus" if user == teacher else "default"

    after = services.open_session(teacher, GenerateExam(), origin="https://s.example")
    assert (after.pk, after.workspace) == (before.pk, "north-campus")
    assert len(fake.requests) == calls
    assert services.sweep_sessions().verified == 1
    assert services.provision_actor(student).workspace == "default"


@pytest.fixture
def histograms(monkeypatch):
    """Return the metrics of OpenTelemetry: attributes, counts and sums by name and unit."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr(metrics, "get_meter", provider.get_meter)

    def read() -> dict[tuple[str, str], list[tuple[Any, int, float]]]:
        data = reader.get_metrics_data()
        assert data is not None
        return {
            (metric.name, metric.unit): [
                (dict(point.attributes), point.count, point.sum)
                for point in metric.data.data_points
            ]
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    yield read
    provider.shutdown()


@pytest.mark.usefixtures("receivers")
def test_recipes_for_metrics_count_calls_and_failures(fake, histograms):
    names: dict[str, Any] = {"__name__": "school"}
    for block in of("python"):
        if "api_call_finished" in block.code and block.page == "docs/reference/operations.md":
            exec(compile(block.code, str(block), "exec", dont_inherit=True), names)  # noqa: S102
    durations: list[float] = []

    def listen(seconds: float, **kwargs: Any) -> None:
        durations.append(seconds)

    signals.api_call_finished.connect(listen)
    fake.latency = 0.02
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(60)
        names["STATSD_ADDRESS"] = collector.getsockname()
        services.get_client().get_me()
        fake.fail("GET", "/me", status=403)
        with pytest.raises(ExamplaryPermissionError):
            services.get_client().get_me()
        lines = [collector.recv(1000).decode() for _ in range(2)]

    operation = {"operation": "GET /me"}
    assert min(durations) >= 0.02
    assert histograms()["examplary.call.duration", "s"] == [
        ({**operation, "outcome": "ok", "status": 200}, 1, durations[0]),
        ({**operation, "outcome": "ExamplaryPermissionError", "status": 403}, 1, durations[1]),
    ]
    assert lines == [
        f"examplary.GET__me.{outcome}:{seconds * 1000:.0f}|ms"
        for outcome, seconds in zip(["ok", "ExamplaryPermissionError"], durations, strict=True)
    ]


def run_tests(names: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Run the tests that a block defines."""
    for name, value in names.items():
        ExamplarySession.objects.all().delete()
        if inspect.isclass(value) and issubclass(value, unittest.TestCase):
            result = unittest.TestResult()
            # One by one, because the fixtures of pytest already did the setup of the class.
            for method in unittest.defaultTestLoader.getTestCaseNames(value):
                value(method)(result)
            assert result.wasSuccessful(), result.errors + result.failures
        elif name.startswith("test_"):
            value(
                **{
                    each: request.getfixturevalue(each)
                    for each in inspect.signature(value).parameters
                }
            )


@pytest.mark.parametrize("block", of("django", "jinja"), ids=str)
def test_template(block, rf_request, teacher, fake):
    exam = mock.Mock(examplary_id=fake.add_exam()["id"], get_absolute_url=lambda: "/exams/1/")
    session = services.open_session(
        teacher, EditExam(exam_id=exam.examplary_id), origin="https://s.example", grant_access=True
    )
    names = {
        "exam": exam,
        "space": mock.Mock(examplary_id=fake.add_practice_space()["id"]),
        "session": session,
        "metadata": {"course": "12"},
        "theme": {"primary_color": "#b45309"},
    }
    if block.language == "django":
        html = Template(block.code).render(RequestContext(rf_request, names))
    else:
        html = jinja2.from_string(block.code).render(names, rf_request)

    assert re.search("/examplary/(launch|window)/", html)


def test_fragment_cache_keeps_users_apart(rf_request, admin_user):
    [block] = [each for each in of("django") if "{% cache" in each.code]
    frames = []
    for user in (rf_request.user, admin_user, rf_request.user):
        rf_request.user = user
        html = Template(block.code).render(RequestContext(rf_request))
        frames.append(find(html, "iframe")["src"])

    # The last page is the cached one of the first user.
    assert frames[0] == frames[2] != frames[1]


jinja2 = Jinja2(
    {
        "NAME": "jinja2",
        "DIRS": [],
        "APP_DIRS": False,
        "OPTIONS": {"extensions": ["django_examplary.jinja2.ExamplaryExtension"]},
    }
)


def test_engines_for_jinja2_pass_the_checks(settings):
    [block] = [each for each in of("python") if "jinja2.Jinja2" in each.code]
    names: dict[str, Any] = {}
    exec(compile(block.code, str(block), "exec"), names)  # noqa: S102

    settings.TEMPLATES = names["TEMPLATES"]

    assert checks.check_urls() == []


# Commands


def commands() -> list[tuple[str, ...]]:
    lines = [line for block in of("console") for line in block.code.splitlines()]
    return sorted({tuple(words.split()) for line in lines for words in line.split(" && ")})


# Commands of other packages.
TOOLS = {
    *(
        ".",
        "apt-get",
        "cd",
        "export",
        "git",
        "lint-imports",
        "mypy",
        "oxlint",
        "pre-commit",
        "python",
        "ruff",
        "tox",
    ),
    "xvfb-run",
}


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_command(words):
    """The command exists, and accepts the documented arguments."""
    match words:
        case ["python", "manage.py", name, *arguments]:
            command = load_command_class(get_commands()[name], name)
            command.create_parser("manage.py", name).parse_args(arguments)
        case ["python", "-m", "django_examplary.testing", *arguments]:
            assert dict(zip(arguments[::2], arguments[1::2], strict=False)).get("--port", "0")
        case ["python", "-m", "tests.benchmarks", *names]:
            assert all((ROOT / f"tests/benchmarks/{name}.py").is_file() for name in names)
        case ["tox", "run", "-e", environments]:
            assert all(f"testenv:{name}" in TOX for name in environments.split(","))
        case ["python", file, *_] if file.endswith(".py"):
            assert (ROOT / file).is_file()
        case ["python", "-m", "pytest", file]:
            assert (ROOT / file).is_file()
        case _:
            assert words[0] in TOOLS


# The quick start


def test_quick_start(tmp_path):
    """A new project works with only the lines and commands of the README."""
    assert len([line for _, code in QUICK_START for line in code.splitlines() if line]) <= 10

    with serve() as server:
        manage = start_quick_start(tmp_path, server.fake)
        *commands, serving = QUICK_START_COMMANDS
        for command in commands:
            manage.run(*command)
        assert serving == ["runserver"]
        manage.run("check", "--fail-level", "WARNING")
        with manage.serve() as address, requests.Session() as browser:
            assert "<iframe" not in browser.get(address).text
            sign_in(browser, f"{address}/admin/login/")
            page = browser.get(address).text
            embed = find(page, "examplary-embed")
            launch = browser.get(address + find(page, "iframe")["src"], allow_redirects=False)
            [session] = server.fake.sessions.values()
            assert launch.headers["Location"] == session.embed_url
            assert browser.get(session.embed_url).ok
            server.fake.complete(session.id)
            response = browser.post(
                f"{address}/examplary/sync/{embed['data-key']}/",
                headers={"Accept": "application/json"},
                data={"csrfmiddlewaretoken": embed["data-csrf-token"]},
            )

    assert response.json()["status"] == "completed"
    assert response.json()["redirect"] == "/admin/"


def sign_in(browser: requests.Session, url: str) -> None:
    token = find_all(browser.get(url).text, "input")[0]["value"]
    data = {"csrfmiddlewaretoken": token, "username": "tea", "password": "demo"}
    browser.post(url, data=data, allow_redirects=False)
    assert "sessionid" in browser.cookies


# Tables and lists


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of every table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_flows():
    table = [row for row in rows(read("reference/flows.md")) if codes(row[0])]
    described = [describe(flow) for flow in FLOWS.values()]

    # In two tables, because one would be too wide.
    assert table == [row[:1] + row[2:] for row in described] + [row[:2] for row in described]


def describe(flow: type[Flow]) -> list[str]:
    presets = [f"**`{name}`**" if name in flow._required else f"`{name}`" for name in flow._rules]
    outputs = [
        f"`{name}`"
        for name, value in vars(flow.outputs_class).items()
        if isinstance(value, property) and name != "is_complete"
    ]
    need = f"`{flow.needs.role}` of `{flow.needs.preset}`" if flow.needs else ""
    # From the class, because instances need presets.
    completes = bool(flow.completes)
    availability = "staging only" if flow.prerelease else "production"
    return [
        f"`{flow.slug}`",
        ", ".join(presets) if flow.documented else "not documented",
        flow.audience,
        need,
        ", ".join(outputs) or ("none" if flow.documented and not completes else "not documented"),
        "yes" if completes else "by Done",
        availability if flow.documented else "experimental",
    ]


TYPES = {
    "str": "String",
    "Sequence[str]": "List of strings",
    "float": "Number",
    "int": "Whole number",
    "int | None": "Whole number",
    "bool": "Boolean",
    "Mapping[str, str]": "Mapping",
    "Callable[..., Any] | None": "Callable or dotted path",
    "Mapping[str, Any] | Theme | Callable[..., Any]": "Mapping, callable or dotted path",
    "Mapping[str, Any] | Callable[..., Any]": "Mapping, callable or dotted path",
}


def test_settings(monkeypatch, settings):
    del settings.EXAMPLARY_API_KEY
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    entry = re.compile(r"### `(\w+)`\n\n([\w ,]+)\. Default: `(.+)`\n\n```sh\n(\w+)=(.+)\n```\n")
    entries = entry.findall(read("reference/settings.md"))
    declared = {
        name: value.fget for name, value in vars(Settings).items() if isinstance(value, property)
    }

    assert {name for name, *_ in entries} == declared.keys()
    for name, kind, default, variable, example_value in entries:
        assert kind == TYPES[declared[name].__annotations__["return"]]
        assert ast.literal_eval(default) == getattr(conf, name)
        assert variable == name
        if "dotted path" not in kind:
            monkeypatch.setenv(name, example_value)
            assert getattr(conf, name) != ast.literal_eval(default)


def test_methods_of_the_settings():
    cells = [row[0] for row in rows(read("reference/settings.md")) if "(" in row[0]]
    public = {name for name, value in vars(Settings).items() if inspect.isfunction(value)}

    assert sorted(re.findall(r"`(\w+)\(", " ".join(cells))) == sorted(public)


def test_reference_has_every_public_module():
    [names] = re.findall(r"the modules (.+);", read("howto/upgrading.md"))
    pages = "".join(file.read_text() for file in (DOCS / "reference").glob("*.md"))

    for name in codes(names):
        assert re.search(rf"\bdjango_examplary\.{name}\b", pages), name


def test_docstrings_of_the_reference_are_markdown():
    pages = "".join(file.read_text() for file in (DOCS / "reference").glob("*.md"))
    names = re.findall(r"^::: ([\w.]+)", pages, re.MULTILINE)

    assert names
    for name in names:
        assert not re.search(r"::$", inspect.getdoc(pydoc.locate(name)) or "", re.MULTILINE), name


def test_checks():
    sources = [file.read_text() for file in Path(checks.__file__).parent.glob("*.py")]
    used = re.findall(r"django_examplary\.[EW]\d{3}", "".join(sources))
    listed = [row[0].strip("`") for row in rows(read("reference/checks.md")) if codes(row[0])]

    assert listed == sorted(set(used))


def test_options_of_the_tag():
    table = rows(read("reference/pages.md"))
    listed = [codes(row[0])[0] for row in table if len(row) == 3 and codes(row[0])]
    parameters = inspect.signature(embeds.embed_context).parameters.values()
    options = {each.name for each in parameters if each.kind is each.KEYWORD_ONLY}

    assert sorted(listed) == sorted(options)


def test_options_of_the_link():
    [listed] = re.findall(
        r"It takes the presets and, (.+?)\.", read("reference/pages.md"), re.DOTALL
    )
    parameters = inspect.signature(embeds.launch_url).parameters.values()

    assert sorted(codes(listed)) == sorted(
        each.name for each in parameters if each.kind is each.KEYWORD_ONLY
    )


def section(text: str, heading: str) -> str:
    """Return the text below a heading, up to the next one."""
    return re.split(r"^#+ .+\n", text.partition(f" {heading}\n")[2], flags=re.MULTILINE)[0]


@pytest.mark.usefixtures("fake", "db")
@pytest.mark.parametrize("command", [name for name in get_commands() if "examplary_" in name])
def test_json_of_the_commands(command, capsys):
    [cell] = [
        row[1]
        for row in rows(section(read("reference/operations.md"), "JSON"))
        if command in row[0]
    ]
    result = re.search(r"the fields of `(\w+)`", cell)
    fields = dataclasses.fields(getattr(services, result[1])) if result else ()

    # An empty file has no users to link.
    required = {"csv": "/dev/null"} if command == "examplary_link" else {}
    call_command(command, json=True, **required)
    printed = list(json.loads(capsys.readouterr().out))
    assert printed == ([field.name for field in fields] if result else codes(cell))


def test_helpers_for_tests():
    text = read("howto/testing.md")

    methods = [name for name in vars(Embed) if not name.startswith("_")]
    assert all(f"`{name}" in text for name in methods)
    assert all(hasattr(FakeExamplary(), name) for name in re.findall(r"`fake\.(\w+)", text))


def test_permissions():
    listed = [name for row in rows(read("reference/operations.md")) for name in codes(row[0])]
    declared = [
        name for model in (ExamplaryActor, ExamplarySession) for name, _ in model._meta.permissions
    ]

    assert [name for name in listed if name in declared] == declared


def test_states_and_statuses():
    states = [row[0] for row in rows(read("reference/operations.md")) if len(row) == 3]
    statuses = [name for row in rows(read("reference/results.md")) for name in codes(row[0])]

    assert set(ExamplaryActor.State.labels) <= set(states)
    assert set(ExamplarySession.Status.values) <= set(statuses)


def test_messages_of_the_views():
    """The page on troubleshooting has the messages that users see."""
    text = read("howto/troubleshooting.md")
    quoted = set(re.findall(r"“([A-Z][^”]+)”", text))
    titles = {problems.explain(reason)[0] for reason in REASONS}

    assert titles <= quoted
    table = {
        codes(row[1])[0]: row
        for row in rows(section(text, "Messages of an embed"))
        if len(codes(row[1])) == 1 and row[0].startswith("“")
    }
    assert all(table[reason][0] == f"“{problems.explain(reason)[0]}”" for reason in REASONS)
    named: dict[str, set[str]] = {}
    for kinds, reason, _ in problems.REASONS:
        named.setdefault(reason, set()).update(kind.__name__ for kind in kinds)
    for reason, names in named.items():
        assert set(codes(table[reason][2])) == names


REASONS = (
    *(reason for _, reason, _ in problems.REASONS),
    "stale",
    "signed-out",
    "other-account",
)


def test_fields_of_the_models():
    private = {"claim_token", "lapses_at", "idempotency_key", "fingerprint", "open_key", "ticket"}
    private |= {"asked_at", "announced_at"}
    text = read("reference/models.md")
    for model in (ExamplaryActor, ExamplarySession):
        listed = {name for row in rows(section(text, model.__name__)) for name in codes(row[0])}
        fields = {field.name for field in model._meta.concrete_fields}
        # Every model has the primary key.
        assert listed - {"id"} == fields - private - {"id"}


def test_commands_are_listed():
    listed = {name for row in rows(read("reference/operations.md")) for name in codes(row[0])}

    assert {name for name in get_commands() if name.startswith("examplary_")} <= listed


def test_navigation_lists_every_page():
    pages = re.findall(r"[\w/.-]+\.md", MKDOCS.partition("\nnav:")[2].partition("\nplugins:")[0])

    assert sorted(pages) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_site_shows_the_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert f"\nsite_name: django-examplary {project['version']}\n" in MKDOCS


def test_diagrams_are_drawn_from_their_texts():
    drawings = sorted(DOCS.glob("diagrams/*.svg"))

    assert drawings
    for drawing in drawings:
        source = html.escape(drawing.with_suffix(".mmd").read_text(encoding="utf-8"), quote=False)
        assert f"<metadata>{source}</metadata>" in drawing.read_text(encoding="utf-8"), drawing


def test_states_and_statuses_are_in_the_diagrams():
    actor, session = (
        (DOCS / f"diagrams/{name}.mmd").read_text(encoding="utf-8") for name in ("actor", "session")
    )

    assert all(str(label) in actor for label in ExamplaryActor.State.labels)
    assert all(value in session for value in ExamplarySession.Status.values)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_files(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#\s]*)", text):
        assert (page.parent / target).exists(), target


def test_contract_is_complete():
    """Docstrings cite its sections by number."""
    sections = re.findall(r"^## (\d+)\.", read("maintainers/api.md"), re.MULTILINE)

    assert sections == [str(number) for number in range(1, 18)]


def test_every_threat_names_tests_that_exist():
    page = (DOCS / "explanation" / "security.md").read_text()
    table = page.partition("## Threats and tests")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    for row in rows:
        named = re.findall(r"`([\w/]+\.py)::([\w:]+)`", row.rpartition(" | ")[2])
        assert named, row
        for file, test in named:
            assert test in set(_names_of_tests(ROOT / "tests" / file)), f"{file}::{test}"


def _names_of_tests(file: Path) -> Iterator[str]:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.ClassDef):
            yield from (f"{node.name}::{each.name}" for each in node.body if hasattr(each, "name"))
