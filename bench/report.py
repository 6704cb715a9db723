"""The document of a benchmark as tables to read: medians [least, greatest] over the rounds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.conduct import FLOOR, WORKLOADS

STRETCH = (
    ("latency_ms", "latency ms"),
    ("steps_per_s", "steps/s"),
    ("commits_per_step", "commits/step"),
    ("sql_per_step", "SQL/step"),
    ("wal_bytes_per_step", "WAL B/step"),
    ("engine_cpu_s_per_1000", "CPU-s/1k engine"),
    ("database_cpu_s_per_1000", "CPU-s/1k database"),
    ("peak_rss_mb", "peak MB"),
)
WORDS = {
    FLOOR: "What the database alone can do",
    **{name: f"{name}: {title}" for name, title in WORKLOADS.items()},
}


def tables(document: dict[str, Any], *, markdown: bool = False) -> str:
    parts = [_head(document)]
    for name, title in WORDS.items():
        found = [one for one in document["results"] if one["workload"] == name]
        if found:
            parts.append(f"## {title}\n\n" if markdown else f"{title}\n")
            parts[-1] += _table(found, _markdown if markdown else _plain)
    if document["problems"]:
        parts.append("Problems\n" + "\n".join(f"- {problem}" for problem in document["problems"]))
    return "\n\n".join(parts)


def _head(document: dict[str, Any]) -> str:
    machine, database = document["machine"], document["database"]
    settings = ", ".join(f"{k}={v}" for k, v in database["settings"].items())
    versions = ", ".join(f"{k} {v}" for k, v in document["versions"].items() if v)
    return "\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
            f"Linux {machine['kernel']}, Python {machine['python']}; load before: {machine['load_before']}",
            f"{database['server']}: {settings}",
            f"Commits: {database['commits_counted']}. Statements: {database['statements_counted']}.",
            f"{versions}.",
            f"{document['scale']['rounds']} rounds in {document['seconds']:g} s, {document['at']}.",
        ]
    )


def _table(found: list[dict[str, Any]], draw: Callable[[list[list[str]]], str]) -> str:
    names = [name for one in found for name in one if name not in ("workload", "line", "subject")]
    known = dict(STRETCH)
    columns = list(dict.fromkeys(names))
    if "sql_per_step" in names:
        columns = [name for name in known if name in names]
    if len(columns) > 9 or len({tuple(sorted(set(one) & set(columns))) for one in found}) > 2:
        # Lines that say different things: one below the other.
        rows = [["", ""]]
        for one in found:
            rows += [[one["line"], ""]] if len(found) > 1 else []
            rows += [[f"  {n.replace('_', ' ')}", cell(one[n])] for n in columns if one.get(n) is not None]
        return draw(rows)
    head = ["", *[known.get(name, name.replace("_", " ")) for name in columns]]
    rows = [[_who(one), *[cell(one.get(name)) for name in columns]] for one in found]
    return draw([head, *rows])


def _who(one: dict[str, Any]) -> str:
    if one["subject"] == FLOOR or one["workload"] in ("W4", "W5", "W6"):
        return str(one["line"])
    return f"{one['subject']}: {one['line']}"


def cell(value: Any) -> str:
    if value is None:
        return "–"
    if not isinstance(value, dict):
        return str(value)
    middle, low, high = value["median"], value["min"], value["max"]
    return number(middle) if low == high else f"{number(middle)} [{number(low)}, {number(high)}]"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _plain(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _markdown(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(text.strip() for text in row) + " |" for row in lines)
