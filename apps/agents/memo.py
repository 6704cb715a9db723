"""Answers of reads, remembered for a while inside one run, so that two steps that ask the same ask once.

The key holds the tool's definition, the exact arguments, how many effects the run has committed and which
waits it has passed: what was read before the world changed, or before a wait, is read again (ENGINE rule
30). Kept in the process; a lost memo costs one read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.blueprints.core.tools import ToolSpec
from apps.runs.ports import Context
from mirrorneuron.base.clock import now
from mirrorneuron.base.safejson import fingerprint

LIFETIME = timedelta(minutes=10)
MOST = 256
_WAITING_KINDS = frozenset({"approval", "timer", "sensor"})
_lock = threading.Lock()
_kept: OrderedDict[str, tuple[datetime, Any]] = OrderedDict()


def key_of(context: Context, spec: ToolSpec, arguments: Mapping[str, Any]) -> str:
    """The memo's key for one read at this moment of the run."""
    names = context.names()
    steps = names.get("steps") or {}
    waits = {
        node.id: (steps[node.id] or {}).get("status")
        for node in context.document.graph.nodes
        if node.kind in _WAITING_KINDS and node.id in steps
    }
    effects = [
        e for e in names.get("effects") or () if isinstance(e, Mapping) and e.get("state") == "committed"
    ]
    return fingerprint(
        [
            str(context.run_id),
            context.simulate,
            spec.model_dump(mode="json"),
            dict(arguments),
            len(effects),
            waits,
        ]
    )


def recall(key: str) -> tuple[bool, Any]:
    """(known, result)."""
    with _lock:
        found = _kept.get(key)
        if found is None or found[0] < now():
            return False, None
        _kept.move_to_end(key)
        return True, found[1]


def keep(key: str, result: Any) -> None:
    with _lock:
        _kept[key] = (now() + LIFETIME, result)
        while len(_kept) > MOST:
            _kept.popitem(last=False)


def clear() -> None:
    with _lock:
        _kept.clear()
