"""The content hash: the same for the same meaning, another for another."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from apps.blueprints.core import canonical
from apps.blueprints.core.document import Document
from apps.blueprints.core.parse import parse, plain_dump
from apps.blueprints.core.schema_export import blueprint_schema
from tests.blueprints.samples import BLUEPRINT, changed, node


def _hash(data: dict[str, Any]) -> str:
    return canonical.content_hash(Document.model_validate(data))


def _shuffled(value: Any, chance: random.Random) -> Any:
    if isinstance(value, dict):
        keys = list(value)
        chance.shuffle(keys)
        return {key: _shuffled(value[key], chance) for key in keys}
    return [_shuffled(item, chance) for item in value] if isinstance(value, list) else value


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_key_order_layout_and_text_do_not_change_the_hash(chance: random.Random, x: float, y: float) -> None:
    data = _shuffled(copy.deepcopy(BLUEPRINT), chance)
    data["layout"] = {"draft": {"x": x, "y": y}}
    assert _hash(data) == _hash(BLUEPRINT)
    assert _hash(parse(plain_dump(data)).data) == _hash(BLUEPRINT)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["graph"]["edges"][0].update({"from": "search.done"}),
        lambda d: node(d, "draft").update(timeout=None),
        lambda d: d["contract"].update(recovery_policy={"retry_budget": 3}),
        lambda d: d.update(connections={}),
    ],
)
def test_spelling_out_a_default_does_not_change_the_hash(change: Any) -> None:
    assert _hash(changed(change)) == _hash(BLUEPRINT)


def test_a_duration_is_the_same_however_it_is_written() -> None:
    hashes = {_hash(changed(lambda d, t=t: node(d, "draft").update(timeout=t))) for t in ("120s", "2m", 120)}  # type: ignore[misc]
    assert len(hashes) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["metadata"].update(title="Another"),
        lambda d: node(d, "draft").update(prompt="Write more."),
        lambda d: d["graph"]["edges"][3].update(max_rounds=4),
        lambda d: d["contract"]["boundaries"].update(allowed_tools=["send_email", "search_documents"]),
    ],
)
def test_another_meaning_is_another_hash(change: Any) -> None:
    assert _hash(changed(change)) != _hash(BLUEPRINT)


def test_the_canonical_form_is_a_blueprint_again_with_the_same_hash() -> None:
    document = Document.model_validate(BLUEPRINT)
    for form in (canonical.dump(document), canonical.stored(document)):
        assert canonical.content_hash(Document.model_validate(form)) == canonical.content_hash(document)


def test_the_exported_schema_accepts_blueprints_and_names_fields_of_kinds() -> None:
    schema = blueprint_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good = changed(lambda d: node(d, "draft").update(timeout="120s", retry={"base": "1s"}))
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors(changed(lambda d: d.update(modles={}))))
    assert "prompt" in schema["$defs"]["Node"]["x-fields-of-kind"]["agent"]
    assert schema["$defs"]["RecoveryPolicy"]["properties"]["retry_budget"]["description"]
