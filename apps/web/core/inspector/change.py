"""A change of plain values: made beside what was there, and told as the smallest place it concerns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.web.core.inspector.inputs import MISSING, Path, Value


def at(data: Any, path: Path) -> Value:
    """What stands at a path, or MISSING."""
    here = data
    for part in path:
        if isinstance(here, dict):
            if part not in here:
                return MISSING
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int) and 0 <= part < len(here):
            here = here[part]
        else:
            return MISSING
    return here


def put(data: Any, path: Path, value: Value) -> Any:
    """A copy with a value at a path; MISSING takes the key away, and mappings that are empty then.

    What stands in the way and is no container gives way. A list position that is not there is appended.
    """
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        items = list(data) if isinstance(data, list) else []
        inside = items[key] if 0 <= key < len(items) else MISSING
        made = put(inside, rest, value)
        if made is MISSING:
            if inside is not MISSING:
                del items[key]
        elif inside is MISSING:
            items.append(made)
        else:
            items[key] = made
        return items
    fields = dict(data) if isinstance(data, dict) else {}
    made = put(fields.get(key, MISSING), rest, value)
    if made is MISSING or (rest and value is MISSING and made == {} and fields.get(key) != {}):
        fields.pop(key, None)
    else:
        fields[key] = made
    return fields


def renamed(fields: Any, key: str, to: str) -> dict[str, Any]:
    """A mapping with one key written otherwise, in the same place."""
    if not isinstance(fields, dict):
        return {}
    return {(to if k == key else k): v for k, v in fields.items()}


def narrow(old: Value, new: Value, path: Path = ()) -> tuple[Path, Value, Value] | None:
    """The innermost place that holds the whole difference: (path, old, new); None when there is none.

    Order counts: a mapping whose keys changed places is one change of the mapping.
    """
    if same(old, new):
        return None
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        before, after = list(old), list(new)
        changed = [k for k in {**dict.fromkeys(before), **dict.fromkeys(after)} if not _same_key(old, new, k)]
        rest = [k for k in before if k not in changed] == [k for k in after if k not in changed]
        if len(changed) == 1 and rest and _keeps_place(before, after, changed[0]):
            key = changed[0]
            return narrow(old.get(key, MISSING), new.get(key, MISSING), (*path, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        differ = [i for i, pair in enumerate(zip(old, new, strict=True)) if not same(*pair)]
        if len(differ) == 1:
            return narrow(old[differ[0]], new[differ[0]], (*path, differ[0]))
    return path, old, new


def same(one: Value, other: Value) -> bool:
    """Equal as JSON: `true` is not `1`, and key order counts."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return type(one) is type(other) and bool(one == other)


def _same_key(old: Mapping[str, Any], new: Mapping[str, Any], key: str) -> bool:
    return same(old.get(key, MISSING), new.get(key, MISSING))


def _keeps_place(before: list[str], after: list[str], key: str) -> bool:
    """A key that stays must stay where it was; a new one comes last."""
    if key in before and key in after:
        return before.index(key) == after.index(key)
    return key in before or after[-1] == key
