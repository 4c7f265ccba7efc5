"""Examples of every request body, derived from the flows, presets and roles in the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from django_examplary.data import ActorRole
from django_examplary.flows import FLOWS, Flow

ACTOR = "user_5S843D7HfNf"
EMAILS = ("ann@school.example", "A+b_c@xn--bcher-kva.example", "o'neil-1@a.b.org", "_@x.org")
RUBRIC = {
    "rubricType": "analytical",
    "criteria": [
        {
            "id": "c1",
            "title": "Correctness",
            "levels": [
                {"id": "c1l1", "title": "Correct", "description": "All of it.", "points": 0.5}
            ],
        }
    ],
    "modelAnswer": "42",
}
QUESTION = {
    "type": "single-line-text",
    "title": "Why?",
    "description": "In a sentence.",
    "settings": {},
    "scoring": RUBRIC,
    "tags": ["sums"],
    "externalId": "7",
    "metadata": {"course": "7"},
}

_ROLES: tuple[str, ...] = get_args(ActorRole)

# Presets, from the annotations of the flows

# In the order in which they are checked with the rule of a preset.
_EXAMPLES: tuple[Any, ...] = (
    "Sums",
    True,
    15,
    ["mat_1"],
    RUBRIC,
    "exam_5S843D7HfNf",
    "space_5S843D7HfNf",
)


def _values(hint: Any) -> Iterator[Any]:
    """Return examples for a preset: every value of a Literal, or one that its rule accepts."""
    for part in (hint, *get_args(hint)):
        for rule in getattr(part, "__metadata__", ()):
            literals = [each for each in get_args(get_args(part)[0]) if isinstance(each, str)]
            yield from literals or [next(each for each in _EXAMPLES if rule.accepts(each))]


def presets_of(flow: type[Flow]) -> list[dict[str, Any]]:
    """Return examples of the presets of a flow, in the format of the API.

    First only the required presets, then with each optional one, and all of them with each value.
    """
    hints = get_type_hints(flow, include_extras=True)
    examples = {name: values for name, hint in hints.items() if (values := list(_values(hint)))}
    required = {
        name: values[0]
        for name, values in examples.items()
        if type(None) not in get_args(hints[name])
    }
    optional = {name: values[0] for name, values in examples.items() if name not in required}
    found = [flow(**required).presets]
    found += [flow(**required, **{name: value}).presets for name, value in optional.items()]
    for turn in range(max(map(len, examples.values()), default=0)):
        every = {name: values[turn % len(values)] for name, values in examples.items()}
        found.append(flow(**every).presets)
    return found


def sessions() -> Iterator[dict[str, Any]]:
    """Return bodies for `POST /embed-sessions`: each flow with minimal and maximal presets."""
    for slug, flow in FLOWS.items():
        for presets in presets_of(flow):
            least: dict[str, Any] = {"flow": slug, "actor": ACTOR}
            if presets:
                least["presets"] = presets
            yield {**least, "allowedOrigin": "https://school.example"}
            yield {
                **least,
                "theme": {"primaryColor": "#4f46e5", "locale": "en"},
                "metadata": {"course": "7"},
                "returnUrl": "https://school.example/examplary/return/1:x/",
            }


def users() -> Iterator[dict[str, Any]]:
    """Return bodies for `POST /users`, with the shortest and the longest names."""
    for number, email in enumerate(EMAILS):
        role = _ROLES[number % len(_ROLES)]
        yield {"email": email, "role": role}
        yield {"email": email, "role": role, "name": "A" * (100 if number else 1)}
