"""
Embed Examplary's exam flows in a Django site.

Put the app in ``INSTALLED_APPS``, include its URLs, set ``EXAMPLARY_API_KEY``, and write::

    {% load examplary %}
    {% examplary_embed "generate-exam" subject="Mathematics" next="/exams/" %}
    {% examplary_script %}

The page is rendered without a single call to Examplary: the frame signs its user up, opens or
resumes the session and, when the user has finished, the server asks Examplary what came of it
and sends ``django_examplary.signals.session_completed``.
"""

from __future__ import annotations


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415  # slow, and rarely asked for

        return version("django-examplary")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
