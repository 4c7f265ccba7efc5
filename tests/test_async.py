"""The services in async code, and the views under ASGI with a slow API."""

from __future__ import annotations

import asyncio
import http.client
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse
from django.template import RequestContext, Template
from django.test import Client
from django.urls import include, path, reverse

from django_examplary import services, signals
from django_examplary.exceptions import ExamplaryAuthenticationError, ExamplaryNotProvisionedError
from django_examplary.flows import EditExam, GenerateExam
from django_examplary.launch import Launch
from django_examplary.models import ExamplaryActor, ExamplarySession
from tests.asgi import serve_site
from tests.processes import PATIENCE, wait_for

ORIGIN = "https://school.example"
Status = ExamplarySession.Status


def sync_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(User.objects.count()))


async def async_page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(await User.objects.acount()))


async def opening_page(request: HttpRequest) -> HttpResponse:
    session = await services.aopen_session(
        await request.auser(), GenerateExam(), origin=ORIGIN, reuse=False
    )
    return HttpResponse(session.status)


async def embedding_page(request: HttpRequest) -> HttpResponse:
    request.user = await request.auser()
    tag = Template('{% load examplary %}{% examplary_embed "generate-exam" %}')
    return HttpResponse(tag.render(RequestContext(request)))


urlpatterns = [
    path("embedding/", embedding_page),
    path("sync/", sync_page),
    path("async/", async_page),
    path("opening/", opening_page),
    path("examplary/", include("django_examplary.urls")),
]


# One suite for both kinds of services


class Services:
    """Calls the services by their names, as sync or async code."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def __getattr__(self, name: str) -> Any:
        service = getattr(services, self._prefix + name)
        return async_to_sync(service) if self._prefix else service


@pytest.fixture(params=["", "a"], ids=["sync", "async"])
def either(request) -> Services:
    return Services(request.param)


def test_provision_actor(either, fake, teacher):
    actor = either.provision_actor(teacher, role="teacher")

    assert actor.examplary_id in fake.users
    assert either.provision_actor(teacher) == actor
    assert len(fake.calls()) == 1


def test_provision_actors(either, fake, teacher, student):
    result = either.provision_actors(User.objects.all(), rate=0)

    assert result.provisioned == 2
    assert ExamplaryActor.objects.filter(state="active").count() == 2


def test_link_actor(either, fake, teacher):
    known = fake.add_user("teacher@school.example")

    assert either.link_actor(teacher, known["id"]).examplary_id == known["id"]


@pytest.mark.parametrize(
    ("finish", "status", "signal"),
    [
        ("complete", Status.COMPLETED, signals.session_completed),
        ("cancel", Status.CANCELLED, signals.session_cancelled),
    ],
)
def test_open_and_verify_session(either, fake, teacher, finish, status, signal):
    announced = []

    def receive(session, **kwargs):
        announced.append(session)

    signal.connect(receive)
    try:
        session = either.open_session(teacher, GenerateExam(subject="Art"), origin=ORIGIN)
        getattr(fake, finish)(session.examplary_id)
        session = either.verify_session(session)
    finally:
        signal.disconnect(receive)

    assert session.status == status
    assert announced == [session]


def test_find_remote_actor(either, fake, teacher):
    known = fake.add_user("teacher@school.example")

    assert either.find_remote_actor(teacher) == known["id"]


def test_access(either, fake, teacher):
    exam_id = fake.add_exam()["id"]

    assert not either.check_access(teacher, exam_id, "editor")
    either.grant_access(teacher, exam_id, "editor")
    assert either.check_access(teacher, exam_id, "editor")


def test_close_session(either, fake, teacher):
    flow = EditExam(exam_id=fake.add_exam()["id"])
    session = either.open_session(teacher, flow, origin=ORIGIN, grant_access=True)

    assert either.close_session(session).status == Status.CLOSED
    assert fake.sessions[session.examplary_id].revoked


def test_revoke_session(either, fake, teacher):
    session = either.open_session(teacher, GenerateExam(), origin=ORIGIN)

    assert either.revoke_session(session).status == Status.REVOKED
    assert fake.sessions[session.examplary_id].revoked


def test_revoke_and_sweep_sessions(either, fake, teacher):
    session = either.open_session(teacher, GenerateExam(), origin=ORIGIN)

    assert either.revoke_sessions(session.actor) == [session]
    assert either.sweep_sessions().revoked == 1


def test_erase_user(either, fake, teacher):
    actor = either.provision_actor(teacher)

    assert either.erase_user(teacher).examplary_id == actor.examplary_id
    assert not ExamplaryActor.objects.exists()


def test_errors(either, fake, teacher):
    fake.fail(status=401)

    with pytest.raises(ExamplaryAuthenticationError):
        either.provision_actor(teacher)
    teacher.is_active = False
    with pytest.raises(ExamplaryNotProvisionedError):
        either.provision_actor(teacher)


def test_transactions_are_refused(either, fake, teacher):
    with transaction.atomic(), pytest.raises(TransactionManagementError):
        either.provision_actor(teacher)


def test_every_service_that_waits_has_an_async_twin():
    functions = {name for name in services.__all__ if name.islower()}
    twins = {name for name in functions if name[0] == "a" and name[1:] in functions}

    at_once = {"get_client", "select_users", "unprovisioned"}
    assert {name[1:] for name in twins} == functions - twins - at_once
    for name in twins:
        twin, service = getattr(services, name), getattr(services, name[1:])
        assert iscoroutinefunction(twin)
        assert twin.__doc__ == service.__doc__
        assert inspect.signature(twin) == inspect.signature(service)


@pytest.mark.django_db(transaction=True)
def test_cancelled_task_finishes_its_work(fake, teacher):
    answer = threading.Event()
    fake.fail("POST", "/users", edit=lambda body: answer.wait(PATIENCE) and body)

    async def give_up() -> ExamplaryActor:
        task = asyncio.create_task(services.aprovision_actor(teacher))
        while not fake.calls("POST", "/users"):
            await asyncio.sleep(0.01)
        task.cancel()
        # The API answers only after the task has ended.
        with pytest.raises(asyncio.CancelledError):
            await task
        answer.set()
        try:
            return await ExamplaryActor.objects.aget()
        finally:
            await sync_to_async(connections.close_all)()

    actor = asyncio.run(give_up())

    assert actor.examplary_id in fake.users


# Under ASGI


def get(port: int, path: str, cookie: str = "") -> int:
    """Return the status code."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", path, headers={"Cookie": cookie, "Sec-Fetch-Dest": "iframe"})
    answer = connection.getresponse()
    connection.close()
    return answer.status


def sign_in(number: int) -> tuple[User, str]:
    user = User.objects.create_user(f"user-{number}", f"user-{number}@school.example")
    client = Client()
    client.force_login(user)
    return user, f"{settings.SESSION_COOKIE_NAME}={client.cookies['sessionid'].value}"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["launch", "async view"])
def test_slow_api_does_not_delay_other_requests(kind, fake, settings):
    settings.ROOT_URLCONF = __name__
    settings.EXAMPLARY_TIMEOUT = settings.EXAMPLARY_DEADLINE = PATIENCE
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 12
    answer = threading.Event()
    fake.fail("POST", "/users", times=12, edit=lambda body: answer.wait(PATIENCE) and body)
    slow = []
    for number in range(12):
        user, cookie = sign_in(number)
        token = Launch(user_id=str(user.pk), flow=GenerateExam(), origin="http://127.0.0.1").sign()
        launch = reverse("django_examplary:launch", args=[token])
        slow.append((launch if kind == "launch" else "/opening/", cookie))

    with serve_site() as port, ThreadPoolExecutor(len(slow)) as pool:
        get(port, "/sync/")
        waiting = [pool.submit(get, port, path, cookie) for path, cookie in slow]
        try:
            # All launches are still waiting.
            wait_for(lambda: len(fake.calls("POST", "/users")) == 12)
            others = [get(port, page) for page in ("/sync/", "/async/") for _ in range(4)]
            assert not any(each.done() for each in waiting)
        finally:
            answer.set()
        answers = [each.result() for each in waiting]

    assert set(others) == {200}
    assert set(answers) == {302 if kind == "launch" else 200}
    assert len(fake.calls("POST", "/users")) == len(fake.calls("POST", "/embed-sessions")) == 12


@pytest.mark.django_db(transaction=True)
def test_launches_of_a_process_use_few_database_connections(fake, settings):
    checks, may_continue = [], threading.Event()

    def authorize(request, launch):
        checks.append(User.objects.count())
        return may_continue.wait(PATIENCE)

    settings.EXAMPLARY_AUTHORIZE = authorize
    settings.EXAMPLARY_CONCURRENT_LAUNCHES = 16
    addresses = []
    for number in range(9):
        user, cookie = sign_in(number)
        token = Launch(user_id=str(user.pk), flow=GenerateExam(), origin="http://127.0.0.1").sign()
        addresses.append((reverse("django_examplary:launch", args=[token]), cookie))

    with serve_site() as port, ThreadPoolExecutor(len(addresses)) as pool:
        working = [pool.submit(get, port, *address) for address in addresses[:8]]
        try:
            wait_for(lambda: len(checks) == 8)
            refused = get(port, *addresses[8])
            assert not any(each.done() for each in working)
        finally:
            may_continue.set()
        answers = [each.result() for each in working]
        later = get(port, *addresses[8])

    assert (refused, set(answers), later) == (409, {302}, 302)
    assert len(checks) == 9


@pytest.mark.django_db(transaction=True)
def test_tag_in_an_async_view(settings, teacher, async_client):
    settings.ROOT_URLCONF = __name__
    async_client.force_login(teacher)
    answer = async_to_sync(async_client.get)("/embedding/")
    assert "<examplary-embed" in answer.content.decode()
