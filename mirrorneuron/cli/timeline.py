"""A run's history as lines of text."""

from __future__ import annotations

import json
from typing import Any

from apps.ledger.selectors import Entry
from apps.runs import selectors
from apps.runs.core.states import RunStatus
from apps.runs.models import Run
from apps.runs.views import run_view

_SAID = ("message", "why", "tool", "action", "outcome", "decision", "verb", "by", "reason", "title", "line")
"""What of an entry's data is worth a place on its line, most telling first."""


def line_of(entry: Entry) -> str:
    """One entry: time, number, what happened, where, and a few words of what it carries."""
    where = f"  {entry.step_path}" if entry.step_path else ""
    at = entry.at.astimezone()
    return f"{at:%H:%M:%S}  {entry.seq:>4}  {entry.kind:<20}{where}{_words(entry.data)}".rstrip()


def end_of(run: Run) -> str:
    """Where a run rests, and what to do about it."""
    explained = selectors.explain(run)
    lines = [f"{run.status}: {explained['why']}"]
    if run.status == RunStatus.SUCCEEDED:
        lines += [json.dumps(run.output, indent=2, ensure_ascii=False)]
        lines += [f"  {check.get('result')}: {check.get('text')}" for check in run.checks]
    for waiting in run_view(run)["waiting_for"]:
        if waiting["reason"] == "approval":
            lines.append("Decide with `mn approvals list`, then `mn approvals approve ID`, or in the inbox.")
        elif waiting["reason"] == "effect_in_doubt" and not waiting["until"]:
            lines.append("Settle it with `mn effects list --state in_doubt`, then `mn effects resolve ID`.")
    if run.status == RunStatus.PAUSED:
        lines.append(f"Resume it with `mn runs resume {run.id}`.")
    return "\n".join(dict.fromkeys(lines))


def explanation(explained: dict[str, Any]) -> str:
    """`mn runs explain` as text: where it is, what it waits for, what is next, what can be done."""
    lines = [f"{explained['status']}: {explained['why']}"]
    for waiting in explained["waiting_for"]:
        until = f", until {waiting['until']}" if waiting["until"] else ""
        lines.append(f"  waits: {waiting['step']} for {waiting['detail']} since {waiting['since']}{until}")
    for step in explained["next"]:
        choice = f" if {step['if']}" if step["if"] else ""
        others = f"; also waits for {', '.join(step['also_waits_for'])}" if step["also_waits_for"] else ""
        again = " again" if step["again"] else ""
        lines.append(f"  next: {step['step']}{again} ({step['kind']}) after {step['after']}{choice}{others}")
    if explained["actions"]:
        lines.append(f"  you can: {', '.join(explained['actions'])}")
    return "\n".join(lines)


def _words(data: Any) -> str:
    if not isinstance(data, dict):
        return ""
    said = []
    for name in _SAID:
        value = data.get(name)
        if isinstance(value, str | int | float) and value != "":
            said.append(str(value).replace("\n", " "))
    error = data.get("error")
    if isinstance(error, dict) and error.get("message"):
        said.append(str(error["message"]))
    text = " · ".join(said)
    return f"  {text[:140]}" if text else ""
