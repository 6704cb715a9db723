"""Webhooks on the real engine: repeated, too early, too late, forged; what is taken is taken once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.blueprints.services import archive
from apps.runs import hooks, signals
from apps.runs.core.webhook import new_secret, sign
from apps.runs.errors import HookUnknown, RunConflict, SignatureRefused
from apps.runs.hooks import HookPlan, Opened, add_hook, receive, rotate_hook
from apps.runs.models import Delivery, Hook, Run, Signal, Step
from apps.runs.services import start_run
from apps.runs.upkeep import anything_due, upkeep
from apps.workspaces.models import AuditEntry, Membership, User
from mirrorneuron.base.clock import FrozenClock, clock, now
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, NotFound, TooLarge
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
NAMED = {"inputs": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}
PAID = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}
TELL = {"name": "paid", "label": "order", "equals": "{{ body.order }}"}
Send = Callable[..., Any]


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with clock.frozen(NOON) as frozen:
        yield frozen


@pytest.fixture
def tell(alice: User, principal: Any, time: FrozenClock) -> Opened:
    """A hook that tells runs labelled with an order that it was paid."""
    return add_hook(principal(alice), HookPlan("payments", "signal", TELL))


@pytest.fixture
def starter(workspace, alice: User, principal: Any, time: FrozenClock) -> Opened:
    node = {"id": "say", "kind": "transform", "output": "Hello {{ inputs.name }}"}
    name = version_of(workspace, nodes=[node], contract=NAMED).blueprint.name
    mapping = {"blueprint": name, "inputs": {"name": "{{ body.who }}"}, "labels": {"from": "shop"}}
    return add_hook(principal(alice), HookPlan("starts", "start", mapping))


def send(opened: Opened, body: Any, id: str = "m1", *, secret: str = "", at: float | None = None) -> Any:
    """Deliver one signed message, as the API does."""
    raw = json.dumps(body).encode()
    signed_at = int(now().timestamp() if at is None else at)
    headers = {
        "content-type": "application/json",
        "webhook-id": id,
        "webhook-timestamp": str(signed_at),
        "webhook-signature": sign(secret or opened.secret, id, signed_at, raw),
    }
    return receive(hooks.hook_by_token(opened.token), headers, raw)


@pytest.fixture
def waiting(workspace, alice: User, principal: Any) -> Callable[..., Run]:
    def make(order: str = "17", worked: bool = True, **sensor: Any) -> Run:
        node = {"id": "wait", "kind": "sensor", "signal": "paid", **sensor}
        run = start_run(principal(alice), version_of(workspace, nodes=[node]), {}, labels={"order": order})
        if worked:
            work_all()
        return run

    return make


def state(key: str = "m1") -> str:
    return Delivery.objects.get(key=key).state


def test_a_message_starts_one_run_however_often_it_comes(starter: Opened, alice: User):
    first = send(starter, {"who": "Ada"})
    again = [send(starter, {"who": "Ada"}) for _ in range(2)]

    run = Run.objects.get()
    assert (first.duplicate, first.delivery.state, first.delivery.runs) == (False, "done", [str(run.id)])
    assert [r.duplicate for r in again] == [True, True]
    assert again[0].delivery.runs == [str(run.id)]
    assert run.inputs == {"name": "Ada"} and run.started_by == alice
    assert run.labels == {"from": "shop", "hook": "starts"}


def test_a_message_tells_the_run_it_is_about_and_no_other(tell: Opened, waiting):
    ours, other = waiting("17"), waiting("18")

    send(tell, {"order": 17, "amount": 5})
    work_all()

    assert statuses(ours) == {"wait": "succeeded"} and statuses(other) == {"wait": "waiting"}
    step = Step.objects.get(run=ours)
    assert step.output["body"] == {"order": 17, "amount": 5}
    assert step.labels == ["tool:webhook"], "what a stranger wrote is not trusted"


def test_three_times_out_of_order_and_before_the_waiter_exists(tell: Opened, waiting):
    run = waiting(worked=False)
    for id in ("b", "a", "b", "a", "b"):
        send(tell, {"order": 17, "id": id}, id)

    work_all()

    assert [s["body"]["id"] for s in signals.signals_of(run)] == ["b", "a"], "in the order they arrived"
    assert Step.objects.get(run=run).output["body"]["id"] == "b"


def test_a_key_of_the_mapping_makes_two_messages_one_signal(alice, principal, time, waiting):
    mapping = {**TELL, "key": "{{ body.payment }}"}
    opened = add_hook(principal(alice), HookPlan("p", "signal", mapping))
    run = waiting()
    send(opened, {"order": 17, "payment": "p1"}, "m1")
    send(opened, {"order": 17, "payment": "p1"}, "m2")
    assert run.signals.count() == 1


def test_after_the_runs_end_it_is_stored_and_answered_with_a_conflict(tell: Opened, waiting):
    run = waiting()
    send(tell, {"order": 17}, "m1")
    with pytest.raises(RunConflict):
        send(tell, {"order": 17}, "m2")
    assert run.signals.count() == 2 and state("m2") == "late"
    assert send(tell, {"order": 17}, "m2").duplicate is True


def test_a_message_without_a_run_is_held_and_delivered_when_one_appears(tell: Opened, waiting, time):
    assert send(tell, {"order": 17}).delivery.state == "held"
    time.move(days=6)
    assert anything_due(register_worker(), ("default",))
    work_all()
    assert state() == "held" and not anything_due(register_worker(), ("default",))
    run = waiting()
    time.move(minutes=1)
    work_all()

    assert statuses(run) == {"wait": "succeeded"} and state() == "done"
    assert not Delivery.objects.exclude(due_at=None).exists()


def test_held_for_seven_days_and_no_longer(tell: Opened, waiting, time):
    send(tell, {"order": 17})
    time.move(days=7, seconds=1)
    upkeep(register_worker())
    assert state() == "expired"
    run = waiting()
    time.move(minutes=2)
    work_all()
    assert statuses(run) == {"wait": "waiting"}


def test_a_process_that_died_before_it_acted_loses_nothing(starter: Opened, time, monkeypatch):
    class Died(BaseException):
        pass

    def die(*args: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(hooks, "_act", die)
        with pytest.raises(Died):
            send(starter, {"who": "Ada"})
    assert state() == "received" and Run.objects.count() == 0

    time.move(seconds=31)
    upkeep(register_worker())
    assert state() == "done" and Run.objects.count() == 1
    assert send(starter, {"who": "Ada"}).duplicate is True
    assert Run.objects.count() == 1


@pytest.mark.parametrize("seconds", [-301, 301])
def test_what_was_signed_too_long_ago_or_ahead_is_refused(starter: Opened, seconds: int):
    with pytest.raises(SignatureRefused) as refused:
        send(starter, {"who": "Ada"}, at=NOON.timestamp() + seconds)
    assert refused.value.code == "outside_window" and Delivery.objects.count() == 0


def test_a_forged_message_leaves_no_trace(starter: Opened):
    with pytest.raises(SignatureRefused):
        send(starter, {"who": "Ada"}, secret=new_secret())
    assert Delivery.objects.count() == 0 and Run.objects.count() == 0


@pytest.mark.parametrize("token", ["", "mnh_", "mnh_guess", "mn_guess", "ä", "mnh_" + "x" * 5000])
def test_an_unknown_address_says_nothing(starter: Opened, token: str):
    with pytest.raises(HookUnknown):
        hooks.hook_by_token(token)


def test_token_and_secret_are_not_in_the_database_as_they_are(starter: Opened):
    row = Hook.objects.get()
    assert starter.token not in row.digest and starter.secret.encode() not in bytes(row.sealed)
    assert starter.secret not in json.dumps(hooks.hook_view(row))


def test_after_a_rotation_both_secrets_hold_for_a_while(starter: Opened, alice, principal, time):
    fresh = rotate_hook(principal(alice), "starts")
    send(starter, {"who": "A"}, "m1")
    send(starter, {"who": "B"}, "m2", secret=fresh.secret)

    time.move(days=1, seconds=1)

    send(starter, {"who": "C"}, "m3", secret=fresh.secret)
    with pytest.raises(SignatureRefused):
        send(starter, {"who": "D"}, "m4")


def test_a_secret_that_got_out_ends_at_once(starter: Opened, alice, principal):
    fresh = rotate_hook(principal(alice), "starts", keep_old=timedelta(0))
    with pytest.raises(SignatureRefused):
        send(starter, {"who": "A"})
    send(starter, {"who": "A"}, secret=fresh.secret)


def test_a_body_that_does_not_fit_the_waiting_sensor_is_refused_and_may_be_mended(tell: Opened, waiting):
    run = waiting(schema=PAID)
    with pytest.raises(InvalidInput) as refused:
        send(tell, {"order": 17, "amount": "many"}, "m1")
    assert "amount" in refused.value.fields and state("m1") == "failed"

    send(tell, {"order": 17, "amount": 5}, "m2")
    assert statuses(run) == {"wait": "succeeded"}


def test_what_was_refused_is_tried_again_when_it_is_sent_again(starter: Opened, alice, bob, principal):
    Membership.objects.filter(user=alice).update(roles=["viewer"])
    with pytest.raises(Forbidden):
        send(starter, {"who": "Ada"})
    assert state() == "failed"
    Membership.objects.filter(user=alice).update(roles=["operator"])

    assert send(starter, {"who": "Ada"}).delivery.state == "done"
    assert Run.objects.count() == 1


def test_inputs_that_do_not_fit_and_an_archived_blueprint_are_said(starter: Opened, alice, principal):
    with pytest.raises(InvalidInput) as refused:
        send(starter, {"who": 3}, "m1")
    assert "name" in refused.value.fields
    with pytest.raises(InvalidInput):
        send(starter, {}, "m2")
    archive(principal(alice), starter.hook.mapping["blueprint"])
    with pytest.raises(Conflict):
        send(starter, {"who": "Ada"}, "m3")
    assert Hook.objects.get().last_error["code"] == "blueprint_archived"


def test_who_left_starts_nothing(starter: Opened, alice):
    Membership.objects.filter(user=alice).delete()
    with pytest.raises(Forbidden) as refused:
        send(starter, {"who": "Ada"})
    assert refused.value.code == "actor_left"


def test_inputs_may_tell_which_run_is_meant(workspace, alice, principal, time):
    node = {"id": "wait", "kind": "sensor", "signal": "paid"}
    version = version_of(workspace, nodes=[node])
    runs = [start_run(principal(alice), version, {"order": order}) for order in ("17", 18, "x' OR 1=1 --")]
    work_all()
    mapping = {"name": "paid", "input": "order", "equals": "{{ body.order }}"}
    opened = add_hook(principal(alice), HookPlan("p", "signal", mapping))

    send(opened, {"order": 18}, "m1")
    send(opened, {"order": "x' OR 1=1 --"}, "m2")

    assert [statuses(run)["wait"] for run in runs] == ["waiting", "succeeded", "succeeded"]


def test_other_workspaces_runs_are_never_told(tell: Opened, charlie, elsewhere, principal):
    version = version_of(elsewhere, nodes=[{"id": "wait", "kind": "sensor", "signal": "paid"}])
    theirs = start_run(principal(charlie), version, {}, labels={"order": "17"})
    work_all()
    assert send(tell, {"order": 17}).delivery.state == "held"
    assert theirs.signals.count() == 0


def test_large_and_unreadable_bodies_are_refused(starter: Opened):
    hook = hooks.hook_by_token(starter.token)
    with pytest.raises(TooLarge):
        receive(hook, {}, b"x" * 1_000_001)
    for raw in (b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000):
        at = int(now().timestamp())
        headers = {
            "content-type": "application/json", "webhook-id": "m", "webhook-timestamp": str(at),
            "webhook-signature": sign(starter.secret, "m", at, raw),
        }  # fmt: skip
        with pytest.raises(InvalidInput):
            receive(hook, headers, raw)
    assert Delivery.objects.count() == 0


def test_old_messages_are_forgotten_and_held_ones_are_not(starter, tell, time):
    send(starter, {"who": "Ada"}, "m1")
    send(tell, {"order": 1}, "m2")
    time.move(days=8)
    assert hooks.forget_deliveries() == 1
    assert list(Delivery.objects.values_list("key", flat=True)) == ["m2"]


def test_only_who_may_operate_opens_and_changes_hooks(tell: Opened, bob, charlie, principal):
    Membership.objects.filter(user=bob).update(roles=["viewer"])
    with pytest.raises(Forbidden):
        add_hook(principal(bob), HookPlan("x", "signal", TELL))
    for act in (rotate_hook, hooks.remove_hook):
        with pytest.raises(Forbidden):
            act(principal(bob), "payments")
        with pytest.raises(NotFound):
            act(principal(charlie), tell.hook.id)
    assert list(hooks.hooks_for(principal(charlie))) == []


def test_what_is_done_with_a_hook_is_audited(tell: Opened, alice, principal):
    rotate_hook(principal(alice), "payments")
    hooks.remove_hook(principal(alice), "payments")
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions == ["hook.created", "hook.rotated", "hook.removed"]
    text = json.dumps(list(AuditEntry.objects.values_list("data", flat=True)))
    assert tell.secret not in text and tell.token not in text


def test_every_mistake_of_a_plan_is_named(alice, principal):
    plan = HookPlan("", "start", {"blueprint": "nothing"}, scheme="x", tolerance_seconds=1, secret="short")
    with pytest.raises(InvalidInput) as refused:
        add_hook(principal(alice), plan)
    assert set(refused.value.fields) == {"name", "blueprint", "scheme", "tolerance_seconds", "secret"}


def test_a_message_reaches_all_its_runs_although_one_cannot_use_it(tell: Opened, waiting):
    picky, other = waiting(schema=PAID), waiting()
    for _ in range(2):
        with pytest.raises(InvalidInput):
            send(tell, {"order": 17})
        assert statuses(other) == {"wait": "succeeded"}
    assert statuses(picky) == {"wait": "waiting"}
    assert Signal.objects.count() == 1


def test_a_message_reaches_all_its_runs_although_one_is_being_removed(
    tell: Opened, waiting, alice, principal
):
    gone, other = waiting(), waiting()
    Run.objects.filter(id=gone.id).update(removed_at=now())
    assert send(tell, {"order": 17}).delivery.state == "done"
    assert statuses(other) == {"wait": "succeeded"}
