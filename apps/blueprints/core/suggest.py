"""Finds the name somebody probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

CLOSE_ENOUGH = 0.6
"""Share of matching characters below which two names are strangers."""
MOST_LISTED = 8


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like `name`; None when nothing is close.

    Case, `-`, `_` and spaces do not count, so `maxRounds` finds `max_rounds`. Equal likeness is settled by
    the alphabet, so that the same mistake gets the same advice everywhere.
    """
    wanted = _plain(name[:100])
    if not wanted:
        return None
    best, found = CLOSE_ENOUGH, None
    for candidate in sorted(set(known)):
        plain = _plain(candidate)
        if plain == wanted:
            return candidate
        if not plain or 2 * min(len(plain), len(wanted)) < CLOSE_ENOUGH * (len(plain) + len(wanted)):
            # A beginning counts although the lengths differ: `desc` finds `description`.
            if len(wanted) >= 3 and plain.startswith(wanted) and best < 0.61:
                best, found = 0.61, candidate
            continue
        matcher = SequenceMatcher(None, wanted, plain, autojunk=False)
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            ratio = matcher.ratio()
            if ratio > best:
                best, found = ratio, candidate
    return found


def instead(name: str, known: Iterable[str], *, one_of: str = "one of", otherwise: str = "") -> str:
    """A fix in words: `write "prompt"` when one name is near, otherwise the list of what there is.

    otherwise: what to say when there is nothing to choose from.
    """
    names = sorted(set(known))
    near = nearest(name, names)
    if near is not None:
        return f'write "{near}"'
    return f"write {one_of} {listed(names)}" if names else otherwise


def listed(names: Iterable[str]) -> str:
    """`"a", "b" and 3 more`."""
    every = list(names)
    shown = ", ".join(f'"{name}"' for name in every[:MOST_LISTED])
    more = len(every) - MOST_LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c not in "-_ .")
