"""What a handler returned, turned into the run's next state."""

from __future__ import annotations

from apps.runs.context import StepContext
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import StepStatus, WaitReason
from apps.runs.doubts import can_be_told, leave_in_doubt
from apps.runs.errors import StepError
from apps.runs.inbox import take_signal
from apps.runs.ports import Ask, Child, Done, HandBack, InDoubt, Open, Outcome, Wait, desk
from apps.runs.subflows import take_end
from apps.runs.transact import RunTransaction
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import size_of
from mirrorneuron.base.safejson import storable


def apply(context: StepContext, tx: RunTransaction, outcome: Outcome | StepError) -> None:
    """Turn what the handler returned into the run's next state."""
    path, t = context.path, tx.transition
    match outcome:
        case Done():
            size = size_of(storable(outcome.output))
            if size > LIMITS.max_output_bytes:
                t.fail(
                    path,
                    {"code": "output_too_large", "permanent": True,
                     "message": f"The output has {size:,} bytes; {LIMITS.max_output_bytes:,} are the most.",
                     "next": "Keep what is larger as a file and pass the file on."},
                )  # fmt: skip
                return
            t.succeed(path, outcome.output, outcome.port, outcome.labels)
        case Open():
            value = storable(outcome.input)
            tx.names.know_input(path, value)
            t.change(path, input=value)
            t.open_body(path, total=outcome.total, labels=outcome.labels)
        case Child():
            child = outcome.run
            t.wait(path, WaitReason.CHILD, None, {"child": str(child.id)})
            t.entry(
                "child.started", tx.step(path), {"child": str(child.id), "blueprint": child.blueprint_name}
            )
            if tx.step(path).status is StepStatus.WAITING:
                from apps.runs.services import begin_run

                tx.rows.append(lambda: begin_run(child))
        case Wait():
            if not (take_signal(tx, path, outcome) or take_end(tx, path, outcome)):
                has_child = outcome.reason == WaitReason.CHILD
                t.wait(path, outcome.reason, outcome.due_at, outcome.memo, has_child=has_child)
        case Ask():
            question = outcome.question
            t.wait(path, WaitReason.APPROVAL, question.due_at, tx.step(path).memo)
            t.entry(
                "approval.requested", tx.step(path), {"title": question.title, "ordinal": question.ordinal}
            )
            tx.rows.append(
                lambda: desk().open(
                    workspace_id=context.workspace_id,
                    run_id=context.run_id,
                    step_path=path,
                    question=question,
                )
            )
        case InDoubt():
            due_at = outcome.due_at
            if due_at is None:
                # Nobody looks again unless told; so what was told meanwhile must not be missed.
                tx.hold()
                due_at = now() if can_be_told(context.workspace_id, outcome.effect_key) else None
            t.doubt(path, due_at, {"effect": outcome.effect_key})
        case HandBack() | StepError() if unresolved := context.unresolved():
            tx.hold()
            why = outcome.message if isinstance(outcome, StepError) else "The attempt was given back."
            leave_in_doubt(tx, path, unresolved, why)
        case HandBack():
            t.hand_back(path)
        case StepError():
            t.try_again_or_fail(
                path, outcome.as_json(), permanent=outcome.permanent, retry_after=outcome.retry_after
            )
