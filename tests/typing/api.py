"""The public API in the code of a project. Checked by mypy, basedpyright and ty; never run."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, assert_type
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.dispatch import receiver
from django.http import HttpRequest
from django.test import Client, TestCase
from django.utils.safestring import SafeString

from django_examplary import embeds, services, signals
from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.data import ActorProfile, EmbedSession, Exam, Permission, Theme
from django_examplary.exceptions import ExamplaryAPIError, ExamplaryError, ExamplaryRateLimitError
from django_examplary.flows import (
    EditRubric,
    EditRubricOutputs,
    Flow,
    GenerateExam,
    GenerateExamOutputs,
    GenerateQuestionOutputs,
    Outputs,
    get_flow,
)
from django_examplary.models import ExamplaryActor, ExamplarySession, ExamplarySessionQuerySet
from django_examplary.testing import (
    Embed,
    ExamplaryTestMixin,
    FakeExamplary,
    fake_examplary,
    open_embed,
)


def call_services(user: User, users: QuerySet[User], session: ExamplarySession) -> None:
    assert_type(services.provision_actor(user, role="student"), ExamplaryActor)
    assert_type(services.provision_actors(users, concurrency=8, rate=5).provisioned, int)
    assert_type(
        services.open_session(
            user,
            GenerateExam(subject="Mathematics", intended_duration=45),
            origin="https://school.example",
            theme=Theme(primary_color="#0b6b57"),
            metadata={"course": "1"},
            next_url="/exams/",
        ),
        ExamplarySession,
    )
    assert_type(services.verify_session(session), ExamplarySession)
    assert_type(services.close_session(session), ExamplarySession)
    assert_type(services.revoke_session(session), ExamplarySession)
    assert_type(services.check_access(user, "exam_1", "editor"), bool)
    assert_type(services.grant_access(user, "exam_1", "participant"), ExamplaryActor)
    assert_type(services.sweep_sessions(limit=100).ended, dict[str, int])
    assert_type(services.erase_user(user).examplary_id, str)
    assert_type(services.get_client(), ExamplaryClient)


async def await_services(user: User, session: ExamplarySession) -> None:
    assert_type(await services.aprovision_actor(user), ExamplaryActor)
    assert_type(
        await services.aopen_session(user, EditRubric(), origin="https://school.example"),
        ExamplarySession,
    )
    assert_type(await services.averify_session(session), ExamplarySession)
    assert_type(await services.acheck_access(user, "exam_1", "editor"), bool)


def read_models(user: User, session: ExamplarySession, actor: ExamplaryActor) -> None:
    assert_type(session.is_open, bool)
    assert_type(session.id, UUID)
    assert_type(session.flow, str)
    assert_type(session.status, str)
    assert_type(session.outputs, Any)
    assert_type(session.created_at, datetime)
    assert_type(session.expires_at, datetime | None)
    assert_type(session.get_outputs(), Outputs)
    assert_type(session.actor, ExamplaryActor | None)
    assert_type(actor.examplary_id, str | None)
    assert_type(actor.provisioned_at, datetime | None)
    assert_type(actor.sessions.get(), ExamplarySession)


def query_models(user: User) -> None:
    sessions = ExamplarySession.objects
    assert_type(sessions.get(), ExamplarySession)
    assert_type(sessions.for_user(user), ExamplarySessionQuerySet)
    assert_type(sessions.for_user(user).first(), ExamplarySession | None)
    assert_type(sessions.for_user(user).open().filter(flow="edit-exam"), ExamplarySessionQuerySet)
    assert_type(sessions.filter(flow="edit-exam").for_user(user), ExamplarySessionQuerySet)
    assert_type(sessions.open().using("replica"), ExamplarySessionQuerySet)
    assert_type(ExamplaryActor.objects.get(user=user), ExamplaryActor)


@receiver(signals.session_completed)
def keep(
    sender: type[ExamplarySession], session: ExamplarySession, outputs: Outputs, **kwargs: Any
) -> None:
    if isinstance(outputs, GenerateExamOutputs):
        assert_type(outputs.exam_id, str)
    if isinstance(outputs, GenerateQuestionOutputs):
        assert_type(outputs.question, dict[str, Any] | str)
    if isinstance(outputs, EditRubricOutputs):
        assert_type(outputs.rubric, dict[str, Any])
    assert_type(outputs.raw, Mapping[str, Any])


def call_client() -> None:
    with ExamplaryClient("examp_1", deadline=5.0) as client:
        assert_type(client.create_exam("Fractions", permissions={"user_1": "editor"}), Exam)
        assert_type(client.get_embed_session("embed_session_1"), EmbedSession)
        assert_type(client.get_permission("exam_1", "user_1"), Permission | None)
        assert_type(client.download_exam_qti3("exam_1"), bytes)


def catch(error: ExamplaryError) -> None:
    if isinstance(error, ExamplaryAPIError):
        assert_type(error.status_code, int)
    if isinstance(error, ExamplaryRateLimitError):
        assert_type(error.retry_after, float | None)


def render(request: HttpRequest) -> None:
    assert_type(embeds.render_embed(request, "generate-exam", next="/"), SafeString)
    assert_type(embeds.render_script(), SafeString)
    assert_type(embeds.launch_url(request, GenerateExam()), str)
    assert_type(get_flow("generate-exam", {}), Flow)
    assert_type(conf.EXAMPLARY_RETENTION, int | None)


def describe(user: User) -> ActorProfile:
    return ActorProfile(email=user.email, name=user.get_full_name(), role="student")


def use_fake(client: Client) -> None:
    with fake_examplary() as fake:
        assert_type(fake, FakeExamplary)
        assert_type(open_embed(client, fake, "/").complete(), dict[str, Any])


class Tests(ExamplaryTestMixin, TestCase):
    def use_mixin(self) -> None:
        assert_type(self.fake, FakeExamplary)
        assert_type(self.open_embed("/exams/new/"), Embed)
