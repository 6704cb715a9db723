"""How much text fits: widths of letters by class, since a picture made on the server cannot measure.

Averages over the usual system fonts, on the wide side: better a title cut early than one over the edge.
"""

from __future__ import annotations

import re
import unicodedata

_NARROW = frozenset("ijlIrtf.,:;'|!()[]{} ·-")
_WIDE = frozenset("mwMWQGOD@%—…")
_PLACEHOLDER = re.compile(r"\{\{((?:(?!\{\{).)*?)\}\}")
"""Never over another opening, so that a text of opening brackets is read in linear time."""
_PLAIN_PATH = re.compile(r"[\w.]+")


def width(text: str, size: float, *, bold: bool = False) -> float:
    """About how many px a text takes at a font size in px."""
    return sum(_letter(c) for c in text) * size * (1.1 if bold else 1.0)


def _letter(character: str) -> float:
    if character in _NARROW:
        return 0.36
    if character in _WIDE:
        return 0.88
    if character.isascii():
        return 0.7 if character.isupper() else 0.6
    if unicodedata.combining(character):
        return 0.0
    return 1.05 if unicodedata.east_asian_width(character) in "WF" or ord(character) > 0xFFFF else 0.62


def cut(text: str, room: float, size: float, *, bold: bool = False) -> str:
    """The text, or as much of it as fits with "…"."""
    if width(text, size, bold=bold) <= room:
        return text
    kept = ""
    for character in text:
        if width(f"{kept}{character}…", size, bold=bold) > room:
            break
        kept += character
    return kept.rstrip() + "…"


def _beginning(text: str, room: float, size: float, *, bold: bool) -> int:
    """How many characters fit, at least one."""
    count = 1
    while count < len(text) and width(text[: count + 1], size, bold=bold) <= room:
        count += 1
    return count


def lines(text: str, room: float, size: float, count: int, *, bold: bool = False) -> list[str]:
    """The text in at most `count` lines, broken between words where that is possible, the last one cut."""
    result: list[str] = []
    words = text.split()
    while words and len(result) < count - 1:
        line = words[0]
        used = 1
        while used < len(words) and width(f"{line} {words[used]}", size, bold=bold) <= room:
            line = f"{line} {words[used]}"
            used += 1
        rest = words[used:]
        if width(line, size, bold=bold) > room:
            # A word longer than the line, or a script without spaces.
            start = _beginning(line, room, size, bold=bold)
            line, rest = line[:start], [line[start:], *rest]
        result.append(line)
        words = rest
    if words:
        result.append(cut(" ".join(words), room, size, bold=bold))
    return result


def without_placeholders(text: str) -> str:
    """A title as a person reads it before there are values: `{{ inputs.company }}` becomes ‹company›."""

    def word(match: re.Match[str]) -> str:
        source = match[1].strip()
        return f"‹{source.rpartition('.')[2].replace('_', ' ')}›" if _PLAIN_PATH.fullmatch(source) else "‹…›"

    return " ".join(_PLACEHOLDER.sub(word, text).split())


def title_of(title: str, node_id: str) -> str:
    """What a node is called: its title, or its id as words."""
    return without_placeholders(title) or node_id.replace("_", " ").capitalize()
