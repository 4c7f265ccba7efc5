"""The site of the benchmarks in this process: its database, its users, and requests to it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"


@contextmanager
def site(api_url: str = "") -> Iterator[None]:
    """Set up Django with new databases, and delete them afterwards."""
    if api_url:
        os.environ["EXAMPLARY_API_URL"] = api_url
    django.setup()

    from django.test.utils import setup_databases, teardown_databases  # noqa: PLC0415

    databases = setup_databases(verbosity=0, interactive=False)
    try:
        yield
    finally:
        teardown_databases(databases, verbosity=0)


class Visitor:
    """The browser of a signed-in user, reduced to its requests.

    Calls the WSGI application directly, because Django's test client is slower than many pages.
    """

    def __init__(self, username: str = "teacher") -> None:
        from django.conf import settings  # noqa: PLC0415
        from django.contrib.auth.models import User  # noqa: PLC0415
        from django.core.handlers.wsgi import WSGIHandler  # noqa: PLC0415
        from django.test import Client  # noqa: PLC0415

        self.user = User.objects.create_user(
            username, f"{username}@school.example", first_name="Tea", last_name="Cher"
        )
        client = Client()
        client.force_login(self.user)
        self.cookies = SimpleCookie(
            {settings.SESSION_COOKIE_NAME: client.cookies[settings.SESSION_COOKIE_NAME].value}
        )
        self._application: Any = WSGIHandler()

    @property
    def cookie_header(self) -> str:
        return "; ".join(f"{name}={cookie.value}" for name, cookie in self.cookies.items())

    def get(self, path: str, query: str = "") -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "HTTP_HOST": "localhost",
            "HTTP_ACCEPT": "text/html",
            "HTTP_COOKIE": self.cookie_header,
            "HTTP_SEC_FETCH_DEST": "iframe",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        response: Any = self._application(environ, lambda *head: None)
        body = b"".join(response)
        response.close()
        self.cookies.update(response.cookies)
        return response.status_code, dict(response.items()), body

    def page(self, path: str, query: str = "") -> None:
        status, _, _ = self.get(path, query)
        assert status == 200, (path, status)

    def embed_sizes(self, path: str) -> list[int]:
        """Return the bytes of HTML of each embed on a page."""
        _, _, body = self.get(path)
        return [
            len(embed)
            for embed in re.findall(rb"<examplary-embed.*?</examplary-embed>", body, re.S)
        ]

    def launch(self, path: str) -> None:
        status, headers, _ = self.get(path)
        assert status == 302, (path, status)
        assert headers["Location"].startswith("https://app.examplary.ai/"), headers

    def queries(self, path: str) -> int:
        from django.db import connection  # noqa: PLC0415
        from django.test.utils import CaptureQueriesContext  # noqa: PLC0415

        self.get(path)
        with CaptureQueriesContext(connection) as captured:
            self.get(path)
        return len(captured)


def launch_path(user: Any, **options: Any) -> str:
    """Return the path that the iframe of a page loads."""
    from django.urls import reverse  # noqa: PLC0415

    from django_examplary.flows import GenerateExam  # noqa: PLC0415
    from django_examplary.launch import Launch  # noqa: PLC0415

    token = Launch(
        user_id=str(user.pk),
        flow=GenerateExam(subject="Mathematics", student_level="us_high_school_lower"),
        origin="http://testserver",
        theme={"locale": "en"},
        next_url="/with/",
        **options,
    ).sign()
    return reverse("django_examplary:launch", args=[token])
