"""Everything that writes drafts. The truth is the draft's text; the log says how it came to be.

A draft's row is locked while operations are applied, so `seq` has no gaps and every operation meets the text
that the one before left. A batch is done as a whole or not at all. What a client sends twice is done once.
Live pages are told after commit that there is something new, and fetch it themselves.

Parsed texts are kept per process, newest first, and checked against the row: an operation then costs a few
milliseconds, and a process that has not seen the draft for a while only reads what has changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from django.db import IntegrityError, transaction

from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing.apply import Applied, Conflict, apply
from apps.blueprints.core.editing.log import (
    Entry,
    InTheWay,
    broken_by,
    splices_from,
    standing,
    taken_back,
    text_before,
)
from apps.blueprints.core.editing.opposite import opposite
from apps.blueprints.core.editing.patch import patch_between
from apps.blueprints.core.editing.sketch import Sketch, sketch
from apps.blueprints.core.editing.spans import Source, advance, read
from apps.blueprints.core.editing.splices import Splice, carried, difference, net_change, reverse
from apps.blueprints.core.editing.view import View, view_of
from apps.blueprints.core.layout import layout
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.validate import validate
from apps.blueprints.errors import (
    BlueprintArchived,
    DraftConflict,
    NothingToUndo,
    StateNotFound,
    UndoRefused,
)
from apps.blueprints.models import Blueprint, Draft, DraftOperation, DraftState, Version
from apps.blueprints.ports import builtin_tools
from apps.blueprints.selectors import blueprint_for, version_for
from apps.ledger import live
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import uuid7

MOST_AT_ONCE = 500
"""Operations in one batch."""
TYPING = timedelta(seconds=2)
"""Changes of one field by one person that follow each other so soon are one step to undo."""
_FIELDS = frozenset(["set_config", "set_edge", "set_contract"])
_REVERSALS = ("undo", "redo")
_WHOLE = frozenset(["set_source", "restore", "merge"])
"""Kinds that the log keeps as splices."""


# --- texts and views, kept ------------------------------------------------------------------------------

Made = TypeVar("Made")


@dataclass
class Seen:
    """One version of a draft, read. What follows from its text is worked out once, however many pages ask."""

    source: Source
    version: int
    _made: dict[str, Any] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.RLock)

    @property
    def problems(self) -> list[Problem]:
        return self.once("problems", lambda: validate(self.source.parsed, builtin_tools()).problems)

    @property
    def plan(self) -> Sketch:
        return self.once("plan", lambda: sketch(self.source.data))

    @property
    def view(self) -> View:
        return self.once("view", self._drawn)

    def _drawn(self) -> View:
        return view_of(
            self.source.data,
            problems=self.problems,
            tools=builtin_tools(),
            version=self.version,
            drawn=self.plan,
        )

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` gives, kept beside this version. Who asks meanwhile waits instead of making it too."""
        with self._lock:
            if name not in self._made:
                self._made[name] = make()
            made: Made = self._made[name]
        return made


_KEPT_DRAFTS, _KEPT_VERSIONS = 64, 6
_seen: OrderedDict[UUID, OrderedDict[int, Seen]] = OrderedDict()
_seen_lock = threading.Lock()


def seen(draft: Draft) -> Seen:
    """A draft's text read, with its problems and its view."""
    return _seen_at(draft.id, draft.version, draft.source)


def seen_at(draft: Draft, version: int) -> Seen | None:
    """An earlier version of a draft, read; None when there was no such version."""
    if not 0 <= version <= draft.version:
        return None
    return _seen_at(draft.id, version, source_at(draft, version))


def _seen_at(draft_id: UUID, version: int, text: str) -> Seen:
    with _seen_lock:
        kept = _seen.setdefault(draft_id, OrderedDict())
        _seen.move_to_end(draft_id)
        while len(_seen) > _KEPT_DRAFTS:
            _seen.popitem(last=False)
        found = kept.get(version)
        near = min(kept.values(), key=lambda s: abs(s.version - version), default=None)
    # A version whose transaction was rolled back is another text now.
    if found is not None and found.source.text == text:
        return found
    if near is not None and near.source.readable:
        source = advance(near.source, difference(near.source.text, text))
    else:
        source = read(text)
    return _keep(draft_id, Seen(source, version))


def _keep(draft_id: UUID, fresh: Seen) -> Seen:
    with _seen_lock:
        kept = _seen.setdefault(draft_id, OrderedDict())
        kept[fresh.version] = fresh
        kept.move_to_end(fresh.version)
        while len(kept) > _KEPT_VERSIONS:
            kept.popitem(last=False)
    return fresh


def patch_since(draft: Draft, version: int) -> dict[str, Any] | None:
    """What changed in the view since an earlier version; None when there was no such version."""
    before = seen_at(draft, version)
    return patch_between(before.view, seen(draft).view) if before is not None else None


def source_at(draft: Draft, seq: int) -> str:
    """The text after an operation, from the newest text and the log played backwards."""
    if seq == draft.version:
        return draft.source
    return text_before(draft.source, _entries(draft, seq))


def _entries(draft: Draft, after: int) -> list[Entry]:
    # Without a lock somebody may have gone on since the row was read; its text knows nothing of that.
    rows = draft.operations.filter(seq__gt=after, seq__lte=draft.version).order_by("seq")
    return [
        Entry(seq, op_id, undoes, splices_from(inverse))
        for seq, op_id, undoes, inverse in rows.values_list("seq", "op_id", "undoes", "inverse")
    ]


# --- finding --------------------------------------------------------------------------------------------


def draft_group(draft_id: UUID) -> str:
    """The live group of a draft."""
    return f"draft.{draft_id.hex}"


def draft_for(principal: Principal, name: str, *, private: bool = False) -> Draft:
    """The draft of a blueprint: the shared one, or this person's private one. Made when there is none yet.

    A draft that nobody has touched follows the newest version. A private draft starts as a copy of the shared
    one. Raises BlueprintNotFound for a stranger; Forbidden for a private draft without the right to edit.
    """
    blueprint = blueprint_for(principal, name)
    if private:
        principal.require(Permission.EDIT)
        found = Draft.objects.filter(blueprint=blueprint, owner=principal.user).first()
        if found is not None:
            return _with_blueprint(found, blueprint)
        shared = _shared(blueprint)
        return _made(
            blueprint,
            owner=principal.user,
            source=shared.source,
            started_from=shared.started_from,
            base_version=shared.version,
            base_source=shared.source,
        )
    return _shared(blueprint)


def _shared(blueprint: Blueprint) -> Draft:
    found = Draft.objects.filter(blueprint=blueprint, owner=None).first()
    if found is not None and found.version:
        return _with_blueprint(found, blueprint)
    newest = (
        Version.objects.filter(blueprint=blueprint, is_trial=False).order_by("-created_at", "-id").first()
    )
    if found is None:
        return _made(blueprint, source=newest.source if newest else "", started_from=newest)
    if newest is not None and newest.pk != found.started_from_id:
        Draft.objects.filter(pk=found.pk, version=0).update(source=newest.source, started_from=newest)
        found.refresh_from_db()
    return _with_blueprint(found, blueprint)


def _made(blueprint: Blueprint, **fields: Any) -> Draft:
    owner = fields.get("owner")
    try:
        with transaction.atomic():
            return Draft.objects.create(blueprint=blueprint, **fields)
    except IntegrityError:  # Somebody else opened it in the same moment.
        return _with_blueprint(Draft.objects.get(blueprint=blueprint, owner=owner), blueprint)


def _with_blueprint(draft: Draft, blueprint: Blueprint) -> Draft:
    draft.blueprint = blueprint
    return draft


def draft_by_id(principal: Principal, draft_id: UUID) -> Draft | None:
    """A draft of this workspace that this person may see; None for every other."""
    principal.require(Permission.READ)
    found = (
        Draft.objects.filter(id=draft_id, blueprint__workspace=principal.workspace)
        .select_related("blueprint")
        .first()
    )
    if found is None or (found.owner_id is not None and found.owner_id != principal.user.id):
        return None
    return found


def operations_after(draft: Draft, seq: int, limit: int | None = None) -> list[DraftOperation]:
    rows = draft.operations.filter(seq__gt=seq).select_related("actor").order_by("seq")
    return list(rows[:limit] if limit is not None else rows)


def history_of(draft: Draft, *, before: int | None = None, limit: int = 100) -> list[DraftOperation]:
    """The log, newest first."""
    rows = draft.operations.select_related("actor").order_by("-seq")
    return list((rows.filter(seq__lt=before) if before is not None else rows)[:limit])


def states_of(draft: Draft) -> list[DraftState]:
    """The named states, newest first."""
    return list(draft.states.select_related("created_by").order_by("-created_at"))


def has_private(principal: Principal, name: str) -> bool:
    """Whether this person keeps a private draft of the blueprint."""
    return Draft.objects.filter(blueprint=blueprint_for(principal, name), owner=principal.user).exists()


def actor_name(row: DraftOperation) -> str:
    return (row.actor.name or row.actor.email) if row.actor is not None else row.actor_label


def renames_of(draft: Draft) -> list[tuple[str, str]]:
    """(path, new id) of the steps that were renamed in a draft, in order."""
    rows = draft.operations.filter(kind="rename", undone=False).order_by("seq")
    return [(row["node"], row["to"]) for row in rows.values_list("payload", flat=True)]


def operation_view(row: DraftOperation) -> dict[str, Any]:
    """A line of the log as clients see it: besides these, the fields of its kind as they were applied."""
    return {
        **row.payload,
        "seq": row.seq,
        "op_id": str(row.op_id),
        "kind": row.kind,
        "actor": {"id": str(row.actor_id) if row.actor_id else None, "name": actor_name(row)},
        "at": row.at.isoformat(),
        "undoes": str(row.undoes) if row.undoes else None,
        "undone": row.undone,
        "undo_group": row.undo_group,
    }


# --- doing ----------------------------------------------------------------------------------------------


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
        draft = _locked(principal, name, private)
        if seen_version > draft.version:
            raise DraftConflict(
                f"The draft is at version {draft.version}; version {seen_version} does not exist.",
                [],
                version=draft.version,
                next="Read the draft again.",
            )
        done = {row.op_id: row for row in draft.operations.filter(op_id__in=[op.op_id for op in batch])}
        log = _Log(principal, draft)
        for op in batch:
            if op.op_id in done:
                continue
            result = apply(log.source, op)
            if isinstance(result, Conflict):
                raise DraftConflict(
                    result.message,
                    [_conflict(op, result)],
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


def _conflict(op: ops.AnyOperation, found: Conflict) -> dict[str, Any]:
    return {
        "op_id": str(op.op_id),
        "kind": op.kind,
        "message": found.message,
        "theirs": found.theirs,
        "mine": found.mine,
    }


def locked(principal: Principal, name: str) -> Draft:
    """The shared draft, nobody else's until the transaction that is open ends: what is read of it holds."""
    return _locked(principal, name, False)


def _locked(principal: Principal, name: str, private: bool) -> Draft:
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


class _Log:
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
        kept, version, group = self.source, draft.version, draft_group(draft.id)

        def told() -> None:
            _keep(draft.id, Seen(kept, version))
            live.announce(group)

        transaction.on_commit(told)


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
        draft = _locked(principal, name, private)
        mine = draft.operations.filter(actor=principal.user, undone=False).exclude(kind__in=_REVERSALS)
        last = mine.order_by("-seq").first()
        if last is None:
            raise NothingToUndo("There is nothing of yours to undo in this draft.")
        chosen = list(mine.filter(undo_group=last.undo_group).order_by("-seq")) if last.undo_group else [last]
        return _taken_back(principal, draft, chosen, "undo")


def redo(principal: Principal, name: str, *, private: bool = False) -> Outcome:
    """Do again what this person took back last, unless they have gone on differently since."""
    principal.require(Permission.EDIT)
    with transaction.atomic():
        draft = _locked(principal, name, private)
        mine = draft.operations.filter(actor=principal.user)
        last = mine.filter(kind="undo", undone=False).order_by("-seq").first()
        went_on = (
            mine.exclude(kind__in=_REVERSALS).order_by("-seq").values_list("seq", flat=True).first() or 0
        )
        if last is None or went_on > last.seq:
            raise NothingToUndo("There is nothing of yours to do again in this draft.")
        chosen = list(
            mine.filter(kind="undo", undone=False, undo_group=last.undo_group).order_by("-seq")
            if last.undo_group
            else [last]
        )
        return _taken_back(principal, draft, chosen, "redo")


def _taken_back(principal: Principal, draft: Draft, chosen: list[DraftOperation], kind: str) -> Outcome:
    log = _Log(principal, draft)
    later = _entries(draft, chosen[-1].seq - 1)
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
        draft = _locked(principal, name, private)
        log = _Log(principal, draft)
        drawn = sketch(log.source.data).document
        held = log.source.value(("layout",))
        positions = layout(drawn.graph, drawn.layout if keep_placed else None).positions()
        inner = {k: v for k, v in held.items() if "/" in k} if isinstance(held, dict) and keep_placed else {}
        places = {path: {"x": int(p.x), "y": int(p.y)} for path, p in positions.items()} | inner
        op = ops.SetLayout(op_id=uuid7(), kind="set_layout", path=["layout"], new=places)
        result = apply(log.source, op)
        if isinstance(result, Conflict):
            raise DraftConflict(result.message, [_conflict(op, result)], version=draft.version)
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
        draft = _locked(principal, name, private)
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
        draft = _locked(principal, name, private)
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
        log = _Log(principal, draft)
        log.change("restore", difference(log.source.text, text), of=more)
        log.save()
        audit(principal, "draft.restored", name, {"from": more})
    return Outcome(draft, log.rows)


def merge(
    principal: Principal, name: str, *, skip_conflicts: bool = False
) -> tuple[Outcome, list[dict[str, Any]]]:
    """Bring this person's private draft into the shared one, operation by operation, as one step to undo.

    Returns what was done, and the conflicts that were skipped; the private draft is gone then.
    Raises DraftConflict with every conflict unless they are skipped; then nothing was done.
    """
    principal.require(Permission.EDIT)
    with transaction.atomic():
        blueprint = blueprint_for(principal, name)
        own = Draft.objects.select_for_update().filter(blueprint=blueprint, owner=principal.user)
        mine = own.first()
        if mine is None:
            raise StateNotFound(
                f'You have no private draft of "{name}".', next="Open one: draft?private=true."
            )
        draft = _locked(principal, name, False)
        log = _Log(principal, draft)
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


def _merged(log: _Log, mine: Draft, group: str) -> list[dict[str, Any]]:
    rows = list(mine.operations.filter(undone=False).exclude(kind__in=_REVERSALS).order_by("seq"))
    if any(row.kind in _WHOLE for row in rows):
        return _merged_as_text(log, mine, group)
    conflicts = []
    for row in rows:
        op_id = uuid5(NAMESPACE_URL, f"{row.op_id}:{log.draft.id}:{mine.id}")
        op = ops.operation({"op_id": op_id, "kind": row.kind, **row.payload})
        result = apply(log.source, op)
        if isinstance(result, Conflict):
            conflicts.append(_conflict(op, result) | {"op_id": str(row.op_id)})
        elif result.splices:
            log.add_applied(result, undo_group=group)
    return conflicts


def _merged_as_text(log: _Log, mine: Draft, group: str) -> list[dict[str, Any]]:
    """The private text as a whole, where the log holds changes of text only."""
    wanted = difference(mine.base_source, mine.source)
    later = standing(_entries(log.draft, mine.base_version or 0))
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
