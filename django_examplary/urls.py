"""Include these anywhere: `path("examplary/", include("django_examplary.urls"))`."""

from __future__ import annotations

from django.urls import path

from django_examplary import views

app_name = "django_examplary"
urlpatterns = [
    path("launch/<str:token>/", views.launch, name="launch"),
    path("window/<str:token>/", views.launch, name="window"),
    path("sync/<slug:key>/", views.end, {"action": "sync"}, name="sync"),
    path("close/<slug:key>/", views.end, {"action": "close"}, name="close"),
    path("report/sync/", views.report, {"action": "sync"}, name="report-sync"),
    path("report/close/", views.report, {"action": "close"}, name="report-close"),
    path("finish/<slug:key>/", views.finish, name="finish"),
    path("return/<str:reference>/", views.return_, name="return"),
]
