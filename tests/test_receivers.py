from __future__ import annotations

import time

import pytest
from django.apps import apps
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db.models.signals import post_save

from django_examplary import services
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status


@pytest.fixture
def session(fake, teacher):
    return services.open_session(teacher, GenerateExam(), origin="https://school.example")


def test_deleting_a_user_succeeds_while_the_api_is_down(fake, teacher, session):
    fake.fail(times=None, transport="close")
    teacher.delete()
    session.refresh_from_db()
    assert (session.status, session.embed_url, session.actor) == (Status.REVOKED, "", None)
    assert session.revoke_pending
    assert not ExamplaryActor.objects.exists()
    fake.heal()
    assert services.sweep_sessions().revoked == 1
    assert fake.sessions[session.examplary_id].revoked


def test_deactivating_a_user_revokes(fake, teacher, session):
    teacher.save()
    session.refresh_from_db()
    assert session.is_open
    teacher.is_active = False
    teacher.save()
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.REVOKED, True)


@pytest.mark.parametrize("revokes", [True, False])
def test_new_password_revokes_as_it_signs_out_elsewhere(fake, teacher, session, settings, revokes):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = revokes
    teacher.set_password("another")
    teacher.save()
    session.refresh_from_db()
    assert session.is_open is not revokes
    assert session.revoke_pending is revokes


def test_password_that_is_only_hashed_again_revokes_nothing(fake, client, teacher, session):
    # With a salt so short that signing in replaces it.
    teacher.password = weak = make_password("secret", salt="a")
    teacher.save()
    assert client.login(username="teacher", password="secret")
    teacher.refresh_from_db()
    assert teacher.password != weak
    session.refresh_from_db()
    assert session.is_open


def test_new_password_is_saved_with_a_wrong_setting(fake, teacher, session, settings, caplog):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = "no"
    teacher.set_password("another")
    teacher.save()
    teacher.refresh_from_db()
    assert teacher.check_password("another")
    assert "EXAMPLARY_REVOKE_ON_LOGOUT must be True or False" in caplog.text


def test_is_active_of_other_models_is_not_read(monkeypatch):
    """A project's own property of that name may query, or fail on a row that is not complete."""
    monkeypatch.setattr(Group, "is_active", property(lambda group: 1 / 0), raising=False)
    Group.objects.create(name="Form 5")
    assert Group.objects.exists()


def test_deactivating_a_user_succeeds_while_the_database_fails(
    fake, teacher, session, before_query, caplog
):
    """As before the tables of this app exist."""

    def fail():
        raise ProgrammingError("no such table (SECRET)")

    teacher.is_active = False
    with before_query(fail, "SELECT", "django_examplary_examplaryactor"):
        teacher.save()
    teacher.refresh_from_db()
    assert not teacher.is_active
    assert "operation=revoke error=ProgrammingError" in caplog.text
    assert "SECRET" not in caplog.text
    # A sweep revokes the sessions of inactive users.
    services.sweep_sessions()
    session.refresh_from_db()
    assert session.status == Status.REVOKED


def test_user_of_another_database_has_no_sessions_here(fake, teacher, session):
    teacher.is_active = False
    post_save.send(User, instance=teacher, created=False, using="other")
    session.refresh_from_db()
    assert session.is_open


def test_deactivating_a_user_by_a_proxy_revokes(fake, teacher, session):
    class Colleague(User):
        class Meta:
            app_label = "auth"
            proxy = True

    try:
        colleague = Colleague.objects.get()
        colleague.is_active = False
        colleague.save()
    finally:
        del apps.all_models["auth"]["colleague"]
        apps.clear_cache()
    session.refresh_from_db()
    assert session.status == Status.REVOKED


def test_signing_out_just_after_finishing_keeps_the_result(
    fake, client, teacher, session, settings, django_capture_on_commit_callbacks
):
    client.force_login(teacher)
    fake.complete(session.examplary_id)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.COMPLETED, False)
    assert session.get_outputs().exam_id


def test_signing_out_revokes_unless_the_setting_is_off(
    fake, client, teacher, session, settings, django_capture_on_commit_callbacks
):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = False
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    session.refresh_from_db()
    assert session.is_open
    del settings.EXAMPLARY_REVOKE_ON_LOGOUT
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.REVOKED, False)
    assert fake.sessions[session.examplary_id].revoked


def test_signing_out_continues_after_a_session_that_was_erased(
    fake, client, teacher, session, settings, monkeypatch, django_capture_on_commit_callbacks
):
    other = services.open_session(teacher, GenerateExam(subject="b"), origin="https://x.example")
    revoke_sessions = services.revoke_sessions

    def revoke_while_one_is_erased(actor):
        revoked = revoke_sessions(actor)
        ExamplarySession.objects.filter(pk=revoked[0].pk).delete()
        return revoked

    monkeypatch.setattr("django_examplary.services.revoke_sessions", revoke_while_one_is_erased)
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session
    left = ExamplarySession.objects.get()
    assert left in (session, other)
    assert fake.sessions[left.examplary_id].revoked


def test_signing_out_succeeds_if_revoking_raises(
    fake, client, teacher, session, settings, monkeypatch, django_capture_on_commit_callbacks
):
    monkeypatch.setattr("django_examplary.services.revoke_session", lambda session, client: 1 / 0)
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    session.refresh_from_db()
    assert session.revoke_pending


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_signing_out_succeeds_while_the_database_does_not_answer(
    fake, client, teacher, session, settings, monkeypatch, caplog, error
):
    def revoke_sessions(actor):
        raise error("Failing row contains (SECRET)")

    monkeypatch.setattr("django_examplary.services.revoke_sessions", revoke_sessions)
    client.force_login(teacher)
    client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session
    assert "operation=revoke" in caplog.text
    assert "SECRET" not in caplog.text


def test_signing_out_succeeds_with_a_wrong_setting(client, teacher, settings, caplog):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = "no"
    client.force_login(teacher)
    client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session
    assert "EXAMPLARY_REVOKE_ON_LOGOUT must be True or False" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_signing_out_succeeds_on_a_connection_without_autocommit(client, teacher, session, caplog):
    client.force_login(teacher)
    transaction.set_autocommit(False)
    try:
        client.post("/accounts/logout/")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert "_auth_user_id" not in client.session
    assert "operation=revoke" in caplog.text
    # A sweep revokes it at Examplary.
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.REVOKED, True)


def test_signing_out_waits_for_a_slow_api_for_two_seconds(
    fake, client, teacher, session, django_capture_on_commit_callbacks
):
    for subject in "abcd":
        services.open_session(teacher, GenerateExam(subject=subject), origin="https://x.example")
    fake.latency = 1.0
    client.force_login(teacher)
    started = time.monotonic()
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    # Each of the five sessions would be looked at and deleted, in ten seconds.
    assert time.monotonic() - started < 6
    assert not ExamplarySession.objects.open().exists()
    left = ExamplarySession.objects.filter(revoke_pending=True).count()
    assert left >= 3
    fake.latency = 0
    assert services.sweep_sessions().revoked == left


def test_signing_out_succeeds_without_an_api_key(
    fake, client, teacher, session, settings, caplog, django_capture_on_commit_callbacks
):
    settings.EXAMPLARY_API_KEY = ""
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.REVOKED, True)
    assert "operation=revoke" in caplog.text


def test_signing_out_without_a_user_succeeds(client):
    client.post("/accounts/logout/")


@pytest.mark.django_db(transaction=True)
def test_deletion_that_is_rolled_back_revokes_nothing(fake, teacher, session):
    with transaction.atomic():
        teacher.delete()
        transaction.set_rollback(True)
    session.refresh_from_db()
    assert session.is_open
    assert session.actor.user_id == ExamplaryActor.objects.get().user_id
