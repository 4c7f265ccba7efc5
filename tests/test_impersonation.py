"""Staff members act as users, with common impersonation packages."""

from __future__ import annotations

import pytest
from django.urls import include, path
from hijack.views import AcquireUserView, ReleaseUserView

from django_examplary import services
from django_examplary.embeds import embed_context
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplarySession
from tests import urls

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

urlpatterns = [
    *urls.urlpatterns,
    path("hijack/acquire/", AcquireUserView.as_view()),
    path("hijack/release/", ReleaseUserView.as_view()),
    path("loginas/", include("loginas.urls")),
]


@pytest.fixture
def session(fake, teacher):
    return services.open_session(teacher, GenerateExam(), origin="https://school.example")


def use_hijack(client, user):
    client.post("/hijack/acquire/", {"user_pk": user.pk})


def use_loginas(client, user):
    client.post(f"/loginas/login/user/{user.pk}/")


@pytest.mark.parametrize(
    ("impersonate", "way_out"),
    [
        (use_hijack, "/hijack/release/"),
        (use_hijack, "/accounts/logout/"),
        (use_loginas, "/loginas/logout/"),
        (use_loginas, "/accounts/logout/"),
    ],
)
def test_end_of_an_impersonation_leaves_the_sessions_of_the_user_open(
    fake, admin_client, teacher, session, impersonate, way_out, django_capture_on_commit_callbacks
):
    impersonate(admin_client, teacher)
    assert admin_client.session["_auth_user_id"] == str(teacher.pk)

    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post(way_out)

    assert admin_client.session.get("_auth_user_id") != str(teacher.pk)
    session.refresh_from_db()
    assert session.is_open
    assert not fake.calls("DELETE")


def test_user_who_signs_out_after_an_impersonation_ended_revokes(
    admin_client, admin_user, teacher, fake, django_capture_on_commit_callbacks
):
    own = services.open_session(admin_user, GenerateExam(), origin="https://school.example")
    use_hijack(admin_client, teacher)
    admin_client.post("/hijack/release/")

    with django_capture_on_commit_callbacks(execute=True):
        admin_client.post("/accounts/logout/")

    own.refresh_from_db()
    assert not own.is_open


def refuse_impersonators(request, launch):
    """The function of the documentation."""
    keys = ("hijack_history", "loginas_from_user", "_impersonate", "exit_users_pk")
    return not any(request.session.get(key) for key in keys)


@pytest.mark.parametrize("impersonate", [use_hijack, use_loginas])
def test_authorize_refuses_impersonators(fake, admin_client, teacher, settings, impersonate):
    settings.EXAMPLARY_AUTHORIZE = refuse_impersonators
    impersonate(admin_client, teacher)

    page = admin_client.get("/embed/").content.decode()
    response = admin_client.get(page.split('src="')[1].split('"')[0])

    assert response.status_code == 403
    assert fake.calls() == []


def test_metadata_creates_a_separate_session(fake, admin_client, teacher, session, rf):
    use_hijack(admin_client, teacher)
    request = rf.get("/")
    request.user = teacher
    data = embed_context(request, "generate-exam", metadata={"impersonator": "yes"})

    assert admin_client.get(data["url"]).status_code == 302

    marked = ExamplarySession.objects.exclude(pk=session.pk).get()
    assert (marked.metadata, marked.actor) == ({"impersonator": "yes"}, session.actor)
