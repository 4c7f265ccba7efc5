"""`{% load examplary %}`: thin covers of `django_examplary.embeds`."""

from __future__ import annotations

from typing import Any

from django import template
from django.template import Context
from django.utils.safestring import SafeString

from django_examplary import embeds
from django_examplary.exceptions import ExamplaryConfigurationError

register = template.Library()


# `context` is positional only, because it is also the name of a preset.


@register.simple_tag(takes_context=True)
def examplary_embed(context: Context, flow: Any, /, **options: Any) -> SafeString:
    """Embed a flow; the options are those of `embeds.render_embed`."""
    # The page has one already wherever it has a form.
    options.setdefault("csrf_token", context.get("csrf_token", ""))
    return embeds.render_embed(_request(context), flow, **options)


@register.simple_tag(takes_context=True)
def examplary_url(context: Context, flow: Any, /, **options: Any) -> str:
    """The address that opens a flow in the whole window; see `embeds.launch_url`."""
    return embeds.launch_url(_request(context), flow, **options)


@register.simple_tag(takes_context=True)
def examplary_script(context: Context, /) -> SafeString:
    """Stylesheet and script of the embeds, with the CSP nonce if the page has one."""
    for name in ("csp_nonce", "CSP_NONCE"):
        # The context processors of Django and of django-csp; false until somebody asks for it.
        if (nonce := context.get(name)) is not None:
            return embeds.render_script(nonce=str(nonce))
    request = context.get("request")
    return embeds.render_script(nonce=embeds.csp_nonce(request) if request else "")


def _request(context: Context) -> Any:
    if request := context.get("request"):
        return request
    raise ExamplaryConfigurationError(
        "The Examplary tags need the request: render the template with one, with "
        "'django.template.context_processors.request' among the context processors."
    )
