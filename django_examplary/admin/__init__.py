"""Actors and sessions in the Django admin, and classes for the project's own user admin.

Every view that calls the API needs a POST and a permission of its own, and ends within seconds.
The next request, a command or a task continues the work that is left.

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
