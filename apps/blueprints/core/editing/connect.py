"""Where an edge may go, and why not elsewhere, in words.

The rules for a wrong edge live here alone: the canvas, the outline and the API ask before one is drawn.
An edge says what comes next; data is read by expressions from any step before. So an edge is refused for
where it stands, for what it would repeat, and for what it would let happen, and an answer says what the
target could read from its new neighbour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.editing.meaning import Meaning, fits, known_to_fit
from apps.blueprints.core.editing.sketch import Sketch, all_ports, joined, sketch, text
from apps.blueprints.core.editing.view import port_words
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.kinds import main_port
from apps.blueprints.core.tools import ToolSpec

ROUNDS = 3
"""Bound of a back edge drawn in the editor; its author changes it as they like."""
_NOT_A_YES = frozenset(["rejected", "expired", "failed"])


@dataclass(frozen=True)
class Target:
    node: str
    """Path."""
    title: str
    allowed: bool
    reason: str
    """Why not, or what it will do; one sentence, may be empty when there is nothing to say."""
    edge: dict[str, Any] | None
    """The edge to add, as it stands in a blueprint; None when it is refused."""
    rank: int = 0
    """Higher fits better."""

    def as_json(self) -> dict[str, Any]:
        return {
            "node": self.node,
            "title": self.title,
            "allowed": self.allowed,
            "reason": self.reason,
            "edge": self.edge,
            "scope": self.node.rpartition("/")[0],
        }


def parse_source(plan: Sketch, source: str) -> tuple[str, str]:
    """`each/score.done` as (`each/score`, `done`); without a port the node's main port."""
    scope, slash, last = source.rpartition("/")
    node_id, _, port = last.partition(".")
    path = f"{scope}{slash}{node_id}"
    node = plan.nodes.get(path)
    return path, port or (main_port(node) if node is not None else "")


def targets(data: Any, source: str, tools: Mapping[str, ToolSpec]) -> list[Target]:
    """Every node as the end of an edge that begins at `path` or `path.port`: allowed ones first, best first.

    Empty when there is no such node. tools: the built-in ones.
    """
    plan = sketch(data)
    path, port = parse_source(plan, source)
    if path not in plan.nodes:
        return []
    rules = _Rules(plan, path, port, Meaning(data, tools))
    found = [rules.judge(target) for target in plan.nodes]
    return sorted(found, key=lambda t: (not t.allowed, -t.rank))


class _Rules:
    def __init__(self, plan: Sketch, path: str, port: str, meaning: Meaning) -> None:
        self.plan, self.path, self.port, self.meaning = plan, path, port, meaning
        self.scope = plan.scopes[path]
        self.node = plan.nodes[path]
        container = plan.nodes.get(self.scope)
        body = container.body if container is not None else plan.document.graph
        assert body is not None, "a scope is a graph"
        self.shape = Shape(body)
        self.wrong_source = self._wrong_source()

    def judge(self, target: str) -> Target:
        refused = self.wrong_source or self._wrong_place(target) or self._wrong_meaning(target)
        title = self._title(target)
        if refused:
            return Target(target, title, False, refused, None)
        goes_back = self._goes_back(target)
        refused = self._overlap(target, goes_back)
        if refused:
            return Target(target, title, False, refused, None)
        main = self.port == main_port(self.node)
        edge: dict[str, Any] = {
            "from": self.node.id if main else f"{self.node.id}.{self.port}",
            "to": self.plan.nodes[target].id,
        }
        if goes_back:
            edge["max_rounds"] = ROUNDS
            return Target(target, title, True, self._said_of_going_back(target), edge, -1)
        reason, rank = self._gain(target)
        return Target(target, title, True, reason, edge, rank)

    def _title(self, path: str) -> str:
        return self.plan.title(path)

    def _called(self, path: str) -> str:
        return f"“{self._title(path)}”"

    # Reasons to refuse

    def _wrong_source(self) -> str:
        if not text(self.plan.written[self.path].get("id")):
            return "The step it would leave has no id yet; give it one first."
        ports = all_ports(self.node)
        if self.port not in ports:
            known = ", ".join(port_words(self.node.kind, port) for port in ports)
            return f"{self._called(self.path)} has no way out called “{self.port}”; it has {known}."
        return ""

    def _wrong_place(self, target: str) -> str:
        if not text(self.plan.written[target].get("id")):
            return "This step has no id yet; give it one first."
        if self.plan.nodes[target].id != text(self.plan.written[target].get("id")):
            return "Another step has the same id; give this one an id of its own first."
        scope = self.plan.scopes[target]
        if scope != self.scope:
            return self._other_graph(target, scope)
        if any(e.port == self.port and e.target == target for e in self.plan.leaving(self.path)):
            return f"{self._called(self.path)} leads there by “{self._port_words()}” already."
        return ""

    def _other_graph(self, target: str, scope: str) -> str:
        if self.path == scope or scope.startswith(f"{self.path}/"):
            return (
                f"It stands inside {self._called(self.path)}, where steps begin by themselves; "
                "an edge does not lead into a body."
            )
        if not self.scope or scope.startswith(f"{self.scope}/"):
            outside = scope.removeprefix(f"{self.scope}/" if self.scope else "").partition("/")[0]
            around = joined(self.scope, outside)
            return f"It stands inside {self._called(around)}; connect {self._called(around)} itself."
        around = self._called(self.scope)
        return f"It stands outside {around}; what follows the last item leaves by {around} itself."

    def _wrong_meaning(self, target: str) -> str:
        """An approval's no may not lead straight to what it asked about."""
        proposes = text(self.plan.written[self.path].get("proposes"))
        if self.node.kind == "approval" and proposes == self.plan.nodes[target].id and proposes:
            if self.port in _NOT_A_YES:
                return (
                    f"{self._called(target)} is what {self._called(self.path)} asks about: it may run only "
                    "after a yes."
                )
            if self.port == "changes":
                return (
                    f"{self._called(target)} would act before the changes asked for are made; "
                    "go back to the step that writes it."
                )
        return ""

    def _overlap(self, target: str, goes_back: bool) -> str:
        """Two rounds that share steps, neither holding all of the other, have no meaning."""
        shape = self.shape
        bounded = [e for _, e in shape.edges if e.max_rounds is not None]
        if len(bounded) < (1 if goes_back else 2):
            return ""
        source, end = self.node.id, self.plan.nodes[target].id
        before = shape.before
        if not goes_back:  # Rounds that are there grow by what now leads into them.
            new = before[source] | shape.bit[source]
            reached = shape.bit[end]
            before = {
                name: mask | new if (mask | shape.bit[name]) & reached else mask
                for name, mask in before.items()
            }
        rounds = [(e.source, e.to) for e in bounded if e.to == e.source or shape.bit[e.to] & before[e.source]]
        bodies = [(to, self._body(before, begin, to)) for begin, to in rounds]
        mine = [(end, self._body(before, source, end))] if goes_back else []
        for one, (_, body) in enumerate(mine or bodies):
            for to, other in bodies if mine else bodies[one + 1 :]:
                if body & other and body & other not in (body, other):
                    begin = self._called(joined(self.scope, to))
                    return f"It would cross the rounds that go back to {begin}" + (
                        f"; go back to {begin} as well." if goes_back else "."
                    )
        return ""

    def _body(self, before: Mapping[str, int], source: str, end: str) -> int:
        """Mask of the steps that an edge back from `source` to `end` repeats."""
        bit = self.shape.bit
        ends, start = before[source] | bit[source], bit[end]
        body = start | bit[source]
        for name, mask in before.items():
            if mask & start and bit[name] & ends:
                body |= bit[name]
        return body

    # What an allowed edge does

    def _goes_back(self, target: str) -> bool:
        end = self.plan.nodes[target].id
        return end == self.node.id or bool(self.shape.bit[end] & self.shape.before[self.node.id])

    def _said_of_going_back(self, target: str) -> str:
        said = f"Goes back: what lies between runs again, at most {ROUNDS} rounds in all."
        if self.port == main_port(self.node) and self.node.kind not in ("router", "approval", "check"):
            said += " Give it a condition, so that the run can also go on."
        return said

    def _gain(self, target: str) -> tuple[str, int]:
        """What the target could read from here, and how well that fits."""
        node = self.plan.nodes[target]
        proposes = text(self.plan.written[self.path].get("proposes"))
        if self.node.kind == "approval" and proposes and proposes == node.id:
            return "Runs exactly as it was approved.", 20
        if self.port == "failed":
            return "Runs when this step has failed for good.", 0
        fields = self.meaning.fields_of(self.path)
        needs = self.meaning.needs(node.tool) if node.kind == "tool" else {}
        good = [name for name, schema in needs.items() if name in fields and fits(fields[name], schema)]
        clash = [name for name, schema in needs.items() if name in fields and not fits(fields[name], schema)]
        alone = not any(e.target == target for e in self.plan.edges)
        rank = (4 if alone else 0) + 3 * len(good) - 2 * len(clash)
        if clash:
            return f"It may follow, but “{clash[0]}” here is of another kind than it needs.", rank
        if good:
            sure = sum(known_to_fit(fields[name], needs[name]) for name in good)
            return f"It can take {_listed(good)} from here.", rank + sure
        if node.kind == "aggregator" and not alone:
            return "One more branch to wait for.", rank + 2
        return "", rank

    def _port_words(self) -> str:
        return port_words(self.node.kind, self.port)


def _listed(names: list[str]) -> str:
    shown = [f"“{name}”" for name in names[:3]]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
