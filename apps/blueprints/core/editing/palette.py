"""What can be added to a draft, in plain words, what fits best first.

Each entry carries a template: the fields of the node it adds, filled in as far as that is honest. A tool's
argument is filled in where a step before, or the contract, has a value of the same name and a fitting type;
what only a person can say stays out, and the "things to fix" ask for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from apps.blueprints.core.editing.connect import parse_source
from apps.blueprints.core.editing.fragment import free_id
from apps.blueprints.core.editing.meaning import Meaning, fits
from apps.blueprints.core.editing.sketch import Sketch, sketch, text
from apps.blueprints.core.schemas import Schema, types
from apps.blueprints.core.suggest import nearest
from apps.blueprints.core.tools import ToolSpec

MOST = 60
"""Entries of one answer."""
MOST_SUBFLOWS = 200


@dataclass(frozen=True)
class KindWords:
    title: str
    description: str
    group: str
    also: str = ""
    """Words people look for it by."""


KINDS: Final[dict[str, KindWords]] = {
    "agent": KindWords("Agent", "Let a model work with tools until it has an answer", "Work", "ai llm write"),
    "tool": KindWords("Tool", "Call one tool with given arguments", "Work", "action call api send"),
    "transform": KindWords("Transform", "Calculate or rearrange values, no model", "Work", "set rename"),
    "extract": KindWords("Extract", "Read named fields out of a text with a model", "Work", "parse ai llm"),
    "code": KindWords("Code", "Run a few lines of Python over values", "Work", "python script function"),
    "approval": KindWords(
        "Approval", "Ask people before it goes on", "People", "human review ask confirm gate person"
    ),
    "router": KindWords("Router", "Take one of several ways", "Choose", "if else switch branch condition"),
    "check": KindWords("Check", "Go on only when something holds", "Choose", "verify assert guard quality"),
    "aggregator": KindWords("Merge", "Wait for several branches and join them", "Choose", "join aggregator"),
    "timer": KindWords("Wait", "Wait for some time, or until a time", "Wait", "timer delay sleep pause"),
    "sensor": KindWords(
        "Sensor", "Wait for a message, or until something is there", "Wait", "signal webhook poll event"
    ),
    "map": KindWords("For each", "Do the same steps for every item of a list", "Repeat", "map loop items"),
    "loop": KindWords("Loop", "Repeat steps until it is good enough", "Repeat", "while until again rounds"),
    "subflow": KindWords("Subflow", "Run another blueprint as one step", "Repeat", "child workflow call"),
}  # fmt: skip

_USUAL = {kind: len(KINDS) - place for place, kind in enumerate(KINDS)}
_AFTER: Final[dict[str, dict[str, int]]] = {
    # What usually follows a kind, beside what its data says.
    "": {"transform": 4, "agent": 5, "tool": 4},
    "agent": {"approval": 8, "check": 7, "router": 4, "transform": 3},
    "extract": {"router": 7, "check": 6, "tool": 4, "transform": 4},
    "tool": {"agent": 7, "extract": 6, "transform": 5, "map": 3},
    "transform": {"agent": 5, "router": 5, "tool": 4, "map": 3},
    "router": {"agent": 6, "tool": 5, "approval": 5},
    "check": {"approval": 6, "tool": 5, "agent": 3},
    "approval": {"tool": 9, "timer": 3},
    "timer": {"tool": 5, "sensor": 4},
    "sensor": {"transform": 5, "router": 5, "agent": 4},
    "map": {"transform": 6, "agent": 6, "approval": 4},
    "loop": {"approval": 6, "check": 5, "transform": 4},
}
_FAILED = {"approval": 12, "tool": 6, "timer": 6, "transform": 5}


@dataclass(frozen=True)
class Subflow:
    """A published blueprint that a step may run."""

    name: str
    number: int
    title: str
    summary: str
    inputs: Schema = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    kind: str
    title: str
    description: str
    group: str
    template: dict[str, Any]
    """Fields of the node, its id included."""
    name: str = ""
    """Of the tool, agent or blueprint."""
    fit: str = ""
    """Why it fits here; empty when nothing is known."""
    also: str = ""
    rank: int = 0

    def as_json(self) -> dict[str, Any]:
        named = {self.kind: self.name} if self.kind in ("tool", "agent") and self.name else {}
        return {
            "kind": self.kind, **named, "name": self.name, "title": self.title,
            "description": self.description, "group": self.group, "fit": self.fit, "template": self.template,
        }  # fmt: skip


def palette(
    data: Any,
    tools: Mapping[str, ToolSpec],
    *,
    source: str = "",
    query: str = "",
    scope: str = "",
    subflows: Sequence[Subflow] = (),
) -> list[Entry]:
    """What can be added, best first.

    source: `path` or `path.port` that the new step will follow; it then stands in the same graph.
    query: words to look for. scope: the graph it is added to, when there is no source.
    tools: the built-in ones.
    """
    maker = _Maker(data, tools, source, scope)
    entries = [*maker.kinds(), *maker.tools(), *maker.agents(), *maker.subflows(subflows)]
    if query.strip():
        scored = [(_match(entry, query), entry) for entry in entries]
        known = [(score, entry) for score, entry in scored if score]
        if not known:
            near = nearest(query, [entry.title for entry in entries])
            known = [(1, entry) for entry in entries if entry.title == near]
        return [e for _, e in sorted(known, key=lambda pair: (-pair[0], -pair[1].rank))][:MOST]
    return sorted(entries, key=lambda entry: -entry.rank)[:MOST]


def _match(entry: Entry, query: str) -> int:
    """How well an entry answers a search: every word must be found; 0 when one is not."""
    title, name = entry.title.lower(), entry.name.lower().replace("_", " ")
    rest = f"{entry.kind} {entry.description} {entry.also} {entry.group}".lower()
    total = 0
    for word in query.lower().replace("_", " ").split():
        if title.startswith(word) or name.startswith(word):
            total += 40
        elif any(part.startswith(word) for part in f"{title} {name}".split()):
            total += 30
        elif any(part.startswith(word) for part in rest.split()):
            total += 15
        elif word in title or word in name or (len(word) > 3 and word in rest):
            total += 8
        else:
            return 0
    return total


class _Maker:
    def __init__(self, data: Any, tools: Mapping[str, ToolSpec], source: str, scope: str) -> None:
        self.plan: Sketch = sketch(data)
        self.meaning = Meaning(data, tools)
        self.path, self.port = parse_source(self.plan, source)
        if self.path not in self.plan.nodes:
            self.path, self.port = "", ""
        self.scope = self.plan.scopes[self.path] if self.path else scope
        self.taken = {
            text(self.plan.written[path].get("id"))
            for path, around in self.plan.scopes.items()
            if around == self.scope
        }
        self.after = self.plan.nodes[self.path].kind if self.path else ""
        # Nearest first: the step it follows, then what stands before that.
        before = [self.path, *self.meaning.before(self.path)] if self.path else self._around()
        self.known = [
            (path.rpartition("/")[2], self.meaning.fields_of(path)) for path in before if self._can_read(path)
        ]

    def _around(self) -> list[str]:
        """What a first step of a body may read."""
        return list(self.meaning.before(f"{self.scope}/")) if self.scope else []

    def _can_read(self, path: str) -> bool:
        """After a failure there is no output of that step."""
        return not (path == self.path and self.port == "failed")

    # Entries

    def kinds(self) -> list[Entry]:
        entries = []
        for kind, words in KINDS.items():
            template = {"id": free_id(_ID_OF.get(kind, kind), self.taken), "kind": kind, **self._usual(kind)}
            rank = self._rank(kind)
            entries.append(
                Entry(
                    kind, words.title, words.description, words.group, template, also=words.also,
                    rank=rank, fit=self._fit_of_kind(kind),
                )
            )  # fmt: skip
        return entries

    def tools(self) -> list[Entry]:
        entries = []
        for name, spec in self.meaning.tools.items():
            with_, missing = self._arguments(spec.parameters)
            required = len(self.meaning.needs(name))
            found = required - missing
            rank = self._rank("tool") - 2 + (6 * found // required if required else 1)
            if self.after == "approval" and spec.is_write:
                rank += 3
            template: dict[str, Any] = {"id": free_id(name, self.taken), "kind": "tool", "tool": name}
            if with_:
                template["with"] = with_
            group = "Tools of this blueprint" if spec.declared else "Tools"
            fit = f"Finds {_listed(list(with_))} here." if with_ and self.path else ""
            entries.append(
                Entry(
                    "tool", _title(name), spec.description, group, template, name=name, fit=fit,
                    also=f"tool {spec.permission}", rank=rank,
                )
            )  # fmt: skip
        return entries

    def agents(self) -> list[Entry]:
        case = self.meaning.cases.get("")
        entries = []
        for name, agent in case.document.agents.items() if case is not None else ():
            template: dict[str, Any] = {"id": free_id(name, self.taken), "kind": "agent", "agent": name}
            says = " ".join(agent.instructions.split())[:120] or "An agent of this blueprint"
            entries.append(
                Entry(
                    "agent", _title(name), says, "Agents of this blueprint", template, name=name,
                    also="agent ai", rank=self._rank("agent") + 2,
                )
            )  # fmt: skip
        return entries

    def subflows(self, choices: Sequence[Subflow]) -> list[Entry]:
        entries = []
        for choice in choices[:MOST_SUBFLOWS]:
            with_, _ = self._arguments(choice.inputs)
            template = {
                "id": free_id(choice.name, self.taken),
                "kind": "subflow",
                "blueprint": f"{choice.name}@{choice.number}",
                **({"with": with_} if with_ else {}),
            }
            entries.append(
                Entry(
                    "subflow", choice.title or _title(choice.name), choice.summary or "A published blueprint",
                    "Blueprints", template, name=f"{choice.name}@{choice.number}", also="subflow blueprint",
                    rank=self._rank("subflow") - 3,
                )
            )  # fmt: skip
        return entries

    # What fits

    def _rank(self, kind: str) -> int:
        rank = _USUAL[kind] // 3 + _AFTER.get(self.after, {}).get(kind, 0)
        if self.port == "failed":
            return _USUAL[kind] // 3 + _FAILED.get(kind, 0)
        if self.port in ("rejected", "expired") and kind == "tool":
            rank -= 6
        if kind == "map" and self._list_field():
            rank += 6
        if kind == "aggregator" and self._is_one_of_several():
            rank += 9
        return rank

    def _fit_of_kind(self, kind: str) -> str:
        if kind == "map" and (found := self._list_field()):
            return f"Goes through “{found[1]}”."
        if kind == "aggregator" and self._is_one_of_several():
            return "Several branches end here without being joined."
        return ""

    def _is_one_of_several(self) -> bool:
        """Whether what the new step follows runs beside something else that leads nowhere yet."""
        if not self.path:
            return False
        leads_on = {edge.source for edge in self.plan.edges}
        into = {edge.source for edge in self.plan.edges if edge.target == self.path}
        return any(
            edge.source in into and edge.target != self.path and edge.target not in leads_on
            for edge in self.plan.edges
        )

    def _list_field(self) -> tuple[str, str] | None:
        """A list to go through: (expression, its name)."""
        for node_id, fields in self.known:
            for name, schema in fields.items():
                if types(schema) == frozenset({"array"}):
                    return f"steps.{node_id}.output.{name}", name
        for name, schema in self.meaning.inputs().items():
            if types(schema) == frozenset({"array"}) or schema.get("format") == "files":
                return f"inputs.{name}", name
        return None

    def _arguments(self, parameters: Schema) -> tuple[dict[str, str], int]:
        """Required arguments that can be filled in from here, and how many cannot."""
        properties, required = parameters.get("properties"), parameters.get("required")
        found, missing = {}, 0
        for name in required if isinstance(required, list) else ():
            need = properties.get(name) if isinstance(properties, dict) else None
            value = self._value(str(name), need if isinstance(need, dict) else {})
            if value:
                found[str(name)] = value
            else:
                missing += 1
        return found, missing

    def _value(self, name: str, need: Schema) -> str:
        for node_id, fields in self.known:
            if name in fields and fits(fields[name], need):
                return f"{{{{ steps.{node_id}.output.{name} }}}}"
        inputs = self.meaning.inputs()
        case = self.meaning.cases.get("")
        required = case.document.contract.inputs.get("required") if case is not None else None
        if name in inputs and fits(inputs[name], need) and isinstance(required, list) and name in required:
            return f"{{{{ inputs.{name} }}}}"
        return ""

    def _usual(self, kind: str) -> dict[str, Any]:
        """Fields a node of a kind begins with."""
        here = self.known[0][0] if self.known and self.path else ""
        output = f"{{{{ steps.{here}.output }}}}" if here else "{{ inputs }}"
        case = self.meaning.cases.get("")
        agents = list(case.document.agents) if case is not None else []
        fields: dict[str, dict[str, Any]] = {
            "agent": {"agent": agents[0]} if len(agents) == 1 else {},
            "transform": {"output": output},
            "extract": {
                "with": {"text": output},
                "output": {
                    "type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}},
                },
            },
            "aggregator": {"join": "all"},
            "approval": {"title": "Go on?", **({"show": [here]} if here else {})},
            "timer": {"duration": "1h"},
            "sensor": {"signal": "message"},
            "map": {"items": f"{{{{ {found[0]} }}}}" if (found := self._list_field()) else "{{ [] }}",
                    "body": {"nodes": [], "edges": []}},
            "loop": {"max_rounds": 3, "body": {"nodes": [], "edges": []}},
            "code": {"with": {"value": output}},
        }  # fmt: skip
        return fields.get(kind, {})


_ID_OF = {"aggregator": "merge", "map": "each", "timer": "wait", "approval": "approve", "subflow": "run"}


def _title(name: str) -> str:
    words = name.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def _listed(names: list[str]) -> str:
    shown = [f"“{name}”" for name in names[:3]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
