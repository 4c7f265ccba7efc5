"""Measure variants side by side, so that a busy machine slows all of them equally."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Timing:
    """Seconds per call in each round: wall-clock time, and CPU time of this process."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def ms(self) -> float:
        return round(statistics.median(self.wall) * 1000, 3)

    @property
    def cpu_ms(self) -> float:
        return round(statistics.median(self.cpu) * 1000, 3)

    @property
    def per_second(self) -> float:
        return round(1 / statistics.median(self.wall), 1)


def interleave(
    variants: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1
) -> dict[str, Timing]:
    """Time `calls` calls of each variant per round, each round in a different order."""
    names = list(variants)
    timings = {name: Timing() for name in names}
    # The first round warms up.
    for number in range(-1, rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            run = variants[name]
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(calls):
                run()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            if number >= 0:
                timings[name].wall.append(wall / calls)
                timings[name].cpu.append(cpu / calls)
    return timings


def ratio(over: list[float], under: list[float]) -> float:
    """Return the median ratio of the rounds, because a slow round slows both variants."""
    return statistics.median(one / other for one, other in zip(over, under, strict=True))


def report(what: str, value: float, *, goal: str = "", **figures: Any) -> None:
    """Print a result as a line of JSON. A goal reads "<= 1.1" or ">= 100"."""
    line = {"what": what, "value": round(value, 3), "goal": goal, **figures}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def report_ratio(what: str, over: Timing, under: Timing, *, goal: str = "", **figures: Any) -> None:
    report(
        what,
        ratio(over.wall, under.wall),
        goal=goal,
        by_cpu=round(ratio(over.cpu, under.cpu), 3),
        ms=[over.ms, under.ms],
        cpu_ms=[over.cpu_ms, under.cpu_ms],
        **figures,
    )
