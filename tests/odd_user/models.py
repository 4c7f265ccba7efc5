from __future__ import annotations

from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.core.exceptions import FieldError
from django.db import models


class EncryptedField(models.CharField):  # type: ignore[type-arg]
    """A field that cannot be searched, as in packages that encrypt fields."""

    def get_lookup(self, lookup_name: str) -> Any:
        raise FieldError("Encrypted fields cannot be searched.")


class Person(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Member(AbstractBaseUser, PermissionsMixin):
    """A user model whose user name is a foreign key, and whose address is encrypted.

    Its key is a text, and it has no field `is_active`.
    """

    id = models.CharField(primary_key=True, max_length=100)
    person = models.OneToOneField(Person, on_delete=models.CASCADE)
    email = EncryptedField(max_length=254)
    first_name = models.CharField(max_length=100)
    is_staff = models.BooleanField(default=True)

    USERNAME_FIELD = "person"

    objects = BaseUserManager()

    def __str__(self) -> str:
        return str(self.person)
