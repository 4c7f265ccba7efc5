"""The admin of actors and sessions, and classes for the user admin of a project.

Every view that calls the API requires a POST and its own permission, and ends within seconds. The
next request, a command or a task continues the remaining work.

To change an admin class, unregister its model and register a subclass::

    admin.site.unregister(ExamplaryActor)

    @admin.register(ExamplaryActor)
    class SchoolActorAdmin(ExamplaryActorAdmin): ...
"""

from __future__ import annotations

from django_examplary.admin.actors import ExamplaryActorAdmin
from django_examplary.admin.base import Limits
from django_examplary.admin.sessions import ExamplarySessionAdmin
from django_examplary.admin.users import ExamplaryActorInline, ProvisionActorsMixin

__all__ = [
    "ExamplaryActorAdmin",
    "ExamplaryActorInline",
    "ExamplarySessionAdmin",
    "Limits",
    "ProvisionActorsMixin",
]
