"""Additions to the servers and commands of the suite: a record of signals, and a clock."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.apps import AppConfig
from django.utils import timezone


class ChaosConfig(AppConfig):
    name = "tests.chaos"

    def ready(self) -> None:
        from django_examplary import signals  # noqa: PLC0415  # after the models

        for signal in (
            signals.session_completed,
            signals.session_cancelled,
            signals.session_closed,
        ):
            signal.connect(note_signal)
        if clock := os.environ.get("CHAOS_CLOCK"):
            set_clock(clock)


def note_signal(session: Any, **kwargs: Any) -> None:
    """Append the session to a file, which survives a killed database."""
    with Path(os.environ["CHAOS_SIGNALS"]).open("a") as file:
        file.write(f"{session.pk}\n")


def set_clock(clock: str) -> None:
    """Set the application's clock some seconds ahead, or stop it."""
    now = timezone.now
    stopped = now()

    def shifted() -> datetime:
        return stopped if clock == "frozen" else now() + timedelta(seconds=float(clock))

    timezone.now = shifted
