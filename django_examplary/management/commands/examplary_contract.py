from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.crypto import get_random_string

import django_examplary
from django_examplary import services
from django_examplary.client import ExamplaryClient
from django_examplary.conf import Workspace, conf
from django_examplary.contract import settled
from django_examplary.contract.comparison import GROUPS, Finding, compare
from django_examplary.contract.document import Document, DocumentError
from django_examplary.contract.probe import Probe, Step
from django_examplary.exceptions import ExamplaryError
from django_examplary.management.base import ExamplaryCommand, add_workspace, one_line
from django_examplary.models import DEFAULT_WORKSPACE
from django_examplary.origins import PRODUCTION_URL

#: The groups that count as failures, by the value of --fail-on.
_FAILING = {"error": GROUPS[:1], "warn": GROUPS[:2], "news": GROUPS}


class Command(ExamplaryCommand):
    help = """\
Compares this app's use of the Examplary API with Examplary's own description of it.

Reads the OpenAPI document from EXAMPLARY_API_URL, which needs no API key, or from a file. Prints
the differences in four groups:

  ERROR    calls would fail, or results would be lost
  WARN     a call may fail, or a field is treated as absent
  SETTLED  an answer to an open question, by its number in section 14 of the API page
  NEWS     operations, fields and values that this release does not know

With --probe it calls the service instead: it creates one user, sends the same request again, and
opens, reads and deletes one session. It prints status codes, keys and types, but no values."""
    examples = """
examples:
  manage.py examplary_contract
  manage.py examplary_contract --save openapi.json --fail-on warn
  manage.py examplary_contract --against openapi.json --fail-on news
  manage.py examplary_contract --file openapi.json --json
  manage.py examplary_contract --probe --domain school.example --report probe.json
"""
    exit_codes = """
exit codes:
  0    success: no differences in the groups of --fail-on; every call got a response
  1    there are such differences, or a call of the probe got no response
  2    the settings or the arguments are wrong
  3    the document could not be loaded
"""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--file", metavar="FILE", help="read the document from a JSON file")
        parser.add_argument("--save", metavar="FILE", help="write the document to a file")
        parser.add_argument(
            "--against",
            metavar="FILE",
            help="omit the differences that this earlier document also has",
        )
        add_workspace(parser, what="use the URL and the key of this workspace")
        parser.add_argument(
            "--fail-on",
            choices=list(_FAILING),
            default="error",
            help="exit with 1 for ERROR, for ERROR and WARN, or for any difference "
            "(default: error)",
        )
        probe = parser.add_argument_group("probe")
        probe.add_argument(
            "--probe",
            action="store_true",
            help="call the service; needs the key of a workspace for tests",
        )
        probe.add_argument("--yes", action="store_true", help="do not ask before the calls")
        address = probe.add_mutually_exclusive_group()
        address.add_argument("--email", metavar="ADDRESS", help="the address of the probe's user")
        address.add_argument("--domain", help="generate an address for that user at this domain")
        probe.add_argument(
            "--report",
            metavar="FILE",
            default="examplary-probe.json",
            help="where to write the report (default: examplary-probe.json)",
        )

    def handle(self, **options: Any) -> None:
        if options["probe"]:
            self._probe(options)
            return
        workspace = conf.get_workspace(options["workspace"] or DEFAULT_WORKSPACE)
        document = _read_document(options["file"]) if options["file"] else _fetch(workspace)
        if options["save"]:
            self._write(options["save"], document.content)
        try:
            findings = compare(document)
            if options["against"]:
                earlier = set(compare(_read_document(options["against"])))
                findings = [each for each in findings if each not in earlier]
        except RecursionError:
            raise CommandError("The document is nested too deeply.", returncode=3) from None
        counts = {group: sum(each.group == group for each in findings) for group in GROUPS}
        answered = {each.unknown for each in findings if each.unknown}
        result = {
            "document": {
                "source": options["file"] or f"{workspace.api_url}/openapi",
                "openapi": document.content["openapi"],
                "version": document.version,
                "operations": len(document.operations),
            },
            "counts": counts,
            "findings": findings,
            "open": [number for number in settled.NUMBERS if number not in answered],
        }
        failing = sum(counts[group] for group in _FAILING[options["fail_on"]])
        failed = f"Differences that count as failures: {failing}." if failing else ""
        self.finish(result, _describe(result, findings), failed=failed)

    def _probe(self, options: dict[str, Any]) -> None:
        client = services.get_client(options["workspace"] or DEFAULT_WORKSPACE)
        if client.base_url == PRODUCTION_URL:
            raise CommandError(
                "The probe creates a user that cannot be deleted, so it does not run on the "
                "production API. Set EXAMPLARY_API_URL to https://api-staging.examplary.ai and "
                "EXAMPLARY_API_KEY to a key of a workspace there.",
                returncode=2,
            )
        email = _probe_email(options)
        if not options["yes"]:
            self._ask(client.base_url, email)
        origin = conf.EXAMPLARY_SITE_ORIGIN or "https://localhost"
        probe = Probe(client, email=email, origin=origin)
        # Check before the calls, so that no user is created if the report cannot be written.
        self._write(options["report"], {})
        steps = probe.run()
        result = {
            "django_examplary": django_examplary.__version__,
            "api_url": client.base_url,
            "complete": probe.complete,
            "steps": steps,
        }
        self._write(options["report"], result)
        lines = [_describe_step(step) for step in steps]
        text = "\n".join([*lines, "", f"The report is in {options['report']}."])
        failed = "" if probe.complete else "Not every call was answered."
        self.finish(result, text, failed=failed)

    def _ask(self, url: str, email: str) -> None:
        self.stderr.write(
            f"This creates the user {email} at {url}, who cannot be deleted through the API, and "
            "opens and deletes one session.\nContinue? [y/N]",
            style_func=str,
        )
        try:
            answer = input()
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            raise CommandError("Nothing was sent. Pass --yes to skip the question.", returncode=2)

    def _write(self, file: str, content: Any) -> None:
        try:
            text = json.dumps(content, indent=2, default=vars)
            Path(file).write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{file} cannot be written: {error}", returncode=2) from None


def _fetch(workspace: Workspace) -> Document:
    # The request needs no key, so a site without one can also fetch the document.
    client = ExamplaryClient(
        workspace.api_key or "none",
        base_url=workspace.api_url,
        ca_bundle=conf.EXAMPLARY_CA_BUNDLE,
        proxy=conf.EXAMPLARY_PROXY,
    )
    try:
        return Document.from_content(client.get_openapi())
    except (ExamplaryError, DocumentError) as error:
        raise CommandError(
            f"The document at {workspace.api_url}/openapi could not be loaded: {error}",
            returncode=3,
        ) from None


def _read_document(file: str) -> Document:
    try:
        return Document.parse(Path(file).read_bytes())
    except (OSError, DocumentError) as error:
        raise CommandError(f"{file} could not be loaded: {error}", returncode=3) from None


def _probe_email(options: dict[str, Any]) -> str:
    email: str = options["email"] or ""
    if domain := options["domain"]:
        email = f"examplary-probe-{get_random_string(8).lower()}@{domain}"
    if not re.fullmatch(r"[^@\s]+@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}", email):
        raise CommandError(
            "The probe's user needs an address: pass --email ADDRESS, or --domain DOMAIN to "
            "generate one.",
            returncode=2,
        )
    return email


def _describe(result: dict[str, Any], findings: list[Finding]) -> str:
    document = result["document"]
    lines = [
        one_line(
            f"Document  {document['source']}, OpenAPI {document['openapi']}, version "
            f"{document['version'] or 'unknown'}, {document['operations']} operations"
        )
    ]
    for group in GROUPS:
        lines += ["", f"{group} ({result['counts'][group]})"]
        for each in findings:
            if each.group == group:
                number = f"{each.unknown:>2}  " if each.unknown else ""
                lines.append(one_line(f"  {number}{each.where}: {each.text}"))
    lines += ["", f"Open questions: {', '.join(map(str, result['open'])) or 'none'}"]
    return "\n".join(lines)


def _describe_step(step: Step) -> str:
    answer = f"{step.status} {step.content_type}" if step.status else f"no answer, {step.error}"
    notes = [f"  {name}: {text}" for name, text in step.notes.items()]
    body = [f"  {json.dumps(step.body)}"] if step.status else []
    return "\n".join([f"{step.name}: {step.operation}: {answer}", *body, *notes])
