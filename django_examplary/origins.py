"""Check URLs and origins. Reads no settings: the caller passes the allowed origins."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

from django.views.decorators.debug import sensitive_variables

from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryEmbedURLError

#: The address of Examplary's production API.
PRODUCTION_URL = "https://api.examplary.ai"

# Hosts of Examplary's web application, which users confuse with the API.
_APP_HOSTS = ("app.examplary.ai", "examplary.ai", "www.examplary.ai")

# Stricter than any URL parser: no credentials, no upper case, no backslash, ASCII only.
_EMBED_URL = re.compile(
    r"(?P<origin>(?P<scheme>https?)://([a-z0-9.-]+|\[::1\])(:\d+)?)([/?#][!-\[\]-~]{0,2000})?"
)
# Browsers drop tabs and line ends from a URL and read a backslash as a slash.
_LOCAL_PATH = re.compile(r"/(?!/)[^\\\x00-\x1f\x7f-\x9f]*")


def checked_url(url: str) -> str:
    """Return the base URL of the API without its last slash.

    Raises ExamplaryConfigurationError, which quotes the URL unless it may contain a password.
    """
    if not is_https_or_loopback(url, http_loopback=True) or "?" in url:
        raise ExamplaryConfigurationError(
            "EXAMPLARY_API_URL must be an https URL without credentials or query. http is only "
            "accepted for localhost."
        )
    if "#" in url:
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_API_URL is {url!r}, which has a fragment. Remove everything from the # on."
        )
    if urlsplit(url).hostname in _APP_HOSTS:
        raise ExamplaryConfigurationError(
            f"EXAMPLARY_API_URL is {url!r}, which is Examplary's website. The API has an address "
            f"of its own: set {PRODUCTION_URL!r}, or remove the setting."
        )
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Return whether the host of the URL is localhost."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def is_https_or_loopback(url: str, *, http_loopback: bool) -> bool:
    """Return whether a URL is absolute, https, and has no credentials, blanks or backslashes.

    With `http_loopback`, http is accepted for localhost.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018  # raises for a port that is not a number
    except ValueError:
        return False
    if "@" in parts.netloc or not parts.hostname or re.search(r"[\x00-\x20\x7f\\]", url):
        return False
    return parts.scheme == "https" or (
        http_loopback and parts.scheme == "http" and is_loopback(url)
    )


def origin_of(url: str) -> str:
    """Return scheme, host and port of an absolute URL, as browsers write an origin."""
    parts = urlsplit(url)
    return without_default_port(f"{parts.scheme}://{parts.netloc.lower()}")


@sensitive_variables("url", "match")
def embed_origin(
    url: str,
    allowed: Collection[str],
    *,
    http_loopback: bool,
    setting: str = "EXAMPLARY_EMBED_ORIGINS",
) -> str:
    """Return the origin of an embed URL that is safe to put into a frame.

    `allowed` lists the accepted origins, and `setting` is the name of that setting. With
    `http_loopback`, one of them may be http on localhost. Raises ExamplaryEmbedURLError, which
    names the origin and never the rest of the URL. Escaping alone is not sufficient: a
    `javascript:` URL would run in the page with the frame.
    """
    match = _EMBED_URL.fullmatch(url)
    if match is None:
        raise ExamplaryEmbedURLError(
            "Examplary returned an embed URL that is not a plain absolute https URL."
        )
    origin = without_default_port(match["origin"])
    if match["scheme"] != "https" and not (http_loopback and is_loopback(origin)):
        raise ExamplaryEmbedURLError(
            f"Examplary returned an embed URL of {origin}, which is not https. http is only "
            "accepted from localhost, while DEBUG is on.",
            origin=origin,
        )
    if origin not in map(without_default_port, allowed):
        raise ExamplaryEmbedURLError(
            f"Examplary returned an embed URL of {origin}, which {setting} does not "
            "list. If that is your workspace's domain, set "
            f"{setting} = {[*allowed, origin]!r}",
            origin=origin,
        )
    return origin


def is_origin(text: str) -> bool:
    """Return whether a string is exactly an origin that an embed URL can have."""
    match = _EMBED_URL.fullmatch(text)
    return match is not None and match["origin"] == text


def is_local_path(path: str) -> bool:
    """Return whether a browser that is redirected to `path` stays on this site."""
    return _LOCAL_PATH.fullmatch(path) is not None


def without_default_port(origin: str) -> str:
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")
