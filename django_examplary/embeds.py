"""Render a flow or an open session as HTML, without calls to the API or the database.

The template tags and the functions for Jinja2 are thin wrappers around these functions.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.shortcuts import resolve_url
from django.template import Context, Template
from django.template.loader import get_template, render_to_string
from django.templatetags.static import static
from django.utils.crypto import get_random_string
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language

from django_examplary.addresses import reverse_view
from django_examplary.conf import conf
from django_examplary.data import Theme
from django_examplary.encoding import to_snake
from django_examplary.exceptions import ExamplaryValidationError
from django_examplary.flows import FLOWS, Flow, flow_name, get_flow
from django_examplary.launch import Launch, one_time_options, sign_report
from django_examplary.models import ExamplarySession
from django_examplary.origins import origin_of
from django_examplary.services.clients import workspace_of
from django_examplary.services.themes import complete_theme

DISPLAYS = ("inline", "modal")
LOADING = ("lazy", "eager", "click")

#: The permissions of a sandboxed embed: everything except navigating the whole window. Without
#: `allow-same-origin` its messages would have no origin, and the script would ignore them.
SANDBOX = (
    "allow-downloads allow-forms allow-modals allow-popups allow-popups-to-escape-sandbox "
    "allow-same-origin allow-scripts allow-storage-access-by-user-activation"
)


def embed_context(
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
    once: bool = False,
    reuse: bool = True,
    one_time: bool = False,
    **more_presets: Any,
) -> dict[str, Any]:
    """Return an embed as plain data that can be sent as JSON.

    `render_embed` fills a template with it, and `create()` in `embed.js` builds the element from
    it. For visitors who aren't signed in it is `{"login_url": ...}`.

    `flow` is the name of a flow, with its presets as keywords in snake_case or as a mapping. It may
    also be a flow instance, or an open session. `theme` overrides EXAMPLARY_THEME. `next` is the
    path to which the page redirects when the user has finished. With `grant_access` the user gets
    the role that the flow needs on its exam or space. With `once` a user cannot launch the flow
    with the same presets again after completing it. With `reuse=False` the embed does not share its
    session with other pages, nor with a reload of its own page. With `one_time` the embed works
    without a session cookie: its URL is valid for one launch within five minutes.

    `display="modal"` renders a button that opens a dialog. The dialog asks before it closes
    unfinished work, unless `confirm_close` is false. `load` is "lazy" (when in view), "eager", or
    "click" (when the user presses the button). If an iframe has sent no message `grace` seconds
    after it came into view, a help line is shown. `sandbox` puts the iframe into a sandbox with the
    permissions of `SANDBOX`.

    Raises ExamplaryValidationError naming the argument.
    """
    if display not in DISPLAYS:
        raise ExamplaryValidationError("display", f"must be one of {DISPLAYS}, not {display!r}")
    if load not in LOADING:
        raise ExamplaryValidationError("load", f"must be one of {LOADING}, not {load!r}")
    if type(grace) not in (int, float) or not 0 < grace < math.inf:
        raise ExamplaryValidationError("grace", f"must be a number of seconds, not {grace!r}")
    _require_mappings(presets=presets, theme=theme, metadata=metadata)
    session, flow = _resolve(flow, presets, more_presets)
    options = {
        "next": next,
        "theme": theme,
        "metadata": metadata,
        "grant_access": grant_access,
        "once": once,
    }
    if session is not None:
        for name, value in options.items():
            if value:
                raise ExamplaryValidationError(name, "was decided when the session was opened")
    if not is_signed_in(request):
        return {"login_url": login_url(request)}
    launch = _launch(request, session or flow, options, reuse=reuse, one_time=one_time)
    token = launch.sign()
    origins = conf.get_workspace(workspace_of(request.user)).embed_origins
    # The iframe waits for its opener, a link that also works without the script.
    waits = display == "modal" or load == "click"
    finish_key = "" if one_time or (waits and flow.completes) else launch.key
    if finish_key and waits and session is None:
        # Without the script the opener uses the whole window, in another session.
        finish_key = replace(launch, mode="window").key
    # The only URL with the token, of the iframe or its opener. Like the script, this derives the
    # other URLs from it.
    url = reverse_view("window" if waits else "launch", token)
    if one_time:
        # The page may belong to another site or to an app.
        url = request.build_absolute_uri(url)
    if allow is None:
        # The permissions of the flow, only for the origins of the embed.
        allow = "; ".join(" ".join([feature, *origins]) for feature in flow.permissions_policy)
    return {
        "flow": flow.slug,
        "key": launch.key,
        "csrf_token": "" if one_time else get_token(request),
        "token": sign_report(launch) if one_time else "",
        "origins": " ".join(origins),
        "site_origin": launch.origin,
        "debug": bool(settings.DEBUG),
        "title": str(title or flow_name(flow.slug)),
        "modal": display == "modal",
        "load": load,
        "waits": waits,
        # A string, so that templates do not localize the number.
        "grace": str(grace),
        "confirm_close": bool(confirm_close),
        "completes": flow.completes,
        "url": url,
        "finish_url": finish_key and f"{url.rsplit('/', 3)[0]}/finish/{finish_key}/",
        # On Back, browsers restore the last URL of a frame by its name. Each launch has its own
        # name, so no user sees the frame of an earlier user of the browser.
        "frame_name": hashlib.sha256(token.encode()).hexdigest()[:16],
        "allow": str(allow),
        "sandbox": SANDBOX if sandbox else "",
        "css_class": str(css_class),
    }


def render_embed(
    request: HttpRequest, flow: str | Flow | ExamplarySession, /, **options: Any
) -> SafeString:
    """Return the HTML of an embed: an iframe that opens the session when the browser loads it.

    The options are those of `embed_context`. Visitors who aren't signed in get a link to sign in
    instead. A preview of a page (`request.is_preview`, as set by Wagtail) only shows the title.
    """
    data = embed_context(request, flow, **options)
    template = "sign_in" if "login_url" in data else "embed"
    if template == "embed" and getattr(request, "is_preview", False):
        # The iframe would open a session for the author of a draft.
        template = "preview"
    return render_to_string(f"django_examplary/{template}.html", data)


def render_script(nonce: str = "") -> SafeString:
    """Return the stylesheet, panels and script of the embeds, which a page needs once."""
    sheet = _render_stylesheet(nonce)
    script = static("django_examplary/embed.js")
    return format_html(
        "{}<template data-examplary-panels>{}{}</template>"
        '<script type="module" src="{}"{}></script>',
        sheet,
        sheet,
        _panels(),
        script,
        _nonce_attribute(nonce),
    )


def render_panels(nonce: str = "") -> SafeString:
    """Return the HTML of the panels, which each embed copies, in the active language.

    `render_script` includes it. A page without templates passes it to the script's `create()`.
    """
    return _render_stylesheet(nonce) + _panels()


def _panels() -> SafeString:
    backend: Any = get_template("django_examplary/panels.html")
    return _render_panels(backend.template, get_language())


@functools.lru_cache(maxsize=64)
def _render_panels(template: Template, language: str | None) -> SafeString:
    """Render the part that pages in a language share. A reloaded template is a new cache key."""
    return template.render(Context())


def _render_stylesheet(nonce: str) -> SafeString:
    sheet = static("django_examplary/embed.css")
    return format_html('<link rel="stylesheet" href="{}"{}>', sheet, _nonce_attribute(nonce))


def _nonce_attribute(nonce: str) -> SafeString:
    return format_html(' nonce="{}"', nonce) if nonce else SafeString()


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
    once: bool = False,
    reuse: bool = True,
    one_time: bool = False,
    **more_presets: Any,
) -> str:
    """Return a URL that opens the flow in the whole window and returns to `next`.

    The arguments are those of `embed_context`. For visitors who aren't signed in, return a URL to
    sign in that returns to this page.
    """
    _require_mappings(presets=presets, theme=theme, metadata=metadata)
    _, flow = _resolve(flow, presets, more_presets)
    if not is_signed_in(request):
        return login_url(request)
    options = {
        "next": next,
        "theme": theme,
        "metadata": metadata,
        "grant_access": grant_access,
        "once": once,
        "mode": "window",
    }
    launch = _launch(request, flow, options, reuse=reuse, one_time=one_time)
    url = reverse_view("window", launch.sign())
    return request.build_absolute_uri(url) if one_time else url


def is_signed_in(request: HttpRequest) -> bool:
    """Return whether the request has a signed-in user. Error pages may have no user at all."""
    user = getattr(request, "user", None)
    return user is not None and user.is_authenticated


def login_url(request: HttpRequest) -> str:
    """Return a URL to sign in that returns to this page.

    Like `login_required` of Django: if LOGIN_URL has another host, the page has an absolute URL.
    """
    address = resolve_url(settings.LOGIN_URL)
    page = urlsplit(request.build_absolute_uri())
    login = urlsplit(address)
    same_host = login.netloc in ("", page.netloc) and login.scheme in ("", page.scheme)
    return redirect_to_login(request.get_full_path() if same_host else page.geturl(), address).url


def site_origin(request: HttpRequest) -> str:
    """Return the origin that embeds report to: EXAMPLARY_SITE_ORIGIN, or that of the request."""
    return origin_of(conf.EXAMPLARY_SITE_ORIGIN or f"{request.scheme}://{request.get_host()}")


def _resolve(
    flow: str | Flow | ExamplarySession,
    presets: Mapping[str, Any] | None,
    more_presets: Mapping[str, Any],
) -> tuple[ExamplarySession | None, Flow]:
    presets = {**(presets or {}), **more_presets}
    if isinstance(flow, str) and flow:
        _refuse_misspelt(flow, more_presets)
        return None, get_flow(flow, presets)
    if not isinstance(flow, (Flow, ExamplarySession)):
        # An undefined variable in a template.
        raise ExamplaryValidationError("flow", f"must be a flow or a session, not {flow!r}")
    if presets:
        raise ExamplaryValidationError(
            next(iter(presets)), f"is decided already by the {type(flow).__name__} that was given"
        )
    if isinstance(flow, ExamplarySession):
        return flow, get_flow(flow.flow, flow.presets)
    return None, flow


def _launch(
    request: HttpRequest,
    flow: Flow | ExamplarySession,
    options: Mapping[str, Any],
    *,
    reuse: bool,
    one_time: bool,
) -> Launch:
    visitor: dict[str, Any] = {
        "user_id": str(request.user.pk),
        "language": get_language() or "",
        **(one_time_options(request.user) if one_time else {}),
    }
    if isinstance(flow, ExamplarySession):
        return Launch(**visitor, session_id=str(flow.pk))
    return Launch(
        **visitor,
        flow=flow,
        theme=complete_theme(options["theme"], request),
        metadata=options["metadata"] or {},
        # `reverse_lazy()` returns a lazy string, and a missing parameter is None.
        next_url=str(options["next"] or ""),
        origin=site_origin(request),
        mode=options.get("mode", "frame"),
        grant_access=options["grant_access"],
        once=options["once"],
        nonce="" if reuse else get_random_string(12),
    )


def _refuse_misspelt(flow: str, keywords: Iterable[str]) -> None:
    """Reject misspelt options. The flow rejects misspelt presets itself.

    Other unknown keywords may be presets that Examplary has added since this release.
    """
    presets = [each.name for each in fields(FLOWS[flow])] if flow in FLOWS else []
    options = list(embed_context.__kwdefaults__ or {})
    for name in keywords:
        if to_snake(name) in presets:
            continue
        if name in options:
            raise ExamplaryValidationError(name, "is an option of embeds, not of links")
        if close := difflib.get_close_matches(to_snake(name), options, n=1, cutoff=0.8):
            raise ExamplaryValidationError(
                name,
                f"is neither an option nor a preset of {flow}. Did you mean {close[0]!r}? A preset "
                "that this release does not know can be passed in `presets`",
            )


def _require_mappings(**options: Any) -> None:
    for name, value in options.items():
        if value is not None and not isinstance(value, (Mapping, Theme)):
            raise ExamplaryValidationError(
                name, f"must be a mapping, not {value!r}. In a template, is the variable defined?"
            )
