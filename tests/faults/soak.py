"""Kill workers at random for as long as asked, and count what was lost, done twice or left standing.

    python -m tests.faults.soak --kills 1000 --seed 7
    python -m tests.faults.soak --seconds 3600 --database cluster --broker redis --restart-every 600

Mixed blueprints run on several worker processes that are killed with SIGKILL, stopped and continued as
zombies. The remote they talk to counts, and is in a bad mood now and then. A harness plays the people: it
decides what is asked, and says of an effect in doubt, after looking at the remote's own log, what a
truthful person would. In the end every run must have finished, every effect must have happened as often as
the ledger says, and the seven invariants must hold; otherwise the exit code is 1.

--database: `file` (SQLite, one worker at a time; the default), `cluster` (a PostgreSQL server of its own),
or the URL of a server, on which a database is made and dropped. --broker: `none`, `redis` (a server of its
own), or a URL.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.fake_remote import FakeRemote, serve
from tests.faults import mixed
from tests.faults.cluster import Cluster
from tests.faults.harness import Redis, environment, postgres_database
from tests.faults.nursery import Forked, Nursery

MOODS = (
    ("ok", 83), ("late:0.15", 4), ("slow_execute:0.15", 2), ("execute_500", 2), ("execute_reset", 2),
    ("reset", 2), ("429:0", 3), ("status:503", 1), ("execute_hang:1.3", 1),
)  # fmt: skip
"""What the remote does with a request, and how often in a hundred."""
ERRORS = ("poll.crashed", "claim.failed", "upkeep.failed", "step.finish_failed", "step.crashed", "Traceback")
"""What no worker's log may say, however often it is killed."""


@dataclass
class Options:
    kills: int = 0
    seconds: float = 0.0
    seed: int = 1
    database: str = "file"
    broker: str = "none"
    workers: int = 4
    slots: int = 3
    rate: float = 6.0
    """Kills a second that are aimed at."""
    active: int = 40
    """Runs that are kept unfinished."""
    zombies: float = 0.03
    """Share of the kills that stop a worker for longer than its lease, and then let it go on."""
    cancels: float = 0.3
    """How likely it is, each 0.7 s, that somebody cancels a run."""
    flush_every: float = 0.0
    restart_every: float = 0.0
    settle: float = 180.0
    """Seconds the last runs have to finish once nobody is killed any more."""
    blueprints: str = ""


@dataclass
class Report:
    """What a soak found. `is_good` decides the exit code."""

    seed: int = 0
    seconds: float = 0.0
    kills: int = 0
    zombies: int = 0
    restarts: int = 0
    flushes: int = 0
    database_restarts: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    losses: int = 0
    effects: Counter[str] = field(default_factory=Counter)
    received: int = 0
    executed: int = 0
    decided: int = 0
    asked: int = 0
    poisoned: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.duplicated or self.stuck or self.failed or self.broken or self.logged)

    def lines(self) -> Iterator[str]:
        yield f"seed {self.seed}, {self.seconds:,.0f} s"
        yield (
            f"kills {self.kills:,} (SIGKILL), zombies {self.zombies:,} (stopped past their lease, then "
            f"continued), worker starts {self.restarts:,}"
        )
        if self.flushes or self.database_restarts:
            yield f"broker flushed {self.flushes} times, database crashed {self.database_restarts} times"
        yield f"runs {sum(self.runs.values()):,}: " + ", ".join(f"{n:,} {s}" for s, n in self.runs.items())
        yield (
            f"steps {self.steps:,}, attempts lost to kills {self.losses:,}, "
            f"four times in a row {self.poisoned}"
        )
        yield (
            f"effects {sum(self.effects.values()):,}: "
            + ", ".join(f"{n:,} {s}" for s, n in sorted(self.effects.items()))
            + f"; the remote received {self.received:,} requests and executed {self.executed:,}"
        )
        yield f"questions decided {self.decided:,}, effects in doubt asked of a person {self.asked:,}"
        for name in ("lost", "duplicated", "stuck", "failed", "broken", "logged"):
            found = getattr(self, name)
            yield f"{NAMES[name]} {len(found)}"
            yield from (f"  {line}" for line in found[:20])


NAMES = {
    "lost": "effects lost",
    "duplicated": "effects duplicated",
    "stuck": "runs stuck",
    "failed": "runs failed for another reason than the blueprint's own",
    "broken": "invariants broken",
    "logged": "errors in workers' logs",
}


@dataclass
class Zombie:
    """A worker that was stopped; at `next_at` it goes on, and a second later it dies."""

    worker: Forked
    next_at: float
    is_awake: bool = False


class Soak:
    """One soak on one installation; `run()` gives the report."""

    def __init__(self, options: Options, env: dict[str, str], folder: Path, remote: FakeRemote) -> None:
        self.options = options
        self.env = env
        self.folder = folder
        self.remote = remote
        self.random = random.Random(options.seed)
        self.report = Report(seed=options.seed)
        self.nursery = Nursery(env, folder)
        self.workers: list[Forked] = []
        self.zombies: list[Zombie] = []
        self.started = 0
        self.filling = True
        self.over = threading.Event()
        self.flush: Callable[[], None] | None = None
        self.crash_database: Callable[[], None] | None = None
        self.says: Callable[[str], None] = lambda text: None

    # --- the story ----------------------------------------------------------------------------------------

    def run(self) -> Report:
        began = time.monotonic()
        self._prepare()
        people = [
            threading.Thread(target=self._loop, args=(job, pause), daemon=True, name=job.__name__)
            for job, pause in (
                (self._start_runs, 0.1),
                (self._decide, 0.2),
                (self._answer_doubts, 0.5),
                (self._mend, 1.0),
                (self._cancel_some, 0.7),
            )
        ]
        for person in people:
            person.start()
        try:
            while len(self.workers) < (1 if self.is_file else self.options.workers):
                self._fork()
            self._kill_for_a_while(began)
            self.filling = False
            self._settle()
        finally:
            self.over.set()
            for person in people:
                person.join(30)
            for worker in [*self.workers, *(z.worker for z in self.zombies)]:
                worker.kill()
            self.nursery.close()
        self.report.seconds = time.monotonic() - began
        self._judge()
        return self.report

    @property
    def is_file(self) -> bool:
        return not self.env.get("DATABASE_URL")

    def _prepare(self) -> None:
        from django.core.management import call_command

        from apps.blueprints.services import import_blueprint

        call_command("migrate", verbosity=0, interactive=False)
        texts = mixed.all_of(self.remote.url)
        wanted = self.options.blueprints.split(",") if self.options.blueprints else list(texts)
        self.versions = {name: import_blueprint(_me(), texts[name]) for name in wanted}
        folder = self.folder / "data" / "scripted"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "thinker.json").write_text('[{"json": {"text": "a quiet answer"}}]')
        moods = random.Random(self.options.seed + 1)
        names, weights = zip(*MOODS, strict=True)
        self.remote.mood = lambda path: moods.choices(names, weights)[0]

    def _fork(self) -> None:
        self.report.restarts += 1
        self.workers.append(
            self.nursery.fork(slots=self.options.slots, log=self.folder / f"slot-{len(self.workers)}.log")
        )

    def _kill_for_a_while(self, began: float) -> None:
        options, report = self.options, self.report
        flush_at = began + (options.flush_every or 1e12)
        restart_at = began + (options.restart_every or 1e12)
        say_at = began + 30
        while True:
            at = time.monotonic()
            if options.kills and report.kills >= options.kills:
                return
            if options.seconds and at - began >= options.seconds:
                return
            self._wake_zombies(at)
            self._kill_one()
            if at > flush_at and self.flush:
                self.flush()
                report.flushes += 1
                flush_at = at + options.flush_every
            if at > restart_at and self.crash_database:
                self.crash_database()
                report.database_restarts += 1
                restart_at = at + options.restart_every
            if at > say_at:
                say_at = at + 30
                self.says(
                    f"{at - began:6.0f} s  kills {report.kills:,}  runs started {self.started:,}  "
                    f"asked {report.asked:,}"
                )
            time.sleep(self.random.expovariate(options.rate))

    def _kill_one(self) -> None:
        place = self.random.randrange(len(self.workers))
        victim = self.workers[place]
        if not self.is_file and self.random.random() < self.options.zombies:
            victim.send(signal.SIGSTOP)
            lease = float(self.env["MN_LEASE_SECONDS"])
            self.zombies.append(Zombie(victim, time.monotonic() + lease * self.random.uniform(0.5, 2.5)))
            self.report.zombies += 1
        else:
            victim.kill()
            self.report.kills += 1
        self.report.restarts += 1
        log = self.folder / f"slot-{place}.log"
        self.workers[place] = self.nursery.fork(slots=self.options.slots, log=log)

    def _wake_zombies(self, at: float) -> None:
        """A zombie goes on, has a second to do harm in, and is killed in the end like all others."""
        for zombie in [z for z in self.zombies if z.next_at <= at]:
            if zombie.is_awake:
                zombie.worker.kill()
                self.report.kills += 1
                self.zombies.remove(zombie)
            else:
                zombie.worker.send(signal.SIGCONT)
                zombie.is_awake, zombie.next_at = True, at + 1.0

    def _settle(self) -> None:
        """Nobody is killed any more: everything must come to its end."""
        end = time.monotonic() + self.options.settle
        while time.monotonic() < end:
            self._wake_zombies(time.monotonic())
            for place, worker in enumerate(self.workers):
                if not worker.is_running:
                    self.workers[place] = self.nursery.fork(
                        slots=self.options.slots, log=self.folder / f"slot-{place}.log"
                    )
            if self._is_settled():
                return
            time.sleep(0.5)

    def _is_settled(self) -> bool:
        from django.db import Error, connections

        try:
            return not self._unfinished() and not self._to_mend()
        except Error:
            # The last crash of the database took this process's connection with it.
            connections.close_all()
            if not self.crash_database:
                raise
            return False

    # --- what people do -----------------------------------------------------------------------------------

    def _loop(self, job: Callable[[], None], pause: float) -> None:
        from django.db import Error, connections

        while not self.over.wait(pause):
            try:
                job()
            except Error as exc:
                # The database was crashed on purpose; a person tries again.
                connections.close_all()
                if not self.crash_database:
                    self.report.broken.append(f"{job.__name__}: {type(exc).__name__}: {exc}")
            except Exception as exc:
                self.report.broken.append(f"{job.__name__}: {type(exc).__name__}: {exc}")
        connections.close_all()

    def _unfinished(self) -> int:
        from apps.runs.core.states import RUN_ENDED
        from apps.runs.models import Run

        return Run.objects.exclude(status__in=RUN_ENDED).count()

    def _cancel_some(self) -> None:
        """Somebody changes their mind now and then."""
        from apps.runs.core.states import RUN_ENDED
        from apps.runs.models import Run
        from apps.runs.services import cancel_run
        from mirrorneuron.base.errors import MirrorNeuronError

        if not self.filling or self.random.random() > self.options.cancels:
            return
        open_runs = Run.objects.exclude(status__in=RUN_ENDED).filter(parent_id=None)
        ids = list(open_runs.values_list("id", flat=True)[:50])
        if ids:
            with contextlib.suppress(MirrorNeuronError):
                cancel_run(_me(), self.random.choice(ids), reason="changed my mind")

    def _to_mend(self) -> list[tuple[UUID, str]]:
        """(run, path) of steps killed four times in a row by chance, compensations too, and of subflows whose
        child died of that and was mended since."""
        from apps.runs.models import Run, Step

        failed = list(Run.objects.filter(status="failed"))
        children = [run.error["child"] for run in failed if run.error["code"] == "child_failed"]
        ended_well = Run.objects.filter(id__in=children).exclude(status="failed")
        mended = set(map(str, ended_well.values_list("id", flat=True)))
        # A step in a map fails its item, the map and the run: what is tried again is the step itself.
        steps = [
            (run.id, str(run.error.get("path") or run.error["step"]))
            for run in failed
            if run.error["code"] == "poison" or run.error.get("child") in mended
        ]
        asking = Step.objects.filter(status="waiting", reason="person").values_list("run_id", "path", "error")
        return steps + [(run_id, path) for run_id, path, error in asking if (error or {})["code"] == "poison"]

    def _start_runs(self) -> None:
        from apps.runs.services import start_run

        if not self.filling:
            return
        for _ in range(min(self.options.active - self._unfinished(), 10)):
            name = list(self.versions)[self.started % len(self.versions)]
            reference = f"r{self.options.seed}-{self.started}"
            # A person whose answer was lost asks again with the same key.
            start_run(
                _me(), self.versions[name], {"reference": reference},
                idempotency_key=reference, labels={"kind": name},
            )  # fmt: skip
            self.started += 1

    def _decide(self) -> None:
        from apps.approvals.models import ApprovalRequest
        from apps.approvals.services import decide
        from mirrorneuron.base.errors import MirrorNeuronError

        for request in ApprovalRequest.objects.filter(state="open").order_by("created_at")[:20]:
            verb = "reject" if not request.tool and self.random.random() < 0.3 else "approve"
            with contextlib.suppress(MirrorNeuronError):
                decide(_me(), request.id, verb=verb, **({"reason": "no"} if verb == "reject" else {}))
                self.report.decided += 1

    def _mend(self) -> None:
        """A step that was killed four times in a row by chance is poison; a person has it tried again."""
        from apps.runs.recovery import retry_step
        from mirrorneuron.base.errors import MirrorNeuronError

        for run_id, path in self._to_mend()[:20]:
            with contextlib.suppress(MirrorNeuronError):
                retry_step(_me(), run_id, path, reason="it died of what the harness did")
                self.report.poisoned += 1

    def _answer_doubts(self) -> None:
        """Say what the remote's log says, once no request can still be on its way."""
        from datetime import timedelta

        from apps.ledger.models import Effect
        from apps.runs.models import Step
        from apps.runs.services import resolve_effect
        from mirrorneuron.base.clock import now
        from mirrorneuron.base.errors import MirrorNeuronError

        quiet = now() - timedelta(seconds=1)
        if not self.remote.catch_up():
            return  # A truthful person does not say what cannot be known yet.
        for step in Step.objects.filter(status="in_doubt", due_at=None)[:20]:
            effects = Effect.objects.filter(
                run_id=step.run_id, step_path=step.path, state="in_doubt", call_deadline_at__lt=quiet
            )
            for effect in effects:
                happened = self.remote.is_present(effect.arguments["reference"])
                with contextlib.suppress(MirrorNeuronError):
                    resolve_effect(
                        _me(), effect.id,
                        outcome="happened" if happened else "did_not_happen",
                        reason="the remote's log says so", reference="",
                    )  # fmt: skip
                    self.report.asked += 1

    # --- the verdict --------------------------------------------------------------------------------------

    def _judge(self) -> None:
        from apps.ledger.models import Effect
        from apps.runs.invariants import check_all
        from apps.runs.models import Attempt, Run, Step

        report = self.report
        executed: Counter[str] = Counter()
        for line in list(self.remote.lines):
            report.received += line["event"] == "received"
            if line["event"] == "executed":
                executed[line["body"]["reference"]] += 1
        report.executed = sum(executed.values())
        committed: Counter[str] = Counter()
        for state, arguments in Effect.objects.values_list("state", "arguments").iterator():
            report.effects[state] += 1
            committed[arguments["reference"]] += state == "committed"
        for reference in executed.keys() | committed.keys():
            there, here = executed[reference], committed[reference]
            if there <= 1 and there == here:
                continue
            told = f"{reference}: executed {there} times, committed {here} times"
            found = report.duplicated if there > 1 or here > 1 else report.lost
            found.append(f"{told}\n{self._evidence(reference)}")
        for run in Run.objects.only("id", "status", "error", "blueprint_name", "inputs").iterator():
            self._judge_run(run, executed)
        there = Run.objects.filter(parent_id=None).count()
        if there != self.started:
            report.lost.append(f"{self.started} runs were started, {there} are there")
        report.steps = Step.objects.count()
        report.losses = Attempt.objects.filter(status="lost").count()
        report.broken += [str(finding) for finding in check_all()]
        for log in sorted(self.folder.glob("slot-*.log")):
            text = log.read_text(errors="replace")
            report.logged += [
                f"{log.name}: {text[at : at + 1500]}"
                for at in _places(text)[: max(0, 5 - len(report.logged))]
            ]

    def _evidence(self, reference: str) -> str:
        """All that is known of one effect, from both sides, in order of time."""
        from datetime import UTC, datetime

        from apps.ledger.models import Effect
        from apps.ledger.selectors import entries

        told = []
        for line in list(self.remote.lines):
            if isinstance(line["body"], dict) and line["body"].get("reference") == reference:
                at = datetime.fromtimestamp(line["at"], UTC)
                told.append((at, f"remote {line['event']} {line['path']} key {line['key'][:8]}"))
        for effect in Effect.objects.filter(arguments__reference=reference):
            told.append(
                (effect.created_at,
                 f"effect {effect.state} generation {effect.generation} sends {effect.sends} "
                 f"fence {effect.fence} sent {effect.sent_at} deadline {effect.call_deadline_at} "
                 f"resolution {effect.resolution} error {effect.error} key {effect.key[:8]}")
            )  # fmt: skip
            for entry in entries(effect.run_id, path=effect.step_path):
                told.append((entry.at, f"{entry.seq} {entry.kind} attempt {entry.attempt} {entry.data}"))
        lines = dict.fromkeys(f"    {at:%H:%M:%S.%f} {what}" for at, what in sorted(told))
        return "\n".join(lines)

    def _judge_run(self, run: Any, executed: Counter[str]) -> None:
        report, reference = self.report, run.inputs["reference"]
        report.runs[run.status] += 1
        if run.status not in ("succeeded", "failed", "cancelled"):
            report.stuck.append(f"run {run.id} ({run.blueprint_name}) is {run.status}: {_why(run)}")
        elif run.status == "succeeded":
            for end in mixed.must_happen(run.blueprint_name.removeprefix("soak_")):
                if executed[f"{reference}.{end}"] != 1:
                    times = executed[f"{reference}.{end}"]
                    report.lost.append(
                        f"run {run.id} succeeded, but {reference}.{end} happened {times} times"
                    )
        elif run.status == "failed":
            report.failed.append(f"run {run.id} ({run.blueprint_name}): {run.error}")


def _places(text: str) -> list[int]:
    return sorted(at for word in ERRORS if (at := text.find(word)) >= 0)


def _why(run: Any) -> str:
    from apps.runs.selectors import step_rows

    rows = [step for step in step_rows(run) if step.status not in ("succeeded", "skipped", "cancelled")]
    return str([(s.path, s.status, s.reason, s.due_at, s.worker, s.losses) for s in rows[:5]])


def _me() -> Any:
    from apps.workspaces.access import principal_for
    from apps.workspaces.services import ensure_laptop_owner

    return principal_for(*ensure_laptop_owner(), "cli")


@contextlib.contextmanager
def installation(options: Options) -> Iterator[Soak]:
    """Database, broker, remote and folder for one soak; all gone afterwards, but logs after a bad one."""
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="mn-soak-"))
        data = folder / "data"
        data.mkdir()
        more: dict[str, str] = {"MN_LOG_LEVEL": "warning", "MN_POLL_SECONDS": "0.1"}
        cluster: Cluster | None = None
        redis: Redis | None = None
        if options.database == "cluster":
            cluster = Cluster.create(max_connections="200")
            stack.callback(cluster.remove)
            more["DATABASE_URL"] = cluster.url()
        elif options.database != "file":
            os.environ["MN_TEST_POSTGRES"] = options.database
            more["DATABASE_URL"] = stack.enter_context(postgres_database(f"mn_soak_{os.getpid()}"))
        if options.broker == "redis":
            redis = Redis(folder)
            stack.callback(redis.kill)
            more["BROKER_URL"] = redis.url
        elif options.broker != "none":
            more["BROKER_URL"] = options.broker
        env = environment(data, **more)
        for name in [n for n in os.environ if n.startswith("MN_") and not n.startswith("MN_TEST_")]:
            del os.environ[name]
        # This process only plays the people: it holds no lease and works no step.
        os.environ.update(env)
        import django

        django.setup()
        remote = stack.enter_context(serve())
        soak = Soak(options, env, folder, remote)
        soak.flush = redis.flush if redis else None
        soak.crash_database = (lambda: cluster.restart("immediate")) if cluster else None
        yield soak
        from django.db import connections

        connections.close_all()
        if soak.report.is_good:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            sys.stdout.write(f"The workers' logs are in {folder}\n")


def parse(arguments: list[str]) -> Options:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__.splitlines()[0])
    defaults = Options()
    for name, value in vars(defaults).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    options = Options(**vars(parser.parse_args(arguments)))
    if not options.kills and not options.seconds:
        parser.error("say how long: --kills N or --seconds N")
    return options


def main(arguments: list[str]) -> int:
    options = parse(arguments)

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    with installation(options) as soak:
        soak.says = say
        report = soak.run()
        for line in report.lines():
            say(line)
    say("PASSED" if report.is_good else "FAILED")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
