"""Every request that this release sends, and every field that it reads.

The requests are examples at the limits of this app's own rules: the shortest, the longest, and each
value of an enumeration. The tests compare them with the requests that arrive when every method of
the client is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django_examplary.contract.examples import QUESTION, grants, sessions, users
from django_examplary.data import (
    CONTENT_ROLES,
    EmbedSession,
    Exam,
    Permission,
    PracticeSpace,
    SourceMaterial,
    User,
)

#: What a reader of the API's answers can be: `from_json` raises ValueError for an unusable one.
Reader = type[User | EmbedSession | Exam | Permission | PracticeSpace | SourceMaterial]


@dataclass(frozen=True, kw_only=True)
class Read:
    """One field of an answer. `types` are the JSON types that this app can use.

    A field that is not needed is treated as absent when its type is another one. `known` are the
    values that this app tells apart; with `strict`, a value that is not among them changes what the
    app does.
    """

    name: str
    types: frozenset[str] = frozenset({"string"})
    needed: bool = False
    known: tuple[str, ...] = ()
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class Call:
    """One operation that this app uses.

    `bodies` are valid examples. `opaque` fields hold data of the site, which are sent as they are.
    `unused` fields and values are documented, and neither sent nor read. An operation that is not
    `essential` is only offered by the client; no service calls it.
    """

    method: str
    path: str
    bodies: tuple[Mapping[str, Any], ...] = ()
    query: tuple[str, ...] = ()
    opaque: frozenset[str] = frozenset()
    reads: tuple[Read, ...] = ()
    many: bool = False
    reader: Reader | None = None
    unused: frozenset[str] = frozenset()
    essential: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


#: The fields of a finished session's outputs, by the flows that read them (section 8).
OUTPUTS = (
    Read(name="outputs.examId"),
    Read(name="outputs.question", types=frozenset({"object", "string"})),
    Read(name="outputs.rubric", types=frozenset({"object"})),
)

_USER = (
    Read(name="id", needed=True),
    Read(name="email"),
    Read(name="name"),
    Read(name="role", known=("owner", "admin", "teacher", "student", "member")),
)
_SESSION = (
    Read(name="id", needed=True),
    Read(
        name="status",
        needed=True,
        known=("pending", "completed", "cancelled", "canceled"),
        strict=True,
    ),
    Read(name="flow"),
    Read(name="actor"),
    Read(name="createdAt"),
    Read(name="expiresAt"),
    Read(name="outputs", types=frozenset({"object"})),
    *OUTPUTS,
)
_SESSION_UNUSED = frozenset({"enabledResponseModes", "presets", "theme", "metadata"})
_PERMISSION = (
    Read(name="actor", types=frozenset({"string", "object"})),
    Read(name="role", needed=True, known=CONTENT_ROLES),
)
_PERMISSION_UNUSED = frozenset({"createdAt", "updatedAt", "createdBy"})
_EXAM = (Read(name="id", needed=True), Read(name="name"))
_EXAM_UNUSED = frozenset({"questions", "metadata"})
_MATERIAL = (
    Read(name="id", needed=True),
    Read(name="name"),
    Read(name="externalId"),
    Read(
        name="processingStatus",
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
)
_MATERIAL_UNUSED = frozenset(
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
)


CALLS: tuple[Call, ...] = (
    Call(
        method="POST",
        path="/users",
        bodies=tuple(users()),
        reads=_USER,
        reader=User,
        # A workspace's owner and admins are never created by this app, and nobody is invited.
        unused=frozenset({"sendInvite", "owner", "admin"}),
    ),
    Call(method="GET", path="/me", reads=_USER, reader=User),
    Call(
        method="PATCH",
        path="/me",
        bodies=({"name": "Ann"},),
        reads=_USER,
        reader=User,
        essential=False,
    ),
    Call(
        method="POST",
        path="/embed-sessions",
        bodies=tuple(sessions()),
        opaque=frozenset({"metadata", "rubric"}),
        reads=(*_SESSION, Read(name="embedUrl", needed=True)),
        reader=EmbedSession,
        unused=_SESSION_UNUSED,
    ),
    Call(
        method="GET",
        path="/embed-sessions/{id}",
        reads=_SESSION,
        reader=EmbedSession,
        unused=_SESSION_UNUSED | {"embedUrl"},
    ),
    Call(method="DELETE", path="/embed-sessions/{id}"),
    Call(
        method="POST",
        path="/exams",
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
                    "permissions": grants(role),
                    "metadata": {"course": "7"},
                }
                for role in CONTENT_ROLES
            ),
        ),
        opaque=frozenset({"metadata", "questions"}),
        reads=_EXAM,
        reader=Exam,
        unused=_EXAM_UNUSED,
        essential=False,
    ),
    Call(
        method="GET",
        path="/exams/{id}",
        reads=_EXAM,
        reader=Exam,
        unused=_EXAM_UNUSED,
        essential=False,
    ),
    Call(method="DELETE", path="/exams/{id}", essential=False),
    Call(
        method="POST",
        path="/exams/{id}/export/qti3-zip",
        reads=(Read(name="url", needed=True),),
        essential=False,
    ),
    Call(
        method="GET",
        path="/permissions/{resource}",
        reads=_PERMISSION,
        many=True,
        reader=Permission,
        unused=_PERMISSION_UNUSED,
    ),
    Call(
        method="POST",
        path="/permissions/{resource}",
        bodies=tuple(grants(role)[0] for role in CONTENT_ROLES),
        reads=_PERMISSION,
        reader=Permission,
        unused=_PERMISSION_UNUSED | {"email", "sendInvite"},
    ),
    Call(
        method="GET",
        path="/permissions/{resource}/{actor}",
        reads=_PERMISSION,
        reader=Permission,
        unused=_PERMISSION_UNUSED,
    ),
    Call(
        method="POST",
        path="/practice-spaces",
        bodies=tuple(
            {
                "name": "Practice",
                "studentNotes": "Do your best.",
                "sourceMaterialIds": ["mat_1"],
                "masteryTopics": [{"id": "linear-1"}],
                "permissions": grants(role),
            }
            for role in CONTENT_ROLES
        ),
        opaque=frozenset({"masteryTopics"}),
        reads=(Read(name="id", needed=True),),
        reader=PracticeSpace,
        essential=False,
    ),
    Call(
        method="GET",
        path="/source-materials",
        query=("externalId",),
        reads=_MATERIAL,
        many=True,
        reader=SourceMaterial,
        unused=_MATERIAL_UNUSED,
        essential=False,
    ),
    Call(
        method="POST",
        path="/source-materials",
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
        reads=_MATERIAL,
        reader=SourceMaterial,
        unused=_MATERIAL_UNUSED,
        essential=False,
    ),
    Call(
        method="GET",
        path="/source-materials/{id}",
        reads=_MATERIAL,
        reader=SourceMaterial,
        unused=_MATERIAL_UNUSED,
        essential=False,
    ),
    Call(
        method="POST",
        path="/source-materials/{id}/slice",
        bodies=(
            {"startPage": 1, "endPage": 1},
            {"startPage": 1, "endPage": 2, "name": "Start"},
        ),
        reads=_MATERIAL,
        reader=SourceMaterial,
        unused=_MATERIAL_UNUSED,
        essential=False,
    ),
    # Returned as they come: no field of theirs is read.
    Call(method="GET", path="/student-levels", essential=False),
    Call(method="GET", path="/taxonomies", essential=False),
    Call(method="GET", path="/question-types", essential=False),
    Call(method="GET", path="/question-types/public", essential=False),
    Call(method="GET", path="/openapi", essential=False),
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
