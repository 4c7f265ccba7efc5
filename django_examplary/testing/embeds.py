"""What happens behind ``embedUrl`` (section 8); the addresses below it are the fake's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_examplary.testing import pages
from django_examplary.testing.messages import Request, Response, html_response, json_response
from django_examplary.testing.routes import Routes
from django_examplary.testing.rules import Refusal
from django_examplary.testing.sessions import FLOWS, Session

if TYPE_CHECKING:
    from django_examplary.testing.fake import FakeExamplary

routes = Routes()


def _session(fake: FakeExamplary, token: str) -> Session:
    for session in fake.sessions.values():
        if session.token == token:
            if fake.is_open(session):
                return session
            raise Refusal(fake.gone_status, pages.ENDED)
    raise Refusal(404, pages.ENDED)


@routes.page("GET", "/embeds/{token}")
def show(fake: FakeExamplary, request: Request, token: str) -> Response:
    session = _session(fake, token)
    if session.status != "pending":
        return html_response(200, pages.message(pages.FINISHED), fake.embed_headers)
    if session.actor not in fake.users:
        raise Refusal(403, pages.NO_ACCESS)
    flow = FLOWS[session.flow]
    content_id = session.presets.get(flow.content or "", "")
    if content_id and fake.check_permissions:
        role = fake.permissions.get(content_id, {}).get(session.actor, {}).get("role")
        if not flow.allows(role):
            raise Refusal(403, pages.NO_ACCESS)
    page = pages.embed(
        session,
        actor=fake.users[session.actor],
        content=fake.exams.get(content_id) or fake.practice_spaces.get(content_id) or {},
        misbehaviour=request.query.get("misbehave", ""),
    )
    return html_response(200, page, fake.embed_headers)


@routes.page("POST", "/embeds/{token}/{action}")
def act(fake: FakeExamplary, request: Request, token: str, action: str) -> Response:
    """Save, complete or cancel; answer what the page then has to do."""
    session = _session(fake, token)
    answers = request.json
    try:
        fake.save(session.id, answers if isinstance(answers, dict) else {})
        if action == "complete":
            fake.complete(session.id)
        elif action == "cancel":
            fake.cancel(session.id)
        elif action != "save":
            raise Refusal(404, "Not found.")
    except ValueError as error:
        raise Refusal(409, str(error)) from None
    return json_response(
        200,
        {
            "status": session.status,
            "outputs": session.outputs,
            "targetOrigin": session.allowed_origin,
            "redirect": session.redirect_url(keep_query=fake.keep_return_query),
        },
    )


@routes.page("GET", "/hostile")
def hostile(fake: FakeExamplary, request: Request) -> Response:
    """A page that has no business posting results, and does (section 17, 9)."""
    return html_response(200, pages.hostile(request.query.get("target", "*")))
