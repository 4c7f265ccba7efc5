"""Helpers for the tests of a project: settings that point to a fake, and a simulated browser."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from unittest import mock
from urllib.parse import urljoin, urlsplit

from django.apps import apps
from django.test.client import Client
from django.test.utils import override_settings

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.rules import Json
from django_examplary.testing.server import serve
from django_examplary.testing.sessions import Session
from django_examplary.testing.workspace import Workspace

if TYPE_CHECKING:
    from django.test import SimpleTestCase as TestCase
else:
    TestCase = object

#: The origin of embed URLs of a fake. It has no server, because only browsers would open them.
EMBED_ORIGIN = "https://embeds.examplary.test"


class RealExamplaryError(AssertionError):
    """A test was about to call the real Examplary."""


@contextmanager
def refuse_examplary() -> Iterator[None]:
    """Raise an error if any thread of this process looks up a host of examplary.ai."""
    look_up = socket.getaddrinfo

    def refuse(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if name.rstrip(".").lower().endswith("examplary.ai"):
            raise RealExamplaryError(
                f"A test was about to call {name}. Let it use fake_examplary()."
            )
        return look_up(host, *args, **kwargs)

    with mock.patch("socket.getaddrinfo", refuse):
        yield


@contextmanager
def fake_examplary(
    fake: FakeExamplary | None = None, *, browser: bool = False
) -> Iterator[FakeExamplary]:
    """Run a fake, point the settings to it, and refuse calls to the real Examplary.

    With `browser`, browsers can open its embed pages. They are served over http, which the app
    accepts only from localhost and with DEBUG, so this sets DEBUG.
    """
    with refuse_examplary(), serve(fake) as server:
        fake = server.fake
        changed: dict[str, Any] = {
            "EXAMPLARY_API_KEY": fake.api_key,
            "EXAMPLARY_API_URL": server.url,
            "EXAMPLARY_EMBED_ORIGINS": [server.url if browser else EMBED_ORIGIN],
        }
        if browser:
            changed["DEBUG"] = True
        else:
            for workspace in fake.workspaces:
                workspace.embed_origin = EMBED_ORIGIN
        # The site verifies a session at most once a second, and tests are faster.
        interval = "django_examplary.views.VERIFY_INTERVAL"
        installed = apps.is_installed("django_examplary")
        at_once = mock.patch(interval, timedelta(0)) if installed else nullcontext()
        with override_settings(**changed), at_once:
            yield fake


class Embed:
    """A simulated user of an embed on a page of the project.

    `client` is the Django test client of that user. `response` is the last response of the site.
    """

    def __init__(
        self,
        client: Client,
        fake: Workspace,
        attributes: dict[str, str],
        launch_url: str = "",
    ) -> None:
        self.client = client
        self.fake = fake
        self.attributes = attributes
        self.launch_url = launch_url
        self.response: Any = None
        self._session_id = ""

    @property
    def session(self) -> Session:
        """The session in the fake: `flow`, `actor`, `presets`, `theme`, `metadata`."""
        return self.fake.sessions[self._session_id]

    def load(self) -> Embed:
        """Load the frame and follow its redirect to the session. Fail if the site refuses."""
        self.response = self.client.get(self.launch_url, headers={"Sec-Fetch-Dest": "iframe"})
        self._session_id = _session_at(self.fake, self.response)
        return self

    def complete(self, outputs: Json | None = None) -> Json:
        """Complete the session, with these or typical outputs of the flow; see `report`."""
        self.fake.complete(self._session_id, outputs)
        return self.report()

    def cancel(self) -> Json:
        """Cancel the session; see `report`."""
        self.fake.cancel(self._session_id)
        return self.report()

    def expire(self) -> Json:
        """Let the session expire at Examplary, as it does after seven days; see `report`.

        The clock of the site does not change, so the row stays open.
        """
        self.fake.expire(self._session_id)
        return self.report()

    def close(self) -> Json:
        """Press the Done button beside the embed, which flows without completion have."""
        return self._post("close")

    def report(self) -> Json:
        """Report an event to the site, as the script of the page does.

        Returns the response to the script: `status`, `outputs` and `redirect`; or, if the site
        could not verify the session, `reason`, `title`, `text` and `reference`.
        """
        return self._post("sync")

    def _post(self, view: str) -> Json:
        if token := self.attributes.get("data-token"):
            # The embed of a one-time link.
            path, proof = f"../../report/{view}/", {"token": token}
        else:
            path = f"../../{view}/{self.attributes['data-key']}/"
            proof = {"csrfmiddlewaretoken": self.attributes["data-csrf-token"]}
        url = urljoin(self.launch_url, path)
        self.response = self.client.post(url, proof, headers={"Accept": "application/json"})
        try:
            answer: Json = self.response.json()
        except ValueError:
            raise AssertionError(f"{url} returned {self.response.status_code}, not JSON.") from None
        return answer


class Window:
    """A simulated user of a flow in the whole window, from a link of `{% examplary_url %}`."""

    def __init__(self, client: Client, fake: Workspace, url: str) -> None:
        self.client = client
        self.fake = fake
        self.response: Any = client.get(url)
        self._session_id = _session_at(fake, self.response)

    @property
    def session(self) -> Session:
        """The session in the fake."""
        return self.fake.sessions[self._session_id]

    def complete(self, outputs: Json | None = None) -> Any:
        """Complete the session, and return the response of the site to the returning browser."""
        return self._return(self.fake.complete(self._session_id, outputs))

    def cancel(self) -> Any:
        """Cancel the session, and return the response of the site to the returning browser."""
        return self._return(self.fake.cancel(self._session_id))

    def _return(self, session: Session) -> Any:
        url = urlsplit(session.redirect_url(keep_query=True) or "")
        self.response = self.client.get(f"{url.path}?{url.query}")
        return self.response


def find_embeds(client: Client, fake: Workspace, response: Any) -> list[Embed]:
    """Return the embeds of a page, without loading them."""
    reader = _Reader()
    reader.feed(response.content.decode(response.charset))
    reader.close()
    return [
        Embed(client, fake, attributes, launch_url)
        for attributes, launch_url in zip(reader.found, reader.launch_urls, strict=True)
    ]


def open_embed(client: Client, fake: Workspace, url: str) -> Embed:
    """Open a page and load its only embed, as a browser does."""
    embeds = find_embeds(client, fake, client.get(url))
    if len(embeds) != 1:
        hint = "" if embeds else " Is the client signed in?"
        raise AssertionError(f"{url} has {len(embeds)} embeds, not one.{hint}")
    return embeds[0].load()


def assert_sent(fake: Workspace, method: str, path: str, **fields: Any) -> None:
    """Assert that exactly one such request was sent, with these fields in its JSON.

    `path` may be a template, such as `/permissions/{resource}`.
    """
    sent = [request.json or {} for request in fake.calls(method, path)]
    if len(sent) != 1:
        raise AssertionError(f"{method} {path} was sent {len(sent)} times, not once.")
    for name, expected in fields.items():
        if sent[0].get(name) != expected:
            raise AssertionError(
                f"{method} {path} was sent with {name} {sent[0].get(name)!r}, not {expected!r}."
            )


class ExamplaryTestMixin(TestCase):
    """For `class Tests(ExamplaryTestMixin, TestCase)`: every test has a fake, `self.fake`."""

    #: Arguments for the fake, such as `{"staging": True}`; see `FakeExamplary`.
    fake_options: dict[str, Any] = {}
    #: Set this if a browser opens the embeds, as in a LiveServerTestCase.
    fake_for_browser = False

    fake: FakeExamplary

    @classmethod
    def setUpClass(cls) -> None:
        # Start here, because `setUpTestData` runs before `setUp`.
        cls.enterClassContext(refuse_examplary())
        super().setUpClass()

    def setUp(self) -> None:
        super().setUp()
        fake = FakeExamplary(**self.fake_options)
        self.fake = self.enterContext(fake_examplary(fake, browser=self.fake_for_browser))

    def open_embed(self, url: str) -> Embed:
        """Open a page as `self.client` and load its only embed."""
        return open_embed(self.client, self.fake, url)

    def open_window(self, url: str) -> Window:
        """Follow a link of `{% examplary_url %}` as `self.client`."""
        return Window(self.client, self.fake, url)

    def assert_sent(self, method: str, path: str, **fields: Any) -> None:
        """Assert that exactly one such request was sent, with these fields in its JSON."""
        assert_sent(self.fake, method, path, **fields)


def _session_at(fake: Workspace, response: Any) -> str:
    """Return the id of the session to which the site redirected."""
    location = response.headers.get("Location", "")
    for session in fake.sessions.values():
        if session.embed_url == location:
            return session.id
    answer = f"it returned {response.status_code}"
    if location:
        answer += f", to {urlsplit(location).path}"
    for title in re.findall(r"data-examplary-title>([^<]+)<", response.content.decode()):
        answer += f", “{unescape(title)}”"
    raise AssertionError(f"The site opened no session: {answer}. The app's log has the reason.")


class _Reader(HTMLParser):
    """Collect the attributes of each embed, and the URL that its script launches."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, str]] = []
        self.launch_urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "examplary-embed":
            self.found.append(attributes)
            self.launch_urls.append("")
        elif tag == "iframe" and "slot" in attributes and "src" in attributes:
            self.launch_urls[-1] = attributes["src"]
        elif "data-examplary-opener" in attributes and "href" in attributes:
            # Without a frame that loads automatically, the script opens the URL of the link.
            window = attributes["href"]
            token = window.rstrip("/").rpartition("/")[2]
            self.launch_urls[-1] = urljoin(window, f"../../launch/{token}/")
