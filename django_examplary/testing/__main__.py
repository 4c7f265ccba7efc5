"""Run the fake on its own: python -m django_examplary.testing --port 8001."""

from __future__ import annotations

import argparse
import contextlib
import signal
import ssl
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from django_examplary.testing.rules import is_origin
from django_examplary.testing.server import FakeServer, serve
from django_examplary.testing.store import StoreError, open_fake
from django_examplary.testing.workspace import DEFAULT_API_KEY

_WELCOME = """\
A fake Examplary listens on {url}. To use it, set:

  export EXAMPLARY_API_KEY={api_key}
  export EXAMPLARY_API_URL={public_url}
  export EXAMPLARY_EMBED_ORIGINS={public_url}

Open the site itself on another host name (localhost): real embeds are on another origin too.
Press Ctrl-C to stop.
"""


def _welcome(server: FakeServer) -> None:
    # The key is not a secret: it works with this fake only.
    fake = server.fake
    sys.stdout.write(
        _WELCOME.format(url=server.url, api_key=fake.api_key, public_url=fake.base_url)
    )
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m django_examplary.testing", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="the address to listen on")
    add("--port", type=int, default=8001, help="0 chooses a free port")
    add("--api-key", default=DEFAULT_API_KEY, help="the API key to accept")
    add("--public-url", default="", help="the origin for clients, if the fake is behind a proxy")
    add("--tls-cert", type=Path, help="serve https with this certificate, a PEM file")
    add("--tls-key", type=Path, help="the certificate's private key, if it has its own file")
    add("--seed", type=Path, help="a JSON file with users, exams and the like to start with")
    add("--store", type=Path, help="a file that keeps everything over a restart")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = _parser()
    options = parser.parse_args(arguments)
    public_url = options.public_url.rstrip("/")
    if public_url and not is_origin(public_url):
        parser.error("--public-url must be an origin, such as https://examplary.school.example.")
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert.")
    try:
        tls = _tls(options)
    except OSError as error:
        parser.error(f"--tls-cert or --tls-key can't be read: {error}")
    try:
        fake = open_fake(options.seed, options.store, api_key=options.api_key, staging=True)
    except (OSError, StoreError) as error:
        parser.error(f"--seed or --store can't be used: {error}")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            contextlib.suppress(KeyboardInterrupt),
            serve(
                fake, host=options.host, port=options.port, public_url=public_url, tls=tls
            ) as server,
        ):
            _welcome(server)
            threading.Event().wait()
    except OSError as error:
        parser.error(f"{error}: choose another --port, or 0 for a free one")
    finally:
        signal.signal(signal.SIGTERM, before)


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if options.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.tls_cert, options.tls_key)
    return context


if __name__ == "__main__":
    main()
