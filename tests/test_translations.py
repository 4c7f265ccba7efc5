"""The catalogues are complete, and their compiled files are current."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest
from django.core.management import call_command
from django.utils import translation
from django.utils.translation import gettext, ngettext

import django_examplary
from django_examplary.flows import FLOWS, GenerateExam
from django_examplary.launch import Launch

PACKAGE = Path(django_examplary.__file__).parent
LANGUAGES = ["de", "es", "fr", "nl"]

needs_gettext = pytest.mark.skipif(not shutil.which("msgfmt"), reason="GNU gettext is missing.")


def run(*command: str | Path) -> str:  # pragma: no cover  # for machines with GNU gettext
    """Return the output of one of the gettext tools."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def extracted(
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # pragma: no cover  # for machines with GNU gettext
    """A copy of the package with updated catalogues."""
    package = tmp_path_factory.mktemp("source") / "django_examplary"
    # The texts of the testing kit are for developers.
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("testing", "__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(package)
        options = {"no_wrap": True, "no_location": True, "no_obsolete": True}
        call_command("makemessages", locale=LANGUAGES, verbosity=0, **options)
    return package


def test_gettext_functions_have_names_that_makemessages_finds():
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")]
    imported = {
        name.asname
        for module in modules
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for name in node.names
    }

    assert imported == {None, "_"}


def test_languages():
    catalogues = PACKAGE.glob("locale/*/LC_MESSAGES/django.*")
    expected = {f"{language}.{suffix}" for language in LANGUAGES for suffix in ("po", "mo")}

    assert {f"{path.parts[-3]}{path.suffix}" for path in catalogues} == expected


@needs_gettext
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("flaw", ["--untranslated", "--only-fuzzy", "--only-obsolete"])
def test_catalogue_is_complete(
    extracted, language, flaw
):  # pragma: no cover  # for machines with GNU gettext
    catalogue = extracted / f"locale/{language}/LC_MESSAGES/django.po"

    assert run("msgattrib", flaw, catalogue) == ""


@needs_gettext
@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogue_has_the_format_of_makemessages(
    extracted, language
):  # pragma: no cover  # for machines with GNU gettext
    """So a diff has no lines that only changed their wrapping."""
    path = f"locale/{language}/LC_MESSAGES/django.po"
    fresh, ours = (
        [line for line in (root / path).read_text().splitlines() if "POT-Creation" not in line]
        for root in (extracted, PACKAGE)
    )

    assert fresh == ours


@needs_gettext
@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogue_is_compiled(
    tmp_path, language
):  # pragma: no cover  # for machines with GNU gettext
    compiled = PACKAGE / f"locale/{language}/LC_MESSAGES/django.mo"
    run("msgfmt", "--check-format", "-o", tmp_path / "django.mo", compiled.with_suffix(".po"))

    assert run("msgunfmt", compiled) == run("msgunfmt", tmp_path / "django.mo")


@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_are_translated(language):
    with translation.override("en"):
        english = [str(flow.title) for flow in FLOWS.values()]

    with translation.override(language):
        assert not {str(flow.title) for flow in FLOWS.values()} & set(english)


@pytest.mark.parametrize(
    ("language", "one", "two"),
    [
        ("de", "1 Sitzung widerrufen.", "2 Sitzungen widerrufen."),
        ("es", "1 sesión revocada.", "2 sesiones revocadas."),
        ("fr", "1 session révoquée.", "2 sessions révoquées."),
        ("nl", "1 sessie ingetrokken.", "2 sessies ingetrokken."),
    ],
)
def test_plurals(language, one, two):
    def revoked(count: int) -> str:
        text = ngettext("%(count)d session revoked.", "%(count)d sessions revoked.", count)
        return text % {"count": count}

    with translation.override(language):
        assert (revoked(1), revoked(2)) == (one, two)
        # In French, zero is singular.
        assert revoked(0) == (one if language == "fr" else two).replace("1", "0").replace("2", "0")


@pytest.mark.django_db
@pytest.mark.parametrize("language", LANGUAGES)
def test_page_in_the_frame_has_the_language_of_the_user(client, teacher, language):
    token = Launch(user_id=str(teacher.pk), flow=GenerateExam(), origin="http://testserver").sign()
    headers = {"accept-language": language, "sec-fetch-dest": "iframe"}

    # The middleware leaves the language active after the request.
    with translation.override("en"):
        page = client.get(f"/examplary/launch/{token}/", headers=headers).content.decode()

    assert f'<html lang="{language}"' in page
    with translation.override(language):
        assert gettext("You are not signed in") in page
    assert "You are not signed in" not in page
