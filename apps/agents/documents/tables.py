"""Tables from CSV and TSV: columns typed as a whole, values as normalised text, amounts also as numbers.

A column is a number column or a date column when (nearly) all its values agree on one reading. Where a
reading is a guess (`01/02/2026`), it stays text and a note says so: wrong numbers are worse than none.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from apps.agents.documents.extract import delimiter_of

MAX_ROWS = 10_000
MAX_COLUMNS = 200
MAX_CELL = 10_000
AGREEMENT = 0.9
"""Share of a column's values that must fit its type; the others stay text and are noted."""
RESERVED = frozenset({"row", "amounts"})
# Named one by one: three capital letters alone are as often the start of a reference, such as INV-17.
_CODES = """
AED ARS AUD BRL CAD CHF CLP CNY COP CZK DKK EGP EUR GBP HKD HUF IDR ILS INR ISK JPY KES KRW MAD MXN MYR NGN
BGN NOK NZD PEN PHP PKR PLN RON RSD SAR SEK SGD THB TRY TWD UAH USD VND ZAR
"""
_CURRENCY = rf"(?:[$€£¥₹]|Fr\.|kr|{'|'.join(_CODES.split())})"
_SPACES = "'’ \u00a0\u202f"
_AMOUNT = re.compile(
    rf"^(?P<open>\()?\s*(?P<sign>[-+−–])?\s*(?P<before>{_CURRENCY})?\s*(?P<sign2>[-+−–])?\s*"
    rf"(?P<digits>\d[\d.,{_SPACES}]*|[.,]\d+)\s*(?P<after>{_CURRENCY}|%)?\s*"
    r"(?P<sign3>[-−–])?(?P<close>\))?$"
)
LONGEST_AMOUNT = 80
"""Longer texts are no amounts; the pattern would take cubic time to say so."""
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
_ISO = re.compile(r"^(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?:[T ]\d{1,2}:\d{2}.*)?$")
_NUMERIC_DATE = re.compile(r"^(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?:[T ,]+\d{1,2}:\d{2}.*)?$")
_DAY_MONTH = re.compile(r"^(\d{1,2})\.?[ -]([A-Za-z]{3})[a-z]*\.?,?[ -](\d{4})$")
_MONTH_DAY = re.compile(r"^([A-Za-z]{3})[a-z]*\.? (\d{1,2}),? (\d{4})$")


@dataclass(frozen=True)
class Column:
    key: str
    """Its name in every row: lower case, digits and underscores."""
    name: str
    """As written in the file."""
    type: str
    """number, date, text or empty."""


@dataclass(frozen=True)
class Table:
    """rows: `{row: line in the file, <key>: text, …, amounts: {key: number}}`."""

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Any], ...]
    total: int
    """Rows in the file, also those over the limit."""
    notes: tuple[str, ...]


def read_table(text: str, *, delimiter: str = "", dates: str = "", max_rows: int = MAX_ROWS) -> Table:
    """Read a table with a header line.

    delimiter: found out when empty.
    dates: `day_first` or `month_first` settles `01/02/2026`; empty leaves such columns as text.
    Raises ValueError, in words for a person, when there is no table.
    """
    text = text.lstrip("\ufeff")
    separator = re.match(r"sep=(.)\n", text)  # a line some spreadsheets put first
    if separator:
        delimiter, text = delimiter or separator[1], text[separator.end() :]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or delimiter_of(text))
    header: list[str] = []
    raw: list[tuple[int, list[str]]] = []
    notes: list[str] = []
    total = ragged = 0
    try:
        for cells in reader:
            line = reader.line_num + (1 if separator else 0)
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [" ".join(cell.split()) for cell in cells[:MAX_COLUMNS]]
                if len(cells) > MAX_COLUMNS:
                    notes.append(f"Only the first {MAX_COLUMNS} of {len(cells)} columns were read.")
                continue
            total += 1
            if len(raw) < max_rows:
                ragged += len(cells) != len(header)
                raw.append((line, [cell.strip()[:MAX_CELL] for cell in cells[: len(header)]]))
    except csv.Error as exc:
        raise ValueError(f"Line {reader.line_num} is not valid CSV ({exc}).") from exc
    if not header:
        raise ValueError("There is no line with column names.")
    if total > len(raw):
        notes.append(f"Only the first {len(raw)} of {total} rows were read.")
    if ragged:
        notes.append(f"{ragged} rows have more or fewer cells than the header.")
    keys = _keys(header)
    values: list[list[str]] = [
        [cells[i] if i < len(cells) else "" for _, cells in raw] for i in range(len(keys))
    ]
    columns, texts, numbers = [], [], []
    for name, key, column in zip(header, keys, values, strict=True):
        kind, normal, amounts, said = _typed(column, name or key, dates)
        columns.append(Column(key, name, kind))
        texts.append(normal)
        numbers.append(amounts)
        notes += said
    rows = []
    for i, (line, _) in enumerate(raw):
        row: dict[str, Any] = {"row": line}
        row.update({key: texts[c][i] for c, key in enumerate(keys)})
        here = {key: numbers[c][i] for c, key in enumerate(keys)}
        row["amounts"] = {key: float(value) for key, value in here.items() if value is not None}
        rows.append(row)
    return Table(tuple(columns), tuple(rows), total, tuple(notes))


def _keys(header: Sequence[str]) -> list[str]:
    keys: list[str] = []
    for n, name in enumerate(header, 1):
        key = re.sub(r"\W+", "_", name.casefold()).strip("_") or f"column_{n}"
        key = f"c_{key}" if key[0].isdigit() else key
        base, count = key, 1
        while key in keys or key in RESERVED:
            count += 1
            key = f"{base}_{count}"
        keys.append(key)
    return keys


def _typed(
    values: Sequence[str], name: str, dates: str
) -> tuple[str, list[str], list[Decimal | None], list[str]]:
    """The type of a column, its values as normalised text, its amounts, and notes."""
    nothing: list[Decimal | None] = [None] * len(values)
    filled = [v for v in values if v]
    if not filled:
        return "empty", list(values), nothing, []
    days, unclear = _dates(filled, dates)
    read = sum(d is not None for d in days)
    if read and read >= AGREEMENT * len(filled):
        iso = iter(days)
        texts = [(d.isoformat() if (d := next(iso)) else v) if v else "" for v in values]
        return "date", texts, nothing, _odd(name, len(filled) - read, "a date")
    if unclear:
        return (
            "text",
            list(values),
            nothing,
            [f'"{name}": day and month cannot be told apart; kept as written.'],
        )
    comma = decimal_comma(filled)
    amounts = [amount(v, comma) if v else None for v in values]
    count = sum(a is not None for a in amounts)
    codes = sum(bool(re.match(r"^0\d", v)) or len(re.sub(r"\D", "", v)) > 15 for v in filled)
    if count and count >= AGREEMENT * len(filled) and not codes:
        texts = [v if a is None else plain(a) for v, a in zip(values, amounts, strict=True)]
        notes = _odd(name, len(filled) - count, "a number")
        signs = {m for v in filled for m in re.findall(_CURRENCY, v)}
        if len(signs) > 1:
            notes.append(
                f'"{name}" holds several currencies ({", ".join(sorted(signs))}); nothing is converted.'
            )
        return "number", texts, amounts, notes
    return "text", list(values), nothing, []


def _odd(name: str, count: int, kind: str) -> list[str]:
    return [f'"{name}": {count} values are not {kind} and were kept as written.'] if count else []


def decimal_comma(values: Sequence[str]) -> bool:
    """Whether a column writes `1.234,50`. A lone `1,234` counts as more than a thousand."""
    votes = 0
    for value in values:
        digits = re.sub(r"[^\d.,]", "", value)
        last = max(digits.rfind(","), digits.rfind("."))
        if last < 0:
            continue
        mark, other = digits[last], "." if digits[last] == "," else ","
        tail = len(digits) - last - 1
        if other in digits or (digits.count(mark) == 1 and tail != 3):
            votes += 1 if mark == "," else -1
        elif digits.count(mark) > 1:
            votes += -1 if mark == "," else 1
    return votes > 0


def amount(text: str, comma: bool = False) -> Decimal | None:
    """Read an amount with its currency sign and thousands; brackets or a minus at either end are negative."""
    bare = text.strip()
    match = _AMOUNT.match(bare) if len(bare) <= LONGEST_AMOUNT else None
    if match is None or bool(match["open"]) != bool(match["close"]):
        return None
    digits = re.sub(f"[{_SPACES}]", "", match["digits"])
    digits = digits.replace(".", "").replace(",", ".") if comma else digits.replace(",", "")
    if digits.count(".") > 1:
        return None
    try:
        value = Decimal(digits)
    except InvalidOperation:
        return None
    signs = [match[s] for s in ("sign", "sign2", "sign3") if match[s]]
    negative = bool(match["open"]) or any(s in "-−–" for s in signs)
    return -value if negative else value


def plain(value: Decimal) -> str:
    """`1234.50`: no exponent, digits as given."""
    return f"{value:f}"


def _dates(values: Sequence[str], order: str) -> tuple[list[date | None], bool]:
    """Each value as a date, and whether only the order of day and month stands in the way."""
    numeric = [m for v in values if (m := _NUMERIC_DATE.match(v))]
    slashed = [m for m in numeric if m[2] != "."]
    day_first: bool | None = {"day_first": True, "month_first": False}.get(order)
    if day_first is None:
        is_day = any(int(m[1]) > 12 for m in slashed)
        is_month = any(int(m[3]) > 12 for m in slashed)
        day_first = None if is_day == is_month else is_day
    found = [_date(v, day_first) for v in values]
    mostly = len(slashed) >= AGREEMENT * len(values)
    return found, bool(slashed) and day_first is None and mostly


def _date(text: str, day_first: bool | None) -> date | None:
    try:
        if match := _ISO.match(text):
            return date(int(match[1]), int(match[2]), int(match[3]))
        if match := _NUMERIC_DATE.match(text):
            first = True if match[2] == "." else day_first
            if first is None:
                return None
            day, month = (match[1], match[3]) if first else (match[3], match[1])
            year = int(match[4])
            return date(year + (2000 if year < 70 else 1900) if year < 100 else year, int(month), int(day))
        if match := _DAY_MONTH.match(text):
            return date(int(match[3]), _MONTHS.index(match[2].lower()) + 1, int(match[1]))
        if match := _MONTH_DAY.match(text):
            return date(int(match[3]), _MONTHS.index(match[1].lower()) + 1, int(match[2]))
    except ValueError:
        return None
    return None


def parse_date(text: str) -> date | None:
    """A date that can be read in one way only."""
    return _date(text.strip(), None)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as CSV with the columns in order of appearance.

    A text that a spreadsheet would run as a formula gets an apostrophe in front.
    """
    names = list(dict.fromkeys(str(name) for row in rows for name in row))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in names])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        value = value.replace("\r\n", "\n").replace("\r", "\n")
        is_formula = value[:1] in {"=", "+", "-", "@", "\t", "\n"} and amount(value) is None
        return f"'{value}" if is_formula else value
    if isinstance(value, (dict, list)):
        import json

        return json.dumps(value, ensure_ascii=False)
    return "" if value is None else value
