"""`read_table` and `match_records`: tables as rows a template can use, and which rows belong together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from apps.agents.documents.decode import decode
from apps.agents.documents.extract import kind_of
from apps.agents.documents.tables import MAX_ROWS, Table, amount, plain, read_table
from apps.agents.tools.base import EffectClass, StepError, Tool, ToolRun, ToolSpec
from apps.agents.tools.documents import DOCUMENT
from apps.agents.tools.matching import Rules, match

_ROW = {
    "type": "object",
    "description": "One row: `row` (line in the file), each column by its key as text, `amounts` as numbers.",
}
_ROWS = {"type": "array", "items": _ROW}
_NOTES = {"type": "array", "items": {"type": "string"}}

READ = ToolSpec(
    name="read_table",
    description="Read a CSV or TSV file as rows with typed columns.",
    permission="read the tables you give it",
    parameters={
        "type": "object",
        "required": ["file"],
        "additionalProperties": False,
        "properties": {
            "file": DOCUMENT,
            "delimiter": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1,
                "description": "Found out if absent.",
            },
            "dates": {
                "type": "string",
                "enum": ["day_first", "month_first"],
                "description": "How 01/02/2026 is meant; such a column stays text if absent.",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": MAX_ROWS},
        },
    },
    output={
        "type": "object",
        "required": ["columns", "rows", "total", "notes"],
        "properties": {
            "name": {"type": "string"},
            "columns": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "key": {"type": "string"},
                        "name": {"type": "string"},
                        "type": {"type": "string", "enum": ["number", "date", "text", "empty"]},
                    },
                },
            },
            "rows": _ROWS,
            "total": {"type": "integer"},
            "notes": _NOTES,
        },
    },
    effect=EffectClass.READ,
    actions=("read_documents",),
    timeout_seconds=60.0,
)

_TABLE = {
    "description": "Rows as read_table gives them, or the file itself.",
    "anyOf": [
        {"type": "array", "items": {"type": "object"}, "maxItems": MAX_ROWS},
        {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
    ],
}
_COLUMN = {"type": "string", "maxLength": 200}
_ENTRIES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "left": _ROW,
            "right": _ROW,
            "left_rows": {"type": "array", "items": {"type": "integer"}, "description": "All rows it joins."},
            "right_rows": {"type": "array", "items": {"type": "integer"}},
            "by": {"type": "string", "enum": ["reference", "amount"]},
            "difference": {"type": ["string", "null"], "description": "Right minus left."},
            "reasons": _NOTES,
        },
    },
}
_SINGLES = {"type": "array", "items": {**_ROW, "properties": {"reasons": _NOTES}}}

MATCH = ToolSpec(
    name="match_records",
    description="Match the rows of two tables by reference, amount, counterparty and date.",
    permission="compare the tables you give it",
    parameters={
        "type": "object",
        "required": ["left", "right"],
        "additionalProperties": False,
        "properties": {
            "left": _TABLE,
            "right": _TABLE,
            "left_key": {**_COLUMN, "description": "Column with the reference, such as the invoice number."},
            "right_key": {
                **_COLUMN,
                "description": "Same on the right; the text may name several references.",
            },
            "left_amount": _COLUMN,
            "right_amount": _COLUMN,
            "tolerance": {
                "type": ["number", "string"],
                "description": "Amounts this far apart count as equal.",
                "default": 0,
            },
            "left_name": {**_COLUMN, "description": "Column with the counterparty."},
            "right_name": _COLUMN,
            "min_similarity": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.75},
            "left_date": _COLUMN,
            "right_date": _COLUMN,
            "max_days": {"type": "integer", "minimum": 0, "maximum": 3660, "default": 45},
        },
    },
    output={
        "type": "object",
        "required": [
            "matched",
            "partial",
            "unmatched_left",
            "unmatched_right",
            "duplicates",
            "totals",
            "notes",
        ],
        "properties": {
            "matched": {**_ENTRIES, "description": "One entry per left row that is settled."},
            "partial": {
                **_ENTRIES,
                "description": "One entry per left row that belongs to something but differs.",
            },
            "unmatched_left": _SINGLES,
            "unmatched_right": _SINGLES,
            "duplicates": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "side": {"type": "string", "enum": ["left", "right"]},
                        "rows": _ROWS,
                        "reasons": _NOTES,
                    },
                },
            },
            "totals": {
                "type": "object",
                "properties": {
                    "left": {"type": ["string", "null"]},
                    "right": {"type": ["string", "null"]},
                    "matched_left": {"type": ["string", "null"]},
                    "left_rows": {"type": "integer"},
                    "right_rows": {"type": "integer"},
                },
            },
            "notes": _NOTES,
        },
    },
    effect=EffectClass.READ,
    timeout_seconds=60.0,
    open_world=False,
)


def read(call: ToolRun) -> dict[str, Any]:
    """The rows of a table file. Raises StepError (permanent) when it holds none."""
    name, table = _open(call, call.arguments["file"], call.arguments)
    return {
        "name": name,
        "columns": [asdict(column) for column in table.columns],
        "rows": list(table.rows),
        "total": table.total,
        "notes": list(table.notes),
    }


def _open(call: ToolRun, item: Any, options: Mapping[str, Any]) -> tuple[str, Table]:
    if isinstance(item, Mapping) and isinstance(item.get("text"), str) and "id" not in item:
        name, data = str(item.get("name", "table")), item["text"].encode("utf-8", "replace")
    else:
        ref, data = call.bytes_of(item)
        name = ref.name
    text = decode(data) if kind_of(data, name) in {"csv", "text", "markdown"} else None
    try:
        if text is None:
            raise ValueError("It is not a text file; save the table as CSV.")
        table = read_table(
            text,
            delimiter=options.get("delimiter", ""),
            dates=options.get("dates", ""),
            max_rows=options.get("limit", MAX_ROWS),
        )
    except ValueError as exc:
        raise StepError(
            f'"{name}" cannot be read as a table. {exc}',
            permanent=True,
            code="no_table",
            next="Give a CSV or TSV file with column names in its first line.",
        ) from exc
    return name, table


def match_records(call: ToolRun) -> dict[str, Any]:
    """Match two tables; every left row and every right row is accounted for exactly once.

    Raises StepError (permanent) when no pair of columns is given or a named column does not exist.
    """
    arguments = call.arguments
    left, notes_left = _rows(call, "left")
    right, notes_right = _rows(call, "right")
    rules = _rules(arguments, left, right)
    result = match(left, right, rules)
    return {
        "matched": result.matched,
        "partial": result.partial,
        "unmatched_left": result.unmatched_left,
        "unmatched_right": result.unmatched_right,
        "duplicates": result.duplicates,
        "totals": {
            "left": _total(left, rules.left_amount),
            "right": _total(right, rules.right_amount),
            "matched_left": _total([entry["left"] for entry in result.matched], rules.left_amount),
            "left_rows": len(left),
            "right_rows": len(right),
        },
        "notes": [*notes_left, *notes_right],
    }


def _rows(call: ToolRun, side: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    given = call.arguments[side]
    if isinstance(given, list):
        return given, []
    name, table = _open(call, given, {})
    return list(table.rows), [f"{name}: {note}" for note in table.notes]


def _rules(arguments: Mapping[str, Any], left: list[Any], right: list[Any]) -> Rules:
    pairs = {}
    for what, option in (("reference", "key"), ("amount", "amount"), ("name", "name"), ("date", "date")):
        columns = [arguments.get(f"left_{option}") or "", arguments.get(f"right_{option}") or ""]
        if bool(columns[0]) != bool(columns[1]):
            raise StepError(
                f"Only one of left_{option} and right_{option} is given.",
                permanent=True,
                next="Give both, or neither.",
            )
        for side, column, rows in (("left", columns[0], left), ("right", columns[1], right)):
            if column and rows and not any(column in row for row in rows):
                known = ", ".join(k for k in rows[0] if k not in {"row", "amounts"})
                raise StepError(
                    f'The {side} table has no column "{column}". Its columns are: {known}.',
                    permanent=True,
                    code="no_such_column",
                    next=f"Give one of them as {side}_{option}.",
                )
        pairs[what] = columns
    if not any(pairs["reference"]) and not any(pairs["amount"]):
        raise StepError(
            "Neither a reference nor an amount is given to compare.",
            permanent=True,
            next="Give left_key and right_key, or left_amount and right_amount.",
        )
    tolerance = amount(str(arguments.get("tolerance", 0)))
    if tolerance is None or tolerance < 0:
        raise StepError(f"The tolerance {arguments['tolerance']!r} is no amount.", permanent=True)
    return Rules(
        left_reference=pairs["reference"][0],
        right_reference=pairs["reference"][1],
        left_amount=pairs["amount"][0],
        right_amount=pairs["amount"][1],
        tolerance=tolerance,
        left_name=pairs["name"][0],
        right_name=pairs["name"][1],
        min_similarity=float(arguments.get("min_similarity", 0.75)),
        left_date=pairs["date"][0],
        right_date=pairs["date"][1],
        max_days=int(arguments.get("max_days", 45)),
    )


def _total(rows: list[Any], column: str) -> str | None:
    """The sum as text; None when no column is given. What is no amount counts as nothing."""
    if not column:
        return None
    read = (amount(str(row.get(column, ""))) for row in rows)
    return plain(sum((value for value in read if value is not None), Decimal(0)))


READ_TABLE = Tool(READ, work=read, describe_source=lambda a: "One table will be read.", simulate_source=read)
MATCH_RECORDS = Tool(
    MATCH,
    work=match_records,
    describe_source=lambda a: "Two tables will be compared.",
    simulate_source=match_records,
)
