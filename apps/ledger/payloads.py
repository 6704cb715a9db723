"""Values of more than a few kilobytes: stored once per workspace by their hash, referred to by rows.

A payload is written in the same transaction as what refers to it, and before it is referred to the run is
noted as a user of it (`PayloadUse`). So nothing has to search columns to know what is still needed: a payload
that no run uses may go. What a run uses stays as long as the run has rows; what its effects use
(`outlives`) as long as the effect ledger does.

Deleting cannot race with a writer that is about to refer to a payload (`forget_unused`):

- A writer that finds a payload in the database, but last used more than an hour ago, says "used now" under
  the row's lock before it refers to it. One that finds it used more recently takes its word for it.
- Only payloads last used more than a day ago, with no user, are deleted, and the condition on the time is
  checked by the deleting statement itself, under the row's lock. Whoever comes first, the other one sees it:
  either the payload is "used now" and stays, or it is gone and the writer stores it again.
- A process that has itself noted a run as a user does not ask again for that run: uses of a run are only ever
  deleted together with the run, under the run's own lock, and a writer holds that lock too.
"""

from __future__ import annotations

import enum
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from threading import Lock
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Exists, Model, OuterRef

from apps.ledger import wire
from apps.ledger.errors import PayloadMissing
from apps.ledger.fields import held
from apps.ledger.models import Payload, PayloadUse
from mirrorneuron.base import packed
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import Leaf, Packed, fill, texts_for
from mirrorneuron.base.safejson import storable

FRESH = timedelta(hours=1)
"""A payload used within this time may be referred to without saying so again."""
UNUSED_FOR = timedelta(days=1)
"""Only a payload last used longer ago is ever deleted; far more than `FRESH` plus any transaction."""
AT_ONCE = 50
SAMPLE = 4096
WORTH = 0.6
"""A payload is compressed when its beginning shrinks to less than this."""


def keep(workspace_id: UUID, run_id: UUID, value: Any, *, outlives: bool = False) -> Packed:
    """A value for a `PayloadField`, with its payloads written now. Call it inside the transaction that stores
    the result, after the run's row was locked."""
    found = packed.pack(storable(value))
    write(workspace_id, run_id, found.leaves, outlives=outlives)
    return found


def write(workspace_id: UUID, run_id: UUID, leaves: Iterable[Leaf], *, outlives: bool = False) -> None:
    """Make sure that these payloads are stored and the run is noted as their user.

    Costs nothing for what this process has already written for the run: a value that passes from step to
    step unchanged is stored once.
    """
    new = unwritten(run_id, leaves, outlives=outlives)
    if not new:
        return
    # By hash, as all writers do, so that none waits for another in a circle.
    new.sort(key=lambda leaf: leaf.ref.hash)
    for start in range(0, len(new), AT_ONCE):
        some = new[start : start + AT_ONCE]
        _store(workspace_id, some)
        PayloadUse.objects.bulk_create(
            [
                PayloadUse(run_id=run_id, hash=x.ref.hash, outlives=outlives, workspace_id=workspace_id)
                for x in some
            ],
            ignore_conflicts=True,
        )
    keys = [(run_id, leaf.ref.hash, outlives) for leaf in new]
    transaction.on_commit(lambda: _KNOWN.add(keys), robust=True)


def unwritten(run_id: UUID, leaves: Iterable[Leaf], *, outlives: bool = False) -> list[Leaf]:
    """Those of them that `write` would have to write."""
    return [leaf for leaf in leaves if not _KNOWN.has((run_id, leaf.ref.hash, outlives))]


def _store(workspace_id: UUID, leaves: list[Leaf]) -> None:
    at = now()
    rows = Payload.objects.filter(workspace_id=workspace_id)
    there = dict(rows.filter(hash__in=[x.ref.hash for x in leaves]).values_list("hash", "used_at"))
    stale = [hash_ for hash_, used_at in there.items() if used_at < at - FRESH]
    if stale:
        for hash_ in sorted(stale):
            rows.filter(hash=hash_).update(used_at=at)
        # One that was deleted in this moment is missing now, and is written again below.
        there = dict(rows.filter(hash__in=list(there)).values_list("hash", "used_at"))
    missing = [leaf for leaf in leaves if leaf.ref.hash not in there]
    if missing:
        _insert([_row(workspace_id, leaf, at) for leaf in missing])


def _insert(rows: list[Payload]) -> None:
    """Insert what is not there yet."""
    if connection.vendor != "postgresql":
        Payload.objects.bulk_create(rows, ignore_conflicts=True)
        return
    names = [str(field.column) for field in Payload._meta.concrete_fields]
    cells = f"({', '.join(['%s'] * len(names))})"
    wire.send(
        f'INSERT INTO "{Payload._meta.db_table}" ({", ".join(names)}) VALUES {", ".join([cells] * len(rows))}'
        " ON CONFLICT DO NOTHING",
        [getattr(row, name) for row in rows for name in names],
    )


def _row(workspace_id: UUID, leaf: Leaf, at: Any) -> Payload:
    data = leaf.text.encode()
    encoding = ""
    if len(zlib.compress(data[:SAMPLE], 1)) < WORTH * min(len(data), SAMPLE):
        smaller = zlib.compress(data, 1)
        if len(smaller) < len(data):
            data, encoding = smaller, "zlib"
    return Payload(
        workspace_id=workspace_id, hash=leaf.ref.hash, size=leaf.ref.size, type=leaf.ref.type,
        encoding=encoding, data=data, created_at=at, used_at=at,
    )  # fmt: skip


def resolve(value: Any, *, run_id: UUID | None = None) -> Any:
    """A stored value made whole: a `Packed`, or a decoded value that may hold references.

    run_id: the run whose row the value was read from. Raises PayloadMissing.
    """
    decoded = value.value if isinstance(value, Packed) else value
    own = {leaf.ref.hash: leaf.text for leaf in value.leaves} if isinstance(value, Packed) else {}
    try:
        texts = texts_for(decoded, lambda hashes: own if own.keys() >= set(hashes) else load(hashes))
    except KeyError as exc:
        raise PayloadMissing(str(exc.args[0])) from exc
    if run_id is not None and texts and not connection.in_atomic_block:
        # A committed row of the run refers to them, so the run is their noted user.
        _KNOWN.add([(run_id, hash_, False) for hash_ in texts])
    return fill(decoded, texts)


LISTED = 64_000
"""Bytes up to which a payload is shown in lists."""


class Extent(enum.Enum):
    """How much of a row's large values somebody wants to see."""

    WHOLE = "whole"
    LISTED = "listed"
    """Payloads of up to `LISTED` bytes; larger ones as references."""
    BRIEF = "brief"
    """What lies in the row: every payload as a reference with its size and beginning, and every user's key
    that looks like one set apart by a dollar."""


def column(row: Model, name: str, extent: Extent = Extent.WHOLE) -> Any:
    """A `PayloadField` of a row as JSON, as far as it is wanted."""
    stored = held(row, name)
    if extent is Extent.WHOLE or not isinstance(stored, Packed):
        return getattr(row, name)
    if extent is Extent.BRIEF:
        return stored.shown
    decoded = stored.value
    return packed.as_json(fill(decoded, texts_for(decoded, load, LISTED)))


def load(hashes: Iterable[str]) -> dict[str, str]:
    """Texts of stored payloads by hash; the same hash is the same text in whichever workspace."""
    wanted = list(hashes)
    texts: dict[str, str] = {}
    for start in range(0, len(wanted), AT_ONCE):
        for hash_, encoding, data in _rows(wanted[start : start + AT_ONCE]):
            if hash_ not in texts:
                texts[hash_] = (zlib.decompress(data) if encoding == "zlib" else bytes(data)).decode()
    return texts


def _rows(hashes: list[str]) -> Iterable[Any]:
    if connection.vendor != "postgresql":
        return Payload.objects.filter(hash__in=hashes).values_list("hash", "encoding", "data")
    table = Payload._meta.db_table
    return wire.send(f'SELECT hash, encoding, data FROM "{table}" WHERE hash = ANY(%s)', [hashes])


def warm(values: Iterable[Any], extent: Extent = Extent.WHOLE) -> None:
    """Load the payloads of several `Packed` values in one statement, before they are looked at one by one."""
    inside = [value.value for value in values if isinstance(value, Packed)]
    if inside and extent is not Extent.BRIEF:
        texts_for(inside, load, LISTED if extent is Extent.LISTED else None)


def warm_rows(rows: Iterable[Model], names: Iterable[str], extent: Extent = Extent.WHOLE) -> None:
    names = list(names)
    warm([held(row, name) for row in rows for name in names], extent)


def payload_of(run_id: UUID, hash_: str) -> dict[str, Any]:
    """{hash, size, type, value} behind a reference of this run. Raises PayloadMissing."""
    if not PayloadUse.objects.filter(run_id=run_id, hash=hash_).exists():
        raise PayloadMissing(hash_)
    row = Payload.objects.filter(hash=hash_).values_list("size", "type").first()
    if row is None:
        raise PayloadMissing(hash_)
    ref = packed.Ref(hash_, row[0], "json" if row[1] == "json" else "text", "")
    return {"hash": hash_, "size": ref.size, "type": ref.type, "value": resolve(ref)}


def stored(hash_: str) -> Leaf:
    """A payload as it is stored, with what it refers to left in it. Raises PayloadMissing."""
    row = Payload.objects.filter(hash=hash_).values_list("size", "type").first()
    text = load([hash_]).get(hash_)
    if row is None or text is None:
        raise PayloadMissing(hash_)
    begins = text[: packed.BEGINS]
    return Leaf(packed.Ref(hash_, row[0], "json" if row[1] == "json" else "text", begins), text)


# --- letting go -------------------------------------------------------------------------------------------


def forget_unused(limit: int = 200) -> int:
    """Delete payloads that no run uses and that nobody is about to use; returns how many.

    Why this cannot race with a writer is told at the head of this module.
    """
    before = now() - UNUSED_FOR
    used = PayloadUse.objects.filter(hash=OuterRef("hash"), workspace_id=OuterRef("workspace_id"))
    idle = Payload.objects.filter(used_at__lt=before).filter(~Exists(used))
    found = list(idle.order_by("used_at").values_list("workspace_id", "hash")[:limit])
    deleted = 0
    for workspace_id, hash_ in found:
        # The time is compared again by the statement that holds the row's lock.
        deleted += (
            Payload.objects.filter(workspace_id=workspace_id, hash=hash_, used_at__lt=before)
            .filter(~Exists(used))
            .delete()[0]
        )
    return deleted


class _Known:
    """(run, hash, outlives) this process knows to be noted; bounded, and only ever a shortcut."""

    def __init__(self, most: int = 20_000) -> None:
        self._most = most
        self._keys: OrderedDict[tuple[UUID, str, bool], None] = OrderedDict()
        self._lock = Lock()

    def has(self, key: tuple[UUID, str, bool]) -> bool:
        return key in self._keys

    def add(self, keys: Iterable[tuple[UUID, str, bool]]) -> None:
        with self._lock:
            for key in keys:
                self._keys[key] = None
            while len(self._keys) > self._most:
                self._keys.popitem(last=False)

    def forget(self, run_id: UUID) -> None:
        with self._lock:
            for key in [key for key in self._keys if key[0] == run_id]:
                del self._keys[key]

    def clear(self) -> None:
        with self._lock:
            self._keys.clear()


_KNOWN = _Known()


def forget_known(run_id: UUID) -> None:
    """Ask the database again about this run, which was removed."""
    _KNOWN.forget(run_id)


def clear_caches() -> None:
    """Start as a new process does; for tests."""
    _KNOWN.clear()
    packed.CACHE.clear()
