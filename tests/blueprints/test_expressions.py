"""Expressions: what they give, what they refuse, and where they stop."""

from __future__ import annotations

import json
from typing import Any

import cel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.blueprints.core import expressions
from apps.blueprints.core.expressions import ExpressionError, compile_expression, evaluate, render

NAMES: dict[str, Any] = {
    "inputs": {"company": "Acme", "amount": 48, "tags": ["a", "b"]},
    "steps": {
        "draft": {"output": {"subject": "Hi", "score": 0.8}, "status": "succeeded", "attempts": 1},
        "skipped": {"output": None, "status": "skipped", "attempts": 0},
    },
    "run": {"id": "r1", "started_at": "2026-01-01T00:00:00Z"},
    "effects": [{"tool": "send_email", "approved_by": None}, {"tool": "search", "approved_by": None}],
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("inputs.amount", 48),
        ("inputs.amount > 47.5", True),
        ("inputs.amount * 1.5", 72.0),
        ("inputs.amount == 48.0 && 1 in [1.0]", True),
        ("steps.draft.output.score > 0", True),
        ("1 == '1' || true == 1", False),
        ("'Hello ' + inputs.company", "Hello Acme"),
        ("inputs.company.contains('cm') ? 'yes' : 'no'", "yes"),
        ("'a' in inputs.tags && !('c' in inputs.tags)", True),
        ("'company' in inputs", True),
        ("size(inputs.tags) + inputs.company.size()", 6),
        ("effects.all(e, e.tool != 'send_email' || e.approved_by != null)", False),
        ("effects.exists_one(e, e.tool == 'search')", True),
        ("effects.filter(e, e.tool == 'search').map(e, e.tool)", ["search"]),
        ("[1, 2, 3].map(n, n > 1, n * 10)", [20, 30]),
        ("inputs.company.matches('^[A-Z][a-z]+$')", True),
        ("'x1'.matches('\\\\w\\\\d')", True),
        ("has(inputs.company) && !has(inputs.website)", True),
        ("has(steps.skipped.output.body)", False),
        ("steps.skipped.output == null", True),
        ("steps['draft'].output['subject']", "Hi"),
        ("{'a': {'b': [1, 2u, 0x10]}}", {"a": {"b": [1, 2, 16]}}),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7.0 / 2", 3.5),
        ("timestamp('2026-01-01T00:00:00Z') + duration('1h')", "2026-01-01T01:00:00Z"),
        ("timestamp(run.started_at).getFullYear()", 2026),
        ("timestamp('2026-01-02T00:00:00Z') - timestamp('2026-01-01T00:00:00Z')", "86400s"),
        ("b'abc'", "YWJj"),
        ("'é'.size() == 1", True),
        ("r'\\n' + '''it's''' + '\\u00e9'", "\\nit'sé"),
        ("no_such_name || true", True),
        ("true || no_such_name", True),
        ("'  a,b '.trim().split(',').map(t, t.upperAscii()).join('-')", "A-B"),
        ("1 + 2 // a remark", 3),
    ],
)
def test_an_expression_gives_plain_json(source: str, expected: Any) -> None:
    result = evaluate(source, NAMES)

    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("steps.draft.output.body", 'steps.draft.output.body: step "draft" has no output "body"'),
        ("steps.nobody.output", 'there is no step "nobody"'),
        ("has(steps.nobody.output.body)", 'there is no step "nobody"'),
        ("steps.skipped.output.body", 'step "skipped" has no output (skipped'),
        ("steps.draft.result", 'step "draft" has no "result"; it has output, status and attempts'),
        ("inputs.website", 'there is no input "website"'),
        ("inputs.company.name", '"inputs.company" is text and has no "name"'),
        ("steps.draft.output.score.value", '"score" of the output of step "draft" is a number'),
        ("input.company", 'there is no name "input"; known here: effects, inputs, run, steps'),
        ("inputs.tags[7]", "there is no item 7 in a list of 2"),
        ("inputs.company + 1", "cannot add text and a number; use string()"),
        ("inputs.company > 1", "cannot compare text with a number"),
        ("inputs.amount && true", "&& needs true or false, found a number"),
        ("inputs.amount / 0", "divides by zero"),
        ("9223372036854775807 + 1", "beyond 64 bits"),
        ("inputs.amount.map(a, a)", "inputs.amount is a number, and map() needs a list or an object"),
        ("'a'.matches('(')", "is not a regular expression"),
        ("now()", 'there is no function "now"'),
        ("inputs.tags.contains()", "contains() takes 1 argument here, found 0"),
        ("contains(inputs.tags, 'a')", "contains() is written value.contains(…)"),
        ("inputs.tags.map(1, 2)", "the first argument of map() is a plain name"),
        ("a = b", "compare with =="),
        ("'abc", "no closing quote"),
        ("1 +", "expected a value, found the end"),
        ("", "there is no expression here"),
    ],
)
def test_an_error_names_what_was_wrong(source: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        evaluate(source, NAMES)

    assert message in str(caught.value)
    assert caught.value.source == source


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ inputs.tags }}", ["a", "b"]),
        ("  {{ inputs.amount }}\n", 48),
        ("{{ steps.skipped.output }}", None),
        ("To {{ inputs.company }}: {{ steps.draft.output }}", 'To Acme: {"subject":"Hi","score":0.8}'),
        ("<{{ steps.skipped.output }}>", "<>"),
        ("{{ 48.0 }} of {{ 0.5 }}, {{ 1 < 2 }}", "48 of 0.5, true"),
        ("{{ {'a': {'b': 1}}}}", {"a": {"b": 1}}),
        ("x {{ {'a': {'b': '}}'}} }} y", 'x {"a":{"b":"}}"}} y'),
        ("{{ '}}' }}{{ '{{' }}", "}}{{"),
        ({"k": ["{{ inputs.amount }}", 1, None]}, {"k": [48, 1, None]}),
        ("no placeholder }}", "no placeholder }}"),
    ],
)
def test_a_template_inserts_values(template: Any, expected: Any) -> None:
    assert render(template, NAMES) == expected


def test_a_template_that_never_closes_is_refused() -> None:
    with pytest.raises(ExpressionError, match="never closed"):
        render("Dear {{ inputs.company", NAMES)


def test_braces_around_a_whole_expression_do_not_count() -> None:
    assert evaluate("{{ inputs.amount > 1 }}", NAMES) is True
    assert evaluate("{'a': 1}.size() == 1", NAMES) is True


def test_references_are_the_longest_plain_paths_and_leave_out_variables_of_macros() -> None:
    source = (
        "steps.draft.output.items.filter(i, i.price > inputs.limit).size() > 0 && steps['b'].status == 'x'"
    )

    assert compile_expression(source).references == {
        "steps.draft.output.items", "inputs.limit", "steps.b.status",
    }  # fmt: skip
    assert expressions.references({"a": ["{{ run.id }}", "{{ item }}-{{ index }}"]}) == {
        "run.id",
        "item",
        "index",
    }


def test_a_variable_of_a_macro_hides_a_name_only_inside_it() -> None:
    assert compile_expression("inputs.map(inputs, inputs.x) == run").references == {"inputs", "run"}


def test_parts_say_where_each_piece_stands() -> None:
    found = expressions.parts("Hi {{  inputs.company }}!")

    assert [(p.text, p.is_expression, p.position) for p in found] == [
        ("Hi ", False, 0), ("inputs.company", True, 7), ("!", False, 24),
    ]  # fmt: skip


def test_the_result_is_a_copy() -> None:
    names = {"x": {"y": [1]}}
    evaluate("x", names)["y"].append(2)

    assert names == {"x": {"y": [1]}}


BIG = {"x": list(range(5_000)), "s": "a" * 500_000, "t": ["b" * 1_000] * 2_000}


@pytest.mark.parametrize(
    "source",
    [
        "x.map(a, x.map(b, x.map(c, a + b + c)))",
        "x.exists(a, x.exists(b, a + b < 0))",
        "x.all(a, x.exists(b, no_such) || true)",
        "x.map(a, s + s)",
        "x.map(a, s).size() > 0 && x.map(a, s) == x.map(b, s)",
        "x.filter(a, s == s.trim())",
        "x.exists(a, s < s)",
        "x.exists(a, s.matches('(.{1,100}x){1,100}'))",
        "x.exists(a, 'a'.matches('(.{1,60}){1,60}' + string(a)))",
        "x.exists(a, s.contains('ab'))",
        "x.exists(a, s.split('').size() < 0)",
        "x.exists(a, s.replace('a', 'bb') == '')",
        "x.exists(a, t.join('') == '')",
        "x.exists(a, 'c' in t)",
        "x.exists(a, x + x == [])",
    ],
)
def test_costly_expressions_stop_by_count(source: str) -> None:
    """Bounds are counted, not timed, so that an expression stops at the same place on every machine."""
    with pytest.raises(
        ExpressionError, match=r"too many operations|too much text|more than|regular expression"
    ):
        evaluate(source, BIG)


def test_a_result_beyond_sixteen_megabytes_is_refused() -> None:
    assert len(evaluate("s", BIG)) == 500_000
    with pytest.raises(ExpressionError, match="gives more than 16,000,000 bytes"):
        evaluate(f"[{', '.join(['s'] * 33)}]", BIG)
    with pytest.raises(ExpressionError, match="longer than"):
        render("{{ s }}" * 33, BIG)


def test_a_template_has_bounds_as_a_whole() -> None:
    # Each value alone is small enough; a thousand lists of a template took a minute and most of a gigabyte.
    values = {"long": "x" * 1_000_000, "rows": list(range(60_000))}
    with pytest.raises(ExpressionError, match="builds too much"):
        render({"all": ["{{ long }}"] * 65}, values)
    with pytest.raises(ExpressionError, match="builds too much"):
        render(["{{ long }} "] * 65, values)
    with pytest.raises(ExpressionError, match="too many operations"):
        render(["{{ rows.exists(r, r < 0) }}"] * 100, values)
    assert render(["{{ long }}"] * 60, values) == [values["long"]] * 60


@pytest.mark.parametrize(
    "source",
    ["(" * 900 + "1" + ")" * 900, "!" * 900 + "true", "1" + "+1" * 900, "a" + ".a" * 900, "[" * 90 + "]" * 90,
     "1" + "?1:1" * 400, "x" * 2_001, "a.map(b," * 100 + "1" + ")" * 100],
)  # fmt: skip
def test_deep_or_long_source_is_refused(source: str) -> None:
    with pytest.raises(ExpressionError):
        evaluate(source, {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(json_values)
def test_a_value_passes_through_unchanged(value: Any) -> None:
    assert evaluate("v", {"v": value}) == value
    assert render({"a": ["{{ v }}"]}, {"v": value}) == {"a": [value]}


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_a_named_error(source: str) -> None:
    for template in (source, "{{" + source + "}}"):
        try:
            json.dumps(render(template, NAMES))
            json.dumps(evaluate(template, NAMES))
        except ExpressionError as error:
            assert error.message


@given(st.text(alphabet="{}'\"\\ a:,", max_size=30))
def test_parts_lose_no_text(template: str) -> None:
    try:
        found = expressions.parts(template)
    except ExpressionError:
        return
    for part in found:
        assert template[part.position : part.position + len(part.text)] == part.text
    assert "".join(p.text for p in found if not p.is_expression).count("{{") == 0


numbers = st.integers(-50, 50).map(str) | st.floats(-50, 50, allow_nan=False).map(lambda f: f"{f:.3f}")
words = st.sampled_from(["'a'", "'b'", "'abc'", "''", "s"])
booleans = st.sampled_from(
    ["true", "false", "n > 1", "s == 'abc'", "has(o.k)", "has(o.none)", "2 in l", "l == [1, 2, 3]"]
)
lists = st.sampled_from(["l", "[1, 2]", "l.map(e, e + 1)", "l.filter(e, e > 1)", "[]"])


def _combine(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||", "==", "!="]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} ? {t[1]} : {t[2]})"),
        inner.map(lambda t: f"!({t})"),
        st.tuples(lists, st.sampled_from(["all", "exists", "exists_one"]), inner).map(
            lambda t: f"{t[0]}.{t[1]}(e, {t[2]})"
        ),
        st.tuples(words, st.sampled_from(["contains", "startsWith", "endsWith"]), words).map(
            lambda t: f"{t[0]}.{t[1]}({t[2]})"
        ),
        st.tuples(numbers, st.sampled_from(["<", "<=", ">", ">=", "=="]), numbers).map(
            lambda t: f"{t[0]} {t[1]} {t[2]}"
        ),
        st.tuples(words, st.sampled_from(["<", ">=", "+"]), words).map(
            lambda t: f"size({t[0]} + {t[2]}) > 2"
        ),
        lists.map(lambda t: f"size({t}) > 2"),
    )


@settings(max_examples=300)
@given(st.recursive(booleans, _combine, max_leaves=8))
def test_the_answers_are_those_of_the_rust_library(source: str) -> None:
    names = {"n": 2, "s": "abc", "o": {"k": 1}, "l": [1, 2, 3]}
    try:
        expected = cel.evaluate(source, names)
    except Exception:
        return  # where it refuses, for example over mixed numbers, we may answer
    assert evaluate(source, names) == expected
