from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.contrib import admin
from django.urls import include, path

site = admin.site
urlpatterns = []
if apps.is_installed("grappelli"):
    urlpatterns.append(path("grappelli/", include("grappelli.urls")))
if apps.is_installed("baton"):
    # This theme has its own site, with all models registered on the default site.
    site = import_module("baton.autodiscover").admin.site
    urlpatterns.append(path("baton/", include("baton.urls")))
urlpatterns += [path("i18n/", include("django.conf.urls.i18n")), path("admin/", site.urls)]
