"""Cutting a text into passages: about 120 words, never across a heading or a page, always verbatim."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from itertools import pairwise

from apps.agents.documents.extract import Extracted

WORDS = 120
"""A passage is closed once it has this many words."""
MIN_WORDS = 50
"""From here on the end of a paragraph closes it too."""
MAX_WORDS = 180
"""No sentence or line makes it longer than this."""
_UNIT = re.compile(r"[^\n]*\n?")
_SENTENCE = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*\s+")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Passage:
    """A piece of a document; `text` is exactly `document.text[start:end]`."""

    ordinal: int
    start: int
    end: int
    text: str
    heading: str
    """Headings above it, outermost first, joined by " › "."""
    page: int | None


def passages_of(document: Extracted) -> list[Passage]:
    """Cut a document into passages, in order. Every word that is not white space is in exactly one."""
    text = document.text
    breaks = sorted({*document.pages, *(offset for offset, _, _ in document.headings)})
    heading_at = {offset for offset, _, _ in document.headings}
    out: list[Passage] = []
    start, words, has_body = 0, 0, False

    def close(end: int) -> None:
        nonlocal start, words, has_body
        piece = text[start:end]
        left = len(piece) - len(piece.lstrip())
        body = piece.strip()
        if body:
            begin = start + left
            out.append(
                Passage(
                    ordinal=len(out) + 1,
                    start=begin,
                    end=begin + len(body),
                    text=body,
                    heading=_heading_path(document, begin),
                    page=bisect_right(document.pages, begin) if document.pages else None,
                )
            )
        start, words, has_body = end, 0, False

    for begin, end in _units(text, breaks):
        is_break = begin in heading_at or begin in document.pages
        # Headings in a row stay together: a lone title is no evidence, and short texts rank too well.
        if is_break and (has_body or begin in document.pages):
            close(begin)
        unit = text[begin:end]
        count = len(_WORD.findall(unit))
        if count == 0:
            if words >= MIN_WORDS:
                close(begin)
            continue
        if words and words + count > MAX_WORDS:
            close(begin)
        words += count
        has_body = has_body or begin not in heading_at
        if words >= WORDS:
            close(end)
    close(len(text))
    return out


def _units(text: str, breaks: list[int]) -> list[tuple[int, int]]:
    """Lines, long lines cut at sentence ends, very long sentences at words; never across a break."""
    units: list[tuple[int, int]] = []
    for match in _UNIT.finditer(text):
        begin, end = match.span()
        if begin == end:
            continue
        inner = breaks[bisect_right(breaks, begin) : bisect_left(breaks, end)]
        for a, b in zip([begin, *inner], [*inner, end], strict=True):
            units.extend(_sentences(text, a, b))
    return units


def _sentences(text: str, begin: int, end: int) -> list[tuple[int, int]]:
    if end - begin < 400:
        return [(begin, end)]
    cuts = [begin, *(m.end() for m in _SENTENCE.finditer(text, begin, end) if m.end() < end), end]
    units: list[tuple[int, int]] = []
    for a, b in pairwise(cuts):
        starts = [m.start() for m in _WORD.finditer(text, a, b)]
        inner = starts[WORDS::WORDS]
        # A text without spaces has no words to cut at: then by length.
        inner = inner or list(range(a + 1200, b, 1200)) if b - a > 2400 or inner else []
        units.extend(zip([a, *inner], [*inner, b], strict=True))
    return units


def _heading_path(document: Extracted, offset: int) -> str:
    position = bisect_right(document.headings, (offset, 99, ""))
    path: list[str] = []
    level = 99
    for _, depth, title in reversed(document.headings[:position]):
        if depth < level:
            path.insert(0, title)
            level = depth
        if level == 1:
            break
    return " › ".join(path)
