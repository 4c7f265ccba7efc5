"""Examples of every request body, derived from the flows, presets and roles in the code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

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


def presets_of(flow: type[Flow]) -> list[dict[str, Any]]:
    """Return examples of the presets of a flow, in the format of the API.

    First only the required presets, then with each optional one, and all of them with each value.
    """
    examples = {
        name: rule.values or [next(each for each in _EXAMPLES if rule.accepts(each))]
        for name, rule in flow._rules.items()
    }
    required = {name: examples[name][0] for name in flow._required}
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
