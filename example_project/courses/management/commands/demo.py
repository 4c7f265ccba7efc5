from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from django_examplary.conf import conf
from django_examplary.testing import FakeExamplary, serve
from django_examplary.testing.store import StoreError, open_fake

WELCOME = """
  Northfield School   http://localhost:{port}/
  Administration      http://localhost:{port}/admin/
  Examplary           {examplary}

  Sign in as {users}; the password is demo.
"""
FREE_PORT = """\
  PORT is the free port that the server prints below.
"""


class Command(BaseCommand):
    help = (
        "Runs the site with its demonstration data and a fake Examplary, or with the real one if "
        "the environment has EXAMPLARY_API_KEY."
    )
    # The checks need an API key, which the fake provides later.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--port",
            type=int,
            default=8000,
            help="port of the site; 0 takes a free port, which the server prints when it starts "
            "and which changes when it reloads the code",
        )
        parser.add_argument(
            "--fake-port",
            type=int,
            default=8001,
            help="port of the fake Examplary; 0 takes a free port",
        )
        parser.add_argument(
            "--seed", type=Path, help="a JSON file with exams and the like for the fake"
        )
        parser.add_argument(
            "--store",
            type=Path,
            help="a folder that keeps the data of the site and of the fake over a restart",
        )
        parser.add_argument("--noreload", action="store_true", help="do not watch the code")

    def handle(self, *, port: int, fake_port: int, noreload: bool, **options: Any) -> None:
        seed, store = options["seed"], options["store"]
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
            self._check_port_is_free(port, "--port")
            environment = {}
            examplary = f"{conf.EXAMPLARY_API_URL}, with your key"
            if not conf.EXAMPLARY_API_KEY:
                self._check_port_is_free(fake_port, "--fake-port")
                # The site and the fake store ids of each other, so they share the folder.
                folder = store or Path(stack.enter_context(TemporaryDirectory()))
                fake = self._open_fake(seed, folder)
                stack.enter_context(serve(fake, port=fake_port))
                environment = {
                    "DATABASE_URL": f"sqlite:///{folder.resolve()}/db.sqlite3?transaction_mode=IMMEDIATE",
                    "EXAMPLARY_API_KEY": fake.api_key,
                    "EXAMPLARY_API_URL": fake.base_url,
                    "EXAMPLARY_EMBED_ORIGINS": fake.base_url,
                }
                second = settings.SOUTHFIELD_API_KEY
                # The store may already contain it.
                if second and second not in [each.api_key for each in fake.workspaces]:
                    fake.add_workspace(second, staging=True)
                examplary = f"{fake.base_url}, a fake: nothing leaves this machine"
            _manage(environment, "migrate", "--verbosity", "0")
            _manage(environment, "seed")
            users = "teacher, student or admin"
            if settings.SOUTHFIELD_API_KEY:
                users += ", or at Southfield School as rosa or luis"
            welcome = WELCOME.format(port=port or "PORT", examplary=examplary, users=users)
            self.stdout.write(welcome)
            if not port:
                self.stdout.write(FREE_PORT)
            self.stdout.flush()
            # In its own process, so that the autoreloader does not restart the fake.
            reload = ["--noreload"] if noreload else []
            _manage(environment, "runserver", f"localhost:{port}", *reload)

    def _open_fake(self, seed: Path | None, folder: Path) -> FakeExamplary:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return open_fake(seed, folder / "examplary.json", staging=True)
        except (OSError, StoreError) as error:
            raise CommandError(f"--seed or --store can't be used: {error}") from None

    def _check_port_is_free(self, port: int, option: str) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} is not free ({error.strerror}). Choose another with {option}."
                ) from None


def _manage(environment: Mapping[str, str], *arguments: str) -> None:
    """Run another command of this project until it, or this one, is stopped."""
    command = subprocess.Popen(  # noqa: S603  # no word of it is user input
        [sys.executable, sys.argv[0], *arguments], env={**os.environ, **environment}
    )
    try:
        if command.wait():
            raise CommandError(f"{arguments[0]} failed.")
    finally:
        command.terminate()
        command.wait()
