"""Values to try expressions on: what is pinned, and what a step gave in the blueprint's latest run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from apps.blueprints import pins
from apps.ledger.payloads import Extent, column
from apps.runs import selectors as runs
from apps.runs.models import Run
from apps.web.core.inspector.forms import Subject
from apps.web.core.inspector.inputs import Input
from apps.web.core.inspector.preview import readable
from apps.web.editing import Opened

MOST_STEPS = 400


class KnownValues:
    """Looked up once, and only when a form has an expression that reads something."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.source = ""

    @cached_property
    def _run(self) -> Run | None:
        if self.opened.blueprint is None:
            return None
        return runs.runs_for(self.opened.principal, blueprint=self.opened.name).first()

    @cached_property
    def _steps(self) -> dict[str, dict[str, Any]]:
        if self._run is None:
            return {}
        found: dict[str, dict[str, Any]] = {}
        for row in runs.steps_of(self._run, runs.step_rows(self._run, [""])[:MOST_STEPS]):
            found[row["node"]] = {
                "output": row["output"],
                "status": row["status"],
                "attempts": row["attempt"],
                "port": row["port"],
            }
        return found

    @cached_property
    def _pinned(self) -> dict[str, dict[str, Any]]:
        """Pins stand in for what a step gave, as they do in a test."""
        if self.opened.blueprint is None:
            return {}
        found = pins.pins_for(self.opened.principal, self.opened.name)
        return {
            path: {"output": pin.output, "status": "succeeded", "attempts": 1, "port": pin.port}
            for path, pin in found.items()
            if "/" not in path
        }

    def names_for(self, subject: Subject, inputs: Iterable[Input]) -> Mapping[str, Any] | None:
        """The names these inputs read, with values; None when nothing is known of them."""
        wanted = {name.partition(".")[0] for one in inputs for name in readable(one)}
        if not wanted or subject.kind != "node" or "/" in subject.key:
            return None
        names: dict[str, Any] = {"round": 1}
        if "steps" in wanted:
            names["steps"] = self._steps | self._pinned
        if self._run is None:
            self.source = "what is pinned"
            return names if names.get("steps") else None
        if "inputs" in wanted:
            names["inputs"] = column(self._run, "inputs", Extent.WHOLE)
        if "run" in wanted:
            names["run"] = {"id": str(self._run.id), "started_at": self._run.created_at.isoformat()}
        self.source = f"the run of {self._run.created_at:%-d %b, %H:%M}"
        return names
