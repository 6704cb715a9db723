"""Where in the editor something of a document is changed by hand."""

from __future__ import annotations

from apps.blueprints.core.problems import Problem, path_parts

TABS = (
    ("", "Graph"),
    ("contract", "Contract"),
    ("agents", "Agents and models"),
    ("tools", "Tools"),
    ("card", "Card and runbook"),
    ("inputs", "Inputs"),
    ("tests", "Tests"),
    ("yaml", "YAML"),
    ("history", "History"),
)
_OF = {
    "contract": "contract", "outputs": "contract", "metadata": "card", "card": "card", "agents": "agents",
    "models": "agents", "tools": "tools", "connections": "tools",
}  # fmt: skip


def tab_of(path: str) -> str:
    """The tab with the form of a place outside the graph; empty: it is in the graph, or in the YAML alone."""
    place = path_parts(path)
    if place[:2] == ("contract", "inputs"):
        return "inputs"
    return _OF.get(str(place[0]), "") if place else ""


def way_to(problem: Problem) -> tuple[dict[str, str], str]:
    """The query of the editor's page where a problem is mended, and that place in words."""
    if problem.node:
        return {"node": problem.node}, f"“{problem.node}”"
    if tab := tab_of(problem.path):
        return {"tab": tab}, f"“{dict(TABS)[tab]}”"
    if problem.line:
        return {"tab": "yaml", "line": str(problem.line)}, f"line {problem.line}"
    return {}, "the draft"
