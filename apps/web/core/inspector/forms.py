"""The form of a node, an edge or a part of a blueprint, built from the published JSON Schema of the format.

Built anew for every request from the draft as it then is: a request names a field by its subject and path,
and what it may do with it is what the form made of the present draft allows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

from apps.blueprints.core.kinds import FIELDS
from apps.blueprints.core.kinds import fields as fields_of_kind
from apps.blueprints.core.schema_export import blueprint_schema
from apps.blueprints.core.tools import ToolSpec
from apps.web.core.inspector import words as told
from apps.web.core.inspector.change import at
from apps.web.core.inspector.inputs import MISSING, Input, Path, Value, Widget, fits_lines, flat
from apps.web.core.inspector.places import edge_of, node_of, nodes_in, scope_of
from apps.web.core.inspector.schema_rows import schema_input
from apps.web.core.words import KIND_WORDS, humanise

Schema = Mapping[str, Any]
SubjectKind = Literal["node", "edge", "part"]
MOST_ROWS = 200
BARE = ("items", "merge")
"""Fields of a node that take an expression with braces or without."""
PARTS = (
    "settings",
    "contract",
    "agents",
    "models",
    "tools",
    "connections",
    "card",
    "inputs",
    "outputs",
    "allowed",
)


@dataclass(frozen=True)
class Subject:
    kind: SubjectKind
    key: str
    """A node's path, an edge's id, or one of PARTS."""


@dataclass(frozen=True)
class Form:
    subject: Subject
    base: Path
    """Where the subject stands in the document; paths of inputs go on from there."""
    heading: str
    kind: str = ""
    kind_words: str = ""
    first: tuple[Input, ...] = ()
    rest: tuple[Input, ...] = ()
    """Under "Advanced"."""

    def find(self, name: str) -> Input | None:
        return next((one for one in self.inputs if one.name == name), None)

    @property
    def inputs(self) -> list[Input]:
        return list(flat((*self.first, *self.rest)))


@dataclass(frozen=True)
class Known:
    """What fields may choose from."""

    data: Any
    tools: Mapping[str, ToolSpec]
    scope: str = ""

    def names(self, part: str) -> list[str]:
        found = at(self.data, (part,))
        return [str(k) for k in found] if isinstance(found, dict) else []

    def nodes(self, *kinds: str) -> list[tuple[str, str]]:
        """(id, title) of the graph's nodes, of these kinds."""
        return [
            (node["id"], _title(node))
            for node in nodes_in(self.data, self.scope)
            if not kinds or node.get("kind") in kinds
        ]

    def tool_options(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, name) for name in sorted(self.tools))

    def options(self, key: str) -> tuple[tuple[Any, str], ...] | None:
        """What a field that names something may name; None for other fields."""
        match key:
            case "Node.tool" | "ToolCall.tool":
                return self.tool_options()
            case "Node.agent":
                return tuple((n, n) for n in self.names("agents"))
            case "Node.model" | "Agent.model" | "ModelChoice.fallback":
                return tuple((n, n) for n in self.names("models"))
            case "Node.proposes":
                return tuple(self.nodes("tool"))
            case "Node.show":
                return tuple(self.nodes())
            case "HumanCheckpoint.step":
                return tuple(self.nodes("approval"))
            case "Agent.tools" | "Boundaries.allowed_tools":
                return self.tool_options()
            case _:
                return None


def form_of(subject: Subject, data: Any, tools: Mapping[str, ToolSpec]) -> Form | None:
    """The form of a subject; None when the draft has no such thing."""
    match subject.kind:
        case "node":
            return _node_form(subject, data, tools)
        case "edge":
            return _edge_form(subject, data, tools)
        case "part":
            return _part_form(subject, data, tools)


# --- nodes ------------------------------------------------------------------------------------------------


def _node_form(subject: Subject, data: Any, tools: Mapping[str, ToolSpec]) -> Form | None:
    place = node_of(data, subject.key)
    if place is None:
        return None
    node = at(data, place)
    kind = node.get("kind") if isinstance(node.get("kind"), str) else ""
    if kind not in FIELDS:
        kind = ""
    known = Known(data, tools, scope_of(subject.key))
    shown = fields_of_kind(kind) if kind else frozenset(told.LATER) | {"title"}
    shown = shown - {"kind", "body"}
    first = [name for name in told.FIRST.get(kind, ("title",)) if name in shown]
    order = [name for name in told.LATER if name in shown and name not in first]
    order += sorted(shown - set(first) - set(order))
    lead: list[Input | None] = [_node_field(known, node, kind, name) for name in first]
    if kind == "approval":
        lead.append(_checkpoint(known, data, subject.key))
    rest = tuple(_node_field(known, node, kind, name) for name in order)
    return Form(
        subject,
        place,
        _title(node),
        kind,
        KIND_WORDS.get(kind, "Step"),
        tuple(i for i in lead if i is not None),
        rest,
    )


def _node_field(known: Known, node: Mapping[str, Any], kind: str, name: str) -> Input:
    value = node.get(name, MISSING)
    if name == "with":
        return _with(known, node, kind)
    if name == "output":
        return _output(kind, value)
    if name == "title" and kind == "approval":
        return replace(
            _field(known, "Node", name, value), widget="template", label="Question", schema={"type": "string"}
        )
    if name == "id":
        return replace(_field(known, "Node", name, value), aspect="id", required=True, reshapes=True)
    made = _field(known, "Node", name, value)
    if name == "until" and kind == "sensor":
        made = replace(made, label="Gives up at")
    if name == "due" and kind == "sensor":
        made = replace(made, label="Gives up after", hint="")
    if name == "condition":
        made = replace(made, label="Until" if kind == "loop" else "Until this holds")
    return replace(made, reshapes=made.reshapes or name in ("tool", "proposes", "checks"), bare=name in BARE)


def _with(known: Known, node: Mapping[str, Any], kind: str) -> Input:
    value = node.get("with", MISSING)
    spec: ToolSpec | None = None
    label, hint = "Inputs", ""
    if kind == "tool":
        spec = known.tools.get(str(node.get("tool", "")))
        label = "What it is given"
        asked = [n for n in nodes_in(known.data, known.scope) if n.get("proposes") == node.get("id")]
        if asked and node.get("kind") == "tool":
            hint = f"Exactly what is approved at “{_title(asked[0])}”; what is written here is not used."
            spec = None if value is MISSING else spec
    elif kind == "approval":
        proposed = next(
            (n for n in nodes_in(known.data, known.scope) if n.get("id") == node.get("proposes")), None
        )
        spec = known.tools.get(str((proposed or {}).get("tool", "")))
        label = "What is decided on"
    elif kind in ("map", "loop"):
        hint = "The steps inside see it as args."
    elif kind == "code":
        hint = "Each is a variable of the code."
    return call_input(("with",), label, value, spec, hint=hint)


def call_input(path: Path, label: str, value: Value, spec: ToolSpec | None, *, hint: str = "") -> Input:
    """Arguments of a call: one field for each parameter of the tool, and for what was written besides."""
    if value is not MISSING and value is not None and not isinstance(value, dict):
        return Input(path, "template", label, value, hint=hint)
    written = value if isinstance(value, dict) else {}
    properties, required, closed = _parameters(spec.parameters if spec is not None else {})
    inputs = [
        Input(
            (*path, name),
            "template",
            str(part.get("title") or humanise(name)),
            written.get(name, MISSING),
            part.get("default", MISSING),
            hint=str(part.get("description") or ""),
            required=name in required,
            schema=part,
            options=_suggested(part),
        )
        for name, part in properties.items()
    ]
    inputs += [
        Input((*path, name), "template", name, given, noun="removable")
        for name, given in written.items()
        if name not in properties
    ]
    return Input(path, "map", label, value, hint=hint, inputs=tuple(inputs), closed=closed, noun="input")


def _parameters(schema: Any) -> tuple[dict[str, dict[str, Any]], frozenset[str], bool]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return {}, frozenset(), False
    required = schema.get("required")
    named = {
        str(name): _resolved(part, schema) if isinstance(part, dict) else {}
        for name, part in properties.items()
    }
    needed = frozenset(str(n) for n in required) if isinstance(required, list) else frozenset()
    # What is needed comes first.
    ordered = {
        n: named[n] for n in [*(n for n in named if n in needed), *(n for n in named if n not in needed)]
    }
    return ordered, needed, schema.get("additionalProperties") is False


def _resolved(part: dict[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        found = (root.get("$defs") or {}).get(reference.removeprefix("#/$defs/"))
        return found if isinstance(found, dict) else {}
    return part


def _suggested(part: Mapping[str, Any]) -> tuple[tuple[Any, str], ...]:
    listed = part.get("enum") or part.get("examples") or ()
    return (
        tuple((v, str(v)) for v in listed if isinstance(v, (str, int, float)))
        if isinstance(listed, list)
        else ()
    )


def _output(kind: str, value: Value) -> Input:
    hint = "What comes out, field by field. Others read it as steps.<name>.output.<field>."
    if kind in ("agent", "extract", "code"):
        if value is MISSING or value is None or isinstance(value, dict):
            return schema_input(("output",), "Result", value, hint=hint)
        return Input(("output",), "json", "Result", value, hint=hint)
    if kind in ("map", "loop", "transform"):
        label = "Gives" if kind == "transform" else "Each pass hands over"
        if value is MISSING or value is None or isinstance(value, dict):
            made = call_input(("output",), label, value, None)
            return replace(
                made,
                noun="value",
                hint="" if kind == "transform" else "Empty means: what its last step gives.",
            )
        return Input(("output",), "template", label, value)
    return Input(("output",), "json", "Result", value)


def _checkpoint(known: Known, data: Any, path: str) -> Input | None:
    """What an approval does when nobody answers; it stands in the contract, beside the step's name."""
    if "/" in path:
        return None
    listed = at(data, ("contract", "human_checkpoints"))
    mine = (
        [c for c in listed if isinstance(c, dict) and c.get("step") == path]
        if isinstance(listed, list)
        else []
    )
    made = _field(
        known,
        "HumanCheckpoint",
        "timeout_action",
        mine[0].get("timeout_action", MISSING) if mine else MISSING,
    )
    return replace(made, path=("contract", "human_checkpoints"), aspect="timeout_action")


# --- edges ------------------------------------------------------------------------------------------------


def _edge_form(subject: Subject, data: Any, tools: Mapping[str, ToolSpec]) -> Form | None:
    place = edge_of(data, subject.key)
    if place is None:
        return None
    edge = at(data, place)
    scope = subject.key.partition("|")[0]
    known = Known(data, tools, scope)
    titles = dict(known.nodes())
    source = str(edge.get("from", "")).partition(".")[0]
    heading = f"{titles.get(source, source)} → {titles.get(str(edge.get('to')), str(edge.get('to')))}"
    first = [_field(known, "Edge", name, edge.get(name, MISSING)) for name in ("when", "label", "max_rounds")]
    rest = [call_input(("handoff",), told.LABELS["Edge.handoff"], edge.get("handoff", MISSING), None)]
    return Form(subject, place, heading, "edge", "Line", tuple(first), tuple(rest))


# --- parts of the blueprint ---------------------------------------------------------------------------------


def _part_form(subject: Subject, data: Any, tools: Mapping[str, ToolSpec]) -> Form | None:
    known = Known(data, tools)
    if subject.key == "settings":
        metadata = at(data, ("metadata",))
        made = _group(
            known, "Metadata", ("metadata",), metadata if isinstance(metadata, dict) else {}, leave=("name",)
        )
        return Form(subject, (), "This blueprint", first=tuple(made))
    if subject.key == "card":
        card = at(data, ("card",))
        made = _group(known, "Card", ("card",), card if isinstance(card, dict) else {})
        return Form(subject, (), "Card and runbook", first=tuple(made))
    if subject.key == "contract":
        contract = at(data, ("contract",))
        written = contract if isinstance(contract, dict) else {}
        made = _group(known, "Contract", ("contract",), written, leave=("inputs",))
        return Form(subject, (), "Contract", first=tuple(made))
    if subject.key == "inputs":
        value = at(data, ("contract", "inputs"))
        return Form(subject, (), "Inputs", first=(schema_input(("contract", "inputs"), "Inputs", value),))
    if subject.key == "allowed":
        path: Path = ("contract", "boundaries")
        made_one = _field(known, "Boundaries", "allowed_tools", at(data, (*path, "allowed_tools")), path)
        return Form(subject, (), "Allowed", first=(made_one,))
    if subject.key == "outputs":
        value = at(data, ("outputs",))
        return Form(
            subject,
            (),
            "Result",
            first=(replace(call_input(("outputs",), "Result", value, None), noun="value"),),
        )
    part = {
        "agents": "Agent",
        "models": "ModelChoice",
        "tools": "DeclaredTool",
        "connections": "ConnectionNeed",
    }
    if subject.key not in part:
        return None
    nouns = {"agents": "agent", "models": "model", "tools": "tool", "connections": "connection"}
    value = at(data, (subject.key,))
    made_entries = _entries(
        known, part[subject.key], (subject.key,), value, humanise(subject.key), nouns[subject.key]
    )
    return Form(subject, (), humanise(subject.key), first=(made_entries,))


# --- from the schema ----------------------------------------------------------------------------------------


@cache
def _defs() -> dict[str, Any]:
    found: dict[str, Any] = blueprint_schema()["$defs"]
    return found


def _group(
    known: Known, part: str, path: Path, value: Mapping[str, Any], *, leave: Iterable[str] = ()
) -> list[Input]:
    return [
        _field(known, part, name, value.get(name, MISSING), path)
        for name in _defs()[part]["properties"]
        if name not in leave
    ]


def _field(known: Known, part: str, name: str, value: Value, path: Path = ()) -> Input:
    """The input of one field of a part of the format."""
    schema = _defs()[part]["properties"][name]
    key = f"{part}.{name}"
    inner = _core(schema)
    default = schema.get("default", MISSING)
    if default is None or default == "":
        default = MISSING
    options = known.options(key)
    made = Input(
        (*path, name),
        "text",
        told.LABELS.get(key) or humanise(name),
        value,
        default,
        hint=told.HINTS.get(key) or ("" if key in told.ENFORCES else _described(schema)),
        enforces=told.ENFORCES.get(key, ""),
        required=name in _defs()[part].get("required", ()),
        schema=inner,
        noun=told.NOUNS.get(key, "entry"),
    )
    return _shaped(known, made, key, inner, options)


def _shaped(
    known: Known, made: Input, key: str, schema: Schema, options: tuple[tuple[Any, str], ...] | None
) -> Input:
    path, value = made.path, made.value
    named = told.WIDGETS.get(key)
    written = value is not MISSING and value is not None
    if named == "schema" or key in ("Contract.inputs", "Contract.outputs"):
        if not written or isinstance(value, dict):
            return schema_input(path, made.label, value, hint=made.hint, enforces=made.enforces)
        return replace(made, widget="json")
    if key == "ToolCall.with" or named == "map":
        inner = call_input(path, made.label, value, None, hint=made.hint)
        return replace(inner, noun=made.noun)
    if named is not None:
        if named in ("expression", "prompt", "long", "code") and written and not isinstance(value, str):
            return replace(made, widget="json")
        wanted = {"type": "string"} if named == "template" and schema.get("type") == "string" else {}
        return replace(made, widget=named, schema=wanted)
    if options is not None:
        return _choosing(made, schema, options)
    enum = schema.get("enum")
    if isinstance(enum, list):
        spelled = told.OPTIONS.get(key, {})
        return replace(
            made, widget="choice", options=tuple((v, spelled.get(str(v), humanise(str(v)))) for v in enum)
        )
    if "const" in schema:
        return replace(made, widget="tick", closed=True)
    if "examples" in schema:
        return replace(made, widget="duration", hint=made.hint or "Such as 30s, 5m or 4h.")
    reference = str(schema.get("$ref", "")).rpartition("/")[2]
    if reference in _defs():
        return _of_part(known, made, reference)
    match schema.get("type"):
        case "boolean":
            return replace(made, widget="tick" if not written or isinstance(value, bool) else "json")
        case "integer":
            return replace(made, widget="whole")
        case "number":
            return replace(made, widget="number")
        case "array":
            return _listed(known, made, key, schema)
        case "object":
            return _mapped(known, made, key, schema)
        case "string":
            return made if not written or isinstance(value, str) else replace(made, widget="json")
        case _:
            return replace(made, widget="json")


def _choosing(made: Input, schema: Schema, options: tuple[tuple[Any, str], ...]) -> Input:
    if schema.get("type") == "array":
        listed = isinstance(made.value, list) or made.value is MISSING or made.value is None
        return replace(made, widget="names" if listed else "json", options=options)
    return replace(made, widget="choice", options=options)


def _of_part(known: Known, made: Input, part: str) -> Input:
    value = made.value
    if value is not MISSING and value is not None and not isinstance(value, dict):
        return replace(made, widget="json")
    written = value if isinstance(value, dict) else {}
    inputs = [
        _field(known, part, name, written.get(name, MISSING), made.path)
        for name in _defs()[part]["properties"]
    ]
    if part == "ToolCall":
        inputs = _tool_call(known, made.path, written)
    return replace(made, widget="group", inputs=tuple(inputs), schema={})


def _tool_call(known: Known, path: Path, written: Mapping[str, Any]) -> list[Input]:
    tool = _field(known, "ToolCall", "tool", written.get("tool", MISSING), path)
    spec = known.tools.get(str(written.get("tool", "")))
    given = call_input((*path, "with"), "What it is given", written.get("with", MISSING), spec)
    return [replace(tool, reshapes=True), given]


def _listed(known: Known, made: Input, key: str, schema: Schema) -> Input:
    items = _core(schema.get("items") or {})
    part = str(items.get("$ref", "")).rpartition("/")[2]
    value = made.value
    if part in _defs():
        if value is not MISSING and value is not None and not isinstance(value, list):
            return replace(made, widget="json")
        rows = [
            _row(known, part, (*made.path, index), row, made.noun, index)
            for index, row in enumerate((value or [])[:MOST_ROWS] if isinstance(value, list) else [])
        ]
        return replace(made, widget="rows", inputs=tuple(rows))
    enum = items.get("enum")
    listed = value is MISSING or value is None or isinstance(value, list)
    if isinstance(enum, list) and listed:
        spelled = told.OPTIONS.get(key, {})
        return replace(made, widget="names", options=tuple((v, spelled.get(str(v), str(v))) for v in enum))
    if items.get("type") == "string" and (not isinstance(value, list) or fits_lines(value)) and listed:
        return replace(made, widget="lines", hint=made.hint or "One per line.")
    return replace(made, widget="json")


def _row(known: Known, part: str, path: Path, row: Any, noun: str, index: int) -> Input:
    label = f"{noun.capitalize()} {index + 1}"
    if isinstance(row, str) and part in ("Criterion", "ForbiddenAction"):
        inputs = _short_row(known, part, path, row)
    elif isinstance(row, dict):
        inputs = [
            _field(known, part, name, row.get(name, MISSING), path) for name in _defs()[part]["properties"]
        ]
        inputs = [_check_field(one, row) for one in inputs]
    else:
        inputs = [Input(path, "json", label, row)]
    return Input(path, "group", label, row, inputs=tuple(inputs), aspect="row", noun=noun)


def _short_row(known: Known, part: str, path: Path, row: str) -> list[Input]:
    """A criterion or an action written as a text alone, with what it could have besides."""
    main, second = ("text", "check") if part == "Criterion" else ("name", "when")
    first = replace(_field(known, part, main, row, path), path=path)
    other = replace(
        _field(known, part, second, MISSING, path), path=path, aspect=f"as {main} {second}", reshapes=True
    )
    return [first, other]


def _check_field(one: Input, row: Mapping[str, Any]) -> Input:
    """The arguments of a check, by the kind of check."""
    name = one.path[-1]
    if name == "check":
        return replace(one, reshapes=True)
    if name != "args" or not isinstance(row.get("check", "expression"), str):
        return one
    given = row.get("args", MISSING)
    if given is not MISSING and given is not None and not isinstance(given, dict):
        return one
    written = given if isinstance(given, dict) else {}
    kind = row.get("check", "expression") if "check" in row or "text" not in row else ""
    wanted = told.CHECK_ARGUMENTS.get(str(kind), ())
    inputs = []
    for key in [*wanted, *(k for k in written if k not in wanted)]:
        widget: Widget = "expression" if key == "that" else "json" if key == "schema" else "template"
        value = written.get(key, MISSING)
        if widget == "expression" and value is not MISSING and not isinstance(value, str):
            widget = "json"
        label = told.ARGUMENT_WORDS.get(key, key)
        inputs.append(Input((*one.path, key), widget, label, value, required=key in wanted))
    return replace(
        one, widget="map", label="What is checked", inputs=tuple(inputs), closed=True, noun="input"
    )


def _mapped(known: Known, made: Input, key: str, schema: Schema) -> Input:
    inner = schema.get("additionalProperties")
    part = str(inner.get("$ref", "")).rpartition("/")[2] if isinstance(inner, dict) else ""
    if part in _defs():
        return _entries(known, part, made.path, made.value, made.label, made.noun, made)
    if made.value is not MISSING and made.value is not None and not isinstance(made.value, dict):
        return replace(made, widget="json")
    made_map = call_input(made.path, made.label, made.value, None, hint=made.hint)
    return replace(made_map, noun=made.noun, enforces=made.enforces)


def _entries(
    known: Known, part: str, path: Path, value: Value, label: str, noun: str, made: Input | None = None
) -> Input:
    """A mapping of named things, such as the agents."""
    whole = made or Input(path, "entries", label, value, noun=noun)
    if value is not MISSING and value is not None and not isinstance(value, dict):
        return replace(whole, widget="json")
    rows = []
    for name, entry in list(value.items())[:MOST_ROWS] if isinstance(value, dict) else []:
        here = (*path, str(name))
        if isinstance(entry, dict):
            inputs = [
                _field(known, part, f, entry.get(f, MISSING), here) for f in _defs()[part]["properties"]
            ]
        else:
            inputs = [Input(here, "json", str(name), entry)]
        rows.append(Input(here, "group", str(name), entry, inputs=tuple(inputs), aspect="row", noun=noun))
    return replace(whole, widget="entries", inputs=tuple(rows), noun=noun, schema={})


def _core(schema: Any) -> dict[str, Any]:
    """A schema without its "or null", and without "or text" where a part may be written short."""
    if not isinstance(schema, dict):
        return {}
    options = schema.get("anyOf")
    if not isinstance(options, list) or "examples" in schema:
        return schema
    real = [o for o in options if isinstance(o, dict) and o.get("type") != "null"]
    by_name = [o for o in real if "$ref" in o]
    chosen: list[dict[str, Any]] = by_name or real
    return chosen[0] if chosen else {}


def _described(schema: Schema) -> str:
    text = str(schema.get("description") or "")
    return " ".join(text.replace("`", "").split())


def _title(node: Mapping[str, Any]) -> str:
    title = node.get("title")
    return title if isinstance(title, str) and title.strip() else humanise(str(node.get("id", "")))
