"""Retry and skip, decided without a database: what is taken back, what is refused; nothing gets stuck."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.runs.core.recovery import CannotRecover
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.core.transition import Transition
from tests.runs import test_bodies, test_transition
from tests.runs.fold import fold
from tests.runs.test_bodies import Bodied, counted, looping, mapping, moves
from tests.runs.test_transition import Engine, document, t

BY = {"by": "alice@example.com", "reason": "mended"}


def retry(e, path):
    return e.do(lambda x: x.retry(path, by=BY))


def skip(e, path, value=None, **more):
    return e.do(lambda x: x.skip(path, value, by=BY, **more))


def refused(e, act):
    """The words of a refusal; the state it was tried on is thrown away, as a transaction would be."""
    kept = e.state.copy()
    with pytest.raises(CannotRecover) as raised:
        e.do(act)
    e.state = kept
    return f"{raised.value.message} {raised.value.next}"


def failed():
    e = Engine(document([t("a"), t("b"), t("c")], [{"from": "a", "to": "c"}]))
    e.fail("a")
    assert e.state.status is RunStatus.FAILED
    return e


def test_a_retry_reopens_the_run_and_restores_what_was_stopped_for_the_failure():
    e = failed()
    x = retry(e, "a")
    assert (e.status("a"), e.status("b"), e.state.status) == ("ready", "ready", RunStatus.RUNNING)
    assert [n.kind for n in x.entries] == ["run.reopened", "step.ready", "step.ready"]
    assert x.entries[0].data["reason"] == "mended"
    assert e.state.error is None and x.run_updates["ended_at"] is None
    for path in "abc":
        e.succeed(path)
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_retried_step_has_all_its_tries_again():
    e = Engine(document([t("a", retry={"max_attempts": 2})], [], recovery_policy={"run_retry_budget": 1}))
    for _ in range(2):
        e.claim("a")
        e.do(lambda x: x.try_again_or_fail("a", {"code": "x"}, permanent=False, retry_after=None))
        if e.status("a") == "waiting":
            e.do(lambda x: x.wake("a"))
    assert e.state.status is RunStatus.FAILED
    retry(e, "a")
    e.claim("a")
    e.do(lambda x: x.try_again_or_fail("a", {"code": "x"}, permanent=False, retry_after=None))
    assert e.status("a") == "waiting", "its own and the run's budget start afresh"


def test_a_poisoned_step_starts_with_no_deaths():
    e = Engine(document([t("a")], []))
    for _ in range(4):
        e.claim("a")
        e.do(lambda x: x.lose("a", "gone"))
    retry(e, "a")
    assert e.state.steps["a"].losses == 0


def test_what_ended_while_the_run_was_failing_is_followed_after_a_retry():
    e = Engine(document([t("a"), t("b"), t("c")], [{"from": "b", "to": "c"}]))
    e.claim("b")
    e.fail("a")
    e.do(lambda x: x.succeed("b", 1))
    assert (e.state.status, e.status("c")) == (RunStatus.FAILED, None)
    retry(e, "a")
    assert e.status("c") == "ready"


def test_a_round_that_was_due_when_the_run_failed_opens_after_a_retry():
    nodes = [t("x"), t("draft"), {"id": "ask", "kind": "approval", "with": {}}]
    edges = [{"from": "draft", "to": "ask"}, {"from": "ask.changes", "to": "draft", "max_rounds": 3}]
    e = Engine(document(nodes, edges))
    e.succeed("draft")
    e.claim("ask")
    e.fail("x")
    e.do(lambda x: x.succeed("ask", {}, "changes"))
    assert e.state.status is RunStatus.FAILED
    retry(e, "x")
    assert e.status("draft[2]") == "ready"


def test_a_retry_while_the_rest_still_settles_takes_the_failure_back():
    e = Engine(document([t("a"), t("b")], []))
    e.claim("b")
    e.fail("a")
    retry(e, "a")
    e.do(lambda x: x.succeed("b", 1))
    e.succeed("a")
    assert e.state.status is RunStatus.SUCCEEDED


def test_whatever_failed_the_run_too_is_tried_again_with_it():
    e = Engine(document([t("a"), t("b")], []))
    e.claim("b")
    e.fail("a")
    e.do(lambda x: x.try_again_or_fail("b", {"code": "x"}, permanent=True, retry_after=None))
    met = []
    e.do(lambda x: met.extend(x.retry("a", by=BY)))
    assert met == ["a", "b"]
    assert (e.status("a"), e.status("b")) == ("ready", "ready")


def test_a_skip_gives_the_value_on_and_takes_the_edges():
    e = failed()
    x = skip(e, "a", {"n": 1}, labels=("user:1",))
    assert (e.status("a"), e.status("c"), e.status("b")) == ("skipped", "ready", "ready")
    assert x.updates["a"]["output"] == {"n": 1}
    assert e.state.steps["a"].labels == ("user:1",)
    e.succeed("b")
    e.succeed("c")
    assert e.state.status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("how", ["waiting", "in doubt", "blocked"])
def test_what_stands_still_can_be_skipped(how):
    e = Engine(document([t("a"), t("b"), t("c")], [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]))
    path = "b" if how == "blocked" else "a"
    if how != "blocked":
        e.claim("a")
        e.do(
            (lambda x: x.wait("a", "signal", None, None))
            if how == "waiting"
            else lambda x: x.doubt("a", None, {})
        )
    x = skip(e, path, "given")
    assert e.status(path) == "skipped"
    assert x.closed == [path], "open questions about it are void"
    for rest in [p for p in "abc" if p != path]:
        if e.status(rest) == "ready":
            e.succeed(rest)
    e.succeed("c") if e.status("c") == "ready" else None
    e.succeed("b") if e.status("b") == "ready" else None
    e.succeed("c") if e.status("c") == "ready" else None
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_router_is_skipped_by_a_route():
    router = {"id": "r", "kind": "router", "routes": [{"name": "left", "when": "broken"}]}
    e = Engine(
        document([router, t("a"), t("b")], [{"from": "r.left", "to": "a"}, {"from": "r.else", "to": "b"}])
    )
    e.fail("r")
    assert "no way out" in refused(e, lambda x: x.skip("r", {}, port="right", by=BY))
    skip(e, "r", {"route": "left"}, port="left")
    assert (e.status("a"), e.status("b")) == ("ready", "skipped")


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda x: x.retry("c", by=BY), "not started"),
        (lambda x: x.retry("b", by=BY), "Retry or skip the step that failed"),
        (lambda x: x.skip("b", 1, by=BY), "cancelled"),
        (lambda x: x.skip("c", 1, by=BY), "something beside it has failed"),
        (lambda x: x.retry("nope", by=BY), 'no step "nope"'),
        (lambda x: x.skip("c[2]", 1, by=BY), "in round 1"),
        (lambda x: x.skip("a[", 1, by=BY), "no step"),
        (lambda x: x.skip("each[3]/a", 1, by=BY), "no step"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(act, says):
    assert says in refused(failed(), act)


def test_a_step_that_runs_or_is_ready_is_neither_retried_nor_skipped():
    e = Engine(document([t("a"), t("b")], []))
    e.claim("b")
    assert "about to start" in refused(e, lambda x: x.skip("a", 1, by=BY))
    assert "being worked on" in refused(e, lambda x: x.retry("b", by=BY))


def test_a_cancelled_or_succeeded_run_stays_as_it_is():
    e = Engine(document([t("a")], []))
    e.do(lambda x: x.cancel())
    assert "was cancelled" in refused(e, lambda x: x.retry("a", by=BY))
    e = Engine(document([t("a")], []))
    e.succeed("a")
    assert "Fork" in refused(e, lambda x: x.skip("a", 1, by=BY))


def test_a_failure_that_an_edge_has_handled_is_not_taken_back():
    e = Engine(document([t("a"), t("b"), t("c")], [{"from": "a.failed", "to": "b"}]))
    e.fail("a")
    assert "went on without it" in refused(e, lambda x: x.retry("a", by=BY))


def test_a_tolerated_failure_is_taken_back_until_the_join_has_settled():
    e = Engine(test_transition.join("all_settled"))
    e.fail("a")
    retry(e, "a")
    assert (e.status("a"), e.state.status) == ("ready", RunStatus.RUNNING)
    e.fail("a")
    e.succeed("b")
    e.succeed("c")
    assert "went on without it" in refused(e, lambda x: x.retry("a", by=BY))


# --- bodies -------------------------------------------------------------------------------------------------


def test_a_step_in_an_item_is_retried_with_all_that_failed_around_it():
    e = Bodied(document([mapping([t("a"), t("b")], [{"from": "a", "to": "b"}], max_parallel=3), t("z")],
                        [{"from": "each", "to": "z"}]))  # fmt: skip
    e.open("each", total=4)
    e.done("each[0]/a")
    e.done("each[0]/b")
    e.fail("each[1]/a")
    assert e.state.status is RunStatus.FAILED
    retry(e, "each[1]/a")
    assert counted(e)
    assert (e.status("each"), e.status("each[1]/."), e.status("each[0]/.")) == (
        "waiting",
        "waiting",
        "succeeded",
    )
    assert e.ready() == ["each[1]/a", "each[2]/a", "each[3]/a"]
    for item in (1, 2, 3):
        e.done(f"each[{item}]/a")
        e.done(f"each[{item}]/b")
    e.done("each")
    e.done("z")
    assert e.state.status is RunStatus.SUCCEEDED
    assert counted(e)


def test_retrying_a_map_retries_its_failed_items():
    e = Bodied(document([mapping([t("a")], max_parallel=2)], []))
    e.open("each", total=2)
    e.fail("each[1]/a")
    retry(e, "each")
    assert e.ready() == ["each[0]/a", "each[1]/a"]


def test_a_failed_item_of_a_map_that_still_runs_is_tried_again_alone():
    e = Bodied(document([mapping([t("a")], join="all_settled", max_parallel=2)], []))
    e.open("each", total=3)
    e.fail("each[0]/a")
    x = retry(e, "each[0]/a")
    assert "run.reopened" not in [n.kind for n in x.entries]
    assert e.state.steps["each"].memo["failed"] == 0
    for item in range(3):
        e.done(f"each[{item}]/a")
    e.done("each")
    assert e.state.status is RunStatus.SUCCEEDED


def test_an_item_of_a_map_that_has_settled_stays_failed():
    e = Bodied(document([mapping([t("a")], join="all_settled", max_parallel=2), t("z")], []))
    e.open("each", total=2)
    e.fail("each[0]/a")
    e.done("each[1]/a")
    assert "went on without it" in refused(e, lambda x: x.retry("each[0]/a", by=BY))


def test_a_step_in_an_item_is_skipped_with_a_value():
    e = Bodied(document([mapping([t("a")], max_parallel=2)], []))
    e.open("each", total=2)
    e.done("each[0]/a")
    e.fail("each[1]/a")
    skip(e, "each[1]/a", "by hand")
    assert e.status("each[1]/.") == "succeeded"
    e.done("each")
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_map_that_waits_is_skipped_whole():
    e = Bodied(document([mapping([t("a")], max_parallel=2)], []))
    e.open("each", total=3)
    e.claim("each[0]/a")
    skip(e, "each", ["given"])
    assert (e.status("each"), e.status("each[1]/a")) == ("skipped", "cancelled")
    assert e.state.status is RunStatus.RUNNING, "one item is still at work"
    e.do(lambda x: x.succeed("each[0]/a", 1))
    assert e.state.status is RunStatus.SUCCEEDED
    assert counted(e)


def test_a_round_of_a_loop_is_retried_and_the_loop_goes_on():
    e = Bodied(document([looping([t("a")])], []), yes_from=2)
    e.open("again")
    e.done("again[1]/a")
    e.fail("again[2]/a")
    assert e.state.status is RunStatus.FAILED
    retry(e, "again[2]/a")
    e.done("again[2]/a")
    assert e.state.status is RunStatus.SUCCEEDED


def test_a_loop_out_of_rounds_is_not_retried_but_may_be_skipped():
    e = Bodied(document([looping([t("a")], max_rounds=1)], []))
    e.open("again")
    e.done("again[1]/a")
    assert "a retry cannot change" in refused(e, lambda x: x.retry("again", by=BY))
    skip(e, "again", 1)
    assert e.state.status is RunStatus.SUCCEEDED


# --- any order ----------------------------------------------------------------------------------------------


def attempt(e, act):
    """Do it twice, on two copies: what a preview says is what the act does. Returns whether it was done."""
    results = []
    for _ in range(2):
        state = e.state.copy()
        x = Transition(plan=e.plan, state=state, now=e.at, evaluate=_evaluate_of(e))
        try:
            said = act(x)
        except CannotRecover as refusal:
            results.append(str(refusal))
            continue
        x.settle()
        results.append((said, x.entries, x.updates, x.run_updates, x.inserts))
    assert results[0] == results[1]
    if isinstance(results[0], str):
        return False
    e.do(act)
    return True


def _evaluate_of(e):
    return getattr(e, "evaluate", test_transition._evaluate)


@settings(max_examples=150)
@given(st.one_of(test_bodies.graphs(), test_transition.graphs()), st.integers(0, 2**32))
def test_any_order_of_failures_retries_and_skips_keeps_every_state_legal(doc, seed):
    rng = random.Random(seed)
    e = Bodied(doc, yes_from=rng.choice([1, 2, 99]))
    e.evaluate = lambda source, names, scope: (
        test_transition._evaluate(source, names, scope) if source in ("broken", "yes") else
        names.get("round", 0) >= e.yes_from
    )  # fmt: skip
    recoveries = 0
    for turn in range(3_000):
        assert counted(e)
        steps = list(e.state.steps.values())
        if not any(s.is_pass for s in steps):
            told = fold(e.entries)
            assert told == {s.path: str(s.status) for s in steps}, "the ledger tells it all"
        over = e.state.status in RUN_ENDED
        if (over or rng.random() < 0.05) and recoveries < 12 and turn < 2_000:
            recoveries += 1
            path = rng.choice(steps).path if steps else "n0"
            if over and e.state.error and rng.random() < 0.7:
                path = e.state.error.get("step", path)
            if rng.random() < 0.5:
                attempt(e, lambda x, p=path: x.retry(p, by=BY))
            else:
                attempt(e, lambda x, p=path: x.skip(p, {}, by=BY))
            assert counted(e)
            continue
        if over:
            break
        succeeded = set(e.with_status(StepStatus.SUCCEEDED))
        e.do(rng.choice(moves(e, steps, rng)))
        assert succeeded <= set(e.with_status(StepStatus.SUCCEEDED)), "a succeeded step never changes"
    assert e.state.status in RUN_ENDED
    assert all(s.status in STEP_ENDED for s in e.state.steps.values()), "I6"
    ends = [k for k, _path in e.entries if k in ("run.succeeded", "run.failed", "run.cancelled")]
    assert len(ends) <= 1 + sum(k == "run.reopened" for k, _path in e.entries), "I3"
    assert (e.state.error or {}).get("code") != "stalled"


# --- taking back --------------------------------------------------------------------------------------------


class TakingBack(Bodied):
    """An engine whose first steps can be taken back."""

    def do(self, change):
        self.at += timedelta(seconds=1)
        x = Transition(
            plan=self.plan, state=self.state, now=self.at, evaluate=self.evaluate,
            learn=self.outputs.__setitem__, item_of=lambda path, k: f"item {k}",
            result_of=lambda scope: f"result of {scope}", undoable=self.undoable,
        )  # fmt: skip
        change(x)
        x.settle()
        self.entries += [(e.kind, e.path) for e in x.entries]
        return x

    def undoable(self):
        done = [s for s in self.state.steps.values() if s.status is StepStatus.SUCCEEDED]
        return [s.path for s in reversed(done) if not s.is_pass and not s.is_undo][:3]


@settings(max_examples=100)
@given(st.one_of(test_bodies.graphs(), test_transition.graphs()), st.integers(0, 2**32))
def test_a_stopped_run_ends_only_after_all_it_can_take_back_is_taken_back(doc, seed):
    rng = random.Random(seed)
    e = TakingBack.__new__(TakingBack)
    e.evaluate = lambda source, names, scope: (
        source == "yes" or (source == "no" and names.get("round", 0) >= 2)
    )
    TakingBack.__init__(e, doc)
    for _ in range(3_000):
        assert counted(e)
        if e.state.status in RUN_ENDED:
            break
        steps = list(e.state.steps.values())
        given_up = [s.path for s in steps if s.reason == "person"]
        if given_up:
            path = given_up[0]
            act = rng.choice([lambda x: x.retry(path, by=BY), lambda x: x.skip(path, None, by=BY)])  # noqa: B023
            e.do(act)
        elif rng.random() < 0.02 and not e.state.cancel_requested:
            e.do(lambda x: x.cancel())
        else:
            e.do(rng.choice(moves(e, steps, rng)))
    assert e.state.status in RUN_ENDED
    assert all(s.status in STEP_ENDED for s in e.state.steps.values())
    if e.state.status is not RunStatus.SUCCEEDED and (e.state.error or {}).get("code") != "stalled":
        undone = [s.path for s in e.state.steps.values() if s.is_undo]
        assert {f"{path}/undo" for path in e.undoable()} == set(undone)
    else:
        assert not any(s.is_undo for s in e.state.steps.values())
    assert not any(path.endswith("/undo/undo") for path in e.state.steps)


def test_skipping_a_join_that_settles_early_leaves_nobody_waiting_behind_it():
    e = Engine(
        document(
            [t("a"), t("b"), {"id": "j", "kind": "aggregator", "join": "any"}],
            [{"from": "a", "to": "b"}, {"from": "b", "to": "j"}],
        )
    )
    e.claim("a")
    e.do(lambda x: x.skip("j", 1, by=BY))
    e.do(lambda x: x.hand_back("a"))
    assert (e.status("a"), e.status("b"), e.status("j")) == ("cancelled", "cancelled", "skipped")
    assert e.state.status is RunStatus.SUCCEEDED
