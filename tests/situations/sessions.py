"""A third-party session engine: a module without an app."""

from __future__ import annotations

from django.contrib.sessions.backends.cache import SessionStore as CacheStore


class SessionStore(CacheStore):
    cache_key_prefix = "a third party"
