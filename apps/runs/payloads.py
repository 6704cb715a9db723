"""Large values in the engine's own rows: pack a row's fields, write the payloads in the same transaction.

    fields, leaves = packed_fields(transition.updates[path])     pure
    …write the fields…
    write(workspace_id, run_id, leaves)                          same transaction, the run's row locked

What packing means is told in `mirrorneuron.base.packed`, who keeps what in `apps.ledger.payloads`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from apps.ledger.payloads import keep, resolve, unwritten, write
from mirrorneuron.base.packed import Leaf, Packed, pack
from mirrorneuron.base.safejson import storable

__all__ = ["keep", "packed_fields", "packed_value", "resolve", "unwritten", "whole", "write"]

PACKED = frozenset({"input", "output", "memo", "inputs", "request", "response"})
"""Columns that hold references where large parts were."""
JSON = frozenset({"taken", "labels", "error", "checks"})


def packed_value(value: Any, leaves: list[Leaf]) -> Packed | None:
    """A value for a `PayloadField`; what it refers to is added to `leaves`. None stays null."""
    if value is None or isinstance(value, Packed):
        return value
    found = pack(storable(value))
    leaves += found.leaves
    return found


def packed_fields(fields: Mapping[str, Any], leaves: list[Leaf]) -> dict[str, Any]:
    """A row's fields as they are stored: payload columns as `Packed` (their `text` is the column's JSON),
    other JSON columns storable, the rest as given."""
    return {
        name: packed_value(value, leaves) if name in PACKED else storable(value) if name in JSON else value
        for name, value in fields.items()
    }


def whole(values: Iterable[Any], run_id: Any) -> list[Any]:
    """Columns of one run as read by `values_list`, each made whole; their payloads come in one statement."""
    from apps.ledger.payloads import warm

    stored = list(values)
    warm(stored)
    return [resolve(value, run_id=run_id) if isinstance(value, Packed) else value for value in stored]
