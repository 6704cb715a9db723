"""Reads a draft's log: the text at any time, and what takes back one change when others have followed.

Pure. The newest text and the reverses of all changes are enough: playing the log backwards gives every text
there ever was, to the byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.blueprints.core.editing.splices import Splice, apply_splices, carried, net_change, reverse

LOOKED_AT = 300
"""Changes among which the one that stands in the way is searched for by name."""


@dataclass(frozen=True)
class Entry:
    """One change as the log keeps it."""

    seq: int
    op_id: UUID
    undoes: UUID | None
    inverse: tuple[Splice, ...]


@dataclass(frozen=True)
class InTheWay:
    """The change that touched what was to be taken back; None when no single one did."""

    seq: int | None


def splices_from(values: Iterable[Sequence[Any]]) -> tuple[Splice, ...]:
    return tuple(Splice(int(start), int(end), str(text)) for start, end, text in values)


def standing(entries: Iterable[Entry]) -> list[Entry]:
    """The entries without those that were taken back before anything else happened, and their reverses."""
    result: list[Entry] = []
    for entry in entries:
        if result and entry.undoes is not None and entry.undoes == result[-1].op_id:
            result.pop()
        else:
            result.append(entry)
    return result


def text_before(text: str, entries: Sequence[Entry]) -> str:
    """The text before some entries that led to `text`, given in their order."""
    for entry in reversed(standing(entries)):
        text = apply_splices(text, entry.inverse)
    return text


def taken_back(text: str, inverse: Sequence[Splice], later: Sequence[Entry]) -> list[Splice] | InTheWay:
    """The splices of today's text that take back a change after which `later` happened.

    What others did elsewhere is followed; what was changed and changed back does not count.
    """
    following = standing(later)
    texts = [text]
    for entry in reversed(following):
        texts.append(apply_splices(texts[-1], entry.inverse))
    texts.reverse()
    changes = [reverse(after, entry.inverse) for entry, after in zip(following, texts[1:], strict=True)]
    found = carried(inverse, net_change(texts[0], text, changes))
    if found is not None:
        return found
    for count in range(1, min(len(following), LOOKED_AT) + 1):
        if carried(inverse, net_change(texts[0], texts[count], changes[:count])) is None:
            return InTheWay(following[count - 1].seq)
    return InTheWay(None)


def broken_by(before: Any, after: Any) -> str | None:
    """What a change of the text has left in pieces, in words: an edge to nowhere, an id that stands twice."""
    was, now = _Pieces(before), _Pieces(after)
    for source, target, end in sorted(now.dangling - was.dangling):
        return f'the edge "{source} → {target}" would hang in the air, since "{end}" would be gone'
    for node in sorted(now.doubled - was.doubled):
        return f'the id "{node}" is taken by another node now'
    return None


class _Pieces:
    def __init__(self, data: Any) -> None:
        self.dangling: set[tuple[str, str, str]] = set()
        self.doubled: set[str] = set()
        self.graph(data.get("graph") if isinstance(data, dict) else None, "")

    def graph(self, graph: Any, scope: str) -> None:
        if not isinstance(graph, dict):
            return
        nodes = graph.get("nodes")
        ids: set[str] = set()
        for node in nodes if isinstance(nodes, list) else []:
            node_id = node.get("id") if isinstance(node, dict) else None
            if not isinstance(node_id, str):
                continue
            if node_id in ids:
                self.doubled.add(scope + node_id)
            ids.add(node_id)
            self.graph(node.get("body"), f"{scope}{node_id}/")
        edges = graph.get("edges")
        for edge in edges if isinstance(edges, list) else []:
            if not isinstance(edge, dict):
                continue
            source, target = str(edge.get("from")), str(edge.get("to"))
            for end in (source.partition(".")[0], target):
                if end not in ids:
                    self.dangling.add((scope + source, scope + target, end))
