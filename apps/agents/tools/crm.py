"""`retrieve_crm_context`: the record, contacts and notes of one customer, wherever they are kept.

No schema is required: columns are understood by their names (company, domain, contact, email, note, …). The
account is found by equal name, then by domain, then by a name that is nearly the same; where two are equally
near, neither is taken. Finding nothing is a result.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apps.agents.documents.extract import kind_of
from apps.agents.tools.base import EffectClass, FileRef, StepError, Tool, ToolRun, ToolSpec
from apps.agents.tools.crm_sources import Row, Source, Sqlite, from_csv, from_postgres
from apps.agents.tools.documents import DOCUMENT
from apps.agents.tools.names import name_words, similarity

MIN_SIMILARITY = 0.82
MAX_CONTACTS = 50
MAX_NOTES = 100
MAX_NOTE_CHARS = 4000

_COMPANY = re.compile(
    r"^(company|account|organi[sz]ation|customer|client|business|firm|legal)?_?(name)?$|"
    r"^(firmen|kunden|unternehmens)_?name$|^(firma|kunde|unternehmen|betrieb)$"
)
_DOMAIN = re.compile(r"(^|_)(domain|website|web|webseite|url|homepage|site)(_|$)")
_EMAIL = re.compile(r"(^|_)e?_?mail(_|$|_?address|_?adresse)")
_PERSON = re.compile(
    r"^(contact|person|full|first|last|given|family|sur)_?(name|person)?$|^contact$|^name$|"
    r"^(ansprechpartner(in)?|ansprechperson|kontakt|kontaktperson|vorname|nachname)$"
)
_FIRST = ("first", "given", "vorname")
_LAST = ("last", "family", "sur", "nachname")
_NOTE = re.compile(
    r"(^|_)(notes?|comments?|body|text|summary|description|subject|message|remarks?|details?|"
    r"notiz(en)?|bemerkung(en)?|kommentar)(_|$)"
)
_TIME = re.compile(r"(^|_)(date|datum|at|on|time|created|updated|modified|when)(_|$)")
_LINK = re.compile(
    r"^(company|account|organi[sz]ation|customer|client|kunden|firmen)_?(id|key|number|no|nr|nummer|uuid)$"
)
_KEY = re.compile(r"^(id|uuid|key|.*_id|.*_key|number|.*_number|.*_no|.*_?nummer|.*_nr)$")

SPEC = ToolSpec(
    name="retrieve_crm_context",
    description="Look one customer up in the CRM: record, contacts and notes.",
    permission="look customers up in the CRM data you give it",
    parameters={
        "type": "object",
        "required": ["company"],
        "additionalProperties": False,
        "properties": {
            "company": {
                "type": "string",
                "minLength": 1,
                "maxLength": 200,
                "description": "Name or internet domain of the customer.",
            },
            "crm": {
                "description": "CSV or SQLite file, or several CSV files; the run's input `crm` if absent.",
                "anyOf": [*DOCUMENT["anyOf"], {"type": "array", "items": DOCUMENT}, {"type": "null"}],
            },
            "connection": {
                "type": "string",
                "description": "Name of a PostgreSQL connection instead of a file.",
            },
        },
    },
    output={
        "type": "object",
        "required": ["found", "company", "record", "contacts", "history", "notes", "matched"],
        "properties": {
            "found": {"type": "boolean"},
            "company": {
                "type": "string",
                "description": "As written in the CRM; as asked when nothing was found.",
            },
            "record": {"type": ["object", "null"], "description": "The row of the account, by column."},
            "email": {"type": ["string", "null"], "description": "Of the first contact that has one."},
            "contact": {"type": ["string", "null"], "description": "Name of that contact."},
            "domain": {"type": ["string", "null"]},
            "contacts": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": {"type": ["string", "null"]},
                        "email": {"type": ["string", "null"]},
                        "table": {"type": "string"},
                        "row": {"type": "object"},
                    },
                },
            },
            "history": {
                "type": "array",
                "description": "What the CRM notes about the customer, newest first.",
                "items": {
                    "type": "object",
                    "properties": {
                        "text": {"type": "string"},
                        "column": {"type": "string"},
                        "date": {"type": ["string", "null"]},
                        "table": {"type": "string"},
                    },
                },
            },
            "matched": {
                "type": ["object", "null"],
                "properties": {
                    "table": {"type": "string"},
                    "column": {"type": "string"},
                    "value": {"type": "string"},
                    "by": {"type": "string", "enum": ["name", "domain", "similar_name"]},
                    "score": {"type": "number"},
                },
            },
            "candidates": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Names that are near when none was taken.",
            },
            "notes": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What a person should know about this look-up.",
            },
        },
    },
    effect=EffectClass.READ,
    actions=("read_crm",),
    sinks=("connection",),
    timeout_seconds=45.0,
)


@dataclass(frozen=True)
class Found:
    """One row that may be the account. Sorted: the better kind of match first, then the score."""

    kind: int
    """0 equal name, 1 domain, 2 similar name."""
    score: float
    table: str
    column: str
    value: str
    row: Row


def run(call: ToolRun) -> dict[str, Any]:
    """Look the customer up.

    Raises StepError (permanent) when there is no CRM data or it cannot be read.
    """
    asked = str(call.arguments["company"]).strip()
    if pages := _web_pages(call):
        # Dropped there by mistake more often than meant; the run can do without, if a person is told.
        what = "is a web page" if len(pages) == 1 else "are web pages"
        shown = ", ".join(f'"{name}"' for name in pages[:5])
        told = f"{shown} {what}, not a table of customers, so the CRM was not used. Give it as CSV or SQLite."
        return _nothing(asked, [told])
    with _source(call) as source:
        return _look_up(source, asked)


def _look_up(source: Source, asked: str) -> dict[str, Any]:
    found = sorted(
        (f for table in source.tables for f in _accounts(source, table, asked)),
        key=lambda f: (f.kind, -f.score, -_is_account_table(source, f.table)),
    )
    nothing = _nothing(asked, list(source.notes))
    if not found:
        nothing["notes"].append(f'No record named "{asked}" was found. {_looked_at(source)}')
        return nothing
    best = found[0]
    names = list(dict.fromkeys(f.value for f in found if f.kind == best.kind and f.score == best.score))
    distinct = {name_words(n) for n in names}
    if best.kind == 2 and len(distinct) > 1:
        nothing["candidates"] = names[:5]
        nothing["notes"].append(f'Several customers are as near to "{asked}" as each other; none was taken.')
        return nothing
    return _gathered(source, asked, best)


def _looked_at(source: Source) -> str:
    columns = [f"{t}.{c}" for t, cs in source.tables.items() for c in _name_columns(cs) + _domain_columns(cs)]
    if not columns:
        return "No table has a column with company names or domains, such as company, domain or Firma."
    return "Compared with: " + ", ".join(columns[:10]) + "."


# --- finding the account ----------------------------------------------------------------------------------


def _accounts(source: Source, table: str, asked: str) -> Iterator[Found]:
    columns = source.tables[table]
    names, domains = _name_columns(columns), _domain_columns(columns)
    mails = [c for c in columns if _EMAIL.search(_plain(c))]
    if not names and not domains and not mails:
        return
    asked_domain = domain_of(asked)
    words = name_words(asked)
    terms = [asked, *sorted({w for w in words if len(w) > 2}, key=len, reverse=True)[:3]]
    terms += [asked_domain] if asked_domain else []
    for row in source.rows(table, [*names, *domains, *(mails if asked_domain else [])], terms):
        for column in names:
            value = str(row.get(column) or "").strip()
            if not value:
                continue
            if value.casefold() == asked.casefold() or (words and name_words(value) == words):
                yield Found(
                    0, 1.0 if value.casefold() == asked.casefold() else 0.99, table, column, value, row
                )
            elif not asked_domain and (score := similarity(asked, value)) >= MIN_SIMILARITY:
                yield Found(2, score, table, column, value, row)
        if asked_domain:
            for column in [*domains, *mails]:
                value = str(row.get(column) or "")
                if domain_of(value) == asked_domain:
                    shown = next((str(row[c]) for c in names if row.get(c)), value)
                    yield Found(1, 1.0 if column in domains else 0.9, table, column, shown, row)


def domain_of(text: str) -> str:
    """The internet domain in a domain, URL or e-mail address, without `www.`; empty when there is none."""
    text = text.strip().casefold()
    if "@" in text:
        text = text.rpartition("@")[2].rstrip(">")
    elif "://" in text:
        text = urlsplit(text).hostname or ""
    text = text.split("/")[0].removeprefix("www.").rstrip(".")
    return text if re.fullmatch(r"[^\W_]([\w-]*\.)+[a-z]{2,}", text) else ""


def _plain(column: str) -> str:
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", column).casefold()).strip("_")


def _name_columns(columns: list[str]) -> list[str]:
    named = [c for c in columns if _COMPANY.match(_plain(c)) and _plain(c) not in {"name", ""}]
    if named:
        return named
    # A bare "name" is the company only where nothing says that rows are persons of one.
    belongs = any(
        _LINK.match(_plain(c)) or (_PERSON.match(_plain(c)) and _plain(c) != "name") for c in columns
    )
    return [] if belongs else [c for c in columns if _plain(c) == "name"]


def _domain_columns(columns: list[str]) -> list[str]:
    return [c for c in columns if _DOMAIN.search(_plain(c)) and not _EMAIL.search(_plain(c))]


def _is_account_table(source: Source, table: str) -> int:
    """Higher for tables that look like one row per customer."""
    name = table.casefold()
    is_named = bool(re.search(r"account|compan|customer|client|organi", name))
    is_other = bool(re.search(r"note|activit|contact|event", name))
    return 2 * is_named + ("id" in [_plain(c) for c in source.tables[table]]) - is_other


# --- everything that belongs to it ------------------------------------------------------------------------


def _gathered(source: Source, asked: str, best: Found) -> dict[str, Any]:
    words = name_words(best.value)
    keys = {str(v) for c, v in best.row.items() if _KEY.match(_plain(c)) and v not in (None, "")}
    own = next((domain_of(str(best.row[c])) for c in _domain_columns(list(best.row)) if best.row.get(c)), "")
    mail_domain = {domain_of(str(v)) for c, v in best.row.items() if _EMAIL.search(_plain(c))} - {""}
    contacts: list[dict[str, Any]] = []
    notes: list[dict[str, Any]] = []
    for table in source.tables:
        for row in _related(source, table, best, words, keys, own):
            contact = _contact(table, row)
            if contact is not None and contact not in contacts:
                contacts.append(contact)
            notes += [note for note in _notes(table, row) if note not in notes]
    notes.sort(key=lambda note: note["date"] or "", reverse=True)
    reached = next((c for c in contacts if c["email"]), None)
    messages = list(source.notes)
    if best.kind == 2:
        messages.append(f'No record is named exactly "{asked}"; "{best.value}" is {best.score:.0%} alike.')
    for kind, found, limit in (("contacts", contacts, MAX_CONTACTS), ("notes", notes, MAX_NOTES)):
        if len(found) > limit:
            messages.append(f"Only the first {limit} of {len(found)} {kind} are given.")
    if reached is None:
        messages.append("No contact has an e-mail address.")
    return {
        "found": True,
        "company": best.value,
        "record": best.row,
        "email": reached["email"] if reached else None,
        "contact": (reached or (contacts[0] if contacts else {"name": None}))["name"],
        "domain": own or (min(mail_domain) if mail_domain else None),
        "contacts": contacts[:MAX_CONTACTS],
        "history": notes[:MAX_NOTES],
        "matched": {
            "table": best.table,
            "column": best.column,
            "value": best.value,
            "by": ("name", "domain", "similar_name")[best.kind],
            "score": best.score,
        },
        "candidates": [],
        "notes": messages,
    }


def _related(
    source: Source, table: str, best: Found, words: tuple[str, ...], keys: set[str], domain: str
) -> Iterator[Row]:
    """Rows of the same customer: by its key in a foreign column, its name, or its domain."""
    columns = source.tables[table]
    names, domains = _name_columns(columns), _domain_columns(columns)
    mails = [c for c in columns if _EMAIL.search(_plain(c))]
    links = [c for c in columns if _is_link(_plain(c), best, table)]
    if not (names or domains or links):
        return
    terms = [best.value, *keys, *([domain] if domain else [])]
    for row in source.rows(table, [*names, *domains, *mails, *links], terms):
        by_key = any(str(row.get(c)) in keys for c in links if row.get(c) not in (None, ""))
        by_name = any(name_words(str(row.get(c) or "")) == words for c in names)
        by_domain = bool(domain) and any(
            domain_of(str(row.get(c) or "")) == domain for c in (*domains, *mails)
        )
        if row == best.row or by_key or by_name or (by_domain and not names):
            yield row


def _is_link(column: str, best: Found, table: str) -> bool:
    """Whether a column can hold the account's key: `account_id` elsewhere, its own `id` at home."""
    if table == best.table:
        return False
    return bool(_LINK.match(column))


def _contact(table: str, row: Row) -> dict[str, Any] | None:
    mails = [str(v).strip() for c, v in row.items() if _EMAIL.search(_plain(c)) and v and "@" in str(v)]
    people = [(_plain(c), str(v).strip()) for c, v in row.items() if _PERSON.match(_plain(c)) and v]
    companies = _name_columns(list(row))
    people = [(c, v) for c, v in people if v not in {str(row.get(n)).strip() for n in companies}]
    first = [v for c, v in people if c.startswith(_FIRST)]
    last = [v for c, v in people if c.startswith(_LAST)]
    whole = [v for c, v in people if not c.startswith((*_FIRST, *_LAST))]
    name = whole[0] if whole else " ".join([*first[:1], *last[:1]])
    if not mails and not name:
        return None
    return {"name": name or None, "email": mails[0] if mails else None, "table": table, "row": row}


def _notes(table: str, row: Row) -> Iterator[dict[str, Any]]:
    at = next((str(v) for c, v in row.items() if _TIME.search(_plain(c)) and v), None)
    for column, value in row.items():
        text = str(value or "").strip()
        if text and _NOTE.search(_plain(column)):
            yield {"text": text[:MAX_NOTE_CHARS], "column": column, "date": at, "table": table}


# --- where the data is ------------------------------------------------------------------------------------


@contextmanager
def _source(call: ToolRun) -> Iterator[Source]:
    if call.arguments.get("connection"):
        connection = call.connection(call.arguments["connection"])
        with from_postgres(connection, max(1.0, call.seconds_left() - 1)) as database:
            yield database
        return
    files = [_bytes(call, item) for item in _given(call)]
    if not files:
        raise StepError(
            "There is no CRM data: no file and no connection was given.",
            permanent=True,
            code="no_crm",
            next="Give a CSV or SQLite file as `crm`, or the name of a connection.",
        )
    deadline = time.monotonic() + max(0.5, call.seconds_left() - 1)
    try:
        databases = [(name, data) for name, data in files if data.startswith(b"SQLite format 3\x00")]
        if databases and len(files) > 1:
            raise ValueError("Give either one SQLite file or CSV files, not both.")
        opened: Source = Sqlite(databases[0][1], databases[0][0], deadline) if databases else from_csv(files)
    except ValueError as exc:
        raise StepError(str(exc), permanent=True, code="bad_crm") from exc
    yield opened
    if isinstance(opened, Sqlite):
        opened.db.close()


def _web_pages(call: ToolRun) -> list[str]:
    if call.arguments.get("connection"):
        return []
    found = [_bytes(call, item) for item in _given(call)]
    return [name for name, data in found if kind_of(data, "") == "html"]


def _given(call: ToolRun) -> list[Any]:
    given = call.arguments.get("crm")
    if given is None:
        inputs = call.names.get("inputs")
        given = inputs.get("crm") if isinstance(inputs, Mapping) else None
    if given is None:
        return []
    return given if isinstance(given, list) else [given]


def _bytes(call: ToolRun, item: Any) -> tuple[str, bytes]:
    if isinstance(item, Mapping) and isinstance(item.get("text"), str) and "id" not in item:
        return str(item.get("name", "crm.csv")), item["text"].encode("utf-8", "replace")
    ref: FileRef
    ref, data = call.bytes_of(item)
    if not data:
        raise StepError(f'"{ref.name}" is empty.', permanent=True, code="bad_crm")
    return ref.name, data


def _nothing(asked: str, messages: list[str]) -> dict[str, Any]:
    return {
        "found": False,
        "company": asked,
        "record": None,
        "email": None,
        "contact": None,
        "domain": None,
        "contacts": [],
        "history": [],
        "matched": None,
        "candidates": [],
        "notes": messages,
    }


def _simulate(call: ToolRun) -> dict[str, Any]:
    """The run's own files are read as usual; a simulated run opens no connection."""
    if call.arguments.get("connection"):
        return _nothing(call.arguments["company"], ["Simulated: the database was not asked."])
    return run(call)


RETRIEVE_CRM_CONTEXT = Tool(
    SPEC,
    work=run,
    describe_source=lambda a: f'"{str(a["company"])[:80]}" will be looked up in the CRM.',
    simulate_source=_simulate,
)
