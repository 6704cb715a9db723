"""A hundred thousand runs asleep: what they cost a worker, and how late those are that wake in one second.

    python -m tests.faults.sleepers --runs 100000 --due 10000 --database cluster

One run is started and put to sleep by the engine; the others are copies of its rows. Then a worker does
nothing for a while, and its processor time and memory are printed. Then `--due` of them come due in the same
second: all must fire once, and how late the slowest were is printed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from uuid import UUID

from tests.faults import mixed
from tests.faults.soak import Options, Soak, _me, installation

BATCH = 1000


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def put_to_sleep(soak: Soak, count: int) -> None:
    """One run that sleeps for a day, and copies of it."""
    from apps.blueprints.services import import_blueprint
    from apps.ledger.models import EntryBatch
    from apps.runs.models import Run, Step
    from apps.runs.services import start_run
    from mirrorneuron.base.ids import uuid7

    nodes = [{"id": "nap", "kind": "timer", "duration": "24h"}, mixed.value("after", 1)]
    text = mixed.text("sleeper", soak.remote.url, nodes, mixed.line("nap", "after"))
    first = start_run(_me(), import_blueprint(_me(), text), {"reference": "first"})
    worker = soak.nursery.fork()
    while not Step.objects.filter(run=first, status="waiting").exists():
        time.sleep(0.05)
    worker.stop()
    run = Run.objects.get(id=first.id)
    steps = list(Step.objects.filter(run=run))
    batches = list(EntryBatch.objects.filter(run_id=run.id))
    for begin in range(1, count, BATCH):
        ids = [uuid7() for _ in range(min(BATCH, count - begin))]
        Run.objects.bulk_create([_copy(run, id=id) for id in ids])
        Step.objects.bulk_create([_copy(step, id=None, run_id=id) for id in ids for step in steps])
        EntryBatch.objects.bulk_create([_copy(batch, run_id=id) for id in ids for batch in batches])


def _copy(row: object, **changed: object) -> object:
    values = {f.attname: getattr(row, f.attname) for f in row._meta.concrete_fields}  # type: ignore[attr-defined]
    return type(row)(**{**values, **changed})


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sleepers", description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--due", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long to look at the idle worker")
    parser.add_argument("--database", default="file")
    options = parser.parse_args(arguments)
    with installation(Options(kills=1, database=options.database)) as soak:
        from django.core.management import call_command

        call_command("migrate", verbosity=0, interactive=False)
        began = time.monotonic()
        put_to_sleep(soak, options.runs)
        say(f"{options.runs:,} runs asleep after {time.monotonic() - began:.0f} s")
        worker = soak.nursery.fork(env={"MN_POLL_SECONDS": "1", "MN_LEASE_SECONDS": "20"})
        time.sleep(3)
        before = processor_seconds(worker.pid)
        time.sleep(options.seconds)
        used = (processor_seconds(worker.pid) - before) / options.seconds
        say(f"idle worker: {used:.2%} of a core, {megabytes(worker.pid):.0f} MB of its own share")
        good = wake(options.due)
        worker.stop()
        soak.nursery.close()
        soak.report.broken = [] if good else ["not all fired once"]
    say("PASSED" if good else "FAILED")
    return 0 if good else 1


def wake(count: int) -> bool:
    """Let so many come due at once, and look at every one of them."""
    from apps.ledger.selectors import entries
    from apps.runs.models import Run, Step
    from mirrorneuron.base.clock import now

    chosen: list[UUID] = list(
        Step.objects.filter(status="waiting").order_by("id").values_list("run_id", flat=True)[:count]
    )
    due = now()
    for begin in range(0, count, BATCH):
        some = chosen[begin : begin + BATCH]
        Step.objects.filter(run_id__in=some, status="waiting").update(due_at=due)
    began = time.monotonic()
    while Run.objects.filter(status="succeeded").count() < count and time.monotonic() - began < 600:
        time.sleep(0.2)
    took = time.monotonic() - began
    fired = [entries(run, kinds=["timer.fired"]) for run in chosen]
    late = sorted((f.at - due).total_seconds() for found in fired for f in found)
    once = all(len(found) == 1 for found in fired)
    say(
        f"{count:,} due at once: {'each fired once' if once else 'NOT each fired once'}, "
        f"all done after {took:.0f} s, "
        f"lateness p50 {late[len(late) // 2]:.1f} s, p99 {late[int(len(late) * 0.99)]:.1f} s"
    )
    return once and Run.objects.filter(status="succeeded").count() == count


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
