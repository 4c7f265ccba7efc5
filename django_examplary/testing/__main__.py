"""Run the fake on its own: ``python -m django_examplary.testing --port 8001``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from django_examplary.testing.fake import FakeExamplary
from django_examplary.testing.server import FakeServer, run
from django_examplary.testing.workspace import DEFAULT_API_KEY

_WELCOME = """\
A fake Examplary listens on {url}. To use it, set:

  export EXAMPLARY_API_KEY={api_key}
  export EXAMPLARY_API_URL={url}
  export EXAMPLARY_EMBED_ORIGINS={url}

Open the site itself on another host name (localhost), as embeds are of another origin in life too.
Press Ctrl-C to stop.
"""


def _welcome(server: FakeServer) -> None:
    # Not a secret: it opens nothing but this fake.
    sys.stdout.write(_WELCOME.format(url=server.url, api_key=server.fake.api_key))
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m django_examplary.testing", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument("--port", type=int, default=8001, help="0 takes any free port")
    parser.add_argument("--api-key", default=DEFAULT_API_KEY, help="the key that it takes")
    options = parser.parse_args(arguments)
    fake = FakeExamplary(api_key=options.api_key, staging=True)
    try:
        run(fake, host=options.host, port=options.port, ready=_welcome)
    except OSError as error:
        parser.error(f"{error}: choose another --port, or 0 for any that is free")


if __name__ == "__main__":
    main()
