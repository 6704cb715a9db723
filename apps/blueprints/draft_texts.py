"""Texts of drafts, read: what they say, what is wrong with them, how they look.

Parsed texts are kept per process, newest first, and checked against the row: an operation then costs a few
milliseconds, and a process that has not seen the draft for a while only reads what has changed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from apps.blueprints.core.editing.log import Entry, splices_from, text_before
from apps.blueprints.core.editing.patch import patch_between
from apps.blueprints.core.editing.sketch import Sketch, sketch
from apps.blueprints.core.editing.spans import Source, advance, read
from apps.blueprints.core.editing.splices import difference
from apps.blueprints.core.editing.view import View, view_of
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.validate import validate
from apps.blueprints.models import Draft
from apps.blueprints.ports import builtin_tools

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
    return keep(draft_id, Seen(source, version))


def keep(draft_id: UUID, fresh: Seen) -> Seen:
    """Keep a version that was just made, for whoever looks next."""
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
    return text_before(draft.source, entries_after(draft, seq))


def entries_after(draft: Draft, after: int) -> list[Entry]:
    """The log of a draft as it was read, after one of its versions, to be played backwards."""
    # Without a lock somebody may have gone on since the row was read; its text knows nothing of that.
    rows = draft.operations.filter(seq__gt=after, seq__lte=draft.version).order_by("seq")
    return [
        Entry(seq, op_id, undoes, splices_from(inverse))
        for seq, op_id, undoes, inverse in rows.values_list("seq", "op_id", "undoes", "inverse")
    ]
