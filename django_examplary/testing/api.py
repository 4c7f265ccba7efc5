"""The endpoints of the API, as the contract and the OpenAPI document describe them."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from django_examplary.testing import content
from django_examplary.testing.messages import JSON_TYPE, Request, Response, json_response
from django_examplary.testing.routes import Routes
from django_examplary.testing.rules import (
    EMBED_SESSION,
    EXAM,
    ME,
    PERMISSION_BY_EMAIL,
    PERMISSION_BY_ID,
    PRACTICE_SPACE,
    PRESETS,
    SLICE,
    SOURCE_MATERIAL,
    THEME,
    USER,
    Json,
    Refusal,
    check,
)
from django_examplary.testing.sessions import FLOWS

if TYPE_CHECKING:
    from django_examplary.testing.fake import FakeExamplary

# Both are quoted word for word in section 7.
ACTOR_IS_OWNER = (
    "Actor ID cannot be the same as the requesting user. "
    "Create a new user in the workspace and use its ID."
)
ACTOR_IS_UNKNOWN = "Actor with the given ID does not exist as a user within your workspace."

routes = Routes()


def _known(objects: dict[str, Json], object_id: str) -> Json:
    try:
        return objects[object_id]
    except KeyError:
        raise Refusal(404, "Not found.") from None


# Users (section 5).


@routes.api("POST", "/users")
def create_user(fake: FakeExamplary, request: Request) -> Response:
    body = check(request.json, USER, required=["email"])
    existing = fake.find_user(body["email"])
    if existing is None or fake.duplicates == "create":
        user = fake.add_user(
            body["email"], name=body.get("name", ""), role=body.get("role", "teacher")
        )
        return fake.succeed(user)
    if fake.duplicates == "refuse":
        raise Refusal(fake.duplicate_status, "A user with this e-mail address already exists.")
    return fake.succeed(existing)


@routes.api("GET", "/me")
def get_me(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(fake.users[fake.owner_id])


@routes.api("PATCH", "/me")
def update_me(fake: FakeExamplary, request: Request) -> Response:
    body = check(request.json, ME)
    owner = fake.users[fake.owner_id]
    owner["name"] = body.get("name", owner["name"])
    return fake.succeed(owner)


# Embed sessions (section 7).


def _check_actor(fake: FakeExamplary, actor: str) -> None:
    # The prefix comes first, and is among the rules of the body.
    if actor == fake.owner_id:
        raise Refusal(400, ACTOR_IS_OWNER)
    if actor not in fake.users:
        raise Refusal(400, ACTOR_IS_UNKNOWN)


def _check_presets(fake: FakeExamplary, flow: str, presets: Json) -> None:
    rules = PRESETS[flow]
    needed = FLOWS[flow]
    required = [needed.content] if needed.content and needed.content_required else []
    check(presets, rules, required=required, within="presets.")
    unknown = sorted(presets.keys() - rules.keys()) if rules else []
    if unknown and fake.refuse_unknown_presets:
        raise Refusal(400, f"presets.{unknown[0]} is unknown.")


@routes.api("POST", "/embed-sessions")
def create_embed_session(fake: FakeExamplary, request: Request) -> Response:
    if not fake.approved:
        raise Refusal(403, "Your workspace is not approved for embed sessions.")
    body = check(request.json, EMBED_SESSION, required=["flow", "actor"])
    _check_actor(fake, body["actor"])
    _check_presets(fake, body["flow"], body.get("presets", {}))
    check(body.get("theme", {}), THEME, within="theme.")
    if body["flow"] == "take-exam" and not fake.staging:
        raise Refusal(fake.take_exam_status, fake.take_exam_message)
    session = fake.add_session(
        body["flow"],
        body["actor"],
        presets=body.get("presets", {}),
        theme=body.get("theme", {}),
        metadata=body.get("metadata", {}),
        return_url=body.get("returnUrl"),
        allowed_origin=body.get("allowedOrigin"),
    )
    return fake.succeed(session.as_json())


@routes.api("GET", "/embed-sessions/{id}")
def get_embed_session(fake: FakeExamplary, request: Request, session_id: str) -> Response:
    session = fake.sessions.get(session_id)
    if session is None:
        raise Refusal(404, "Not found.")
    if fake.is_open(session):
        return json_response(200, session.as_json())
    if fake.expired_status is not None and not session.revoked:
        return json_response(200, session.as_json() | {"status": fake.expired_status})
    raise Refusal(fake.gone_status, "Not found.")


@routes.api("DELETE", "/embed-sessions/{id}")
def delete_embed_session(fake: FakeExamplary, request: Request, session_id: str) -> Response:
    session = fake.sessions.get(session_id)
    if session is None:
        raise Refusal(404, "Not found.")
    if not fake.is_open(session):
        raise Refusal(fake.gone_status, "Not found.")
    session.revoked = True
    return fake.succeed({}, status=204)


# Exams (section 10).


@routes.api("POST", "/exams")
def create_exam(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(fake.add_exam(**check(request.json, EXAM, required=["name"])))


@routes.api("GET", "/exams/{examId}")
def get_exam(fake: FakeExamplary, request: Request, exam_id: str) -> Response:
    return json_response(200, _known(fake.exams, exam_id))


@routes.api("DELETE", "/exams/{examId}")
def delete_exam(fake: FakeExamplary, request: Request, exam_id: str) -> Response:
    _known(fake.exams, exam_id)
    del fake.exams[exam_id]
    return fake.succeed({}, status=204)


@routes.api("POST", "/exams/{examId}/export/qti3-zip")
def export_exam(fake: FakeExamplary, request: Request, exam_id: str) -> Response:
    exam = _known(fake.exams, exam_id)
    token = fake.new_token(32)
    fake.exports[token] = content.qti_package(exam)
    return fake.succeed({"url": f"{fake.base_url}/exports/{token}.zip"})


@routes.page("GET", "/exports/{token}.zip")
def download_export(fake: FakeExamplary, request: Request, token: str) -> Response:
    try:
        package = fake.exports[token]
    except KeyError:
        raise Refusal(404, "Not found.") from None
    return Response(200, {"Content-Type": "application/zip"}, package)


# Permissions (section 6).


def _check_resource(fake: FakeExamplary, resource: str) -> dict[str, Json]:
    permissions = fake.permissions.get(resource)
    # 403 is the one refusal that is documented, so it serves for what does not exist too.
    if permissions is None or resource in fake.forbidden:
        raise Refusal(403, "You do not have access to this resource.")
    return permissions


@routes.api("GET", "/permissions/{resource}")
def list_permissions(fake: FakeExamplary, request: Request, resource: str) -> Response:
    return json_response(200, list(_check_resource(fake, resource).values()))


@routes.api("POST", "/permissions/{resource}")
def create_permission(fake: FakeExamplary, request: Request, resource: str) -> Response:
    _check_resource(fake, resource)
    body = request.json
    if isinstance(body, dict) and "email" in body:
        check(body, PERMISSION_BY_EMAIL, required=["email", "role"])
        user = fake.find_user(body["email"]) or fake.add_user(
            body["email"], role=fake.permission_user_role
        )
        actor = user["id"]
    else:
        actor = check(body, PERMISSION_BY_ID, required=["actor", "role"])["actor"]
        if actor.startswith("user_") and actor not in fake.users:
            raise Refusal(400, ACTOR_IS_UNKNOWN)
    return json_response(201, fake.grant(resource, actor, body["role"]))


@routes.api("GET", "/permissions/{resource}/{actor}")
def get_permission(fake: FakeExamplary, request: Request, resource: str, actor: str) -> Response:
    return json_response(200, _known(_check_resource(fake, resource), actor))


# Practice spaces (section 9.7).


@routes.api("POST", "/practice-spaces")
def create_practice_space(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(fake.add_practice_space(**check(request.json, PRACTICE_SPACE)))


# Source materials (section 12).


@routes.api("GET", "/source-materials")
def list_source_materials(fake: FakeExamplary, request: Request) -> Response:
    wanted = request.query.get("externalId")
    return json_response(
        200,
        [
            material
            for material in fake.source_materials.values()
            if wanted is None or material.get("externalId") == wanted
        ],
    )


@routes.api("POST", "/source-materials")
def create_source_material(fake: FakeExamplary, request: Request) -> Response:
    body = check(request.json, SOURCE_MATERIAL, required=["url"])
    told = {name: body[name] for name in ("type", "name", "externalId") if name in body}
    return json_response(201, fake.add_source_material(body["url"], **told))


@routes.api("GET", "/source-materials/{id}")
def get_source_material(fake: FakeExamplary, request: Request, material_id: str) -> Response:
    material = _known(fake.source_materials, material_id)
    if len(fake.calls("GET", f"/source-materials/{material_id}")) > fake.processing_polls:
        material["processingStatus"] = "completed"
    return json_response(200, material)


@routes.api("POST", "/source-materials/{id}/slice")
def slice_source_material(fake: FakeExamplary, request: Request, material_id: str) -> Response:
    material = _known(fake.source_materials, material_id)
    body = check(request.json, SLICE, required=["startPage", "endPage"])
    if body["startPage"] > body["endPage"]:
        raise Refusal(400, "endPage must not come before startPage.")
    told = {"name": body["name"]} if "name" in body else {}
    piece = fake.add_source_material(
        material["originalSource"]["url"], parentSourceMaterialId=material_id, **told
    )
    return json_response(201, piece)


# Reference data.


@routes.api("GET", "/student-levels")
def list_student_levels(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(content.STUDENT_LEVELS)


@routes.api("GET", "/taxonomies")
def list_taxonomies(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(content.TAXONOMIES)


@routes.api("GET", "/question-types")
def list_question_types(fake: FakeExamplary, request: Request) -> Response:
    return fake.succeed(content.QUESTION_TYPES)


@routes.api("GET", "/question-types/public", needs_key=False)
def list_public_question_types(fake: FakeExamplary, request: Request) -> Response:
    return json_response(200, content.QUESTION_TYPES)


@routes.api("GET", "/openapi", needs_key=False)
def get_openapi(fake: FakeExamplary, request: Request) -> Response:
    document = resources.files(__package__).joinpath("openapi.json").read_bytes()
    return Response(200, {"Content-Type": JSON_TYPE}, document)
