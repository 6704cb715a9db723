"""What a new blueprint begins with: every part a person will be asked for, still empty, and no step."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Iterator, Mapping
from typing import Any

from apps.blueprints.core.editing.writing import flow

LONGEST_NAME = 64
NAMES_OF_PAGES = frozenset({"new"})
"""Names whose address is a page of its own."""


def empty_blueprint(name: str, title: str) -> str:
    """The text of a blueprint without steps: metadata, an empty card and contract.

    Everything that will be filled has lines of its own: what is added to a line in braces stays on that line,
    and a graph of twenty steps on one line can neither be read nor compared.
    """
    values: dict[str, Any] = {
        "apiVersion": "mirrorneuron/v1",
        "kind": "Blueprint",
        "metadata": {"name": name, "title": title, "class": "general", "summary": ""},
        "card": {
            "purpose": "",
            "must_never": [],
            "business_owner": "",
            "technical_owner": "",
            "model_steward": "",
        },
        "contract": {
            "goal": "",
            "inputs": {"type": "object", "required": [], "properties": {}},
            "outputs": {"type": "object", "required": [], "properties": {}},
            "success_criteria": {"output": []},
            "boundaries": {"allowed_tools": [], "forbidden_actions": []},
            "recovery_policy": {
                "retry_budget": 3,
                "run_retry_budget": 20,
                "duplicate_side_effect_policy": "block",
                "resume_from_last_committed_step": True,
            },
            "human_checkpoints": [],
        },
        "graph": {"nodes": [], "edges": []},
        "outputs": {},
    }
    return "\n".join(_lines(values, "")) + "\n"


def _lines(values: Mapping[str, Any], pad: str) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield f"{pad}{name}:"
            yield from _lines(value, pad + "  ")
        else:
            yield f"{pad}{name}: {flow(value)}"


def name_for(title: str, taken: Container[str]) -> str:
    """A name nobody has, from a title: "Café, Größe 3" becomes `cafe_grosse_3`."""
    plain = unicodedata.normalize("NFKD", title.replace("ß", "ss")).encode("ascii", "ignore").decode()
    base = re.sub(r"[^a-z0-9]+", "_", plain.lower()).strip("_")[: LONGEST_NAME - 5].strip("_") or "blueprint"
    name, count = base, 1
    while name in taken or name in NAMES_OF_PAGES:
        count += 1
        name = f"{base}_{count}"
    return name
