"""The texts of the fake in five languages, from ``texts.json``."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from importlib import resources

LANGUAGES = ("en", "nl", "de", "fr", "es")


@functools.cache
def texts(language: str) -> Mapping[str, str]:
    """Return the texts of a language in ``LANGUAGES``, by name."""
    table = resources.files(__package__).joinpath("texts.json").read_text(encoding="utf-8")
    return {name: translations[language] for name, translations in json.loads(table).items()}


def choose_language(locale: str) -> str:
    """Return the language for a locale or an ``Accept-Language`` header; English by default."""
    for code in re.findall(r"(?:^|,)\s*([A-Za-z]+)", locale):
        if code.lower() in LANGUAGES:
            return str(code.lower())
    return LANGUAGES[0]
