"""Large values by reference: how a JSON value is split into a small text for a column and payloads beside it.

    {"i": 1, "text": "…a million characters…"}      what a step returned
    {"i": 1, "text": Ref}  +  one payload           what is stored; the same text again costs a reference

A string, list or object of more than `LIMIT` bytes becomes a payload of its own, named by the hash of its
content; so a large text inside an object is shared by every object that carries it on. A payload may itself
hold references.

In a column a reference reads `{"$payload": hash, "size": …, "type": …, "begins": …}`. No user's value can be
mistaken for one: a key made of dollars and `payload` gets one dollar more on its way in and loses it on its
way out.

Hashing a megabyte for every step it passes would cost more than the step. A string cannot change, so what is
known of it is found again by the object itself; a small, bounded cache keeps both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Literal

LIMIT = 8192
"""Characters of JSON up to which a value stays in its row."""
CACHE_CHARACTERS = 24_000_000
"""What the cache of one process may hold."""
CACHED_AT_MOST = 8_000_000
"""A longer payload is not cached, so that one of them does not push out all others."""
BEGINS = 120
"""Characters of a payload that its reference shows."""
MAX_DEPTH = 8
"""Levels a value is looked into for large parts; what lies deeper goes with what is around it."""
PEEK = 512
"""Values looked at for long strings before anything is encoded."""
CHUNK = 64
KEY = "$payload"
MARK = '$payload"'
_ESCAPED = re.compile(r"\$+payload")
_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class Ref:
    """Stands for a payload inside a value."""

    hash: str
    size: int
    """Bytes of the payload's text."""
    type: Literal["text", "json"]
    begins: str

    def as_json(self) -> dict[str, Any]:
        return {KEY: self.hash, "size": self.size, "type": self.type, "begins": self.begins}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A payload: what one reference stands for."""

    ref: Ref
    text: str
    """The string itself, or the JSON of an object or list."""


class Packed:
    """A value as a column holds it: its JSON text, with references where large parts were."""

    __slots__ = ("_kept", "leaves", "text")

    def __init__(self, text: str, leaves: tuple[Leaf, ...] = (), kept: Any = None) -> None:
        self.text = text
        self._kept = kept
        self.leaves = leaves
        """Every payload that `text` refers to, however deep."""

    def __repr__(self) -> str:
        return f"Packed({self.text[:80]!r}, {len(self.leaves)} payloads)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packed) and json.loads(self.text) == json.loads(other.text)

    __hash__ = None  # type: ignore[assignment]

    @property
    def value(self) -> Any:
        """The value with a `Ref` for each large part."""
        return decode(self.text)

    @property
    def shown(self) -> Any:
        """The small value as JSON, references as objects, for pages and lists."""
        return json.loads(self.text) if self._kept is None or MARK in self.text else self._kept


# --- one value in a column --------------------------------------------------------------------------------


def encode(value: Any) -> str:
    """The JSON text of a value that may hold `Ref`s. Raises TypeError, ValueError for what is not JSON."""
    try:
        text = _dumps(value)
    except TypeError:
        return _dumps(_escape(value))
    return text if MARK not in text else _dumps(_escape(value))


def decode(text: str) -> Any:
    """What `encode` was given: `Ref`s stay, users' own keys have their names again."""
    value = json.loads(text)
    return value if MARK not in text else _unescape(value)


def _escape(value: Any) -> Any:
    if isinstance(value, Ref):
        return value.as_json()
    if isinstance(value, dict):
        return {
            ("$" + k if isinstance(k, str) and _ESCAPED.fullmatch(k) else k): _escape(v)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_escape(v) for v in value]
    return value


def _unescape(value: Any) -> Any:
    if isinstance(value, dict):
        if KEY in value:
            return Ref(value[KEY], value["size"], value["type"], value["begins"])
        return {(k[1:] if _ESCAPED.fullmatch(k) else k): _unescape(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_unescape(v) for v in value]
    return value


def refs_in(value: Any) -> Iterator[Ref]:
    """Every reference of a decoded value."""
    if isinstance(value, Ref):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from refs_in(child)
    elif isinstance(value, list):
        for child in value:
            yield from refs_in(child)


def fill(value: Any, texts: Mapping[str, str]) -> Any:
    """A decoded value with each reference replaced by its payload, those inside payloads too.

    texts: by hash; a reference whose payload is not among them stays. A string comes back as the very object
    given, so that packing it again costs nothing.
    """
    if isinstance(value, Ref):
        text = texts.get(value.hash)
        if text is None:
            return value
        return text if value.type == "text" else fill(decode(text), texts)
    if isinstance(value, dict):
        return {k: fill(v, texts) for k, v in value.items()}
    if isinstance(value, list):
        return [fill(v, texts) for v in value]
    return value


def as_json(value: Any) -> Any:
    """A decoded value as plain JSON. If references are left in it they become objects, and users' own keys
    keep the dollar that sets them apart."""
    return value if next(refs_in(value), None) is None else _escape(value)


# --- packing ----------------------------------------------------------------------------------------------


def pack(value: Any) -> Packed:
    """Split a value: a small text, and the payloads it refers to. The value must be plain JSON already.

    Raises TypeError, ValueError when it is not.
    """
    leaves: dict[str, Leaf] = {}
    kept = _without_long_strings(value, leaves)
    text = encode(kept)
    if len(text) > LIMIT:
        kept, text = _shrink(kept, text, leaves, 0)
    return Packed(text, tuple(leaves.values()), kept)


def size_of(value: Any) -> int:
    """Characters of a value's JSON, to a few for each of its long strings; cheap for one large string."""
    leaves: dict[str, Leaf] = {}
    lengths: list[int] = []
    text = encode(_without_long_strings(value, leaves, lengths))
    return len(text) + sum(lengths)


def _without_long_strings(value: Any, leaves: dict[str, Leaf], lengths: list[int] | None = None) -> Any:
    """The value with its long strings replaced, as far as a quick look finds them; the common large value is
    one long text in a small object, and is then never encoded as a whole.

    lengths: only measure: a long string is left out and its length put here.
    """
    left = PEEK

    def look(item: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        kind = type(item)
        if kind is str:
            if len(item) <= LIMIT:
                return item
            if lengths is not None:
                lengths.append(len(item))
                return ""
            return _leaf(item, "text", leaves)
        if kind is dict and depth < MAX_DEPTH and len(item) <= left:
            return {k: look(v, depth + 1) for k, v in item.items()}
        if kind is list and depth < MAX_DEPTH and len(item) <= left:
            return [look(v, depth + 1) for v in item]
        return item

    return look(value, 0)


def _shrink(value: Any, text: str, leaves: dict[str, Leaf], depth: int) -> tuple[Any, str]:
    """Make a value whose JSON is too long short: its large parts first, then, if need be, itself."""
    if type(value) is str:
        ref = _leaf(value, "text", leaves)
        return ref, encode(ref)
    if depth < MAX_DEPTH:
        if type(value) is dict:
            found = _large(value.items(), leaves, depth)
            if found:
                value = {k: found.get(k, v) for k, v in value.items()}
                text = encode(value)
        elif type(value) is list:
            found = _large(enumerate(value), leaves, depth)
            if found:
                value = [found.get(i, v) for i, v in enumerate(value)]
                text = encode(value)
    if len(text) <= LIMIT:
        return value, text
    ref = _leaf(text, "json", leaves)
    return ref, encode(ref)


def _large(items: Iterable[tuple[Any, Any]], leaves: dict[str, Leaf], depth: int) -> dict[Any, Any]:
    """Replacements for the children that are too long, by key; many small ones are measured together."""
    found: dict[Any, Any] = {}
    chunk: list[tuple[Any, Any]] = []

    def measure() -> None:
        if len(chunk) > 1 and len(encode([v for _, v in chunk])) <= LIMIT:
            return
        for key, child in chunk:
            text = encode(child)
            if len(text) > LIMIT:
                found[key] = _shrink(child, text, leaves, depth + 1)[0]

    for key, child in items:
        kind = type(child)
        if kind is dict or kind is list or (kind is str and len(child) > LIMIT // 8):
            chunk.append((key, child))
            if len(chunk) == CHUNK:
                measure()
                chunk.clear()
    measure()
    return found


def _leaf(text: str, type_: Literal["text", "json"], leaves: dict[str, Leaf]) -> Ref:
    leaf = CACHE.leaf_of(text) if type_ == "text" else None
    if leaf is None:
        data = text.encode()
        found = hashlib.sha256(type_.encode() + b":")
        found.update(data)
        leaf = Leaf(Ref(found.hexdigest(), len(data), type_, text[:BEGINS]), text)
        CACHE.keep(leaf)
    leaves[leaf.ref.hash] = leaf
    return leaf.ref


class Cache:
    """Payloads this process has lately written or read, the least recently used ones dropped first."""

    def __init__(self, characters: int = CACHE_CHARACTERS) -> None:
        self._room = characters
        self._held = 0
        self._leaves: OrderedDict[str, Leaf] = OrderedDict()
        self._by_object: dict[int, Leaf] = {}
        """By the string object itself; its leaf holds it, so the number cannot be another object's."""
        self._lock = Lock()

    def leaf_of(self, text: str) -> Leaf | None:
        """What is known of this very string object, or None."""
        with self._lock:
            leaf = self._by_object.get(id(text))
            if leaf is None or leaf.text is not text:
                return None
            if leaf.ref.hash in self._leaves:
                self._leaves.move_to_end(leaf.ref.hash)
            return leaf

    def text_of(self, hash_: str) -> str | None:
        with self._lock:
            leaf = self._leaves.get(hash_)
            if leaf is None:
                return None
            self._leaves.move_to_end(hash_)
            return leaf.text

    def keep(self, leaf: Leaf) -> None:
        if len(leaf.text) > CACHED_AT_MOST:
            return
        with self._lock:
            # The newest object of a text is the one that goes on to the next step.
            self._drop(leaf.ref.hash)
            self._leaves[leaf.ref.hash] = leaf
            self._by_object[id(leaf.text)] = leaf
            self._held += len(leaf.text)
            while self._held > self._room and self._leaves:
                self._drop(next(iter(self._leaves)))

    def clear(self) -> None:
        with self._lock:
            self._leaves.clear()
            self._by_object.clear()
            self._held = 0

    def _drop(self, hash_: str) -> None:
        leaf = self._leaves.pop(hash_, None)
        if leaf is not None:
            self._by_object.pop(id(leaf.text), None)
            self._held -= len(leaf.text)


CACHE = Cache()


def texts_for(
    value: Any, load: Callable[[list[str]], Mapping[str, str]], most: int | None = None
) -> dict[str, str]:
    """The texts of every payload a decoded value needs, from the cache or by `load`, level by level.

    most: leave out payloads of more bytes. Raises KeyError for a payload that `load` does not know.
    """
    texts: dict[str, str] = {}
    wanted = [ref for ref in refs_in(value) if most is None or ref.size <= most]
    while wanted:
        missing: dict[str, Ref] = {}
        for ref in wanted:
            if ref.hash not in texts:
                known = CACHE.text_of(ref.hash)
                if known is None:
                    missing[ref.hash] = ref
                else:
                    texts[ref.hash] = known
        if missing:
            loaded = load(list(missing))
            for hash_, ref in missing.items():
                texts[hash_] = loaded[hash_]
                CACHE.keep(Leaf(ref, loaded[hash_]))
        wanted = [
            inner
            for ref in wanted
            if ref.type == "json"
            for inner in refs_in(decode(texts[ref.hash]))
            if most is None or inner.size <= most
        ]
    return texts
