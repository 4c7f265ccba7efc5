"""The example project as in production: https, and Examplary's embeds at another site."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import call_command
from django.core.servers.basehttp import ThreadedWSGIServer
from django.test.testcases import LiveServerThread
from django.utils.csp import CSP

from django_examplary.csp import csp_directives
from django_examplary.testing import FakeExamplary, serve

# Every engine resolves these names to loopback without DNS. They count as two sites, because
# `localhost` is not in the public suffix list.
SITE_HOST = "northfield.localhost"
EMBED_HOST = "examplary.localhost"

MIDDLEWARE = {
    "config.csp.content_security_policy": "django.middleware.csp.ContentSecurityPolicyMiddleware"
}

# Tries to store a cookie in the embed, and returns what the embed reads back.
PROBE = "document.cookie = 'probe=1; SameSite=None; Secure'; return document.cookie"


def keep_cookies(settings: Any, same_site: str) -> None:
    """Set the SameSite attribute of the cookies of the site."""
    settings.SESSION_COOKIE_SAMESITE = settings.CSRF_COOKIE_SAMESITE = same_site


class TlsServer(ThreadedWSGIServer):
    tls: ssl.SSLContext

    def get_request(self) -> Any:
        connection, address = super().get_request()
        # The handshake happens at the first read, in the thread of the connection.
        return self.tls.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        ), address

    def setup_environ(self) -> None:
        super().setup_environ()
        self.base_environ["HTTPS"] = "on"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors of connections that browsers opened in advance and closed unused."""


def tls_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure_examplary(
    settings: Any, authority: trustme.CA, tmp_path: Path
) -> Iterator[FakeExamplary]:
    """A fake whose embeds are at another site than the example project."""
    bundle = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = tls_context(authority, "127.0.0.1", EMBED_HOST)
    with serve(FakeExamplary(staging=True), tls=tls) as server:
        origin = f"https://{EMBED_HOST}:{server.server_port}"
        for workspace in server.fake.workspaces:
            workspace.base_url = origin
        settings.EXAMPLARY_CA_BUNDLE = str(bundle)
        settings.EXAMPLARY_API_KEY = server.fake.api_key
        settings.EXAMPLARY_API_URL = server.url
        settings.EXAMPLARY_EMBED_ORIGINS = [origin]
        yield server.fake


@pytest.fixture
def secure_school(
    secure_examplary: FakeExamplary,
    settings: Any,
    authority: trustme.CA,
    transactional_db: None,
) -> Iterator[str]:
    """The address of the example project with the settings of a careful production site."""
    settings.DEBUG = False
    settings.ALLOWED_HOSTS = [SITE_HOST]
    for cookie in ("SESSION", "CSRF"):
        setattr(settings, f"{cookie}_COOKIE_SECURE", True)
    settings.SESSION_COOKIE_NAME = "__Host-sessionid"
    settings.CSRF_COOKIE_NAME = "__Host-csrftoken"
    settings.SECURE_HSTS_SECONDS = 3600
    settings.MIDDLEWARE = [MIDDLEWARE.get(each, each) for each in settings.MIDDLEWARE]
    settings.SECURE_CSP = {
        **csp_directives(),
        "default-src": [CSP.NONE],
        "base-uri": [CSP.NONE],
        # The icon of the example project.
        "img-src": [CSP.SELF],
        "script-src": [CSP.NONCE, CSP.STRICT_DYNAMIC],
        "require-trusted-types-for": ["'script'"],
    }
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    call_command("seed")
    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.server_class = type("Server", (TlsServer,), {"tls": tls_context(authority, SITE_HOST)})
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    if thread.error:
        raise thread.error
    yield f"https://{SITE_HOST}:{thread.port}"
    thread.terminate()
