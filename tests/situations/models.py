"""User models of many kinds."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AbstractBaseUser, AbstractUser, BaseUserManager
from django.db import models

from django_examplary.data import ActorProfile


class EmailUser(AbstractBaseUser):
    """Signs in with an e-mail address; has no name, no is_staff and no groups."""

    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"

    objects = BaseUserManager()


class NoEmailUser(AbstractBaseUser):
    """Has no e-mail field: EXAMPLARY_ACTOR_PROFILE returns the address."""

    username = models.CharField(max_length=50, unique=True)

    USERNAME_FIELD = "username"

    objects = BaseUserManager()


def describe(user: Any) -> ActorProfile:
    return ActorProfile(email=f"{user.get_username()}@school.example", name="Tea", role="teacher")


class StringKeyUser(AbstractBaseUser):
    """Its primary key is a string with any characters."""

    id = models.CharField(primary_key=True, max_length=50)
    email = models.EmailField()

    USERNAME_FIELD = "id"

    objects = BaseUserManager()


class PlainUser(models.Model):  # noqa: DJ008  # never printed
    """Has only what Django requires of a user model, and no `is_active`."""

    username = models.CharField(max_length=50, unique=True)
    email = models.EmailField()

    USERNAME_FIELD = "username"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: list[str] = []
    is_anonymous = False
    is_authenticated = True

    objects = BaseUserManager()

    @classmethod
    def get_email_field_name(cls) -> str:
        return cls.EMAIL_FIELD

    def get_session_auth_hash(self) -> str:
        return "of no password"


# Another model with groups would clash with the project's user model.
if settings.AUTH_USER_MODEL == "situations.UUIDUser":

    class UUIDUser(AbstractUser):
        id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)


class Teacher(get_user_model()):  # type: ignore[misc]
    """A proxy of the project's user model."""

    class Meta:
        proxy = True
