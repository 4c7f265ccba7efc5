"""Serve the pages of ``embedUrl`` (section 8); the URLs below it are invented."""

from __future__ import annotations

from django_examplary.testing import pages
from django_examplary.testing.messages import Request, Response, html_response, json_response
from django_examplary.testing.routes import Routes
from django_examplary.testing.rules import Refusal
from django_examplary.testing.sessions import FLOWS, Session
from django_examplary.testing.workspace import Workspace

routes = Routes()


@routes.page("GET", "/embeds/{token}")
def show(workspace: Workspace, request: Request, token: str) -> Response:
    session = workspace.session_by_token(token)
    if session is None:
        status, page = 404, pages.message("ended", request.headers.get("Accept-Language", ""))
    else:
        status, reason = _refusal(workspace, session)
        if reason:
            page = pages.message(reason, session.locale)
        else:
            content = workspace.content_of(session)
            page = pages.embed(session, actor=workspace.users[session.actor], content=content)
    return html_response(status, page, workspace.embed_headers)


def _refusal(workspace: Workspace, session: Session) -> tuple[int, str]:
    """Return the status code of a session's page, and the name of its text if there is no form."""
    if not workspace.is_open(session):
        return workspace.gone_status, "ended"
    if session.status != "pending":
        return 200, "finished"
    if session.actor not in workspace.users:
        return 403, "no-access"
    flow = FLOWS[session.flow]
    resource = session.presets.get(flow.content or "")
    may_use = (
        not resource
        or not workspace.check_permissions
        or flow.allows(workspace.role_of(session.actor, resource))
    )
    return (200, "") if may_use else (403, "no-access")


@routes.page("POST", "/embeds/{token}/{action}")
def act(workspace: Workspace, request: Request, token: str, action: str) -> Response:
    """Save, complete or cancel; return the next step of the page."""
    session = workspace.session_by_token(token)
    if session is None or action not in ("save", "complete", "cancel"):
        raise Refusal(404, "Not found.")
    answers = request.json
    try:
        workspace.save(session.id, answers if isinstance(answers, dict) else {})
        if action == "complete":
            workspace.complete(session.id)
        elif action == "cancel":
            workspace.cancel(session.id)
    except ValueError as error:
        raise Refusal(409, str(error)) from None
    return json_response(
        200,
        {
            "status": session.status,
            "outputs": session.outputs,
            "targetOrigin": session.allowed_origin,
            "redirect": session.redirect_url(keep_query=workspace.keep_return_query),
        },
    )
