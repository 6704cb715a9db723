"""Everything the run page shows, read once, in fragments; the page and the socket draw the same ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from apps.approvals import selectors as approvals
from apps.blueprints import selectors as blueprints
from apps.blueprints.core import canonical, expressions
from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.document import Criterion, Document
from apps.blueprints.core.editing.view import view_of
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec
from apps.ledger.payloads import Extent
from apps.runs import selectors as runs
from apps.runs.core.nodes import standing
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus
from apps.runs.models import Run, Step
from apps.runs.recovery import is_required_of_a_person
from apps.runs.services import can_kill_worker
from apps.runs.signals import awaited
from apps.runs.views import effect_view, event_view
from apps.web.core import recovery, timeline, tree, words
from apps.web.pictures import run_picture
from apps.web.signal_form import Awaited, awaited_form
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now

EVENTS_SHOWN = 100
MOST_TOLD = 4
"""Steps named in the sentence that says where the run is."""
MARKS_READ = 4000
"""Entries the bars are made from; a longer run shows its latest."""
LIVE = ("head", "proof", "timeline", "picture", "next", "effects", "cost", "criteria", "result")
"""Fragments a socket keeps up to date; each is `runs/_<name>.html` around `id="run-<name>"`."""
ORDER_OF_INTEREST = ("failed", "in_doubt", "waiting", "running", "ready")


@dataclass
class Row:
    """One step on the timeline."""

    path: str
    node: str
    title: str
    kind: str
    status: str
    reason: str
    look: words.Look
    bars: list[timeline.Bar] = field(default_factory=list)
    depth: int = 0
    """How far inside maps and loops it is."""
    word: str = ""
    tail: str = ""
    since: str = ""
    link: str = ""
    selected: bool = False
    mark: str = ""
    """Changes whenever the step's panel would show something else."""
    summary: str = ""
    notes: list[str] = field(default_factory=list)
    """What a person should know about its output, such as documents that could not be read."""


class RunPage:
    """One run as one member sees it at one moment.

    chosen: path of the step a person has selected; empty lets the page follow what is most interesting.
    """

    def __init__(self, principal: Principal, run: Run, chosen: str = "") -> None:
        self.principal = principal
        self.run = run
        self.chosen = chosen
        self.at = now()
        self.address = reverse("web:runs-detail", args=[run.id])

    # --- what is read, once each

    @cached_property
    def document(self) -> Document:
        return blueprints.document_of(self.run.version)

    @cached_property
    def step_rows(self) -> list[Step]:
        return runs.page_rows(self.run)

    @cached_property
    def steps(self) -> list[dict[str, Any]]:
        found = runs.steps_of(self.run, self.step_rows, Extent.BRIEF)
        for step in found:
            if step["reason"] == "child" and step["kind"] != "subflow":
                step["reason"] = "body"
        return [dict(step) for step in tree.ordered(found)]

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        first = max(0, self.run.seq - MARKS_READ)
        found = runs.events_after(self.run, first, limit=MARKS_READ)
        # The run goes on while we read: what is newer than its row belongs to the next look.
        return [event_view(entry) for entry in found if entry.seq <= self.run.seq]

    @cached_property
    def effects(self) -> list[dict[str, Any]]:
        return [
            effect_view(effect, extent=Extent.BRIEF)
            for effect in runs.effects_for(self.principal, run=self.run)
        ]

    @cached_property
    def costs(self) -> dict[str, Any]:
        return runs.costs_of(self.run, self.step_rows)

    @cached_property
    def explanation(self) -> dict[str, Any]:
        return runs.explain(self.run, self.step_rows)

    @cached_property
    def questions(self) -> list[Any]:
        """Open approval requests of this run."""
        if not any(step["status"] == "waiting" and step["reason"] == "approval" for step in self.steps):
            return []
        return list(approvals.requests_for(self.principal).filter(run_id=self.run.id))

    # --- what is made of it

    @property
    def has_ended(self) -> bool:
        return self.run.status in RUN_ENDED

    @cached_property
    def worked(self) -> list[dict[str, Any]]:
        """Steps without those that take back what others have done."""
        return [step for step in self.steps if not recovery.takes_back(step["path"])]

    @cached_property
    def titles(self) -> dict[str, str]:
        """Title of every node with its values, as far as they are known by now."""
        done = {
            s["node"]: {"output": s["output"], "status": s["status"]}
            for s in self.worked
            if not tree.scope_of(s["path"])
        }
        names = {"inputs": self.run.inputs, "steps": done}
        inside = {
            path.rpartition("/")[2]: title_of(node.title, node.id)
            for path, node in all_nodes(self.document.graph)
            if "/" in path
        }
        return inside | {
            node.id: _filled(node.title, names) or title_of(node.title, node.id)
            for node in self.document.graph.nodes
        }

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Kind of every map and loop, by node."""
        return {
            node.id: node.kind for _, node in all_nodes(self.document.graph) if node.kind in ("map", "loop")
        }

    def title_of(self, path: str) -> str:
        """The title of a step, with the item or round it is part of."""
        if recovery.takes_back(path):
            return f"Take back: {self.title_of(path.rpartition('/')[0])}"
        return tree.named(path, self.titles, self.kinds) or words.humanise(recovery.node_of(path))

    def _options(self, step: dict[str, Any]) -> list[dict[str, Any]]:
        """Ways on from a step, for somebody who may change the run's course."""
        if not self.may_operate or step["kind"] in ("item", "round"):
            return []
        found, node = [], self.document.node(recovery.node_of(step["path"]))
        is_required = node is not None and is_required_of_a_person(self.document, node)
        for option in recovery.options(
            self.run.status, step, has_question=bool(self.questions), is_required=is_required
        ):
            address = reverse("web:runs-recover", kwargs={"run_id": self.run.id, "verb": option.verb})
            asked = {"step": step["path"], **({"mode": option.mode} if option.mode else {})}
            found.append({**vars(option), "link": f"{address}?{urlencode(asked)}"})
        return found

    @property
    def started(self) -> datetime:
        return self.run.started_at or self.run.created_at

    @cached_property
    def ticks(self) -> list[tuple[float, str]]:
        return timeline.ticks(self.started, self.span_end)

    @cached_property
    def span_end(self) -> datetime:
        return self.run.ended_at or self.at

    @cached_property
    def rows(self) -> list[Row]:
        times = [
            timeline.StepTimes(
                step["path"],
                step["status"],
                moment(step["queued_at"]),
                moment(step["started_at"]),
                moment(step["ended_at"]),
            )
            for step in self.steps
        ]
        marks = [
            timeline.Mark(e["step"] or "", e["kind"], at, float((e["data"] or {}).get("queued_seconds") or 0))
            for e in self.entries
            if (at := moment(e["at"]))
        ]
        did = timeline.stretches(times, marks)
        placed = timeline.bars(did, self.started, self.span_end)
        return [
            self._row(step, placed.get(step["path"], []), did.get(step["path"], [])) for step in self.steps
        ]

    def _row(self, step: dict[str, Any], bars: list[timeline.Bar], did: list[timeline.Stretch]) -> Row:
        path, status, reason = step["path"], step["status"], step["reason"] or ""
        spent = timeline.totals(did, self.span_end)
        title = self.titles.get(step["node"], words.humanise(step["node"]))
        if recovery.takes_back(path):
            title = f"Take back: {title}"
        if tree.is_pass(path):
            title = tree.pass_name(step["kind"], step["round"])
        round_number = path.rpartition("[")[2].rstrip("]") if path.endswith("]") else ""
        row = Row(
            path=path,
            node=step["node"],
            title=f"{title}, round {round_number}" if round_number.isdigit() else title,
            kind=step["kind"],
            status=status,
            reason=reason,
            look=words.look("step", status, reason),
            word="Kept"
            if step["kept"]
            else words.WAITS_SHORT.get(reason if status == "waiting" else "", "")
            or words.look("step", status).word,
            bars=bars,
            depth=tree.depth_of(path),
            link=f"{self.address}?step={quote_plus(path)}",
            selected=path == self.selected_path,
            mark=f"{status}.{reason}.{step['attempt']}.{step['model_calls']}.{step['tool_calls']}.{len(did)}",
        )
        if status in ("waiting", "in_doubt") and did and did[-1].end is None:
            row.since = did[-1].start.isoformat()
        elif did and status != "skipped":
            row.tail = words.span(spent["work"])
            if spent["wait"] > 1:
                row.tail += f" + {words.span(spent['wait'])} waiting"
        if "passes" in step:
            row.tail, row.since = passes_in_words(step), ""
        row.notes = notes_of(step["output"])
        row.summary = "; ".join(bar.words for bar in bars)
        return row

    @cached_property
    def selected_path(self) -> str:
        """The chosen step, or the one a person would look at first."""
        paths = {step["path"] for step in self.steps}
        return self.chosen if self.chosen in paths else self.focus_path

    @cached_property
    def focus_path(self) -> str:
        for status in ORDER_OF_INTEREST:
            for step in self.steps:
                if step["status"] == status and step["reason"] != "body":
                    return str(step["path"])
        ended = [s for s in self.steps if s["status"] == "succeeded" and s["ended_at"]]
        return str(max(ended, key=lambda s: s["ended_at"])["path"]) if ended else ""

    @cached_property
    def step(self) -> dict[str, Any] | None:
        """The selected step with its calls, for the panel."""
        found = next((s for s in self.steps if s["path"] == self.selected_path), None)
        if found is None:
            return None
        row = next(r for r in self.rows if r.path == found["path"])
        mine = [e for e in self.entries if e["step"] == found["path"]]
        return {
            **found,
            "title": self.title_of(found["path"]) or row.title,
            "row": row,
            "calls": runs.calls_of(self.run, found["path"]) if _may_have_calls(found) else [],
            "attempts": [bar for bar in row.bars if bar.kind == "work"],
            "lost": sum(1 for e in mine if e["kind"] == "attempt.lost"),
            "refusals": [e for e in mine if e["kind"] == "tool.refused"],
            "question": next((q for q in self.questions if q.step_path == found["path"]), None),
            "doubt": next((d for d in self.doubts if d["step"] == found["path"]), None),
            "awaits": self._awaits(found),
            "events": [self._event(e) for e in mine][-12:],
            "options": self._options(found),
        }

    def _awaits(self, step: dict[str, Any]) -> Awaited | None:
        """The signal the step waits for, with the form to send it."""
        if step["status"] != "waiting" or step["reason"] != "signal":
            return None
        return next((awaited_form(one) for one in awaited(self.run) if one["step"] == step["path"]), None)

    @cached_property
    def doubts(self) -> list[dict[str, Any]]:
        """Effects of which nobody knows whether they happened, with the title of their step."""
        titles = {row.path: row.title for row in self.rows}
        return [
            {**effect, "title": titles.get(effect["step"], words.humanise(effect["tool"]))}
            for effect in self.effects
            if effect["state"] == "in_doubt"
        ]

    @cached_property
    def standing(self) -> dict[str, Mapping[str, Any]]:
        """By node, inside maps and loops too, the step whose state the picture shows."""
        return standing(self.worked)

    @cached_property
    def states(self) -> dict[str, str]:
        return {
            node: f"{step['status']}:{step['reason']}" if step["status"] == "waiting" else step["status"]
            for node, step in self.standing.items()
        }

    @cached_property
    def picture(self) -> SafeString:
        paths = {node: step["path"] for node, step in self.standing.items()}
        selected = next((node for node, path in paths.items() if path == self.selected_path), "")
        return run_picture(
            self.document,
            self.states,
            tools=self.tools,
            paths=paths,
            titles=self.titles,
            links={
                node: f"{self.address}?{urlencode({'step': path})}#step-panel" for node, path in paths.items()
            },
            selected=selected,
        )

    @cached_property
    def view(self) -> dict[str, Any]:
        """The same picture as plain values, for the canvas."""
        marks = {
            path: {"title": self.titles.get(node.id) or title_of(node.title, node.id)}
            | {"state": self.states.get(path, "blocked")}
            for path, node in all_nodes(self.document.graph)
        }
        return view_of(canonical.stored(self.document), tools=self.tools, mode="run", marks=marks)

    @cached_property
    def recoveries(self) -> list[str]:
        """One line per recovery, from the ledger."""
        return [proof_line(e["data"]) for e in self.entries if e["kind"] == "run.recovered"]

    @cached_property
    def state_words(self) -> str:
        """Why the run is not moving, for the pill: what the first waiting step waits for."""
        if self.run.status != RunStatus.WAITING:
            return ""
        waiting = [s for s in self.steps if s["status"] == "waiting" and s["reason"] != "body"]
        reasons = [s["reason"] for s in waiting]
        return "approval" if "approval" in reasons else (reasons[0] if reasons else "")

    @cached_property
    def waiting_since(self) -> str:
        return next((row.since for row in self.rows if row.since and row.status == "waiting"), "")

    @cached_property
    def progress(self) -> tuple[int, int]:
        """Steps that have ended, and all."""
        shown = [s["status"] for s in self.steps if not tree.is_pass(s["path"])]
        if not self.kinds:
            return sum(status in STEP_ENDED for status in shown), len(shown)
        ended, there = runs.step_counts(self.run)
        return ended, there + shown.count("blocked")

    @cached_property
    def criteria(self) -> list[dict[str, Any]]:
        """Success criteria with their results once the run has ended; until then "not checked"."""
        judged = self.run.checks or [
            {"text": c.text if isinstance(c, Criterion) else c, "result": "not_checked"}
            for c in self.document.contract.success_criteria.output
        ]
        return [{**one, "look": words.look("check", one["result"])} for one in judged]

    def worded(self, entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Entries of the ledger as the list of events shows them."""
        return [self._event(entry) for entry in entries]

    def events_after(self, seq: int) -> list[dict[str, Any]]:
        return [self._event(e) for e in self.entries if e["seq"] > seq]

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        path = event["step"] or ""
        return {
            **event,
            "words": words.event_words(event["kind"], event["data"] or {}),
            "title": self.title_of(path) if path else "",
        }

    @cached_property
    def next_steps(self) -> list[dict[str, Any]]:
        """What may come next: the choice that leads there, what it waits for besides, what it does."""
        choice = {"approved": "approved", "rejected": "rejected", "changes": "changes are requested"}
        following = []
        for step in self.explanation["next"]:
            also = [self.titles.get(node, node) for node in step["also_waits_for"]]
            port = step["if"]
            following.append(
                {
                    **step,
                    "when": f"If {choice.get(port, words.humanise(port).lower())}" if port else "",
                    "also": also,
                    "writes": bool(step["tool"]) and step["tool"] in self.writes,
                }
            )
        return following

    @cached_property
    def writes(self) -> set[str]:
        return {name for name, spec in self.tools.items() if spec.is_write}

    @cached_property
    def tools(self) -> dict[str, ToolSpec]:
        return blueprints.tools_of(self.document)

    @cached_property
    def situation(self) -> str:
        """Where the run is, one sentence with the steps' own titles."""
        if self.run.status in (RunStatus.WAITING, RunStatus.RUNNING, RunStatus.QUEUED):
            active = [row for row in self.rows if row.status in ("in_doubt", "waiting", "running", "ready")]
            busy = [row for row in active if row.status != "ready" and row.reason != "body"]
            told = [f"“{self.title_of(row.path)}”: {row.look.word.lower()}" for row in busy[:MOST_TOLD]]
            if len(busy) > MOST_TOLD:
                told.append(f"and {words.plural(len(busy) - MOST_TOLD, 'more step')}")
            if told:
                return "; ".join(told) + "."
        return str(self.explanation["why"])

    @property
    def unsafe_attempts(self) -> int:
        return sum(1 for e in self.entries if e["kind"] == "tool.refused")

    @property
    def blocked_duplicates(self) -> int:
        return sum(effect["duplicates_blocked"] for effect in self.effects)

    @property
    def may_operate(self) -> bool:
        return self.principal.may(Permission.OPERATE)

    @property
    def can_kill(self) -> bool:
        return self.run.is_demo and self.may_operate and not self.has_ended and can_kill_worker()

    @cached_property
    def announcement(self) -> str:
        """What a screen reader is told: the latest change in words."""
        current = next((row for row in self.rows if row.path == self.focus_path), None)
        ended, total = self.progress
        seen = words.look("run", self.run.status, self.state_words)
        text = f"{ended} of {total} steps ended. Run {seen.word.lower()}."
        return f"{text} {current.title}: {current.look.word}." if current else text

    def context(self) -> dict[str, Any]:
        return {"page": self, "run": self.run, "principal": self.principal}

    def fragments(self, names: Iterable[str] = LIVE) -> dict[str, str]:
        """The named fragments as out-of-band HTML."""
        context = {**self.context(), "oob": True}
        return {name: render_to_string(f"runs/_{name}.html", context) for name in names}


def _may_have_calls(step: dict[str, Any]) -> bool:
    if step["status"] == "blocked":
        return False
    return step["ended_at"] is None or bool(step["model_calls"] or step["tool_calls"])


def _filled(title: str, names: dict[str, Any]) -> str:
    """A title with its values; empty when it names something that is not there yet."""
    if "{{" not in title:
        return title
    try:
        return str(expressions.render(title, names))
    except expressions.ExpressionError:
        return ""


def passes_in_words(step: dict[str, Any]) -> str:
    """How far a map or a loop is."""
    passes = step["passes"]
    done, failed = passes.get("done", 0), passes.get("failed", 0)
    if step["kind"] == "loop":
        return words.plural(passes.get("opened", 0), "round")
    text = f"{done:,} of {passes.get('total', 0):,} items"
    return f"{text}, {failed:,} failed" if failed else text


def notes_of(output: Any) -> list[str]:
    """The remarks of an output that has any: a list of texts under `notes`."""
    found = output.get("notes") if isinstance(output, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        return []
    return [one for one in found if one.strip()]


def proof_line(data: dict[str, Any]) -> str:
    """The resume proof, in one sentence, from what the engine counted."""
    kept, repeated = int(data.get("kept", 0)), int(data.get("repeated", 0))
    effects = int(data.get("effects_repeated", 0))
    line = (
        f"Recovered at step {data.get('at_step', kept + 1)}; {words.plural(kept, 'step')} kept, "
        f"{repeated} repeated, {words.plural(effects, 'effect')} repeated"
    )
    seconds = data.get("seconds")
    return f"{line} · back after {words.span(seconds)}" if isinstance(seconds, (int, float)) else line


def moment(value: Any) -> datetime | None:
    """A time as a view gives it (RFC 3339 text) or as a row has it."""
    return parse_datetime(value) if isinstance(value, str) else value
