"""From a flow, or an open session, to HTML. Nothing here calls the API or the database.

The template tags are thin covers of these functions; they also serve Jinja2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.template.loader import get_template, render_to_string
from django.templatetags.static import static
from django.urls import get_script_prefix, get_urlconf
from django.utils.crypto import get_random_string
from django.utils.functional import Promise
from django.utils.html import format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import get_language, gettext_lazy

from django_examplary.addresses import reverse_view
from django_examplary.conf import conf
from django_examplary.data import Theme
from django_examplary.exceptions import ExamplaryValidationError
from django_examplary.flows import Flow, get_flow
from django_examplary.launch import LaunchRequest
from django_examplary.models import ExamplarySession
from django_examplary.services.themes import complete_theme

#: What a screen reader announces the frame as.
TITLES = {
    "generate-exam": gettext_lazy("Generate an exam"),
    "edit-rubric": gettext_lazy("Edit a rubric"),
    "generate-question": gettext_lazy("Generate a question"),
    "mark-answer": gettext_lazy("Mark an answer"),
    "edit-exam": gettext_lazy("Edit an exam"),
    "take-exam": gettext_lazy("Take an exam"),
    "practice-space-student": gettext_lazy("Practise"),
}

DISPLAYS = ("inline", "modal")
LOADING = ("lazy", "eager", "click")

#: What an embed needs in a sandbox: all that it may do without one, but for taking the whole window
#: elsewhere. Without `allow-same-origin` its messages would come from nowhere, and be ignored.
SANDBOX = (
    "allow-downloads allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox "
    "allow-same-origin allow-scripts allow-storage-access-by-user-activation"
)


def render_embed(
    request: HttpRequest,
    flow: str | Flow | ExamplarySession,
    /,
    *,
    presets: Mapping[str, Any] | None = None,
    next: str = "",  # noqa: A002  # the name it has everywhere in Django
    title: str = "",
    theme: Mapping[str, Any] | Theme | None = None,
    metadata: Mapping[str, str] | None = None,
    display: str = "inline",
    load: str = "lazy",
    grace: float = 10,
    confirm_close: bool = True,
    allow: str | None = None,
    sandbox: bool = False,
    css_class: str = "",
    grant_access: bool = False,
    reuse: bool = True,
    csrf_token: str = "",
    **more_presets: Any,
) -> SafeString:
    """Return the HTML of an embed: a frame that opens the session when the browser loads it.

    `flow` is a flow's name, with its presets as keywords in snake_case or as a mapping; or a flow
    instance; or an open session. `theme` is laid over EXAMPLARY_THEME. `next` is the path to go on
    to when the user has finished. With `grant_access` the user is given the role that the flow
    needs on its exam or space. With `reuse=False` the embed does not share its session with
    other pages, nor with the next copy of its own.

    `display="modal"` makes it a button that opens a dialog, which asks before it closes on
    unfinished work unless `confirm_close` is false. `load` is "lazy" (when in view), "eager", or
    "click" (nothing is requested before the user asks for it). A frame that has given no sign of
    life `grace` seconds after it came into view gets a line beside it with ways out. `sandbox` puts
    the frame into a sandbox with the permissions of `SANDBOX`. `csrf_token` is the page's own, to
    save making another one.

    Raises ExamplaryValidationError naming the argument. A visitor who is not signed in gets an
    invitation to sign in instead.
    """
    _refuse_unknown("display", display, DISPLAYS)
    _refuse_unknown("load", load, LOADING)
    _refuse_no_time("grace", grace)
    session, flow = _resolve(flow, presets, more_presets)
    if session is not None:
        _refuse_decided(next=next, theme=theme, metadata=metadata, grant_access=grant_access)
    if not request.user.is_authenticated:
        return render_to_string("django_examplary/sign_in.html", {"login_url": _login_url(request)})
    if session is not None:
        token = LaunchRequest(user_id=str(request.user.pk), session_id=str(session.pk)).sign()
    else:
        token = _sign(
            request,
            flow,
            theme,
            metadata,
            next,
            grant_access=grant_access,
            nonce=_nonce(reuse),
        )
    origins = conf.EXAMPLARY_EMBED_ORIGINS
    backend: Any = get_template("django_examplary/embed.html")
    parts = _render(
        backend.template,
        get_language(),
        get_urlconf() or settings.ROOT_URLCONF,
        get_script_prefix(),
        slug=flow.slug,
        completes=flow.completes,
        origins=" ".join(origins),
        title=_unsafe(title),
        display=display,
        load=load,
        # Not as the language of the page writes numbers.
        grace=str(grace),
        confirm_close=confirm_close,
        allow=_allow(flow, origins) if allow is None else _unsafe(allow),
        sandbox=SANDBOX if sandbox else "",
        css_class=_unsafe(css_class),
    )
    # The token holds no character that means anything in HTML or in a path.
    markup = token.join(parts)
    markup = markup.replace(_CSRF_TOKEN, escape(str(csrf_token or get_token(request))))
    return mark_safe(markup)  # noqa: S308  # rendered by a template that escapes


# What stands in the markup for what is different on every page. Nobody can guess it, so no title
# can hold it.
_TOKEN, _CSRF_TOKEN = get_random_string(22), get_random_string(22)


@functools.lru_cache(maxsize=128)
def _render(
    template: object, language: str | None, *urls: object, title: str, **page: Any
) -> list[str]:
    """Render the markup of an embed, which is the same on many pages: the parts between tokens.

    The compiled template is part of the key: when templates are loaded anew it is another one. So
    are the language, and what the addresses of our views depend on.
    """
    views = ("launch", "sync", "close")
    context = {f"{view}_url": reverse_view(view, _TOKEN) for view in views}
    slug = page["slug"]
    context |= {"title": title or TITLES.get(slug, slug), "csrf_token": _CSRF_TOKEN}
    return render_to_string("django_examplary/embed.html", {**page, **context}).split(_TOKEN)


def _unsafe(text: object) -> str:
    """Return the text without a mark that it is HTML, as every literal in a template has: in an
    attribute it is escaped all the same."""
    return str(text) + ""


def render_script(nonce: str = "") -> SafeString:
    """Return the stylesheet and the script of the embeds; once on a page."""
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    return format_html(
        '<link rel="stylesheet" href="{}"{}><script type="module" src="{}"{}></script>',
        static("django_examplary/embed.css"),
        attribute,
        static("django_examplary/embed.js"),
        attribute,
    )


def csp_nonce(request: HttpRequest) -> str:
    """Return the nonce of this response's Content-Security-Policy, if it is to have one.

    Django's middleware for it, from 6.0 on, and that of django-csp are known.
    """
    for name in ("_csp_nonce", "csp_nonce"):
        # Either is false until somebody has asked for it, as we do here.
        if (nonce := getattr(request, name, None)) is not None:
            return str(nonce)
    return ""


def csp_directives() -> dict[str, list[str]]:
    """Return what a Content-Security-Policy must allow for the embeds, by directive.

    The frame starts at this site, goes on to one of EXAMPLARY_EMBED_ORIGINS, and shows a page of
    this site where it cannot; the script asks this site for the result.
    """
    try:
        address = static("django_examplary/embed.js")
    except ValueError:
        # A storage that names files by their content knows none before they are collected.
        address = settings.STATIC_URL
    static_url = urlsplit(address)
    assets = f"{static_url.scheme}://{static_url.netloc}" if static_url.netloc else "'self'"
    return {
        "script-src": [assets],
        "style-src": [assets],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "frame-src": ["'self'", *conf.EXAMPLARY_EMBED_ORIGINS],
        "frame-ancestors": ["'self'"],
    }


def launch_url(
    request: HttpRequest,
    flow: str | Flow,
    /,
    *,
    presets: Mapping[str, Any] | None = None,
    next: str = "",  # noqa: A002  # the name it has everywhere in Django
    theme: Mapping[str, Any] | Theme | None = None,
    metadata: Mapping[str, str] | None = None,
    grant_access: bool = False,
    reuse: bool = True,
    **more_presets: Any,
) -> str:
    """Return a link that opens the flow in the whole window and comes back to `next`.

    The arguments are those of `render_embed`. A visitor who is not signed in gets a link to sign
    in, and comes back to this page.
    """
    _, flow = _resolve(flow, presets, more_presets)
    if not request.user.is_authenticated:
        return _login_url(request)
    token = _sign(
        request,
        flow,
        theme,
        metadata,
        next,
        grant_access=grant_access,
        nonce=_nonce(reuse),
        mode="redirect",
    )
    return reverse_view("launch", token)


def _resolve(
    flow: str | Flow | ExamplarySession,
    presets: Mapping[str, Any] | None,
    more_presets: Mapping[str, Any],
) -> tuple[ExamplarySession | None, Flow]:
    # Templates give `_("...")` as a lazy text.
    presets = {
        name: str(value) if isinstance(value, Promise) else value
        for name, value in {**(presets or {}), **more_presets}.items()
    }
    if isinstance(flow, str) and flow:
        return None, get_flow(flow, presets)
    if not isinstance(flow, (Flow, ExamplarySession)):
        # In a template, a name that stands for nothing.
        raise ExamplaryValidationError("flow", f"must be a flow or a session, not {flow!r}")
    if presets:
        raise ExamplaryValidationError(
            next(iter(presets)), f"is decided already by the {type(flow).__name__} that was given"
        )
    if isinstance(flow, ExamplarySession):
        return flow, get_flow(flow.flow, flow.presets)
    return None, flow


def _sign(
    request: HttpRequest,
    flow: Flow,
    theme: Mapping[str, Any] | Theme | None,
    metadata: Mapping[str, str] | None,
    next_: Any,
    **options: Any,
) -> str:
    return LaunchRequest(
        user_id=str(request.user.pk),
        flow=flow.slug,
        presets=flow.presets,
        theme=complete_theme(theme, request),
        metadata=metadata or {},
        # `reverse_lazy()` gives a lazy text, and a parameter that is not there None.
        next_url=str(next_ or ""),
        **options,
    ).sign()


def _refuse_unknown(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ExamplaryValidationError(name, f"must be one of {known}, not {value!r}")


def _refuse_no_time(name: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ExamplaryValidationError(name, f"must be a number of seconds, not {value!r}")


def _refuse_decided(**options: Any) -> None:
    for name, value in options.items():
        if value:
            raise ExamplaryValidationError(name, "was decided when the session was opened")


def _nonce(reuse: bool) -> str:
    return "" if reuse else get_random_string(12)


def _login_url(request: HttpRequest) -> str:
    return redirect_to_login(request.get_full_path()).url


def _allow(flow: Flow, origins: Sequence[str]) -> str:
    """The frame's `allow`: what the flow needs, and only for the embed's own origins."""
    return "; ".join(" ".join([feature, *origins]) for feature in flow.permissions_policy)
