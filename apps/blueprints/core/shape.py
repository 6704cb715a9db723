"""Fits plain values into `Document` and says in words what does not fit.

One mistake must not hide the others: what does not fit is reported, taken out and the rest tried again,
until a document remains that the other rules can look at. Positions stay those of the original text.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import ValidationError

from apps.blueprints.core.document import Document
from apps.blueprints.core.kinds import RUNNABLE
from apps.blueprints.core.problems import MOST, Path, Problems, path_text, shown
from apps.blueprints.core.schemas import word
from apps.blueprints.core.suggest import instead, listed, nearest

MAX_ROUNDS = 12
_NOUNS = {
    "Document": "a blueprint", "Metadata": "metadata", "Card": "the card", "Contract": "the contract",
    "Node": "a node", "Edge": "an edge", "Graph": "the graph", "Agent": "an agent", "DeclaredTool": "a tool",
    "ModelChoice": "a model", "ConnectionNeed": "a connection", "Boundaries": "boundaries",
    "Check": "a check",
    "RecoveryPolicy": "the recovery policy", "HumanCheckpoint": "a human checkpoint",
    "BudgetLimits": "the budget",
    "ContextPolicy": "the context policy", "ToolLimit": "a tool limit", "Retry": "retry", "Route": "a route",
    "Quorum": "a quorum rule", "Assign": "assign", "Criterion": "a criterion", "Probe": "a probe",
    "ToolCall": "a tool call", "ForbiddenAction": "a forbidden action", "Escalation": "escalation",
    "DurableState": "durable_state", "SuccessCriteria": "success_criteria", "Concurrency": "concurrency",
    "Position": "a position", "Canvas": "the canvas", "Note": "a note", "Group": "a group",
}  # fmt: skip
_PATTERNS = {
    "^[a-z][a-z0-9_]{0,63}$": "a lower-case letter followed by lower-case letters, digits or _ (64 at most)",
    "^[a-z0-9_-]{1,64}$": "lower-case letters, digits, _ or - (64 at most)",
}
_EXPECTED = {
    "string": "text", "int": "a whole number", "float": "a number", "bool": "true or false",
    "dict": "a mapping", "model": "a mapping", "list": "a list", "tuple": "a list", "set": "a list",
}  # fmt: skip


class Fitted:
    """The document that remained, and where its parts stand in the text."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.gone: set[Path] = set()
        self.kept: dict[Path, list[int]] = {}
        self.document: Document | None = None
        self.is_whole = False
        """Nothing had to be taken out."""

    def original(self, path: Path) -> Path:
        """A path in the remaining document as a path in the text."""
        result: Path = ()
        for part in path:
            kept = self.kept.get(result)
            result = (
                *result,
                kept[part] if kept is not None and isinstance(part, int) and part < len(kept) else part,
            )
        return result

    def remaining(self) -> Any:
        self.kept.clear()
        return self._remaining(self.data, ())

    def _remaining(self, value: Any, path: Path) -> Any:
        if isinstance(value, dict):
            return {
                k: self._remaining(v, (*path, k)) for k, v in value.items() if (*path, k) not in self.gone
            }
        if isinstance(value, list):
            kept = [i for i in range(len(value)) if (*path, i) not in self.gone]
            if len(kept) != len(value):
                self.kept[path] = kept
            return [self._remaining(value[i], (*path, i)) for i in kept]
        return value


def fit(data: Any, problems: Problems) -> Fitted:
    """Make a document of plain values; what does not fit becomes a problem."""
    fitted = Fitted(data)
    if not isinstance(data, dict):
        problems.error(
            (),
            "not_a_blueprint",
            f"A blueprint is a mapping, found {word(data)}.",
            "Start with apiVersion: mirrorneuron/v1 and kind: Blueprint.",
        )
        return fitted
    for _ in range(MAX_ROUNDS):
        try:
            fitted.document = Document.model_validate(_with_metadata(fitted), by_alias=True, by_name=False)
        except ValidationError as exc:
            if not _take_out(exc, fitted, problems):
                break
            continue
        fitted.is_whole = not fitted.gone and "metadata" in data
        break
    if "metadata" not in data:
        problems.error(
            (), "missing_key", "The blueprint has no metadata.", "Add metadata: {name: my_blueprint}."
        )
    return fitted


def _with_metadata(fitted: Fitted) -> Any:
    remaining = fitted.remaining()
    metadata = remaining.get("metadata")
    if not isinstance(metadata, dict):
        remaining["metadata"] = (
            {"name": "unnamed"} if fitted.gone or "metadata" not in remaining else metadata
        )
    elif "name" not in metadata and ("metadata", "name") in fitted.gone:
        metadata["name"] = "unnamed"
    return remaining


def _take_out(exc: ValidationError, fitted: Fitted, problems: Problems) -> bool:
    """Report the errors of one try and mark what they are about as gone; False when nothing is new."""
    before = len(fitted.gone)
    for error in exc.errors(include_url=False):
        is_missing = error["type"] == "missing"
        place, tags = _place(error["loc"][:-1] if is_missing else error["loc"], fitted)
        value = _value(fitted.data, place)
        if len(problems.found) >= MOST:
            # Finding the right words takes longer than finding the error, and nobody would read them.
            problems.left_out += 1
            fitted.gone.add(place)
            continue
        if tags[-1:] == ("str",) and isinstance(value, dict):
            continue  # The other half of "text or a mapping" has its own errors.
        if is_missing:
            key = str(error["loc"][-1])
            if (*place, key) not in fitted.gone:
                noun, _ = _keys_of(error["loc"][:-1])
                problems.error(
                    place,
                    "missing_key",
                    f'{_cap(_named(noun, value))} has no "{key}".',
                    _missing_fix(noun, key),
                )
            fitted.gone.add((*place, key) if place == ("metadata",) else place)
            continue
        if tags[-1:] == ("[key]",):
            problems.error(
                place,
                "bad_name",
                f"{shown(place[-1])} cannot be a name here.",
                f"Write {_PATTERNS['^[a-z][a-z0-9_]{0,63}$']}, such as {_as_name(str(place[-1]))}.",
            )
        else:
            code, message, fix = _explain(dict(error), place, value, tags)
            problems.error(place, code, message, fix)
        fitted.gone.add(place)
    return len(fitted.gone) > before and () not in fitted.gone


def _place(loc: tuple[int | str, ...], fitted: Fitted) -> tuple[Path, tuple[str, ...]]:
    """Where an error is in the text. Parts of `loc` that name a type and not a key come back as tags."""
    path: Path = ()
    tags: tuple[str, ...] = ()
    value = fitted.data
    for part in loc:
        if isinstance(value, dict) and isinstance(part, str) and part in value:
            path, value = (*path, part), value[part]
        elif isinstance(value, list) and isinstance(part, int):
            kept = fitted.kept.get(path)
            index = kept[part] if kept is not None and part < len(kept) else part
            path, value = (*path, index), value[index] if index < len(value) else None
        else:
            tags = (*tags, str(part))
    return path, tags


def _value(data: Any, path: Path) -> Any:
    for part in path:
        try:
            data = data[part]
        except (LookupError, TypeError):
            return None
    return data


def _explain(error: dict[str, Any], place: Path, value: Any, tags: tuple[str, ...]) -> tuple[str, str, str]:
    kind: str = error["type"]
    name = path_text(place[-1:]) or "the document"
    context = error.get("ctx") or {}
    if kind == "extra_forbidden":
        noun, keys = _keys_of(error["loc"][:-1])
        key = str(place[-1])
        return (
            "unknown_key",
            f"{shown(key)} is not a key of {noun}.",
            _cap(instead(key, keys) or "remove it") + ".",
        )
    if kind in ("literal_error", "enum"):
        allowed = [
            part.strip().strip("'")
            for part in str(context.get("expected", "")).replace(" or ", ", ").split(",")
        ]
        near = nearest(str(value), allowed)
        near = near or (allowed[0] if len(allowed) == 1 else None)
        fix = f'Write "{near}".' if near else f"Write one of {listed(allowed)}."
        if len(allowed) > 8 and not near:
            fix = f"Write one of {', '.join(allowed)}."
        code = "unknown_kind" if name == "kind" and len(allowed) > 8 else "bad_value"
        return code, f"{name} is {shown(value)}, which is not allowed here.", fix
    if kind == "string_pattern_mismatch":
        rule = _PATTERNS.get(str(context.get("pattern")), str(context.get("pattern")))
        return "bad_name", f"{name} is {shown(value)}; a name is {rule}.", f'Write "{_as_name(str(value))}".'
    if kind == "value_error":
        message = str(error["msg"]).removeprefix("Value error, ")
        if "is not a duration" in message:
            return (
                "bad_duration",
                f"{name} is {shown(value)}, which is not a duration.",
                "Write it like 500ms, 30s, 5m, 4h or 2d.",
            )
        return "bad_value", f"{name}: {message}.", "Correct the value."
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        sign, limit = next(iter(context.items()), ("", ""))
        text = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}.get(str(sign), "")
        return (
            "out_of_range",
            f"{name} is {shown(value)}; it must be {text} {limit}.",
            f"Write a number that is {text} {limit}.",
        )
    expected = _EXPECTED.get(kind.split("_")[0], "")
    if kind == "int_from_float":
        expected = "a whole number"
    if tags and tags[-1] in _NOUNS and kind.startswith("model"):
        expected = "text or a mapping"
    if tags[-1:] == ("str",):
        expected = "text or a mapping"
    if not expected:
        return (
            "bad_value",
            f"{name} is {shown(value)}, which does not fit: {error['msg']}.",
            "Correct the value.",
        )
    fix = f"Write {expected}."
    if expected == "text" and isinstance(value, (int, float, bool)):
        fix = f'Put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}".'
    elif expected == "a list" and isinstance(value, str):
        fix = f"Write it as a list: [{value[:40]}]."
    elif expected == "text" and isinstance(value, dict):
        fix = 'Write text; a value that starts with {{ needs double quotes, as in "{{ inputs.company }}".'
    return "wrong_type", f"{name} must be {expected}, found {word(value)}.", fix


def _named(noun: str, value: Any) -> str:
    if isinstance(value, dict):
        for key in ("id", "name", "text", "step", "tool"):
            if isinstance(value.get(key), str):
                return f'{noun.removeprefix("a ").removeprefix("an ")} "{value[key][:60]}"'
        if noun == "an edge" and ("from" in value or "to" in value):
            return f"the edge {value.get('from', '?')} → {value.get('to', '?')}"
    return noun


def _missing_fix(noun: str, key: str) -> str:
    if (noun, key) == ("a node", "kind"):
        return f"Add kind: with one of {', '.join(sorted(RUNNABLE))}."
    examples = {
        "id": "id: a_name", "from": "from: a_node", "to": "to: a_node", "use": 'use: "offline:extractive"',
        "name": "name: my_name", "tool": "tool: a_tool", "url": 'url: "https://…"', "step": "step: a_node",
    }  # fmt: skip
    return f"Add {examples.get(key, key + ': …')}."


def _as_name(text: str) -> str:
    """A name that would be allowed and is near what was written."""
    name = "".join(c if c.isascii() and c.isalnum() else "_" for c in text.strip().lower())[:64].strip("_")
    return name if name[:1].isalpha() else f"n_{name}".rstrip("_")[:64]


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


@cache
def _format() -> dict[str, Any]:
    return Document.model_json_schema(by_alias=True)


def _keys_of(loc: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """What stands at a place of the format, in words, and the keys it may have."""
    definitions = _format().get("$defs", {})
    here = _followed(_format(), definitions)
    for part in loc:
        if isinstance(part, str) and part in here.get("properties", {}):
            here = _followed(here["properties"][part], definitions)
        elif isinstance(part, int) and "items" in here:
            here = _followed(here["items"], definitions)
        elif isinstance(part, str) and part in definitions:
            here = definitions[part]
        elif isinstance(here.get("additionalProperties"), dict):
            here = _followed(here["additionalProperties"], definitions)
        elif isinstance(here.get("patternProperties"), dict):
            here = _followed(next(iter(here["patternProperties"].values())), definitions)
    title = str(here.get("title", ""))
    return _NOUNS.get(title, "this part"), list(here.get("properties", {}))


def _followed(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The object part of a schema, through references and `… | null`."""
    for _ in range(5):
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
        elif "anyOf" in schema:
            options = [s for s in schema["anyOf"] if "$ref" in s or s.get("type") in ("object", "array")]
            if not options:
                return schema
            schema = options[0]
        elif "allOf" in schema:
            schema = schema["allOf"][0]
        else:
            break
    return schema
