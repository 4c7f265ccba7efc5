"""Check a folder with a wheel and an sdist, and the package installed beside this interpreter.

The path of a script begins with its own folder and not the checkout, so imports use the installed
wheel.
"""

from __future__ import annotations

import re
import sys
import tarfile
from importlib.metadata import files, metadata
from pathlib import Path
from zipfile import ZipFile

import django
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.template.loader import get_template

import django_examplary

ROOT = Path(__file__).parents[1]


def checkout(folder: str) -> set[str]:
    """Return the files of a folder of the checkout, without caches of Python and pytest."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and ".pytest_cache" not in path.parts
    }


def check_wheel(wheel: Path) -> None:
    """Check that the wheel contains exactly the package, and that it is installed."""
    with ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if ".dist-info/" not in name}
    installed = {
        path.as_posix()
        for path in files("django-examplary") or []
        if ".dist-info/" not in path.as_posix() and path.suffix != ".pyc"
    }
    assert members == checkout("django_examplary"), members ^ checkout("django_examplary")
    assert members == installed, members ^ installed


def check_description() -> None:
    """Check that the description has no links to files of the repository, which PyPI lacks."""
    description = metadata("django-examplary").get_payload()
    links = re.findall(r"\]\(([^)]*)\)", description)
    assert links, "the README is missing"
    assert all(link.startswith("https://") for link in links), links


def check_sdist(sdist: Path) -> None:
    """Check that the sdist contains everything that the tests need."""
    with tarfile.open(sdist) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"LICENSE", "README.md", "pyproject.toml", "tox.ini"}
    needed |= {"CONTRIBUTING.md", "SECURITY.md", "mkdocs.yml"} | checkout("docs")
    needed |= checkout(".github") | checkout("django_examplary") | checkout("tests")
    assert needed <= members, needed - members


def check_installed_app() -> None:
    """Check that the app works in a minimal project, with its templates and static files."""
    assert not Path(django_examplary.__file__).samefile(ROOT / "django_examplary/__init__.py")
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        EXAMPLARY_API_KEY="examp_0123456789abcdef0123456789abcdef",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.staticfiles",
            "django_examplary",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        STATIC_URL="/static/",
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
            }
        ],
    )
    django.setup()
    call_command("check", fail_level="WARNING")
    call_command("makemigrations", check_changes=True, dry_run=True)
    call_command("migrate", verbosity=0)
    get_template("django_examplary/embed.html")
    assert finders.find("django_examplary/embed.js"), "embed.js is not found"


if __name__ == "__main__":
    [folder] = map(Path, sys.argv[1:])
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    check_wheel(wheel)
    check_description()
    check_sdist(sdist)
    check_installed_app()
    sys.stdout.write(f"{wheel.name} and {sdist.name} are complete, and the wheel works.\n")
