"""What becomes of a webhook's message: the inputs of a run, or a signal for the runs it is about. Pure.

    start:   {blueprint: name[@version], inputs: {…}, labels: {…}, when: expression}
    signal:  {name, key, body, blueprint: name, label | input: field, equals, when}

Values are templates over `body` (JSON, a form's fields, or text) and `headers` (lower-case names).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core import expressions

KEYS: dict[str, frozenset[str]] = {
    "start": frozenset({"blueprint", "inputs", "labels", "when"}),
    "signal": frozenset({"name", "key", "body", "blueprint", "label", "input", "equals", "when"}),
}
NAMES = frozenset({"body", "headers"})


class MappingError(Exception):
    """A message does not give what the mapping needs."""


@dataclass(frozen=True)
class Start:
    blueprint: str
    inputs: dict[str, Any]
    labels: dict[str, str]


@dataclass(frozen=True)
class Tell:
    name: str
    key: str
    """Empty: the message's own."""
    body: Any
    blueprint: str
    """Empty: runs of any blueprint."""
    by: str
    """`labels` or `inputs`: where `field` is looked for."""
    field: str
    value: str


def problems_of(target: str, mapping: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with a mapping, a sentence per key; empty when it can be used."""
    if target not in KEYS:
        return {"target": "Choose start or signal."}
    problems = {
        str(key): f"A hook that has the target {target} knows {', '.join(sorted(KEYS[target]))}."
        for key in mapping
        if key not in KEYS[target]
    }
    for key, value in mapping.items():
        if key in KEYS[target] and (wrong := _wrong(key, value)):
            problems[key] = wrong
    if target == "start":
        if not isinstance(mapping.get("blueprint"), str) or not mapping.get("blueprint"):
            problems["blueprint"] = "Name the blueprint to start."
        for key in ("inputs", "labels"):
            if not isinstance(mapping.get(key, {}), Mapping):
                problems[key] = "Write names with their values."
        return problems
    if not mapping.get("name"):
        problems["name"] = "Name the signal."
    if bool(mapping.get("label")) is bool(mapping.get("input")):
        problems["label"] = "Say which runs it is about: the name of a label, or of an input."
    if not mapping.get("equals"):
        problems["equals"] = "Say what the label or input equals, such as {{ body.order }}."
    return problems


def _wrong(key: str, value: Any) -> str:
    if key not in ("inputs", "labels", "body") and not isinstance(value, str):
        return "Write a text."
    try:
        found = (
            expressions.compile_expression(value).references
            if key == "when"
            else expressions.references(value)
        )
    except expressions.ExpressionError as exc:
        return f"{exc}."
    unknown = sorted({name.partition(".")[0] for name in found} - NAMES)
    return f"There is no name {unknown[0]!r} here; write body or headers." if unknown else ""


def planned(
    target: str, mapping: Mapping[str, Any], body: Any, headers: Mapping[str, str]
) -> Start | Tell | None:
    """What to do with a message; None when its condition says it is not meant. Raises MappingError."""
    names = {"body": body, "headers": dict(headers)}
    try:
        if mapping.get("when") and expressions.evaluate(mapping["when"], names) is not True:
            return None
        if target == "start":
            labels = expressions.render(mapping.get("labels", {}), names)
            return Start(
                mapping["blueprint"],
                {
                    k: v
                    for k, v in expressions.render(mapping.get("inputs", {}), names).items()
                    if v is not None
                },
                {str(k): _text(f"label {k}", v) for k, v in labels.items()},
            )
        return Tell(
            name=_text("name", expressions.render(mapping["name"], names)),
            key=_text("key", expressions.render(mapping["key"], names)) if mapping.get("key") else "",
            body=expressions.render(mapping["body"], names) if "body" in mapping else body,
            blueprint=mapping.get("blueprint", ""),
            by="labels" if mapping.get("label") else "inputs",
            field=mapping.get("label") or mapping["input"],
            value=_text("equals", expressions.render(mapping["equals"], names)),
        )
    except expressions.ExpressionError as exc:
        raise MappingError(f"{exc}.") from exc


def _text(what: str, value: Any) -> str:
    """A value that names something: a text or a whole number, not empty."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or value == "":
        raise MappingError(f"{what} gives {str(value)[:80]!r}; expected a text or a whole number.")
    return str(value)
