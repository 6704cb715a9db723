"""Who has a draft open, and what they have selected. Rows of pages, not locks: nobody ever waits for them.

Kept in the database, so that the pages of all web processes see the same people. A page says every 15 seconds
that it is there; one that was not heard of for a while is left out, and removed by whoever comes next.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.blueprints.drafts import draft_group
from apps.blueprints.models import Draft, DraftPresence
from apps.ledger import live
from apps.workspaces.access import Principal
from mirrorneuron.base.clock import now

GONE_AFTER = timedelta(seconds=45)
FORGOTTEN_AFTER = timedelta(minutes=10)
COLOURS = 8
MOST_SELECTED = 200


def here(principal: Principal, draft: Draft, connection: UUID, selected: list[str] | None = None) -> None:
    """A page is open on the draft. selected: paths of nodes; None leaves what it said before."""
    fields: dict[str, Any] = {"at": now()}
    if selected is not None:
        fields["selected"] = selected[:MOST_SELECTED]
    _, is_new = DraftPresence.objects.update_or_create(
        connection=connection,
        defaults=fields,
        create_defaults=fields | {"draft": draft, "user": principal.user},
    )
    if is_new:
        DraftPresence.objects.filter(at__lt=now() - FORGOTTEN_AFTER).delete()
    if is_new or selected is not None:
        live.announce(draft_group(draft.id))


def gone(draft_id: UUID, connection: UUID) -> None:
    if DraftPresence.objects.filter(connection=connection).delete()[0]:
        live.announce(draft_group(draft_id))


def people_at(draft: Draft) -> list[dict[str, Any]]:
    """[{id, name, colour, selected, at}], one for each person however many pages they have open.

    colour: 0 to 7, the same for everybody who looks, and different for the first eight people.
    """
    rows = (
        DraftPresence.objects.filter(draft=draft, at__gte=now() - GONE_AFTER)
        .select_related("user")
        .order_by("user_id", "-at")
    )
    people: dict[UUID, dict[str, Any]] = {}
    taken: set[int] = set()
    for row in rows:
        known = people.get(row.user_id)
        if known is not None:
            known["selected"] = list(dict.fromkeys([*known["selected"], *row.selected]))
            continue
        colour = row.user_id.int % COLOURS
        while colour in taken and len(taken) < COLOURS:
            colour = (colour + 1) % COLOURS
        taken.add(colour)
        people[row.user_id] = {
            "id": str(row.user_id),
            "name": row.user.name or row.user.email,
            "colour": colour,
            "selected": list(row.selected),
            "at": row.at.isoformat(),
        }
    return list(people.values())
