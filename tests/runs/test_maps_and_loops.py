"""Maps and loops on a real database: items, rounds, what their bodies see, and what they hand over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs import executor, ports, services
from apps.runs.errors import StepError
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step
from apps.runs.ports import Done
from tests.runs.engine import recorded, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


def t(id, output=1, **more):
    return {"id": id, "kind": "transform", "output": output, **more}


def each(nodes, edges=(), **more):
    return {"id": "each", "kind": "map", "items": "{{ inputs.all }}",
            "body": {"nodes": nodes, "edges": list(edges)}, **more}  # fmt: skip


def again(nodes, edges=(), **more):
    return {"id": "again", "kind": "loop", "body": {"nodes": nodes, "edges": list(edges)}, **more}


@pytest.fixture
def run_of(workspace, alice, principal):
    def run_of(nodes, edges=(), inputs=None, **document):
        version = version_of(workspace, nodes, edges, **document)
        run = services.start_run(principal(alice), version, inputs or {})
        work_all()
        run.refresh_from_db()
        assert check_all() == []
        return run

    return run_of


def output_of(run, path):
    return Step.objects.get(run=run, path=path).output


@pytest.mark.parametrize("kind", ["pure", "recorded"])
def test_a_map_runs_its_body_for_each_item_and_keeps_their_order(run_of, kind):
    node = (t if kind == "pure" else recorded)("double", "{{ item * 2 + index }}")
    run = run_of([each([node], max_parallel=2), t("sum", "{{ steps.each.output }}")],
                 [{"from": "each", "to": "sum"}], {"all": [5, 6, 7]})  # fmt: skip
    assert run.status == "succeeded"
    assert output_of(run, "sum") == [10, 13, 16]
    assert statuses(run)["each[1]/double"] == "succeeded"
    assert statuses(run)["each[1]/."] == "succeeded"


def test_a_body_sees_its_own_steps_first_and_those_around_it_too(run_of):
    body = [t("a", "{{ 'inner ' + item }}"), t("b", "{{ steps.a.output + ', ' + steps.outer.output }}")]
    run = run_of(
        [t("a", "outer a"), t("outer", "{{ steps.a.output }}"), each(body, [{"from": "a", "to": "b"}])],
        [{"from": "a", "to": "outer"}, {"from": "outer", "to": "each"}],
        {"all": ["x"]},
    )
    assert output_of(run, "each") == ["inner x, outer a"]


def test_what_an_item_hands_over_and_how_items_are_merged_may_be_written(run_of):
    node = each([t("a", "{{ item }}"), t("b", "{{ item * 10 }}")], merge="{{ results.map(r, r.sum) }}",
                output={"sum": "{{ steps.a.output + steps.b.output }}"})  # fmt: skip
    assert output_of(run_of([node], inputs={"all": [1, 2]}), "each") == [11, 22]


def test_an_empty_map_is_done_at_once(run_of):
    run = run_of([each([t("a")])], inputs={"all": []})
    assert (run.status, output_of(run, "each")) == ("succeeded", [])


def test_items_that_are_no_list_fail_the_map_in_words(run_of):
    run = run_of([each([t("a")])], inputs={"all": {"not": "a list"}})
    assert run.error["code"] == "bad_items"
    assert "an object" in run.error["message"]


def test_failed_items_are_told_apart_where_all_may_settle(run_of):
    body = [t("a", "{{ 10 / item }}")]
    run = run_of([each(body, join="all_settled")], inputs={"all": [1, 0, 5]})
    assert run.status == "succeeded"
    output = output_of(run, "each")
    assert output["results"] == [10, None, 2]
    assert [f["index"] for f in output["failed"]] == [1]
    assert output["failed"][0]["error"]["step"] == "each[1]/a"


def test_one_failed_item_fails_the_map_and_its_run(run_of):
    run = run_of([each([t("a", "{{ 10 / item }}")], max_parallel=1)], inputs={"all": [1, 0, 5]})
    assert run.status == "failed"
    assert run.error["step"] == "each[1]/a"
    assert "each[2]/." not in statuses(run)


def test_a_map_inside_a_map(run_of):
    inner = {"id": "inner", "kind": "map", "items": "{{ item }}",
             "body": {"nodes": [t("x", "{{ item + 1 }}")]}}  # fmt: skip
    run = run_of([each([inner])], inputs={"all": [[1, 2], [3]]})
    assert output_of(run, "each") == [[2, 3], [4]]
    assert statuses(run)["each[0]/inner[1]/x"] == "succeeded"


def test_a_loop_hands_each_round_what_the_one_before_made(run_of):
    node = again([t("next", "{{ previous == null ? args.start : previous * 2 }}")],
                 **{"with": {"start": 3}}, condition="output > 20", max_rounds=10)  # fmt: skip
    run = run_of([node])
    assert output_of(run, "again") == {"result": 24, "rounds": 4, "reason": "condition"}


def test_a_loop_of_recorded_steps_out_of_rounds_fails_in_words(run_of):
    run = run_of([again([recorded("a", "{{ round }}")], condition="output > 20", max_rounds=3)])
    assert run.error["code"] == "rounds_exhausted"
    assert output_of(run, "again[3]/a") == 3


def test_a_loop_without_a_condition_runs_all_its_rounds(run_of):
    run = run_of([again([t("a", "{{ round }}")], max_rounds=4)])
    assert output_of(run, "again") == {"result": 4, "rounds": 4, "reason": "max_rounds"}


def test_a_step_in_a_body_that_fails_is_tried_again(run_of, monkeypatch):
    tries = []

    def flaky(context):
        tries.append(context.path)
        if context.attempt == 1:
            raise StepError("not yet")
        return Done(context.path)

    monkeypatch.setitem(ports._handlers, "code", flaky)
    again_at_once = {"base": 0.001, "max": 0.001}
    run = run_of([each([recorded("a", retry=again_at_once)], retry_budget=9)], inputs={"all": [1, 2]})
    for _ in range(20):
        if run.status == "succeeded":
            break
        work_all()
        run.refresh_from_db()
    assert output_of(run, "each") == ["each[0]/a", "each[1]/a"]
    assert sorted(tries) == ["each[0]/a"] * 2 + ["each[1]/a"] * 2


def test_a_loop_of_many_rounds_reads_no_more_at_the_end_than_at_the_start(
    workspace, alice, principal, monkeypatch
):
    """Statements per round do not grow with the rounds."""
    monkeypatch.setattr(executor, "others_wait", lambda *asked: False)

    def cost(rounds):
        version = version_of(workspace, [again([recorded("a")], max_rounds=rounds)])
        services.start_run(principal(alice), version, {})
        with CaptureQueriesContext(connection) as queries:
            work_all()
        return len(queries)

    cost(1)
    few, more, most = cost(25), cost(35), cost(45)
    assert most - more <= more - few + 2


def test_a_chain_that_only_computes_shares_its_commits(run_of, workspace, alice, principal):
    ids = [f"s{i}" for i in range(10)]
    version = version_of(workspace, [t(i) for i in ids],
                         [{"from": a, "to": b} for a, b in pairwise(ids)])  # fmt: skip
    run = services.start_run(principal(alice), version, {})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    from apps.ledger.models import EntryBatch

    assert EntryBatch.objects.filter(run_id=run.id).count() == 2, "one to start, one for all ten steps"


def test_a_cancelled_run_with_open_items_ends(workspace, alice, principal):
    version = version_of(workspace, [each([{"id": "z", "kind": "timer", "duration": "1h"}])])
    run = services.start_run(principal(alice), version, {"all": [1, 2, 3]})
    work_all()
    assert Run.objects.get(id=run.id).status == "waiting"
    services.cancel_run(principal(alice), run.id)
    assert set(statuses(run).values()) == {"cancelled"}
    assert Run.objects.get(id=run.id).status == "cancelled"
    assert check_all() == []


def test_large_items_and_outputs_pass_through_a_map_whole(run_of):
    """Both are stored once by content and passed by reference."""
    texts = [letter * 20_000 for letter in "abc"]
    run = run_of(
        [each([recorded("a", "{{ item + '!' }}")]), t("last", "{{ steps.each.output.map(x, size(x)) }}")],
        [{"from": "each", "to": "last"}],
        {"all": texts},
    )
    assert run.status == "succeeded"
    assert output_of(run, "last") == [20_001] * 3


def test_large_values_go_from_round_to_round(run_of):
    grow = t("grow", "{{ previous == null ? args.text : previous + args.text }}")
    node = again([grow], **{"with": {"text": "{{ inputs.text }}"}}, max_rounds=3)
    run = run_of([node, t("last", "{{ size(steps.again.output.result) }}")],
                 [{"from": "again", "to": "last"}], {"text": "x" * 10_000})  # fmt: skip
    assert output_of(run, "last") == 30_000
