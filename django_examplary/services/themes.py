"""Determine the theme of a session from the arguments, the settings and the language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest
from django.utils.translation import get_language

from django_examplary.conf import conf
from django_examplary.data import Theme
from django_examplary.exceptions import ExamplaryConfigurationError


def complete_theme(
    theme: Mapping[str, Any] | Theme | None, request: HttpRequest | None = None
) -> dict[str, Any]:
    """Return the theme with the names of the API.

    `theme` overrides EXAMPLARY_THEME, which overrides the active language. A callable
    EXAMPLARY_THEME needs the request, and is ignored without one.
    """
    site = conf.EXAMPLARY_THEME
    if callable(site):
        site = site(request) if request is not None else {}
        if site and not isinstance(site, (Mapping, Theme)):
            raise ExamplaryConfigurationError(
                f"EXAMPLARY_THEME returned a {type(site).__name__}, not a mapping or a Theme."
            )
    language = get_language() or ""  # Empty if translation is deactivated.
    # Most codes of Examplary are the first part of Django's.
    locale = conf.EXAMPLARY_LOCALES.get(language, language.split("-")[0])
    merged: dict[str, Any] = {"locale": locale} if locale else {}
    for layer in (site, theme):
        if layer:
            values = layer if isinstance(layer, Theme) else Theme.from_mapping(layer)
            merged.update(values.to_json())
    return merged
