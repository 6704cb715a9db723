"""Comparing names of companies: case, accents, word order and legal forms do not count."""

from __future__ import annotations

import re
import unicodedata
from difflib import SequenceMatcher
from functools import lru_cache

_FORMS = """
ab ag as bv co company corp corporation gmbh inc incorporated kg limited llc llp ltd nv oy oyj plc pte pty
sa sarl se spa srl the and und et
"""
LEGAL_FORMS = frozenset(_FORMS.split())


@lru_cache(maxsize=100_000)
def similarity(one: str, other: str) -> float:
    """How alike two names are, 0 to 1; legal forms, case, accents and the order of words do not count."""
    a, b = name_words(one), name_words(other)
    if not a or not b:
        return 0.0
    if set(a) == set(b):
        return 1.0
    shorter, longer = sorted((set(a), set(b)), key=len)
    ratio = SequenceMatcher(None, " ".join(sorted(a)), " ".join(sorted(b))).ratio()
    # "Halden" and "Halden Marine Services": all of the shorter name is in the longer one.
    contained = 0.85 if shorter <= longer and any(len(w) > 3 for w in shorter) else 0.0
    return round(max(ratio, contained), 3)


@lru_cache(maxsize=50_000)
def name_words(text: str) -> tuple[str, ...]:
    """The telling words of a name, folded; all of them when only legal forms are there."""
    folded = "".join(
        c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c)
    )
    words = tuple(re.findall(r"\w+", folded.replace(".", "").replace("'", "")))
    return tuple(w for w in words if w not in LEGAL_FORMS) or words
