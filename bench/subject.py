"""The conductor's side of the line: a process that is measured, and the stretch that is measured."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench import measure
from bench.databases import Database

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 15.0


class SubjectFailed(Exception):
    """A subject did not do what it was told; carries what it said."""


class Subject:
    """One process under measurement. Ends with `close`; a context manager."""

    def __init__(
        self,
        name: str,
        module: str,
        *arguments: str,
        environment: Mapping[str, str],
        log: Path,
        python: str = sys.executable,
    ) -> None:
        self.name = name
        self.log = log
        self.helpers: list[int] = []
        """Other processes that belong to it, such as workers; their CPU and memory count as its own."""
        with log.open("ab") as stderr:
            self._process = subprocess.Popen(
                [python, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env={**inherited(), "PYTHONPATH": str(ROOT), **environment},
            )

    @property
    def pids(self) -> list[int]:
        return [*measure.tree(self._process.pid), *(p for h in self.helpers for p in measure.tree(h))]

    def ask(self, do: str, *, seconds: float = 600, **arguments: Any) -> Any:
        """Have it do something. Raises SubjectFailed with what it said, or when it takes too long."""
        return self._ask(do, seconds, arguments)["ok"]

    def _ask(self, do: str, seconds: float, arguments: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise SubjectFailed(f"{self.name} ended while it did {do!r}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SubjectFailed(f"{self.name} could not do {do!r}: {answer['error']}")
        return answer

    def measured(
        self, database: Database, do: str, *, seconds: float = 600, **arguments: Any
    ) -> tuple[Any, measure.Cost]:
        """Have it do something and say what that cost."""
        measure.forget_peak(self.pids)
        others = measure.cpu_seconds(self.pids[1:])
        before = database.begin()
        answer = self._ask(do, seconds, arguments)
        after = database.end()
        ok = answer["ok"]
        counted = ok.pop("counted", None) if isinstance(ok, dict) else None
        cpu = answer["cpu"] + measure.cpu_seconds(self.pids[1:]) - others
        found = measure.cost(before, after, engine_cpu=cpu, peak_rss=measure.peak_rss(self.pids))
        return ok, measure.completed(found, counted)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            return " / ".join(self.log.read_text(errors="replace").strip().splitlines()[-3:])
        return "it said nothing"

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def inherited() -> dict[str, str]:
    """The environment without what would steer the product."""
    ours = ("MN_", "DATABASE_URL", "BROKER_URL", "CHANNEL_URL", "OPENAI_", "ANTHROPIC_", "OTEL_")
    return {k: v for k, v in os.environ.items() if not k.startswith(ours)}
