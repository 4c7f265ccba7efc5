"""Check that the security policies of a project allow everything that embeds need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from django.conf import settings
from django.core import checks

from django_examplary.checks.settings import unusable_settings
from django_examplary.conf import conf
from django_examplary.csp import csp_directives, list_embed_origins
from django_examplary.flows import FLOWS


def check_policies(**kwargs: Any) -> list[checks.CheckMessage]:
    """Check that Content-Security-Policy and Permissions-Policy allow the embeds."""
    if unusable_settings():
        return []  # The sources that a policy must allow depend on them.
    return [*_content_security_policies(), *_permissions_policy()]


class _Need(NamedTuple):
    id: str
    #: Directives in order of precedence: the first one in the policy applies.
    directives: tuple[str, ...]
    #: Completes the sentence "<setting> does not let ...".
    what: str
    why: str
    #: Whether a nonce in the policy suffices, because the tag has a nonce attribute.
    nonce: bool = False


#: By the keys of `csp_directives()`.
_NEEDS = {
    "frame-src": _Need(
        "django_examplary.W012",
        ("frame-src", "child-src", "default-src"),
        "pages frame the embeds",
        "The iframe starts at this site and is redirected to the embed.",
    ),
    "frame-ancestors": _Need(
        "django_examplary.W013",
        ("frame-ancestors",),
        "this site frame its own pages",
        "An embed that cannot start shows a page of this site.",
    ),
    "script-src": _Need(
        "django_examplary.W014",
        ("script-src-elem", "script-src", "default-src"),
        "pages load the script of the embeds",
        "Without the script, only the sweep receives results.",
        nonce=True,
    ),
    "style-src": _Need(
        "django_examplary.W015",
        ("style-src-elem", "style-src", "default-src"),
        "pages load the stylesheet of the embeds",
        "Without it embeds look broken.",
        nonce=True,
    ),
    "connect-src": _Need(
        "django_examplary.W016",
        ("connect-src", "default-src"),
        "the script of the embeds request results from this site",
        "Without these requests, only the sweep receives results.",
    ),
    "form-action": _Need(
        "django_examplary.W017",
        ("form-action",),
        "pages of the embeds post forms to this site",
        "Without the script, users finish with a form.",
    ),
}

#: Nonces, and the placeholders for them in the settings of Django and of django-csp.
_NONCES = ("'nonce-", "<csp_nonce", "csp.constants.nonce")


def _content_security_policies() -> Iterator[checks.CheckMessage]:
    try:
        needed = csp_directives()
    except Exception:
        # A storage of static files may raise any error, for example before `collectstatic` or
        # without a network. This check does not report such errors.
        return
    for name, policy in _read_policies():
        for key, sources in needed.items():
            need = _NEEDS[key]
            directive = next((each for each in need.directives if each in policy), None)
            if directive is None:
                continue
            given = policy[directive]
            if need.nonce and any(source.startswith(_NONCES) for source in given):
                continue
            if missing := [source for source in sources if not _allows(given, source)]:
                place = key if directive == "default-src" else directive
                yield checks.Warning(
                    f"{name} does not let {need.what}.",
                    hint=f"{need.why} Add to {place}: {' '.join(missing)}.",
                    id=need.id,
                )


def _read_policies() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Return the policies of Django 6 and of django-csp 4, by setting."""
    for name in ("SECURE_CSP", "CONTENT_SECURITY_POLICY"):
        for setting in (name, f"{name}_REPORT_ONLY"):
            policy = _mapping(getattr(settings, setting, None))
            if name == "CONTENT_SECURITY_POLICY":
                policy = _mapping(policy.get("DIRECTIVES"))
            yield (
                setting,
                {
                    directive: _read_sources(value)
                    for directive, value in policy.items()
                    if value is not None and value is not False  # Both omit the directive.
                },
            )


def _mapping(value: Any) -> Mapping[str, Any]:
    # A project may have a setting of that name for a middleware of its own.
    return value if isinstance(value, Mapping) else {}


def _read_sources(value: Any) -> list[str]:
    if value is True:
        return []
    return [str(each).lower() for each in (value.split() if isinstance(value, str) else value)]


def _allows(given: list[str], source: str) -> bool:
    """Return whether one of the given sources matches an origin, or this site ("'self'").

    Equal sources, wildcards and schemes are supported. Sources with a path, and http sources that
    also allow https, count as missing.
    """
    if source in given or not {"*", "https:", "http:"}.isdisjoint(given):
        return True
    if source == "'self'":
        return bool(conf.EXAMPLARY_SITE_ORIGIN) and _allows(given, conf.EXAMPLARY_SITE_ORIGIN)
    return any(
        fnmatchcase(source, each if "://" in each else f"https://{each}")
        for each in (each.rstrip("/") for each in given)
    )


def _permissions_policy() -> Iterator[checks.CheckMessage]:
    """Check the setting of django-permissions-policy."""
    policy = _mapping(getattr(settings, "PERMISSIONS_POLICY", None))
    for feature in sorted({each for flow in FLOWS.values() for each in flow.permissions_policy}):
        given = policy.get(feature, "*")
        given = [given] if isinstance(given, str) else given
        # Browsers only delegate features that the page has.
        missing = [each for each in ("self", *list_embed_origins()) if each not in given]
        if missing and "*" not in given:
            flows = [slug for slug, flow in FLOWS.items() if feature in flow.permissions_policy]
            yield checks.Warning(
                f"PERMISSIONS_POLICY does not let embeds use {feature}.",
                hint=f"{' and '.join(flows)} may need it. Add to {feature!r}: "
                f"{', '.join(map(repr, missing))}.",
                id="django_examplary.W024",
            )
