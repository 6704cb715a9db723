"""Our engine as a subject: `python -m bench.engine SLOTS`; with 0 slots it only starts runs for others."""

from __future__ import annotations

import base64
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

from bench import documents, house
from bench.child import obey

RUN_SECONDS = 120.0
CLIENTS = 4
"""Threads that answer questions at the same time in W4."""
WAITS_FOR = {"question": "approval", "listener": "signal"}
"""The reason with which the runs of W4 wait, by document."""
DOCUMENTS: dict[str, Callable[[], dict[str, Any]]] = {
    "chain.recorded": lambda: documents.chain("recorded"),
    "chain.pure": lambda: documents.chain("pure"),
    "fan.recorded": lambda: documents.fan_out("recorded"),
    "fan.pure": lambda: documents.fan_out("pure"),
    "map.recorded": lambda: documents.mapped("recorded"),
    "map.pure": lambda: documents.mapped("pure"),
    "chain100.pure": lambda: documents.chain("pure", 100),
    "question": documents.question,
    "listener": documents.listener,
    "passing": documents.passing,
}
EXPECTED = {"chain": documents.STEPS - 1, "fan": documents.WIDTH, "map": documents.WIDTH,
            "passing": documents.PAYLOAD_CHARACTERS, "chain100": 99}  # fmt: skip


class Engine:
    def __init__(self, slots: int) -> None:
        house.open_house()
        house.register_handlers()
        self.house = house.House()
        self._documents = {name: make() for name, make in DOCUMENTS.items()}
        self.worker: Any = None
        self.ear: house.Ear | house.FarEar = house.Ear() if slots else house.FarEar()
        if slots:
            from mirrorneuron.workers import ThreadedWorker

            self.worker = ThreadedWorker(queues=("default",), slots=slots, embedded=True, sole=_sole())
            self.worker.start()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop(5.0)

    # --- verbs

    def hello(self) -> dict[str, Any]:
        """What this engine can be asked to do."""
        from apps.runs import ports
        from mirrorneuron import __version__

        kinds = [k for k in ("map", "sensor", "approval") if ports.handler_for(k) is not None]
        return {"version": __version__, "kinds": kinds}

    def one_by_one(self, what: str, runs: int) -> dict[str, Any]:
        """Runs on an idle engine, each from call to result."""
        house.COUNTER.taken()
        document, seconds = self._documents[what], []
        for _ in range(runs):
            inputs = self._inputs(what)
            began = time.perf_counter()
            output = self.ear.wait(self.house.start(document, inputs), RUN_SECONDS)
            seconds.append(time.perf_counter() - began)
            _check(what, output)
        return _answer(seconds=seconds)

    def all_at_once(self, what: str, runs: int) -> dict[str, Any]:
        """From the first call until the last of all runs has ended."""
        house.COUNTER.taken()
        document, before = self._documents[what], house.ended_since(0)
        began = time.perf_counter()
        for _ in range(runs):
            last = self.house.start(document)
        started = time.perf_counter() - began
        while house.ended_since(before) < runs:
            if time.perf_counter() - began > RUN_SECONDS * 3:
                raise RuntimeError(f"{house.ended_since(before)} of {runs} runs have ended")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        _check(what, self.ear.wait(last, 1))
        return _answer(seconds=[seconds], started=started)

    def park(self, what: str, runs: int) -> dict[str, Any]:
        """Start runs that wait, and wait until all of them do."""
        house.COUNTER.taken()
        before = _waiting(what)
        began = time.perf_counter()
        for _ in range(runs):
            self.house.start(self._documents[what])
        while (waiting := _waiting(what) - before) < runs:
            if time.perf_counter() - began > 900:
                raise RuntimeError(f"{waiting} of {runs} runs wait")
            time.sleep(0.02)
        return _answer(seconds=[time.perf_counter() - began])

    def wake(self, what: str, runs: int) -> dict[str, Any]:
        """Answer that many of the waiting runs, and wait until they have ended."""
        house.COUNTER.taken()
        waiting, before = _who_waits(what, runs), house.ended_since(0)
        act = self._approve if what == "question" else self._signal
        failures: list[BaseException] = []

        def client(mine: list[Any]) -> None:
            from django.db import connection

            try:
                for one in mine:
                    act(one)
            except BaseException as exc:
                failures.append(exc)
            finally:
                connection.close()

        began = time.perf_counter()
        threads = [threading.Thread(target=client, args=(waiting[i::CLIENTS],)) for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        answered = time.perf_counter() - began
        while house.ended_since(before) < runs:
            if time.perf_counter() - began > 300:
                raise RuntimeError(f"{house.ended_since(before)} of {runs} runs have ended")
            time.sleep(0.005)
        return _answer(seconds=[time.perf_counter() - began], answered=answered)

    def _approve(self, request_id: Any) -> None:
        from apps.approvals.services import decide

        decide(self.house.principal, request_id, verb="approve")

    def _signal(self, run_id: Any) -> None:
        from apps.runs.services import deliver_signal

        deliver_signal(self.house.principal, run_id, "go", {"go": True})

    def queue(self, what: str) -> dict[str, Any]:
        """Start a run that nobody works yet; for the worker whose start is measured."""
        return {"run": str(self.house.start(self._documents[what]))}

    def has_ended(self, run: str) -> dict[str, Any]:
        return {"ended": house.look(UUID(run))[0] == "succeeded"}

    def workers(self) -> dict[str, Any]:
        """How many worker processes are at work."""
        from apps.runs.models import Worker

        return {"workers": Worker.objects.filter(stopped_at=None).count()}

    def pages(self, runs: int) -> dict[str, Any]:
        from bench.pages import prepare

        return prepare(self, runs)

    def page_data(self, run: str, rounds: int) -> dict[str, Any]:
        from bench.pages import page_data

        return page_data(self.house.principal, run, rounds)

    def queries(self, token: str, addresses: dict[str, str]) -> dict[str, Any]:
        from bench.pages import queries

        return queries(token, addresses)

    def verbs(self) -> dict[str, Callable[..., Any]]:
        names = (
            "hello", "one_by_one", "all_at_once", "park", "wake", "queue", "has_ended", "workers",
            "pages", "page_data", "queries",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def _inputs(self, what: str) -> dict[str, Any]:
        if what != "passing":
            return {}
        # A new one for each run: what is stored once must not have been stored by the one before.
        return {"text": base64.urlsafe_b64encode(os.urandom(documents.PAYLOAD_CHARACTERS * 3 // 4)).decode()}


def _check(what: str, output: Any) -> None:
    expected = EXPECTED[what.partition(".")[0]]
    if output != {"last": expected}:
        raise RuntimeError(f"{what} returned {str(output)[:200]}, expected {expected}")


def _answer(**found: Any) -> dict[str, Any]:
    return {**found, "counted": house.COUNTER.taken()}


def _sole() -> bool:
    from mirrorneuron.config import config

    return config().is_sqlite


def _waiting(what: str) -> int:
    """Steps that wait as those of this document do; others may be waiting beside them."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            house.LOOKING + "SELECT count(*) FROM runs_step WHERE status = 'waiting' AND reason = %s",
            [WAITS_FOR[what]],
        )
        return int(cursor.fetchone()[0])


def _who_waits(what: str, runs: int) -> list[Any]:
    """Ids of the questions, or of the runs that listen."""
    if what == "question":
        from apps.approvals.models import ApprovalRequest

        return list(ApprovalRequest.objects.filter(state="open").values_list("id", flat=True)[:runs])
    from apps.runs.models import Step

    waiting = Step.objects.filter(status="waiting", reason=WAITS_FOR[what])
    return list(waiting.values_list("run_id", flat=True)[:runs])


def main(slots: int) -> None:
    engine = Engine(slots)
    try:
        obey(engine.verbs())
    finally:
        engine.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]))
