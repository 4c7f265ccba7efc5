"""
Embed Examplary's exam flows in a Django site.

Put the app in ``INSTALLED_APPS``, include its URLs, set ``EXAMPLARY_API_KEY``, and write::

    {% load examplary %}
    {% examplary_embed "generate-exam" subject="Mathematics" next="/exams/" %}
    {% examplary_script %}

Rendering the page makes no call to Examplary. When the browser loads the iframe, the site
provisions the user and opens or resumes a session. When the user has finished, the site requests
the outcome from Examplary and sends ``django_examplary.signals.session_completed``.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib import metadata  # noqa: PLC0415  # slow, and rarely asked for

        try:
            return metadata.version("django-examplary")
        except metadata.PackageNotFoundError:
            # The package was copied into a project or a frozen application.
            return "unknown"
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
