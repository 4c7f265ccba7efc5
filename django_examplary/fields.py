"""The model fields of this app."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.query_utils import DeferredAttribute

from django_examplary.data import Secret

if TYPE_CHECKING:
    StringField = models.CharField[Any, Any]
else:
    StringField = models.CharField


class PlainTextField(StringField):
    """A readable string from outside this app.

    Tables of MySQL and MariaDB may be in `utf8mb3`, which has no characters of four bytes, such as
    emoji. There such characters are stored as U+FFFD, because an error would lose the whole row.
    """

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs

    def get_db_prep_value(
        self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False
    ) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        if connection.vendor == "mysql" and isinstance(value, str):
            return re.sub(r"[\U00010000-\U0010ffff]", "\ufffd", value)
        return value


class _SecretAttribute(DeferredAttribute):
    def __set__(self, row: models.Model, value: Any) -> None:
        row.__dict__[self.field.attname] = _hide(value)


def _hide(value: Any) -> Any:
    return Secret(value) if value and isinstance(value, str) else value


class SecretField(StringField):
    """A string that rows, querysets and forms return as a `Secret`, unless it is empty.

    Fixtures omit it, and exports of rows or querysets contain an empty string.
    """

    descriptor_class = _SecretAttribute

    if TYPE_CHECKING:
        _pyi_private_set_type: str | Secret  # type: ignore[assignment]  # for django-stubs
        _pyi_private_get_type: Secret  # type: ignore[assignment]  # for django-stubs

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"editable": False, "serialize": False})

    def from_db_value(self, value: Any, *args: Any) -> Any:
        return _hide(value)

    def to_python(self, value: Any) -> Any:
        return super().to_python(value.value if isinstance(value, Secret) else value)
