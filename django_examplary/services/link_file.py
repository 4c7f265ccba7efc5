"""Link the users of a CSV file to existing Examplary users.

Used by the command and the admin. Problems are English strings, which the admin translates.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import FieldError
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.utils.translation import gettext_noop

from django_examplary.client import ExamplaryClient
from django_examplary.conf import conf
from django_examplary.encoding import is_id, is_storable
from django_examplary.exceptions import (
    ExamplaryConfigurationError,
    ExamplaryError,
    ExamplaryValidationError,
)
from django_examplary.models import ExamplaryActor
from django_examplary.services.clients import get_client, workspace_of
from django_examplary.services.database import actor_rows, refuse_transaction
from django_examplary.services.linking import store_link

MALFORMED = gettext_noop(
    "The line must have a user name or an e-mail address, and an id that begins with user_."
)
REPEATED = gettext_noop("Another line has the same user or the same id.")
UNKNOWN = gettext_noop("There is no such user.")
AMBIGUOUS = gettext_noop("Several users have this address. Write the user name.")
OTHER_ID = gettext_noop("The user has another id.")
OTHER_USER = gettext_noop("Another user of this site has this id already.")
OWNER = gettext_noop("This is the owner of the API key, who cannot be an actor.")

# Databases limit the number of parameters of a query.
_BATCH = 500


@dataclass(kw_only=True)
class LinkLine:
    """One line of the file: `name` is a user name or an e-mail address."""

    number: int
    name: str
    examplary_id: str
    user: Any = None
    #: The actor of the user, before or after the link.
    actor: ExamplaryActor | None = None
    is_linked: bool = False
    #: Why the line cannot be linked.
    problem: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether the line is to be linked."""
        return not (self.is_linked or self.problem)


def decode(content: bytes) -> str:
    """Decode a file in UTF-8 or, with a byte order mark, UTF-16, as written by Excel.

    Raises UnicodeDecodeError.
    """
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return content.decode("utf-16" if is_utf16 else "utf-8-sig")


def read_lines(text: str) -> list[LinkLine]:
    """Return the lines of the file, without its header. Raises csv.Error for a too long line."""
    # Spreadsheets use semicolons if the comma is the decimal separator, and tabs when copying.
    first_line = text.partition("\n")[0]
    delimiter = next((each for each in ";\t" if each in first_line), ",")
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter)
    title_of_ids = re.compile("(examplary[ _]*)?id", re.IGNORECASE)
    lines = []
    for index, cells in enumerate(reader):
        stripped = [cell.strip() for cell in cells]
        if not any(stripped) or (index == 0 and title_of_ids.fullmatch(stripped[-1])):
            continue
        name, examplary_id = (*stripped, "")[:2]
        line = LinkLine(number=reader.line_num, name=name, examplary_id=examplary_id)
        is_user = len(stripped) == 2 and name and is_storable(name)
        if not (is_user and is_id(examplary_id, "user_")):
            line.problem = MALFORMED
        lines.append(line)
    usable = [line for line in lines if not line.problem]
    names = Counter(line.name for line in usable)
    ids = Counter(line.examplary_id for line in usable)
    for line in usable:
        if names[line.name] > 1 or ids[line.examplary_id] > 1:
            line.problem = REPEATED
    return lines


def find_users(
    lines: Sequence[LinkLine], *, users: QuerySet[Any] | None = None, replace: bool = False
) -> None:
    """Find the user of each line, and whether the user is linked or cannot be linked.

    `users` limits who may be linked. An address of two users is ambiguous, even if only one of them
    may be linked. The number of queries does not depend on the number of lines, up to 500 lines.
    """
    usable = [line for line in lines if not line.problem]
    for start in range(0, len(usable), _BATCH):
        batch = usable[start : start + _BATCH]
        _set_users(batch, users)
        _compare_actors([line for line in batch if not line.problem], replace=replace)
    found = Counter(line.user.pk for line in usable if line.user is not None)
    for line in usable:
        if line.user is not None and found[line.user.pk] > 1:
            line.problem = REPEATED


def _set_users(lines: Sequence[LinkLine], allowed: QuerySet[Any] | None) -> None:
    model = get_user_model()
    users = model._default_manager.all()
    names = {spelling for line in lines for spelling in _spellings(line.name)}
    named = _found_by(lambda: users.filter(**{f"{model.USERNAME_FIELD}__in": names})) or []
    user_name: Any = model._meta.get_field(model.USERNAME_FIELD)
    # Compare the value of a foreign key, which the file contains.
    by_name = {str(getattr(user, user_name.attname)): user for user in named}
    field = model.get_email_field_name()
    # Also check users found by name, who may have chosen the address of another person as user
    # name.
    addresses = [name for name in names if "@" in name]
    by_address = defaultdict(list)
    if addresses:
        # Databases do not convert all letters to lower case.
        lowered = [address.lower() for address in addresses]
        matches = _found_by(
            lambda: users.annotate(examplary_address=Lower(field)).filter(
                Q(examplary_address__in=lowered) | Q(**{f"{field}__in": addresses})
            )
        )
        for user in matches or []:
            by_address[getattr(user, field).lower()].append(user)
        if matches is None:
            # A user name that is an address may be the address of another user.
            by_name = {name: user for name, user in by_name.items() if "@" not in name}
    candidates: list[dict[Any, Any]] = []
    for line in lines:
        written, stored = _spellings(line.name)
        found = {user.pk: user for each in (written, stored) for user in by_address[each.lower()]}
        if (user := by_name.get(written, by_name.get(stored))) is not None:
            found[user.pk] = user
        candidates.append(found)
    keys = {key for found in candidates for key in found}
    if allowed is not None:
        keys = set(allowed.order_by().filter(pk__in=keys).values_list("pk", flat=True))
    for line, found in zip(lines, candidates, strict=True):
        if not keys & found.keys():
            line.problem = UNKNOWN
        elif len(found) == 1:
            [line.user] = found.values()
        else:
            line.problem = AMBIGUOUS


def _spellings(name: str) -> tuple[str, str]:
    """Return a name as in the file, which may separate accents, and as Django stores user names."""
    return name, AbstractBaseUser.normalize_username(name)


def _found_by(select: Callable[[], QuerySet[Any]]) -> list[Any] | None:
    """Return the users, or None if the field cannot be searched for one of the strings."""
    try:
        return list(select())
    except (FieldError, OverflowError, ValueError):
        return None


def _compare_actors(lines: Sequence[LinkLine], *, replace: bool) -> None:
    keys = [line.user.pk for line in lines]
    ids = [line.examplary_id for line in lines]
    actors = list(actor_rows().filter(Q(user__in=keys) | Q(examplary_id__in=ids)))
    by_user = {actor.user_id: actor for actor in actors}
    holders = {actor.examplary_id: actor.user_id for actor in actors}
    for line in lines:
        actor = line.actor = by_user.get(line.user.pk)
        active = actor is not None and actor.is_active
        if actor is not None and active and actor.examplary_id == line.examplary_id:
            line.is_linked = True
        elif holders.get(line.examplary_id, line.user.pk) != line.user.pk:
            line.problem = OTHER_USER
        elif active and not replace:
            line.problem = OTHER_ID


def link_lines(
    lines: Iterable[LinkLine],
    *,
    client_for: Callable[[str], ExamplaryClient] = get_client,
    replace: bool = False,
) -> Iterator[LinkLine]:
    """Link the users of ready lines, and yield each line afterwards.

    `client_for` returns the client of a workspace, which makes one call. A refused line gets its
    problem, also if the user got another id meanwhile, unless `replace` is true. Raises the
    ExamplaryError of that call, which would affect all lines. On a site with several workspaces, it
    becomes the problem of each line of that workspace.
    """
    refuse_transaction("link_lines")
    owners: dict[str, str] = {}
    refusals: dict[str, str] = {}
    for line in lines:
        try:
            workspace = workspace_of(line.user)
        except ExamplaryConfigurationError as error:
            # The code of the project failed for this user only.
            line.problem = str(error)
            yield line
            continue
        if workspace not in owners and workspace not in refusals:
            try:
                owners[workspace] = client_for(workspace).get_me().id
            except (ExamplaryError, ExamplaryConfigurationError) as error:
                if conf.EXAMPLARY_WORKSPACE is None:
                    raise
                refusals[workspace] = str(error)
        if workspace in refusals:
            line.problem = refusals[workspace]
        elif line.examplary_id == owners[workspace]:
            line.problem = OWNER
        else:
            # The user may have been provisioned or linked since the lines were compared.
            _compare_actors([line], replace=replace)
        if line.is_ready:
            try:
                line.actor = store_link(line.user, line.examplary_id, workspace)
                line.is_linked = True
            except ExamplaryValidationError:
                line.problem = OTHER_USER
        yield line
