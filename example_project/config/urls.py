from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView
from django.views.i18n import set_language

favicon = RedirectView.as_view(url=static("courses/icon.svg"))

urlpatterns = [
    path("", include("courses.urls")),
    path("sign-in/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("sign-out/", LogoutView.as_view(), name="logout"),
    path("language/", login_not_required(set_language), name="set_language"),
    path("examplary/", include("django_examplary.urls")),
    path("admin/", admin.site.urls),
    # The pages of the admin have no favicon link.
    path("favicon.ico", login_not_required(favicon)),
]
