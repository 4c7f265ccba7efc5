from __future__ import annotations

import secrets
import time
from dataclasses import fields, replace
from typing import Any

import pytest
from django.core import signing
from django.core.exceptions import SuspiciousOperation
from django.test import override_settings

from django_examplary import launch
from django_examplary.exceptions import ExamplaryValidationError, InvalidLaunchToken
from django_examplary.launch import LaunchRequest, sign_return, unsign_return

REQUEST = LaunchRequest(
    user_id="7",
    flow="take-exam",
    presets={"examId": "exam_abc"},
    theme={"locale": "nl"},
    metadata={"course": "Mathematics — «1b»"},
    next_url="/courses/1b/?tab=exams#done",
    mode="redirect",
    grant_access=True,
    nonce="abc",
    session_id="8f4e0f5c-1d0e-4f3a-9d0b-3f1f6f0a2b1c",
)
ORIGIN = "https://school.example"

# Another value for every field.
CHANGES: dict[str, Any] = {
    "user_id": "8",
    "flow": "edit-exam",
    "presets": {"examId": "exam_other"},
    "theme": {},
    "metadata": {"course": "Art"},
    "next_url": "/",
    "mode": "frame",
    "grant_access": False,
    "nonce": "",
    "session_id": "",
}


@pytest.mark.parametrize(
    "request_", [REQUEST, LaunchRequest(user_id="7"), LaunchRequest(user_id="7", flow="edit-exam")]
)
def test_token_is_read_back(request_):
    assert LaunchRequest.unsign(request_.sign(), max_age=60) == request_


def test_token_fits_into_a_path():
    assert set(REQUEST.sign()) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:."
    )


def test_token_is_compressed():
    request = replace(REQUEST, presets={"context": "again and again " * 1_000})

    assert len(request.sign()) < 1_000


@pytest.mark.parametrize(
    "tamper",
    [
        lambda token: f"{token}A",
        lambda token: token[:-1],
        lambda token: f"A{token}",
        lambda token: token.swapcase(),
        lambda token: token.rpartition(":")[0],
        lambda token: signing.dumps({"user_id": "8"}),
        lambda token: signing.dumps({"user_id": "8"}, salt="django_examplary.return"),
        lambda token: sign_return("7"),
        lambda token: "",
        lambda token: "ünsigned",
    ],
    ids=[
        "longer",
        "shorter",
        "other payload",
        "other case",
        "no signature",
        "no salt",
        "other salt",
        "return reference",
        "empty",
        "not ASCII",
    ],
)
def test_tampering_is_noticed(tamper):
    with pytest.raises(InvalidLaunchToken):
        LaunchRequest.unsign(tamper(REQUEST.sign()), max_age=60)


def test_token_of_another_site_is_refused():
    with override_settings(SECRET_KEY="another"):
        token = REQUEST.sign()

    with pytest.raises(InvalidLaunchToken):
        LaunchRequest.unsign(token, max_age=60)


def test_token_outlives_a_new_secret_key():
    token = REQUEST.sign()

    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["not-a-secret"]):
        assert LaunchRequest.unsign(token, max_age=60) == REQUEST


def test_invalid_token_is_suspicious():
    with pytest.raises(SuspiciousOperation):
        LaunchRequest.unsign("unsigned", max_age=60)


def test_token_of_a_release_with_other_arguments_is_invalid():
    token = signing.dumps({"user_id": "7", "new": 1}, salt="django_examplary.launch")

    with pytest.raises(InvalidLaunchToken, match="new"):
        LaunchRequest.unsign(token, max_age=60)


def test_token_lives_for_its_maximum_age(monkeypatch):
    signed_at = int(time.time())
    monkeypatch.setattr(time, "time", lambda: signed_at)
    token = REQUEST.sign()

    monkeypatch.setattr(time, "time", lambda: signed_at + 60)
    assert LaunchRequest.unsign(token, max_age=60) == REQUEST

    monkeypatch.setattr(time, "time", lambda: signed_at + 61)
    with pytest.raises(InvalidLaunchToken, match="age"):
        LaunchRequest.unsign(token, max_age=60)


def test_token_may_be_as_long_as_a_url_can_hold(monkeypatch):
    # Too random to be any shorter compressed.
    request = replace(REQUEST, presets={"context": secrets.token_urlsafe(1_000)})
    length = len(request.sign())

    monkeypatch.setattr(launch, "MAX_TOKEN_LENGTH", length)
    request.sign()

    monkeypatch.setattr(launch, "MAX_TOKEN_LENGTH", 1_000)
    with pytest.raises(ExamplaryValidationError, match=r"token of 1\d{3} characters"):
        request.sign()


def test_token_that_would_be_too_long_is_compressed():
    request = replace(REQUEST, presets={"context": "word " * 1_000})

    token = request.sign()

    assert len(token) < launch.MAX_TOKEN_LENGTH
    assert LaunchRequest.unsign(token, max_age=60) == request


def test_token_that_is_too_long_is_refused_with_advice():
    request = LaunchRequest(user_id="7", presets={"context": secrets.token_urlsafe(3_000)})

    with pytest.raises(ExamplaryValidationError, match=r"services\.open_session\(\)") as caught:
        request.sign()

    assert caught.value.field == "presets"


def test_fingerprint_is_stable():
    assert REQUEST.fingerprint(ORIGIN) == replace(REQUEST).fingerprint(ORIGIN)


def test_fingerprint_survives_the_token():
    request = replace(REQUEST, presets={"ids": ("a", "b"), "b": 1, "a": 2})

    read = LaunchRequest.unsign(request.sign(), max_age=60)

    assert read.fingerprint(ORIGIN) == request.fingerprint(ORIGIN)


def test_fingerprint_ignores_the_order_of_keys():
    one = replace(REQUEST, presets={"a": 1, "b": 2})
    two = replace(REQUEST, presets={"b": 2, "a": 1})

    assert one.fingerprint(ORIGIN) == two.fingerprint(ORIGIN)


def test_changes_cover_every_field():
    assert set(CHANGES) == {field.name for field in fields(LaunchRequest)}


@pytest.mark.parametrize(("field", "value"), CHANGES.items())
def test_fingerprint_differs_by_every_field(field, value):
    other = replace(REQUEST, **{field: value})

    assert other.fingerprint(ORIGIN) != REQUEST.fingerprint(ORIGIN)


@pytest.mark.parametrize("origin", ["http://school.example", "https://school.example:8443", ""])
def test_fingerprint_differs_by_origin(origin):
    assert REQUEST.fingerprint(origin) != REQUEST.fingerprint(ORIGIN)


def test_fingerprint_fits_its_column():
    assert len(REQUEST.fingerprint(ORIGIN)) == 64


@pytest.mark.parametrize(
    "next_url",
    [
        "",
        "/",
        "/exams/",
        "/exams/?next=https://evil.example/#//evil.example",
        "/exams//2/",
        "/@evil.example/",
        "/%2F%2Fevil.example/",
        "/süß/",
    ],
)
def test_next_is_a_path_on_this_site(next_url):
    assert LaunchRequest(user_id="7", next_url=next_url).next_url == next_url


@pytest.mark.parametrize(
    "next_url",
    [
        "exams/",
        "?done",
        "https://school.example/",
        "https://evil.example/",
        "http:evil.example",
        "https:evil.example",
        "https:/evil.example",
        "https:///evil.example",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "/\\/evil.example",
        "javascript:alert(1)",
        "data:text/html,evil",
        " //evil.example",
        "\t//evil.example",
        "\x00//evil.example",
        "\x1f/exams/",
        # Browsers drop these three wherever they stand.
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\\evil.example",
    ],
)
def test_next_does_not_leave_this_site(next_url):
    with pytest.raises(ExamplaryValidationError) as caught:
        LaunchRequest(user_id="7", next_url=next_url)

    assert caught.value.field == "next"


def test_next_is_checked_in_a_token_too():
    token = signing.dumps(
        {"user_id": "7", "next_url": "//evil.example"}, salt="django_examplary.launch"
    )

    with pytest.raises(InvalidLaunchToken, match="next"):
        LaunchRequest.unsign(token, max_age=60)


def test_return_reference_is_read_back():
    assert unsign_return(sign_return(REQUEST.session_id)) == REQUEST.session_id


@pytest.mark.parametrize(
    "reference",
    [
        "",
        REQUEST.session_id,
        f"{REQUEST.session_id}:abc",
        signing.Signer().sign(REQUEST.session_id),
        sign_return("another")[len("another") :],
        REQUEST.session_id + sign_return("another")[len("another") :],
    ],
)
def test_return_reference_of_somebody_else_is_refused(reference):
    with pytest.raises(InvalidLaunchToken):
        unsign_return(reference)


@pytest.mark.parametrize("use", [LaunchRequest.sign, lambda request: request.fingerprint("x")])
def test_preset_that_is_not_json_is_named_as_such(use):
    with pytest.raises(ExamplaryValidationError, match="presets: cannot be sent"):
        use(LaunchRequest(user_id="7", presets={"when": object()}))
