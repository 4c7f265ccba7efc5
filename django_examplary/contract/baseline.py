"""Every request that this release sends, and every field that it reads.

The requests are examples at the limits of the rules of this app: the shortest, the longest, and
each value of an enumeration. The tests compare them with the requests of every method of the
client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from django_examplary.contract.examples import ACTOR, QUESTION, sessions, users
from django_examplary.data import (
    CANCELLED,
    COMPLETED,
    CONTENT_ROLES,
    OVER,
    PENDING,
    EmbedSession,
    Exam,
    Permission,
    PracticeSpace,
    RemoteObject,
    SourceMaterial,
    User,
    WorkspaceRole,
)


@dataclass(frozen=True)
class Read:
    """A field of a response. `types` are the JSON types that this app accepts.

    A field that is not `needed` is treated as absent if it has another type. `known` are the values
    that this app distinguishes; with `strict`, other values change its behaviour.
    """

    name: str
    types: frozenset[str] = frozenset({"string"})
    needed: bool = False
    known: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True)
class Resource:
    """An object in responses. `unused` are documented fields that this app does not read."""

    reads: tuple[Read, ...] = ()
    reader: type[RemoteObject] | None = None
    unused: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Call:
    """One operation that this app uses.

    `bodies` are valid examples. `opaque` fields contain data of the site, which is sent unchanged.
    `unused` fields and values are documented, but not sent. The response is a `resource`, or a list
    of `many`. An operation that is not `essential` is a method of the client that no service calls.
    """

    method: str
    path: str
    resource: Resource = Resource()
    many: bool = False
    bodies: tuple[Mapping[str, Any], ...] = ()
    query: tuple[str, ...] = ()
    opaque: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    essential: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


_OBJECT = frozenset({"object"})

#: The outputs of finished sessions, by the flows that read them (section 8).
OUTPUTS = (
    Read("outputs.examId"),
    Read("outputs.question", types=frozenset({"object", "string"})),
    Read("outputs.rubric", types=_OBJECT),
)

_ID = Read("id", needed=True)
_USER = Resource(
    (_ID, Read("email"), Read("name"), Read("role", known=get_args(WorkspaceRole))), User
)
_STATUSES = tuple(PENDING | COMPLETED | CANCELLED | OVER)
_TIME = frozenset({"string", "number", "integer"})
_SESSION = Resource(
    (
        _ID,
        Read("status", needed=True, known=_STATUSES, strict=True),
        Read("flow"),
        Read("actor"),
        Read("createdAt", types=_TIME),
        Read("expiresAt", types=_TIME),
        Read("outputs", types=_OBJECT),
        *OUTPUTS,
    ),
    EmbedSession,
    frozenset({"enabledResponseModes", "presets", "theme", "metadata", "embedUrl"}),
)
_NEW_SESSION = replace(_SESSION, reads=(*_SESSION.reads, Read("embedUrl", needed=True)))
_PERMISSION = Resource(
    (
        Read("actor", types=frozenset({"string", "object"})),
        Read("role", needed=True, known=CONTENT_ROLES),
    ),
    Permission,
    frozenset({"createdAt", "updatedAt", "createdBy"}),
)
_EXAM = Resource((_ID, Read("name")), Exam, frozenset({"questions", "metadata"}))
_MATERIAL = Resource(
    (
        _ID,
        Read("name"),
        Read("externalId"),
        Read(
            "processingStatus",
            known=(
                "pending",
                "converting",
                "summarizing",
                "extracting_topics",
                "extracting_facts",
                "completed",
                "failed",
            ),
        ),
    ),
    SourceMaterial,
    frozenset(
        {
            "org",
            "type",
            "createdBy",
            "createdAt",
            "updatedAt",
            "deletedAt",
            "originalSource",
            "parentSourceMaterialId",
            "summary",
            "factsCount",
            "numberOfPages",
            "chapterMarkers",
            "convertedSourceV2",
            "geminiSource",
            "topics",
            "cacheName",
        }
    ),
)
_SLICE = {"startPage": 1, "endPage": 1}


CALLS: tuple[Call, ...] = (
    Call(
        "POST",
        "/users",
        _USER,
        bodies=tuple(users()),
        # This app never creates a workspace's owner or admins, and never sends an invitation.
        unused=frozenset({"sendInvite", "owner", "admin"}),
    ),
    Call("GET", "/me", _USER),
    Call("PATCH", "/me", _USER, bodies=({"name": "Ann"},), essential=False),
    Call(
        "POST",
        "/embed-sessions",
        _NEW_SESSION,
        bodies=tuple(sessions()),
        opaque=frozenset({"metadata", "rubric"}),
    ),
    Call("GET", "/embed-sessions/{id}", _SESSION),
    Call("DELETE", "/embed-sessions/{id}"),
    Call(
        "POST",
        "/exams",
        _EXAM,
        bodies=(
            {"name": "Sums"},
            *(
                {
                    "name": "Sums",
                    "subject": "Mathematics",
                    "studentLevel": "us_high_school_lower",
                    "language": "en",
                    "taxonomyId": "taxonomy_bloom_revised",
                    "context": "No calculators.",
                    "intendedDuration": 45,
                    "sourceMaterialIds": ["mat_1"],
                    "allowedGenerationQuestionTypes": ["single-line-text"],
                    "questions": [QUESTION],
                    "permissions": [{"actor": ACTOR, "role": role}],
                    "metadata": {"course": "7"},
                }
                for role in CONTENT_ROLES
            ),
        ),
        opaque=frozenset({"metadata", "questions"}),
        essential=False,
    ),
    Call("GET", "/exams/{id}", _EXAM, essential=False),
    Call("DELETE", "/exams/{id}", essential=False),
    Call(
        "POST",
        "/exams/{id}/export/qti3-zip",
        Resource((Read("url", needed=True),)),
        essential=False,
    ),
    Call("GET", "/permissions/{resource}", _PERMISSION, many=True),
    Call(
        "POST",
        "/permissions/{resource}",
        _PERMISSION,
        bodies=tuple({"actor": ACTOR, "role": role} for role in CONTENT_ROLES),
        unused=frozenset({"email", "sendInvite"}),
    ),
    Call("GET", "/permissions/{resource}/{actor}", _PERMISSION),
    Call(
        "POST",
        "/practice-spaces",
        Resource((_ID,), PracticeSpace),
        bodies=tuple(
            {
                "name": "Practice",
                "studentNotes": "Do your best.",
                "sourceMaterialIds": ["mat_1"],
                "masteryTopics": [{"id": "linear-1"}],
                "permissions": [{"actor": ACTOR, "role": role}],
            }
            for role in CONTENT_ROLES
        ),
        opaque=frozenset({"masteryTopics"}),
        essential=False,
    ),
    Call("GET", "/source-materials", _MATERIAL, many=True, query=("externalId",), essential=False),
    Call(
        "POST",
        "/source-materials",
        _MATERIAL,
        bodies=(
            {"url": "https://school.example/book.pdf"},
            {
                "url": "https://school.example/book.pdf",
                "type": "file",
                "name": "Book",
                "size": 10,
                "contentType": "application/pdf",
                "expires": "2030-01-01T00:00:00Z",
                "externalId": "book-1",
            },
        ),
        essential=False,
    ),
    Call("GET", "/source-materials/{id}", _MATERIAL, essential=False),
    Call(
        "POST",
        "/source-materials/{id}/slice",
        _MATERIAL,
        bodies=(_SLICE, {**_SLICE, "name": "Start"}),
        essential=False,
    ),
    # Returned unchanged: no fields are read.
    Call("GET", "/student-levels", essential=False),
    Call("GET", "/taxonomies", essential=False),
    Call("GET", "/question-types", essential=False),
    Call("GET", "/question-types/public", essential=False),
    Call("GET", "/openapi", essential=False),
)

#: Documented operations that this app leaves to the site (sections 1 and 3).
UNUSED_OPERATIONS = frozenset(
    {
        ("POST", "/question-types"),
        ("GET", "/oauth/authorize"),
        ("POST", "/oauth/token"),
        ("POST", "/oauth/revoke"),
    }
)
