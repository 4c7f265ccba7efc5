from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest
from django.core.exceptions import ImproperlyConfigured, SuspiciousOperation

from django_examplary import exceptions
from django_examplary.exceptions import (
    ExamplaryAccessError,
    ExamplaryActorNotFoundError,
    ExamplaryAPIError,
    ExamplaryConfigurationError,
    ExamplaryConnectionError,
    ExamplaryEmbedURLError,
    ExamplaryError,
    ExamplaryNotFoundError,
    ExamplaryNotReadyError,
    ExamplaryRateLimitError,
    ExamplaryResponseError,
    ExamplaryTimeoutError,
    ExamplaryValidationError,
    ExamplaryWarning,
    InvalidLaunchToken,
)


def rate_limit_error() -> ExamplaryRateLimitError:
    error = ExamplaryRateLimitError(
        "POST /users", status_code=429, message="Slow down.", body="{}", request_id="req_1"
    )
    error.retry_after = 2.5
    return error


def pickled(error: Exception) -> Exception:
    twin: Exception = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own pickle
    return twin


def documented_tree() -> dict[str, str | None]:
    """Return the parent of each class in the docstring; a level has three characters."""
    assert exceptions.__doc__
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for branch, name in re.findall(r"^    ([ │├└─]*)(\w+)  ", exceptions.__doc__, re.MULTILINE):
        depth = len(branch) // 3
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


def real_tree() -> dict[str, str | None]:
    classes = {
        cls
        for _, cls in inspect.getmembers(exceptions, inspect.isclass)
        if cls.__module__ == exceptions.__name__
    }
    return {
        cls.__name__: next((base.__name__ for base in cls.__bases__ if base in classes), None)
        for cls in classes
    }


def test_docstring_matches_the_class_tree():
    assert documented_tree() == real_tree()


@pytest.mark.parametrize(
    ("error", "foreign"),
    [
        (ExamplaryValidationError, ValueError),
        (ExamplaryConfigurationError, ImproperlyConfigured),
        (InvalidLaunchToken, SuspiciousOperation),
        (ExamplaryWarning, UserWarning),
    ],
)
def test_errors_subclass_the_exceptions_of_django_and_python(error, foreign):
    assert issubclass(error, foreign)


@pytest.mark.parametrize(
    "error",
    [
        ExamplaryValidationError("exam_id", "is required"),
        ExamplaryConnectionError("Connection refused."),
        ExamplaryConnectionError("Connection lost.", sent=True),
        ExamplaryTimeoutError("Too late.", sent=True),
        ExamplaryAPIError("GET /me", status_code=418),
        ExamplaryActorNotFoundError("POST /embed-sessions", status_code=400, message="Who?"),
        rate_limit_error(),
        ExamplaryAccessError("exam_abc", "editor"),
        ExamplaryResponseError("No e-mail.", examplary_id="user_1"),
        ExamplaryEmbedURLError("Not listed.", origin="https://exams.school.example"),
        ExamplaryNotReadyError("Try again in a moment."),
        ExamplaryConfigurationError("Set EXAMPLARY_API_KEY."),
        InvalidLaunchToken("Signature expired"),
    ],
    ids=lambda error: f"{type(error).__name__}-{error}",
)
@pytest.mark.parametrize("duplicate", [pickled, copy.copy])
def test_survives_copying(error, duplicate):
    twin = duplicate(error)

    assert type(twin) is type(error)
    assert twin.args == error.args
    assert vars(twin) == vars(error)
    assert str(twin) == str(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ExamplaryValidationError("exam_id", "is required"), "exam_id: is required"),
        (ExamplaryConnectionError("Connection lost.", sent=True), "Connection lost."),
        (ExamplaryAPIError("GET /me", status_code=418), "GET /me was answered with 418"),
        (
            ExamplaryNotFoundError("GET /me", status_code=404, message="Gone.", body="secret"),
            "GET /me was answered with 404: Gone.",
        ),
        (
            ExamplaryAPIError("GET /me", status_code=500, request_id="req_1"),
            "GET /me was answered with 500 (request req_1)",
        ),
        (
            ExamplaryAccessError("exam_abc", "editor"),
            "The user lacks the role editor on exam_abc. Grant it with services.grant_access(), "
            "or pass grant_access=True to the embed.",
        ),
        (rate_limit_error(), "POST /users was answered with 429: Slow down. (request req_1)"),
    ],
)
def test_str(error, text):
    assert str(error) == text


def test_validation_error_names_the_field():
    error = ExamplaryValidationError("exam_id", "is required")

    assert (error.field, error.problem) == ("exam_id", "is required")


def test_connection_error_is_unsent_by_default():
    assert not ExamplaryConnectionError("Connection refused.").sent


def test_retry_after_is_none_by_default():
    assert ExamplaryRateLimitError("GET /me", status_code=429).retry_after is None


def test_access_error_names_resource_and_role():
    error = ExamplaryAccessError("exam_abc", "editor")

    assert (error.resource, error.role) == ("exam_abc", "editor")


@pytest.mark.parametrize("error", [ExamplaryConfigurationError, InvalidLaunchToken])
def test_configuration_errors_are_outside_the_tree(error):
    assert not issubclass(error, ExamplaryError)
