"""Words and sentences of plain text, without a language model: for checks and extractive answers.

Everything here is deterministic and keeps positions, so that what is quoted stays a verbatim slice. The word
lists are English; other languages are cut and compared too, only less well (no stop words, no stems).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_STOP_WORDS = """
a about above after again all also am an and any are as at be because been before being below
between both but by can could did do does doing down during each few for from further had has
have having he her here hers him his how i if in into is it its itself just me more most my no
nor not now of off on once only or other our ours out over own per same she should so some such
than that the their theirs them then there these they this those through to too under until up
us very via was we were what when where which while who whom why will with would you your yours
may might must shall
"""
STOP = frozenset(_STOP_WORDS.split())
_NEGATION_WORDS = """
no not never none nobody nothing neither nor without cannot can't won't don't doesn't didn't
isn't aren't wasn't weren't hasn't haven't hadn't wouldn't shouldn't couldn't unable fails
failed refuse refused reject rejected
"""
NEGATIONS = frozenset(_NEGATION_WORDS.split())
_WORD = re.compile(r"[^\W_]+(?:['’.\-][^\W_]+)*")
_ABBREVIATION = re.compile(
    r"(?:\b(?:mr|mrs|ms|dr|prof|sr|jr|st|no|inc|ltd|co|corp|vs|etc|approx|e\.g|i\.e|fig|al|dept|est|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)|\b[a-z]|\b[a-z]\.[a-z])\.$",
    re.IGNORECASE,
)
# Not after another mark: from each dot of a long row the search would run to the row's end again.
_END = re.compile(r"(?<![.!?…])[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+")
_LINE_START = re.compile(r"[ \t]*(?:[-*•+–]\s+|#{1,6}\s+|\|\s?|>\s?|\(?\d{1,3}[.)]\s+)")
_RECORD = re.compile(r"\s*[^:;\n]{1,40}: [^;\n]*; [^:;\n]{1,40}: ")
_MONTH_NAMES = """
January February March April May June July August September October November December
Januar Februar März Mai Juni Juli Oktober Dezember Jänner janvier février mars avril juin juillet
"""
_MONTHS = tuple(_MONTH_NAMES.split())
_SHORT_LINE = 55
"""A line this short that is followed by a capital is a line of its own (address, list), not a wrapped one."""


def words(text: str) -> list[str]:
    """Lower-case words; `don't` and `3.5` are one word each."""
    return [m.group().casefold().replace("’", "'") for m in _WORD.finditer(text)]


_ENDINGS = (
    ("ies", "y", 5),
    ("sses", "ss", 5),
    ("ing", "", 6),
    ("edly", "", 7),
    ("ed", "", 5),
    ("es", "e", 5),
    ("s", "", 4),
)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """A light English stem: plural and verb endings off, nothing clever. `orders`, `ordering` → `order`."""
    word = word.removesuffix("'s").removesuffix("'")
    if len(word) <= 3 or not word.isalpha() or not word.isascii():
        return word
    for ending, replacement, least in _ENDINGS:
        if word.endswith(ending) and len(word) >= least and not word.endswith(("ss", "us", "is")):
            word = word[: -len(ending)] + replacement
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz":
        word = word[:-1]  # shipping → shipp → ship
    return word.removesuffix("e") if len(word) > 4 else word


def terms(text: str) -> list[str]:
    """Stems of the content words, in order, stop words left out."""
    return [stem(w) for w in words(text) if w not in STOP]


def normal(text: str) -> str:
    """One spelling for comparison: lower case, plain quotes and dashes, single spaces, no emphasis."""
    text = unicodedata.normalize("NFKC", text).casefold()
    text = text.translate(_PLAIN)
    return " ".join(re.sub(r"\*\*|__|`", "", text).split())


_PLAIN = str.maketrans("’‘“”«»–—‑\u00a0", '\'\'""""--- ')


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, without surrounding space, bullets or heading marks.

    Wrapped lines belong together; a blank line, bullet, heading, table row or short line ends a sentence.
    """
    found: list[tuple[int, int]] = []
    for start, end in _blocks(text):
        at = start
        for match in _END.finditer(text, start, end):
            if match.end() >= end:
                break
            following = text[match.end() : end].lstrip()
            if (
                following[:1].islower()
                or _is_day(text[at : match.end()], following)
                or _ABBREVIATION.search(text[max(at, match.end() - 12) : match.end()])
            ):
                continue
            _add(text, at, match.end(), found)
            at = match.end()
        _add(text, at, end, found)
    return found


def _is_day(before: str, following: str) -> bool:
    """`30. Juni`: the point belongs to the number."""
    return bool(re.search(r"\b\d{1,2}\.$", before)) and following.startswith(_MONTHS)


def _add(text: str, start: int, end: int, found: list[tuple[int, int]]) -> None:
    while start < end and text[start].isspace():
        start += 1
    while end > start and (text[end - 1].isspace() or text[end - 1] == "|"):
        end -= 1
    if end > start:
        found.append((start, end))


def _blocks(text: str) -> list[tuple[int, int]]:
    """Runs of lines that belong together, marks at their start left out."""
    blocks: list[tuple[int, int]] = []
    open_at: int | None = None
    position = 0
    previous = ""
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        mark = _LINE_START.match(line)
        breaks = (
            not bare
            or mark is not None
            or previous.lstrip().startswith(("#", "|"))
            or is_record(line)
            or is_record(previous)
            or (_ends_early(previous) and not bare[:1].islower())
        )
        if open_at is not None and breaks:
            blocks.append((open_at, position))
            open_at = None
        if bare and open_at is None:
            open_at = position + (mark.end() if mark else 0)
        previous = line
        position += len(line)
    if open_at is not None:
        blocks.append((open_at, position))
    return blocks


def is_record(text: str) -> bool:
    """Whether a text is a table row written out: `account: Acme; note: Asked for a quote`."""
    return bool(_RECORD.match(text))


def _ends_early(line: str) -> bool:
    return len(line.strip()) < _SHORT_LINE and not line.rstrip().endswith("-")
