"""The cost that the app adds to `django.setup()`: CPU, memory, an import of `requests`."""

from __future__ import annotations

import compileall
import json
import subprocess
import sys
from pathlib import Path

import django_examplary
from tests.benchmarks.measuring import Timing, ratio, report

# A new interpreter each time, as for commands and workers.
SCRIPT = """
import json, os, resource, sys, time
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
from django.conf import settings
apps = settings.INSTALLED_APPS  # Loads the settings, in both cases before the clock starts.
if {without}:
    apps.remove("django_examplary")
started = time.process_time()
import django
django.setup()
spent = time.process_time() - started
memory = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
print(json.dumps([spent, memory, "requests" in sys.modules]))
"""


def main() -> None:
    # Installers do this too, and some environments disable it in Python.
    compileall.compile_dir(Path(django_examplary.__file__).parent, quiet=1)
    cpu: dict[bool, list[float]] = {True: [], False: []}
    memory: dict[bool, list[float]] = {True: [], False: []}
    imported = False
    for number in range(-1, 40):
        for without in (True, False) if number % 2 else (False, True):
            spent, size, requests = _start(without=without)
            if number >= 0:
                cpu[without].append(spent)
                memory[without].append(size)
                imported |= requests and not without
    added = ratio(cpu[False], cpu[True])
    report(
        "CPU of django.setup() with the app / without",
        added,
        goal="<= 1.10",
        cpu_ms=[Timing(cpu=cpu[False]).cpu_ms, Timing(cpu=cpu[True]).cpu_ms],
    )
    report("imports of requests by django.setup()", int(imported), goal="<= 0")
    mib = [sorted(memory[without])[20] / 1024**2 for without in (False, True)]
    report("memory that the app adds, MiB", mib[0] - mib[1], mib=[round(each, 1) for each in mib])


def _start(*, without: bool) -> tuple[float, float, bool]:
    script = SCRIPT.replace("{without}", str(without))
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout
    spent, size, requests = json.loads(out)
    return spent, size, requests


if __name__ == "__main__":
    main()
