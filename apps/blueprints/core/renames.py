"""Which steps of one document are those of another under a new name.

A rename changes an id and everything that mentions it. Told apart only by their ids, such a step would count
as removed and added, and every mention as a change. What somebody is known to have renamed comes first; else
a step that is gone and one that is new are the same when all they say is the same, and no third one says it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from apps.blueprints.core.document import Document, Graph, Node
from mirrorneuron.base.safejson import canonical, storable

Known = Sequence[tuple[str, str]]
"""(path before, path after) of what is known to have been renamed."""


@dataclass(frozen=True)
class Line:
    """A line of a draft's log that gave a step another name."""

    seq: int
    op_id: Hashable
    undoes: Hashable = None
    """Of what takes a rename back, or does it again: the line it takes back; else empty."""
    node: str = ""
    to: str = ""


def done(lines: Iterable[Line]) -> list[tuple[int, str, str]]:
    """(seq, path, new id) of each line, where it was done. lines: all of a log's, in their order."""
    found: list[tuple[int, str, str]] = []
    which: dict[Hashable, int] = {}
    for line in lines:
        path, new_id = line.node, line.to
        if line.undoes is not None:
            if line.undoes not in which:
                continue
            taken, *since = found[which[line.undoes] :]
            path = _after(*taken[1:])
            for _, other, other_id in since:
                path = moved(path, other, _after(other, other_id))
            new_id = taken[1].rpartition("/")[2]
        which[line.op_id] = len(found)
        found.append((line.seq, path, new_id))
    return found


def _after(path: str, new_id: str) -> str:
    scope = path.rpartition("/")[0]
    return f"{scope}/{new_id}" if scope else new_id


def chained(renames: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """What renames made one after the other come to. renames: (path, new id) in the order they were made."""
    now: dict[str, str] = {}
    for path, new_id in renames:
        to = _after(path, new_id)
        if path not in now.values():
            now[_before(path, now)] = path
        now = {old: moved(current, path, to) for old, current in now.items()}
    return [(old, current) for old, current in now.items() if old != current]


def _before(path: str, now: Mapping[str, str]) -> str:
    """What a path was called at first, its containers too."""
    around = [(old, current) for old, current in now.items() if path.startswith(current + "/")]
    old, current = max(around, key=lambda pair: len(pair[1]), default=("", ""))
    return moved(path, current, old) if current else path


def across(theirs: Known, ours: Known) -> list[tuple[str, str]]:
    """(their path, our path) of what two drafts call differently, by what each renamed since they parted."""
    begun = dict.fromkeys([was for was, _ in (*theirs, *ours)])
    pairs = [(followed(path, theirs), followed(path, ours)) for path in begun]
    return [(their, our) for their, our in pairs if their != our]


def followed(path: str, known: Known) -> str:
    """What a step is called after what is known to have been renamed, it or what it lies in."""
    near = max(
        (pair for pair in known if path == pair[0] or path.startswith(pair[0] + "/")),
        key=lambda pair: len(pair[0]),
        default=(path, path),
    )
    return moved(path, *near)


def moved(path: str, old: str, new: str) -> str:
    """A path after one that it is, or lies in, has another name."""
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path


def renames_between(before: Document, after: Document, known: Known = ()) -> list[tuple[str, str]]:
    """(path, new id) of steps that have another name in `after`; containers before what they hold.

    Steps that mention a renamed one differ until that one has been renamed: ask again then.
    """
    return list(_in(before.graph, after.graph, "", dict(known)))


def _in(before: Graph, after: Graph, prefix: str, known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    old, new = {n.id: n for n in before.nodes}, {n.id: n for n in after.nodes}
    gone, fresh = [i for i in old if i not in new], [i for i in new if i not in old]
    pairs: dict[str, str] = {}
    for node_id in gone:
        scope, _, to = known.get(prefix + node_id, "").rpartition("/")
        if to in fresh and scope == prefix.rstrip("/") and old[node_id].kind == new[to].kind:
            pairs[node_id] = to
    for alike in (_said_and_where(before, after), _said):
        left = [old[i] for i in gone if i not in pairs]
        free = [new[i] for i in fresh if i not in pairs.values()]
        pairs |= _matched(left, free, alike)
    for node_id, to in pairs.items():
        yield prefix + node_id, to
    for node_id, node in old.items():
        there = new.get(node_id)
        if node.body is not None and there is not None and there.body is not None:
            yield from _in(node.body, there.body, f"{prefix}{node_id}/", known)


def _matched(
    left: Iterable[Node], free: Iterable[Node], key: Callable[[Node, bool], Hashable]
) -> dict[str, str]:
    found: dict[Hashable, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for node in left:
        found[key(node, True)][0].append(node.id)
    for node in free:
        found[key(node, False)][1].append(node.id)
    return {ours[0]: theirs[0] for ours, theirs in found.values() if len(ours) == len(theirs) == 1}


def _said(node: Node, is_before: bool) -> Hashable:
    """All a node says but for its name."""
    values = storable(node.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    values.pop("id", None)
    return canonical(values)


def _said_and_where(before: Graph, after: Graph) -> Callable[[Node, bool], Hashable]:
    """The same with what it is connected to, for steps that say the same."""
    both = {n.id for n in before.nodes} & {n.id for n in after.nodes}

    def key(node: Node, is_before: bool) -> Hashable:
        edges = (before if is_before else after).edges
        into = frozenset((e.source, e.port) for e in edges if e.to == node.id and e.source in both)
        out = frozenset((e.port, e.to) for e in edges if e.source == node.id and e.to in both)
        return _said(node, is_before), into, out

    return key
