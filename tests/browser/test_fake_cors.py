"""A page on another origin calls the fake directly, as the vendor's official demo does."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from django_examplary.testing import FakeExamplary, serve
from tests.browser.visitors import Visitor

CALLS = """
async ([api, key]) => {
  const call = async (method, path, body) => {
    const response = await fetch(api + path, {
      method,
      headers: {"Authorization": key, "Content-Type": "application/json"},
      body: body && JSON.stringify(body),
    });
    return [response.status, response.status === 204 ? null : await response.json()];
  };
  const [, user] = await call("POST", "/users", {email: "ada@example.com"});
  const [, session] = await call("POST", "/embed-sessions", {
    flow: "generate-exam", actor: user.id, allowedOrigin: location.origin,
  });
  const frame = document.createElement("iframe");
  frame.src = session.embedUrl;
  document.body.append(frame);
  const message = new Promise((resolve) => {
    window.addEventListener("message", (event) => resolve([event.origin, event.data]));
  });
  window.finished = message;
  window.call = call;
  return session.id;
}
"""


@pytest.fixture
def origin() -> Iterator[str]:
    """The origin of an empty page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Demo</title><link rel=icon href=data:,>")

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("prefix", ["Bearer ", ""])
def test_page_on_another_origin_calls_the_api(browser, origin, prefix):
    fake = FakeExamplary()
    with serve(fake) as server:
        visitor = Visitor(browser.new_page(), origin)
        page = visitor.page
        page.goto(origin)
        session_id = page.evaluate(CALLS, [server.url, prefix + fake.api_key])
        page.frame_locator("iframe").locator("[data-examplary-action=complete]").click()
        sender, data = page.evaluate("window.finished")
        assert sender == server.url
        assert data["status"] == "completed"

        read = "([method, path]) => window.call(method, path)"
        status, session = page.evaluate(read, ["GET", f"/embed-sessions/{session_id}"])
        assert (status, session["outputs"]) == (200, data["outputs"])
        exam = f"/exams/{data['outputs']['examId']}"
        _, export = page.evaluate(read, ["POST", f"{exam}/export/qti3-zip"])
        # The official demo opens the package by plain navigation.
        with page.expect_download() as download:
            page.evaluate("url => { location.href = url; }", export["url"])
        assert download.value.failure() is None
        assert page.evaluate(read, ["DELETE", f"/embed-sessions/{session_id}"]) == [204, None]
        assert page.evaluate(read, ["DELETE", exam]) == [204, None]
        # An error can be read too.
        assert page.evaluate(read, ["GET", exam])[0] == 404
        page.close()
