"""Turns a stand-alone `workflow_contract` into a blueprint skeleton.

The contract keeps every word it has. Around it grows the least graph that respects it: one agent that may
use the allowed tools, then one approval for each human checkpoint. What the contract names and nothing
provides becomes a placeholder and a problem, so that the skeleton says by itself what is left to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apps.blueprints.core.document import API_VERSION, NAME_PATTERN
from apps.blueprints.core.parse import Parsed, parse, plain_dump
from apps.blueprints.core.problems import Path, Problem, Problems, shown
from apps.blueprints.core.rules.tools import PLACEHOLDER_HOST
from apps.blueprints.core.schemas import word
from apps.blueprints.core.suggest import instead
from apps.blueprints.core.tools import ToolSpec

TOP = "workflow_contract"
KEYS = (
    "name", "goal", "inputs", "outputs", "success_criteria", "durable_state", "boundaries", "recovery_policy",
    "human_checkpoints", "budget", "context", "tool_limits", "metrics",
)  # fmt: skip
_WORK, _AGENT, _MODEL = "do_the_work", "worker", "default"


def is_contract(parsed: Parsed) -> bool:
    """Whether a text is a stand-alone contract and not a blueprint."""
    return isinstance(parsed.data, dict) and TOP in parsed.data and "graph" not in parsed.data


def import_contract(text: str, tools: Mapping[str, ToolSpec] | None = None) -> tuple[str, list[Problem]]:
    """The YAML text of a skeleton, and what the author has to look at. Lines are those of the contract.

    tools: built-in tools; every other tool the contract names becomes a placeholder.
    The text is empty when the contract cannot be read at all; then the problems say why.
    """
    parsed = parse(text)
    found = Problems(parsed.line)
    found.found.extend(parsed.problems)
    if not parsed.readable:
        return "", found.sorted()
    contract = parsed.data.get(TOP) if isinstance(parsed.data, dict) else None
    if not isinstance(contract, dict):
        found.error(
            (TOP,) if isinstance(parsed.data, dict) and TOP in parsed.data else (),
            "not_a_contract",
            f"A stand-alone contract is a mapping under {TOP}, found {word(contract)}.",
            f"Start with {TOP}: {{name: my_workflow, goal: …}}.",
        )
        return "", found.sorted()
    builder = _Skeleton(contract, tools or {}, found)
    return plain_dump(builder.document()), found.sorted()


class _Skeleton:
    def __init__(self, contract: dict[str, Any], tools: Mapping[str, ToolSpec], found: Problems) -> None:
        self.contract = contract
        self.tools = tools
        self.found = found

    def document(self) -> dict[str, Any]:
        name = self.name()
        contract = self.kept()
        allowed = contract["boundaries"]["allowed_tools"]
        approvals = self.approvals(contract["human_checkpoints"])
        document: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": "Blueprint",
            "metadata": {
                "name": name,
                "title": self.title(name),
                "summary": str(contract.get("goal", "")),
            },
            "card": {"purpose": str(contract.get("goal", ""))},
            "contract": contract,
            "models": {_MODEL: {"use": "offline:extractive"}},
        }
        placeholders = self.placeholders(allowed)
        if placeholders:
            document["tools"] = placeholders
        document["agents"] = {
            _AGENT: {
                "model": _MODEL,
                "instructions": self.goal(),
                "tools": [t for t in allowed if t in self.tools and not self.tools[t].is_write],
            }
        }
        document["graph"] = {"nodes": [self.work(), *approvals], "edges": self.edges(approvals)}
        document["outputs"] = self.outputs()
        return document

    def name(self) -> str:
        given = self.contract.get("name")
        name = str(given or "")
        if not re.fullmatch(NAME_PATTERN, name):
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
            name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:64].rstrip("_")
        if not name:
            self.problem(
                "error", (TOP,), "missing_key", "The contract has no name.", "Add name: my_workflow."
            )
            return "imported_contract"
        if name != given:
            self.problem(
                "warning",
                (TOP, "name"),
                "renamed",
                f"The name {shown(given)} becomes {shown(name)}.",
                "Names have lower-case letters, digits, _ and -.",
            )
        return name

    def title(self, name: str) -> str:
        """The author's own words and capitals; a bare identifier gets spaces."""
        given = " ".join(str(self.contract.get("name") or name).split())
        return _cap(given if " " in given else re.sub(r"[_-]+", " ", given).strip() or name)[:200]

    def kept(self) -> dict[str, Any]:
        """The contract as the format has it; every key we know, unchanged where it fits."""
        kept: dict[str, Any] = {}
        for key, value in self.contract.items():
            if key in KEYS:
                kept[key] = value
            else:
                self.problem(
                    "error",
                    (TOP, key),
                    "unknown_key",
                    f"{shown(key)} is not a key of a contract.",
                    f"{_cap(instead(key, KEYS))}.",
                )
        criteria = self.mapping(kept, "success_criteria")
        output = criteria.get("output")
        criteria["output"] = [self.criterion(c) for c in output] if isinstance(output, list) else []
        for owner, path in ((criteria, (TOP, "success_criteria", "metrics")), (kept, (TOP, "metrics"))):
            if isinstance(owner.get("metrics"), dict):
                owner["metrics"] = self.metrics(owner["metrics"], path)
        boundaries = self.mapping(kept, "boundaries")
        boundaries["allowed_tools"] = self.names(boundaries.get("allowed_tools"))
        forbidden = boundaries.get("forbidden_actions")
        boundaries["forbidden_actions"] = [
            a for a in (forbidden if isinstance(forbidden, list) else []) if isinstance(a, (str, dict))
        ]
        checkpoints = kept.get("human_checkpoints")
        kept["human_checkpoints"] = [
            self.checkpoint(c, index)
            for index, c in enumerate(checkpoints if isinstance(checkpoints, list) else [])
        ]
        return kept

    def mapping(self, kept: dict[str, Any], key: str) -> dict[str, Any]:
        value = kept.get(key)
        if value is not None and not isinstance(value, dict):
            self.problem(
                "error",
                (TOP, key),
                "wrong_type",
                f"{key} must be a mapping, found {word(value)}; it is left out.",
                f"Write {key}: {{…}}.",
            )
        kept[key] = dict(value) if isinstance(value, dict) else {}
        result: dict[str, Any] = kept[key]
        return result

    def criterion(self, value: Any) -> Any:
        return value if isinstance(value, dict) and "text" in value else _text(value)

    def metrics(self, metrics: dict[str, Any], path: Path) -> dict[str, Any]:
        """Numbers are targets; texts are somebody's word, kept as unverified claims."""
        result: dict[str, Any] = {}
        for name, value in metrics.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                result[name] = value
                continue
            if isinstance(value, dict):
                result[name] = value
                continue
            result[name] = {"claim": _text(value), "verified": False}
            self.problem(
                "warning",
                (*path, name),
                "unverified_claim",
                f"{name} is the text {shown(_text(value))}; it is kept as an unverified claim.",
                "Write a number to make it a target, such as 0.95.",
            )
        return result

    def names(self, value: Any) -> list[str]:
        result: list[str] = []
        for index, name in enumerate(value if isinstance(value, list) else []):
            path: Path = (TOP, "boundaries", "allowed_tools", index)
            if not isinstance(name, str):
                self.problem(
                    "error",
                    path,
                    "wrong_type",
                    f"An allowed tool is a name, found {word(name)}; it is left out.",
                    "Write its name.",
                )
                continue
            known = name if name in self.tools else _identifier(name)
            if known not in result:
                result.append(known)
            if known not in self.tools:
                self.problem(
                    "warning",
                    path,
                    "placeholder_tool",
                    f"There is no tool {shown(name)}; it becomes the placeholder {shown(known)}.",
                    f"Give tools.{known} its url, method and parameters{self.near(known)}.",
                )
        return result

    def near(self, name: str) -> str:
        hint = instead(name, self.tools, one_of="one of the built-in tools")
        return f", or {hint}" if hint else ""

    def placeholders(self, allowed: list[str]) -> dict[str, Any]:
        return {
            name: {
                "kind": "http",
                "description": f"Placeholder: the imported contract names {name}, nothing provides it.",
                "method": "POST",
                "url": f"https://{PLACEHOLDER_HOST}/{name}",
                "effect": "opaque",
            }
            for name in allowed
            if name not in self.tools
        }

    def checkpoint(self, value: Any, index: int) -> dict[str, Any]:
        checkpoint = dict(value) if isinstance(value, dict) else {"step": _text(value)}
        given = str(checkpoint.get("step") or f"checkpoint_{index + 1}")
        checkpoint["step"] = _identifier(given, "approve")
        self.problem(
            "warning",
            (TOP, "human_checkpoints", index),
            "checkpoint_without_node",
            f"The checkpoint {shown(given)} names no node, since a contract has no graph; it becomes an "
            "approval.",
            f"Put the step that acts after {checkpoint['step']}, and write proposes: on the approval.",
        )
        return checkpoint

    def approvals(self, checkpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nodes: list[dict[str, Any]] = []
        for checkpoint in checkpoints:
            step = checkpoint["step"]
            if any(n["id"] == step for n in nodes):
                continue
            nodes.append(
                {
                    "id": step,
                    "kind": "approval",
                    "title": f"{_cap(step.replace('_', ' '))}?",
                    "with": {"result": f"{{{{ steps.{_WORK}.output }}}}"},
                    "show": [_WORK],
                }
            )
        return nodes

    def work(self) -> dict[str, Any]:
        lines = [self.goal()]
        criteria = self.contract.get("success_criteria")
        texts = criteria.get("output") if isinstance(criteria, dict) else None
        for criterion in texts if isinstance(texts, list) else []:
            text = criterion.get("text") if isinstance(criterion, dict) else criterion
            lines.append(f"- {_inert(_text(text))}")
        return {
            "id": _WORK,
            "kind": "agent",
            "title": "Do the work",
            "agent": _AGENT,
            "prompt": "\n".join(lines),
            "output": self.output_schema(),
        }

    def goal(self) -> str:
        return _inert(str(self.contract.get("goal") or "Do the work the contract describes."))

    def output_schema(self) -> dict[str, Any]:
        given = self.contract.get("outputs")
        if isinstance(given, dict) and isinstance(given.get("properties"), dict):
            return given
        return {"type": "object", "required": ["summary"], "properties": {"summary": {"type": "string"}}}

    def outputs(self) -> dict[str, Any]:
        names = self.output_schema()["properties"]
        return {str(name): f"{{{{ steps.{_WORK}.output.{name} }}}}" for name in names}

    def edges(self, approvals: list[dict[str, Any]]) -> list[dict[str, Any]]:
        edges: list[dict[str, Any]] = []
        before = _WORK
        for node in approvals:
            edges.append({"from": before, "to": node["id"]})
            before = f"{node['id']}.approved"
        return edges

    def problem(self, level: str, path: Path, code: str, message: str, fix: str) -> None:
        self.found.add(path, "error" if level == "error" else "warning", code, message, fix)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and len(value) == 1:
        # `- summary: grounded` without quotes is a mapping to YAML and a sentence to its author.
        key, inner = next(iter(value.items()))
        return f"{key}: {inner}"
    return str(value)


def _inert(text: str) -> str:
    """Words of a contract are never expressions."""
    return text.replace("{{", "{ {")


def _identifier(text: str, fallback: str = "tool") -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")[:64]
    return name if name[:1].isalpha() else f"{fallback}_{name}"[:64].rstrip("_")


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]
