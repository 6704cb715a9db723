"""The pure engine against a machine that does anything in any order, on graphs of any shape.

The machine keeps rows as a database would: each decision is made on what it would have read, compared with
the same decision made on everything, and written only if every changed row is still as expected. After each
one the counters must be those of the rows, no move may be outside the table, and something must be able to
go on.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from copy import copy
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from apps.blueprints.core.document import Document
from apps.runs.core.plan import compile_plan, enclosing, scope_of
from apps.runs.core.recovery import CannotRecover
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.core.transition import Transition

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOOT = uuid4()
HEADER = (
    "status", "seq", "pause_requested", "cancel_requested", "error", "retries_used", "active", "idle",
    "stuck", "started_at",
)  # fmt: skip
PICK = st.integers(0, 1_000_000)
OPEN_ENDS = (StepStatus.READY, StepStatus.RUNNING, StepStatus.WAITING, StepStatus.IN_DOUBT)

# --- graphs -----------------------------------------------------------------------------------------------


@st.composite
def graphs(draw: Any, depth: int = 0, prefix: str = "n") -> dict[str, Any]:
    """Acyclic, with joins of every mode, conditions, failure edges, maps, loops, and a back edge or two."""
    size = draw(st.integers(1, 3) if depth else st.integers(2, 6))
    kinds = ["transform", "transform", "aggregator", "check", *(["map", "loop"] if depth < 2 else [])]
    nodes: list[dict[str, Any]] = []
    edges: list[dict[str, Any]] = []
    for i in range(size):
        kind = draw(st.sampled_from(kinds))
        node: dict[str, Any] = {"id": f"{prefix}{i}", "kind": kind}
        if kind == "aggregator" or kind == "map":
            joins = ["all", "any", "all_settled", "first_success", "n_of_m"]
            node["join"] = draw(st.sampled_from(joins))
            if node["join"] == "n_of_m":
                node["n"] = draw(st.integers(1, 2))
        if kind == "map":
            node |= {"items": "some", "max_parallel": draw(st.integers(1, 3))}
        if kind == "loop":
            node |= {"max_rounds": draw(st.integers(1, 3))}
            node["condition"] = draw(st.sampled_from(["", "second", "no", "broken"]))
        if kind in ("map", "loop"):
            node["body"] = draw(graphs(depth + 1, f"{prefix}{i}"))
        if draw(st.integers(0, 6)) == 0:
            node["when"] = draw(st.sampled_from(["yes", "no", "broken"]))
        node["retry"] = {"max_attempts": draw(st.integers(1, 2))}
        nodes.append(node)
        for j in range(i):
            if draw(st.integers(0, 2)) == 0:
                edges.append(_edge(draw, nodes[j], node["id"]))
    checks = [i for i, node in enumerate(nodes) if node["kind"] == "check"]
    if checks and draw(st.booleans()):
        source = draw(st.sampled_from(checks))
        target = draw(st.integers(0, source))
        back = {"from": f"{nodes[source]['id']}.fail", "to": nodes[target]["id"]}
        edges.append(back | {"max_rounds": draw(st.integers(2, 3))})
    return {"nodes": nodes, "edges": edges}


def _edge(draw: Any, source: dict[str, Any], target: str) -> dict[str, Any]:
    ports = {"check": [".pass", ".pass", ".fail"], "loop": ["", "", ".exhausted"]}.get(source["kind"], [""])
    port = ".failed" if draw(st.integers(0, 4)) == 0 else draw(st.sampled_from(ports))
    edge = {"from": source["id"] + port, "to": target}
    if draw(st.integers(0, 6)) == 0:
        edge["when"] = draw(st.sampled_from(["yes", "no"]))
    return edge


def _evaluate(expression: str, names: dict[str, Any], scope: str) -> Any:
    if expression == "broken":
        raise ValueError("broken cannot be evaluated")
    return {"yes": True, "no": False, "second": names.get("round", 0) >= 2}[expression]


# --- rows -------------------------------------------------------------------------------------------------


class Rows:
    """A run as a database holds it."""

    def __init__(self, document: Document) -> None:
        self.plan = compile_plan(document)
        self.header: dict[str, Any] = {
            "id": uuid4(), "workspace_id": uuid4(), "status": RunStatus.QUEUED, "seq": 0,
        }  # fmt: skip
        self.steps: dict[str, StepState] = {}
        self.kinds: list[tuple[str, str]] = []
        self.at = AT

    def read(self, path: str | None) -> RunState:
        """What `transact.state_of` reads for a decision about `path`; everything when None."""
        state = RunState(**self.header)
        if not self.plan.bodies:
            path = None
        else:
            state.load = self._scope
            state.load_open = self._open_scopes
        scopes = (
            dict.fromkeys(enclosing(scope_of(path)))
            if path is not None
            else dict.fromkeys(["", *(scope_of(p) for p in self.steps)])
        )
        for scope in scopes:
            state.add_scope(scope, self._scope(scope))
        return state

    def _scope(self, scope: str) -> list[StepState]:
        return [copy(step) for step in self.steps.values() if step.scope == scope]

    def _open_scopes(self, prefix: str) -> list[str]:
        found = {s.scope for s in self.steps.values() if not s.has_ended and s.scope.startswith(prefix)}
        return sorted(found)

    def decide(self, path: str | None, change: Any, *, reopens: bool = False) -> Transition:
        """Decide on what is read, and on everything; both must agree. Then write.

        reopens: what has ended may go on, as a person wishes.
        """
        self.at += timedelta(seconds=1)
        t = self._decision(self.read(path), change)
        if path is not None and self.plan.bodies:
            whole = self._decision(self.read(None), change)
            assert t.entries == whole.entries, "what was not read would have changed the decision"
            assert t.updates == whole.updates
            assert {p: t.state.steps[p] for p in t.updates} == {p: whole.state.steps[p] for p in t.updates}
            assert sorted(t.inserts) == sorted(whole.inserts)
        self._write(t, reopens)
        return t

    def _decision(self, state: RunState, change: Any) -> Transition:
        t = Transition(plan=self.plan, state=state, now=self.at, evaluate=_evaluate, jitter=0.5)
        change(t)
        t.settle()
        return t

    def _write(self, t: Transition, reopens: bool) -> None:
        for path in t.updates:
            if path in t.inserts:
                assert path not in self.steps, f"{path} is inserted twice"
            else:
                before = self.steps[path]
                assert t.expected[path] == (before.status, before.fence), "the write would be dropped"
                fixed = {StepStatus.SUCCEEDED, StepStatus.SKIPPED} if reopens else STEP_ENDED
                assert before.status not in fixed, f"{path} was {before.status} and was changed"
            self.steps[path] = copy(t.state.steps[path])
        for path, step in t.state.steps.items():
            assert path in t.updates or self.steps[path] == step, (
                f"{path} was changed and would not be stored"
            )
        self.header |= {name: getattr(t.state, name) for name in HEADER}
        self.header["seq"] += len(t.entries)
        self.kinds += [(entry.kind, entry.path) for entry in t.entries]


class AnyOrder(RuleBasedStateMachine):
    """Anything that can happen to a run, at any time."""

    rows: Rows
    recovered = 0

    @initialize(graph=graphs())
    def begin(self, graph: dict[str, Any]) -> None:
        self.rows = Rows(
            Document.model_validate(
                {
                    "metadata": {"name": "t"},
                    "contract": {"recovery_policy": {"run_retry_budget": 5}},
                    "graph": graph,
                }
            )
        )
        self.rows.decide(None, lambda t: t.start())

    # --- choosing -----------------------------------------------------------------------------------------

    def _with(self, *statuses: StepStatus) -> list[StepState]:
        found = [s for s in self.rows.steps.values() if s.status in statuses and not s.is_pass]
        return [s for s in found if s.reason != "child"]

    def _claimable(self) -> list[StepState]:
        ready = self._with(StepStatus.READY)
        if not ready:
            return []
        t = self.rows._decision(self.rows.read(None), lambda t: None)
        return [s for s in ready if t.may_claim(s.path)]

    def _running(self, pick: int) -> StepState | None:
        return _choose(self._with(StepStatus.RUNNING), pick)

    def _do(self, step: StepState | None, change: Any) -> None:
        if step is not None:
            self.rows.decide(step.path, lambda t: change(t, step.path))

    # --- what workers do ----------------------------------------------------------------------------------

    @rule(pick=PICK)
    def claim(self, pick: int) -> None:
        self._do(_choose(self._claimable(), pick), lambda t, p: t.claim(p, BOOT, 60))

    @rule(pick=PICK, total=st.integers(1, 4), other=st.integers(0, 3))
    def succeed(self, pick: int, total: int, other: int) -> None:
        step = self._running(pick)
        if step is not None:
            self._do(step, lambda t, p: _succeed(t, p, total, other_port=other == 0))

    @rule(pick=PICK, permanent=st.booleans())
    def fail(self, pick: int, permanent: bool) -> None:
        error = {"code": "x", "message": "x"}
        self._do(
            self._running(pick),
            lambda t, p: t.try_again_or_fail(p, error, permanent=permanent, retry_after=None),
        )

    @rule(pick=PICK)
    def wait(self, pick: int) -> None:
        step = self._running(pick)
        if step is not None and step.kind not in ("map", "loop"):
            self._do(step, lambda t, p: t.wait(p, "signal", None, None))

    @rule(pick=PICK, person=st.booleans())
    def doubt(self, pick: int, person: bool) -> None:
        step = self._running(pick)
        if step is not None and step.kind not in ("map", "loop"):
            due = None if person else self.rows.at
            self._do(step, lambda t, p: t.doubt(p, due, {}))

    @rule(pick=PICK)
    def hand_back(self, pick: int) -> None:
        self._do(self._running(pick), lambda t, p: t.hand_back(p))

    @rule(pick=PICK, counts=st.booleans())
    def lose(self, pick: int, counts: bool) -> None:
        self._do(self._running(pick), lambda t, p: t.lose(p, "its worker is gone", counts=counts))

    @rule(pick=PICK)
    def wake(self, pick: int) -> None:
        idle = self._with(StepStatus.WAITING, StepStatus.IN_DOUBT)
        self._do(_choose(idle, pick), lambda t, p: t.wake(p))

    # --- what people do -----------------------------------------------------------------------------------

    def _may_be_stopped(self) -> bool:
        header = self.rows.header
        return header["status"] not in RUN_ENDED and not header["cancel_requested"]

    @precondition(lambda self: self._may_be_stopped())
    @rule(chance=st.integers(0, 9))
    def cancel(self, chance: int) -> None:
        if chance == 0:
            self.rows.decide(None, lambda t: t.cancel())

    @precondition(lambda self: self._may_be_stopped() and not self.rows.header["pause_requested"])
    @rule()
    def pause(self) -> None:
        self.rows.decide(None, lambda t: t.pause())

    @precondition(lambda self: self.rows.header["pause_requested"])
    @rule()
    def resume(self) -> None:
        if self.rows.header["status"] not in RUN_ENDED:
            self.rows.decide(None, lambda t: t.resume(5.0))

    def _recover(self, change: Any) -> None:
        """A person's act; refused when it makes no sense. Few of them, so that every run ends."""
        if self.recovered < 4:
            with contextlib.suppress(CannotRecover):
                self.rows.decide(None, change, reopens=True)
                self.recovered += 1

    @rule(pick=PICK)
    def retry(self, pick: int) -> None:
        failed = [s for s in self.rows.steps.values() if s.status is StepStatus.FAILED and not s.is_pass]
        step = _choose(failed, pick)
        if step is not None:
            self._recover(lambda t: t.retry(step.path, by={"by": "alice"}))

    @rule(pick=PICK, blocked=st.booleans())
    def skip(self, pick: int, blocked: bool) -> None:
        standing = (StepStatus.FAILED, StepStatus.WAITING, StepStatus.IN_DOUBT)
        paths = [s.path for s in self.rows.steps.values() if s.status in standing and not s.is_pass]
        if blocked:
            paths = [n for n in self.rows.plan.order if n not in self.rows.steps]
        if paths:
            path = paths[pick % len(paths)]
            self._recover(lambda t: t.skip(path, {"instead": 1}, by={"by": "alice"}))

    # --- what must hold -----------------------------------------------------------------------------------

    @invariant()
    def counters_are_those_of_the_rows(self) -> None:
        counted = [sum(column) for column in zip(*(s.counts for s in self.rows.steps.values()), strict=True)]
        header = self.rows.header
        assert [header["active"], header["idle"], header["stuck"]] == (counted or [0, 0, 0])

    @invariant()
    def the_run_ends_exactly_when_its_steps_have(self) -> None:
        all_ended = all(step.has_ended for step in self.rows.steps.values())
        assert (self.rows.header["status"] in RUN_ENDED) == all_ended, "I6"
        life = [kind for kind, _ in self.rows.kinds if kind in ENDS or kind == "run.reopened"]
        assert all(b == "run.reopened" for a, b in pairwise(life) if a in ENDS), "I3"
        assert (bool(life) and life[-1] in ENDS) == all_ended, "I3"

    @invariant()
    def nothing_is_stuck(self) -> None:
        header = self.rows.header
        if header["status"] in RUN_ENDED:
            assert (header["error"] or {}).get("code") != "stalled", header["error"]
            return
        if not header["pause_requested"]:
            moving = self._with(StepStatus.RUNNING, StepStatus.WAITING, StepStatus.IN_DOUBT)
            assert moving or self._claimable(), self._shown()

    @invariant()
    def containers_count_their_passes(self) -> None:
        for step in self.rows.steps.values():
            if step.kind not in ("map", "loop") or not step.memo or "opened" not in step.memo:
                continue
            passes = [s for s in self.rows.steps.values() if s.is_pass and _container(s) == step.path]
            ended = [s for s in passes if s.has_ended]
            memo = step.memo
            assert memo["opened"] == len(passes), f"{step.path}: {memo}"
            if not step.has_ended and not memo.get("settled"):
                assert memo["done"] + memo["failed"] == len(ended), f"{step.path}: {memo}"
            if step.kind == "map":
                width = self.rows.plan.for_scope(step.scope).nodes[step.node_id].max_parallel
                assert len(passes) - len(ended) <= width
            for this in ended:
                inside = [s for s in self.rows.steps.values() if s.scope == this.scope]
                assert all(s.has_ended for s in inside), f"{this.path} ended before {inside}"

    @invariant()
    def a_step_succeeds_once(self) -> None:
        succeeded = Counter(path for kind, path in self.rows.kinds if kind == "step.succeeded")
        twice = [path for path, times in succeeded.items() if times > 1]
        assert not twice

    def _shown(self) -> str:
        steps = [
            (s.path, str(s.status), s.reason, s.memo) for s in self.rows.steps.values() if not s.has_ended
        ]
        return f"{self.rows.header['status']}: {steps}"

    def teardown(self) -> None:
        """Left to itself, with nothing going wrong any more, every run comes to its end."""
        if not hasattr(self, "rows"):
            return
        if self.rows.header["pause_requested"]:
            self.resume()
        for _ in range(3000):
            if self.rows.header["status"] in RUN_ENDED:
                break
            for step in self._with(StepStatus.WAITING, StepStatus.IN_DOUBT):
                if self.rows.steps[step.path].status in (StepStatus.WAITING, StepStatus.IN_DOUBT):
                    self._do(step, lambda t, p: t.wake(p))
            for step in self._claimable()[:1]:
                self._do(step, lambda t, p: t.claim(p, BOOT, 60))
            for step in self._with(StepStatus.RUNNING)[:1]:
                self._do(step, lambda t, p: _succeed(t, p, 2, other_port=False))
        self.the_run_ends_exactly_when_its_steps_have()
        self.counters_are_those_of_the_rows()
        assert self.rows.header["status"] in RUN_ENDED, self._shown()


ENDS = ("run.succeeded", "run.failed", "run.cancelled")


def _choose(steps: list[StepState], pick: int) -> StepState | None:
    return steps[pick % len(steps)] if steps else None


def _container(this: StepState) -> str:
    return this.scope[: this.scope.rindex("[")]


def _succeed(t: Transition, path: str, total: int, *, other_port: bool) -> None:
    step = t.state.steps[path]
    if step.kind in ("map", "loop") and not (step.memo or {}).get("settled"):
        t.open_body(path, total=total if step.kind == "map" else None)
        return
    port = "fail" if other_port and step.kind == "check" else ""
    t.succeed(path, {"from": path}, port)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=int(os.environ.get("MN_TEST_EXAMPLES", "120")),
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


@pytest.fixture(autouse=True)
def _no_database() -> None:
    """Nothing here touches one."""
