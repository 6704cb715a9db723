"""`make test`: the whole suite on SQLite, then on PostgreSQL where it is found; says what it could not try.

Arguments are passed on to pytest (`make test ARGS="-k inbox"`).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests import services  # noqa: E402

NOTHING_COLLECTED = 5
APART = "faults or browser or services"
"""Tests that start real processes. They wait for leases, timers and pages, so a few files go side by side."""
SIDE_BY_SIDE = 3


def main(arguments: list[str]) -> int:
    found = {s.name: s for s in services.all_services()}
    say("\n".join(f"{name}: {'found at ' + s.url if s.found else 'not found'}" for name, s in found.items()))
    if services.required() and not all(s.found for s in found.values()):
        say("MN_TEST_REQUIRE_SERVICES=1, but: " + "; ".join(s.missing for s in found.values() if not s.found))
        return 1
    lines, failed = [], False

    def phase(title: str, marks: str, *options: str, **environ: str) -> None:
        nonlocal failed
        say(f"== {title} ==")
        code = pytest(["-m", marks, *options, *arguments], environ)
        failed |= code not in (0, NOTHING_COLLECTED)
        lines.append(f"{title}: {'passed' if code in (0, NOTHING_COLLECTED) else 'FAILED'}")

    workers = str(min(4, os.cpu_count() or 1))
    phase("SQLite", f"not ({APART})", "-n", workers)
    if found["PostgreSQL"].found:
        url = found["PostgreSQL"].url
        phase("PostgreSQL", f"not ({APART})", "-n", workers, DATABASE_URL=url, MN_TEST_ONLY_DATABASE="1")
    together = ("-n", str(SIDE_BY_SIDE), "--dist", "loadgroup", "--no-loadscope-reorder")
    phase("Real processes, browser and services", f"({APART}) and not alone", *together)
    phase("What is measured by the clock, alone", f"({APART}) and alone")
    for service in found.values():
        if not service.found:
            lines.append(f"NOT TESTED: {service.missing}, so what needs it was skipped.")
    say("\n".join(["== Summary ==", *lines]))
    return int(failed)


def pytest(arguments: list[str], environ: dict[str, str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", *arguments]
    # Without bytecode every process would compile the tests anew, which takes as long as many of them.
    inherited = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "PYTHONDONTWRITEBYTECODE")}
    return subprocess.call(command, cwd=ROOT, env={**inherited, **environ})


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
