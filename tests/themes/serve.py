"""Serve the admin under one theme with many users, and print the address.

`python -m tests.themes.serve unfold` is for browser tests. The superuser is `admin`, with the
password `demo`.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from tests.themes.render import configure


def main(theme: str) -> None:
    # Delete the folder on SIGTERM, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    with tempfile.TemporaryDirectory() as folder:
        # Not in memory, because each thread has its own connection.
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(folder, "rows"))}
        # Static files are served only while DEBUG is on.
        configure(theme, DATABASES={"default": database}, DEBUG=True)

        # Models need the settings.
        from django.contrib.auth.models import User  # noqa: PLC0415
        from django.contrib.staticfiles.handlers import StaticFilesHandler  # noqa: PLC0415
        from django.core.management import call_command  # noqa: PLC0415
        from django.core.servers.basehttp import (  # noqa: PLC0415
            ThreadedWSGIServer,
            WSGIRequestHandler,
        )
        from django.core.wsgi import get_wsgi_application  # noqa: PLC0415

        from tests.browser.crowd import make_crowd  # noqa: PLC0415

        call_command("migrate", verbosity=0)
        User.objects.create_superuser("admin", "admin@school.example", "demo")
        make_crowd()
        server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler)
        server.set_app(StaticFilesHandler(get_wsgi_application()))
        sys.stdout.write(f"Serving on http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
