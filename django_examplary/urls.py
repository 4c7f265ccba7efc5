"""Include these anywhere: `path("examplary/", include("django_examplary.urls"))`."""

from __future__ import annotations

from django.urls import path

from django_examplary import views

app_name = "django_examplary"
urlpatterns = [
    path("launch/<str:token>/", views.launch, name="launch"),
    path("sync/<str:token>/", views.sync, name="sync"),
    path("close/<str:token>/", views.close, name="close"),
    path("return/<str:reference>/", views.return_, name="return"),
]
