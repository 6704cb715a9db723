"""Other durable engines, measured in turn on the same database server, each from its own environment.

They do what others do with them: DBOS calls workflows whose steps are recorded one by one; LangGraph keeps a
checkpoint after every superstep (`durability="sync"`). Installed on demand, pinned with hashes, into
`.venv-peers`: `make bench PEERS=1`.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.stretches import Stretch


@dataclass(frozen=True)
class Peer:
    package: str
    workloads: frozenset[str]

    def can(self, stretches: Sequence[Stretch]) -> list[Stretch]:
        """The lines that mean something here: every step of a peer is recorded."""
        return [
            s for s in stretches
            if s.workload in self.workloads and s.what in ("chain.recorded", "fan.recorded", "passing")
        ]  # fmt: skip


PEERS = {
    "dbos": Peer("dbos", frozenset({"W1", "W2", "W3", "W7"})),
    "langgraph": Peer("langgraph", frozenset({"W1", "W2", "W3", "W7"})),
}


def versions(python: str, peers: Sequence[str]) -> dict[str, str]:
    """What is installed for them, by their own Python."""
    if not peers:
        return {}
    names = [PEERS[name].package for name in peers] + ["langgraph-checkpoint-postgres"]
    code = "import sys, importlib.metadata as m; print('\\n'.join(m.version(n) for n in sys.argv[1:]))"
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    return dict(zip(names, done.stdout.split(), strict=True))
