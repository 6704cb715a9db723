"""The values of an expression: plain JSON, and in between bytes, moments and spans of time.

Numbers follow JSON, which does not tell 1 from 1.0: an integer and a double compare and calculate with each
other (the language definition would refuse `amount * 1.5` on the day the amount happens to be whole).
"""

from __future__ import annotations

import base64
import json
import math
import operator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

_ORDERED = (bool, str, bytes, datetime, timedelta)
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


class CelError(Exception):
    """What went wrong, as the end of a sentence; `expressions` adds the source."""


class Exhausted(CelError):
    """A bound was reached. Unlike other errors it is never outvoted by the other side of `||` or `&&`."""


class Meter:
    """Counts work, so that the same expression over the same values stops at the same place on every machine.

    One unit is about one operation (0.3 µs in CPython 3.11); bulk work is charged by its size.
    """

    __slots__ = ("bytes_left", "steps_left")

    def __init__(self, steps: int, size: int) -> None:
        self.steps_left = steps
        self.bytes_left = size

    def work(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise Exhausted("takes too many operations; use fewer nested macros or shorter lists")

    def build(self, size: int) -> None:
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise Exhausted("builds too much text or too long lists on the way to its result")


def kind(value: Any) -> str:
    """The word for a value's type in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, datetime):
        return "a timestamp"
    return "a duration" if isinstance(value, timedelta) else "bytes"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def inward(value: Any) -> Any:
    """A value from outside as one of ours; a tuple is a list, an exact decimal a double, an id its text."""
    if value is None or isinstance(value, (str, int, float, list, dict, bytes, datetime, timedelta)):
        return value
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def checked(number: int | float) -> int | float:
    """Raises CelError for a number that JSON cannot hold."""
    if isinstance(number, int):
        if not INT_MIN <= number <= INT_MAX:
            raise CelError("gives a whole number beyond 64 bits")
    elif not math.isfinite(number):
        raise CelError("gives a number that is too large")
    return number


def same(left: Any, right: Any, meter: Meter) -> bool:
    """Deep equality. Values of different types are unequal; 1 equals 1.0, true does not equal 1."""
    meter.work(1)
    if isinstance(left, str) and isinstance(right, str):
        meter.work(len(left) >> 8)
        return left == right
    if is_number(left) and is_number(right):
        return bool(left == right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(
            same(inward(a), inward(b), meter) for a, b in zip(left, right, strict=True)
        )
    if isinstance(left, dict) and isinstance(right, dict):
        meter.work(len(left))
        return left.keys() == right.keys() and all(
            same(inward(value), inward(right[key]), meter) for key, value in left.items()
        )
    return type(left) is type(right) and bool(left == right)


def below(left: Any, right: Any, meter: Meter, *, swapped: bool = False) -> bool:
    """left < right. Raises CelError for types that have no common order.

    swapped: the source has the two the other way round; for the message.
    """
    if is_number(left) and is_number(right):
        return bool(left < right)
    if isinstance(left, _ORDERED) and type(left) is type(right):
        meter.work(len(left) >> 8 if isinstance(left, str) else 0)
        lower: bool = operator.lt(left, right)
        return lower
    if swapped:
        left, right = right, left
    raise CelError(f"cannot compare {kind(left)} with {kind(right)}")


def key_text(key: Any) -> str:
    """The name of a field: keys of JSON objects are text."""
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int):
        return str(key)
    if isinstance(key, float) and key.is_integer():
        return str(int(key))
    raise CelError(f"uses {kind(key)} as the name of a field; names of fields are text")


def number_text(number: int | float) -> str:
    """Whole numbers without a trailing `.0`."""
    if isinstance(number, float) and number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return repr(number)


def text(value: Any) -> str:
    """A value as inserted into text: null is empty, lists and objects are compact JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return number_text(value)
    if isinstance(value, datetime):
        return moment_text(value)
    if isinstance(value, timedelta):
        return number_text(value.total_seconds()) + "s"
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def moment_text(moment: datetime) -> str:
    """RFC 3339 in UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def plain(value: Any, meter: Meter) -> Any:
    """The value as plain JSON types, copied. Raises Exhausted when it is larger than the meter allows."""
    limit = meter.bytes_left
    try:
        return _plain(value, meter, 0)
    except Exhausted:
        raise Exhausted(f"gives more than {limit:,} bytes") from None


def _plain(value: Any, meter: Meter, depth: int) -> Any:
    if depth > 100:
        raise CelError("gives a value nested deeper than 100 levels")
    value = inward(value)
    if isinstance(value, str):
        meter.build((len(value) if value.isascii() else len(value.encode("utf-8", "replace"))) + 2)
        return value
    meter.build(4)
    if isinstance(value, list):
        return [_plain(item, meter, depth + 1) for item in value]
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            meter.build(len(str(key)) + 3)
            result[str(key)] = _plain(item, meter, depth + 1)
        return result
    if isinstance(value, bytes):
        meter.build(len(value) * 2)
        return base64.b64encode(value).decode()
    if isinstance(value, (datetime, timedelta)):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise CelError("gives a number that is not finite")
    return value
