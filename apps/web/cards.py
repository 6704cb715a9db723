"""What a blueprint looks like on a card: its picture, what it touches in words, and its record so far."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.db.models import Count
from django.utils.safestring import SafeString

from apps.blueprints import selectors as blueprints
from apps.blueprints.core.document import Criterion, Document, ForbiddenAction
from apps.blueprints.core.manifest import Manifest, manifest
from apps.blueprints.core.text_fit import title_of
from apps.runs import selectors as runs
from apps.web import pictures
from apps.web.core import words
from apps.workspaces.access import Principal


@dataclass(frozen=True)
class Line:
    icon: str
    text: str


@dataclass(frozen=True)
class Record:
    """Real runs of one blueprint; simulated ones and tests of a draft do not count."""

    total: int = 0
    ended: int = 0
    succeeded: int = 0

    def __str__(self) -> str:
        if not self.total:
            return "No runs yet"
        text = words.plural(self.total, "run")
        if self.ended:
            text += f", {round(100 * self.succeeded / self.ended)} % succeeded (n = {self.ended})"
        return text


@dataclass(frozen=True)
class Card:
    item: Any
    """A GalleryItem or a Blueprint."""
    thumb: SafeString
    touches: list[Line]
    asks: list[Line]
    """What people decide."""
    steps: int
    approvals: int
    record: Record
    has_sample: bool
    key: str
    """Idempotency key of this showing: a doubled click starts one run."""


def records(principal: Principal) -> dict[str, Record]:
    """The record of every blueprint of the workspace, by name, in one query."""
    counted: dict[str, dict[str, int]] = {}
    real = runs.runs_for(principal).filter(simulate=False, version__is_trial=False).order_by()
    rows = real.values("blueprint_name", "status").annotate(n=Count("id"))
    for row in rows:
        counted.setdefault(row["blueprint_name"], {})[row["status"]] = row["n"]
    return {
        name: Record(
            total=sum(by.values()),
            ended=sum(by.get(s, 0) for s in ("succeeded", "failed")),
            succeeded=by.get("succeeded", 0),
        )
        for name, by in counted.items()
    }


def card_of(item: Any, document: Document, record: Record, *, sample: bool = False) -> Card:
    tools = blueprints.tools_of(document)
    told = manifest(document, tools)
    return Card(
        item=item,
        thumb=pictures.thumbnail(document, tools),
        touches=_touches(told),
        asks=[Line("person", sentence) for sentence in told.approvals],
        steps=len(document.graph.nodes),
        approvals=sum(node.kind == "approval" for node in document.graph.nodes),
        record=record,
        has_sample=sample,
        key=str(uuid4()),
    )


def _touches(told: Manifest) -> list[Line]:
    """Everything it touches, what changes the world first."""
    writes = [Line("write", sentence) for sentence in told.writes]
    return [
        *(writes or [Line("check", "Changes nothing outside.")]),
        *(Line("read", sentence) for sentence in told.reads),
        *(Line("model", sentence) for sentence in told.models),
        *(Line("plug", needed.sentence) for needed in told.connections),
    ]


def contract_of(document: Document) -> dict[str, Any]:
    """The contract as a card shows it."""
    contract = document.contract
    titles = {node.id: title_of(node.title, node.id) for node in document.graph.nodes}
    budget = contract.budget.per_run_usd
    return {
        "goal": contract.goal,
        "criteria": [c.text if isinstance(c, Criterion) else c for c in contract.success_criteria.output],
        "allowed": [words.humanise(tool).lower() for tool in contract.boundaries.allowed_tools],
        "forbidden": [
            words.humanise(f.name if isinstance(f, ForbiddenAction) else f).lower()
            for f in contract.boundaries.forbidden_actions
        ],
        "people": [titles.get(h.step, h.step) for h in contract.human_checkpoints],
        "retries": contract.recovery_policy.retry_budget,
        "run_retries": contract.recovery_policy.run_retry_budget,
        "budget": f"${budget:.2f}" if budget is not None else "",
    }


def outline_of(document: Document) -> list[dict[str, Any]]:
    """The graph as a list: what a screen reader, a phone and a printer read."""
    titles = {node.id: title_of(node.title, node.id) for node in document.graph.nodes}

    def then(node_id: str) -> Iterable[str]:
        for edge in document.graph.edges:
            if edge.source == node_id:
                port = f"{edge.port}: " if edge.port and edge.port != "done" else ""
                yield f"{port}{titles.get(edge.to, edge.to)}"

    return [
        {"id": n.id, "title": titles[n.id], "kind": n.kind, "tool": n.tool, "then": list(then(n.id))}
        for n in document.graph.nodes
    ]
