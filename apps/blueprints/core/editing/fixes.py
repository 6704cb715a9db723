"""What mends a problem, as one list of operations; nothing where only a person can say.

A fix does what the problem's own words advise and no more. It never invents content (a prompt, an owner, an
address), never takes a prohibition away, never lets credentials go to another host, and never removes what
somebody meant: what it takes out has no effect, leads nowhere or stands there twice.

Each fix is made for one problem code. Names of steps, tools and keys that were meant are those the problem
names as the nearest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.document import ID_PATTERN
from apps.blueprints.core.editing.fragment import free_id
from apps.blueprints.core.editing.meaning import Meaning, known_to_fit
from apps.blueprints.core.editing.sketch import Sketch, SketchedEdge, joined, sketch, text
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.expressions import ExpressionError, parts
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.kinds import main_port
from apps.blueprints.core.problems import Path, Problem, path_parts
from apps.blueprints.core.tools import ToolSpec

Operation = dict[str, Any]
"""As `POST …/draft/ops` takes them, without an `op_id`."""
NOTHING: Any = object()
_WRITE = re.compile(r'^Write "([^"]+)"')
_INSERTED = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}", re.DOTALL)
_QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""


@dataclass(frozen=True)
class Fix:
    words: str
    """What the button says: a verb and its object."""
    operations: tuple[Operation, ...]


def fix_for(problem: Problem, data: Any, tools: Mapping[str, ToolSpec]) -> Fix | None:
    """The fix of one problem of a draft. For several problems of one draft, `Fixer` is cheaper."""
    return Fixer(data, tools).fix(problem)


class Fixer:
    """Fixes for the problems of one draft. tools: the built-in ones; drawn: its sketch, when there is one."""

    def __init__(self, data: Any, tools: Mapping[str, ToolSpec], drawn: Sketch | None = None) -> None:
        self.data = data
        self.builtin = tools
        self.plan: Sketch = drawn or sketch(data)
        self._meaning: Meaning | None = None

    @property
    def meaning(self) -> Meaning:
        if self._meaning is None:
            self._meaning = Meaning(self.data, self.builtin)
        return self._meaning

    def fix(self, problem: Problem) -> Fix | None:
        make = _FIXES.get(problem.code)
        if make is None or not isinstance(self.data, dict):
            return None
        return make(_Here(self, problem))


class _Here:
    """One problem and what stands there."""

    def __init__(self, fixer: Fixer, problem: Problem) -> None:
        self.fixer, self.plan, self.data, self.problem = fixer, fixer.plan, fixer.data, problem
        self.place: Path = path_parts(problem.path)
        self.edge: SketchedEdge | None = self.plan.edge_at(self.place)
        self.node = "" if self.edge is not None else self.plan.node_at(self.place)
        if self.edge is not None:
            self.rest = self.place[len(self.edge.place) :]
        elif self.node:
            self.rest = self.place[len(self.plan.place_of(self.node)) :]
        else:
            self.rest = self.place

    @property
    def near(self) -> str:
        """The name the problem advises."""
        found = _WRITE.match(self.problem.fix)
        return found[1] if found is not None else ""

    def value(self, place: Path | None = None) -> Any:
        found = self.data
        for part in self.place if place is None else place:
            try:
                found = found[part]
            except (LookupError, TypeError):
                return NOTHING
        return found

    def set(self, place: Path, new: Any) -> Operation | None:
        """The operation that puts a value at a place in the document; NOTHING takes it away."""
        if not place:
            return None
        old = self.value(place)
        change: Operation = {}
        if old is not NOTHING:
            change["old"] = old
        if new is not NOTHING:
            change["new"] = new
        edge = self.plan.edge_at(place)
        if edge is not None:
            rest = place[len(edge.place) :]
            ends = _ends(edge)
            if not rest or ends is None:
                return None
            return {"kind": "set_edge", "scope": edge.scope, **ends, "path": list(rest), **change}
        node = self.plan.node_at(place)
        if node:
            rest = place[len(self.plan.place_of(node)) :]
            if not rest or rest[0] in ("id", "body") or not self.is_named(node):
                return None
            return {"kind": "set_config", "node": node, "path": list(rest), **change}
        if place[0] in ("graph", "layout", "canvas", "apiVersion", "kind"):
            return None
        return {"kind": "set_contract", "path": list(place), **change}

    def is_named(self, node: str) -> bool:
        """Whether operations can name a node: it and all around it have ids of their own."""
        while node:
            if not node.rpartition("/")[2] or self.plan.nodes[node].id != text(
                self.plan.written[node].get("id")
            ):
                return False
            node = self.plan.scopes[node]
        return True

    def replaced(self, new: Any, words: str, place: Path | None = None) -> Fix | None:
        return _fix(words, self.set(self.place if place is None else place, new))

    def shape(self, scope: str) -> Shape | None:
        case = self.fixer.meaning.cases.get(scope)
        return case.shape if case is not None else None


def _fix(words: str, *operations: Operation | None) -> Fix | None:
    """A fix, if every one of its operations can be done."""
    done = [operation for operation in operations if operation is not None]
    return Fix(words, tuple(done)) if done and len(done) == len(operations) else None


def _ends(edge: SketchedEdge) -> Operation | None:
    source, target = edge.written.get("from"), edge.written.get("to")
    if not isinstance(source, str) or not isinstance(target, str):
        return None
    return {"edge": {"from": source, "to": target}, **({"at": edge.at} if edge.at else {})}


def _remove(edge: SketchedEdge) -> Operation | None:
    ends = _ends(edge)
    return {"kind": "remove_edge", "scope": edge.scope, **ends} if ends is not None else None


# --- names that were nearly right -------------------------------------------------------------------------


def _write_near(here: _Here) -> Fix | None:
    """The value at the place becomes the name that was probably meant."""
    near = here.near
    if not near or not isinstance(here.value(), str):
        return None
    return here.replaced(near, f"Write {near}")


def _rename_key(here: _Here) -> Fix | None:
    near = here.near
    value = here.value()
    beside = here.value(here.place[:-1])
    if not near or value is NOTHING or not isinstance(beside, dict) or near in beside:
        return None
    return _fix(f"Rename to {near}", here.set(here.place, NOTHING), here.set((*here.place[:-1], near), value))


def _unknown_argument(here: _Here) -> Fix | None:
    if here.near:
        return _write_near(here) if isinstance(here.place[-1], int) else _rename_key(here)
    return None


def _bad_value(here: _Here) -> Fix | None:
    if here.place[-1:] == ("method",) and (found := re.match(r"^Write ([A-Z]+)\.$", here.problem.fix)):
        return here.replaced(found[1], f"Write {found[1]}")
    return _write_near(here)


def _bad_name(here: _Here) -> Fix | None:
    near = here.near
    if here.rest == ("id",) and here.node:
        old = text(here.plan.written[here.node].get("id"))
        if not near or not re.match(ID_PATTERN, near) or not here.is_named(here.node) or not old:
            return None
        return _renamed(here, near)
    if here.edge is not None or here.place[:1] == ("metadata",):
        return None
    if here.place[-1:] in (("name",), ("signal",)) and near:
        return _write_near(here)
    return None


def _renamed(here: _Here, wanted: str) -> Fix | None:
    scope = here.plan.scopes[here.node]
    taken = {
        text(here.plan.written[path].get("id"))
        for path, around in here.plan.scopes.items()
        if around == scope
    }
    name = free_id(wanted, taken)
    return Fix(f"Rename to {name}", ({"kind": "rename", "node": here.node, "to": name},))


def _reserved_id(here: _Here) -> Fix | None:
    return _renamed(here, "take_back") if here.node and here.is_named(here.node) else None


def _unknown_tool(here: _Here) -> Fix | None:
    if here.place[:3] == ("contract", "boundaries", "allowed_tools") and not here.near:
        return _without_item(here, "Remove it from the list")
    if isinstance(here.value(), str):
        return _write_near(here)
    return _rename_key(here)


def _without_item(here: _Here, words: str) -> Fix | None:
    """The list without this one item."""
    around, index = here.value(here.place[:-1]), here.place[-1]
    if not isinstance(around, list) or not isinstance(index, int):
        return None
    return here.replaced([*around[:index], *around[index + 1 :]], words, here.place[:-1])


def _unknown_node(here: _Here) -> Fix | None:
    found = re.match(r"^The expression reads steps\.([a-z0-9_]+)", here.problem.message)
    if found is None:
        return _write_near(here)
    if not here.near:
        return None
    old = rf"steps\s*\.\s*{found[1]}(?!\w)"
    return _in_expression(here, old, f"steps.{here.near}", f"Read {here.near}")


def _unknown_name(here: _Here) -> Fix | None:
    found = re.match(r'^There is no name "([A-Za-z_]\w*)" here', here.problem.message)
    advice = re.match(r"^Write ((?:steps|inputs)\.[a-z0-9_]+(?:\.output)?)\.$", here.problem.fix)
    new = advice[1] if advice is not None else here.near
    if found is None or not new:
        return None
    return _in_expression(here, rf"{found[1]}(?!\w)", new, f"Write {new}")


def _unknown_field(here: _Here) -> Fix | None:
    message, fix = here.problem.message, here.problem.fix
    of_step = re.search(r"steps\.[a-z0-9_]+\.[A-Za-z_]\w*(?= is none of them)", message)
    if of_step is not None:
        advice = re.match(r"^Write (steps\.[\w.]+)\.$", fix)
        if advice is None:
            return None
        return _in_expression(here, f"{re.escape(of_step[0])}(?!\\w)", advice[1], f"Write {advice[1]}")
    way = re.match(r'^((?:steps|inputs|run)(?:\.\w+)+): .* declares no field "([^"]+)"', message)
    if way is None:
        return None
    if not here.near:
        return _declare_input(here, way[2]) if way[1] == f"inputs.{way[2]}" else None
    known = way[1][: way[1].rfind(f".{way[2]}")]
    old = rf"{re.escape(known)}\.{re.escape(way[2])}(?!\w)"
    return _in_expression(here, old, f"{known}.{here.near}", f"Write {here.near}")


def _declare_input(here: _Here, name: str) -> Fix | None:
    """What an expression reads from the inputs becomes one, a text that every run is given."""
    place: Path = ("contract", "inputs")
    declared = here.value(place)
    if not isinstance(declared, dict):
        return None
    properties, required = declared.get("properties", {}), declared.get("required", [])
    if not isinstance(properties, dict) or not isinstance(required, list) or name in properties:
        return None
    return _fix(
        f"Add the input {name}",
        here.set((*place, "properties", name), {"type": "string"}),
        here.set((*place, "required"), [*required, name]),
    )


def _in_expression(here: _Here, old: str, new: str, words: str) -> Fix | None:
    """Replace a name in the expression at the place, nowhere inside quotes."""
    value = here.value()
    if not isinstance(value, str):
        return None
    pattern = re.compile(rf"({_QUOTED})|(?<![\w.]){old}")

    def follow(match: re.Match[str]) -> str:
        return match[1] if match[1] is not None else new

    if "{{" in value:
        changed = _INSERTED.sub(lambda m: pattern.sub(follow, m[0]), value)
    else:
        changed = pattern.sub(follow, value)
    return here.replaced(changed, words) if changed != value else None


def _bad_expression(here: _Here) -> Fix | None:
    value = here.value()
    if not isinstance(value, str) or "never closed" not in here.problem.message:
        return None
    closed = f"{value.rstrip().rstrip('}').rstrip()} }}}}"
    try:
        found = [part for part in parts(closed) if part.is_expression]
    except ExpressionError:
        return None
    return here.replaced(closed, "Close it with }}") if found else None


# --- values -----------------------------------------------------------------------------------------------


def _wrong_type(here: _Here) -> Fix | None:
    value = here.value()
    if here.problem.fix.startswith("Put it in quotes") and isinstance(value, (bool, int, float)):
        words = str(value).lower() if isinstance(value, bool) else str(value)
        return here.replaced(words, "Put it in quotes")
    if here.problem.fix.startswith("Write it as a list: [") and isinstance(value, str) and value:
        return here.replaced([value], "Make it a list")
    return None


def _out_of_range(here: _Here) -> Fix | None:
    found = re.match(r"^Write a number that is at (?:least|most) (-?[0-9.]+)\.$", here.problem.fix)
    value = here.value()
    if found is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    limit = float(found[1])
    number = int(limit) if limit.is_integer() else limit
    return here.replaced(number, f"Set it to {number}")


_UNITS = {"ms": "ms", "s": "s", "m": "m", "h": "h", "d": "d"}
_LONG = re.compile(
    r"^\s*(\d+(?:\.\d+)?)\s*(milliseconds?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?)\s*$"
)


def _bad_duration(here: _Here) -> Fix | None:
    value = here.value()
    if here.problem.message.endswith("is missing.") and here.node:
        return here.replaced("30s", "Ask every 30 s", (*here.plan.place_of(here.node), "every"))
    found = _LONG.match(value.lower()) if isinstance(value, str) else None
    if found is None:
        return None
    unit = "ms" if found[2].startswith("milli") else found[2][0]
    return here.replaced(f"{found[1]}{unit}", f"Write {found[1]}{unit}")


def _without_field(here: _Here) -> Fix | None:
    """What has no effect can go."""
    if here.value() is NOTHING:
        return None
    return here.replaced(NOTHING, f"Remove {here.place[-1]}")


def _missing_field(here: _Here) -> Fix | None:
    if not here.node or here.rest:
        return None
    node, place = here.plan.nodes[here.node], here.plan.place_of(here.node)
    found = re.search(r'has no "?([a-z_]+)"?', here.problem.message)
    lacks = found[1] if found is not None else ""
    if lacks == "max_rounds" and node.kind == "loop":
        return here.replaced(3, "Repeat at most 3 times", (*place, "max_rounds"))
    if lacks == "agent":
        agents = _keys(here, ("agents",))
        if len(agents) == 1:
            return here.replaced(agents[0], f"Use the agent {agents[0]}", (*place, "agent"))
    if lacks == "with" and node.kind == "approval":
        return _arguments_of_proposal(here, here.node)
    return None


def _missing_argument(here: _Here) -> Fix | None:
    """A value of the same name and type that stands before; not when there is none."""
    found = re.search(r'[Aa]rgument "([^"]+)"|"([a-z][a-z0-9_]*)"', here.problem.message)
    if found is None or not here.node:
        return None
    node = here.plan.nodes[here.node]
    if node.kind != "tool" or here.rest not in ((), ("with",)):
        return None
    needs = here.fixer.meaning.needs(node.tool)
    name = next((n for n in needs if f'"{n}"' in here.problem.message), "")
    if not name:
        return None
    value = _value_named(here, name, needs[name])
    place = (*here.plan.place_of(here.node), "with")
    arguments = here.value(place)
    if not value or not (arguments is NOTHING or isinstance(arguments, dict)):
        return None
    words = f"Use {value.strip('{} ')}"
    if arguments is NOTHING or not arguments:
        return here.replaced({name: value}, words, place)
    return here.replaced(value, words, (*place, name))


def _value_named(here: _Here, name: str, need: dict[str, Any]) -> str:
    meaning = here.fixer.meaning
    for path in meaning.before(here.node):
        fields = meaning.fields_of(path)
        if name in fields and known_to_fit(fields[name], need):
            return f"{{{{ steps.{path.rpartition('/')[2]}.output.{name} }}}}"
    inputs = meaning.inputs()
    required = here.value(("contract", "inputs", "required"))
    if (
        name in inputs
        and known_to_fit(inputs[name], need)
        and isinstance(required, list)
        and name in required
    ):
        return f"{{{{ inputs.{name} }}}}"
    return ""


def _arguments_ignored(here: _Here) -> Fix | None:
    found = re.search(r'from the approval "([^"]+)"', here.problem.message)
    scope = here.plan.scopes.get(here.node, "")
    approval = joined(scope, found[1]) if found is not None else ""
    if approval not in here.plan.nodes:
        return None
    return _arguments_of_proposal(here, approval)


def _arguments_of_proposal(here: _Here, approval: str) -> Fix | None:
    """The arguments of what is proposed, moved to the approval that people see."""
    scope = here.plan.scopes[approval]
    proposed = text(here.plan.written[approval].get("proposes"))
    target = joined(scope, proposed)
    if target not in here.plan.nodes:
        return None
    arguments = here.plan.written[target].get("with")
    if not arguments or here.plan.written[approval].get("with") is not None:
        return None
    return _fix(
        "Move the arguments to the approval",
        here.set((*here.plan.place_of(approval), "with"), arguments),
        here.set((*here.plan.place_of(target), "with"), NOTHING),
    )


def _approval_not_bound(here: _Here) -> Fix | None:
    """The one approval that leads straight to the call proposes it, with the call's own arguments."""
    if not here.node or here.plan.nodes[here.node].kind != "tool":
        return None
    asking = {
        edge.source
        for edge in here.plan.edges
        if edge.target == here.node
        and edge.port == "approved"
        and edge.source in here.plan.nodes
        and here.plan.nodes[edge.source].kind == "approval"
    }
    if len(asking) != 1:
        return None
    (approval,) = asking
    written, arguments = here.plan.written[approval], here.plan.written[here.node].get("with")
    if written.get("proposes") or written.get("with") is not None or not arguments:
        return None
    place = here.plan.place_of(approval)
    return _fix(
        "Ask about exactly this call",
        here.set((*place, "proposes"), here.plan.nodes[here.node].id),
        here.set((*place, "with"), arguments),
        here.set((*here.plan.place_of(here.node), "with"), NOTHING),
    )


# --- edges ------------------------------------------------------------------------------------------------


def _missing_node(here: _Here) -> Fix | None:
    edge = here.edge
    if edge is None:
        return None
    near, end = here.near, here.rest[0] if here.rest else ""
    if near and end in ("from", "to"):
        new = f"{near}.{edge.edge.port}" if end == "from" and edge.edge.port else near
        changed = (new, edge.edge.to) if end == "from" else (edge.edge.from_, near)
        if not any((e.edge.from_, e.edge.to) == changed for e in here.plan.edges if e.scope == edge.scope):
            return here.replaced(new, f"Write {new}")
    return _fix("Remove the edge", _remove(edge))


def _missing_port(here: _Here) -> Fix | None:
    if here.edge is None:
        return None
    near, edge = here.near, here.edge
    port = near.partition(".")[2]
    alike = (e for e in here.plan.leaving(edge.source) if e.port == port and e.target == edge.target)
    return None if next(alike, None) is not None else _write_near(here)


def _port_never_used(here: _Here) -> Fix | None:
    found = re.search(r"offer the verb ([a-z_]+)\.", here.problem.message)
    if here.edge is None or found is None or not here.edge.source:
        return None
    place = (*here.plan.place_of(here.edge.source), "verbs")
    verbs = here.value(place)
    if not isinstance(verbs, list):
        return None
    return here.replaced([*verbs, found[1]], f"Offer {found[1].replace('_', ' ')}", place)


def _duplicate_edge(here: _Here) -> Fix | None:
    edge = here.edge
    if edge is None:
        return None
    alike = [e for e in here.plan.leaving(edge.source) if e.port == edge.port and e.edge.to == edge.edge.to]
    if len(alike) < 2 or alike[0] is edge:
        return None
    first = alike[0]
    one, other = ({k: v for k, v in e.written.items() if k != "from"} for e in (first, edge))
    if one == other:
        return _fix("Remove the second one", _remove(edge))
    rest = {k: v for k, v in one.items() if k != "when"} == {k: v for k, v in other.items() if k != "when"}
    if not rest or not all(isinstance(e.get("when", ""), str) for e in (one, other)):
        return None
    if not one.get("when") or not other.get("when"):
        joined = NOTHING  # One of them is taken always.
    else:
        joined = f"({one['when']}) || ({other['when']})"
    change = here.set((*first.place, "when"), joined) if one.get("when") else None
    if one.get("when"):
        return _fix("Make one edge of both", _remove(edge), change)
    return _fix("Remove the second one", _remove(edge))


def _cycle(here: _Here) -> Fix | None:
    if here.edge is None or here.edge.edge.max_rounds is not None or "max_rounds" in here.edge.written:
        return None
    return here.replaced(3, "At most 3 rounds", (*here.edge.place, "max_rounds"))


def _proposal_not_connected(here: _Here) -> Fix | None:
    scope = here.plan.scopes.get(here.node, "")
    target = text(here.plan.written[here.node].get("proposes")) if here.node else ""
    return _new_edge(here, scope, here.node.rpartition("/")[2], "approved", target)


def _not_upstream(here: _Here) -> Fix | None:
    """Let the step that is read come before; never by a way that would close a circle."""
    found = re.search(r"or add an edge from ([a-z0-9_]+) to ([a-z0-9_]+)\.", here.problem.fix)
    scope = here.edge.scope if here.edge is not None else here.plan.scopes.get(here.node, "")
    if found is None:
        return None
    return _new_edge(here, scope, found[1], "", found[2])


def _unreachable_node(here: _Here) -> Fix | None:
    """Put it after the steps it reads, or before the one that reads it; not anywhere else."""
    if not here.node or "is not connected" not in here.problem.message:
        return None
    scope = here.plan.scopes[here.node]
    shape = here.shape(scope)
    if shape is None:
        return None
    node_id = here.plan.nodes[here.node].id
    read = _reads(here.plan.written[here.node], set(shape.nodes) - {node_id})
    if len(read) == 1:
        return _new_edge(here, scope, read[0], "", node_id)
    readers = [n for n in shape.nodes if n != node_id and _reads(_written(here, scope, n), {node_id})]
    if not read and len(readers) == 1:
        return _new_edge(here, scope, node_id, "", readers[0])
    return None


def _written(here: _Here, scope: str, node_id: str) -> Mapping[str, Any]:
    return here.plan.written.get(joined(scope, node_id), {})


def _reads(value: Any, names: set[str]) -> list[str]:
    """Which of these steps are read by anything in a node."""
    words = str(value)
    return sorted(n for n in names if re.search(rf"(?<![\w.])steps\s*\.\s*{re.escape(n)}(?!\w)", words))


def _new_edge(here: _Here, scope: str, source: str, port: str, target: str) -> Fix | None:
    shape = here.shape(scope)
    if shape is None or source not in shape.nodes or target not in shape.nodes or source == target:
        return None
    if shape.bit[target] & shape.ever_before[source]:
        return None
    port = port or main_port(shape.nodes[source])
    written = source if port == main_port(shape.nodes[source]) else f"{source}.{port}"
    if any(shape.port(e) == port and e.to == target for _, e in shape.outgoing[source]):
        return None
    edge = {"from": written, "to": target}
    return _fix(f"Connect {source} to {target}", {"kind": "add_edge", "scope": scope, "edge": edge})


# --- the contract -----------------------------------------------------------------------------------------


def _tool_not_allowed(here: _Here) -> Fix | None:
    found = re.search(r'tool "([^"]+)"', here.problem.message)
    place: Path = ("contract", "boundaries", "allowed_tools")
    allowed = here.value(place)
    if found is None or not (allowed is NOTHING or isinstance(allowed, list)):
        return None
    if allowed is NOTHING:
        for length in (1, 2):
            if not isinstance(here.value(place[:length]), dict) and here.value(place[:length]) is not NOTHING:
                return None
        return here.replaced([found[1]], f"Allow {found[1]} in the contract", place)
    return here.replaced([*allowed, found[1]], f"Allow {found[1]} in the contract", place)


def _optional_input(here: _Here) -> Fix | None:
    found = re.match(r"^inputs\.([a-z0-9_]+) may be missing", here.problem.message)
    place: Path = ("contract", "inputs", "required")
    required = here.value(place)
    if found is None or not (required is NOTHING or isinstance(required, list)):
        return None
    return here.replaced(
        [*(required if isinstance(required, list) else []), found[1]], f"Require {found[1]}", place
    )


def _ask_a_person(here: _Here) -> Fix | None:
    """Tier 1: the gateway asks before each call."""
    if not here.node or here.plan.nodes[here.node].kind not in ("tool", "agent"):
        return None
    place = (*here.plan.place_of(here.node), "tier")
    return here.replaced(1, "Ask a person each time", place)


def _give_due(days: str, words: str) -> Callable[[_Here], Fix | None]:
    def make(here: _Here) -> Fix | None:
        node = here.node or (here.problem.node if here.problem.node in here.plan.nodes else "")
        if not node:
            return None
        return here.replaced(days, words, (*here.plan.place_of(node), "due"))

    return make


def _quorum(here: _Here) -> Fix | None:
    found = re.search(r'of "([^"]+)"', here.problem.message)
    if found is None or not here.node:
        return None
    place = (*here.plan.place_of(here.node), "assign", "groups")
    groups = here.value(place)
    if not isinstance(groups, list):
        return None
    return here.replaced([*groups, found[1]], f"Assign it to {found[1]} too", place)


def _duplicate_route(here: _Here) -> Fix | None:
    name = here.value()
    routes = here.value(here.place[:-2])
    if not isinstance(name, str) or not isinstance(routes, list):
        return None
    taken = {str(r.get("name")) for r in routes if isinstance(r, dict)} | {"else", "failed"}
    return here.replaced(free_id(name, taken), f"Call it {free_id(name, taken)}")


def _missing_output(here: _Here) -> Fix | None:
    found = re.match(r'^Rename "([^"]+)" to "([^"]+)"\.$', here.problem.fix)
    if found is None:
        return None
    old, new = found.groups()
    value = here.value(("outputs", old))
    if value is NOTHING or here.value(("outputs", new)) is not NOTHING:
        return None
    wanted = here.value(("contract", "outputs", "properties"))
    if isinstance(wanted, dict) and old in wanted:
        return None  # That one is promised as well.
    return _fix(
        f"Rename {old} to {new}", here.set(("outputs", old), NOTHING), here.set(("outputs", new), value)
    )


def _undeclared_output(here: _Here) -> Fix | None:
    name = here.place[-1] if here.place else ""
    place: Path = ("contract", "outputs", "properties")
    declared = here.value(place)
    if not isinstance(declared, dict) or not isinstance(name, str) or len(here.place) != 2:
        return None
    case = here.fixer.meaning.cases.get("")
    schema = type_of_template(here.value(), case.lookup) if case is not None else None
    kinds = schema.get("type") if isinstance(schema, dict) else None
    known = {"type": kinds} if isinstance(kinds, str) else {}
    return here.replaced(known, f"Declare {name}", (*place, name))


def _read_that_writes(here: _Here) -> Fix | None:
    return here.replaced("opaque", "Declare that it writes")


def _keys(here: _Here, place: Path) -> list[str]:
    value = here.value(place)
    return [str(key) for key in value] if isinstance(value, dict) else []


_FIXES: dict[str, Callable[[_Here], Fix | None]] = {
    # Names that were nearly right.
    "unknown_key": _rename_key,
    "unknown_kind": _write_near,
    "bad_value": _bad_value,
    "bad_name": _bad_name,
    "reserved_id": _reserved_id,
    "unknown_tool": _unknown_tool,
    "unknown_agent": _write_near,
    "unknown_model": _write_near,
    "unknown_state": _write_near,
    "unknown_checkpoint": _write_near,
    "unknown_argument": _unknown_argument,
    "unknown_node": _unknown_node,
    "unknown_name": _unknown_name,
    "unknown_field": _unknown_field,
    "undeclared_field": _unknown_field,
    "bad_expression": _bad_expression,
    # Values.
    "wrong_type": _wrong_type,
    "out_of_range": _out_of_range,
    "bad_duration": _bad_duration,
    "field_not_used": _without_field,
    "missing_field": _missing_field,
    "missing_argument": _missing_argument,
    "arguments_ignored": _arguments_ignored,
    "approval_not_bound": _approval_not_bound,
    "duplicate_route": _duplicate_route,
    # Edges.
    "missing_node": _missing_node,
    "missing_port": _missing_port,
    "port_never_used": _port_never_used,
    "duplicate_edge": _duplicate_edge,
    "cycle_without_bound": _cycle,
    "not_a_back_edge": _without_field,
    "proposal_not_connected": _proposal_not_connected,
    "not_upstream": _not_upstream,
    "unreachable_node": _unreachable_node,
    # The contract and people.
    "tool_not_allowed": _tool_not_allowed,
    "named_twice": lambda here: _without_item(here, "Remove the second one"),
    "optional_input": _optional_input,
    "write_without_gate": _ask_a_person,
    "untrusted_way_out": _ask_a_person,
    "tier_forbids_write": _ask_a_person,
    "tier_2_without_undo": _ask_a_person,
    "no_due_date": _give_due("4h", "Due in 4 h"),
    "never_expires": _give_due("2d", "Stop waiting after 2 days"),
    "unbounded_poll": _give_due("2d", "Stop asking after 2 days"),
    "quorum_out_of_reach": _quorum,
    "missing_output": _missing_output,
    "undeclared_output": _undeclared_output,
    "read_that_writes": _read_that_writes,
}
