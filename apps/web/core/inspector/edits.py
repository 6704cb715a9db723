"""What a changed field, or a button of a form, makes of the document; and which operation says so."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.document import ID_PATTERN
from apps.web.core.inspector import schema_rows
from apps.web.core.inspector.change import at, narrow, put, renamed
from apps.web.core.inspector.forms import Form
from apps.web.core.inspector.inputs import MISSING, Input, Path, Unreadable, Value
from apps.web.core.inspector.places import node_path

MOVES = {"up": -1, "down": 1}
_STARTS: dict[str, Any] = {
    "agents": {"model": "", "instructions": "", "tools": []},
    "models": {"use": "offline:extractive"},
    "tools": {
        "kind": "http",
        "description": "",
        "method": "GET",
        "url": "",
        "parameters": {"type": "object", "properties": {}},
    },
    "connections": {"kind": "bearer", "fields": ["token"], "hosts": []},
    "tool_limits": {"per_run": 1},
}
_ROW_STARTS: dict[str, Any] = {
    "way": {"name": "way"},
    "check": {"check": "expression", "text": "", "args": {"that": "true"}},
    "rule": {"count": 1},
    "criterion": "",
    "forbidden action": "",
    "checkpoint": {"step": "", "required": True, "timeout_action": "pause"},
}


def changed(data: Any, form: Form, one: Input, value: Value) -> Any:
    """The document with one input's value. Raises Unreadable for a value that cannot be kept."""
    place = (*form.base, *one.path)
    match one.aspect.split():
        case []:
            return put(data, place, _kept(one, value))
        case ["json"]:
            return put(data, place, value)
        case ["timeout_action"]:
            return _checkpoint(data, form.subject.key, value)
        case ["type"]:
            return put(data, place, schema_rows.with_type(at(data, place), value))
        case ["required"]:
            return put(
                data,
                place[:-2],
                schema_rows.with_required(at(data, place[:-2]), str(place[-1]), value is True),
            )
        case ["key"]:
            return put(data, place[:-2], schema_rows.with_name(at(data, place[:-2]), str(place[-1]), value))
        case ["as", main, second]:
            here = at(data, place)
            return put(data, place, {main: here, second: value}) if value is not MISSING else data
        case _:
            raise Unreadable("This field cannot be changed here.")


def _kept(one: Input, value: Value) -> Value:
    """An emptied field goes, unless the format wants it there."""
    if value is MISSING and isinstance(one.path[-1] if one.path else None, int):
        return ""
    if (
        value is MISSING
        and one.required
        and one.widget in ("text", "long", "template", "expression")
        and one.is_set
    ):
        return ""
    return value


def _checkpoint(data: Any, step: str, value: Value) -> Any:
    place: Path = ("contract", "human_checkpoints")
    listed = at(data, place)
    rows = list(listed) if isinstance(listed, list) else []
    for index, row in enumerate(rows):
        if isinstance(row, dict) and row.get("step") == step:
            return put(data, (*place, index, "timeout_action"), value)
    if value is MISSING:
        return data
    return put(data, place, [*rows, {"step": step, "required": True, "timeout_action": value}])


def added(data: Any, form: Form, one: Input, key: str) -> tuple[Any, Path]:
    """The document with one more entry in a container, and where that stands. Raises Unreadable."""
    place = (*form.base, *one.path)
    here = at(data, place)
    if one.closed:
        raise Unreadable("Nothing can be added here.")
    if one.widget == "schema":
        made, name = schema_rows.with_field(here)
        return put(data, place, made), (*one.path, "properties", name)
    if one.widget == "rows":
        rows = list(here) if isinstance(here, list) else []
        return put(data, place, [*rows, _start_of_row(one, rows)]), (*one.path, len(rows))
    if one.widget in ("map", "entries"):
        fields = here if isinstance(here, dict) else {}
        name = key.strip()
        if one.widget == "entries":
            _check_id(name)
        if not name:
            raise Unreadable(f"Write a name for the {one.noun}.")
        if name in fields:
            raise Unreadable(f"There is “{name}” already. Choose another name.")
        start = _STARTS.get(str(one.path[-1]), {}) if one.widget == "entries" else ""
        return put(data, place, {**fields, name: start}), (*one.path, name)
    raise Unreadable("Nothing can be added here.")


def _start_of_row(one: Input, rows: list[Any]) -> Any:
    start = _ROW_STARTS.get(one.noun, {})
    if one.noun == "way":
        taken = {row.get("name") for row in rows if isinstance(row, dict)}
        name, count = "way", 1
        while name in taken:
            count += 1
            name = f"way_{count}"
        return {"name": name}
    return start


def removed(data: Any, form: Form, one: Input) -> Any:
    """The document without one entry of a container."""
    place = (*form.base, *one.path)
    if len(one.path) >= 2 and one.path[-2] == "properties" and one.aspect == "row" and one.noun == "field":
        return put(data, place[:-2], schema_rows.without_field(at(data, place[:-2]), str(place[-1])))
    here = at(data, place[:-1])
    if isinstance(here, dict):
        return put(data, place[:-1], {k: v for k, v in here.items() if k != place[-1]})
    if isinstance(here, list) and isinstance(place[-1], int):
        return put(data, place[:-1], [v for i, v in enumerate(here) if i != place[-1]])
    raise Unreadable("This cannot be removed.")


def moved(data: Any, form: Form, one: Input, by: int) -> Any:
    """The document with one entry of a list, or one field of a schema, a place further up or down."""
    place = (*form.base, *one.path)
    here, key = at(data, place[:-1]), place[-1]
    if isinstance(here, list) and isinstance(key, int):
        items, to = list(here), key + by
        if not 0 <= to < len(items):
            return data
        items[key], items[to] = items[to], items[key]
        return put(data, place[:-1], items)
    if isinstance(here, dict) and key in here:
        names = list(here)
        index = names.index(str(key))
        to = index + by
        if not 0 <= to < len(names):
            return data
        names[index], names[to] = names[to], names[index]
        return put(data, place[:-1], {n: here[n] for n in names})
    return data


def entry_renamed(data: Any, form: Form, one: Input, to: str) -> Any:
    """The document with an entry of a mapping called otherwise."""
    place = (*form.base, *one.path)
    here = at(data, place[:-1])
    name = to.strip()
    if name == place[-1]:
        return data
    _check_id(name)
    if isinstance(here, dict) and name in here:
        raise Unreadable(f"There is “{name}” already. Choose another name.")
    return put(data, place[:-1], renamed(here, str(place[-1]), name))


def _check_id(name: str) -> None:
    if not name:
        raise Unreadable("Write a name first: lower-case letters, digits and _, beginning with a letter.")
    if not re.fullmatch(ID_PATTERN.strip("^$"), name):
        raise Unreadable(
            f"“{name}” cannot be a name. Write lower-case letters, digits and _, beginning with a letter."
        )


# --- operations ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """One operation of the draft's log, without its id."""

    payload: dict[str, Any]


def operation(before: Any, after: Any) -> dict[str, Any] | None:
    """The one operation that makes `before` into `after`; None when they are equal.

    Raises ValueError for a change outside of what one operation can say.
    """
    found = narrow(before, after)
    if found is None:
        return None
    place, old, new = found
    values = {k: v for k, v in (("old", old), ("new", new)) if v is not MISSING}
    if place[:1] == ("graph",):
        inside = node_path(before, place)
        if inside is not None and inside[1] and inside[1][0] != "body":
            return {"kind": "set_config", "node": inside[0], "path": list(inside[1]), **values}
        edge = _edge_operation(before, place, values)
        if edge is not None:
            return edge
        raise ValueError(f"No one operation changes {place}.")
    return {"kind": "set_contract", "path": list(place), **values}


def _edge_operation(before: Any, place: Path, values: dict[str, Any]) -> dict[str, Any] | None:
    cut = next((i for i in range(len(place) - 1, -1, -1) if place[i] == "edges"), None)
    if cut is None or len(place) < cut + 3:
        return None
    graph, index, rest = place[:cut], place[cut + 1], place[cut + 2 :]
    edges = at(before, (*graph, "edges"))
    edge = edges[index]
    twins = [e for e in edges[:index] if isinstance(e, dict) and _ends(e) == _ends(edge)]
    inside = node_path(before, graph[:-1]) if len(graph) > 1 else None
    scope = inside[0] if inside is not None else ""
    made = {"kind": "set_edge", "scope": scope, "edge": {"from": edge.get("from"), "to": edge.get("to")}}
    return {**made, **({"at": len(twins)} if twins else {}), "path": list(rest), **values}


def _ends(edge: dict[str, Any]) -> tuple[Any, Any]:
    return edge.get("from"), edge.get("to")
