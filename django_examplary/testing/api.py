"""The endpoints of the API, as the contract and the OpenAPI document describe them."""

from __future__ import annotations

from django_examplary.testing import content
from django_examplary.testing.messages import Request, Response, json_response
from django_examplary.testing.routes import Routes
from django_examplary.testing.rules import (
    Json,
    Refusal,
    check,
    document,
    known_presets,
)
from django_examplary.testing.workspace import Workspace, new_token

# Both are quoted literally in section 7.
ACTOR_IS_OWNER = (
    "Actor ID cannot be the same as the requesting user. "
    "Create a new user in the workspace and use its ID."
)
ACTOR_IS_UNKNOWN = "Actor with the given ID does not exist as a user within your workspace."

routes = Routes()


def _get_or_404(objects: dict[str, Json], object_id: str) -> Json:
    try:
        return objects[object_id]
    except KeyError:
        raise Refusal(404, "Not found.") from None


# Users (section 5).


@routes.api("POST", "/users")
def create_user(workspace: Workspace, request: Request) -> Response:
    body = check("POST", "/users", request.json)
    existing = workspace.find_user(body["email"])
    if existing is None or workspace.duplicates == "create":
        user = workspace.add_user(
            body["email"], name=body.get("name", ""), role=body.get("role", "teacher")
        )
        return workspace.succeed(user)
    if workspace.duplicates == "refuse":
        raise Refusal(workspace.duplicate_status, "A user with this e-mail address already exists.")
    return workspace.succeed(existing)


@routes.api("GET", "/me")
def get_me(workspace: Workspace, request: Request) -> Response:
    return workspace.succeed(workspace.users[workspace.owner_id])


@routes.api("PATCH", "/me")
def update_me(workspace: Workspace, request: Request) -> Response:
    body = check("PATCH", "/me", request.json)
    owner = workspace.users[workspace.owner_id]
    owner["name"] = body.get("name", owner["name"])
    return workspace.succeed(owner)


# Embed sessions (section 7).


@routes.api("POST", "/embed-sessions")
def create_embed_session(workspace: Workspace, request: Request) -> Response:
    if not workspace.approved:
        raise Refusal(
            workspace.unapproved_status, "Your workspace is not approved for embed sessions."
        )
    body = check("POST", "/embed-sessions", request.json)
    if body["actor"] == workspace.owner_id:
        raise Refusal(400, ACTOR_IS_OWNER)
    if body["actor"] not in workspace.users:
        raise Refusal(400, ACTOR_IS_UNKNOWN)
    presets, theme = body.get("presets", {}), body.get("theme", {})
    if workspace.refuse_unknown_presets:
        known = known_presets(body)
        # The document declares none for mark-answer.
        unknown = sorted(presets.keys() - known) if known else []
        if unknown:
            raise Refusal(400, f"presets.{unknown[0]} is unknown.")
    if workspace.refuse_locale and "locale" in theme:
        raise Refusal(400, "theme.locale is not supported.")
    if body["flow"] == "take-exam" and not workspace.staging:
        raise Refusal(workspace.take_exam_status, workspace.take_exam_message)
    session = workspace.add_session(
        body["flow"],
        body["actor"],
        presets=presets,
        theme=theme,
        metadata=body.get("metadata", {}),
        return_url=body.get("returnUrl"),
        allowed_origin=body.get("allowedOrigin"),
    )
    return workspace.succeed(session.as_json())


@routes.api("GET", "/embed-sessions/{id}")
def get_embed_session(workspace: Workspace, request: Request, session_id: str) -> Response:
    session = workspace.sessions.get(session_id)
    if session is None:
        raise Refusal(404, "Not found.")
    if workspace.is_open(session):
        body = session.as_json()
        if session.status == "completed":
            session.reads += 1
            if session.reads <= workspace.reads_before_outputs:
                body["outputs"] = {}
        return json_response(200, body)
    if workspace.expired_status is not None and not session.revoked:
        return json_response(200, session.as_json() | {"status": workspace.expired_status})
    raise Refusal(workspace.gone_status, "Not found.")


@routes.api("DELETE", "/embed-sessions/{id}")
def delete_embed_session(workspace: Workspace, request: Request, session_id: str) -> Response:
    session = workspace.sessions.get(session_id)
    if session is None:
        raise Refusal(404, "Not found.")
    if not workspace.is_open(session):
        raise Refusal(workspace.gone_status, "Not found.")
    if session.status != "pending" and workspace.delete_ended_status is not None:
        raise Refusal(workspace.delete_ended_status, "The session has ended.")
    session.revoked = True
    return workspace.succeed({}, status=204)


# Exams (section 10).


def _check_grants(workspace: Workspace, body: Json) -> None:
    for number, grant in enumerate(body.get("permissions") or []):
        if not workspace.knows_actor(grant["actor"]):
            raise Refusal(400, f"permissions[{number}].actor does not exist in your workspace.")


@routes.api("POST", "/exams")
def create_exam(workspace: Workspace, request: Request) -> Response:
    body = dict(check("POST", "/exams", request.json))
    _check_grants(workspace, body)
    # Ids and versions of questions are assigned, never accepted.
    body["questions"] = [
        {name: value for name, value in question.items() if name not in ("id", "v")}
        for question in body.get("questions") or []
    ]
    return workspace.succeed(workspace.add_exam(**body))


@routes.api("GET", "/exams/{examId}")
def get_exam(workspace: Workspace, request: Request, exam_id: str) -> Response:
    return json_response(200, _get_or_404(workspace.exams, exam_id))


@routes.api("DELETE", "/exams/{examId}")
def delete_exam(workspace: Workspace, request: Request, exam_id: str) -> Response:
    _get_or_404(workspace.exams, exam_id)
    del workspace.exams[exam_id]
    return workspace.succeed({}, status=204)


@routes.api("POST", "/exams/{examId}/export/qti3-zip")
def export_exam(workspace: Workspace, request: Request, exam_id: str) -> Response:
    exam = _get_or_404(workspace.exams, exam_id)
    token = new_token(32)
    workspace.exports[token] = exam["id"]
    return workspace.succeed({"url": f"{workspace.base_url}/exports/{token}.zip"})


@routes.page("GET", "/exports/{token}.zip")
def download_export(workspace: Workspace, request: Request, token: str) -> Response:
    exam = _get_or_404(workspace.exams, workspace.exports.get(token, ""))
    return Response(200, {"Content-Type": "application/zip"}, content.qti_package(exam))


# Permissions (section 6).


def _check_resource(workspace: Workspace, resource: str) -> dict[str, Json]:
    permissions = workspace.permissions.get(resource)
    # The documented refusal is 403, so it is also the response for a missing resource.
    if permissions is None or resource in workspace.forbidden:
        raise Refusal(403, "You do not have access to this resource.")
    return permissions


@routes.api("GET", "/permissions/{resource}")
def list_permissions(workspace: Workspace, request: Request, resource: str) -> Response:
    permissions = _check_resource(workspace, resource)
    return workspace.succeed_with_list(request, list(permissions.values()))


@routes.api("POST", "/permissions/{resource}")
def create_permission(workspace: Workspace, request: Request, resource: str) -> Response:
    _check_resource(workspace, resource)
    body = check("POST", "/permissions/{}", request.json)
    if "email" in body:
        user = workspace.find_user(body["email"]) or workspace.add_user(
            body["email"], role=workspace.permission_user_role
        )
        actor = user["id"]
    else:
        actor = body["actor"]
        if not workspace.knows_actor(actor):
            raise Refusal(400, ACTOR_IS_UNKNOWN)
    return json_response(201, workspace.grant(resource, actor, body["role"]))


@routes.api("GET", "/permissions/{resource}/{actor}")
def get_permission(workspace: Workspace, request: Request, resource: str, actor: str) -> Response:
    return json_response(200, _get_or_404(_check_resource(workspace, resource), actor))


# Practice spaces (section 9.7).


@routes.api("POST", "/practice-spaces")
def create_practice_space(workspace: Workspace, request: Request) -> Response:
    body = check("POST", "/practice-spaces", request.json)
    _check_grants(workspace, body)
    return workspace.succeed(workspace.add_practice_space(**body))


# Source materials (section 12).


@routes.api("GET", "/source-materials")
def list_source_materials(workspace: Workspace, request: Request) -> Response:
    external_id = request.query.get("externalId")
    materials = [
        material
        for material in workspace.source_materials.values()
        if external_id is None or material.get("externalId") == external_id
    ]
    return workspace.succeed_with_list(request, materials)


@routes.api("POST", "/source-materials")
def create_source_material(workspace: Workspace, request: Request) -> Response:
    body = check("POST", "/source-materials", request.json)
    fields = {name: body[name] for name in ("type", "name", "externalId") if name in body}
    return json_response(201, workspace.add_source_material(body["url"], **fields))


@routes.api("GET", "/source-materials/{id}")
def get_source_material(workspace: Workspace, request: Request, material_id: str) -> Response:
    material = _get_or_404(workspace.source_materials, material_id)
    workspace.material_reads[material_id] += 1
    if workspace.material_reads[material_id] > workspace.processing_polls:
        material["processingStatus"] = "completed"
    return json_response(200, material)


@routes.api("POST", "/source-materials/{id}/slice")
def slice_source_material(workspace: Workspace, request: Request, material_id: str) -> Response:
    material = _get_or_404(workspace.source_materials, material_id)
    body = check("POST", "/source-materials/{}/slice", request.json)
    if body["startPage"] > body["endPage"]:
        raise Refusal(400, "endPage must not come before startPage.")
    fields = {"name": body["name"]} if "name" in body else {}
    piece = workspace.add_source_material(
        material["originalSource"]["url"], parentSourceMaterialId=material_id, **fields
    )
    return json_response(201, piece)


# Reference data.


@routes.api("GET", "/student-levels")
def list_student_levels(workspace: Workspace, request: Request) -> Response:
    return workspace.succeed(content.STUDENT_LEVELS)


@routes.api("GET", "/taxonomies")
def list_taxonomies(workspace: Workspace, request: Request) -> Response:
    return workspace.succeed(content.TAXONOMIES)


@routes.api("GET", "/question-types")
def list_question_types(workspace: Workspace, request: Request) -> Response:
    return workspace.succeed_with_list(request, content.QUESTION_TYPES)


@routes.api("GET", "/question-types/public", needs_key=False)
def list_public_question_types(workspace: Workspace, request: Request) -> Response:
    public = [{**kind, "trusted": True} for kind in content.QUESTION_TYPES]
    return json_response(200, public)


@routes.api("GET", "/openapi", needs_key=False)
def get_openapi(workspace: Workspace, request: Request) -> Response:
    return json_response(200, document().content)
