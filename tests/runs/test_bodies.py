"""Maps and loops, decided without a database: passes open, end, and are counted on their container."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.runs.core.plan import enclosing, scope_of
from apps.runs.core.state import StepState
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus
from apps.runs.core.transition import Transition
from tests.runs.test_transition import BOOT, Engine, document


def t(id, **more):
    return {"id": id, "kind": "transform", **more}


def mapping(nodes, edges=(), **more):
    return {"id": "each", "kind": "map", "items": "{{ inputs.all }}",
            "body": {"nodes": nodes, "edges": list(edges)}, **more}  # fmt: skip


def looping(nodes, edges=(), **more):
    return {"id": "again", "kind": "loop", "condition": "no", "max_rounds": 3,
            "body": {"nodes": nodes, "edges": list(edges)}, **more}  # fmt: skip


class Bodied(Engine):
    """An engine that knows how many items there are and says yes from a given round on."""

    def __init__(self, doc, *, yes_from=99):
        self.yes_from = yes_from
        self.outputs = {}
        super().__init__(doc)

    def do(self, change):
        self.at += timedelta(seconds=1)
        transition = Transition(
            plan=self.plan, state=self.state, now=self.at, evaluate=self.evaluate,
            learn=self.outputs.__setitem__, item_of=lambda path, k: f"item {k}",
            result_of=lambda scope: f"result of {scope}",
        )  # fmt: skip
        change(transition)
        transition.settle()
        self.entries += [(e.kind, e.path) for e in transition.entries]
        return transition

    def evaluate(self, expression, names, scope):
        return expression == "yes" or (expression == "no" and names.get("round", 0) >= self.yes_from)

    def open(self, path, total=None):
        self.claim(path)
        self.do(lambda x: x.open_body(path, total=total))

    def done(self, path):
        self.succeed(path)

    def ready(self):
        return sorted(s.path for s in self.state.steps.values() if s.status is StepStatus.READY)


def counted(e):
    totals = [sum(s.counts[i] for s in e.state.steps.values()) for i in range(3)]
    return totals == [e.state.active, e.state.idle, e.state.stuck]


def test_a_map_opens_as_many_items_as_may_run_at_once_and_goes_on_as_they_end():
    e = Bodied(document([mapping([t("a"), t("b")], [{"from": "a", "to": "b"}], max_parallel=2)], []))
    e.open("each", total=3)
    assert e.ready() == ["each[0]/a", "each[1]/a"]
    assert e.status("each") == "waiting"
    e.done("each[0]/a")
    assert e.ready() == ["each[0]/b", "each[1]/a"]
    e.done("each[0]/b")
    assert e.status("each[0]/.") == "succeeded"
    assert e.ready() == ["each[1]/a", "each[2]/a"]
    for item in (1, 2):
        e.done(f"each[{item}]/a")
        e.done(f"each[{item}]/b")
    assert e.ready() == ["each"]
    assert e.state.steps["each"].memo == {
        "opened": 3, "done": 3, "failed": 0, "total": 3, "retries": 0, "settled": True,
    }  # fmt: skip
    e.done("each")
    assert e.state.status is RunStatus.SUCCEEDED
    assert counted(e)


def test_an_item_that_fails_fails_the_map_and_stops_the_others():
    e = Bodied(document([mapping([t("a")], max_parallel=3)], []))
    e.open("each", total=3)
    e.claim("each[2]/a")
    e.fail("each[1]/a")
    assert e.status("each") == "failed"
    assert e.status("each[0]/a") == "cancelled"
    assert e.state.status is RunStatus.RUNNING, "item 2 is still at work"
    e.do(lambda x: x.succeed("each[2]/a", 1))
    assert e.state.status is RunStatus.FAILED
    assert counted(e)
    assert all(s.has_ended for s in e.state.steps.values())


def test_a_map_that_settles_with_what_came_counts_failures():
    e = Bodied(document([mapping([t("a")], join="all_settled", max_parallel=1)], []))
    e.open("each", total=2)
    e.fail("each[0]/a")
    e.done("each[1]/a")
    assert e.ready() == ["each"]
    e.done("each")
    assert e.state.status is RunStatus.SUCCEEDED


def test_the_first_success_settles_a_map_and_cancels_the_losers():
    e = Bodied(document([mapping([t("a")], join="first_success", max_parallel=3)], []))
    e.open("each", total=5)
    e.claim("each[1]/a")
    e.done("each[0]/a")
    assert e.state.steps["each"].memo["winners"] == [0]
    assert e.status("each[2]/a") == "cancelled"
    e.done("each")
    assert e.state.status is RunStatus.RUNNING, "a loser still settles"
    e.do(lambda x: x.succeed("each[1]/a", 1))
    assert e.state.status is RunStatus.SUCCEEDED
    assert e.status("each[1]/.") == "cancelled"
    assert "each[3]/." not in e.state.steps


def test_n_of_m_items_that_can_no_longer_come_fail_the_map():
    e = Bodied(document([mapping([t("a")], join="n_of_m", n=2, max_parallel=3)], []))
    e.open("each", total=3)
    e.fail("each[0]/a")
    assert e.status("each") == "waiting"
    e.fail("each[1]/a")
    assert e.status("each") == "failed"
    assert e.state.error["code"] == "join_out_of_reach"


def test_a_failure_inside_a_body_is_caught_by_an_edge_there():
    e = Bodied(document([mapping([t("a"), t("b")], [{"from": "a.failed", "to": "b"}])], []))
    e.open("each", total=1)
    e.fail("each[0]/a")
    e.done("each[0]/b")
    assert e.status("each[0]/.") == "succeeded"


def test_items_draw_on_the_maps_own_retries():
    e = Bodied(document([mapping([t("a", retry={"max_attempts": 3})], retry_budget=1)], []))
    e.open("each", total=2)
    again = {"code": "x", "message": "x"}
    e.claim("each[0]/a")
    e.do(lambda x: x.try_again_or_fail("each[0]/a", again, permanent=False, retry_after=None))
    assert e.status("each[0]/a") == "waiting"
    assert e.state.retries_used == 0
    e.claim("each[1]/a")
    e.do(lambda x: x.try_again_or_fail("each[1]/a", again, permanent=False, retry_after=None))
    assert e.status("each[1]/a") == "failed"


def test_a_loop_repeats_until_its_condition_holds():
    e = Bodied(document([looping([t("a")])], []), yes_from=2)
    e.open("again")
    e.done("again[1]/a")
    assert e.ready() == ["again[2]/a"]
    e.done("again[2]/a")
    assert e.status("again") == "succeeded"
    assert e.outputs["again"] == {"result": "result of again[2]", "rounds": 2, "reason": "condition"}
    assert e.state.status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("edge", [True, False])
def test_a_loop_out_of_rounds_leaves_by_exhausted_or_fails(edge):
    edges = [{"from": "again.exhausted", "to": "z"}] if edge else []
    e = Bodied(document([looping([t("a")], max_rounds=2), t("z")], edges))
    e.open("again")
    e.done("again[1]/a")
    e.done("again[2]/a")
    assert e.status("again") == ("succeeded" if edge else "failed")
    if edge:
        assert "z" in e.ready()


def test_cancelling_a_run_ends_every_pass_once_its_steps_have_settled():
    e = Bodied(document([mapping([looping([t("a")], max_rounds=5)], max_parallel=2)], []))
    e.open("each", total=4)
    e.open("each[0]/again")
    e.open("each[1]/again")
    e.claim("each[1]/again[1]/a")
    e.do(lambda x: x.cancel())
    assert e.state.status is RunStatus.CANCELLING
    assert e.status("each[0]/again[1]/a") == "cancelled"
    assert e.status("each[0]/.") == "cancelled"
    e.do(lambda x: x.succeed("each[1]/again[1]/a", 1))
    assert e.state.status is RunStatus.CANCELLED
    assert all(s.has_ended for s in e.state.steps.values())


def test_scopes_are_read_from_paths():
    assert scope_of("plan/loop[3]/map[17]/send") == "plan/loop[3]/map[17]"
    assert enclosing("a[1]/b[2]") == ["a[1]/b[2]", "a[1]", ""]
    assert enclosing("a[2][17]") == ["a[2][17]", ""]


ERROR = {"code": "x", "message": "x"}
BODY = [t("a"), t("b"), {"id": "j", "kind": "aggregator", "join": "any"}, t("c")]
BODY_EDGES = [{"from": "a", "to": "j"}, {"from": "b", "to": "j"}, {"from": "j", "to": "c"},
              {"from": "c", "to": "a", "max_rounds": 2, "when": "no"}]  # fmt: skip


@st.composite
def graphs(draw):
    join = draw(st.sampled_from(["all", "any", "n_of_m", "all_settled", "first_success"]))
    inner = draw(st.sampled_from([BODY, [t("a")], [looping(BODY, BODY_EDGES, max_rounds=2)]]))
    edges = BODY_EDGES if inner is BODY else []
    node = mapping(inner, edges, join=join, max_parallel=draw(st.integers(1, 3)))
    if join == "n_of_m":
        node["n"] = draw(st.integers(1, 3))
    graph = [node, looping([mapping([t("a")], max_parallel=2)], max_rounds=2), t("last")]
    return document(graph, [{"from": "each", "to": "again"}, {"from": "again", "to": "last"}])


@settings(max_examples=150)
@given(graphs(), st.integers(0, 2**32))
def test_whatever_happens_a_run_with_bodies_ends_and_its_counts_are_right(doc, seed):
    rng = random.Random(seed)
    e = Bodied(doc, yes_from=rng.choice([1, 2, 99]))
    for _ in range(2_000):
        assert counted(e)
        if e.state.status in RUN_ENDED:
            break
        steps = list(e.state.steps.values())
        e.do(rng.choice(moves(e, steps, rng)))
    assert e.state.status in RUN_ENDED
    assert all(s.has_ended for s in e.state.steps.values())


def moves(e: Bodied, steps: list[StepState], rng: random.Random):
    """Everything that may happen next."""
    found = []
    for step in steps:
        path = step.path
        if step.status is StepStatus.READY:
            found.append(lambda x, p=path: x.claim(p, BOOT, 60) if x.may_claim(p) else None)
        elif step.status is StepStatus.RUNNING and step.kind in ("map", "loop"):
            settled = (step.memo or {}).get("settled")
            if settled:
                found.append(lambda x, p=path: x.succeed(p, []))
            else:
                total = rng.randint(1, 4) if step.kind == "map" else None
                found.append(lambda x, p=path, n=total: x.open_body(p, total=n))
            found.append(lambda x, p=path: x.hand_back(p))
        elif step.status is StepStatus.RUNNING:
            found += [
                lambda x, p=path: x.succeed(p, {}),
                lambda x, p=path: x.succeed(p, {}),
                lambda x, p=path: x.wait(p, "timer", x.now, None),
                lambda x, p=path: x.doubt(p, None, {}),
                lambda x, p=path: x.lose(p, "gone", counts=False),
                lambda x, p=path: x.try_again_or_fail(p, ERROR, permanent=True, retry_after=None),
                lambda x, p=path: x.try_again_or_fail(p, ERROR, permanent=False, retry_after=None),
            ]
        elif step.status is StepStatus.IN_DOUBT or step.reason in ("timer", "retry"):
            found.append(lambda x, p=path: x.wake(p) if not x.state.steps[p].has_ended else None)
    if rng.random() < 0.02 and not e.state.cancel_requested:
        found.append(lambda x: x.cancel())
    assert found, f"stuck in {e.state.status}: {[(s.path, s.status, s.reason) for s in steps]}"
    return found


class Broken(Bodied):
    """Every condition raises, so a step that has one fails in the moment it could start."""

    def evaluate(self, expression, names, scope):
        raise ValueError(f"{expression} cannot be evaluated")


def test_items_that_fail_while_they_open_leave_no_item_behind():
    e = Broken(document([mapping([t("a", when="x")], max_parallel=3)], []))
    e.open("each", total=5)
    assert e.state.status is RunStatus.FAILED
    assert all(s.has_ended for s in e.state.steps.values())
    assert counted(e)


@pytest.mark.parametrize(
    ("node", "total"),
    [
        (mapping([t("a", when="x")], join="all_settled"), 3000),
        (looping([t("a", when="yes")], condition="", max_rounds=3000), None),
    ],
)
def test_thousands_of_passes_that_end_at_once_are_followed_one_after_the_other(node, total):
    e = Broken(document([node], [])) if total else NeverStarts(document([node], []))
    e.open(node["id"], total=total)
    passes = [s for s in e.state.steps.values() if s.is_pass]
    assert len(passes) == 3000
    assert all(s.has_ended for s in passes)
    assert counted(e)


class NeverStarts(Bodied):
    """No condition holds: every step that has one is skipped."""

    def evaluate(self, expression, names, scope):
        return False
