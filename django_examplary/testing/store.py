"""The content of a fake as JSON, for ``--seed`` and ``--store``."""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.messages import Request, Response
from django_examplary.testing.rules import Json
from django_examplary.testing.sessions import Session
from django_examplary.testing.workspace import Workspace


class StoreError(ValueError):
    """The file doesn't contain the content of a fake."""


def load(fake: FakeExamplary, path: Path) -> None:
    """Add the content of a JSON file to a fake.

    The file contains an object with any of ``users``, ``groups``, ``exams``, ``practiceSpaces``,
    ``sourceMaterials`` and ``permissions``, each an array of API objects.
    ``workspaces`` is an array of such objects, each with an ``apiKey``, for further workspaces.
    Raise StoreError, with the file and the reason, if the structure differs.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        _add(fake, content)
        for each in content.get("workspaces", []):
            _add(fake.add_workspace(each["apiKey"]), each)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: {error}") from error
    except KeyError as error:
        raise StoreError(f"{path}: {error} is missing.") from error
    except (AttributeError, TypeError) as error:
        raise StoreError(f"{path}: a value has the wrong type ({error}).") from error


def _add(workspace: Workspace, content: Json) -> None:
    unknown = sorted(content.keys() - _content(workspace).keys() - {"apiKey", "workspaces"})
    if unknown:
        msg = f"{unknown[0]} is unknown."
        raise ValueError(msg)
    if "ownerId" in content:
        # A stored workspace, whose owner is among its users.
        workspace.users.clear()
        workspace.owner_id, workspace.org_id = content["ownerId"], content["orgId"]
    for user in content.get("users", []):
        added = workspace.add_user(user["email"], user_id=user.get("id", ""))
        added |= user
    for group in content.get("groups", []):
        workspace.add_group(**_with_id("group_id", group))
    for exam in content.get("exams", []):
        workspace.add_exam(**_with_id("exam_id", exam))
    for space in content.get("practiceSpaces", []):
        workspace.add_practice_space(**_with_id("space_id", space))
    for material in content.get("sourceMaterials", []):
        workspace.add_source_material(**_with_id("material_id", material))
    for permission in content.get("permissions", []):
        granted = workspace.grant(permission["resource"], permission["actor"], permission["role"])
        granted |= {name: permission[name] for name in _TIMES if name in permission}
    for session in content.get("sessions", []):
        times = {name: datetime.fromisoformat(session[name]) for name in _SESSION_TIMES}
        workspace.sessions[session["id"]] = Session(**session | times)
    workspace.exports |= content.get("exports", {})
    workspace.material_reads += Counter(content.get("materialReads", {}))


_TIMES = ("createdAt", "updatedAt")
_SESSION_TIMES = ("created_at", "expires_at")


def _with_id(name: str, row: Json) -> dict[str, Any]:
    """Return an object as the arguments of an ``add_…`` method, with the id as ``name``."""
    return {name if key == "id" else key: value for key, value in row.items()}


def save(fake: FakeExamplary, path: Path) -> None:
    """Write the content of a fake, without the request log, so that ``load`` can restore it."""
    first, *others = fake.workspaces
    content = _content(first)
    content["workspaces"] = [{"apiKey": each.api_key, **_content(each)} for each in others]
    # Replace the file atomically, so that it is never incomplete.
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(unfinished, path)


def _content(workspace: Workspace) -> Json:
    with workspace.lock:
        return {
            "ownerId": workspace.owner_id,
            "orgId": workspace.org_id,
            "users": list(workspace.users.values()),
            "groups": list(workspace.groups.values()),
            "exams": list(workspace.exams.values()),
            "practiceSpaces": list(workspace.practice_spaces.values()),
            "sourceMaterials": list(workspace.source_materials.values()),
            "permissions": [
                permission | {"resource": resource, "actor": actor}
                for resource, permissions in workspace.permissions.items()
                for actor, permission in permissions.items()
            ],
            "sessions": [
                dataclasses.asdict(session)
                | {name: getattr(session, name).isoformat() for name in _SESSION_TIMES}
                for session in workspace.sessions.values()
            ],
            "exports": workspace.exports,
            "materialReads": workspace.material_reads,
        }


@dataclass(kw_only=True, eq=False, repr=False)
class StoringExamplary(FakeExamplary):
    """A fake that writes its content to ``path`` after every request that may change it."""

    path: Path

    def handle(self, request: Request) -> Response:
        response = super().handle(request)
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            with self.lock:
                save(self, self.path)
        return response


def open_fake(seed: Path | None, store: Path | None, **options: Any) -> FakeExamplary:
    """Return a fake with the content of the store if that file exists, otherwise of the seed.

    ``options`` are those of FakeExamplary. With a store the fake keeps its content there. Raise
    StoreError for a file with another structure, and OSError for a store that can't be written.
    """
    if store is None:
        fake = FakeExamplary(**options)
    else:
        fake = StoringExamplary(path=store, **options)
    if store is not None and store.exists():
        load(fake, store)
    elif seed is not None:
        load(fake, seed)
    if store is not None:
        # Raise an error for an unwritable path now, not at the first request.
        save(fake, store)
    return fake
