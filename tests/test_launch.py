from __future__ import annotations

import secrets
import time
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest
from django.core import signing
from django.core.exceptions import SuspiciousOperation
from django.test import override_settings
from django.utils.translation import gettext_lazy

from django_examplary.exceptions import ExamplaryValidationError, InvalidLaunchToken
from django_examplary.flows import EditExam, GenerateExam, MarkAnswer, TakeExam
from django_examplary.launch import MAX_TOKEN_LENGTH, Launch, sign_return, unsign_return

SESSION_ID = "8f4e0f5c-1d0e-4f3a-9d0b-3f1f6f0a2b1c"
LAUNCH = Launch(
    user_id="7",
    flow=TakeExam(exam_id="exam_abc"),
    theme={"locale": "nl"},
    metadata={"course": "Mathematics — «1b»"},
    next_url="/courses/1b/?tab=exams#done",
    origin="https://school.example",
    mode="window",
    grant_access=True,
    once=True,
    nonce="abc",
    language="nl",
)

# A change of every field that distinguishes two sessions.
CHANGES: dict[str, Any] = {
    "user_id": "8",
    "flow": EditExam(exam_id="exam_abc"),
    "theme": {},
    "metadata": {"course": "Art"},
    "next_url": "/",
    "origin": "https://school.example:8443",
    "mode": "frame",
    "grant_access": False,
    "once": False,
    "nonce": "",
    "session_id": SESSION_ID,
}


@pytest.mark.parametrize(
    "launch",
    [
        LAUNCH,
        Launch(user_id="7", session_id=SESSION_ID, language="nl"),
        Launch(user_id="7", flow=GenerateExam()),
    ],
)
def test_token_is_read_back(launch):
    assert Launch.unsign(launch.sign(), max_age=60) == launch


def test_token_of_a_stored_session_holds_only_its_id():
    token = Launch(user_id="7", session_id=SESSION_ID, language="nl").sign()
    facts = signing.loads(token, salt="django_examplary.launch")
    assert facts == {"user_id": "7", "session_id": SESSION_ID, "language": "nl", "mode": "frame"}


def test_token_fits_into_a_path():
    assert set(LAUNCH.sign()) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_:."
    )


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
def test_tampered_token_is_invalid(tamper):
    with pytest.raises(InvalidLaunchToken):
        Launch.unsign(tamper(LAUNCH.sign()), max_age=60)


def test_token_of_another_site_is_refused():
    with override_settings(SECRET_KEY="another"):
        token = LAUNCH.sign()

    with pytest.raises(InvalidLaunchToken):
        Launch.unsign(token, max_age=60)


def test_token_remains_valid_with_a_fallback_secret_key():
    token = LAUNCH.sign()

    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["not-a-secret"]):
        assert Launch.unsign(token, max_age=60) == LAUNCH


def test_invalid_token_is_suspicious():
    with pytest.raises(SuspiciousOperation):
        Launch.unsign("unsigned", max_age=60)


def test_token_of_a_release_with_other_arguments_is_invalid():
    token = signing.dumps({"user_id": "7", "new": 1}, salt="django_examplary.launch")

    with pytest.raises(InvalidLaunchToken, match="new"):
        Launch.unsign(token, max_age=60)


def test_token_expires_after_its_maximum_age(monkeypatch):
    signed_at = int(time.time())
    monkeypatch.setattr(time, "time", lambda: signed_at)
    token = LAUNCH.sign()

    monkeypatch.setattr(time, "time", lambda: signed_at + 60)
    assert Launch.unsign(token, max_age=60) == LAUNCH

    monkeypatch.setattr(time, "time", lambda: signed_at + 61)
    with pytest.raises(InvalidLaunchToken, match="age"):
        Launch.unsign(token, max_age=60)


def preset(text):
    return MarkAnswer(extra={"context": text})


@pytest.mark.parametrize("text", ["again and again " * 1_000, secrets.token_urlsafe(1_500)])
def test_token_fits_into_a_url(text):
    launch = replace(LAUNCH, flow=preset(text))

    token = launch.sign()

    assert len(token) <= MAX_TOKEN_LENGTH
    assert Launch.unsign(token, max_age=60) == launch


def test_token_that_is_too_long_is_refused_with_advice():
    # Random, so that it cannot be compressed.
    launch = Launch(user_id="7", flow=preset(secrets.token_urlsafe(3_000)))

    with pytest.raises(ExamplaryValidationError, match=r"services\.open_session\(\)") as caught:
        launch.sign()

    assert caught.value.field == "presets"


def test_key_is_stable_and_fits_its_column():
    assert LAUNCH.key == replace(LAUNCH).key
    assert len(LAUNCH.key) == 64


def test_key_survives_the_token():
    launch = replace(LAUNCH, flow=MarkAnswer(extra={"ids": ("a", "b"), "b": 1, "a": 2}))

    assert Launch.unsign(launch.sign(), max_age=60).key == launch.key


@pytest.mark.parametrize("undefined", [None, ""])
def test_key_with_undefined_options_survives_the_token(undefined):
    launch = replace(LAUNCH, grant_access=undefined, once=undefined)

    assert Launch.unsign(launch.sign(), max_age=60).key == launch.key


def test_key_ignores_the_order_of_presets():
    one = replace(LAUNCH, flow=MarkAnswer(extra={"a": 1, "b": 2}))
    two = replace(LAUNCH, flow=MarkAnswer(extra={"b": 2, "a": 1}))

    assert one.key == two.key


def test_changes_cover_every_field_of_the_fingerprint():
    assert {*CHANGES, "language", "ticket", "credentials"} == {
        field.name for field in fields(Launch)
    }


@pytest.mark.parametrize(("field", "value"), CHANGES.items())
def test_key_differs_by_every_field(field, value):
    assert replace(LAUNCH, **{field: value}).key != LAUNCH.key


def test_key_differs_by_the_presets():
    assert replace(LAUNCH, flow=TakeExam(exam_id="exam_other")).key != LAUNCH.key


def test_key_ignores_the_language_of_the_page_and_the_link():
    assert replace(LAUNCH, language="en", ticket=7, credentials="x").key == LAUNCH.key


def test_key_of_a_stored_session_is_its_id():
    assert Launch(user_id="7", session_id=SESSION_ID).key == SESSION_ID


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
    assert Launch(user_id="7", next_url=next_url).next_url == next_url


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
        # Browsers remove these three characters at any position.
        "/\t/evil.example",
        "/\n/evil.example",
        "/\r\\evil.example",
    ],
)
def test_next_to_another_site_is_refused(next_url):
    with pytest.raises(ExamplaryValidationError) as caught:
        Launch(user_id="7", next_url=next_url)

    assert caught.value.field == "next"


def test_next_in_a_token_is_checked():
    token = signing.dumps(
        {"user_id": "7", "next_url": "//evil.example"}, salt="django_examplary.launch"
    )

    with pytest.raises(InvalidLaunchToken, match="next"):
        Launch.unsign(token, max_age=60)


def test_return_reference_is_read_back():
    assert unsign_return(sign_return(SESSION_ID)) == SESSION_ID


@pytest.mark.parametrize(
    "reference",
    [
        "",
        SESSION_ID,
        f"{SESSION_ID}:abc",
        signing.Signer().sign(SESSION_ID),
        sign_return("another")[len("another") :],
        SESSION_ID + sign_return("another")[len("another") :],
    ],
)
def test_return_reference_that_was_not_signed_is_refused(reference):
    with pytest.raises(InvalidLaunchToken):
        unsign_return(reference)


@pytest.mark.parametrize(
    "value", [object(), [Decimal(1)], {"text": gettext_lazy("en")}, {(1, 2): "pair"}, {10: "best"}]
)
def test_value_that_json_cannot_encode_is_refused(value):
    with pytest.raises(ExamplaryValidationError, match=r"^when: .* JSON has no type for$"):
        MarkAnswer(extra={"when": value})
    with pytest.raises(ExamplaryValidationError, match=r"^theme: .* JSON has no type for"):
        Launch(user_id="7", theme={"when": value})


@pytest.mark.parametrize("metadata", [["course"], {"course": 7}, {7: "course"}])
def test_metadata_is_a_flat_mapping_of_strings(metadata):
    with pytest.raises(ExamplaryValidationError, match="metadata: must be a flat mapping"):
        Launch(user_id="7", metadata=metadata)


@pytest.mark.parametrize(
    ("field", "value"),
    [("theme", {"locale": "\x00"}), ("metadata", {"a": "\ud800"}), ("next_url", "/\ud800")],
)
def test_values_that_no_database_stores_are_refused(field, value):
    with pytest.raises(ExamplaryValidationError) as caught:
        Launch(user_id="7", **{field: value})

    assert caught.value.field == field.removesuffix("_url")
