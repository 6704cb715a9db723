"""Everything that writes drafts. The truth is the draft's text; the log says how it came to be.

A draft's row is locked while operations are applied, so `seq` has no gaps and every operation meets the text
that the one before left. A batch is done as a whole or not at all. What a client sends twice is done once.
Live pages are told after commit that there is something new, and fetch it themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing.apply import Applied, Conflict, apply
from apps.blueprints.core.editing.log import Entry, InTheWay, broken_by, splices_from, taken_back
from apps.blueprints.core.editing.opposite import opposite
from apps.blueprints.core.editing.sketch import sketch
from apps.blueprints.core.editing.spans import Source, advance
from apps.blueprints.core.editing.splices import Splice, difference, reverse
from apps.blueprints.core.layout import layout
from apps.blueprints.draft_texts import Seen, entries_after, keep, seen, source_at
from apps.blueprints.drafts import actor_name, draft_for, draft_group
from apps.blueprints.errors import (
    BlueprintArchived,
    DraftConflict,
    DraftMoved,
    NothingToUndo,
    StateNotFound,
    UndoRefused,
)
from apps.blueprints.models import Blueprint, Draft, DraftOperation, DraftState
from apps.blueprints.selectors import version_for
from apps.ledger import live
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import uuid7
from mirrorneuron.base.safejson import fingerprint

MOST_AT_ONCE = 500
"""Operations in one batch."""
TYPING = timedelta(seconds=2)
"""Changes of one field by one person that follow each other so soon are one step to undo."""
REVERSALS = ("undo", "redo")
_FIELDS = frozenset(["set_config", "set_edge", "set_contract"])


@dataclass(frozen=True)
class Outcome:
    draft: Draft
    rows: list[DraftOperation]
    """What the log holds of it."""
    undone: list[UUID] = field(default_factory=list)
    """Operations that were taken back, or done again."""


def apply_operations(
    principal: Principal,
    name: str,
    batch: Sequence[ops.AnyOperation],
    *,
    seen_version: int,
    undo_group: str = "",
    private: bool = False,
) -> Outcome:
    """Do some operations, all or none.

    seen_version: the version the client looked at. An older one does not matter as long as every operation
    still fits what stands there now.
    Raises DraftConflict when one does not, Forbidden, BlueprintNotFound, BlueprintArchived, InvalidInput.
    """
    principal.require(Permission.EDIT)
    _check_batch(batch, undo_group)
    # Reading a text in full takes longest, so it is done before anybody has to wait for the row.
    seen(draft_for(principal, name, private=private))
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        if seen_version > draft.version:
            raise DraftConflict(
                f"The draft is at version {draft.version}; version {seen_version} does not exist.",
                [],
                version=draft.version,
                next="Read the draft again.",
            )
        done = {row.op_id: row for row in draft.operations.filter(op_id__in=[op.op_id for op in batch])}
        log = Log(principal, draft)
        for op in batch:
            if op.op_id in done:
                continue
            result = apply(log.source, op)
            if isinstance(result, Conflict):
                raise DraftConflict(
                    result.message,
                    [conflict_of(op, result)],
                    version=draft.version,
                    next="Look at the draft as it is now, and decide again.",
                )
            log.add_applied(result, undo_group=undo_group)
        log.save()
    fresh = {row.op_id: row for row in log.rows} | done
    return Outcome(draft, [fresh[op_id] for op_id in dict.fromkeys(op.op_id for op in batch)])


def _check_batch(batch: Sequence[ops.AnyOperation], undo_group: str) -> None:
    if not 1 <= len(batch) <= MOST_AT_ONCE:
        raise InvalidInput(
            f"The batch has {len(batch)} operations; 1 to {MOST_AT_ONCE} are taken.",
            fields={"ops": f"1 to {MOST_AT_ONCE} operations."},
            next="Send them in several calls.",
        )
    if len({op.op_id for op in batch}) != len(batch):
        raise InvalidInput(
            "Two operations have the same op_id.",
            fields={"ops": "Each operation has an op_id of its own."},
            next="Give each a fresh UUID.",
        )
    if len(undo_group) > 64 or "\x00" in undo_group:
        raise InvalidInput(
            "undo_group is a text of at most 64 characters.", fields={"undo_group": "Too long."}
        )


def conflict_of(op: ops.AnyOperation, found: Conflict) -> dict[str, Any]:
    """A refused operation as clients are told of it."""
    return {
        "op_id": str(op.op_id),
        "kind": op.kind,
        "message": found.message,
        "theirs": found.theirs,
        "mine": found.mine,
    }


def locked_as_seen(principal: Principal, name: str, *, version: int, text: str = "") -> Draft:
    """The shared draft, nobody else's until the transaction that is open ends, if it is what was looked at.

    Raises DraftMoved. text: fingerprint of what was on show. A draft nobody has touched follows the newest
    version and stays at 0, so that its number alone does not say that it is what it was.
    """
    draft = locked(principal, name)
    if draft.version != version or (text and text != fingerprint(draft.source)):
        raise DraftMoved(name, seen=version, found=draft.version)
    return draft


def locked(principal: Principal, name: str, *, private: bool = False) -> Draft:
    """The draft, nobody else's until the transaction ends."""
    draft = draft_for(principal, name, private=private)
    blueprint = draft.blueprint
    if blueprint.archived_at is not None:
        raise BlueprintArchived(
            f'The blueprint "{blueprint.name}" is archived, so its draft stays as it is.',
            next="Restore it first.",
        )
    found = Draft.objects.select_for_update().get(pk=draft.pk)
    found.blueprint = blueprint
    return found


class Log:
    """New lines of a locked draft's log, and the text they lead to."""

    def __init__(self, principal: Principal, draft: Draft) -> None:
        self.principal = principal
        self.draft = draft
        self.source = seen(draft).source
        self.rows: list[DraftOperation] = []
        self.at = now()
        self.last = (
            draft.operations.filter(actor=principal.user).order_by("-seq").first()
            if principal.user is not None
            else None
        )

    def add_applied(self, result: Applied, *, undo_group: str = "", op_id: UUID | None = None) -> None:
        op = result.op
        values = ops.payload(op)
        if isinstance(op, ops.SetSource):
            values = {"splices": [list(s) for s in result.splices]}
        row = self.add(
            op.kind, op_id or op.op_id, values, result.source, result.inverse, undo_group=undo_group
        )
        if not undo_group and self._goes_on(row):
            assert self.last is not None
            self.last.undo_group = self.last.undo_group or f"typing:{self.last.op_id}"
            row.undo_group = self.last.undo_group
            if self.last.pk is not None:
                DraftOperation.objects.filter(pk=self.last.pk).update(undo_group=row.undo_group)
        self.last = row

    def _goes_on(self, row: DraftOperation) -> bool:
        """Whether an operation is the same person typing on in the same field."""
        last = self.last
        return (
            last is not None
            and not last.undone
            and row.kind == last.kind
            and row.kind in _FIELDS
            and (not last.undo_group or last.undo_group.startswith("typing:"))
            and row.at - last.at <= TYPING
            and _field(row) == _field(last)
            and _is_typed(row)
            and _is_typed(last)
        )

    def add(
        self,
        kind: str,
        op_id: UUID,
        payload: dict[str, Any],
        source: Source,
        inverse: Sequence[Splice],
        *,
        undoes: UUID | None = None,
        undo_group: str = "",
    ) -> DraftOperation:
        row = DraftOperation(
            draft=self.draft,
            seq=self.draft.version + 1,
            op_id=op_id,
            actor=self.principal.user,
            actor_label=self.principal.label[:254],
            kind=kind,
            payload=payload,
            inverse=[list(s) for s in inverse],
            undoes=undoes,
            undo_group=undo_group,
            at=self.at,
        )
        self.rows.append(row)
        self.draft.version += 1
        self.source = source
        return row

    def change(
        self,
        kind: str,
        splices: Sequence[Splice],
        *,
        undoes: UUID | None = None,
        undo_group: str = "",
        **more: Any,
    ) -> DraftOperation:
        """A change that is known as splices."""
        after = advance(self.source, splices)
        return self.add(
            kind,
            uuid7(),
            {"splices": [list(s) for s in splices], **more},
            after,
            reverse(self.source.text, splices),
            undoes=undoes,
            undo_group=undo_group,
        )

    def save(self) -> None:
        if not self.rows:
            return
        draft = self.draft
        DraftOperation.objects.bulk_create(self.rows)
        draft.source, draft.updated_at = self.source.text, self.at
        draft.save(update_fields=["source", "version", "updated_at"])
        if draft.owner_id is None:
            _describe(draft.blueprint, self.source.data)
        kept, version, group = self.source, draft.version, draft_group(draft.id)

        def told() -> None:
            keep(draft.id, Seen(kept, version))
            live.announce(group)

        transaction.on_commit(told)


def _describe(blueprint: Blueprint, data: Any) -> None:
    """While nothing is published, lists call a blueprint what its shared draft calls it."""
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if not isinstance(metadata, dict):
        return
    said = {"title": metadata.get("title"), "summary": metadata.get("summary", "")}
    fresh = {
        key: text[:200] if key == "title" else text
        for key, text in said.items()
        if isinstance(text, str) and (text.strip() or key == "summary")
    }
    fresh = {key: text for key, text in fresh.items() if getattr(blueprint, key) != text}
    if fresh and not blueprint.versions.filter(number__isnull=False).exists():
        Blueprint.objects.filter(pk=blueprint.pk).update(**fresh)


def _field(row: DraftOperation) -> Any:
    values = row.payload
    return [values.get(key) for key in ("node", "scope", "edge", "at", "path")]


def _is_typed(row: DraftOperation) -> bool:
    """Whether the value is one that is written character by character; a choice or a box is a step each."""
    value = row.payload.get("new")
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


# --- taking back ----------------------------------------------------------------------------------------


def undo(principal: Principal, name: str, *, private: bool = False) -> Outcome:
    """Take back this person's last step, wherever it stands in the log. Nobody else's work is touched.

    Raises NothingToUndo, and UndoRefused when somebody has changed the same since.
    """
    principal.require(Permission.EDIT)
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        mine = draft.operations.filter(actor=principal.user, undone=False).exclude(kind__in=REVERSALS)
        last = mine.order_by("-seq").first()
        if last is None:
            raise NothingToUndo("There is nothing of yours to undo in this draft.")
        chosen = list(mine.filter(undo_group=last.undo_group).order_by("-seq")) if last.undo_group else [last]
        return _taken_back(principal, draft, chosen, "undo")


def redo(principal: Principal, name: str, *, private: bool = False) -> Outcome:
    """Do again what this person took back last, unless they have gone on differently since."""
    principal.require(Permission.EDIT)
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        mine = draft.operations.filter(actor=principal.user)
        last = mine.filter(kind="undo", undone=False).order_by("-seq").first()
        went_on = mine.exclude(kind__in=REVERSALS).order_by("-seq").values_list("seq", flat=True).first() or 0
        if last is None or went_on > last.seq:
            raise NothingToUndo("There is nothing of yours to do again in this draft.")
        chosen = list(
            mine.filter(kind="undo", undone=False, undo_group=last.undo_group).order_by("-seq")
            if last.undo_group
            else [last]
        )
        return _taken_back(principal, draft, chosen, "redo")


def _taken_back(principal: Principal, draft: Draft, chosen: list[DraftOperation], kind: str) -> Outcome:
    log = Log(principal, draft)
    later = entries_after(draft, chosen[-1].seq - 1)
    group = f"{kind}:{uuid7()}" if len(chosen) > 1 else ""
    undone: list[UUID] = []
    for row in chosen:
        splices = _reversal(log.source, row, [e for e in later if e.seq > row.seq])
        fresh = log.change(kind, splices, undoes=row.op_id, undo_group=group, of=row.kind)
        later.append(Entry(fresh.seq, fresh.op_id, row.op_id, splices_from(fresh.inverse)))
        # A redo takes back an undo: the operation itself stands again.
        undone.append(row.undoes if kind == "redo" and row.undoes is not None else row.op_id)
    DraftOperation.objects.filter(pk__in=[row.pk for row in chosen]).update(undone=True)
    if kind == "redo":
        draft.operations.filter(op_id__in=undone).update(undone=False)
    log.save()
    return Outcome(draft, log.rows, undone)


def _reversal(source: Source, row: DraftOperation, later: list[Entry]) -> list[Splice]:
    """Raises UndoRefused, with the reason in words."""
    found = taken_back(source.text, splices_from(row.inverse), later)
    why = _why_not(source, row, found)
    if not why and not isinstance(found, InTheWay):
        return found
    meant = opposite(source, row.kind, row.payload, row.op_id)
    done = apply(source, meant) if meant is not None else None
    if isinstance(done, Applied) and broken_by(source.data, done.source.data) is None:
        return list(done.splices)
    raise UndoRefused(why, next="Change it by hand, or restore an earlier state from the history.")


def _why_not(source: Source, row: DraftOperation, found: list[Splice] | InTheWay) -> str:
    """What speaks against these splices, in words; empty when nothing does."""
    if isinstance(found, InTheWay):
        others = row.draft.operations.select_related("actor")
        other = others.filter(seq=found.seq).first() if found.seq is not None else None
        who = "You have" if other is not None and other.actor_id == row.actor_id else _who(other)
        return f"{who} changed the same place since, so this cannot be undone."
    after = advance(source, found)
    is_whole = after.readable and not (after.problems and not source.problems)
    reason = broken_by(source.data, after.data) if is_whole else "the text would break"
    return f"This cannot be undone as others have built on it: {reason}." if reason else ""


def _who(row: DraftOperation | None) -> str:
    if row is None:
        return "Somebody has"
    return f"{actor_name(row)} has"


# --- larger steps ---------------------------------------------------------------------------------------


def tidy(principal: Principal, name: str, *, keep_placed: bool = False, private: bool = False) -> Outcome:
    """Give every node its place in the server's layout.

    keep_placed: those that have a place keep it, and only the others get one beside them.
    """
    principal.require(Permission.EDIT)
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        log = Log(principal, draft)
        drawn = sketch(log.source.data).document
        held = log.source.value(("layout",))
        positions = layout(drawn.graph, drawn.layout if keep_placed else None).positions()
        inner = {k: v for k, v in held.items() if "/" in k} if isinstance(held, dict) and keep_placed else {}
        places = {path: {"x": int(p.x), "y": int(p.y)} for path, p in positions.items()} | inner
        op = ops.SetLayout(op_id=uuid7(), kind="set_layout", path=["layout"], new=places)
        result = apply(log.source, op)
        if isinstance(result, Conflict):
            raise DraftConflict(result.message, [conflict_of(op, result)], version=draft.version)
        log.add_applied(result)
        log.save()
    return Outcome(draft, log.rows)


def name_state(principal: Principal, name: str, title: str, *, private: bool = False) -> DraftState:
    """Give the draft as it is now a name to come back to."""
    principal.require(Permission.EDIT)
    title = " ".join(title.split())
    if not title or len(title) > 200:
        raise InvalidInput(
            "A state needs a title of at most 200 characters.", fields={"title": "1 to 200 characters."}
        )
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        return DraftState.objects.create(
            draft=draft, seq=draft.version, title=title, source=draft.source, created_by=principal.user
        )


def restore(
    principal: Principal,
    name: str,
    *,
    seq: int | None = None,
    state: UUID | None = None,
    version: int | None = None,
    private: bool = False,
) -> Outcome:
    """Bring an earlier text back as one operation, which can be undone like any other.

    Of the draft after operation `seq`, of a named state, or of a published version: exactly one is given.
    """
    principal.require(Permission.EDIT)
    if sum(value is not None for value in (seq, state, version)) != 1:
        raise InvalidInput(
            "Say what to restore: seq, state or version, one of them.",
            fields={"seq": "An operation's number.", "state": "A named state's id.", "version": "A version."},
        )
    with transaction.atomic():
        draft = locked(principal, name, private=private)
        if seq is not None:
            if not 0 <= seq <= draft.version:
                raise StateNotFound(f"The draft has operations 0 to {draft.version}; there is no {seq}.")
            text, more = source_at(draft, seq), f"operation {seq}"
        elif state is not None:
            found = draft.states.filter(id=state).first()
            if found is None:
                raise StateNotFound("The draft has no such named state.")
            text, more = found.source, f'state "{found.title}"'
        else:
            text, more = version_for(principal, name, version).source, f"version {version}"
        log = Log(principal, draft)
        log.change("restore", difference(log.source.text, text), of=more)
        log.save()
        audit(principal, "draft.restored", name, {"from": more})
    return Outcome(draft, log.rows)
