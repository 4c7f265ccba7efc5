from __future__ import annotations

from functools import partial

import pytest
from django.apps import apps
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, User
from django.contrib.auth.signals import user_logged_out
from django.db import InterfaceError, OperationalError, ProgrammingError, transaction
from django.db.models.signals import post_save

from django_examplary import receivers, services
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplaryActor, ExamplarySession

pytestmark = pytest.mark.django_db

Status = ExamplarySession.Status


@pytest.fixture
def session(fake, teacher):
    return services.open_session(teacher, GenerateExam(), origin="https://school.example")


@pytest.fixture
def patient():
    """Give signing out more time on busy machines."""
    uid = "django_examplary"
    receiver = partial(receivers.revoke_when_signed_out, seconds=60.0)
    assert user_logged_out.disconnect(dispatch_uid=uid)
    user_logged_out.connect(receiver, dispatch_uid=uid)
    yield
    user_logged_out.disconnect(dispatch_uid=uid)
    user_logged_out.connect(receivers.revoke_when_signed_out, dispatch_uid=uid)


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


@pytest.fixture
def save(django_capture_on_commit_callbacks):
    """Save a row as outside a transaction, so that callbacks run at once."""

    def save(instance):
        with django_capture_on_commit_callbacks(execute=True):
            instance.save()

    return save


def test_deactivating_a_user_revokes(fake, teacher, session, save):
    save(teacher)
    session.refresh_from_db()
    assert session.is_open
    teacher.is_active = False
    save(teacher)
    session.refresh_from_db()
    assert (session.status, session.revoke_pending) == (Status.REVOKED, True)


@pytest.mark.parametrize("revokes", [True, False])
def test_new_password_revokes_the_sessions(fake, teacher, session, save, settings, revokes):
    settings.EXAMPLARY_REVOKE_ON_LOGOUT = revokes
    teacher.set_password("another")
    save(teacher)
    session.refresh_from_db()
    assert session.is_open is not revokes
    assert session.revoke_pending is revokes


def test_rehashed_password_revokes_nothing(fake, client, teacher, session):
    # The short salt makes Django hash the password again at sign-in.
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


def deactivate(user):
    user.is_active = False
    user.save()


def sign_out(user):
    user_logged_out.send(User, request=None, user=user)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("end", [deactivate, sign_out])
def test_no_queries_run_in_a_transaction_of_the_project(
    fake, teacher, session, end, django_assert_num_queries
):
    """A failed query would break it, and MariaDB rolls back all of it after a deadlock."""
    with transaction.atomic():
        with django_assert_num_queries(1 if end is deactivate else 0):
            end(teacher)
        session.refresh_from_db()
        assert session.is_open
        transaction.set_rollback(True)
    session.refresh_from_db()
    assert session.is_open
    with transaction.atomic():
        end(teacher)
    session.refresh_from_db()
    assert session.status == Status.REVOKED


def test_is_active_of_other_models_is_not_read(monkeypatch):
    """A property with this name may run queries or fail on incomplete rows."""
    monkeypatch.setattr(Group, "is_active", property(lambda group: 1 / 0), raising=False)
    Group.objects.create(name="Form 5")
    assert Group.objects.exists()


def test_deactivating_a_user_succeeds_while_the_database_fails(
    fake, teacher, session, save, before_query, caplog
):
    """For example, before the tables of this app exist."""

    def fail():
        raise ProgrammingError("no such table (SECRET)")

    teacher.is_active = False
    with before_query(fail, "SELECT", "django_examplary_examplaryactor"):
        save(teacher)
    teacher.refresh_from_db()
    assert not teacher.is_active
    assert "operation=revoke error=ProgrammingError" in caplog.text
    assert "SECRET" not in caplog.text
    # A sweep revokes the sessions of inactive users.
    services.sweep_sessions()
    session.refresh_from_db()
    assert session.status == Status.REVOKED


def test_user_of_another_database_has_no_sessions_here(
    fake, teacher, session, django_capture_on_commit_callbacks
):
    teacher.is_active = False
    with django_capture_on_commit_callbacks(execute=True):
        post_save.send(User, instance=teacher, created=False, using="other")
    session.refresh_from_db()
    assert session.is_open


def test_deactivating_a_user_by_a_proxy_revokes(fake, teacher, session, save):
    class Colleague(User):
        class Meta:
            app_label = "auth"
            proxy = True

    try:
        colleague = Colleague.objects.get()
        colleague.is_active = False
        save(colleague)
    finally:
        del apps.all_models["auth"]["colleague"]
        apps.clear_cache()
    session.refresh_from_db()
    assert session.status == Status.REVOKED


@pytest.mark.usefixtures("patient")
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


@pytest.mark.usefixtures("patient")
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


@pytest.mark.usefixtures("patient")
def test_signing_out_continues_after_a_session_that_was_erased(
    fake, client, teacher, session, settings, monkeypatch, django_capture_on_commit_callbacks
):
    other = services.open_session(teacher, GenerateExam(subject="b"), origin="https://x.example")
    revoke_sessions = services.revoke_sessions

    def revoke_while_one_is_erased(actor):
        revoked = revoke_sessions(actor)
        ExamplarySession.objects.filter(pk__in=[each.pk for each in revoked[:1]]).delete()
        return revoked

    monkeypatch.setattr("django_examplary.services.revoke_sessions", revoke_while_one_is_erased)
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session
    left = ExamplarySession.objects.get()
    assert left in (session, other)
    assert fake.sessions[left.examplary_id].revoked


@pytest.mark.usefixtures("patient")
def test_session_that_was_launched_while_signing_out_waits_ends(
    fake, client, teacher, session, during_call, django_capture_on_commit_callbacks
):
    def launch():
        services.open_session(teacher, GenerateExam(subject="b"), origin="https://x.example")

    during_call("get_embed_session", launch)
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    assert not ExamplarySession.objects.open().exists()
    assert services.sweep_sessions().revoked == 1


@pytest.mark.django_db(transaction=True)
def test_signing_out_succeeds_if_revoking_raises(fake, client, teacher, session, monkeypatch):
    monkeypatch.setattr("django_examplary.services.revoke_session", lambda session, client: 1 / 0)
    client.force_login(teacher)
    client.post("/accounts/logout/")
    assert "_auth_user_id" not in client.session
    session.refresh_from_db()
    assert session.revoke_pending


@pytest.mark.parametrize("error", [OperationalError, InterfaceError])
def test_signing_out_succeeds_while_the_database_does_not_answer(
    fake, client, teacher, session, monkeypatch, caplog, error, django_capture_on_commit_callbacks
):
    def revoke_sessions(actor):
        raise error("Failing row contains (SECRET)")

    monkeypatch.setattr("django_examplary.services.revoke_sessions", revoke_sessions)
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
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


def test_signing_out_waits_at_most_two_seconds_for_a_slow_api(
    fake, client, teacher, session, django_capture_on_commit_callbacks
):
    for subject in "abcd":
        services.open_session(teacher, GenerateExam(subject=subject), origin="https://x.example")
    fake.latency = 1.0
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")
    # Verifying and deleting all five sessions would take ten seconds.
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


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("removed", ["default", "north"])
def test_signing_out_revokes_each_session_in_its_own_workspace(
    fake, client, teacher, session, settings, caplog, removed, django_capture_on_commit_callbacks
):
    """With the key of another workspace the API would return 404, and revoke nothing."""
    north = fake.add_workspace()
    settings.EXAMPLARY_WORKSPACES = {"north": {"API_KEY": north.api_key}}
    settings.EXAMPLARY_WORKSPACE = lambda user: "north"
    other = services.open_session(teacher, GenerateExam(), origin="https://x.example")
    # As if another process had opened it just before the user moved.
    ExamplarySession.objects.filter(pk=session.pk).update(status=Status.PENDING)
    if removed == "default":
        settings.EXAMPLARY_API_KEY = ""
    else:
        settings.EXAMPLARY_WORKSPACES = {}
    client.force_login(teacher)
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/accounts/logout/")

    assert fake.sessions[session.examplary_id].revoked is (removed == "north")
    assert north.sessions[other.examplary_id].revoked is (removed == "default")
    assert "operation=revoke error=" in caplog.text


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
