"""The log's promises: the bytes come back, any interleaving ends in one text, reading by entry is reading."""

# ruff: noqa: E501 - the odd documents read best as they are written

from __future__ import annotations

import os
import uuid
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.blueprints.core import canonical
from apps.blueprints.core.editing.apply import Applied, Conflict, apply
from apps.blueprints.core.editing.log import Entry, InTheWay, taken_back, text_before
from apps.blueprints.core.editing.operations import KINDS, AnyOperation, operation, payload
from apps.blueprints.core.editing.spans import Source, advance, read
from apps.blueprints.core.editing.splices import (
    Splice,
    apply_splices,
    carried,
    difference,
    net_change,
    reverse,
    trimmed,
)
from apps.blueprints.core.validate import validate

SCALE = int(os.environ.get("MN_TEST_SCALE", "1"))
"""How many times as many examples: each reads whole texts, and what a night finds is pinned by name elsewhere."""
IDS = ("alpha", "beta", "gamma", "delta", "sub", "inner")
TEXTS = (
    "plain", "two words", "a: b", "# not a comment", "line one\nline two", "ends\n", " spaced ", "ünï — ✓ 𝄞", "true",
    "12", "", "{{ steps.alpha.output }}", "it's \"so\"", "- dash", "*star", "&and", "a\tb", "<script>alert(1)</script>",
    "| pipe", "null", "x" * 130, "\n", "a\n\nb", "a \nb", "%", "---", "\u2028", "é\u0085",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(TEXTS), st.integers(-5, 5), st.booleans(), st.none(), st.just(1.5), st.just([]), st.just({}),
    st.lists(st.sampled_from(TEXTS), max_size=3), st.dictionaries(st.sampled_from(("a", "b c", "y")), st.sampled_from(TEXTS), max_size=2),
    st.just({"deep": {"list": [{"a": 1}, {"b": ["c\nd", 2]}]}}),
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> str:
    """A blueprint as somebody odd may have written it: comments, blank lines, every style of collection."""
    pick = lambda *choices: draw(st.sampled_from(choices))  # noqa: E731
    wide = pick(0, 2)
    pad = " " * wide
    lines = [
        pick("", "# head\n# more\n", "\ufeff", "---\n"),
        "apiVersion: mirrorneuron/v1\n",
        pick("", "\n\n"),
    ]
    lines += [
        "kind: Blueprint  # always\n",
        pick("metadata: {name: odd, title: 'Odd one'}\n", "metadata:\n    name: odd\n"),
    ]
    lines.append(
        pick(
            "", "contract:\n  goal: >-\n    folded\n    text\n\n  # about inputs\n  inputs: {type: object}\n"
        )
    )
    lines.append(
        pick(
            "",
            "layout: {alpha: {x: 1, y: 2}}\n",
            "layout:\n  alpha: {x: 1, y: 2}\n  beta:\n    x: 5 # here\n    y: 6\n",
        )
    )
    lines.append("graph:\n")
    if draw(st.booleans()):
        lines.append("  # the nodes\n")
    lines.append("  nodes:" + pick("", "  # all of them") + "\n")
    for index, node in enumerate(IDS[: draw(st.integers(1, 4))]):
        lines.append(pick("", f"  {pad}# about {node}\n", "\n"))
        lines.append(pick(
            f"  {pad}- {{id: {node}, kind: transform}}\n",
            f"  {pad}- {{id: {node}, kind: transform, output: \"{{{{ steps.alpha.output }}}}\", with: {{a: 1}}}}  # flow\n",
            f"  {pad}- id: {node}\n  {pad}  kind: agent   # model\n  {pad}  prompt: |\n  {pad}    Hello\n\n  {pad}    {{{{ steps.alpha.output }}}}\n  {pad}  title: 'It''s {index}'\n",
            f"  {pad}- kind: tool\n  {pad}  id: \"{node}\"\n  {pad}  with:\n  {pad}    to: >-\n  {pad}      a\n  {pad}      b\n  {pad}    list:\n  {pad}    - 1\n  {pad}    # two\n  {pad}    - two\n",
            f"  {pad}-   id: {node}\n  {pad}    kind: code\n  {pad}    code: |+\n  {pad}      x = 1\n\n\n",
            f"  {pad}- id: {node}\n  {pad}  kind: agent\n  {pad}  title:\n  {pad}  output: {{type: object,\n  {pad}    required: [a]}}\n",
        ))  # fmt: skip
    if draw(st.booleans()):
        lines.append(
            f"  {pad}- id: sub\n  {pad}  kind: map\n  {pad}  items: inputs.all\n  {pad}  body:\n  {pad}    nodes:\n"
            f"  {pad}      - {{id: inner, kind: transform, output: '{{{{ steps.alpha.output + steps.inner.output }}}}'}}\n  {pad}    edges: []\n"
        )
    ending = pick(
        "  edges: []\n",
        "  edges:\n    # first\n    - {from: alpha, to: alpha, max_rounds: 2} # loop\n",
        "  edges: [{from: alpha, to: alpha}, {from: alpha.failed, to: alpha}]\n",
        "",
    )
    lines.append(ending)
    lines.append(
        pick("", "# the end\n", "outputs: {a: 1}\n", "canvas:\n  groups: {g1: {title: G, nodes: [alpha]}}\n")
    )
    text = "".join(lines)
    text = pick(text, text, text.rstrip("\n"), text.replace("\n", "\r\n"))
    return text


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Any operation, fitting or not."""
    node = st.sampled_from(("alpha", "beta", "gamma", "sub", "sub/inner", "nobody"))
    kind = draw(st.sampled_from([k for k in KINDS if k != "set_source"]))
    ends = {
        "from": draw(st.sampled_from(("alpha", "alpha.failed", "beta", "fresh"))),
        "to": draw(st.sampled_from(("alpha", "beta", "gamma"))),
    }
    scope = draw(st.sampled_from(("", "", "", "sub")))
    place = {"x": draw(st.integers(-9, 900)), "y": draw(st.integers(-9, 900))}
    value: dict[str, Any] = {"new": draw(VALUES)} if draw(st.integers(0, 3)) else {}
    path = draw(
        st.sampled_from(
            (
                ["title"],
                ["with", "to"],
                ["with", "list", 1],
                ["output"],
                ["prompt"],
                ["retry", "base"],
                ["code"],
            )
        )
    )
    fields: dict[str, Any] = {
        "add_node": {"scope": scope, "node": {"id": draw(st.sampled_from(("fresh", "other", "alpha"))), "kind": "tool", "with": {"v": draw(VALUES)}},
                     **({"position": place} if draw(st.booleans()) else {}), **({"edge": {"from": "alpha", "to": "fresh"}} if draw(st.booleans()) else {}),
                     **({"split": {"from": "alpha", "to": "alpha"}} if not draw(st.integers(0, 3)) else {})},
        "remove_node": {"node": draw(node)},
        "move_nodes": {"positions": {draw(node): place, "alpha": place}},
        "set_config": {"node": draw(node), "path": path, **value},
        "rename": {"node": draw(node), "to": draw(st.sampled_from(("renamed", "beta", "z")))},
        "add_edge": {"scope": scope, "edge": {**ends, **({"label": draw(st.sampled_from(TEXTS))} if draw(st.booleans()) else {})}},
        "remove_edge": {"scope": scope, "edge": ends},
        "set_edge": {"scope": scope, "edge": ends, "path": [draw(st.sampled_from(("label", "when", "to")))], **value},
        "group": {"title": draw(st.sampled_from(TEXTS)), "nodes": [draw(node)]},
        "ungroup": {"id": "g1"},
        "set_contract": {"path": draw(st.sampled_from((["contract", "goal"], ["contract", "budget", "per_run_usd"], ["card"], ["agents", "w", "model"], ["metadata", "title"]))), **value},
        "set_layout": {"path": draw(st.sampled_from((["layout"], ["canvas", "notes", "n1"], ["layout", "alpha", "x"], ["canvas", "collapsed"]))), **value},
        "paste": {"scope": scope, "text": "nodes: [{id: alpha, kind: transform, output: '{{ steps.beta.output }}'}, {id: beta, kind: transform}]\nedges: [{from: beta, to: alpha}]\n", **({"at": place} if draw(st.booleans()) else {})},
    }[kind]  # fmt: skip
    return {"op_id": str(uuid.UUID(int=draw(st.integers(0, 2**64)))), "kind": kind, **fields}


def fitting(source: Source, values: dict[str, Any]) -> AnyOperation:
    """The operation with the `old` that its precondition asks for, as an editor that has seen the text sends it."""
    if values["kind"] not in ("set_config", "set_edge", "set_contract"):
        return operation(values)
    probe = apply(source, operation(values))
    if isinstance(probe, Conflict) and "meanwhile" in probe.message and probe.theirs is not None:
        return operation(values | {"old": probe.theirs})
    return operation(values)


def the_same(one: Source, other: Source) -> None:
    assert one.data == other.data
    assert (one.root, one.start) == (other.root, other.start)


@given(documents(), st.lists(changes(), min_size=1, max_size=6))
@settings(max_examples=40 * SCALE)
def test_applied_and_taken_back_is_the_same_text_to_the_byte(text: str, wanted: list[dict[str, Any]]) -> None:
    source = read(text)
    assert source.readable
    for values in wanted:
        done = apply(source, fitting(source, values))
        if isinstance(done, Conflict):
            assert (done.message and done.message[0].isupper()) or done.message[:1] in '"[{(cgmlo'
            continue
        assert apply_splices(source.text, done.splices) == done.text
        assert apply_splices(done.text, done.inverse) == source.text
        the_same(done.source, read(done.text))
        source = done.source


@given(documents(), changes(), st.data())
@settings(max_examples=20 * SCALE)
def test_what_is_logged_does_the_same_again(text: str, values: dict[str, Any], data: st.DataObject) -> None:
    source = read(text)
    done = apply(source, fitting(source, values))
    if isinstance(done, Applied):
        again = apply(
            read(text), operation({"op_id": str(uuid.uuid4()), "kind": values["kind"], **payload(done.op)})
        )
        assert isinstance(again, Applied) and again.text == done.text


@given(
    documents(),
    st.lists(st.tuples(st.sampled_from("ab"), changes(), st.integers(0, 4)), min_size=2, max_size=12),
)
@settings(max_examples=20 * SCALE)
def test_any_interleaving_of_two_editors_is_one_log(
    text: str, story: list[tuple[str, dict[str, Any], int]]
) -> None:
    """Each does things and sometimes takes back their own last one; nothing of the other is ever lost by it."""
    source = read(text)
    log: list[tuple[str, Entry]] = []
    standing: dict[str, list[int]] = {"a": [], "b": []}
    for who, values, back in story:
        op_id = uuid.uuid4()
        if back == 0 and standing[who]:
            seq = standing[who].pop()
            mine = log[seq - 1][1]
            found = taken_back(source.text, mine.inverse, [e for _, e in log[seq:]])
            if isinstance(found, InTheWay):
                continue
            after = advance(source, found)
            if not after.readable:
                continue
            entry = Entry(len(log) + 1, op_id, mine.op_id, tuple(reverse(source.text, found)))
        else:
            done = apply(source, fitting(source, values))
            if isinstance(done, Conflict):
                continue
            after = done.source
            entry = Entry(len(log) + 1, op_id, None, done.inverse)
            standing[who].append(entry.seq)
        the_same(after, read(after.text))
        log.append((who, entry))
        source = after
    assert text_before(source.text, [e for _, e in log]) == text


LINES = (
    "a: 1", "b: |", "c: |+", "d: >-", "e: >+", "f: &here |+", "  text", "  more", "", "   ", "# note", "  # note", "g:", "- x",
    "  - y", "- k: v", "  k2: v2", "  - k: |+", "      long", "h: [1,", "   2]", "i: 'one", "  two'", "l: plain", "  continued",
    "layout:", "  n5: {x: 1, y: 2}", "? q", ": r", "---", "...", "m: - k", "    deep: z", "n: v", "o: v", "p:", "  q: v",
)  # fmt: skip
INSERTED = (
    "layout:\n  n5: {x: 1, y: 2}\n", "a2: 1\n", "- x\n", "  - y\n", "  m: 1\n", "# c\n", "\n", "z: |+\n  t\n\n", "z: |\n  t\n",
    "- k: v\n  o: 1\n", "  text\n", "q: 'x\n", "z:\n", "zz: [1,\n  2]\n", "y1: 1\ny2: 2\n", "    deep: 1\n", "- |+\n  x\n", "u: >2+\n    t\n",
    "layout: {}",
)  # fmt: skip


@given(
    st.lists(st.sampled_from(LINES), min_size=1, max_size=9, unique=True),
    st.sampled_from(("", "\n", "\n\n")),
    st.sampled_from(("\n", "\r\n")),
    st.integers(0, 12),
    st.lists(st.sampled_from(INSERTED), min_size=1, max_size=2),
)
@settings(max_examples=300 * SCALE)
def test_lines_put_between_others_say_what_they_say_when_all_is_read(
    lines: list[str], end: str, newline: str, at: int, put: list[str]
) -> None:
    text = ("\n".join(lines) + end).replace("\n", newline)
    source = read(text)
    if not source.readable:
        return
    starts = [0, *(i + 1 for i, c in enumerate(text) if c == "\n")]
    place = starts[at % len(starts)]
    splice = Splice(place, place, "".join(put).replace("\n", newline))
    the_same(advance(source, [splice]), read(apply_splices(text, [splice])))


REPEATED = (["aa: &x 1"], ["ac: &y", "  ad: 1", "  ae: 2"], ["al: &x {k: 1}", "am: &y", "  - 1", "  - k: 2"])
REPEATS = (
    ["ab: *x"],
    ["af: *y"],
    ["ag:", "  <<: *y", "  ah: 3"],
    ["ag:", "  - *x", "  - b: *y", "  - c"],
    ['at: "t\tt"'],
)
PLAIN = [line for line in LINES if line[:1] not in ("?", ":")]
PUT = ("", "x", "v2", "  ", "\n", "&q ", "*x", "k: v\n", ": ", "- ", "'", "|\n  t\n", "\t")


@given(
    st.sampled_from(REPEATED), st.lists(st.sampled_from(PLAIN), max_size=3, unique=True), st.sampled_from(REPEATS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 6), st.sampled_from(PUT)), min_size=1, max_size=3),
)  # fmt: skip
@settings(max_examples=200 * SCALE)
def test_a_change_beside_what_is_repeated_says_what_it_says_when_all_is_read(
    first: list[str], lines: list[str], last: list[str], wanted: list[tuple[int, int, str]]
) -> None:
    source = read("\n".join([*first, *lines, *last]))
    for at, size, put in wanted:
        if not source.readable:
            return
        start = at % (len(source.text) + 1)
        source = advance(source, [Splice(start, min(start + size, len(source.text)), put)])
        the_same(source, read(source.text))


@given(documents(), st.lists(changes(), min_size=1, max_size=8))
@settings(max_examples=20 * SCALE)
def test_one_editor_who_undoes_everything_is_back_at_the_first_byte(
    text: str, wanted: list[dict[str, Any]]
) -> None:
    source = read(text)
    log: list[Entry] = []
    for values in wanted:
        done = apply(source, fitting(source, values))
        if isinstance(done, Applied):
            log.append(Entry(len(log) + 1, uuid.uuid4(), None, done.inverse))
            source = done.source
    for mine in list(reversed(log)):
        found = taken_back(source.text, mine.inverse, log[mine.seq :])
        assert not isinstance(found, InTheWay)
        log.append(Entry(len(log) + 1, uuid.uuid4(), mine.op_id, tuple(reverse(source.text, found))))
        source = advance(source, found)
    assert source.text == text


@given(
    documents(),
    st.lists(
        changes().filter(lambda c: c["kind"] in ("move_nodes", "set_layout", "group", "ungroup")), max_size=6
    ),
)
@settings(max_examples=20 * SCALE)
def test_layout_and_canvas_never_change_what_a_blueprint_means(
    text: str, wanted: list[dict[str, Any]]
) -> None:
    source = read(text)
    before = validate(source.parsed, {}).remainder
    for values in wanted:
        done = apply(source, operation(values))
        source = done.source if isinstance(done, Applied) else source
    after = validate(source.parsed, {}).remainder
    assert before is not None and after is not None
    assert canonical.content_hash(after) == canonical.content_hash(before)


@given(st.text("ab\n", max_size=12), st.text("ab\n", max_size=12))
def test_a_difference_turns_one_text_into_the_other(before: str, after: str) -> None:
    assert apply_splices(before, difference(before, after)) == after


@st.composite
def splices_of(draw: st.DrawFn, length: int) -> list[Splice]:
    places = sorted(draw(st.lists(st.integers(0, length), max_size=4)))
    pairs = zip(places[::2], places[1::2], strict=False)
    return [Splice(a, b, draw(st.text("xyz", max_size=3))) for a, b in pairs]


@given(st.data())
@settings(max_examples=300)
def test_the_net_change_of_many_changes_turns_the_first_text_into_the_last(data: st.DataObject) -> None:
    text = start = data.draw(st.text("abc", max_size=15))
    changed = []
    for _ in range(data.draw(st.integers(0, 5))):
        splices = data.draw(splices_of(len(text)))
        changed.append(splices)
        text = apply_splices(text, splices)
    regions = net_change(start, text, changed)
    assert (
        apply_splices(start, [Splice(r.start, r.end, text[r.now_start : r.now_end]) for r in regions]) == text
    )


@given(st.data())
@settings(max_examples=200)
def test_what_is_carried_leaves_the_changes_of_others_alone(data: st.DataObject) -> None:
    """Mine first and then theirs carried, or theirs and then mine carried: the same text."""
    text = data.draw(st.text("abc", min_size=3, max_size=15))
    mine, theirs = (
        trimmed(text, data.draw(splices_of(len(text)))),
        trimmed(text, data.draw(splices_of(len(text)))),
    )
    later = apply_splices(text, theirs)
    moved = carried(mine, net_change(text, later, [theirs]))
    if moved is None:
        assert mine and theirs
        return
    other = carried(theirs, net_change(text, apply_splices(text, mine), [mine]))
    result = apply_splices(later, moved)
    assert len(result) == len(text) + sum(s.grows for s in [*mine, *theirs])
    touching = {p for s in mine for p in (s.start, s.end)} & {p for s in theirs for p in (s.start, s.end)}
    if other is not None and not touching:
        assert apply_splices(apply_splices(text, mine), other) == result
