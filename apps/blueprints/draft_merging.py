"""A person's private draft, brought into the shared one or thrown away."""

from __future__ import annotations

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from django.db import transaction

from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing.apply import Conflict, apply
from apps.blueprints.core.editing.log import broken_by, standing, text_before
from apps.blueprints.core.editing.spans import advance
from apps.blueprints.core.editing.splices import carried, difference, net_change, reverse
from apps.blueprints.draft_log import REVERSALS, Log, Outcome, conflict_of, locked
from apps.blueprints.draft_texts import entries_after
from apps.blueprints.drafts import draft_for, private_draft
from apps.blueprints.errors import DraftConflict
from apps.blueprints.models import Draft
from apps.blueprints.selectors import blueprint_for
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit

_WHOLE = frozenset(["set_source", "restore", "merge"])
"""Kinds that the log keeps as splices."""


def merge(
    principal: Principal, name: str, *, skip_conflicts: bool = False
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Bring this person's private draft into the shared one, operation by operation, as one step to undo.

    Returns what was done, and the conflicts that were skipped; the private draft is gone then.
    Raises DraftConflict with every conflict unless they are skipped; then nothing was done.
    """
    principal.require(Permission.EDIT)
    with transaction.atomic():
        mine = private_draft(principal, name, lock=True)
        draft = locked(principal, name)
        log = Log(principal, draft)
        conflicts = _merged(log, mine, f"merge:{mine.id.hex}")
        if conflicts and not skip_conflicts:
            raise DraftConflict(
                conflicts[0]["message"],
                conflicts,
                version=draft.version,
                next="Merge without these, or change your private draft first.",
            )
        log.save()
        mine.delete()
        audit(principal, "draft.merged", name, {"operations": len(log.rows), "skipped": len(conflicts)})
    return Outcome(draft, log.rows), conflicts


def would_merge(principal: Principal, name: str) -> tuple[str, list[dict[str, Any]]]:
    """The shared draft's text with this person's private one merged, and what could not be. Changes nothing.

    Raises StateNotFound when there is no private draft.
    """
    mine = private_draft(principal, name)
    log = Log(principal, draft_for(principal, name))
    conflicts = _merged(log, mine, "merge:")
    return log.source.text, conflicts


def _merged(log: Log, mine: Draft, group: str) -> list[dict[str, Any]]:
    rows = list(mine.operations.filter(undone=False).exclude(kind__in=REVERSALS).order_by("seq"))
    if any(row.kind in _WHOLE for row in rows):
        return _merged_as_text(log, mine, group)
    conflicts = []
    for row in rows:
        op_id = uuid5(NAMESPACE_URL, f"{row.op_id}:{log.draft.id}:{mine.id}")
        op = ops.operation({"op_id": op_id, "kind": row.kind, **row.payload})
        result = apply(log.source, op)
        if isinstance(result, Conflict):
            conflicts.append(conflict_of(op, result) | {"op_id": str(row.op_id)})
        elif result.splices:
            log.add_applied(result, undo_group=group)
    return conflicts


def _merged_as_text(log: Log, mine: Draft, group: str) -> list[dict[str, Any]]:
    """The private text as a whole, where the log holds changes of text only."""
    wanted = difference(mine.base_source, mine.source)
    later = standing(entries_after(log.draft, mine.base_version or 0))
    texts = [log.source.text]
    for entry in reversed(later):
        texts.append(text_before(texts[-1], [entry]))
    texts.reverse()
    changes = [reverse(after, entry.inverse) for entry, after in zip(later, texts[1:], strict=True)]
    splices = (
        carried(wanted, net_change(texts[0], texts[-1], changes)) if texts[0] == mine.base_source else None
    )
    after = advance(log.source, splices) if splices is not None else None
    if splices is None or after is None or not after.readable or broken_by(log.source.data, after.data):
        message = "Others have changed the same lines meanwhile, so the text cannot be merged by itself."
        return [{"op_id": None, "kind": "merge", "message": message, "theirs": None, "mine": None}]
    if splices:
        log.change("merge", splices, undo_group=group)
    return []


def discard(principal: Principal, name: str) -> None:
    """Throw this person's private draft away."""
    principal.require(Permission.EDIT)
    Draft.objects.filter(blueprint=blueprint_for(principal, name), owner=principal.user).delete()
