"""Sweeps and browsers that receive the same outcomes."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from django.utils import timezone

from django_examplary.models import ExamplaryActor, ExamplarySession
from tests import processes
from tests.chaos.visitors import Visitor, at_once
from tests.chaos.world import FACTOR, on


@on(("gunicorn", "postgresql"), ("gunicorn", "mariadb"))
def test_sweeps_and_browsers_share_the_work(world):
    total = 150 * FACTOR
    users = world.users(total)
    world.control(create=total)
    state = world.control(complete=True)
    actors = [
        ExamplaryActor(user=user, examplary_id=f"user_{user.pk}", state="active") for user in users
    ]
    ExamplaryActor.objects.using(world.alias).bulk_create(actors)
    stored = ExamplaryActor.objects.using(world.alias).order_by("user_id")
    with world.serve() as address:
        visitors = [Visitor(user, address) for user in users[:40]]
        fingerprints = {visitor.user.pk: visitor.launch.key for visitor in visitors}
        world.rows().bulk_create(
            ExamplarySession(
                actor=actor,
                flow="generate-exam",
                status="pending",
                fingerprint=fingerprints.get(actor.user_id, "none"),
                examplary_id=remote,
                embed_url=state["sessions"][remote]["embedUrl"],
                expires_at=timezone.now() + timedelta(days=6),
            )
            for actor, remote in zip(stored, state["sessions"], strict=True)
        )
        sweeps = [world.start("examplary_sweep", "--concurrency=4") for _ in range(3)]
        ended = at_once(Visitor.sync, visitors)
        outputs = [processes.finish(sweep) for sweep in sweeps]

    counts = Counter(world.control()["counts"])
    doubles = sum(count - 1 for count in world.signals().values())
    open_ = world.rows().filter(status="pending").count()
    world.note(
        "sweep race",
        sessions=total,
        sweeps=len(sweeps),
        reads=counts["GET /embed-sessions"],
        deletions=counts["DELETE /embed-sessions"],
        still_open=open_,
        signals=len(world.signals()),
        doubles=doubles,
        exit_codes=[sweep.returncode for sweep in sweeps],
    )
    assert [sweep.returncode for sweep in sweeps] == [0, 0, 0], outputs
    assert set(ended) == {200}
    assert (open_, doubles, len(world.signals())) == (0, 0, total)
    # A sweep may read what a browser reads at the same moment.
    assert counts["GET /embed-sessions"] <= total + len(visitors)
