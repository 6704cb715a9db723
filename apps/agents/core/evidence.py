"""What a step sees, as passages that can be quoted and facts that can be copied; and which passage fits best.

The offline model knows nothing; all it may say stands here. Ranking is BM25 over sentences, with the terms of
the step's question; sentences from documents that name the entity in question (the company, the customer) go
first, so that a folder about several customers does not mix them up.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apps.runs.core.text import normal, sentences, terms, words

QUOTE_NAMES = (
    "quote",
    "text",
    "passage",
    "excerpt",
    "snippet",
    "content",
    "body",
    "evidence",
    "sentence",
    "note",
    "notes",
)
SOURCE_NAMES = ("name", "source", "document", "file", "filename", "document_name", "title", "origin", "url")
ENTITY_NAMES = (
    "company",
    "customer",
    "account",
    "client",
    "organisation",
    "organization",
    "supplier",
    "vendor",
    "topic",
)
_FILE_KEYS = {"id", "name", "sha256"}
_STEERS = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,40}\b(?:instruction|prompt|rule|above|previous)|\bsystem prompt\b|"
    r"\b(?:as|you are) an? (?:ai|assistant|language model)\b",
    re.IGNORECASE,
)
"""Text that talks to a machine. Quoting it would be harmless and useless."""
_INTERNAL = re.compile(
    r"\b(?:internal(?:ly)?(?: only)?|confidential|do not (?:share|mention|forward|disclose|tell)|"
    r"off the record|not for the customer)\b",
    re.IGNORECASE,
)
_TASK_TEXT = """
summarise summarize summary document documents quote quotes passage passages purpose write draft email e-mail
use only state find list extract classify decide choose answer research rest rests say says given following
provide return describe text field fields sentence sentences word name source file file format json
"""
_TASK_WORDS = frozenset(terms(_TASK_TEXT))
"""Words of the task, not of its subject: a prompt that says "quote the passages" is not after passages."""
_AIMS = ("objective", "purpose", "goal", "aim", "question", "query", "subject", "feedback", "reason")
MAX_TEXT = 400_000
MAX_SENTENCES = 4_000


@dataclass(frozen=True)
class Passage:
    """A verbatim piece of text. document: name of the file it comes from, empty when there is none."""

    text: str
    document: str = ""
    identity: str = ""
    origin: str = ""
    order: int = 0


@dataclass(frozen=True)
class Fact:
    """A named plain value. path: where it stands in what the step sees; parent: the names beside it."""

    name: str
    value: Any
    path: str
    beside: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Sentence:
    text: str
    passage: Passage
    terms: tuple[str, ...]
    score: float = 0.0

    @property
    def spoken(self) -> str:
        """On one line."""
        return " ".join(self.text.split())

    @property
    def is_internal(self) -> bool:
        return bool(_INTERNAL.search(self.text))


@dataclass(frozen=True)
class Evidence:
    """Everything a step may use.

    material: what the agent sees, by name; results: what its tools returned, `(tool, result)`, oldest first.
    """

    passages: tuple[Passage, ...]
    facts: tuple[Fact, ...]
    records: tuple[tuple[str, Mapping[str, Any]], ...]
    question: str
    entities: tuple[str, ...]

    @classmethod
    def of(
        cls, question: str, material: Mapping[str, Any], results: Sequence[tuple[str, Any]] = ()
    ) -> Evidence:
        passages: list[Passage] = []
        facts: list[Fact] = []
        records: list[tuple[str, Mapping[str, Any]]] = []
        for tool, result in reversed(results):
            _harvest(result, tool, tool, passages, facts, records)
        for name, value in material.items():
            _harvest(value, name, name.rsplit(".", 1)[-1], passages, facts, records)
        unique: dict[tuple[str, str], Passage] = {}
        for passage in passages:
            unique.setdefault((passage.document, passage.text), passage)
        found = [
            f
            for f in facts
            if f.name in ENTITY_NAMES and isinstance(f.value, str) and 0 < len(f.value) <= 120
        ]
        found.sort(key=lambda f: ENTITY_NAMES.index(f.name))
        entities = tuple(dict.fromkeys(str(f.value) for f in found if f.name == found[0].name))
        aims = [
            f.value for f in facts if f.name in _AIMS and isinstance(f.value, str) and len(f.value) <= 500
        ]
        question = " ".join(dict.fromkeys([question, *aims]))
        return cls(tuple(unique.values()), tuple(facts), tuple(records), question, entities)

    @cached_property
    def quotable(self) -> tuple[Passage, ...]:
        """Documents where there are any; otherwise whatever text there is."""
        documents = tuple(p for p in self.passages if p.document)
        return documents or self.passages

    @cached_property
    def sentences(self) -> tuple[Sentence, ...]:
        return tuple(_sentences(self.quotable))

    def ranked(self, extra: str = "", passages: Sequence[Passage] | None = None) -> list[Sentence]:
        """Sentences that fit the question, best first, no two alike. extra: more words to look for."""
        pool = self.sentences if passages is None else tuple(_sentences(passages))
        wanted = Counter(t for t in terms(self.question) if t not in _TASK_WORDS)
        for word in terms(extra):
            wanted[word] += 0 if word in _TASK_WORDS else 1
        entity = {t for e in self.entities for t in terms(e)}
        for word in entity:
            wanted[word] = 1
        scored = _bm25(pool, wanted)
        near = {
            p.document for p in self.quotable if p.document and entity & set(terms(f"{p.document} {p.text}"))
        }
        result = []
        for sentence, score in zip(pool, scored, strict=True):
            if entity and near and sentence.passage.document not in near:
                score *= 0.3
            if entity & set(sentence.terms):
                score *= 1.15
            result.append(
                Sentence(sentence.text, sentence.passage, sentence.terms, score * _shape(sentence.text))
            )
        result.sort(key=lambda s: (-s.score, s.passage.order))
        return _distinct(result)

    def fact(self, *names: str) -> Fact | None:
        """The first fact with one of these names, the earlier name first."""
        for name in names:
            for fact in self.facts:
                if fact.name.casefold() == name.casefold() and fact.value not in (None, ""):
                    return fact
        return None


def _harvest(
    value: Any,
    path: str,
    name: str,
    passages: list[Passage],
    facts: list[Fact],
    records: list[tuple[str, Mapping[str, Any]]],
) -> None:
    if isinstance(value, Mapping):
        if set(value) >= _FILE_KEYS:
            facts.append(Fact(name, value, path))
            return
        quoted = next((n for n in QUOTE_NAMES if isinstance(value.get(n), str) and value[n].strip()), None)
        source = next((n for n in SOURCE_NAMES if isinstance(value.get(n), str) and value[n].strip()), None)
        records.append((path, value))
        if quoted and source and quoted != source:
            identity = value.get("document") if isinstance(value.get("document"), str) else value.get("id")
            passages.append(
                Passage(
                    value[quoted][:MAX_TEXT],
                    value[source],
                    str(identity or value[source]),
                    path,
                    len(passages),
                )
            )
            facts += [
                Fact(k, v, f"{path}.{k}")
                for k, v in value.items()
                if k != quoted and not isinstance(v, (dict, list))
            ]
            return
        beside = frozenset(str(k) for k in value)
        for key, part in value.items():
            if isinstance(part, (Mapping, list, tuple)):
                if isinstance(part, (list, tuple)):
                    facts.append(Fact(str(key), part, f"{path}.{key}", beside))
                _harvest(part, f"{path}.{key}", str(key), passages, facts, records)
            else:
                facts.append(Fact(str(key), part, f"{path}.{key}", beside))
                _text(part, f"{path}.{key}", passages)
    elif isinstance(value, (list, tuple)):
        for part in value:
            _harvest(part, path, name, passages, facts, records)
    else:
        facts.append(Fact(name, value, path))
        _text(value, path, passages)


def _text(value: Any, path: str, passages: list[Passage]) -> None:
    if isinstance(value, str) and len(words(value)) >= 4:
        passages.append(Passage(value[:MAX_TEXT], "", "", path, len(passages)))


def _sentences(passages: Sequence[Passage]) -> Iterator[Sentence]:
    count = 0
    for passage in passages:
        for start, end in sentences(passage.text):
            text = passage.text[start:end]
            if not 3 <= len(words(text)) <= 70 or _STEERS.search(text):
                continue
            yield Sentence(text, passage, tuple(terms(text)))
            count += 1
            if count >= MAX_SENTENCES:
                return


def _bm25(
    pool: Sequence[Sentence], wanted: Mapping[str, int], k1: float = 1.2, b: float = 0.5
) -> list[float]:
    """Scores of sentences. Source: S. Robertson, H. Zaragoza, The Probabilistic Relevance Framework, 2009."""
    if not pool:
        return []
    frequency = Counter(t for s in pool for t in set(s.terms) if t in wanted)
    average = sum(len(s.terms) for s in pool) / len(pool) or 1.0
    scores = []
    for sentence in pool:
        counts = Counter(t for t in sentence.terms if t in wanted)
        length = k1 * (1 - b + b * len(sentence.terms) / average)
        score = 0.0
        for term, count in counts.items():
            rarity = math.log(1 + (len(pool) - frequency[term] + 0.5) / (frequency[term] + 0.5))
            score += rarity * min(wanted[term], 4) * count * (k1 + 1) / (count + length)
        # A small share for every content word: without any match the fullest sentences still come first.
        scores.append(score + 0.01 * min(len(sentence.terms), 15))
    return scores


def _shape(text: str) -> float:
    """Whole sentences before headings, table rows and fragments that lean on what stood before."""
    count = len(words(text))
    factor = 1.0 if text.rstrip("\"'”’)").endswith((".", "!", "…")) else 0.5
    if text.endswith("?"):
        factor = 0.4
    capitals = sum(1 for w in re.findall(r"[^\W\d_]{2,}", text) if w[0].isupper())
    if capitals > 0.6 * count:
        factor *= 0.3  # a list of names
    if count < 5:
        factor *= 0.4
    if text.count("|") + text.count(";") > 2 or text.count(",") > max(4, count / 3):
        factor *= 0.5
    if re.match(r"(?:it|this|that|these|those|he|she|they)\b", text, re.IGNORECASE):
        factor *= 0.8
    return factor


def _distinct(ranked: Sequence[Sentence]) -> list[Sentence]:
    kept: list[Sentence] = []
    seen: set[str] = set()
    for sentence in ranked:
        key = normal(sentence.text)
        own = set(sentence.terms)
        if key in seen or any(
            len(own & set(k.terms)) > 0.8 * max(1, len(own | set(k.terms))) for k in kept[:12]
        ):
            continue
        seen.add(key)
        kept.append(sentence)
        if len(kept) >= 200:
            break
    return kept
