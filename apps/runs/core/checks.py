"""The checks that need no person and no model: is a text supported by its sources, does a value fit a schema.

`grounded` works sentence by sentence. A sentence is supported when a source says it word for word, or when
two neighbouring sentences of one source hold most of its content words, all of its numbers and dates, and the
same negation, and the source holds all of its names. Greetings, closings, politeness and questions that state
no number and no unknown name are not claims.

Limits, on purpose: it compares words, so an honest paraphrase in other words fails (ask a person), and a
sentence that swaps the roles of two named parties passes. It never guesses in favour of a number or a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from typing import Any

from jsonschema import ValidationError

from apps.blueprints.core.patterns import validator_of
from apps.runs.core.text import NEGATIONS, STOP, normal, sentences, stem, terms, words

LEAST_OVERLAP = 0.6
"""Share of a sentence's content words that one place in the sources must hold."""


@dataclass(frozen=True)
class CheckResult:
    """passed; score from 0 to 1; detail: one sentence for people; unsupported: the sentences at fault."""

    passed: bool
    score: float
    detail: str
    unsupported: Sequence[str] = ()
    applies: bool = True
    """False: there was nothing to check. A check step still fails then; a criterion counts as not checked."""


def check_schema(value: Any, schema: Mapping[str, Any]) -> CheckResult:
    """Say whether a value fits a JSON Schema (draft 2020-12); the detail names every place that does not."""
    errors = schema_problems(value, schema)
    if not errors:
        return CheckResult(True, 1.0, "The value fits the schema.")
    return CheckResult(False, 0.0, "; ".join(errors[:10]), tuple(errors))


def schema_problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    """Every way in which a value does not fit, `path: problem`; a broken schema is a problem too."""
    try:
        found = sorted(
            validator_of(schema).iter_errors(value),
            key=lambda e: [str(p) for p in e.absolute_path],
        )
    except Exception as exc:
        return [f"schema: it cannot be used ({_why(exc)})"]
    return [f"{'.'.join(str(p) for p in e.absolute_path) or 'value'}: {e.message[:300]}" for e in found]


def field_problems(value: Any, schema: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a value somebody gave, one sentence by dotted path (`body` for the whole of it)."""
    problems: dict[str, str] = {}
    try:
        for error in validator_of(schema).iter_errors(value):
            path = ".".join(str(p) for p in error.absolute_path)
            if error.validator == "required" and isinstance(error.instance, Mapping):
                for name in error.validator_value:
                    if name not in error.instance:
                        problems.setdefault(f"{path}.{name}".lstrip("."), "It is missing.")
                continue
            problems.setdefault(path or "body", words_for(error))
    except Exception as exc:
        return {"body": f"The schema of it cannot be used ({_why(exc)})."}
    return problems


def _why(exc: Exception) -> str:
    """What is wrong with a schema. The library meets it in many ways (no text, a division by zero, too deep),
    and none of them may keep a run from its end."""
    return (str(exc).strip() or type(exc).__name__).splitlines()[0][:200]


EMAIL_WORDS = "Write an e-mail address such as ann@example.com."
_EMAIL_PATTERNS = ("[^@", "@[^", "\\S+@")
_TYPE_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "yes or no (true or false)",
    "array": "a list",
    "object": "an object",
    "null": "nothing",
}


def words_for(error: ValidationError) -> str:
    """What to do about a value that does not fit, as one sentence for somebody who knows no JSON Schema.

    A schema may say it itself, in `x-message`, of the value's own schema or of one around the rule.
    """
    schema = error.schema if isinstance(error.schema, Mapping) else {}
    if isinstance(own := schema.get("x-message"), str) and own.strip():
        return own.strip()
    rule = str(error.validator)
    wanted: Any = error.validator_value
    value: Any = error.instance
    match rule:
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else list(wanted)
            return f"Give {' or '.join(_TYPE_WORDS.get(str(k), str(k)) for k in kinds)}."
        case "enum":
            return "Choose one of " + ", ".join(_shown(v) for v in wanted) + "."
        case "const":
            return f"It must be {_shown(wanted)}."
        case "minLength":
            return "Write something here." if wanted == 1 else f"Write at least {wanted} characters."
        case "maxLength":
            return f"Write at most {wanted} characters; there are {len(value)}."
        case "minItems":
            return f"Give at least {wanted} {'entry' if wanted == 1 else 'entries'}."
        case "maxItems":
            return f"Give at most {wanted} {'entry' if wanted == 1 else 'entries'}; there are {len(value)}."
        case "minimum":
            return f"Give a number of at least {wanted}."
        case "maximum":
            return f"Give a number of at most {wanted}."
        case "exclusiveMinimum":
            return f"Give a number above {wanted}."
        case "exclusiveMaximum":
            return f"Give a number below {wanted}."
        case "pattern" | "format":
            return _form_words(schema, rule, str(wanted))
        case "anyOf" | "oneOf" if error.context:
            # Of the choices, the one of the value's own type; its first problem says most.
            near = [e for e in error.context if e.validator != "type"] or list(error.context)
            return words_for(near[0])
        case "additionalProperties" if isinstance(value, Mapping):
            known = schema.get("properties") or {}
            extra = ", ".join(f'"{k}"' for k in value if k not in known)
            listed = f"; known are: {', '.join(known)}" if known else ""
            return f"{extra} is not known here{listed}."
    text = str(error.message)
    return (text[:299] + "…" if len(text) > 300 else text.rstrip(".")) + "."


def _form_words(schema: Mapping[str, Any], rule: str, wanted: str) -> str:
    """A pattern or a format in words: what is known, else what the schema's author wrote about the field."""
    if schema.get("format") == "email" or wanted == "email":
        return EMAIL_WORDS
    if rule == "pattern" and "@" in wanted and any(part in wanted for part in _EMAIL_PATTERNS):
        may_be_empty = re.search(wanted, "") is not None
        return EMAIL_WORDS[:-1] + ", or leave it empty." if may_be_empty else EMAIL_WORDS
    about = str(schema.get("description") or schema.get("title") or "").strip()
    if about:
        return f"It has another form than expected: {about.rstrip('.')}."
    if rule == "format":
        known = {"date": "a date such as 2026-04-30", "date-time": "a time such as 2026-04-30T09:00:00Z"}
        return f"Write {known.get(wanted, f'it as {wanted}')}."
    return f"It does not have the expected form ({wanted[:120]})."


def _shown(value: Any) -> str:
    return str(value) if not isinstance(value, str) else f'"{value}"'


def grounded(claim: str, sources: Sequence[Any]) -> CheckResult:
    """Say whether every factual sentence of a text is supported by the sources.

    sources: texts, or objects such as {document, quote} whose texts and numbers all count.
    An empty claim fails: there is nothing that could be supported.
    """
    if not claim.strip():
        return CheckResult(False, 0.0, "There is no text to check.", applies=False)
    places = [_Source.of(text) for source in sources for text in _texts(source)]
    vocabulary = frozenset().union(*(p.vocabulary for p in places)) if places else frozenset()
    factual, unsupported = 0, []
    for sentence in _claims(claim, vocabulary):
        factual += 1
        if not _supported(sentence, places):
            unsupported.append(sentence)
    if not factual:
        return CheckResult(True, 1.0, "The text claims no facts.")
    score = (factual - len(unsupported)) / factual
    if unsupported:
        shown = "; ".join(f'"{s[:160]}"' for s in unsupported[:3])
        detail = (
            f"{len(unsupported)} of {factual} factual sentences are not supported by the sources: {shown}"
        )
        return CheckResult(False, score, detail, tuple(unsupported))
    return CheckResult(True, 1.0, f"All {factual} factual sentences are supported by the sources.")


def _supported(sentence: str, places: Sequence[_Source]) -> bool:
    """By one source; or, where a full stop was taken for an abbreviation's, part by part."""
    if any(p.supports(sentence) for p in places):
        return True
    parts = [part for part in re.split(r"(?<=[.!?])\s+", sentence) if words(part)]
    return len(parts) > 1 and all(any(p.supports(part) for p in places) for part in parts)


# --- sources ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Window:
    stems: frozenset[str]
    numbers: frozenset[str]
    negated: bool


@dataclass(frozen=True)
class _Source:
    text: str
    vocabulary: frozenset[str]
    windows: tuple[_Window, ...]

    @classmethod
    def of(cls, text: str) -> _Source:
        parts = [text[a:b] for a, b in sentences(text)]
        single = [_Window(_content(p), numbers(p), _negated(p)) for p in parts]
        pairs = [
            _Window(a.stems | b.stems, a.numbers | b.numbers, a.negated or b.negated)
            for a, b in pairwise(single)
        ]
        return cls(_spoken(text), frozenset(_vocabulary(text)), (*single, *pairs))

    def supports(self, sentence: str) -> bool:
        """Verbatim, or enough of it in one place."""
        rest, quotes = sentence, False
        for quoted in _QUOTED.findall(sentence):
            if len(words(quoted)) >= 3:
                if _spoken(quoted) not in self.text:
                    return False
                rest, quotes = rest.replace(quoted, " "), True
        wanted, names = _content(rest), _names(rest)
        if quotes and len(wanted) < 3 and not numbers(rest) and not names:
            return True
        if self._says(rest):
            return True
        if not wanted or not {_bare(n) for n in names} <= self.vocabulary:
            return False
        needed, negated = numbers(rest), _negated(rest)
        return any(
            len(wanted & w.stems) >= LEAST_OVERLAP * len(wanted)
            and needed <= w.numbers
            and negated == w.negated
            for w in self.windows
        )

    def _says(self, sentence: str) -> bool:
        """Word for word; a cut that loses the `not` around it is no quotation."""
        said = _spoken(sentence)
        if len(said.split()) < 3 or not re.search(rf"(?<!\w){re.escape(said)}(?!\w)", self.text):
            return False
        wanted, negated = _content(sentence), _negated(sentence)
        around = [w for w in self.windows if wanted <= w.stems]
        return not around or any(w.negated == negated for w in around)


def _content(text: str) -> frozenset[str]:
    """Content words; numbers, dates and units are compared by value instead."""
    return frozenset(t for t in terms(_NUMBER.sub(" ", _without_dates(text))) if not t[0].isdigit())


def _without_dates(text: str) -> str:
    for pattern in _DATES:
        text = pattern.sub(" ", text)
    return text


def _texts(source: Any) -> Iterator[str]:
    """Texts of a source; an object's fields also count as one text, and support a sentence together."""
    if isinstance(source, str):
        yield source
    elif isinstance(source, Mapping):
        long = [v for v in source.values() if isinstance(v, str) and len(v) > 40]
        yield from long
        yield "; ".join(f"{k}: {v}" for k, v in _leaves(source))
    elif isinstance(source, (list, tuple)):
        for item in source:
            yield from _texts(item)
    elif source is not None:
        yield str(source)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, str(key))
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part, name)
    elif value is not None:
        yield name, str(value)


def _spoken(text: str) -> str:
    """What is compared word for word: no quotation marks, bullets or end marks."""
    return re.sub(r"[\"*#|>]", " ", normal(text)).strip(" .!?:;,-").replace("  ", " ")


def _vocabulary(text: str) -> Iterator[str]:
    for word in words(text):
        yield _bare(word)
        yield from (part for part in re.split(r"[-.']", word) if part)


def _bare(word: str) -> str:
    return word.casefold().replace("’", "'").removesuffix("'s").rstrip("'.")


# --- claims -----------------------------------------------------------------------------------------------

_QUOTED = re.compile(r'["“]([^"“”]{3,})["”]')
_GREETING = re.compile(
    r"^(?:dear|hello|hi|hey|greetings|good (?:morning|afternoon|evening|day))\b", re.IGNORECASE
)
_CLOSING = re.compile(
    r"^(?:(?:with )?(?:kind|best|warm|many)?\s*(?:regards|wishes|thanks)|(?:yours )?sincerely|"
    r"yours (?:truly|faithfully)|all the best|best|cheers|thank you|thanks|cordially|respectfully)[\s,.!]*$",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"^(?:i (?:am|was) writing|i'm writing|(?:i|we) (?:hope|wanted|want|would|wish|look|appreciate|remain)\b|"
    r"(?:i|we)'d\b|please\b|let (?:me|us) know|looking forward|thank(?:s| you)|feel free|"
    r"if (?:you|this|that|any|it)\b|"
    r"(?:i am|i'm|we are|we're) (?:happy|glad|looking|available|reaching|at your|following)|"
    r"(?:these|this|here|below|following|the following) (?:is|are|points|follows)\b|happy to|do not hesitate|"
    r"(?:just )?reply\b|tell me|(?:it|this) would be)",
    re.IGNORECASE,
)
_POLITE_TEXT = """
write writing follow following hope glad happy talk call week day today tomorrow hear discuss
next step steps conversation meet meeting time suit suits convenient question questions help
reply let know look looking forward share send sent email e-mail mail message thank thanks
interest please point points summary note notes want wanted like would well find finds kind
opportunity chance available hesitate contact reach reaching answer minute minutes brief short
quick front us work works worked further information details detail need needs feel free
anything something thoughts feedback soon good great best correct right still matters matter
most important moment see confirm connect regards wish wishes regarding learned read understand
tell wrong out date come back
"""
_POLITE_WORDS = frozenset(stem(w) for w in _POLITE_TEXT.split())
_CLAUSE = re.compile(
    r"\b(?:that|because|since|have|has|had|is|are|was|were|will|can|note|our|as)\b", re.IGNORECASE
)


def _claims(text: str, vocabulary: frozenset[str]) -> Iterator[str]:
    """The sentences that state something."""
    closing = False
    for start, end in sentences(text):
        sentence = text[start:end].strip()
        count = len(words(sentence))
        if not count:
            continue
        if _CLOSING.match(sentence):
            closing = True
            continue
        plain = not numbers(sentence)
        if closing and plain and count <= 6 and not sentence.endswith((".", "!")):
            continue  # the signature
        closing = False
        if _GREETING.match(sentence) and plain and count <= 8:
            continue
        known = all(_bare(n) in vocabulary for n in _names(sentence))
        if plain and known and (sentence.endswith("?") or _is_polite(sentence, count)):
            continue
        yield sentence


def _is_polite(sentence: str, count: int) -> bool:
    """Says nothing that could be wrong. "Please note that …" is not polite: what follows it is a claim."""
    new = {t for t in terms(sentence) if t not in _POLITE_WORDS}
    if sentence.endswith(":"):
        return count <= 15 and len(new) <= 3
    match = _POLITE.match(sentence)
    if match is None:
        return False
    return len(new) <= (0 if _CLAUSE.search(sentence, match.end()) else 2)


def _negated(text: str) -> bool:
    return any(w in NEGATIONS or w.endswith("n't") for w in words(text))


_NAME = re.compile(r"[^\W_]+(?:['’\-&.][^\W_]+)*")
_NOT_NAMES = frozenset(["i", "i'm", "i'd", "i've", "i'll", "ok"])


def _names(text: str) -> list[str]:
    """Words that look like names: with a capital; a sentence.s first word only when shouted or paired."""
    found: list[str] = []
    text = _NUMBER.sub(" ", _without_dates(text))
    matches = list(_NAME.finditer(text))
    for index, match in enumerate(matches):
        word = match.group()
        if word.casefold().replace("’", "'") in _NOT_NAMES or not any(c.isupper() for c in word):
            continue
        first = index == 0 or text[: match.start()].rstrip(" \"“'(").endswith((".", "!", "?", ":"))
        shouted = len(word) > 1 and any(c.isupper() for c in word[1:])
        paired = (
            index + 1 < len(matches)
            and matches[index + 1].group()[:1].isupper()
            and text[match.end() : matches[index + 1].start()] == " "
        )
        common = word.casefold() in STOP
        if shouted or (not first and not common) or (first and paired and not common):
            found.append(word)
    return found


# --- numbers and dates ------------------------------------------------------------------------------------

_MONTH_NAMES = """
january february march april may june july august september october november december
"""
_MONTHS = {m: i for i, m in enumerate(_MONTH_NAMES.split(), 1)}
_MONTHS |= {m[:3]: i for m, i in list(_MONTHS.items())} | {"sept": 9}
_MONTH = r"(?P<{0}>" + "|".join(sorted(_MONTHS, key=len, reverse=True)) + r")\.?"
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})\b"),
    re.compile(
        r"\b(?P<d>\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?" + _MONTH.format("n") + r",?\s+(?P<y>\d{4})\b", re.I
    ),
    re.compile(r"\b" + _MONTH.format("n") + r"\s+(?P<d>\d{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>\d{4})\b", re.I),
)
_NUMBER = re.compile(
    r"(?P<before>[$€£¥]|\b(?:usd|eur|gbp|chf)\s?)?\s?"
    r"(?P<value>\d{1,3}(?:[.,\u00a0'’ ]\d{3})+(?:\.\d+)?(?!\d)|\d+(?:[.,]\d+)?)"
    r"(?:st|nd|rd|th)?\s?(?P<after>%|percent\b|per cent\b|€|\$|£|(?:usd|eur|gbp|chf|dollars?|euros?)\b)?"
    r"(?:\s?(?P<scale>k|thousand|m|mn|million|bn|billion)\b)?",
    re.IGNORECASE,
)
_SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "bn": 9, "billion": 9}
_UNITS = {
    "%": "%", "percent": "%", "per cent": "%",
    "$": "$", "usd": "$", "dollar": "$", "dollars": "$",
    "€": "€", "eur": "€", "euro": "€", "euros": "€",
    "£": "£", "gbp": "£", "chf": "chf", "¥": "¥",
}  # fmt: skip
_NUMBER_NAMES = """
two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
"""
_SPELLED = {w: i for i, w in enumerate(_NUMBER_NAMES.split(), 2)}
_SPELLED |= {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "hundred": 100, "dozen": 12}


def numbers(text: str) -> frozenset[str]:
    """Numbers, amounts and dates in one spelling: `1,200.50 USD` → `1200.5 $` and `1200.5`; dates as ISO.

    An amount is also listed without its unit, so that a claim may leave the unit out but never change it.
    """
    found: set[str] = set()
    for pattern in _DATES:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = int(parts["m"]) if parts.get("m") else _MONTHS[parts["n"].casefold()]
            try:
                found.add(date(int(parts["y"]), month, int(parts["d"])).isoformat())
            except ValueError:
                continue
        text = pattern.sub(" ", text)
    for match in _NUMBER.finditer(text):
        before = text[match.start("value") - 1 : match.start("value")]
        if before.isalpha() or before == "_":
            continue  # part of a word such as v2 or B2B: a name, not a number
        value = _decimal(match["value"])
        if value is None:
            continue
        if match["scale"]:
            value = value.scaleb(_SCALES[match["scale"].casefold()])
        shown = format(value.normalize(), "f")
        unit = _UNITS.get((match["before"] or match["after"] or "").strip().casefold(), "")
        found.add(f"{shown} {unit}".strip())
        found.add(shown)
    found |= {str(_SPELLED[w]) for w in words(text) if w in _SPELLED}
    return frozenset(found)


def _decimal(text: str) -> Decimal | None:
    text = re.sub(r"[\u00a0'’ ]", "", text)
    if re.fullmatch(r"\d{1,3}(?:[.,]\d{3})+(?:\.\d+)?", text) and not re.fullmatch(r"\d{1,3}\.\d{3}", text):
        text = text.replace(",", "") if "," in text else text.replace(".", "")
    try:
        return Decimal(text.replace(",", "."))
    except InvalidOperation:
        return None
