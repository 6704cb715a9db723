"""Ranking passages by BM25, with SQLite's full-text index in memory.

The index lives for one call: cutting and indexing a folder takes milliseconds, and nothing can be stale.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from apps.agents.documents.passages import Passage
from mirrorneuron.base.errors import Unavailable

MAX_TERMS = 64
_CJK = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")
_STOP_WORDS = """
a about an and any are as at be been but by can could did do does for from had has have he her his
how i if in into is it its me my no not of on or our she should so some than that the their them
there they this to us was we were what when where which who whom why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_DDL = """
CREATE VIRTUAL TABLE passage USING fts5(
  body, heading, name, tokenize = 'porter unicode61 remove_diacritics 2'
)
"""
_FIND = """
SELECT rowid, bm25(passage, 1.0, 0.5, 0.25) AS rank FROM passage
WHERE passage MATCH ? ORDER BY rank, rowid LIMIT ?
"""


@dataclass(frozen=True)
class Hit:
    document: int
    """Which of the given documents."""
    passage: Passage
    score: float
    """BM25, higher is better; comparable only within one search."""


def match_expression(query: str) -> str:
    """A full-text query that any text turns into validly: its words, each quoted, joined by OR.

    Words that stand in every text are left out unless there is nothing else. Empty when there is no word.
    """
    kept = "".join(
        c if unicodedata.category(c)[0] in "LNM" else " " for c in unicodedata.normalize("NFC", query)
    )
    words = list(dict.fromkeys(word.casefold() for word in kept.split()))
    telling = [word for word in words if word not in STOP_WORDS] or words
    terms = [" ".join(_CJK.sub(r" \1 ", word).split()) for word in telling[:MAX_TERMS]]
    # A mark alone is no token to the index, and a term without tokens would be an empty phrase.
    return " OR ".join(f'"{term}"' for term in terms if any(c.isalnum() for c in term))


def rank(query: str, documents: Sequence[tuple[str, Sequence[Passage]]], limit: int) -> list[Hit]:
    """The passages that fit a query best, best first; empty when no word of it occurs anywhere.

    documents: (name, passages) of each.
    Raises Unavailable when this Python's SQLite has no full-text index.
    """
    expression = match_expression(query)
    if not expression:
        return []
    rows: list[tuple[int, Passage]] = [(i, p) for i, (_, passages) in enumerate(documents) for p in passages]
    db = sqlite3.connect(":memory:")
    try:
        try:
            db.execute(_DDL)
        except sqlite3.OperationalError as exc:
            raise Unavailable(
                "The SQLite of this Python has no full-text search (FTS5).",
                next="Use a Python whose sqlite3 was built with FTS5.",
            ) from exc
        db.executemany(
            "INSERT INTO passage (rowid, body, heading, name) VALUES (?, ?, ?, ?)",
            (
                (n, _CJK.sub(r" \1 ", p.text), p.heading, re.sub(r"[_.\-]+", " ", documents[i][0]))
                for n, (i, p) in enumerate(rows, 1)
            ),
        )
        found = db.execute(_FIND, (expression, limit)).fetchall()
    finally:
        db.close()
    return [Hit(rows[n - 1][0], rows[n - 1][1], round(-score, 6)) for n, score in found]
