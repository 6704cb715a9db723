from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import jsonschema
import pytest

from apps.agents.tools.base import FileRef, files_in, sample
from apps.agents.tools.registry import BUILTIN, CATALOG, tool_for
from apps.blueprints.core.document import Document
from apps.blueprints.ports import builtin_tools

EXAMPLES: dict[str, dict[str, Any]] = {
    "search_documents": {"query": "price"},
    "read_document": {"document": {"name": "a.md", "text": "# A\n\nb"}},
    "retrieve_crm_context": {"company": "Orrin", "crm": {"name": "c.csv", "text": "company\nOrrin\n"}},
    "read_table": {"file": {"name": "a.csv", "text": "a,b\n1,2\n"}},
    "match_records": {"left": [{"a": "1"}], "right": [{"a": "1"}], "left_key": "a", "right_key": "a"},
    "draft_email": {"subject": "s", "body": "b"},
    "send_email": {"to": "ann@quay.example", "subject": "s", "body": "b"},
    "http_request": {"url": "https://shop.example/x"},
    "write_file": {"name": "a.txt", "content": "x"},
}


def test_validation_knows_every_tool() -> None:
    assert builtin_tools().keys() == CATALOG.specs().keys() == BUILTIN.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_a_tool_says_what_it_needs_gives_and_touches(name: str) -> None:
    from tests.agents.tools.conftest import make_call

    tool, arguments = BUILTIN[name], EXAMPLES[name]
    spec = tool.spec
    assert spec.name == name
    assert spec.permission
    assert spec.output is not None
    for schema in (spec.parameters, spec.output):
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(arguments, spec.parameters)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**arguments, "surprise": 1}, spec.parameters)
    assert set(spec.sinks) <= set(spec.parameters["properties"])
    assert tool.describe(arguments).endswith(".")
    assert tool.describe({})
    found = tool.simulate(make_call(arguments))
    jsonschema.validate(found, spec.output)
    json.dumps(found)


@pytest.mark.parametrize(
    "name", ["search_documents", "read_document", "retrieve_crm_context", "read_table", "match_records"]
)
def test_what_a_read_gives_fits_its_schema(name: str) -> None:
    from tests.agents.tools.conftest import make_call

    found = BUILTIN[name].run(make_call(EXAMPLES[name], {"a.md": b"# Prices\n\nThe price is 4.\n"}))
    jsonschema.validate(found, BUILTIN[name].spec.output or {})


def test_a_blueprint_finds_built_in_and_declared_tools() -> None:
    document = Document.model_validate(
        {
            "metadata": {"name": "x"},
            "tools": {"refund": {"method": "POST", "url": "https://shop.example/refund"}},
        }
    )
    assert tool_for(document, "send_email") is BUILTIN["send_email"]
    assert (made := tool_for(document, "refund")) is not None
    assert made.spec.declared
    assert tool_for(document, "nothing") is None


def test_file_values_are_found_wherever_they_stand() -> None:
    value = {"id": str(uuid4()), "name": "a.md", "sha256": "ab", "media_type": "text/markdown", "size": 3}
    found = list(files_in({"documents": [value, value], "deep": [{"x": {"file": value}}], "id": "no"}))
    assert found == [FileRef(**value)]
    assert found[0].as_value() == value


def test_a_sample_has_the_shape_of_its_schema() -> None:
    schema = {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"type": "array", "items": {"type": "integer"}},
            "b": {"enum": ["x", "y"]},
            "c": {"type": ["string", "null"]},
        },
    }
    made = sample(schema)
    jsonschema.validate(made, schema)
    assert made == {"a": [0], "b": "x", "c": "simulated"}
