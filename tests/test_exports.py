"""Exports of rows by other packages contain neither embed URLs nor remote ids of sessions."""

from __future__ import annotations

import csv
import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.serializers.json import DjangoJSONEncoder
from django.forms.models import model_to_dict
from django.template import Context, Template
from django_extensions.management.commands import dumpscript
from import_export.resources import modelresource_factory

from django_examplary import services
from django_examplary.data import Secret
from django_examplary.flows import GenerateExam
from django_examplary.models import ExamplarySession

ORIGIN = "https://school.example"


@pytest.fixture
def session(fake, teacher):
    opened = services.open_session(teacher, GenerateExam(), origin=ORIGIN)
    return ExamplarySession.objects.get(pk=opened.pk)


def import_export(session):
    resource = modelresource_factory(ExamplarySession)()
    data = resource.export(ExamplarySession.objects.all())
    return data.csv + data.json


def run_dumpscript(session):
    output = StringIO()
    call_command(dumpscript.Command(), "django_examplary", stdout=output)
    return output.getvalue()


def dumpdata(session):
    output = StringIO()
    call_command("dumpdata", "django_examplary", stdout=output)
    return output.getvalue()


def write_csv(session):
    output = StringIO()
    rows = ExamplarySession.objects.values()
    csv.writer(output).writerows(row.values() for row in rows)
    csv.writer(output).writerows(ExamplarySession.objects.values_list())
    return output.getvalue()


def render(session):
    template = Template("{{ row.pk }} {{ row.embed_url }} {{ row.examplary_id }} {{ rows }}")
    rows = list(ExamplarySession.objects.values())
    return template.render(Context({"row": session, "rows": rows}))


def show_variables(session):
    """Return the variables of a frame as error collectors show them."""
    return f"{session.__dict__} {vars(session)!r} {session.pk}"


def make_form_data(session):
    return f"{session.pk} {model_to_dict(session)}"


@pytest.mark.parametrize(
    "export",
    [import_export, run_dumpscript, dumpdata, write_csv, render, show_variables, make_form_data],
)
def test_export_of_sessions_holds_no_secret(fake, session, export):
    text = export(session)

    assert str(session.pk) in text
    [remote] = fake.sessions.values()
    assert remote.id not in text
    assert remote.token not in text


def test_session_that_was_just_opened_hides_its_secrets(fake, teacher):
    session = services.open_session(teacher, GenerateExam(), origin=ORIGIN)

    [remote] = fake.sessions.values()
    assert f"{session.embed_url} {session.examplary_id} {session.embed_url!r}" == "  ''"
    assert session.embed_url.value == remote.embed_url


def test_secret_that_is_assigned_as_a_string_is_hidden():
    session = ExamplarySession(embed_url="https://app.examplary.ai/canary")
    session.examplary_id = "embed_session_canary"

    assert "canary" not in f"{vars(session)} {session.embed_url} {session.examplary_id}"
    assert session.examplary_id.value == "embed_session_canary"


def test_secret_is_not_json_serializable(session):
    with pytest.raises(TypeError, match="Secret"):
        json.dumps({"url": session.embed_url}, cls=DjangoJSONEncoder)


def test_row_that_is_validated_and_saved_keeps_its_secrets(fake, session):
    empty = {"presets", "theme", "metadata", "outputs", "ended_at", "verified_at"}
    session.clean_fields(exclude=empty)
    session.save()

    [remote] = fake.sessions.values()
    session.refresh_from_db()
    assert (session.embed_url, session.examplary_id) == (remote.embed_url, remote.id)
    assert ExamplarySession.objects.get(embed_url=session.embed_url) == session


def test_secrets_are_compared_by_their_strings():
    assert Secret("a") == Secret("a") == "a"
    assert Secret("a") != Secret("b")
    assert {Secret("a"), "a"} == {"a"}


def test_session_from_a_fixture_is_not_launched(fake, session, teacher):
    """Fixtures omit the URL."""
    ExamplarySession.objects.update(embed_url="", examplary_id=None)

    opened = services.open_session(teacher, GenerateExam(), origin=ORIGIN)

    assert opened.pk != session.pk
