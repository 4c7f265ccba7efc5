"""`{% load examplary %}`: thin wrappers around `django_examplary.embeds`."""

from __future__ import annotations

import warnings
from typing import Any

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.template import Context
from django.utils.safestring import SafeString

from django_examplary import embeds
from django_examplary.csp import csp_nonce
from django_examplary.exceptions import ExamplaryConfigurationError

register = template.Library()

_WITHOUT_REQUEST = (
    "Render the template with one, with 'django.template.context_processors.request' among the "
    "context processors. A component that gets no context, as in django-cotton with `only`, needs "
    'it as an attribute: <c-exam only :request="request" />.'
)

# `context` is positional only, because it is also the name of a preset.


@register.simple_tag(takes_context=True)
def examplary_embed(context: Context, flow: Any, /, **options: Any) -> SafeString:
    """Embed a flow; the options are those of `embeds.embed_context`."""
    return embeds.render_embed(_request(context), flow, **options)


@register.simple_tag(takes_context=True)
def examplary_url(context: Context, flow: Any, /, **options: Any) -> str:
    """Return the URL that opens a flow in the whole window; see `embeds.launch_url`."""
    return embeds.launch_url(_request(context), flow, **options)


@register.simple_tag(takes_context=True)
def examplary_script(context: Context, /) -> SafeString:
    """Return stylesheet, panels and script of the embeds, with the response's CSP nonce if any."""
    request = _find_request(context)
    if request is None and settings.DEBUG:
        # Not an error, like `{% csrf_token %}`, because error pages have no request.
        warnings.warn(
            f"{{% examplary_script %}} needs the request for a CSP nonce. {_WITHOUT_REQUEST}",
            stacklevel=2,
        )
    return embeds.render_script(nonce=csp_nonce(request))


def _find_request(context: Context) -> HttpRequest | None:
    # `{% include ... only %}` and inclusion tags pass the request, but not its variables.
    return context.get("request") or getattr(context, "request", None)


def _request(context: Context) -> HttpRequest:
    if request := _find_request(context):
        return request
    raise ExamplaryConfigurationError(f"The Examplary tags need the request. {_WITHOUT_REQUEST}")
