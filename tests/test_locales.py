"""Launches with a refused locale are retried without it, and then omit it."""

from __future__ import annotations

import pytest

from django_examplary.client import ExamplaryClient
from django_examplary.client.locales import send_with_locale
from django_examplary.client.retries import is_uncertain
from django_examplary.exceptions import (
    ExamplaryActorNotFoundError,
    ExamplaryConnectionError,
    ExamplaryInvalidRequestError,
)
from django_examplary.testing import DEFAULT_API_KEY, FakeExamplary, serve

THEME = {"locale": "nl", "primaryColor": "#4f46e5"}
PATH = "/embed-sessions"


@pytest.fixture
def fake():
    return FakeExamplary(answers="locale-refused")


@pytest.fixture
def client(fake):
    with (
        serve(fake) as server,
        ExamplaryClient(DEFAULT_API_KEY, base_url=server.url, max_retries=0) as client,
    ):
        yield client


@pytest.fixture
def launch(fake, client):
    actor = fake.add_user("ann@school.example")["id"]

    def run(actor=actor, theme=THEME, key="key-1", client=client):
        return client.create_embed_session(
            flow="generate-exam", actor=actor, theme=theme, idempotency_key=key
        )

    return run


def sent(fake):
    """The theme and the Idempotency-Key of each request."""
    requests = [each for each in fake.requests if each.path == PATH]
    return [(each.json.get("theme"), each.headers.get("Idempotency-Key", "")) for each in requests]


def test_refused_locale_is_omitted(fake, client, launch, caplog):
    assert launch().is_pending
    assert launch(client=client.within(10)).is_pending

    [(first, key), (second, other_key), (third, third_key)] = sent(fake)
    assert (first, key) == (THEME, "key-1")
    assert second == third == {"primaryColor": "#4f46e5"}
    # The same launch with the same body has the same key; without the locale the key differs.
    assert other_key == third_key
    assert other_key not in ("", key)
    lines = [each.getMessage() for each in caplog.records if "locale-refused" in each.getMessage()]
    assert lines == ["operation=open-session outcome=locale-refused locale='nl'"]


def test_no_idempotency_key_is_sent_without_one(fake, launch):
    launch(theme={"locale": "nl"}, key="")

    assert sent(fake) == [({"locale": "nl"}, ""), (None, "")]


def test_other_locales_are_still_sent(fake, launch):
    launch()
    launch(theme={"locale": "de"})

    assert [theme["locale"] for theme, _ in sent(fake) if "locale" in (theme or {})] == ["nl", "de"]


def test_accepted_locale_is_sent_in_one_request(fake, launch, client):
    fake.answers = "documented"
    launch()

    assert [theme for theme, _ in sent(fake)] == [THEME]


def test_first_error_is_raised_if_the_second_request_fails(fake, launch):
    fake.fail("POST", PATH, status=422, body={"message": "The first"}, times=1)
    fake.fail("POST", PATH, status=400, body={"message": "The second"}, times=1)

    with pytest.raises(ExamplaryInvalidRequestError, match="The first") as caught:
        launch()

    assert caught.value.__context__ is None
    fake.answers = "documented"
    launch()
    assert [theme for theme, _ in sent(fake)][-1] == THEME


def test_wrong_url_of_the_second_request_does_not_hide_the_first_error(fake, launch):
    fake.fail("POST", PATH, status=400, body={"message": "The first"}, times=1)
    fake.fail("POST", PATH, status=404, body={"message": "Not Found"}, times=1)

    with pytest.raises(ExamplaryInvalidRequestError, match="The first"):
        launch()


def test_unanswered_second_request_is_not_hidden_by_the_first_error(fake, launch):
    fake.fail("POST", PATH, status=400, body={"message": "The first"}, times=1)
    fake.fail("POST", PATH, transport="close", before=False, times=1)

    with pytest.raises(ExamplaryConnectionError) as caught:
        launch()

    assert is_uncertain(caught.value)


def test_unknown_actor_does_not_refuse_the_locale(fake, launch):
    with pytest.raises(ExamplaryActorNotFoundError):
        launch(actor="user_unknown")

    assert len(sent(fake)) == 1


def test_unknown_actor_is_reported_if_the_locale_was_refused_before(fake, launch):
    fake.fail("POST", PATH, status=400, body={"message": "theme.locale is unknown"}, times=1)

    with pytest.raises(ExamplaryActorNotFoundError):
        launch(actor="user_unknown")

    assert len(sent(fake)) == 2


def test_request_without_a_locale_is_sent_once(fake, launch):
    fake.fail("POST", PATH, status=400, body={"message": "no"}, times=1)

    with pytest.raises(ExamplaryInvalidRequestError):
        launch(theme={"primaryColor": "#4f46e5"})

    assert len(sent(fake)) == 1


def test_both_requests_share_the_deadline(launch, monkeypatch):
    deadlines = []
    attempt = ExamplaryClient._attempt

    def record(client, call):
        deadlines.append(call.deadline)
        return attempt(client, call)

    monkeypatch.setattr(ExamplaryClient, "_attempt", record)
    launch()

    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1


def test_refused_locale_is_logged_once_for_concurrent_launches(caplog):
    refused: set[str] = set()

    def send(body, key):
        if "theme" in body:
            raise ExamplaryInvalidRequestError("POST /embed-sessions", status_code=400)
        refused.add("nl")
        return "session"

    body = {"theme": {"locale": "nl"}}
    assert send_with_locale(body, "", refused, send) == "session"
    assert caplog.records == []
