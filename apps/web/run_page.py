"""Everything the run page shows, read once, in fragments; the page and the socket draw the same ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from apps.approvals import selectors as approvals
from apps.blueprints import selectors as blueprints
from apps.blueprints.core import expressions
from apps.blueprints.core.document import Criterion, Document
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec
from apps.runs import selectors as runs
from apps.runs.core.states import RUN_ENDED, RunStatus
from apps.runs.models import Run
from apps.runs.services import can_kill_worker
from apps.runs.views import effect_view, event_view
from apps.web.core import timeline, words
from apps.web.pictures import run_picture
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now

EVENTS_SHOWN = 100
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
    def steps(self) -> list[dict[str, Any]]:
        return runs.steps_of(self.run)

    @cached_property
    def entries(self) -> list[dict[str, Any]]:
        first = max(0, self.run.seq - MARKS_READ)
        found = runs.events_after(self.run, first, limit=MARKS_READ)
        # The run goes on while we read: what is newer than its row belongs to the next look.
        return [event_view(entry) for entry in found if entry.seq <= self.run.seq]

    @cached_property
    def effects(self) -> list[dict[str, Any]]:
        return [effect_view(effect) for effect in runs.effects_for(self.principal, run=self.run)]

    @cached_property
    def costs(self) -> dict[str, Any]:
        return runs.costs_of(self.run)

    @cached_property
    def explanation(self) -> dict[str, Any]:
        return runs.explain(self.run)

    @cached_property
    def questions(self) -> list[Any]:
        """Open approval requests of this run."""
        return list(approvals.requests_for(self.principal).filter(run_id=self.run.id))

    # --- what is made of it

    @property
    def has_ended(self) -> bool:
        return self.run.status in RUN_ENDED

    @cached_property
    def titles(self) -> dict[str, str]:
        """Title of every node with its values, as far as they are known by now."""
        done = {s["node"]: {"output": s["output"], "status": s["status"]} for s in self.steps}
        names = {"inputs": self.run.inputs, "steps": done}
        return {
            node.id: _filled(node.title, names) or title_of(node.title, node.id)
            for node in self.document.graph.nodes
        }

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
        round_number = path.rpartition("[")[2].rstrip("]") if path.endswith("]") else ""
        row = Row(
            path=path,
            node=step["node"],
            title=f"{title}, round {round_number}" if round_number.isdigit() else title,
            kind=step["kind"],
            status=status,
            reason=reason,
            look=words.look("step", status, reason),
            word=words.WAITS_SHORT.get(reason if status == "waiting" else "", "")
            or words.look("step", status).word,
            bars=bars,
            link=f"{self.address}?{urlencode({'step': path})}",
            selected=path == self.selected_path,
            mark=f"{status}.{reason}.{step['attempt']}.{step['model_calls']}.{step['tool_calls']}.{len(did)}",
        )
        if status in ("waiting", "in_doubt") and did and did[-1].end is None:
            row.since = did[-1].start.isoformat()
        elif did and status != "skipped":
            row.tail = words.span(spent["work"])
            if spent["wait"] > 1:
                row.tail += f" + {words.span(spent['wait'])} waiting"
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
                if step["status"] == status:
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
            "title": row.title,
            "row": row,
            "calls": runs.calls_of(self.run, found["path"]) if found["status"] != "blocked" else [],
            "attempts": [bar for bar in row.bars if bar.kind == "work"],
            "lost": sum(1 for e in mine if e["kind"] == "attempt.lost"),
            "refusals": [e for e in mine if e["kind"] == "tool.refused"],
            "question": next((q for q in self.questions if q.step_path == found["path"]), None),
            "doubt": next((d for d in self.doubts if d["step"] == found["path"]), None),
            "events": [self._event(e) for e in mine][-12:],
        }

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
    def states(self) -> dict[str, str]:
        """State of each node for the picture: the one of its latest round."""
        return {
            step["node"]: f"{step['status']}:{step['reason']}"
            if step["status"] == "waiting"
            else step["status"]
            for step in self.steps
        }

    @cached_property
    def picture(self) -> SafeString:
        paths = {step["node"]: step["path"] for step in self.steps}
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
    def recoveries(self) -> list[str]:
        """One line per recovery, from the ledger."""
        return [proof_line(e["data"]) for e in self.entries if e["kind"] == "run.recovered"]

    @cached_property
    def state_words(self) -> str:
        """Why the run is not moving, for the pill: what the first waiting step waits for."""
        if self.run.status != RunStatus.WAITING:
            return ""
        waiting = [s for s in self.steps if s["status"] == "waiting"]
        reasons = [s["reason"] for s in waiting]
        return "approval" if "approval" in reasons else (reasons[0] if reasons else "")

    @cached_property
    def waiting_since(self) -> str:
        return next((row.since for row in self.rows if row.since and row.status == "waiting"), "")

    @cached_property
    def progress(self) -> tuple[int, int]:
        """Steps that have ended, and all."""
        ended = sum(s["status"] in ("succeeded", "skipped", "failed", "cancelled") for s in self.steps)
        return ended, len(self.steps)

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
        node = (event["step"] or "").rpartition("/")[2].partition("[")[0]
        return {
            **event,
            "words": words.event_words(event["kind"], event["data"] or {}),
            "title": self.titles.get(node, node),
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
            told = [f"“{row.title}”: {row.look.word.lower()}" for row in active if row.status != "ready"]
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


def _filled(title: str, names: dict[str, Any]) -> str:
    """A title with its values; empty when it names something that is not there yet."""
    if "{{" not in title:
        return title
    try:
        return str(expressions.render(title, names))
    except expressions.ExpressionError:
        return ""


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
