"""Retry, skip and fork on a real database: what is stored, who is asked; a preview changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.blueprints.models import Version
from apps.ledger.core.states import EffectClass
from apps.ledger.models import Effect, EntryBatch
from apps.ledger.selectors import entries
from apps.runs import ports, services
from apps.runs.core.limits import LIMITS
from apps.runs.errors import RunConflict, RunNotFound, StepError
from apps.runs.forks import fork_run
from apps.runs.invariants import check_all
from apps.runs.models import Attempt, Run, Step
from apps.runs.ports import Context, Done, EffectCall
from apps.runs.recovery import retry_step, skip_step
from apps.runs.retention import remove_run
from apps.workspaces.models import AuditEntry
from mirrorneuron.base.errors import Forbidden, InvalidInput, NotFound, TooLarge
from tests.runs.engine import statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
NO_RETRY = {"max_attempts": 1}


def t(id, output=1, **more):
    return {"id": id, "kind": "transform", "output": output, **more}


class World:
    """A tool that counts, and fails while it is told to."""

    def __init__(self) -> None:
        self.sends: list[tuple[str, Any]] = []
        self.fails: set[str] = set()
        self.doubts: set[str] = set()
        self.needs_grant = False
        self.business_key = ""
        self.on_duplicate = "block"

    def handler(self, context: Context) -> Done:
        name = context.node.id
        if name in self.fails:
            raise StepError(f"{name} is broken", permanent=True)
        arguments = {"to": context.render(context.node.with_ or "nobody")}

        def execute(key: str) -> Any:
            self.sends.append((name, arguments["to"]))
            if name in self.doubts:
                raise TimeoutError("no answer")
            return {"receipt": len(self.sends)}

        result = context.effect(
            EffectCall(
                tool=context.node.tool, effect_class=EffectClass.OPAQUE, arguments=arguments,
                execute=execute, timeout_seconds=5, needs_grant=self.needs_grant,
                business_key=self.business_key, on_duplicate=self.on_duplicate,
            )
        )  # fmt: skip
        return Done(result)


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setitem(ports._handlers, "tool", world.handler)
    return world


@pytest.fixture
def owner(alice, principal):
    return principal(alice)


@pytest.fixture
def start(workspace, owner, world):
    def start(nodes, edges=(), inputs=None, **document):
        return services.start_run(owner, version_of(workspace, nodes, edges, **document), inputs or {})

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def pay(id, **more):
    return {"id": id, "kind": "tool", "tool": "pay", "retry": NO_RETRY, **more}


EDGES = [{"from": "a", "to": "pay"}, {"from": "pay", "to": "b"}]
CHAIN = ([t("a"), pay("pay", **{"with": "{{ steps.a.output }}"}), t("b", "{{ steps.pay.output }}")], EDGES)


def everything():
    """All rows that a run leaves behind."""
    return (
        list(Run.objects.order_by("id").values()), list(Step.objects.order_by("id").values()),
        list(Effect.objects.order_by("id").values()), EntryBatch.objects.count(),
        Attempt.objects.count(), AuditEntry.objects.count(), ApprovalRequest.objects.count(),
    )  # fmt: skip


def kinds(run):
    return [e.kind for e in entries(run.id)]


# --- retry --------------------------------------------------------------------------------------------------


@pytest.fixture
def failed(start, world):
    world.fails = {"pay"}
    run = start(*CHAIN, outputs={"out": "{{ steps.b.output }}"})
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    world.fails = set()
    return run


def test_a_retried_run_goes_on_and_ends(failed, owner, world):
    said = retry_step(owner, failed.id, "pay", reason="the bank is back")
    assert (said["reopened"], said["tried_again"], said["kept"]) == (True, ["pay"], ["a"])
    work_all()
    failed.refresh_from_db()
    assert (failed.status, failed.error, len(world.sends)) == ("succeeded", None, 1)
    assert Attempt.objects.get(step__path="pay").error["message"] == "pay is broken"
    reopened = next(e for e in entries(failed.id) if e.kind == "run.reopened")
    assert reopened.data["reason"] == "the bank is back"
    assert AuditEntry.objects.filter(action="run.retry", target=str(failed.id)).exists()


def test_a_preview_says_what_the_act_does_and_changes_nothing(failed, owner):
    before = everything()
    told = retry_step(owner, failed.id, "pay", preview=True)
    assert everything() == before
    assert retry_step(owner, failed.id, "pay", reason="again") == told


def test_a_retry_needs_a_reason_a_role_and_ones_own_workspace(failed, owner, principal, charlie, workspace):
    before = everything()
    with pytest.raises(InvalidInput):
        retry_step(owner, failed.id, "pay")
    with pytest.raises(RunNotFound):
        retry_step(principal(charlie), failed.id, "pay", reason="mine")
    with pytest.raises(Forbidden):
        retry_step(principal(viewer(workspace)), failed.id, "pay", reason="please")
    assert everything() == before


def viewer(workspace):
    from apps.workspaces.models import Membership, User

    user = User.objects.create_user("vera@example.com", name="Vera")
    Membership.objects.create(workspace=workspace, user=user, roles=["viewer"])
    return user


def test_what_cannot_be_retried_says_what_can_be_done(failed, owner):
    with pytest.raises(RunConflict) as raised:
        retry_step(owner, failed.id, "a", reason="x")
    assert "only a failed step" in raised.value.message and "Fork" in raised.value.next


def test_a_committed_effect_of_a_retried_step_is_replayed_and_not_sent_again(
    start, owner, world, monkeypatch
):
    run = start([pay("pay")])

    def fails_after(context):
        world.handler(context)
        raise StepError("the answer makes no sense", permanent=True)

    monkeypatch.setitem(ports._handlers, "tool", fails_after)
    work_all()
    monkeypatch.setitem(ports._handlers, "tool", world.handler)
    said = retry_step(owner, run.id, "pay", reason="understood now")
    assert [e["tool"] for e in said["effects_kept"]] == ["pay"]
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1
    assert "effect.replayed" in kinds(run)


@pytest.mark.parametrize(("verb", "status", "sends"), [("approve", "succeeded", 2), ("reject", "failed", 1)])
def test_an_abandoned_effect_is_sent_again_only_after_a_person_consents(
    start, owner, world, verb, status, sends
):
    world.doubts = {"pay"}
    run = start([pay("pay")])
    work_all()
    services.resolve_effect(owner, Effect.objects.get().id, outcome="abandon", reason="no idea")
    world.doubts = set()
    said = retry_step(owner, run.id, "pay", reason="it is needed")
    assert [e["tool"] for e in said["effects_asked_again"]] == ["pay"]
    work_all()
    assert (statuses(run), len(world.sends)) == ({"pay": "waiting"}, 1)
    request = ApprovalRequest.objects.get()
    assert "Nobody knows whether it happened" in request.effect_summary
    decide(owner, request.id, verb=verb, reason="checked")
    work_all()
    assert (statuses(run), len(world.sends)) == ({"pay": status}, sends)


def test_a_rejected_call_is_asked_about_again_after_a_retry(start, owner, world):
    world.needs_grant = True
    run = start([pay("pay")])
    work_all()
    decide(owner, ApprovalRequest.objects.get().id, verb="reject", reason="too early")
    work_all()
    assert statuses(run) == {"pay": "failed"}
    retry_step(owner, run.id, "pay", reason="now it is time")
    work_all()
    pending = ApprovalRequest.objects.get(state="open")
    decide(owner, pending.id, verb="approve")
    work_all()
    assert (statuses(run), len(world.sends)) == ({"pay": "succeeded"}, 1)


def test_an_item_of_a_failed_map_is_retried(start, owner, world):
    world.fails = {"pay"}
    body = {"nodes": [pay("pay", **{"with": "{{ item }}"})], "edges": []}
    run = start(
        [{"id": "each", "kind": "map", "items": "{{ inputs.all }}", "join": "all", "body": body,
          "max_parallel": 1}, t("z")],
        [{"from": "each", "to": "z"}], {"all": ["x", "y"]},
    )  # fmt: skip
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    world.fails = set()
    before = everything()
    told = retry_step(owner, run.id, "each[0]/pay", preview=True)
    assert everything() == before
    assert retry_step(owner, run.id, "each[0]/pay", reason="mended") == told
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert [to for _, to in world.sends] == ["x", "y"]


# --- skip ---------------------------------------------------------------------------------------------------


def test_a_skipped_step_hands_its_value_on(failed, owner, world, alice):
    skip_step(owner, failed.id, "pay", value={"receipt": "by hand"}, reason="paid at the counter")
    work_all()
    failed.refresh_from_db()
    assert (failed.status, failed.output) == ("succeeded", {"out": {"receipt": "by hand"}})
    step = failed.steps.get(path="pay")
    assert (step.status, step.reason, step.labels) == ("skipped", "by_person", [f"user:{alice.id}"])
    assert world.sends == []


def test_a_blocked_step_is_skipped_before_its_turn(start, owner, world):
    nodes = [{"id": "w", "kind": "timer", "duration": "1h"}, pay("pay"), t("b", "{{ steps.pay.output }}")]
    run = start(nodes, [{"from": "w", "to": "pay"}, {"from": "pay", "to": "b"}])
    work_all()
    skip_step(owner, run.id, "pay", value="none", reason="not wanted")
    skip_step(owner, run.id, "w", reason="no need to wait")
    work_all()
    assert statuses(run) == {"w": "skipped", "pay": "skipped", "b": "succeeded"}
    assert world.sends == []


def test_skipping_a_question_closes_it(start, owner, world):
    world.needs_grant = True
    run = start(*CHAIN)
    work_all()
    before = everything()
    told = skip_step(owner, run.id, "pay", preview=True)
    assert everything() == before
    assert skip_step(owner, run.id, "pay", reason="not needed") == told
    assert ApprovalRequest.objects.get().state == "cancelled"
    assert Effect.objects.get().state == "failed"
    work_all()
    assert world.sends == []


def test_a_doubt_is_skipped_only_with_consent_to_abandon_its_effect(start, owner, world):
    world.doubts = {"pay"}
    run = start(*CHAIN)
    work_all()
    with pytest.raises(RunConflict) as raised:
        skip_step(owner, run.id, "pay", value=1, reason="go on")
    assert raised.value.code == "effect_in_doubt"
    said = skip_step(owner, run.id, "pay", value=1, abandon=True, reason="go on")
    assert [e["tool"] for e in said["effects_abandoned"]] == ["pay"]
    effect = Effect.objects.get()
    assert (effect.state, effect.resolution["outcome"]) == ("failed", "abandon")
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_a_value_must_be_what_the_step_could_have_given(start, owner, monkeypatch):
    def broken(context):
        raise StepError("broken", permanent=True)

    monkeypatch.setitem(ports._handlers, "extract", broken)
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    run = start([{"id": "x", "kind": "extract", "output": schema}])
    work_all()
    with pytest.raises(InvalidInput) as raised:
        skip_step(owner, run.id, "x", value={"n": "many"}, reason="by hand")
    assert "value.n" in raised.value.fields
    with pytest.raises(TooLarge):
        skip_step(owner, run.id, "x", value="x" * LIMITS.max_output_bytes, reason="too much")
    skip_step(owner, run.id, "x", value={"n": 1}, reason="by hand")
    assert statuses(run) == {"x": "skipped"}


def test_a_decision_that_the_contract_requires_cannot_be_skipped(start, owner):
    run = start(
        [{"id": "ask", "kind": "approval", "with": {"n": 1}}],
        contract={"human_checkpoints": [{"step": "ask", "required": True}]},
    )
    work_all()
    with pytest.raises(RunConflict) as raised:
        skip_step(owner, run.id, "ask", value={}, reason="in a hurry")
    assert raised.value.code == "checkpoint_required"


# --- fork ---------------------------------------------------------------------------------------------------


@pytest.fixture
def done(start):
    run = start(*CHAIN, outputs={"out": "{{ steps.b.output }}"})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    return run


def forked(said):
    return Run.objects.get(id=said["fork"])


def test_a_fork_inherits_effects_as_results_and_sends_nothing(done, owner, world):
    said = fork_run(owner, done.id, from_step="b", reason="another ending")
    assert (said["kept"], said["redone"]) == (["a", "pay"], ["b"])
    assert [e["step"] for e in said["effects_inherited"]] == ["pay"]
    assert said["effects_repeat"] == []
    run = forked(said)
    work_all()
    run.refresh_from_db()
    assert (run.status, run.output, len(world.sends)) == ("succeeded", {"out": {"receipt": 1}}, 1)
    mine, origin = Effect.objects.get(run_id=run.id), Effect.objects.get(run_id=done.id)
    assert (mine.inherited_from, mine.sends, mine.state) == (origin.id, 0, "committed")
    assert mine.key != origin.key
    assert run.forked_from == done.id
    assert [s.path for s in run.steps.filter(kept=True)] == ["a", "pay"]
    assert kinds(done)[-1] == "run.forked"


def test_a_preview_of_a_fork_changes_nothing_and_says_what_the_fork_does(done, owner):
    before = everything()
    told = fork_run(owner, done.id, redo=["pay"], preview=True)
    assert everything() == before
    assert (told["kept"], told["redone"], told["fork"]) == (["a"], ["pay", "b"], None)
    assert [e["step"] for e in told["effects_repeat"]] == ["pay"]
    said = fork_run(owner, done.id, redo=["pay"], reason="again")
    differ = {"fork", "preview", "status"}
    assert {k: v for k, v in said.items() if k not in differ} == {
        k: v for k, v in told.items() if k not in differ
    }


@pytest.mark.parametrize(("verb", "status", "sends"), [("approve", "succeeded", 2), ("reject", "failed", 1)])
def test_a_redone_effect_is_repeated_only_after_a_person_consents(done, owner, world, verb, status, sends):
    run = forked(fork_run(owner, done.id, from_step="pay", reason="once more"))
    work_all()
    assert (statuses(run)["pay"], len(world.sends)) == ("waiting", 1)
    request = ApprovalRequest.objects.get(run_id=run.id)
    assert str(done.id) in request.effect_summary
    decide(owner, request.id, verb=verb, reason="I know")
    work_all()
    run.refresh_from_db()
    assert (run.status, len(world.sends)) == (status, sends)


def test_a_fork_of_a_fork_asks_for_what_the_first_run_did(done, owner, world):
    first = forked(fork_run(owner, done.id, from_step="b", reason="one"))
    work_all()
    second = forked(fork_run(owner, first.id, from_step="a", reason="two"))
    work_all()
    assert statuses(second)["pay"] == "waiting"
    assert str(done.id) in ApprovalRequest.objects.get(run_id=second.id).effect_summary
    assert len(world.sends) == 1


def test_one_consent_is_enough_where_an_approval_is_needed_anyway(done, owner, world):
    world.needs_grant = True
    run = forked(fork_run(owner, done.id, from_step="pay", reason="once more"))
    work_all()
    decide(owner, ApprovalRequest.objects.get(run_id=run.id).id, verb="approve")
    work_all()
    run.refresh_from_db()
    assert (run.status, len(world.sends)) == ("succeeded", 2)


def test_the_same_action_by_another_step_is_asked_about_too(start, owner, world, workspace):
    run = start([t("a"), pay("pay", **{"with": "x"}), pay("other", **{"with": "x"})],
                [{"from": "a", "to": "pay"}, {"from": "pay", "to": "other"}])  # fmt: skip
    world.fails = {"other"}
    work_all()
    world.fails = set()
    fork = forked(fork_run(owner, run.id, reason="go on"))
    work_all()
    assert statuses(fork) == {"a": "succeeded", "pay": "succeeded", "other": "waiting"}


def test_an_edited_output_goes_on_and_is_labelled(done, owner, world, alice):
    said = fork_run(owner, done.id, edit={"pay": {"receipt": 99}}, reason="the receipt was wrong")
    assert (said["edited"], said["redone"]) == (["pay"], ["b"])
    run = forked(said)
    work_all()
    run.refresh_from_db()
    assert run.output == {"out": {"receipt": 99}}
    assert run.steps.get(path="pay").labels == [f"user:{alice.id}"]
    assert len(world.sends) == 1


def test_a_fork_of_a_running_or_waiting_run_leaves_that_run_alone(start, owner, world):
    run = start([t("a"), {"id": "w", "kind": "timer", "duration": "1h"}], [{"from": "a", "to": "w"}])
    work_all()
    fork = forked(fork_run(owner, run.id, reason="a second one"))
    work_all()
    assert statuses(run) == statuses(fork) == {"a": "succeeded", "w": "waiting"}


def test_a_cancelled_run_is_taken_up_again_by_a_fork(start, owner):
    run = start([t("a"), {"id": "w", "kind": "timer", "duration": "1h"}], [{"from": "a", "to": "w"}])
    work_all()
    services.cancel_run(owner, run.id, reason="no")
    fork = forked(fork_run(owner, run.id, reason="after all"))
    work_all()
    assert statuses(fork) == {"a": "succeeded", "w": "waiting"}


def test_a_fork_moves_to_another_version(done, owner, workspace, world):
    document = dict(done.version.document)
    document["graph"] = {"nodes": [*CHAIN[0][:2], t("b", "second edition")], "edges": EDGES}
    newer = Version.objects.create(
        blueprint=done.version.blueprint, number=2, content_hash="2", document=document, source=""
    )
    said = fork_run(owner, done.id, version=2, from_step="b", reason="mended")
    run = forked(said)
    work_all()
    run.refresh_from_db()
    assert (run.version_id, run.output) == (newer.id, {"out": "second edition"})
    assert said["version"] == 2
    assert len(world.sends) == 1


def test_a_version_that_lacks_a_kept_step_is_refused_in_words(done, owner):
    document = dict(done.version.document)
    document["graph"] = {"nodes": [t("a"), t("b", 2)], "edges": [{"from": "a", "to": "b"}]}
    document["outputs"] = {}
    Version.objects.create(
        blueprint=done.version.blueprint, number=2, content_hash="2", document=document, source=""
    )
    with pytest.raises(RunConflict) as raised:
        fork_run(owner, done.id, version=2, reason="mended")
    assert '"pay"' in raised.value.message
    said = fork_run(owner, done.id, version=2, from_step="pay", reason="without paying")
    work_all()
    assert statuses(forked(said)) == {"a": "succeeded", "b": "succeeded"}
    with pytest.raises(NotFound):
        fork_run(owner, done.id, version=3, reason="nothing there")


def test_other_inputs_do_everything_again(start, owner, world):
    run = start([t("a", "{{ inputs.n }}")], inputs={"n": 1}, outputs={"n": "{{ steps.a.output }}"})
    work_all()
    said = fork_run(owner, run.id, inputs={"n": 2}, reason="a typo")
    assert (said["kept"], said["redone"]) == ([], ["a"])
    work_all()
    assert forked(said).output == {"n": 2}


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        ({}, RunConflict, "nothing to do again"),
        ({"redo": ["nope"]}, NotFound, "no step"),
        ({"redo": ["b"], "edit": {"b": 1}}, InvalidInput, "not both"),
    ],
)
def test_a_fork_that_makes_no_sense_is_refused(done, owner, wish, error, says):
    before = everything()
    with pytest.raises(error, match=says):
        fork_run(owner, done.id, **wish, reason="why not")
    assert everything() == before


def test_a_fork_needs_a_reason_a_role_and_ones_own_workspace(done, owner, principal, charlie, workspace):
    with pytest.raises(InvalidInput):
        fork_run(owner, done.id, from_step="b")
    with pytest.raises(RunNotFound):
        fork_run(principal(charlie), done.id, from_step="b", reason="mine")
    with pytest.raises(Forbidden):
        fork_run(principal(viewer(workspace)), done.id, from_step="b", reason="please")


def test_the_same_key_gives_the_same_fork(done, owner):
    first = fork_run(owner, done.id, from_step="b", reason="x", idempotency_key="k")
    again = fork_run(owner, done.id, from_step="b", reason="x", idempotency_key="k")
    assert first["fork"] == again["fork"]
    with pytest.raises(InvalidInput):
        fork_run(owner, done.id, from_step="a", reason="x", idempotency_key="k")


def test_a_fork_of_a_failed_map_keeps_its_items_and_their_effects(start, owner, world):
    given = {"with": "{{ item }}"}
    body = {
        "nodes": [pay("pay", **given), pay("last", **given, tool="tell")],
        "edges": [{"from": "pay", "to": "last"}],
    }
    nodes = [
        {"id": "each", "kind": "map", "items": "{{ inputs.all }}", "body": body, "max_parallel": 1},
        t("z", "{{ steps.each.output }}"),
    ]
    world.fails = set()
    run = start(
        nodes, [{"from": "each", "to": "z"}], {"all": ["x", "y"]}, outputs={"z": "{{ steps.z.output }}"}
    )
    work_all()
    assert len(world.sends) == 4
    said = fork_run(owner, run.id, redo=["each[1]/last"], reason="one of them again")
    assert [e["step"] for e in said["effects_repeat"]] == ["each[1]/last"]
    fork = forked(said)
    work_all()
    request = ApprovalRequest.objects.get(run_id=fork.id)
    assert request.step_path == "each[1]/last"
    decide(owner, request.id, verb="approve")
    work_all()
    fork.refresh_from_db()
    assert fork.status == "succeeded"
    assert len(world.sends) == 5
    assert Effect.objects.filter(run_id=fork.id, inherited_from__isnull=False).count() == 3
    assert fork.steps.filter(path="each[0]/pay", kept=True).exists()
    assert fork.output["z"][0] == run.__class__.objects.get(id=run.id).output["z"][0]


def test_a_fork_of_a_simulated_run_asks_nobody(workspace, owner, world):
    version = version_of(workspace, *CHAIN)
    run = services.start_run(owner, version, {}, simulate=True)
    work_all()
    fork = forked(fork_run(owner, run.id, from_step="pay", reason="again"))
    work_all()
    assert fork.simulate
    assert statuses(fork)["pay"] == "succeeded"


def test_a_fork_locks_the_run_it_comes_from(done, owner):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one lock for all")
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as queries:
        fork_run(owner, done.id, from_step="b", reason="x")
    locks = [q["sql"] for q in queries if "FOR UPDATE" in q["sql"]]
    assert len(locks) == 1, "one run is locked, the other one is new"


def test_what_was_done_is_asked_about_although_a_run_in_between_was_removed(done, owner, world):
    """The first run has paid. A fork of it was stopped before it paid, and is removed while its own fork goes
    on."""
    between = forked(fork_run(owner, done.id, from_step="pay", reason="one"))
    services.cancel_run(owner, between.id)
    last = forked(fork_run(owner, between.id, reason="two"))
    remove_run(between.id, archive=None)
    work_all()
    assert statuses(last)["pay"] == "waiting"
    assert str(done.id) in ApprovalRequest.objects.get(run_id=last.id).effect_summary
    assert len(world.sends) == 1
