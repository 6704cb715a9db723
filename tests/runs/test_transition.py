"""The pure engine: any order of events keeps every state legal and ends every run."""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.blueprints.core.document import Document
from apps.runs.core.plan import compile_plan
from apps.runs.core.state import RunState
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.core.transition import IllegalMove, Transition
from tests.runs.fold import fold

AT = datetime(2026, 1, 1, tzinfo=UTC)
BOOT = uuid4()


def document(nodes, edges, **contract):
    return Document.model_validate(
        {
            "metadata": {"name": "t"},
            "contract": contract,
            "graph": {"nodes": nodes, "edges": edges},
        }
    )


def _evaluate(expression, names, scope=""):
    if expression == "broken":
        raise ValueError("broken cannot be evaluated")
    return {"yes": True, "no": False}[expression]


class Engine:
    """Applies transitions to one state, as the shell does, without a database."""

    def __init__(self, doc):
        self.plan = compile_plan(doc)
        self.state = RunState(id=uuid4(), workspace_id=uuid4(), status=RunStatus.QUEUED, seq=0)
        self.entries = []
        self.at = AT
        self.do(lambda t: t.start())

    def do(self, change):
        self.at += timedelta(seconds=1)
        t = Transition(plan=self.plan, state=self.state, now=self.at, evaluate=_evaluate)
        change(t)
        t.settle()
        self.entries += [(e.kind, e.path) for e in t.entries]
        return t

    def claim(self, path):
        self.do(lambda t: t.claim(path, BOOT, 60))

    def succeed(self, path, port=""):
        self.claim(path)
        self.do(lambda t: t.succeed(path, {"from": path}, port))

    def fail(self, path):
        self.claim(path)
        self.do(
            lambda t: t.try_again_or_fail(
                path, {"code": "x", "message": "x"}, permanent=True, retry_after=None
            )
        )

    def status(self, path):
        step = self.state.steps.get(path)
        return None if step is None else str(step.status)

    def with_status(self, *statuses):
        return [s.path for s in self.state.steps.values() if s.status in statuses]


def t(id, **more):
    return {"id": id, "kind": "transform", "output": 1, **more}


def test_a_chain_runs_one_step_after_the_other():
    e = Engine(document([t("a"), t("b")], [{"from": "a", "to": "b"}]))
    assert e.with_status(StepStatus.READY) == ["a"]
    e.succeed("a")
    assert e.with_status(StepStatus.READY) == ["b"]
    e.succeed("b")
    assert e.state.status is RunStatus.SUCCEEDED


def test_the_untaken_branch_is_skipped_to_its_end():
    router = {"id": "r", "kind": "router", "routes": [{"name": "left", "when": "yes"}]}
    e = Engine(
        document(
            [router, t("a"), t("b"), t("c"), {"id": "j", "kind": "aggregator"}],
            [
                {"from": "r.left", "to": "a"},
                {"from": "r.else", "to": "b"},
                {"from": "b", "to": "c"},
                {"from": "a", "to": "j"},
                {"from": "c", "to": "j"},
            ],
        )
    )
    e.succeed("r", "left")
    assert (e.status("b"), e.status("c")) == ("skipped", "skipped")
    e.succeed("a")
    e.succeed("j")
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_failure_without_an_edge_cancels_the_rest_and_fails_the_run():
    e = Engine(document([t("a"), t("b"), t("c")], [{"from": "a", "to": "c"}]))
    e.fail("a")
    assert e.status("b") == "cancelled"
    assert e.state.status is RunStatus.FAILED
    assert e.state.error["step"] == "a"


def test_a_run_fails_only_after_what_is_in_flight_has_settled():
    e = Engine(document([t("a"), t("b")], []))
    e.claim("b")
    e.fail("a")
    assert e.state.status is RunStatus.RUNNING
    e.do(lambda x: x.succeed("b", 1))
    assert e.state.status is RunStatus.FAILED


def test_a_failed_edge_catches_the_failure():
    e = Engine(document([t("a"), t("b")], [{"from": "a.failed", "to": "b"}]))
    e.fail("a")
    e.succeed("b")
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_lost_attempt_never_counts_against_the_retries():
    e = Engine(document([t("a", retry={"max_attempts": 1})], []))
    for _ in range(3):
        e.claim("a")
        e.do(lambda x: x.lose("a", "worker died"))
    assert e.state.steps["a"].failures == 0
    e.succeed("a")
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_step_that_kills_its_worker_again_and_again_is_poison():
    e = Engine(document([t("a")], []))
    for _ in range(4):
        e.claim("a")
        e.do(lambda x: x.lose("a", "worker died"))
    assert e.status("a") == "failed"
    assert e.state.error["code"] == "poison"


def test_retries_wait_with_their_budget_and_then_fail():
    e = Engine(document([t("a", retry={"max_attempts": 2})], []))
    e.claim("a")
    e.do(lambda x: x.try_again_or_fail("a", {"code": "x"}, permanent=False, retry_after=None))
    assert e.status("a") == "waiting"
    e.do(lambda x: x.wake("a"))
    e.claim("a")
    e.do(lambda x: x.try_again_or_fail("a", {"code": "x"}, permanent=False, retry_after=None))
    assert e.state.status is RunStatus.FAILED


def test_the_runs_own_retry_budget_ends_retries_too():
    e = Engine(document([t("a")], [], recovery_policy={"run_retry_budget": 0}))
    e.claim("a")
    e.do(lambda x: x.try_again_or_fail("a", {"code": "x"}, permanent=False, retry_after=None))
    assert e.state.status is RunStatus.FAILED


ROUNDS = document(
    [
        t("plan"),
        t("draft"),
        {"id": "ask", "kind": "approval", "with": {}},
        t("send"),
    ],
    [
        {"from": "plan", "to": "draft"},
        {"from": "draft", "to": "ask"},
        {"from": "ask.changes", "to": "draft", "max_rounds": 2},
        {"from": "ask.approved", "to": "send"},
    ],
)


def test_a_back_edge_opens_the_next_round_with_new_rows():
    e = Engine(ROUNDS)
    e.succeed("plan")
    e.succeed("draft")
    e.succeed("ask", "changes")
    assert e.with_status(StepStatus.READY) == ["draft[2]"]
    assert e.status("send") is None
    e.succeed("draft[2]")
    e.succeed("ask[2]", "approved")
    e.succeed("send")
    assert e.state.status is RunStatus.SUCCEEDED
    assert e.status("draft") == "succeeded"


def test_rounds_are_bounded():
    e = Engine(ROUNDS)
    for path in ("plan", "draft"):
        e.succeed(path)
    e.succeed("ask", "changes")
    e.succeed("draft[2]")
    e.succeed("ask[2]", "changes")
    assert e.state.status is RunStatus.FAILED
    assert e.state.error["code"] == "rounds_exhausted"


def join(mode, **more):
    return document(
        [t("a"), t("b"), t("c"), {"id": "j", "kind": "aggregator", "join": mode, **more}],
        [{"from": x, "to": "j"} for x in "abc"],
    )


def test_join_all_waits_for_all():
    e = Engine(join("all"))
    e.succeed("a")
    e.succeed("b")
    assert e.status("j") is None
    e.succeed("c")
    assert e.status("j") == "ready"


def test_join_any_settles_early_and_cancels_the_losers():
    e = Engine(join("any"))
    e.claim("c")
    e.succeed("a")
    assert e.status("j") == "ready"
    assert e.status("b") == "cancelled"
    e.succeed("j")
    assert e.state.status is RunStatus.RUNNING, "c is still in flight"
    e.do(lambda x: x.succeed("c", 1))
    assert e.state.status is RunStatus.SUCCEEDED
    assert e.state.steps["j"].memo["arrived"] == ["a"]


def test_join_n_of_m_fails_once_n_is_out_of_reach():
    e = Engine(join("n_of_m", n=2))
    e.fail("a")
    assert e.status("j") is None
    e.fail("b")
    assert e.state.steps["j"].memo["out_of_reach"] == 2


def test_join_first_success_ignores_failures_until_none_is_left():
    e = Engine(join("first_success"))
    e.fail("a")
    e.succeed("b")
    assert e.state.steps["j"].memo["arrived"] == ["b"]


def test_join_all_settled_takes_failures_as_answers():
    e = Engine(join("all_settled"))
    e.fail("a")
    e.fail("b")
    e.fail("c")
    assert e.status("j") == "ready"
    assert e.state.steps["j"].memo["failed"] == ["a", "b", "c"]


def test_pause_claims_nothing_and_resume_moves_deadlines():
    e = Engine(document([t("a"), t("b")], []))
    e.claim("a")
    before = e.state.steps["a"].deadline_at
    e.do(lambda x: x.pause())
    assert e.state.status is RunStatus.PAUSED
    assert not e.do(lambda x: None).may_claim("b")
    e.do(lambda x: x.resume(100))
    assert e.state.steps["a"].deadline_at == before + timedelta(seconds=100)
    assert e.do(lambda x: None).may_claim("b")


def test_cancel_lets_what_runs_finish_and_starts_nothing_more():
    e = Engine(document([t("a"), t("b")], [{"from": "a", "to": "b"}]))
    e.claim("a")
    e.do(lambda x: x.cancel())
    assert e.state.status is RunStatus.CANCELLING
    e.do(lambda x: x.succeed("a", 1))
    assert e.state.status is RunStatus.CANCELLED
    assert e.status("b") is None


def test_cancel_waits_for_an_effect_in_doubt():
    e = Engine(document([t("a")], []))
    e.claim("a")
    e.do(lambda x: x.doubt("a", None, {}))
    assert e.state.steps["a"].status is StepStatus.IN_DOUBT
    e.do(lambda x: x.cancel())
    assert e.state.status is RunStatus.CANCELLING
    e.do(lambda x: x.wake("a"))
    assert e.do(lambda x: None).may_claim("a"), "a doubt is looked into although the run is stopping"
    e.succeed("a")
    assert e.state.status is RunStatus.CANCELLED


def test_a_cancelled_pause_is_over_so_that_doubts_are_looked_into():
    e = Engine(document([t("a")], []))
    e.claim("a")
    e.do(lambda x: x.doubt("a", AT, {}))
    e.do(lambda x: x.pause())
    e.do(lambda x: x.cancel())
    assert not e.state.pause_requested
    e.do(lambda x: x.wake("a"))
    assert e.do(lambda x: None).may_claim("a")


def test_a_condition_that_cannot_be_evaluated_fails_its_own_step_not_the_one_before():
    e = Engine(document([t("a"), t("b", when="broken")], [{"from": "a", "to": "b"}]))
    e.succeed("a")
    assert (e.status("a"), e.status("b")) == ("succeeded", "failed")
    assert e.state.error["code"] == "bad_expression"


def test_a_skipped_branch_may_be_a_thousand_nodes_long():
    ids = [f"n{i}" for i in range(1000)]
    router = {"id": "r", "kind": "router", "routes": [{"name": "left", "when": "yes"}]}
    edges = [{"from": "r.left", "to": "n0"}] + [{"from": a, "to": b} for a, b in pairwise(ids)]
    e = Engine(document([router, *(t(i) for i in ids)], edges))
    e.succeed("r", "else")
    assert e.state.status is RunStatus.SUCCEEDED
    assert e.status("n999") == "skipped"


EARLY = document(
    [t("a"), t("x"), t("y"), {"id": "j", "kind": "aggregator", "join": "any"}],
    [{"from": "a", "to": "j"}, {"from": "x", "to": "y"}, {"from": "y", "to": "j"}],
)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.try_again_or_fail("x", {"code": "x"}, permanent=True, retry_after=None),
        lambda x: x.try_again_or_fail("x", {"code": "x"}, permanent=False, retry_after=None),
        lambda x: x.wait("x", "approval", None, None),
        lambda x: x.lose("x", "gone"),
        lambda x: x.hand_back("x"),
    ],
    ids=["fails", "would be tried again", "would ask", "is lost", "is handed back"],
)
def test_what_becomes_of_a_loser_does_not_touch_the_run(change):
    e = Engine(EARLY)
    e.claim("x")
    e.succeed("a")
    e.succeed("j")
    assert e.state.status is RunStatus.RUNNING, "x is still in flight"
    e.do(change)
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_value_is_the_same_before_and_after_it_was_stored():
    seen = {}
    plan = compile_plan(document([t("a")], []))
    state = RunState(id=uuid4(), workspace_id=uuid4(), status=RunStatus.QUEUED, seq=0)
    x = Transition(plan=plan, state=state, now=AT, evaluate=lambda e, n, s: True, learn=seen.__setitem__)
    x.start()
    x.claim("a", BOOT, 60)
    x.succeed("a", {"when": AT, "odd": float("nan"), "pair": (1, 2)})
    assert seen["a"] == x.updates["a"]["output"] == {"when": AT.isoformat(), "odd": "NaN", "pair": [1, 2]}


def test_a_step_that_fails_after_all_has_no_output_to_go_on_with():
    seen = {}
    plan = compile_plan(document([t("a"), t("b")], [{"from": "a", "to": "b", "when": "broken"}]))
    state = RunState(id=uuid4(), workspace_id=uuid4(), status=RunStatus.QUEUED, seq=0)
    x = Transition(plan=plan, state=state, now=AT, evaluate=_no, learn=seen.__setitem__)
    x.start()
    x.claim("a", BOOT, 60)
    x.succeed("a", 1)
    assert (state.steps["a"].status, seen["a"]) == (StepStatus.FAILED, None)


def _no(expression, names, scope):
    raise ValueError(f"{expression} cannot be evaluated")


def test_a_graph_of_300_nodes_costs_a_few_milliseconds_per_step():
    ids = [f"n{i}" for i in range(300)]
    nodes = [t(i) if n % 60 != 59 else {"id": i, "kind": "check"} for n, i in enumerate(ids)]
    edges = [
        {"from": a + (".pass" if n % 60 == 59 else ""), "to": b} for n, (a, b) in enumerate(pairwise(ids))
    ]
    edges += [{"from": f"n{n}.fail", "to": f"n{n - 50}", "max_rounds": 3} for n in range(59, 300, 60)]
    e = Engine(document(nodes, edges))
    took = []
    for i in ids:
        e.claim(i)
        e.state = e.state.copy()
        began = time.perf_counter()
        e.state.copy()
        e.do(lambda x, i=i: x.succeed(i, 1))
        took.append(time.perf_counter() - began)
    assert e.state.status is RunStatus.SUCCEEDED
    assert statistics.median(took) < 0.01
    assert took[-1] < 0.05, "the last decision looks at every node"


def test_what_the_table_does_not_list_cannot_happen():
    e = Engine(document([t("a")], []))
    with pytest.raises(IllegalMove):
        e.do(lambda x: x.succeed("a", 1))


@st.composite
def graphs(draw):
    """Acyclic graphs with joins, routers, failure edges and one possible back edge."""
    n = draw(st.integers(2, 7))
    names = [f"n{i}" for i in range(n)]
    nodes, edges = [], []
    for i, name in enumerate(names):
        kind = draw(st.sampled_from(["transform", "transform", "aggregator", "check"]))
        node = {"id": name, "kind": kind}
        if kind == "aggregator":
            node["join"] = draw(st.sampled_from(["all", "any", "all_settled", "first_success", "n_of_m"]))
            if node["join"] == "n_of_m":
                node["n"] = draw(st.integers(1, 2))
        if draw(st.integers(0, 5)) == 0:
            node["when"] = draw(st.sampled_from(["yes", "no", "broken"]))
        nodes.append(node)
        for j in range(i):
            if draw(st.integers(0, 2)) == 0:
                port = {"check": ".pass"}.get(nodes[j]["kind"], "")
                if draw(st.integers(0, 4)) == 0:
                    port = ".failed"
                edge = {"from": names[j] + port, "to": name}
                if draw(st.integers(0, 5)) == 0:
                    edge["when"] = draw(st.sampled_from(["yes", "no"]))
                edges.append(edge)
    checks = [node["id"] for node in nodes if node["kind"] == "check"]
    if checks and draw(st.booleans()):
        source = draw(st.sampled_from(checks))
        target = draw(st.sampled_from(names[: names.index(source) + 1]))
        edges.append({"from": f"{source}.fail", "to": target, "max_rounds": draw(st.integers(2, 3))})
    return document(nodes, edges)


@settings(max_examples=300)
@given(graphs(), st.data())
def test_any_run_ends_and_every_move_is_legal(doc, data):
    e = Engine(doc)
    succeeded = set()
    for turn in range(600):
        if e.state.status in RUN_ENDED:
            break
        ready = e.with_status(StepStatus.READY)
        running = e.with_status(StepStatus.RUNNING)
        idle = e.with_status(StepStatus.WAITING, StepStatus.IN_DOUBT)
        choices = [("claim", p) for p in ready if e.do(lambda x: None).may_claim(p)]
        choices += [
            (how, p)
            for p in running
            for how in ("succeed", "other", "fail", "retry", "lose", "doubt", "wait", "hand back")
            if turn < 300 or how in ("succeed", "fail")
        ]
        choices += [("wake", p) for p in idle]
        if data.draw(st.integers(0, 60)) == 0 and not e.state.cancel_requested:
            choices = [("cancel", "")]
        assert choices, f"stuck in {e.state.status}: {[(s.path, s.status) for s in e.state.steps.values()]}"
        how, path = data.draw(st.sampled_from(choices))
        if how == "claim":
            e.claim(path)
        elif how == "succeed":
            e.do(lambda x, p=path: x.succeed(p, 1))
        elif how == "other":
            port = "fail" if e.plan.nodes[e.state.steps[path].node_id].kind == "check" else ""
            e.do(lambda x, p=path, o=port: x.succeed(p, 1, o))
        elif how in ("fail", "retry"):
            permanent = how == "fail"
            e.do(
                lambda x, p=path, q=permanent: x.try_again_or_fail(
                    p, {"code": "x"}, permanent=q, retry_after=None
                )
            )
        elif how == "lose":
            e.do(lambda x, p=path: x.lose(p, "gone"))
        elif how == "doubt":
            e.do(lambda x, p=path: x.doubt(p, None, {}))
        elif how == "wait":
            e.do(lambda x, p=path: x.wait(p, "signal", None, None))
        elif how == "hand back":
            e.do(lambda x, p=path: x.hand_back(p))
        elif how == "wake":
            e.do(lambda x, p=path: x.wake(p))
        else:
            e.do(lambda x: x.cancel())
        assert fold(e.entries) == {p: str(s.status) for p, s in e.state.steps.items()}, (
            "the ledger tells it all"
        )
        now_succeeded = set(e.with_status(StepStatus.SUCCEEDED))
        assert succeeded <= now_succeeded, "a succeeded step never changes"
        succeeded = now_succeeded
    assert e.state.status in RUN_ENDED
    assert all(s.status in STEP_ENDED for s in e.state.steps.values()), "I6"
    assert (e.state.error or {}).get("code") != "stalled"
    ends = [k for k, _path in e.entries if k in ("run.succeeded", "run.failed", "run.cancelled")]
    assert len(ends) == 1, "I3"
