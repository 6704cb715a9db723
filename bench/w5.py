"""W5: a worker process, from its start to the end of the first run; what it holds idle; what is installed."""

from __future__ import annotations

import re
import subprocess
import time
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

from bench import measure
from bench.stage import Stage, stop
from bench.subject import ROOT
from bench.w4 import idle

TITLE = "start of a worker, idle memory, installed size"
SETTLE_SECONDS = 3.0


def measure_round(stage: Stage) -> dict[str, dict[str, Any]]:
    lines = {"mn worker": _worker(stage), "mn up": _up(stage)}
    lines["installed"] = installed()
    return lines


def _worker(stage: Stage) -> dict[str, Any]:
    with stage.home("w5") as (database, environment):
        given = dict(environment)
        if stage.redis:
            given |= {"BROKER_URL": f"{stage.redis}/0", "CHANNEL_URL": f"{stage.redis}/1"}
        with stage.engine(environment, slots=0) as starter:
            run = starter.ask("queue", what="chain.pure")["run"]
            began = time.perf_counter()
            worker = stage.spawn(["-P", "-m", "mirrorneuron.cli", "worker", "-c", "4"], given)
            try:
                stage.until(lambda: bool(starter.ask("has_ended", run=run)["ended"]), [worker])
                first = time.perf_counter() - began
                time.sleep(SETTLE_SECONDS)
                pids = measure.tree(worker.pid)
                return {
                    "first_run_s": round(first, 3),
                    "idle_rss_mb": round(measure.rss(pids) / 2**20, 1),
                    "processes": len(pids),
                    **idle(pids, database, stage.scale.idle_seconds / 2),
                }
            finally:
                stop(worker)


def _up(stage: Stage) -> dict[str, Any]:
    """Everything in one process below its supervisor: until pages are served, and its memory."""
    with stage.home("w5up") as (database, environment):
        began = time.perf_counter()
        command = ["-P", "-m", "mirrorneuron.cli", "up", "--port", "0", "--no-browser", "--json"]
        process = stage.spawn(command, environment, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                raise RuntimeError(f"mn up ended: {(stage.folder / 'processes.log').read_text()[-500:]}")
            ready = time.perf_counter() - began
            time.sleep(SETTLE_SECONDS)
            pids = measure.tree(process.pid)
            return {
                "ready_s": round(ready, 3),
                "idle_rss_mb": round(measure.rss(pids) / 2**20, 1),
                "processes": len(pids),
                **idle(pids, database, stage.scale.idle_seconds / 2),
            }
        finally:
            stop(process)


# --- installed size ---------------------------------------------------------------------------------------


def installed() -> dict[str, Any]:
    """What running the product needs on disk: its dependencies, without development tools, and itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, metadata.Distribution] = {}
    wanted = [(r, frozenset(re.findall(r"\w+", _extras(r)))) for r in project["dependencies"]]
    while wanted:
        requirement, extras = wanted.pop()
        name = _name(requirement)
        if name in found and not extras:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # meant for another system
        for line in found[name].requires or ():
            needed, _, marker = line.partition(";")
            extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", marker)
            if (extra is None or extra.group(1) in extras) and _name(needed) not in found:
                wanted.append((needed, frozenset(re.findall(r"\w+", _extras(needed)))))
    size = sum(_size(file.locate()) for one in found.values() for file in one.files or ())
    own = sum(
        _size(path)
        for folder in ("apps", "mirrorneuron", "templates", "static", "blueprints")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return {"packages": len(found), "installed_mb": round(size / 1e6, 1), "own_mb": round(own / 1e6, 1)}


def _name(requirement: str) -> str:
    return re.split(r"[\s<>=~!\[;(]", requirement.strip(), maxsplit=1)[0].lower().replace("_", "-")


def _extras(requirement: str) -> str:
    found = re.search(r"\[([^\]]*)\]", requirement)
    return found.group(1) if found else ""


def _size(path: Any) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
