"""Matching the rows of two tables: which belong together, which nearly do, which stand alone.

Deterministic, in three passes over rows nobody has taken yet:

1  reference   the same reference, or the one named inside the other ("Payment INV-17, INV-18"); equal
               amounts match, several rows that add up match, different amounts are `partial`
2  amount      the same amount, the counterparty alike and the dates near enough; the best pair first, and
               where two are equally good nobody is chosen: `partial`, with all candidates
3  the rest    stands alone

Every left row ends in exactly one of matched, partial and unmatched_left, one entry per row. A right row is
settled at most once, and stands in unmatched_right unless an entry names it. Money is compared as decimals,
never as floats.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import combinations, pairwise
from typing import Any

from apps.agents.documents.tables import amount, parse_date, plain
from apps.agents.tools.names import name_words, similarity

MIN_REFERENCE = 3
"""A reference of fewer letters and digits is found inside a longer text too easily."""
MAX_GROUP = 8
"""Rows of one side that are tried as a sum."""
MAX_SHARED = 500
"""A reference that more rows have is none: it tells nothing apart."""
MAX_CANDIDATES = 50
"""Rows of one amount that a row is compared with."""


@dataclass(frozen=True)
class Rules:
    """Which columns mean what, and how far apart counts as equal. An empty column is not compared."""

    left_reference: str = ""
    right_reference: str = ""
    left_amount: str = ""
    right_amount: str = ""
    tolerance: Decimal = Decimal(0)
    left_name: str = ""
    right_name: str = ""
    min_similarity: float = 0.75
    left_date: str = ""
    right_date: str = ""
    max_days: int = 45


@dataclass
class Side:
    """One row with what is compared of it, read once."""

    index: int
    row: Mapping[str, Any]
    reference: str
    words: frozenset[str]
    """Every piece of the reference text that may itself be a reference."""
    money: Decimal | None
    name: str
    day: date | None


@dataclass
class Result:
    matched: list[dict[str, Any]] = field(default_factory=list)
    partial: list[dict[str, Any]] = field(default_factory=list)
    unmatched_left: list[dict[str, Any]] = field(default_factory=list)
    unmatched_right: list[dict[str, Any]] = field(default_factory=list)
    duplicates: list[dict[str, Any]] = field(default_factory=list)


def match(left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]], rules: Rules) -> Result:
    """Match two tables. The same tables in the same order give the same result."""
    ours = [_side(i, row, rules.left_reference, rules.left_amount, rules.left_name, rules.left_date)
            for i, row in enumerate(left)]  # fmt: skip
    theirs = [_side(i, row, rules.right_reference, rules.right_amount, rules.right_name, rules.right_date)
              for i, row in enumerate(right)]  # fmt: skip
    work = _Work(rules, ours, theirs)
    work.find_duplicates("left", ours)
    work.find_duplicates("right", theirs)
    if rules.left_reference and rules.right_reference:
        work.by_reference()
    if rules.left_amount and rules.right_amount:
        work.by_amount()
    work.leftovers()
    return work.result


def _side(index: int, row: Mapping[str, Any], reference: str, money: str, name: str, day: str) -> Side:
    text = str(row.get(reference) or "") if reference else ""
    pieces = re.findall(r"[^\s,;|]+", text)
    pairs = [a + b for a, b in pairwise(pieces)]  # "Invoice 17" inside "Payment of Invoice 17"
    words = {_norm(p) for p in (*pieces, *pairs, text)}
    return Side(
        index=index,
        row=row,
        reference=_norm(text),
        words=frozenset(w for w in words if w),
        money=_money(row, money),
        name=str(row.get(name) or "") if name else "",
        day=parse_date(str(row.get(day) or "")) if day else None,
    )


def _linked(one: Side, other: Side) -> bool:
    """Whether one names the other's whole reference; a word both merely mention does not count."""
    if one.reference and one.reference == other.reference:
        return True
    return any(
        len(a.reference) >= MIN_REFERENCE and a.reference in b.words and any(c.isdigit() for c in a.reference)
        for a, b in ((one, other), (other, one))
    )


def _number(side: Side) -> int:
    """How a person finds the row: its line in the file, or its place in the list."""
    line = side.row.get("row")
    return line if isinstance(line, int) else side.index + 1


def _norm(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


def _money(row: Mapping[str, Any], key: str) -> Decimal | None:
    value = row.get(key) if key else None
    if isinstance(value, bool) or value is None:
        return None
    return amount(str(value)) if isinstance(value, (int, float, str)) else None


class _Work:
    def __init__(self, rules: Rules, left: list[Side], right: list[Side]) -> None:
        self.rules = rules
        self.left = left
        self.right = right
        self.free_left = set(range(len(left)))
        self.free_right = set(range(len(right)))
        self.result = Result()
        self.named_right: set[int] = set()
        """Right rows that some entry names, settled or only as candidates."""
        self.repeats: dict[tuple[str, int], int] = {}

    # --- duplicates ---------------------------------------------------------------------------------------

    def find_duplicates(self, side: str, rows: list[Side]) -> None:
        """Rows with the same reference and amount. They stay in the game: two halves of a sum look alike."""
        seen: dict[tuple[str, Decimal | None], list[Side]] = defaultdict(list)
        for row in rows:
            if row.reference:
                seen[row.reference, row.money].append(row)
        for group in seen.values():
            if len(group) > 1:
                first, *more = group
                self.repeats.update({(side, row.index): first.index for row in more})
                self.result.duplicates.append(
                    {
                        "side": side,
                        "rows": [row.row for row in group],
                        "reasons": [f"{len(group)} rows have the same reference and amount"],
                    }
                )

    # --- pass 1: references -------------------------------------------------------------------------------

    def by_reference(self) -> None:
        right_by_word: dict[str, list[int]] = defaultdict(list)
        for side in self.right:
            for word in side.words:
                right_by_word[word].append(side.index)
        left_by_word: dict[str, list[int]] = defaultdict(list)
        for side in self.left:
            for word in side.words:
                left_by_word[word].append(side.index)
        for group_left, group_right in self._groups(left_by_word, right_by_word):
            self._settle_group(group_left, group_right)

    def _groups(
        self, left_by_word: Mapping[str, list[int]], right_by_word: Mapping[str, list[int]]
    ) -> list[tuple[list[Side], list[Side]]]:
        """Rows linked by a shared reference, directly or over others, in the order of the left table."""
        groups: list[tuple[list[Side], list[Side]]] = []
        seen: set[int] = set()
        for start in self.left:
            if start.index in seen:
                continue
            lefts, rights, queue = {start.index}, set[int](), [("left", start.index)]
            while queue:
                which, index = queue.pop()
                row = self.left[index] if which == "left" else self.right[index]
                table, found, other = (
                    (right_by_word, rights, "right") if which == "left" else (left_by_word, lefts, "left")
                )
                there = self.right if other == "right" else self.left
                for word in row.words:
                    candidates = table.get(word, ())
                    if len(candidates) > MAX_SHARED:
                        continue
                    for candidate in candidates:
                        if candidate not in found and _linked(row, there[candidate]):
                            found.add(candidate)
                            queue.append((other, candidate))
            seen |= lefts
            if rights:
                groups.append(
                    ([self.left[i] for i in sorted(lefts)], [self.right[i] for i in sorted(rights)])
                )
        return groups

    def _settle_group(self, lefts: list[Side], rights: list[Side]) -> None:
        """Equal amounts one to one, then sums, then what is left over differs."""
        for ours in lefts:
            for theirs in rights:
                if theirs.index not in self.free_right or ours.index not in self.free_left:
                    continue
                if _linked(ours, theirs) and self._equal(ours.money, theirs.money):
                    self._take("matched", [ours], [theirs], "reference", ["same reference"])
        lefts = [s for s in lefts if s.index in self.free_left]
        rights = [s for s in rights if s.index in self.free_right]
        for one in lefts:
            free = [s for s in rights if s.index in self.free_right and _linked(one, s)]
            parts = self._sum(one.money, free) if one.index in self.free_left else []
            if parts:
                self._take("matched", [one], parts, "reference", [f"{len(parts)} right rows add up to it"])
        for one in rights:
            free = [s for s in lefts if s.index in self.free_left and _linked(one, s)]
            parts = self._sum(one.money, free) if one.index in self.free_right else []
            if parts:
                self._take("matched", parts, [one], "reference", [f"{len(parts)} left rows add up to it"])
        for ours in lefts:
            if ours.index not in self.free_left:
                continue
            linked = [s for s in rights if s.index in self.free_right and _linked(ours, s)]
            if linked:
                self._take("partial", [ours], linked, "reference", self._differences(ours, linked))

    def _differences(self, ours: Side, theirs: list[Side]) -> list[str]:
        known = [s.money for s in theirs if s.money is not None]
        if ours.money is None or len(known) < len(theirs):
            return ["same reference, but an amount is missing or is no number"]
        paid = sum(known, Decimal(0))
        difference = paid - ours.money
        more = "more" if difference > 0 else "less"
        return [f"same reference, but the right side is {plain(abs(difference))} {more}"]

    def _equal(self, one: Decimal | None, other: Decimal | None) -> bool:
        if not (self.rules.left_amount and self.rules.right_amount):
            return True
        return one is not None and other is not None and abs(one - other) <= self.rules.tolerance

    def _sum(self, total: Decimal | None, parts: list[Side]) -> list[Side]:
        """Two or more rows whose amounts add up to the total: all if they do, else the first that do."""
        usable = [p for p in parts if p.money is not None]
        if total is None or len(usable) < 2:
            return []
        if self._equal(sum((p.money or Decimal(0) for p in usable), Decimal(0)), total):
            return usable
        for size in range(2, len(usable)) if len(usable) <= MAX_GROUP else ():
            for some in combinations(usable, size):
                if self._equal(sum((p.money or Decimal(0) for p in some), Decimal(0)), total):
                    return list(some)
        return []

    # --- pass 2: amounts ----------------------------------------------------------------------------------

    def by_amount(self) -> None:
        everybody: list[tuple[Decimal, int]] = []
        by_name: dict[tuple[str, ...], list[tuple[Decimal, int]]] = defaultdict(list)
        for theirs in self.right:
            if theirs.index in self.free_right and theirs.money is not None:
                everybody.append((theirs.money, theirs.index))
                by_name[name_words(theirs.name)].append((theirs.money, theirs.index))
        for priced in (everybody, *by_name.values()):
            priced.sort()
        pairs: list[tuple[float, int, int, list[str]]] = []
        for ours in self.left:
            if ours.index not in self.free_left or ours.money is None:
                continue
            near = self._priced_alike(everybody, ours.money)
            if len(near) > MAX_CANDIDATES:
                near = self._priced_alike(by_name.get(name_words(ours.name), []), ours.money)
            for index in near[:MAX_CANDIDATES]:
                score, reasons = self._likeness(ours, self.right[index])
                if score > 0:
                    pairs.append((score, ours.index, index, reasons))
        pairs.sort(key=lambda p: (-p[0], p[1], p[2]))
        rivals_left: dict[tuple[int, float], list[int]] = defaultdict(list)
        rivals_right: dict[tuple[int, float], list[int]] = defaultdict(list)
        for score, i, j, _ in pairs:
            rivals_left[i, score].append(j)
            rivals_right[j, score].append(i)
        for score, i, j, reasons in pairs:
            if i not in self.free_left or j not in self.free_right:
                continue
            others = [k for k in rivals_left[i, score] if k in self.free_right and k != j]
            # From the end: pairs come in the order of the left table, so the last are free the longest.
            is_wanted = any(k != i and k in self.free_left for k in reversed(rivals_right[j, score]))
            if others or is_wanted:
                said = [*reasons, "several rows fit equally well, so none was chosen"]
                candidates = [self.right[k] for k in sorted([j, *others])] if others else [self.right[j]]
                self._take("partial", [self.left[i]], candidates, "amount", said, release=True)
                continue
            kind = "matched" if score >= 1 else "partial"
            self._take(kind, [self.left[i]], [self.right[j]], "amount", reasons)

    def _priced_alike(self, priced: Sequence[tuple[Decimal, int]], money: Decimal) -> list[int]:
        low = bisect_left(priced, (money - self.rules.tolerance, -1))
        high = bisect_right(priced, (money + self.rules.tolerance, len(self.right)))
        return [index for _, index in priced[low : min(high, low + MAX_CANDIDATES + 1)]]

    def _likeness(self, ours: Side, theirs: Side) -> tuple[float, list[str]]:
        """How well two rows of the same amount fit: 1 or more matches, below is partial, 0 is nothing."""
        rules, reasons, score = self.rules, ["same amount"], 1.0
        if rules.left_reference and rules.right_reference and ours.reference and theirs.reference:
            # Both name a reference and pass 1 found that they differ.
            score -= 0.6
            reasons.append("the references differ")
        is_supported = False
        if rules.left_date and rules.right_date and ours.day and theirs.day:
            days = abs((ours.day - theirs.day).days)
            if days > rules.max_days:
                return 0.0, []
            is_supported = True
            score += 0.2 * (1 - days / (rules.max_days + 1))
            reasons.append(f"{days} days apart")
        if rules.left_name and rules.right_name and ours.name and theirs.name:
            alike = similarity(ours.name, theirs.name)
            if alike >= rules.min_similarity:
                is_supported = True
                score += alike
                reasons.append(f"counterparty {alike:.2f} alike")
            elif not is_supported:
                return 0.0, []
            else:
                score = min(score, 0.9) - 0.4 * (1 - alike)
                reasons.append(f"the counterparties differ ({alike:.2f} alike)")
        if not is_supported:
            score = min(score, 0.5)
            reasons.append("nothing but the amount speaks for it")
        return round(max(score, 0.0), 6), reasons

    # --- writing down -------------------------------------------------------------------------------------

    def _take(
        self,
        kind: str,
        lefts: list[Side],
        rights: list[Side],
        by: str,
        reasons: list[str],
        *,
        release: bool = False,
    ) -> None:
        """One entry per left row. release: the right rows stay free, they are candidates only."""
        self.free_left -= {s.index for s in lefts}
        self.named_right |= {s.index for s in rights}
        if not release:
            self.free_right -= {s.index for s in rights}
        target = self.result.matched if kind == "matched" else self.result.partial
        difference = self._difference(lefts, rights)
        for ours in lefts:
            target.append(
                {
                    "left": ours.row,
                    "right": rights[0].row,
                    "left_rows": [_number(s) for s in lefts],
                    "right_rows": [_number(s) for s in rights],
                    "by": by,
                    "difference": difference,
                    "reasons": list(reasons),
                    "_order": ours.index,
                }
            )

    def _difference(self, lefts: list[Side], rights: list[Side]) -> str | None:
        amounts = [s.money for s in (*lefts, *rights)]
        if any(a is None for a in amounts):
            return None
        total = sum((s.money or Decimal(0) for s in rights), Decimal(0))
        return plain(total - sum((s.money or Decimal(0) for s in lefts), Decimal(0)))

    def leftovers(self) -> None:
        for side, rows, free, target in (
            ("left", self.left, self.free_left, self.result.unmatched_left),
            ("right", self.right, self.free_right, self.result.unmatched_right),
        ):
            for row in rows:
                if row.index not in free or (side == "right" and row.index in self.named_right):
                    continue
                target.append({**row.row, "reasons": [self._why_alone(side, row)]})
        for entries in (self.result.matched, self.result.partial):
            entries.sort(key=lambda entry: entry["_order"])
            for entry in entries:
                del entry["_order"]

    def _why_alone(self, side: str, row: Side) -> str:
        other = "right" if side == "left" else "left"
        first = self.repeats.get((side, row.index))
        if first is not None:
            original = (self.left if side == "left" else self.right)[first]
            return f"repeats row {_number(original)}"
        if (self.rules.left_amount and self.rules.right_amount) and row.money is None:
            return "has no amount that can be read"
        if self.rules.left_reference and self.rules.right_reference and not row.reference:
            return f"has no reference, and no {other} row fits it otherwise"
        return f"no {other} row has its reference" if row.reference else f"no {other} row fits it"
