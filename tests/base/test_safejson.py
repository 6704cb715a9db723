"""The quick ways through `storable` and `canonical` mean what the plain ones mean."""

from __future__ import annotations

import base64
import enum
import json
import math
import re
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorneuron.base.safejson import canonical, fingerprint, storable


class Colour(enum.StrEnum):
    RED = "red\x00"


class Number(enum.IntEnum):
    ONE = 1


def plainly(value: Any) -> Any:
    """`storable`, written for reading only."""

    def text(found: str) -> str:
        return re.sub("[\x00\ud800-\udfff]", lambda m: f"\\u{ord(m[0]):04x}", found)

    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return text(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, (Decimal, UUID)):
        return str(value)
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, dict):
        return {text(str(k)): plainly(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plainly(v) for v in value]
    return text(str(value))


def plainly_canonical(value: Any) -> str:
    def normal(found: Any) -> Any:
        if isinstance(found, str):
            return unicodedata.normalize("NFC", found)
        if isinstance(found, float) and found.is_integer():
            return plainly(int(Decimal(repr(found))))
        if isinstance(found, dict):
            return {unicodedata.normalize("NFC", k): normal(v) for k, v in found.items()}
        if isinstance(found, list):
            return [normal(v) for v in found]
        return found

    return json.dumps(normal(plainly(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


TEXT = st.one_of(
    st.text(st.characters(), max_size=12), st.text("a\x00\ud800\udfffé́€", max_size=6), st.just(Colour.RED)
)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=5), st.just(Number.ONE),
    st.just(2**63), st.just(-(2**63)), st.just(2.0**70), st.decimals(), st.uuids(), st.dates(),
    st.just(datetime(2026, 1, 1, tzinfo=UTC)),
)  # fmt: skip
VALUES = st.recursive(
    SCALAR,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(TEXT, st.integers(), st.booleans(), st.none()), inner, max_size=5),
    ),
    max_leaves=15,
)


def same(a: Any, b: Any) -> bool:
    """Equal with equal types: 1, 1.0 and True are three values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


@settings(max_examples=500)
@given(VALUES)
def test_storable_is_what_its_rules_say(value: Any) -> None:
    assert same(storable(value), plainly(value))


@settings(max_examples=500)
@given(VALUES)
def test_canonical_is_what_its_rules_say(value: Any) -> None:
    assert canonical(value) == plainly_canonical(value)


@settings(max_examples=200)
@given(VALUES)
def test_what_was_stored_has_the_fingerprint_of_what_was_given(value: Any) -> None:
    assert fingerprint(json.loads(json.dumps(storable(value)))) == fingerprint(value)


def test_a_stored_value_is_a_copy() -> None:
    given = {"a": [1, {"b": 2}]}
    kept = storable(given)
    given["a"][1]["b"] = 3  # type: ignore[index]
    assert kept == {"a": [1, {"b": 2}]}
