"""JSON that can always be stored, and one canonical form to hash.

A tool's result is recorded whatever it contains: a value the database refuses (NUL, a lone surrogate, NaN)
must never become a reason to call again. So strings are escaped reversibly, odd numbers become text, and
what still cannot be held is kept as bytes in base64.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from mirrorneuron.base.packed import Packed, Ref

MAX_DEPTH = 100
_REFUSED = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """A value every database accepts as JSON, equal to the given one wherever that is possible.

    NUL and lone surrogates in strings become the visible text `\\u0000`, `\\ud800`; NaN and infinities become
    the texts "NaN", "Infinity", "-Infinity"; bytes become `{"$bytes": base64}`; nesting beyond 100 levels
    becomes its JSON-like text. What is packed already stays as it is. Never raises.
    """
    return _storable(value, 0)


def _storable(value: Any, depth: int) -> Any:
    # By exact type first: every output passes here, and nearly all of it is plain JSON.
    kind = type(value)
    if kind is str:
        return value if value.isascii() and "\x00" not in value else _text(value)
    if kind is bool or value is None:
        return value
    if kind is int and -(2**63) <= value < 2**63:
        return value
    if kind is float and -math.inf < value < math.inf:
        return value
    if kind is dict and depth < MAX_DEPTH:
        return {
            (k if type(k) is str and k.isascii() and "\x00" not in k else _text(str(k))): _storable(
                v, depth + 1
            )
            for k, v in value.items()
        }
    if kind is list and depth < MAX_DEPTH:
        return [_storable(v, depth + 1) for v in value]
    return _uncommon(value, depth)


def _uncommon(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        # Beyond 64 bits some databases and every browser lose digits.
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
    if isinstance(value, (Ref, Packed)):
        return value
    if depth >= MAX_DEPTH:
        return _text(_shallow(value))
    if isinstance(value, dict):
        return {_text(str(k)): _storable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_storable(v, depth + 1) for v in value]
    if hasattr(value, "model_dump"):
        return _storable(value.model_dump(mode="json"), depth + 1)
    return _text(str(value))


def _text(text: str) -> str:
    if "\x00" not in text:
        if text.isascii():
            return text
        try:
            text.encode()
        except UnicodeEncodeError:
            pass  # A lone surrogate.
        else:
            return text
    return _REFUSED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shallow(value: Any) -> str:
    try:
        return str(value)[:10_000]
    except RecursionError:
        return f"<{type(value).__name__} nested too deeply>"


def canonical(value: Any) -> str:
    """The one text of a JSON value: sorted keys, NFC strings, whole floats as integers, no spaces."""
    return json.dumps(_normal(storable(value)), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _normal(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if value.isascii() else unicodedata.normalize("NFC", value)
    if kind is int or kind is bool or value is None:
        return value
    if kind is dict:
        return {(k if k.isascii() else unicodedata.normalize("NFC", k)): _normal(v) for k, v in value.items()}
    if kind is list:
        return [_normal(v) for v in value]
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, float) and value.is_integer():
        # A database may give 1e20 back as the integer it reads like, which `storable` then holds as text.
        return storable(int(Decimal(repr(value))))
    if isinstance(value, (Ref, Packed)):
        raise TypeError("A packed value has no canonical form; resolve it first.")
    return value


def fingerprint(value: Any) -> str:
    """SHA-256 in hex of the canonical form: equal for values a person would call the same."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
