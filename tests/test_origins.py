from __future__ import annotations

import pytest

from django_examplary.exceptions import ExamplaryConfigurationError, ExamplaryEmbedURLError
from django_examplary.origins import (
    checked_url,
    embed_origin,
    is_https_or_loopback,
    is_local_path,
    is_origin,
    origin_of,
)

APP = "https://app.examplary.ai"
LOCAL = "http://127.0.0.1:8001"


@pytest.mark.parametrize(
    "path",
    ["/", "/exams/", "/exams/?page=2#top", "/a//b", "/%09/evil.example", "/exámenes/", "/a b/"],
)
def test_path_on_this_site_is_local(path):
    assert is_local_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "exams/",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t//evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/exams/\r\n",
        "/exams/\n",
        " /exams/",
        "\t//evil.example",
        "\x00/exams/",
        "/exams/\x7f",
        "/exams/\x85",
        "https://evil.example",
        "javascript:alert(1)",
    ],
)
def test_path_that_browsers_resolve_to_another_site_is_not_local(path):
    assert not is_local_path(path)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        (f"{APP}/embeds/1", APP),
        (f"{APP}:443/embeds/1", APP),
        (APP, APP),
        (f"{APP}?a=b", APP),
        ("http://127.0.0.1:80/embeds/1", "http://127.0.0.1"),
        ("https://exams.school.example:8443/x", "https://exams.school.example:8443"),
    ],
)
def test_embed_origin_is_normalised(url, origin):
    allowed = [f"{APP}:443", "http://127.0.0.1", "https://exams.school.example:8443"]
    assert embed_origin(url, allowed, http_loopback=True) == origin


def test_refused_embed_url_names_its_origin_and_the_setting():
    with pytest.raises(ExamplaryEmbedURLError) as caught:
        embed_origin("https://exams.school.example/embeds/secret?a=b", [APP], http_loopback=False)
    assert caught.value.origin == "https://exams.school.example"
    assert str(caught.value).endswith(
        "EXAMPLARY_EMBED_ORIGINS = ['https://app.examplary.ai', 'https://exams.school.example']"
    )
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://evil.example/embeds/1", f"{LOCAL}/embeds/1"])
def test_http_embed_is_refused(url):
    with pytest.raises(ExamplaryEmbedURLError, match="which is not https") as caught:
        embed_origin(url, [LOCAL, "http://evil.example"], http_loopback=False)
    assert caught.value.origin == url.removesuffix("/embeds/1")


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", f"{APP}\\@evil.example/", "//x"])
def test_embed_url_without_an_origin_is_refused(url):
    with pytest.raises(ExamplaryEmbedURLError, match="not a plain absolute https URL") as caught:
        embed_origin(url, [APP], http_loopback=True)
    assert caught.value.origin == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [(APP, True), (LOCAL, True), (f"{APP}/", False), ("*", False), ("https://A.example", False)],
)
def test_is_origin(text, expected):
    assert is_origin(text) is expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://api.examplary.ai/#v1", "'https://api.examplary.ai/#v1', which has a fragment"),
        ("https://app.examplary.ai/", "'https://app.examplary.ai/', which is Examplary's website"),
        ("http://api.examplary.ai", "must be an https URL"),
        ("https://user:secret@api.examplary.ai", "must be an https URL"),
        ("https://api.examplary.ai?key=secret", "must be an https URL"),
    ],
)
def test_wrong_api_url_is_named(url, problem):
    with pytest.raises(ExamplaryConfigurationError, match="EXAMPLARY_API_URL") as caught:
        checked_url(url)
    assert problem in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://api.examplary.ai/", "https://api.examplary.ai"])
def test_last_slash_of_the_api_url_is_dropped(url):
    assert checked_url(url) == "https://api.examplary.ai"


def test_origin_is_normalised_as_in_browsers():
    assert origin_of("https://API.Examplary.ai:443/v1?x") == "https://api.examplary.ai"
    assert origin_of("http://127.0.0.1:8001/x") == LOCAL


def test_http_is_accepted_for_localhost_on_request():
    assert is_https_or_loopback(LOCAL, http_loopback=True)
    assert not is_https_or_loopback(LOCAL, http_loopback=False)
