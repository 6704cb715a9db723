"""Fill a JSON Schema from evidence: copy, quote, extract, classify. What has no evidence stays out.

What a field gets is decided by its name and type, in this order: a fact of the same name; for objects with a
subject and a body an e-mail of fixed phrases around quoted sentences; for lists of quotations the passages
themselves; enumerations by the words they share with the evidence; dates, numbers and addresses by
extraction; other texts by quoting the sentences that rank first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.agents.core.evidence import QUOTE_NAMES, SOURCE_NAMES, Evidence, Passage, Sentence
from apps.blueprints.core.patterns import validator_of
from apps.runs.core.checks import numbers
from apps.runs.core.text import NEGATIONS, terms, words


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()
"""No evidence: not null, not empty, nothing."""

_SUMMARIES = (
    "summary",
    "overview",
    "findings",
    "answer",
    "report",
    "background",
    "analysis",
    "result",
    "description",
)
_SHORT_TEXTS = (
    "reason",
    "rationale",
    "explanation",
    "quote",
    "headline",
    "comment",
    "justification",
    *QUOTE_NAMES,
)
_ADDRESSES = ("to", "recipient", "email", "e_mail", "contact_email", "address", "mail")
_PEOPLE = ("contact_name", "contact", "recipient_name", "full_name", "first_name", "person", "name")
_NEUTRAL = ("unknown", "other", "none", "unclear", "undecided", "not_stated", "neutral")
_EMAIL = re.compile(r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9\-]+(?:\.[A-Za-z0-9\-]+)+")
_URL = re.compile(r"https?://[^\s)>\]\"']+")
_NUMBER = re.compile(
    r"(?<![\w.,])[-+]?(?:\d{1,3}(?:[,\u00a0 ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)(?![\w])(?!-\d)"
)
_VAGUE = frozenset(terms("date number amount value total email address count many much how"))
DEFAULT_ITEMS = 5
LEAST_SCORE = 0.2
"""Of the best sentence's score; what fits less is not worth quoting."""
MAX_DEPTH = 8


@dataclass(frozen=True)
class Filled:
    """value: fits the schema when nothing is missing. missing: paths of required fields without evidence."""

    value: Any
    missing: tuple[str, ...] = ()


def fill(schema: Mapping[str, Any], evidence: Evidence) -> Filled:
    """Fill a schema. The value is partial when a required field has no evidence."""
    composer = _Composer(schema, evidence)
    value = composer.value(schema, "", ())
    missing = tuple(dict.fromkeys(composer.missing))
    if isinstance(value, _Missing):
        return Filled(None, missing or ("the answer",))
    return Filled(value, missing)


@dataclass(frozen=True)
class Draft:
    greeting: str
    opening: str
    points: tuple[str, ...]
    question: str
    closing: str
    subject: str

    def body(self, *, with_greeting: bool = True, with_closing: bool = True) -> str:
        parts = [self.greeting] if with_greeting else []
        parts += [self.opening, "\n".join(f"- {p}" for p in self.points), self.question]
        parts += [self.closing] if with_closing else []
        return "\n\n".join(p for p in parts if p)


def draft_email(evidence: Evidence, extra: str = "", count: int = 3) -> Draft | None:
    """An e-mail of fixed phrases and quoted sentences only, or None when there is nothing to quote.

    What was written for customers goes first. What was written about the reader (internal notes, reported
    speech, sentences with the reader's name) is quoted only when there is nothing else.
    """
    ranked = [s for s in evidence.ranked(extra) if not s.is_internal and len(words(s.text)) <= 45]
    whole = [s for s in _whole(ranked) if s.score >= LEAST_SCORE * ranked[0].score]
    person = _person(evidence)
    told = [s for s in whole if s.passage.is_for_readers][: count + 1]
    told.sort(key=lambda s: (s.passage.order, s.passage.text.find(s.text)))
    apt = [s for s in whole if s not in told and not s.passage.is_notes and not _is_about(s, person)]
    chosen = ([*told, *apt] or whole)[: max(count, len(told))]
    if not chosen:
        return None
    about = evidence.fact("objective", "purpose", "topic", "subject")
    company = evidence.entities[0] if evidence.entities else ""
    aim = _topic(str(about.value)) if about else ""
    subject = ": ".join(p for p in (company or ("Follow-up" if not aim else ""), aim) if p)
    sender = evidence.fact("sender", "signature")
    signature = "\n".join(line.strip() for line in str(sender.value).splitlines()) if sender else ""
    return Draft(
        greeting=f"Dear {person}," if person else "Hello,",
        opening="I am writing to follow up with you. These are the points in front of me:",
        points=tuple(_quoted(s) for s in chosen),
        question="Is this still right, and which point matters most to you at the moment? "
        "I would be glad to hear from you.",
        closing=f"Kind regards\n{signature}".strip(),
        subject=subject if aim else f"Follow-up: {company}" if company else "Follow-up",
    )


def change_note(evidence: Evidence) -> str:
    """What a person must know who asked the offline model for a change; empty when nobody did."""
    asked = evidence.fact("feedback")
    if asked is None or not str(asked.value).strip():
        return ""
    return (
        "The offline model cannot follow requests in words: it only looks for sentences that share words "
        "with yours. Edit the text yourself, or connect a model."
    )


def _topic(aim: str) -> str:
    """What an e-mail is about, of the sender's aim: `Follow up on the pilot` → `The pilot`."""
    aim = " ".join(aim.split())
    topic = re.sub(r"^follow(?:ing)?[- ]?up (?:on|about|to|with regard to) (?=\S)", "", aim, flags=re.I)
    return topic[:1].upper() + topic[1:] if topic != aim else aim


_REPORTED = re.compile(
    r"\b(?:asked (?:for|whether|if|her|him|us|about)|(?:said|says|told us|mentioned|wants|liked) that|"
    r"still needs?|is (?:content|annoyed|unhappy)|no budget)\b",
    re.IGNORECASE,
)


def _is_about(sentence: Sentence, person: str) -> bool:
    """Whether a sentence speaks of the reader, or of what somebody asked for, to a third party."""
    spoken = set(words(sentence.text))
    named = any(w in spoken for w in words(person) if len(w) > 2)
    return named or bool(_REPORTED.search(sentence.text))


def _quoted(sentence: Sentence) -> str:
    text = sentence.spoken
    if sentence.passage.is_for_readers:
        return text  # written to be said to customers, so it is said, not cited
    return text if any(q in text for q in '"“”') else f'"{text}"'


def _person(evidence: Evidence) -> str:
    """A person's name among the facts: two to four capitalised words beside an address or a company."""
    for name in _PEOPLE:
        for fact in evidence.facts:
            value = fact.value
            if fact.name != name or not isinstance(value, str) or value in evidence.entities:
                continue
            if name == "name" and not fact.beside & {*_ADDRESSES, "company", "phone", "role"}:
                continue
            parts = value.split()
            if (
                1 <= len(parts) <= 4
                and all(p[:1].isupper() for p in parts)
                and not any(c.isdigit() for c in value)
            ):
                return value
    return ""


class _Composer:
    def __init__(self, root: Mapping[str, Any], evidence: Evidence) -> None:
        self.root = root
        self.evidence = evidence
        self.missing: list[str] = []
        self._draft: Draft | _Missing | None = MISSING
        self._seen: dict[str, float] | None = None

    # --- dispatch ---------------------------------------------------------------------------------------

    def value(self, schema: Mapping[str, Any], name: str, path: tuple[str, ...]) -> Any:
        """One value for one schema, or MISSING."""
        schema = self._resolved(schema)
        if "const" in schema:
            return schema["const"]
        choices = [c for key in ("anyOf", "oneOf") for c in schema.get(key, ()) if isinstance(c, Mapping)]
        if choices and all("const" in c for c in choices):
            return self._classify(
                [
                    (c["const"], f"{c['const']} {c.get('title', '')} {c.get('description', '')}")
                    for c in choices
                ],
                schema,
                name,
            )
        if choices:
            for choice in choices:
                if choice.get("type") != "null":
                    found = self.value(
                        {**choice, **{k: v for k, v in schema.items() if k == "description"}}, name, path
                    )
                    if not isinstance(found, _Missing):
                        return found
            return None if any(c.get("type") == "null" for c in choices) else MISSING
        if schema.get("enum"):
            return self._classify([(v, str(v)) for v in schema["enum"]], schema, name)
        kinds = schema.get("type")
        kinds = [kinds] if isinstance(kinds, str) else list(kinds or ())
        if not kinds:
            kinds = ["object"] if "properties" in schema else ["array"] if "items" in schema else ["string"]
        for kind in kinds:
            if kind == "null":
                continue
            found = self._typed(kind, schema, name, path)
            if not isinstance(found, _Missing):
                return found
        if "default" in schema:
            return schema["default"]
        return None if "null" in kinds else MISSING

    def _typed(self, kind: str, schema: Mapping[str, Any], name: str, path: tuple[str, ...]) -> Any:
        if kind == "object":
            return self._object(schema, name, path)
        if kind == "array":
            return self._array(schema, name, path)
        copied = self._copied(schema, kind, name)
        if not isinstance(copied, _Missing):
            return copied
        if kind == "string":
            return self._string(schema, name)
        if kind in ("number", "integer"):
            return self._number(schema, kind, name)
        if kind == "boolean":
            return self._boolean(schema, name)
        return MISSING

    def _resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        for _ in range(MAX_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str) or not reference.startswith("#/"):
                return schema
            target: Any = self.root
            for part in reference[2:].split("/"):
                target = target.get(part, {}) if isinstance(target, Mapping) else {}
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        return schema

    # --- containers -------------------------------------------------------------------------------------

    def _object(self, schema: Mapping[str, Any], name: str, path: tuple[str, ...]) -> Any:
        if len(path) > MAX_DEPTH:
            return MISSING
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        given: dict[str, Any] = {}
        for key, part in properties.items():
            found = self._email_field(key, properties) if {"subject", "body"} <= set(properties) else MISSING
            if isinstance(found, _Missing) or not _fits(found, self._resolved(part)):
                found = self.value(part, key, (*path, key))
            if isinstance(found, _Missing):
                if key in required:
                    self.missing.append(".".join((*path, key)))
                continue
            given[key] = found
        self.missing += [".".join((*path, k)) for k in required if k not in properties]
        return given if given or not required else MISSING

    def _array(self, schema: Mapping[str, Any], name: str, path: tuple[str, ...]) -> Any:
        items = self._resolved(schema.get("items") or {})
        most = schema.get("maxItems", max(DEFAULT_ITEMS, schema.get("minItems", 0)))
        found = self._items(schema, items, name, path, most)
        unique: list[Any] = []
        for item in found:
            if item not in unique:
                unique.append(item)
        if len(unique) < schema.get("minItems", 0):
            return MISSING
        return unique[:most]

    def _items(
        self, schema: Mapping[str, Any], items: Mapping[str, Any], name: str, path: tuple[str, ...], most: int
    ) -> list[Any]:
        properties = items.get("properties", {})
        if properties:
            quote = next((k for k in QUOTE_NAMES if k in properties), "")
            source = next((k for k in SOURCE_NAMES if k in properties and k != quote), "")
            if quote and (source or len(properties) == 1):
                return self._passages(schema, items, quote, most)
            copied = self._records(items, name)
            return copied if copied else self._one_per_sentence(schema, items, name, path, most)
        same = self.evidence.fact(name)
        if same and isinstance(same.value, (list, tuple)) and all(_fits(v, items) for v in same.value):
            return list(same.value)
        if items.get("enum"):
            return [v for v in items["enum"] if self._similarity(str(v), schema, name) > 0]
        if items.get("type", "string") != "string":
            return []
        if any(part in name for part in ("source", "document", "file", "reference", "citation")):
            return list(
                dict.fromkeys(s.passage.document for s in self._ranked(schema, name) if s.passage.document)
            )
        limit = items.get("maxLength")
        texts = [s.spoken for s in self._ranked(schema, name)]
        return [t for t in texts if limit is None or len(t) <= limit][:most]

    def _passages(
        self, schema: Mapping[str, Any], items: Mapping[str, Any], quote: str, most: int
    ) -> list[Any]:
        """Passages as they were found, best first, verbatim; long ones are cut to whole sentences."""
        limit = self._resolved(items["properties"][quote]).get("maxLength", 1200)
        result = []
        for passage in self._best_passages(schema):
            text = _window(passage, self._ranked(schema, ""), limit)
            item: dict[str, Any] = {}
            for key, part in items["properties"].items():
                part = self._resolved(part)
                if key == quote:
                    value: Any = text
                elif key in ("document_id", "file_id", "id"):
                    value = passage.identity
                elif key in SOURCE_NAMES and (passage.document or passage.origin):
                    value = passage.document or passage.origin
                elif part.get("enum"):
                    value = self._classify([(v, str(v)) for v in part["enum"]], part, key, text)
                else:
                    value = MISSING
                if not isinstance(value, _Missing) and _fits(value, part):
                    item[key] = value
            if set(items.get("required", [])) <= set(item):
                result.append(item)
        return result[:most]

    def _best_passages(self, schema: Mapping[str, Any]) -> list[Passage]:
        best: dict[Passage, float] = {}
        for rank, sentence in enumerate(self._ranked(schema, "")):
            best.setdefault(sentence.passage, sentence.score - rank * 1e-6)
        return sorted(best, key=lambda p: -best[p])

    def _records(self, items: Mapping[str, Any], name: str) -> list[Any]:
        """Objects the step sees that already have the wanted fields."""
        required = set(items.get("required") or items.get("properties", {}))
        found = []
        for path, record in self.evidence.records:
            if required <= set(record):
                kept = {k: record[k] for k in items.get("properties", {}) if k in record}
                if _fits(kept, items):
                    found.append((0 if path.rsplit(".", 1)[-1] == name else 1, kept))
        found.sort(key=lambda f: f[0])
        return [kept for _, kept in found]

    def _one_per_sentence(
        self, schema: Mapping[str, Any], items: Mapping[str, Any], name: str, path: tuple[str, ...], most: int
    ) -> list[Any]:
        result = []
        for sentence in self._ranked(schema, name)[: 4 * most]:
            passage = Passage(
                sentence.text, sentence.passage.document, sentence.passage.identity, sentence.passage.origin
            )
            narrow = Evidence((passage,), (), (), f"{self.evidence.question} {name}", self.evidence.entities)
            filled = fill({**items, "$defs": self.root.get("$defs", {})}, narrow)
            if not filled.missing and _fits(filled.value, items):
                result.append(filled.value)
            if len(result) == most:
                break
        return result

    # --- plain values -----------------------------------------------------------------------------------

    def _copied(self, schema: Mapping[str, Any], kind: str, name: str) -> Any:
        names = [name]
        if kind == "string" and (name in _ADDRESSES or schema.get("format") == "email"):
            names += list(_ADDRESSES)
        for wanted in names:
            for fact in self.evidence.facts:
                if (
                    fact.name.casefold() == wanted.casefold()
                    and _is(kind, fact.value)
                    and _fits(fact.value, schema)
                ):
                    if wanted in _ADDRESSES and not _EMAIL.fullmatch(str(fact.value)):
                        continue
                    return fact.value
        return MISSING

    def _string(self, schema: Mapping[str, Any], name: str) -> Any:
        form = schema.get("format", "")
        if form in ("date", "date-time") or name.endswith(("_date", "date", "deadline", "due")):
            found = self._extracted(schema, name, _dates)
            return found if form != "date-time" or isinstance(found, _Missing) else f"{found}T00:00:00Z"
        if form == "email" or name in _ADDRESSES:
            return self._extracted(schema, name, lambda t: _EMAIL.findall(t))
        if form in ("uri", "url") or name.endswith(("url", "link", "website")):
            return self._extracted(schema, name, lambda t: [u.rstrip(".,;") for u in _URL.findall(t)])
        if schema.get("pattern"):
            pattern = schema["pattern"].removeprefix("^").removesuffix("$")
            return self._extracted(schema, name, lambda t: [m.group() for m in re.finditer(pattern, t)])
        if name in ("id", "key") or name.endswith(("_id", "_number", "_key", "_code")):
            return MISSING
        ranked = self._ranked(schema, name)
        if name in SOURCE_NAMES:
            return next((s.passage.document for s in ranked if s.passage.document), MISSING)
        most = 1 if name in _SHORT_TEXTS else 4 if name in _SUMMARIES or not name else 2
        return _joined(ranked, most, schema.get("maxLength"), schema.get("minLength", 0))

    def _number(self, schema: Mapping[str, Any], kind: str, name: str) -> Any:
        if name in ("confidence", "score", "relevance") and schema.get("maximum") in (1, 1.0):
            ranked = self._ranked(schema, "")
            asked = set(terms(self.evidence.question))
            seen = {t for s in ranked[:5] for t in s.terms}
            return round(len(asked & seen) / len(asked), 2) if asked and ranked else MISSING
        found = self._extracted(schema, name, _plain_numbers)
        if isinstance(found, _Missing):
            return MISSING
        value = float(found)
        value = int(value) if value.is_integer() else value
        return value if _is(kind, value) and _fits(value, schema) else MISSING

    def _boolean(self, schema: Mapping[str, Any], name: str) -> Any:
        asked = set(terms(f"{name.replace('_', ' ')} {schema.get('description', '')}")) - {
            "true",
            "false",
            "whether",
        }
        if not asked:
            return MISSING
        for sentence in self._ranked(schema, name)[:20]:
            if len(asked & set(sentence.terms)) >= max(1, len(asked) / 2):
                return not any(w in NEGATIONS for w in words(sentence.text))
        return MISSING

    def _classify(
        self, choices: Sequence[tuple[Any, str]], schema: Mapping[str, Any], name: str, text: str = ""
    ) -> Any:
        """The choice that shares most with the evidence; a neutral one when nothing is shared."""
        same = self.evidence.fact(name)
        if same and any(same.value == value for value, _ in choices):
            return same.value
        scored = [
            (self._similarity(label, schema, name, text), -i, v) for i, (v, label) in enumerate(choices)
        ]
        best = max(scored, default=(0.0, 0, None), key=lambda s: (s[0], s[1]))
        if best[0] > 0:
            return best[2]
        return next(
            (v for v, _ in choices if str(v).casefold() in _NEUTRAL),
            None if None in [v for v, _ in choices] else MISSING,
        )

    def _similarity(self, label: str, schema: Mapping[str, Any], name: str, text: str = "") -> float:
        """Share of a label's words that the evidence holds, the label's own frequency breaking ties."""
        own = [t for t in terms(re.sub(r"[_\-/]", " ", label)) if t not in _NEUTRAL]
        if not own:
            return 0.0
        seen = self._weights(text)
        total = 0.0
        for term in set(own):
            weight = seen.get(term, 0.0)
            if not weight and len(term) >= 5:
                weight = max((w for s, w in seen.items() if s[:5] == term[:5]), default=0.0)
            total += (1.0 + min(weight, 20.0) / 20.0) if weight else 0.0
        return float(total / len(set(own)) ** 0.5)

    def _weights(self, text: str) -> Mapping[str, float]:
        """How much each word of the evidence counts: the sentences that fit the question most."""
        if text:
            return dict.fromkeys(terms(text), 1.0)
        if self._seen is None:
            seen: dict[str, float] = {}
            ranked = self.evidence.ranked()
            best = max((s.score for s in ranked), default=0.0) or 1.0
            for sentence in ranked:
                for term in sentence.terms:
                    seen[term] = seen.get(term, 0.0) + 4.0 * sentence.score / best
            for passage in self.evidence.passages:
                for term in terms(passage.text):
                    seen.setdefault(term, 0.01)
            if not seen:
                seen = dict.fromkeys(terms(self.evidence.question), 1.0)
            self._seen = seen
        return self._seen

    def _extracted(self, schema: Mapping[str, Any], name: str, find: Any) -> Any:
        """The first find that fits the schema, in the sentences that share words with the field."""
        asked = set(terms(name.replace("_", " "))) | set(terms(schema.get("description", "")))
        asked -= _VAGUE
        ranked = self._ranked(schema, name)
        others = [p for p in self.evidence.passages if not p.document]
        ranked += [s for s in self.evidence.ranked(passages=others) if s not in ranked]
        near = [s for s in ranked if asked & set(s.terms)]
        # A number or a date means nothing away from the words it belongs to; an address stands for itself.
        own = find in (_dates, _plain_numbers) and asked
        for sentence in near if own else [*near, *ranked]:
            for found in find(sentence.text):
                value = float(found) if schema.get("type") in ("number", "integer") else found
                if schema.get("type") == "integer" and isinstance(value, float) and value.is_integer():
                    value = int(value)
                if _fits(value, schema):
                    return value
        return MISSING

    def _ranked(self, schema: Mapping[str, Any], name: str) -> list[Sentence]:
        return self.evidence.ranked(
            f"{name.replace('_', ' ')} {schema.get('description', '')}" if name else ""
        )

    def _email_field(self, key: str, properties: Mapping[str, Any]) -> Any:
        if isinstance(self._draft, _Missing):
            self._draft = draft_email(self.evidence)
        draft = self._draft
        if draft is None:
            return MISSING
        if key == "notes":
            note = change_note(self.evidence)
            return [note] if note else []
        if key == "subject":
            limit = self._resolved(properties[key]).get("maxLength", 200)
            return draft.subject[:limit]
        if key == "body":
            return draft.body(
                with_greeting="greeting" not in properties, with_closing="closing" not in properties
            )
        return {"greeting": draft.greeting, "closing": draft.closing, "opening": draft.opening}.get(
            key, MISSING
        )


def _window(passage: Passage, ranked: Sequence[Sentence], limit: int) -> str:
    """The passage, or a verbatim part of it around its best sentence."""
    if len(passage.text) <= limit:
        return passage.text
    best = next((s.text for s in ranked if s.passage == passage), passage.text[:limit])
    return best[:limit]


def _joined(ranked: Sequence[Sentence], most: int, longest: int | None, shortest: int) -> Any:
    """Whole sentences, verbatim, one after the other, in the order they stand in their documents."""
    if not ranked:
        return MISSING
    ranked = _whole(ranked)
    floor = ranked[0].score * LEAST_SCORE
    chosen: list[Sentence] = []
    length = 0
    for sentence in ranked:
        if len(chosen) == most or (sentence.score < floor and length >= shortest):
            break
        size = len(sentence.text) + 1
        if longest is not None and length + size > longest + 1:
            continue
        chosen.append(sentence)
        length += size
    chosen.sort(key=lambda s: (s.passage.order, s.passage.text.find(s.text)))
    if not chosen or length - 1 < shortest:
        return MISSING
    text = ""
    for sentence in chosen:
        # A fragment has no full stop to part it from what follows.
        ends = text.rstrip("\"'”’)").endswith((".", "!", "?", "…"))
        text += ("" if not text else " " if ends else "\n\n") + sentence.text
    return text if longest is None or len(text) <= longest else chosen[0].text


def _whole(ranked: Sequence[Sentence]) -> Sequence[Sentence]:
    """Without headings, lists of names and fragments, unless there is nothing else."""
    return [s for s in ranked if _is_whole(s.text)] or ranked


def _is_whole(text: str) -> bool:
    spoken = sum(1 for w in re.findall(r"[^\W\d_]{2,}", text) if w.islower())
    return spoken >= 3 and text.rstrip("\"'”’)").endswith((".", "!", "…", ":"))


def _dates(text: str) -> list[str]:
    return sorted(n for n in numbers(text) if re.fullmatch(r"\d{4}-\d{2}-\d{2}", n))


def _plain_numbers(text: str) -> list[str]:
    return [re.sub(r"[,\u00a0 ]", "", m.group()) for m in _NUMBER.finditer(text)]


def _is(kind: str, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str) and bool(value.strip())
    if kind == "boolean":
        return isinstance(value, bool)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _fits(value: Any, schema: Mapping[str, Any]) -> bool:
    if "$ref" in str(schema):
        return True  # judged with the whole schema at the end
    return bool(validator_of(schema).is_valid(value))
