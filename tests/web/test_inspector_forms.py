"""Forms of the editor, without pages: any draft has forms, and what a field shows is what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.editing.apply import Applied, apply
from apps.blueprints.core.editing.operations import operation as operation_of
from apps.blueprints.core.editing.sketch import sketch
from apps.blueprints.core.kinds import FIELDS, fields
from apps.blueprints.core.parse import parse, plain_dump
from apps.blueprints.core.schema_export import blueprint_schema
from apps.web.core.inspector import edits, schema_rows
from apps.web.core.inspector import words as told
from apps.web.core.inspector.change import at, narrow, put, same
from apps.web.core.inspector.forms import PARTS, Form, Subject, form_of
from apps.web.core.inspector.inputs import MISSING, Input, Unreadable, as_text, read
from apps.web.core.inspector.names import names_at
from apps.web.core.inspector.preview import estimated_tokens, preview
from mirrorneuron.base.ids import uuid7
from tests.blueprints.samples import TOOLS

GALLERY = Path(__file__).parents[2] / "blueprints"
TEXTS = {p.parent.name: p.read_text(encoding="utf-8") for p in sorted(GALLERY.glob("*/blueprint.yaml"))}
LIGHT = settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(max_size=12)
json_values = st.recursive(
    scalars | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
NODE_FIELDS = sorted({name for kind in FIELDS for name in fields(kind)})


@st.composite
def drafts(draw: st.DrawFn) -> dict[str, Any]:
    """Something that looks like a blueprint, with anything anywhere."""

    def node() -> dict[str, Any]:
        made: dict[str, Any] = {
            "id": draw(st.sampled_from(["a", "b", "c"])),
            "kind": draw(st.sampled_from([*FIELDS, "x"])),
        }
        for name in draw(st.lists(st.sampled_from(NODE_FIELDS), max_size=5)):
            if name not in ("id", "kind"):
                made[name] = draw(json_values)
        return made

    made: dict[str, Any] = {"graph": {"nodes": [node() for _ in range(draw(st.integers(0, 3)))], "edges": []}}
    made["graph"]["edges"] = [
        {
            "from": "a",
            "to": "b",
            **draw(
                st.dictionaries(
                    st.sampled_from(["when", "label", "max_rounds", "handoff"]), json_values, max_size=2
                )
            ),
        }
    ]
    for part in ("metadata", "card", "contract", "models", "tools", "agents", "connections", "outputs"):
        if draw(st.booleans()):
            made[part] = draw(
                json_values
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "goal",
                            "inputs",
                            "budget",
                            "boundaries",
                            "human_checkpoints",
                            "success_criteria",
                            "a",
                        ]
                    ),
                    json_values,
                    max_size=4,
                )
            )
    return made


def subjects(data: Any) -> list[Subject]:
    plan = sketch(data)
    return [
        *(Subject("node", path) for path in plan.nodes),
        *(Subject("edge", edge.id) for edge in plan.edges),
        *(Subject("part", part) for part in PARTS),
    ]


def sent(one: Input) -> list[str]:
    """What a browser sends for a field nobody has touched."""
    if one.widget == "tick":
        return ["yes"] if one.ticked else []
    if one.widget == "names":
        return [key for key, _, chosen in one.choices if chosen]
    if one.widget == "choice":
        return [next((key for key, _, chosen in one.choices if chosen), "")]
    return [as_text(one)]


@LIGHT
@given(drafts())
def test_any_draft_has_forms_with_fields_of_their_own_names(data: dict[str, Any]) -> None:
    for subject in subjects(data):
        form = form_of(subject, data, TOOLS)
        if form is None:
            continue
        names = [one.name for one in form.inputs]
        assert len(names) == len(set(names))
        assert len({one.id for one in form.inputs}) == len(names)
        for one in form.inputs:
            _ = (as_text(one), one.choices, one.rows_shown, one.seen, preview(one, {}))


@LIGHT
@given(drafts())
def test_a_field_nobody_touched_reads_as_what_it_shows(data: dict[str, Any]) -> None:
    for subject in subjects(data):
        form = form_of(subject, data, TOOLS)
        for one in form.inputs if form is not None else []:
            if one.is_container or one.aspect or not one.is_set or one.widget == "tick":
                continue
            if one.value is None or one.value == [] or (isinstance(one.value, str) and not one.value.strip()):
                continue  # Shown as empty, which reads as nothing.
            try:
                found = read(one, sent(one))
            except Unreadable:
                continue  # What is wrong in the draft is said, not taken.
            if one.widget in ("number", "whole", "duration") and isinstance(
                one.value, (str, bool, list, dict)
            ):
                continue
            if isinstance(one.value, str) and "\r" in one.value:
                continue  # A browser knows one kind of line end.
            assert same(found, one.value) or found == one.value, one


@pytest.mark.parametrize("name", TEXTS)
def test_every_field_of_a_shipped_blueprint_keeps_its_value(name: str) -> None:
    data = parse(TEXTS[name]).data
    counted = 0
    for subject in subjects(data):
        form = form_of(subject, data, TOOLS)
        assert form is not None
        for one in form.inputs:
            if one.is_container or not one.is_set or one.aspect:
                continue
            counted += 1
            found = read(one, sent(one))
            assert found == one.value or (one.value in ([], None, "") and found is MISSING), (subject, one)
    assert counted > 100


TYPED = [
    "",
    "7",
    "30s",
    "true",
    "{{ inputs.company }}",
    "a: b # c",
    "“x”",
    '{"a": 1}',
    "line\nnext",
    "  x ",
    "-",
    "null",
]


@pytest.mark.parametrize("name", TEXTS)
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(choice=st.integers(0, 10**6), typed=st.sampled_from(TYPED) | texts)
def test_one_operation_makes_exactly_the_change_that_was_typed(name: str, choice: int, typed: str) -> None:
    source = TEXTS[name]
    data = parse(source).data
    places = [
        (form, one)
        for subject in subjects(data)
        if (form := form_of(subject, data, TOOLS)) is not None
        for one in form.inputs
        if not one.is_container and one.aspect != "id"
    ]
    form, one = places[choice % len(places)]
    try:
        after = edits.changed(data, form, one, read(one, [typed]))
    except Unreadable:
        return
    wanted = edits.operation(data, after)
    if wanted is None:
        assert same(after, data)
        return
    done = apply(source, operation_of({"op_id": uuid7(), **wanted}))
    assert isinstance(done, Applied), done
    assert parse(done.text).data == after


@pytest.mark.parametrize("do", ["add", "remove", "down"])
@pytest.mark.parametrize("name", TEXTS)
def test_every_button_makes_one_operation_that_can_be_done(name: str, do: str) -> None:
    source = TEXTS[name]
    data = parse(source).data
    counted = 0
    for subject in subjects(data):
        form = form_of(subject, data, TOOLS)
        assert form is not None
        for one in form.inputs:
            after = _pressed(data, form, one, do)
            wanted = edits.operation(data, after) if after is not None else None
            if wanted is None:
                continue
            counted += 1
            done = apply(source, operation_of({"op_id": uuid7(), **wanted}))
            assert isinstance(done, Applied), (one, done)
            assert parse(done.text).data == after
    assert counted >= 3


def _pressed(data: Any, form: Form, one: Input, do: str) -> Any:
    if do == "add" and one.widget in ("rows", "entries", "map", "schema") and not one.closed:
        return edits.added(data, form, one, "fresh")[0]
    if do == "remove" and one.aspect == "row":
        return edits.removed(data, form, one)
    if do == "down" and one.aspect == "row" and isinstance(one.path[-1], int):
        return edits.moved(data, form, one, 1)
    return None


@pytest.mark.parametrize("kind", sorted(FIELDS))
def test_the_form_of_a_kind_has_every_field_of_the_kind(kind: str) -> None:
    data = {"graph": {"nodes": [{"id": "a", "kind": kind}], "edges": []}}
    form = form_of(Subject("node", "a"), data, TOOLS)
    assert form is not None
    assert {one.path[0] for one in (*form.first, *form.rest)} - {"contract"} == fields(kind) - {
        "kind",
        "body",
    }
    assert len(form.first) <= 8


def test_every_field_of_the_contract_says_what_it_enforces() -> None:
    defs = blueprint_schema()["$defs"]
    parts = (
        "Contract",
        "SuccessCriteria",
        "DurableState",
        "Boundaries",
        "RecoveryPolicy",
        "BudgetLimits",
        "ContextPolicy",
    )
    groups = {"success_criteria", "durable_state", "boundaries", "recovery_policy", "budget", "context"}
    silent = [
        f"{part}.{name}"
        for part in parts
        for name in defs[part]["properties"]
        if f"{part}.{name}" not in told.ENFORCES and not (part == "Contract" and name in groups)
    ]
    assert silent == []


@LIGHT
@given(json_values, json_values)
def test_the_innermost_difference_put_back_gives_the_whole(old: Any, new: Any) -> None:
    found = narrow(old, new)
    if found is None:
        assert same(old, new)
        return
    path, before, after = found
    assert same(at(old, path), before)
    if after is not MISSING and path:
        assert put(old, path, after) == new


@pytest.mark.parametrize(
    ("typed", "value"), [("30s", "30s"), ("1.5", 1.5), ("90", 90), ("4 h", "4 h"), ("0", 0)]
)
def test_a_duration_is_kept_as_it_is_written(typed: str, value: Any) -> None:
    assert read(Input(("timeout",), "duration", "Timeout"), [typed]) == value


@pytest.mark.parametrize(
    ("widget", "typed", "said"),
    [
        ("duration", "soon", "not a duration"),
        ("whole", "1.5", "not a whole number"),
        ("number", "1e999", "not a number"),
        ("json", "{", "not JSON"),
        ("json", "[" * 10_000, "JSON|deep"),
        ("choice", '"nowhere"', "not one of the choices"),
    ],
)
def test_what_cannot_be_read_is_said_in_words(widget: Any, typed: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        read(Input(("x",), widget, "X", options=(("a", "A"),)), [typed])


def test_a_field_of_a_form_changes_its_type_and_keeps_its_words() -> None:
    schema = {
        "type": "string",
        "minLength": 2,
        "title": "Company",
        "description": "Who",
        "x-message": "Say who.",
    }
    assert schema_rows.with_type(schema, "whole") == {
        "type": "integer", "title": "Company", "description": "Who", "x-message": "Say who.",
    }  # fmt: skip


def test_a_renamed_field_stays_needed_and_in_its_place() -> None:
    schema = {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}, "b": {}}}
    made = schema_rows.with_name(schema, "a", "company")
    assert list(made["properties"]) == ["company", "b"] and made["required"] == ["company"]
    with pytest.raises(Unreadable, match="There is “b” already"):
        schema_rows.with_name(schema, "a", "b")
    with pytest.raises(Unreadable, match="cannot be a name"):
        schema_rows.with_name(schema, "a", "<script>")
    with pytest.raises(Unreadable, match="Write a name first"):
        schema_rows.with_name(schema, "a", " ")


@pytest.mark.parametrize("key", sorted(schema_rows.TYPES))
def test_every_type_of_the_list_is_recognised_again(key: str) -> None:
    assert schema_rows.type_of(schema_rows.of_type({}, key)) == key


def test_an_expression_may_name_what_comes_before_it_and_nothing_else() -> None:
    data = parse(TEXTS["customer_research_to_followup"]).data
    names = {one.text: one for one in names_at(data, TOOLS, "research")}
    assert names["inputs.company"].type == "text"
    assert "steps.search.output.passages" in names
    assert not any(name.startswith("steps.draft.") for name in names)


def test_inside_a_map_there_are_item_and_what_stands_around() -> None:
    body = {
        "nodes": [{"id": "score", "kind": "transform", "output": 1}, {"id": "say", "kind": "transform"}],
        "edges": [{"from": "score", "to": "say"}],
    }
    nodes = [
        {"id": "first", "kind": "transform", "output": {"n": 1}},
        {"id": "each", "kind": "map", "items": [], "body": body},
    ]
    data = {"metadata": {"name": "x"}, "graph": {"nodes": nodes, "edges": [{"from": "first", "to": "each"}]}}
    names = {one.text for one in names_at(data, {}, "each/say")}
    assert {"item", "index", "steps.score.output", "steps.first.output.n"} <= names


@LIGHT
@given(drafts())
def test_names_of_any_draft_can_be_asked_for(data: dict[str, Any]) -> None:
    for path in [*sketch(data).nodes, "", "no/such/step"]:
        names_at(data, TOOLS, path)


def test_a_preview_shows_the_value_or_why_there_is_none() -> None:
    one = Input(("when",), "expression", "Only when", "size(inputs.a) > 1")
    shown = preview(one, {"inputs": {"a": [1, 2]}})
    assert shown is not None and shown.text == "true"
    missing = preview(one, {"inputs": {}})
    assert missing is not None and missing.is_error
    assert preview(Input(("x",), "template", "X", "plain"), {}) is None
    assert estimated_tokens("x" * 401) == 101


def test_a_text_alone_becomes_a_checked_criterion() -> None:
    data = {"contract": {"success_criteria": {"output": ["it is polite"]}}}
    form = form_of(Subject("part", "contract"), data, {})
    assert form is not None
    one = next(i for i in form.inputs if i.aspect == "as text check")
    after = edits.changed(data, form, one, "person")
    assert at(after, ("contract", "success_criteria", "output", 0)) == {
        "text": "it is polite",
        "check": "person",
    }
    assert plain_dump(after)


def test_nodes_of_a_body_have_forms(  # their operations name them by their whole path
) -> None:
    data = {
        "graph": {
            "nodes": [
                {
                    "id": "each",
                    "kind": "map",
                    "body": {"nodes": [{"id": "score", "kind": "tool", "tool": "send_email"}]},
                }
            ]
        }
    }
    form = form_of(Subject("node", "each/score"), data, TOOLS)
    assert form is not None
    one = next(i for i in form.inputs if i.path == ("with", "to"))
    after = edits.changed(data, form, one, "a@example.com")
    assert edits.operation(data, after) == {
        "kind": "set_config", "node": "each/score", "path": ["with"], "new": {"to": "a@example.com"},
    }  # fmt: skip


def test_all_nodes_of_the_gallery_are_reachable_by_their_paths() -> None:
    for text in TEXTS.values():
        data = parse(text).data
        for path, node in all_nodes(sketch(data).document.graph):
            form = form_of(Subject("node", path), data, TOOLS)
            assert form is not None and form.kind == node.kind
