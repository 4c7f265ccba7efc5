"""The value in a successful response, or the error that it has none.

Errors are returned, not raised, as in `errors`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any, TypeVar

from django.views.decorators.debug import sensitive_variables

from django_examplary.client.errors import REFUSALS, Answer, cleaned, stated_errors
from django_examplary.data import RemoteObject
from django_examplary.encoding import storable
from django_examplary.exceptions import ExamplaryResponseError

T = TypeVar("T", bound=RemoteObject)

logger = logging.getLogger("django_examplary")

# Common fields of an incomplete list, and of the number of items on all pages.
_NEXT = re.compile(
    r"(@?\w+\.)?next(_?(cursor|link|page|token|url|key))*|cursor|continuation(_?token)?"
    r"|has_?(more|next)(_?page)?|(is_?)?truncated|last_?evaluated_?key",
    re.IGNORECASE,
)
_TOTAL = re.compile(r"count|total(_?(count|elements|items|results))?", re.IGNORECASE)
_NEXT_LINK = re.compile(r"""rel=["']?next\b""", re.IGNORECASE)
# Objects beside the requested one, such as the user who created the requested user.
_OTHER_OBJECTS = re.compile(
    r"_?(\w+_?by|actor|author|creator|links|meta|metadata|org|organi[sz]ation|owner|page_?info"
    r"|pagination|workspace)",
    re.IGNORECASE,
)


@sensitive_variables()
def read_json(operation: str, answer: Answer) -> Any:
    """Return the JSON of a 2xx with any media type, None for an empty body, or the error."""
    if not answer.body.strip():
        return None
    if has_next_page(answer):
        logger.warning("operation=%r outcome=incomplete-list fields=Link", operation)
    try:
        return json.loads(answer.body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        pass
    kind = cleaned(answer.headers.get("Content-Type", ""), 60) or "no Content-Type"
    if answer.body.lstrip()[:1] == b"<":
        return ExamplaryResponseError(
            f"The response to {operation} is not JSON but a web page ({kind}). Check whether "
            "EXAMPLARY_API_URL is the address of the API."
        )
    return ExamplaryResponseError(
        f"The response to {operation} is not valid JSON ({kind}, {len(answer.body)} bytes)."
    )


def has_next_page(answer: Answer) -> bool:
    """Return whether a header of the response names the next page of a list."""
    return _NEXT_LINK.search(answer.headers.get("Link", "")) is not None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@sensitive_variables()
def read_object(
    cls: type[T], answer: Any, operation: str, *, default: T | None = None
) -> T | ExamplaryResponseError:
    """Return one object, also from an envelope, or the error.

    `default` is returned for a success whose body is not needed and contains no error.
    """
    data = unwrap(answer, cls.key)
    if not isinstance(data, dict):
        problem = f"is not an object but {described(answer)}."
    else:
        try:
            # One level more than the limit of the stored fields.
            return cls.from_json(storable(data, levels=31))
        except ValueError as error:
            problem = f"is not usable: {error}. It is {described(answer)}."
    refused = isinstance(answer, dict) and (
        stated_errors(answer, REFUSALS) or answer.get("success") is False
    )
    if default is not None and not refused:
        return default
    return ExamplaryResponseError(f"The response to {operation} {problem}")


class Incomplete(list[T]):
    """The first page of a list. Requesting the other pages is not documented."""


@sensitive_variables()
def read_list(
    cls: type[T], answer: Any, operation: str, *, incomplete: bool = False
) -> list[T] | ExamplaryResponseError:
    """Return the objects of a list, also from an envelope, or the error.

    An incomplete list is logged, and returned as `Incomplete`.
    """
    items, continuations = _unwrap_list(answer)
    if not isinstance(items, list):
        return ExamplaryResponseError(
            f"The response to {operation} is not a list but {described(answer)}."
        )
    if continuations:
        fields = ",".join(sorted(continuations))
        logger.warning("operation=%r outcome=incomplete-list fields=%s", operation, fields)
    objects: list[T] = Incomplete() if continuations or incomplete else []
    for item in items:
        read = read_object(cls, item, operation)
        if isinstance(read, ExamplaryResponseError):
            return read
        objects.append(read)
    return objects


def unwrap(answer: Any, key: str) -> Any:
    """Unwrap envelopes such as `{"user": {…}}` and `{"success": true, "data": [{…}]}`."""
    for _ in range(8):
        if isinstance(answer, list) and len(answer) == 1:
            answer = answer[0]
        elif isinstance(answer, dict) and answer.get(key) is None:
            inner = [
                each[0] if isinstance(each, list) and len(each) == 1 else each
                for name, each in answer.items()
                if not _OTHER_OBJECTS.fullmatch(name)
            ]
            inner = [each for each in inner if isinstance(each, dict)]
            inner = [each for each in inner if key in each] or inner
            if len(inner) != 1:
                break
            [answer] = inner
    return answer


def _unwrap_list(answer: Any) -> tuple[Any, set[str]]:
    """Return the list of a response, and the fields that mark it as incomplete."""
    outer = answer
    while isinstance(answer, dict):
        lists = [each for each in answer.values() if isinstance(each, list)]
        objects = [each for each in lists if each and all(isinstance(x, dict) for x in each)]
        inner = [
            each
            for name, each in answer.items()
            if isinstance(each, dict) and each and not _OTHER_OBJECTS.fullmatch(name)
        ]
        if len(objects) == 1:
            answer = objects[0]
        elif lists:
            answer = None if objects else lists[0]
        else:
            answer = inner[0] if len(inner) == 1 else None
    length = len(answer) if isinstance(answer, list) else 0
    return answer, set(_continuations(outer, length))


def _continuations(envelope: Any, length: int) -> Iterator[str]:
    for name, value in envelope.items() if isinstance(envelope, dict) else ():
        exceeds = isinstance(value, int) and value > length
        if (value and _NEXT.fullmatch(name)) or (exceeds and _TOTAL.fullmatch(name)):
            yield cleaned(name, 40)
        yield from _continuations(value, length)


def described(answer: Any) -> str:
    """Describe a response by the names and types of its fields, without values."""
    if answer is None:
        return "empty"
    if isinstance(answer, list):
        return f"a list of {len(answer)}"
    if not isinstance(answer, dict):
        return f"a {type(answer).__name__}"
    fields = []
    for name, value in [*answer.items()][:12]:
        inner = (
            ", ".join(cleaned(key, 40) for key in [*value][:6]) if isinstance(value, dict) else ""
        )
        kind = type(value).__name__
        fields.append(f"{cleaned(name, 40)} ({kind}{f': {inner}' if inner else ''})")
    return f"an object with {', '.join(fields) or 'no fields'}"
