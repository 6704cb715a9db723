"""Changes of a text as splices, and what becomes of them when the text has moved on.

A splice puts a text in the place of `start:end`. The splices of one change are disjoint, in order, and all
count in the text before it. The reverse of a change is again splices, so a draft's log can be played
backwards to the byte. To take back a change that others have built upon, its reverse is carried through the
net difference since then: what moved is followed, what was changed is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MOST_LINES = 1500
"""Lines on either side of a difference that is looked at line by line; larger ones are one splice."""


class Splice(NamedTuple):
    start: int
    end: int
    text: str

    @property
    def grows(self) -> int:
        return len(self.text) - (self.end - self.start)


class Region(NamedTuple):
    """`start:end` of one text stands as `now_start:now_end` in a later one."""

    start: int
    end: int
    now_start: int
    now_end: int


def apply_splices(text: str, splices: Sequence[Splice]) -> str:
    """The text with the splices in it. Raises ValueError when they overlap or lie outside of it."""
    pieces: list[str] = []
    at = 0
    for splice in splices:
        if not at <= splice.start <= splice.end <= len(text):
            raise ValueError("The splices do not fit the text.")
        pieces += [text[at : splice.start], splice.text]
        at = splice.end
    pieces.append(text[at:])
    return "".join(pieces)


def reverse(text: str, splices: Sequence[Splice]) -> list[Splice]:
    """What brings the bytes back once `splices` have been applied to `text`."""
    result, moved = [], 0
    for splice in splices:
        start = splice.start + moved
        result.append(Splice(start, start + len(splice.text), text[splice.start : splice.end]))
        moved += splice.grows
    return result


def trimmed(text: str, splices: Iterable[Splice]) -> list[Splice]:
    """The same change in the fewest characters, in order; splices that change nothing are left out."""
    result = []
    for start, end, new in sorted(splices, key=lambda s: (s.start, s.end)):
        old = text[start:end]
        head = _common(old, new)
        tail = _common(old[head:][::-1], new[head:][::-1])
        if old != new:
            result.append(Splice(start + head, end - tail, new[head : len(new) - tail]))
    return result


def difference(before: str, after: str) -> list[Splice]:
    """Splices that turn one text into another, line by line where that is affordable."""
    whole = trimmed(before, [Splice(0, len(before), after)])
    if not whole:
        return []
    start = before.rfind("\n", 0, whole[0].start) + 1
    tail = len(before) - whole[0].end
    # Whole lines at the end too, so that what is inserted is a line and not the halves of two.
    to = before.find("\n", whole[0].end)
    tail = len(before) - to - 1 if to >= 0 else 0
    if len(after) - tail < start:
        return whole
    old = before[start : len(before) - tail].splitlines(keepends=True)
    new = after[start : len(after) - tail].splitlines(keepends=True)
    if max(len(old), len(new)) > MOST_LINES:
        return whole
    places = [start]
    for line in old:
        places.append(places[-1] + len(line))
    splices = [
        Splice(places[i1], places[i2], "".join(new[j1:j2]))
        for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if tag != "equal"
    ]
    found = [s for s in splices if before[s.start : s.end] != s.text]
    return found if apply_splices(before, found) == after else whole


def net_change(before: str, after: str, changes: Iterable[Sequence[Splice]]) -> list[Region]:
    """What differs between two texts, given every change in between, each in the text it met.

    What was changed and changed back does not count.
    """
    regions: list[Region] = []
    for splices in changes:
        for splice in reversed(splices):
            regions = _with(regions, splice)
    result = []
    for start, end, now_start, now_end in regions:
        old, new = before[start:end], after[now_start:now_end]
        if old == new:
            continue
        head = _common(old, new)
        tail = _common(old[head:][::-1], new[head:][::-1])
        result.append(Region(start + head, end - tail, now_start + head, now_end - tail))
    return result


def carried(splices: Sequence[Splice], since: Sequence[Region]) -> list[Splice] | None:
    """The splices in the later text; None when something they touch has been changed there."""
    result = []
    for start, end, text in splices:
        moved = 0
        for region in since:
            if region.start < end and start < region.end:
                return None
            if region.start == region.end and start < region.start < end:
                return None
            if start == end and region.start < start < region.end:
                return None
            if region.end <= start and (region.start < start or region.end > region.start or start < end):
                moved += (region.now_end - region.now_start) - (region.end - region.start)
        result.append(Splice(start + moved, end + moved, text))
    return result


def _with(regions: list[Region], splice: Splice) -> list[Region]:
    """The regions after one more splice of the later text."""
    before: list[Region] = []
    touched: list[Region] = []
    after: list[Region] = []
    for region in regions:
        if region.now_end < splice.start:
            before.append(region)
        elif region.now_start > splice.end:
            after.append(region)
        else:
            touched.append(region)
    moved = before[-1].now_end - before[-1].end if before else 0
    now_start = min([splice.start, *(r.now_start for r in touched)])
    now_end = max([splice.end, *(r.now_end for r in touched)])
    start = touched[0].start - (touched[0].now_start - now_start) if touched else now_start - moved
    end = touched[-1].end + (now_end - touched[-1].now_end) if touched else now_end - moved
    joined = Region(start, end, now_start, now_end + splice.grows)
    shifted = [Region(r.start, r.end, r.now_start + splice.grows, r.now_end + splice.grows) for r in after]
    return [*before, joined, *shifted]


def _common(one: str, other: str) -> int:
    """Length of the common beginning."""
    most = min(len(one), len(other))
    if one[:most] == other[:most]:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
