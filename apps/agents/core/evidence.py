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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from apps.runs.core.text import is_record, normal, sentences, terms, words

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
_ABOUT_A_SEARCH = frozenset({"query", "notes", "note", "documents", "searched"})
_ABOUT_A_CALL = frozenset({"messages", "warnings", "hints"})
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
_FOR_READERS = re.compile(
    r"\b(?:talking points?|for customers?|approved (?:text|wording|statements?)|customer facing)\b"
)
_NOTES = re.compile(
    r"\b(?:notes?|minutes|memo|internal|profile|tickets?|crm|intern|notiz(?:en)?|protokoll|vermerk)\b"
)
_NOTES_BEGIN = re.compile(r"\W{0,4}(?:call|meeting|visit|internal) (?:notes|minutes)\b", re.IGNORECASE)
_TASK_TEXT = """
summarise summarize summary document documents quote quotes passage passages purpose write draft email e-mail
use only state find list extract classify decide choose answer research rest rests say says given following
provide return describe text field fields sentence sentences word name source file file format json
"""
_TASK_WORDS = frozenset(terms(_TASK_TEXT))
"""Words of the task, not of its subject: a prompt that says "quote the passages" is not after passages."""
_GENERIC_TEXT = """
inc ltd llc plc gmbh ag sa co corp company group holding holdings bank foods labs laboratories logistics
software systems services solutions international global partners technologies technology industries
consulting limited brothers sons and the dairy energy media health capital trading traders
"""
_GENERIC = frozenset(terms(_GENERIC_TEXT))
"""Words many companies share in their names."""
_AIMS = ("objective", "purpose", "goal", "aim", "question", "query", "subject", "feedback", "reason")
MAX_TEXT = 400_000
MAX_SENTENCES = 2_000


@dataclass(frozen=True)
class Passage:
    """A verbatim piece of text. document: name of the file it comes from, empty when there is none."""

    text: str
    document: str = ""
    identity: str = ""
    origin: str = ""
    order: int = 0

    @property
    def is_for_readers(self) -> bool:
        """Whether its document says, by its name, that it was written to be told to customers."""
        return bool(_FOR_READERS.search(_apart(self.document)))

    @property
    def is_notes(self) -> bool:
        """Whether it was written for colleagues: notes of a call, minutes, an account profile."""
        return bool(_NOTES.search(_apart(self.document)) or _NOTES_BEGIN.match(self.text))


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
    shape: float = 1.0
    """Below one for what is no whole sentence; see `_shape`."""
    is_record: bool = False
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
        if passages is not None:
            return self._rank(extra, tuple(_sentences(passages)))
        if extra not in self._ranked:
            self._ranked[extra] = self._rank(extra, self.sentences)
        return self._ranked[extra]

    @cached_property
    def _ranked(self) -> dict[str, list[Sentence]]:
        return {}

    @cached_property
    def _entity(self) -> frozenset[str]:
        """What tells the entity from others: `Quillfeather` of "Quillfeather Logistics Ltd"."""
        whole = frozenset(t for e in self.entities for t in terms(e))
        return whole - _GENERIC or whole

    @cached_property
    def _about(self) -> frozenset[Passage]:
        """Passages that name the entity."""
        return frozenset(p for p in self.quotable if self._entity & set(terms(p.text)))

    @cached_property
    def _near(self) -> frozenset[str]:
        """Documents that name the entity, in their text or as their name."""
        named = {p.document for p in self.quotable if self._entity & set(terms(re.sub("_", " ", p.document)))}
        return frozenset(d for d in {p.document for p in self._about} | named if d)

    def _rank(self, extra: str, pool: Sequence[Sentence]) -> list[Sentence]:
        wanted = Counter(t for t in terms(self.question) if t not in _TASK_WORDS)
        for word in terms(extra):
            wanted[word] += 0 if word in _TASK_WORDS else 1
        entity = self._entity
        for word in entity:
            wanted[word] = 1
        scored = _bm25(pool, wanted)
        best = max(scored, default=0.0)
        result = []
        for sentence, score in zip(pool, scored, strict=True):
            if entity and self._near and sentence.passage.document not in self._near:
                score *= 0.3
            if entity & set(sentence.terms):
                score *= 1.15
            elif self._near and sentence.is_record:
                continue  # a table row that names somebody else
            elif entity and sentence.passage in self._about:
                score += 0.25 * best  # what stands beside the name is most likely about it
            result.append(replace(sentence, score=score * sentence.shape))
        result.sort(key=lambda s: (-s.score, s.passage.order))
        return _distinct(result)

    def fact(self, *names: str) -> Fact | None:
        """The first fact with one of these names, the earlier name first."""
        for name in names:
            for fact in self.facts:
                if fact.name.casefold() == name.casefold() and fact.value not in (None, ""):
                    return fact
        return None


def _apart(name: str) -> str:
    """The words of a file name: `call_notes_2026-03-12.txt` → `call notes 2026 03 12 txt`."""
    return re.sub(r"[\W_]+", " ", name).casefold()


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
        if isinstance(value.get("passages"), (list, tuple)):
            # What a search says about itself (its query, its notes) is no evidence for anything.
            value = {k: v for k, v in value.items() if k not in _ABOUT_A_SEARCH}
        elif {"found", "matched", "history"} <= beside:
            value = {k: v for k, v in value.items() if k != "notes"}  # the same, of the CRM
        for key, part in value.items():
            if key in _ABOUT_A_CALL:
                continue
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
            yield Sentence(text, passage, tuple(terms(text)), _shape(text), is_record(text))
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
