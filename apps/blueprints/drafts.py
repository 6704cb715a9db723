"""Drafts and the lines of their logs, found for somebody who may see them. `draft_log` writes them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from apps.blueprints.core.renames import Known, Line, across, chained
from apps.blueprints.core.renames import done as renames_done
from apps.blueprints.errors import StateNotFound
from apps.blueprints.models import Blueprint, Draft, DraftOperation, DraftState, Version
from apps.blueprints.selectors import blueprint_for
from apps.ledger import live
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission


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


def was_tested(draft_id: UUID, run_id: UUID) -> None:
    """A test of the draft begins in this transaction; who has the draft open is told."""
    Draft.objects.filter(pk=draft_id).update(last_test=run_id)
    transaction.on_commit(lambda: live.announce(draft_group(draft_id)))


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


def private_draft(principal: Principal, name: str, *, lock: bool = False) -> Draft:
    """This person's private draft, which is not begun by asking. Raises StateNotFound when there is none."""
    principal.require(Permission.EDIT)
    blueprint = blueprint_for(principal, name)
    rows = Draft.objects.select_for_update() if lock else Draft.objects
    found = rows.filter(blueprint=blueprint, owner=principal.user).first()
    if found is None:
        raise StateNotFound(f'You have no private draft of "{name}".', next="Open one: draft?private=true.")
    return _with_blueprint(found, blueprint)


def renames_of(draft: Draft, *, after: int = 0, upto: int | None = None) -> list[tuple[str, str]]:
    """(path, new id) of the renames of a draft after one of its versions, in order.

    A rename that was taken back is followed by its opposite: what looks at a version in between finds on.
    """
    rows = draft.operations
    renames = rows.filter(kind="rename").values("op_id")
    undos = rows.filter(kind="undo", undoes__in=renames).values("op_id")
    which = Q(kind="rename") | Q(kind="undo", undoes__in=renames) | Q(kind="redo", undoes__in=undos)
    lines = [
        Line(seq, op_id, undoes, told.get("node", ""), told.get("to", ""))
        for seq, op_id, undoes, told in rows.filter(which)
        .order_by("seq")
        .values_list("seq", "op_id", "undoes", "payload")
    ]
    last = draft.version if upto is None else upto
    return [(path, new_id) for seq, path, new_id in renames_done(lines) if after < seq <= last]


def renames_until(draft: Draft, *, since: int = 0) -> Known:
    """(path before, path now) of what was renamed since a version of the shared draft.

    A private draft shares the past of the shared one up to where it parted; where that lies before `since`,
    what was renamed in between is found under the name it had when they parted.
    """
    if draft.owner_id is None:
        return chained(renames_of(draft, after=since))
    parted = draft.base_version or 0
    shared, own = _shared(draft.blueprint), renames_of(draft)
    if since > parted:
        return across(chained(renames_of(shared, after=parted, upto=since)), chained(own))
    return chained([*renames_of(shared, after=since, upto=parted), *own])


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
