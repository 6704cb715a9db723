"""Forks, decided without a database: what is taken over, what is done again, and that the new run ends."""

from __future__ import annotations

import random
from itertools import pairwise
from types import SimpleNamespace
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.runs.core.forking import Forking, Recorded, vanished
from apps.runs.core.plan import compile_plan, scope_of
from apps.runs.core.recovery import CannotRecover
from apps.runs.core.state import RunState
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from tests.runs import test_bodies, test_transition
from tests.runs.fold import fold
from tests.runs.test_bodies import Bodied, counted, looping, mapping, moves
from tests.runs.test_transition import ROUNDS, document, t

DATA = {"by": "alice@example.com", "reason": "again"}


def payload(output):
    return SimpleNamespace(input=None, output=output, error=None)


class Forked(Bodied):
    """A run forked from another one, which goes on like any other."""

    def __init__(self, old, *, redo=(), edits=None, doc=None):
        self.yes_from = old.yes_from
        self.outputs = {}
        self.evaluate = old.evaluate
        self.plan = compile_plan(doc) if doc else old.plan
        self.state = RunState(id=uuid4(), workspace_id=uuid4(), status=RunStatus.QUEUED, seq=0)
        self.entries = []
        self.at = old.at
        order = {path: n for n, (_kind, path) in enumerate(old.entries)}
        x = Forking(
            plan=self.plan, state=self.state, now=self.at, evaluate=self.evaluate,
            learn=self.outputs.__setitem__, item_of=lambda path, k: f"item {k}",
            result_of=lambda scope: f"result of {scope}",
            source={
                path: Recorded(step, payload(old.outputs.get(path)), (order.get(path, 0),))
                for path, step in old.state.steps.items()
            },
            redo=redo, edits=edits or {}, edited_by=("user:1",),
        )  # fmt: skip
        x.fork(DATA)
        x.settle()
        self.first = x
        self.entries += [(e.kind, e.path) for e in x.entries]


def chain_run(*done, nodes="abc"):
    e = Bodied(document([t(n) for n in nodes], [{"from": a, "to": b} for a, b in pairwise(nodes)]))
    for path in done:
        e.succeed(path)
    return e


def test_a_fork_of_a_failed_run_goes_on_at_what_failed():
    e = chain_run("a")
    e.fail("b")
    f = Forked(e)
    assert (f.first.kept, f.ready(), f.state.status) == (["a"], ["b"], RunStatus.RUNNING)
    f.succeed("b")
    f.succeed("c")
    assert f.state.status is RunStatus.SUCCEEDED


def test_a_redone_step_takes_all_that_follows_with_it():
    f = Forked(chain_run("a", "b", "c"), redo=["b"])
    assert (f.first.kept, f.ready(), f.status("c")) == (["a"], ["b"], None)


def test_an_edited_step_is_kept_with_the_new_output_and_what_follows_is_redone():
    f = Forked(chain_run("a", "b", "c"), edits={"a": {"n": 2}})
    assert (f.first.kept, f.ready()) == (["a"], ["b"])
    assert f.first.updates["a"]["output"] == {"n": 2}
    assert f.state.steps["a"].labels == ("user:1",)


def test_a_fork_of_a_running_run_keeps_what_has_succeeded():
    e = chain_run("a")
    e.claim("b")
    assert Forked(e).first.kept == ["a"]


def test_branches_that_do_not_depend_on_the_redone_step_are_kept():
    doc = document(
        [t("a"), t("x"), t("y"), {"id": "j", "kind": "aggregator"}],
        [
            {"from": "a", "to": "x"},
            {"from": "a", "to": "y"},
            {"from": "x", "to": "j"},
            {"from": "y", "to": "j"},
        ],
    )
    e = Bodied(doc)
    for path in "axyj":
        e.succeed(path)
    f = Forked(e, redo=["x"])
    assert (f.first.kept, f.ready()) == (["a", "y"], ["x"])


def rounds():
    e = Bodied(ROUNDS)
    for path, port in (
        ("plan", ""),
        ("draft", ""),
        ("ask", "changes"),
        ("draft[2]", ""),
        ("ask[2]", "approved"),
    ):
        e.succeed(path, port)
    e.succeed("send")
    return e


@pytest.mark.parametrize(
    ("redo", "kept", "ready"),
    [
        ("plan", [], ["plan"]),
        ("draft", ["plan"], ["draft"]),
        ("draft[2]", ["plan", "draft", "ask"], ["draft[2]"]),
        ("ask[2]", ["plan", "draft", "ask", "draft[2]"], ["ask[2]"]),
        ("send", ["plan", "draft", "ask", "draft[2]", "ask[2]"], ["send"]),
    ],
)
def test_rounds_before_the_redone_one_are_kept(redo, kept, ready):
    f = Forked(rounds(), redo=[redo])
    assert (f.first.kept, f.ready()) == (kept, ready)


def test_an_edited_decision_of_an_earlier_round_drops_the_later_rounds():
    f = Forked(rounds(), edits={"ask": {"feedback": "shorter"}})
    assert (f.first.kept, f.ready()) == (["plan", "draft", "ask"], ["draft[2]"])


def test_a_handled_failure_is_taken_over_with_what_handled_it():
    e = Bodied(
        document([t("a"), t("b"), t("c")], [{"from": "a.failed", "to": "b"}, {"from": "b", "to": "c"}])
    )
    e.fail("a")
    e.succeed("b")
    f = Forked(e)
    assert (f.first.kept, f.status("a"), f.ready()) == (["a", "b"], "failed", ["c"])


def test_a_join_that_hears_of_a_redone_step_is_redone_although_another_had_settled_it():
    e = Bodied(test_transition.join("any"))
    e.succeed("a")
    e.succeed("j")
    f = Forked(e, redo=["a"])
    assert f.first.kept == []


def test_another_version_decides_anew_what_follows():
    e = chain_run("a", "b")
    doc = document([t("a"), t("n"), t("c")], [{"from": "a", "to": "n"}, {"from": "n", "to": "c"}])
    assert "no node" in vanished(compile_plan(doc), ["a", "b"], _source(e))
    assert vanished(compile_plan(doc), ["a"], _source(e)) == ""
    f = Forked(e, doc=doc)
    assert (f.first.kept, f.ready()) == (["a"], ["n"])


def test_a_node_of_another_kind_cannot_take_a_step_over():
    e = chain_run("a")
    doc = document([{"id": "a", "kind": "check"}], [])
    assert "is of kind transform" in vanished(compile_plan(doc), ["a"], _source(e))


def _source(e):
    return {path: Recorded(step, payload(None)) for path, step in e.state.steps.items()}


def test_a_condition_that_cannot_be_evaluated_with_the_new_output_is_said_in_words():
    e = Bodied(document([t("a"), t("b")], [{"from": "a", "to": "b", "when": "yes"}]))
    e.succeed("a")
    e.evaluate = test_transition._no
    with pytest.raises(CannotRecover, match="cannot be evaluated"):
        Forked(e, edits={"a": 1})


# --- bodies -------------------------------------------------------------------------------------------------


def map_run(done, *, total=3, **more):
    nodes = [mapping([t("a"), t("b")], [{"from": "a", "to": "b"}], max_parallel=3, **more), t("z")]
    e = Bodied(document(nodes, [{"from": "each", "to": "z"}]))
    e.open("each", total=total)
    for item in done:
        e.done(f"each[{item}]/a")
        e.done(f"each[{item}]/b")
    return e


def test_a_map_that_ended_is_taken_over_whole():
    e = map_run([0, 1, 2])
    e.done("each")
    f = Forked(e)
    assert (f.first.kept, f.first.copied, f.ready()) == (["each"], ["each"], ["z"])


def test_a_map_that_failed_keeps_the_items_that_did_not():
    e = map_run([0])
    e.done("each[1]/a")
    e.fail("each[2]/a")
    f = Forked(e)
    assert f.first.copied == ["each[0]"]
    assert f.ready() == ["each[1]/b", "each[2]/a"]
    assert counted(f)
    for path in ("each[1]/b", "each[2]/a", "each[2]/b", "each", "z"):
        f.done(path)
    assert f.state.status is RunStatus.SUCCEEDED


def test_one_item_of_a_map_that_ended_is_redone():
    e = map_run([0, 1, 2])
    e.done("each")
    e.done("z")
    f = Forked(e, redo=["each[1]/b"])
    assert (f.first.copied, f.ready(), f.status("z")) == (["each[0]", "each[2]"], ["each[1]/b"], None)
    f.done("each[1]/b")
    f.done("each")
    f.done("z")
    assert f.state.status is RunStatus.SUCCEEDED


def test_an_edit_that_ends_the_last_item_settles_the_map():
    e = map_run([0, 1, 2])
    e.done("each")
    f = Forked(e, edits={"each[1]/b": "by hand"})
    assert (f.status("each[1]/."), f.ready()) == ("succeeded", ["each"])
    assert counted(f)


def test_a_loop_keeps_its_rounds_up_to_the_redone_one():
    e = Bodied(document([looping([t("a")])], []), yes_from=3)
    e.open("again")
    for n in (1, 2, 3):
        e.done(f"again[{n}]/a")
    f = Forked(e, redo=["again[2]/a"])
    assert (f.first.copied, f.ready()) == (["again[1]"], ["again[2]/a"])
    f.done("again[2]/a")
    assert f.ready() == ["again[3]/a"]


def test_a_loop_out_of_rounds_goes_on_in_a_version_that_has_more():
    e = Bodied(document([looping([t("a")], max_rounds=1)], []))
    e.open("again")
    e.done("again[1]/a")
    f = Forked(e, doc=document([looping([t("a")], max_rounds=2)], []))
    assert (f.first.copied, f.ready()) == (["again[1]"], ["again[2]/a"])


# --- any run ------------------------------------------------------------------------------------------------


def depends(plan, scope, start):
    """Nodes after `start` in the same round."""
    found, stack = set(), [start]
    while stack:
        for edge in plan.for_scope(scope).outgoing[stack.pop()]:
            if not edge.is_back and edge.target not in found:
                found.add(edge.target)
                stack.append(edge.target)
    return found


@settings(max_examples=150)
@given(st.one_of(test_bodies.graphs(), test_transition.graphs()), st.integers(0, 2**32))
def test_any_run_can_be_forked_at_any_time_and_the_fork_ends(doc, seed):
    rng = random.Random(seed)
    e = Bodied(doc, yes_from=rng.choice([1, 2, 99]))
    e.evaluate = lambda source, names, scope: (
        test_transition._evaluate(source, names, scope) if source in ("broken", "yes") else
        names.get("round", 0) >= e.yes_from
    )  # fmt: skip
    for _ in range(rng.randint(0, 60)):
        if e.state.status in RUN_ENDED:
            break
        e.do(rng.choice(moves(e, list(e.state.steps.values()), rng)))
    nodes = [s for s in e.state.steps.values() if not s.is_pass]
    chosen = [s.path for s in rng.sample(nodes, min(len(nodes), rng.randint(0, 2)))]
    edits = {
        s.path: {} for s in rng.sample(nodes, min(len(nodes), rng.randint(0, 1))) if s.path not in chosen
    }
    try:
        f, again = (Forked(e, redo=chosen, edits=edits) for _ in range(2))
    except CannotRecover:
        return
    assert f.first.entries == again.first.entries
    assert counted(f)
    if not any(s.is_pass for s in f.state.steps.values()):
        told = fold(f.entries)
        assert told == {s.path: str(s.status) for s in f.state.steps.values()}, "the ledger tells it all"
    for path in f.first.kept:
        was, now = e.state.steps[path], f.state.steps[path]
        assert path in edits or was.status is now.status
        assert path not in chosen
    for path in chosen:
        step = e.state.steps[path]
        after = depends(f.plan, scope_of(path), step.node_id)
        same = [p for p in f.first.kept if scope_of(p) == scope_of(path)]
        assert not [p for p in same if e.state.steps[p].node_id in after and p in f.state.steps
                    and path in f.state.steps and e.state.steps[p].round >= step.round
                    and f.state.steps[path].status is StepStatus.READY
                    and f.state.round_of(f.plan.for_scope(scope_of(path)), step.node_id, scope_of(path))
                    == step.round], "what depends on a redone step is redone"  # fmt: skip
    for _ in range(3_000):
        assert counted(f)
        if f.state.status in RUN_ENDED:
            break
        f.do(rng.choice(moves(f, list(f.state.steps.values()), rng)))
    assert f.state.status in RUN_ENDED
    assert all(s.status in STEP_ENDED for s in f.state.steps.values())
    assert (f.state.error or {}).get("code") != "stalled"
