"""The functions of `{% load examplary %}` for templates of Jinja2.

Put `"extensions": ["django_examplary.jinja2.ExamplaryExtension"]` into the OPTIONS of the backend::

    {{ examplary_embed("generate-exam", subject="Mathematics", next="/exams/") }}
    {{ examplary_script() }}
"""

from __future__ import annotations

from typing import Any

from django.utils.safestring import SafeString
from jinja2 import Environment, pass_context
from jinja2.ext import Extension
from jinja2.runtime import Context

from django_examplary import embeds
from django_examplary.csp import csp_nonce
from django_examplary.exceptions import ExamplaryConfigurationError

# As in the tags, `context` is positional-only, because it is also the name of a preset.


@pass_context
def examplary_embed(context: Context, flow: Any, /, **options: Any) -> SafeString:
    """Embed a flow; the options are those of `embeds.embed_context`."""
    return embeds.render_embed(_request(context), flow, **options)


@pass_context
def examplary_url(context: Context, flow: Any, /, **options: Any) -> str:
    """Return the URL that opens a flow in the whole window; see `embeds.launch_url`."""
    return embeds.launch_url(_request(context), flow, **options)


@pass_context
def examplary_script(context: Context, /) -> SafeString:
    """Return stylesheet and script of the embeds, with the CSP nonce if the response has one."""
    return embeds.render_script(nonce=csp_nonce(_request(context)))


class ExamplaryExtension(Extension):
    """Adds the functions to the globals of an environment."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals.update(
            examplary_embed=examplary_embed,
            examplary_url=examplary_url,
            examplary_script=examplary_script,
        )


def _request(context: Context) -> Any:
    if request := context.get("request"):
        return request
    raise ExamplaryConfigurationError(
        "The Examplary functions need the request: render the template with one, as in "
        "render(request, ...), and import macros that use them `with context`."
    )
