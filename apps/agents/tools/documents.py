"""`search_documents` and `read_document`: the run's own documents, quoted exactly.

A passage is a verbatim piece of the extracted text with its place (start, end, page), so that a later check
can find it again. What cannot be read is said in a note and never spoils the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from apps.agents.documents.extract import MAX_SECONDS, Extracted, extract
from apps.agents.documents.index import match_expression, rank
from apps.agents.documents.passages import Passage, passages_of
from apps.agents.tools.base import EffectClass, FileRef, StepError, Tool, ToolRun, ToolSpec

MAX_DOCUMENTS = 500
MAX_TOTAL_CHARS = 30_000_000
MAX_PASSAGES = 50

DOCUMENT: dict[str, Any] = {
    "description": "A file of this run (or its id or name), or text given directly as {name, text}.",
    "anyOf": [
        {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}},
        {
            "type": "object",
            "required": ["name", "text"],
            "properties": {"name": {"type": "string"}, "text": {"type": "string"}},
        },
        {"type": "string"},
    ],
}
PASSAGE: dict[str, Any] = {
    "type": "object",
    "required": ["document", "name", "passage", "text", "start", "end", "score"],
    "properties": {
        "document": {"type": "string", "description": "Id of the file, or its name when given as text."},
        "name": {"type": "string"},
        "passage": {"type": "string", "description": "Stable id of the passage, to cite it by."},
        "heading": {"type": "string"},
        "text": {"type": "string", "description": "Exactly as it stands in the document's text."},
        "start": {"type": "integer"},
        "end": {"type": "integer"},
        "score": {"type": "number", "description": "BM25; comparable only within one search."},
        "page": {"type": ["integer", "null"]},
    },
}

SEARCH = ToolSpec(
    name="search_documents",
    description="Find the passages of the given documents that fit a query best, with exact quotes.",
    permission="read the documents you give it",
    parameters={
        "type": "object",
        "required": ["query"],
        "additionalProperties": False,
        "properties": {
            "query": {"type": "string", "minLength": 1, "maxLength": 2000},
            "documents": {
                "type": "array",
                "items": DOCUMENT,
                "description": "Where to look; every document of the run when absent.",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": MAX_PASSAGES, "default": 8},
        },
    },
    output={
        "type": "object",
        "required": ["query", "passages", "documents", "notes"],
        "properties": {
            "query": {"type": "string"},
            "passages": {"type": "array", "items": PASSAGE},
            "documents": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "id": {"type": "string"},
                        "name": {"type": "string"},
                        "kind": {"type": "string"},
                        "characters": {"type": "integer"},
                        "passages": {"type": "integer"},
                        "note": {"type": "string"},
                    },
                },
            },
            "searched": {"type": "integer", "description": "How many passages were compared."},
            "notes": {"type": "array", "items": {"type": "string"}},
        },
    },
    effect=EffectClass.READ,
    actions=("read_documents",),
    timeout_seconds=120.0,
)

READ = ToolSpec(
    name="read_document",
    description="Read the text of one document, or a part of it.",
    permission="read the documents you give it",
    parameters={
        "type": "object",
        "required": ["document"],
        "additionalProperties": False,
        "properties": {
            "document": DOCUMENT,
            "start": {"type": "integer", "minimum": 0, "default": 0},
            "max_characters": {"type": "integer", "minimum": 1, "maximum": 200_000, "default": 20_000},
        },
    },
    output={
        "type": "object",
        "required": ["document", "name", "kind", "text", "start", "end", "total", "notes"],
        "properties": {
            "document": {"type": "string"},
            "name": {"type": "string"},
            "kind": {"type": "string"},
            "text": {"type": "string"},
            "start": {"type": "integer"},
            "end": {"type": "integer"},
            "total": {"type": "integer", "description": "Characters of the whole text."},
            "next": {"type": ["integer", "null"], "description": "Where to go on reading; null at the end."},
            "pages": {"type": "integer", "description": "0 for formats without pages."},
            "headings": {"type": "array", "items": {"type": "string"}},
            "notes": {"type": "array", "items": {"type": "string"}},
        },
    },
    effect=EffectClass.READ,
    actions=("read_documents",),
    timeout_seconds=60.0,
)


def search(call: ToolRun) -> dict[str, Any]:
    """Rank the passages of the documents; no fit is an empty list and says so."""
    query = call.arguments["query"]
    given = call.arguments.get("documents")
    wanted: list[Any] = list(call.files) if given is None else list(given)
    notes: list[str] = []
    if len(wanted) > MAX_DOCUMENTS:
        notes.append(f"Only the first {MAX_DOCUMENTS} of {len(wanted)} documents were searched.")
        wanted = wanted[:MAX_DOCUMENTS]
    found: list[tuple[FileRef, Extracted, list[Passage]]] = []
    total = 0
    for item in wanted:
        ref, document = _open(call, item, keep_seconds=2.0)
        total += len(document.text)
        if total > MAX_TOTAL_CHARS:
            notes.append(
                f'"{ref.name}" and the documents after it were left out: over the size of one search.'
            )
            break
        found.append((ref, document, passages_of(document)))
    hits = rank(query, [(ref.name, passages) for ref, _, passages in found], call.arguments.get("limit", 8))
    notes += [f"{ref.name}: {document.note}" for ref, document, _ in found if document.note]
    if not hits:
        notes.append(_why_nothing(query, [passages for _, _, passages in found]))
    return {
        "query": query,
        "passages": [_shown(found[h.document][0], h.passage, h.score) for h in hits],
        "documents": [
            {
                "id": ref.id,
                "name": ref.name,
                "kind": document.kind,
                "characters": len(document.text),
                "passages": len(passages),
                "note": document.note,
            }
            for ref, document, passages in found
        ],
        "searched": sum(len(passages) for _, _, passages in found),
        "notes": notes,
    }


def read(call: ToolRun) -> dict[str, Any]:
    """Give the text from `start` on, at most `max_characters` of it."""
    ref, document = _open(call, call.arguments["document"], keep_seconds=1.0)
    start = min(call.arguments.get("start", 0), len(document.text))
    end = min(len(document.text), start + call.arguments.get("max_characters", 20_000))
    return {
        "document": ref.id,
        "name": ref.name,
        "kind": document.kind,
        "text": document.text[start:end],
        "start": start,
        "end": end,
        "total": len(document.text),
        "next": end if end < len(document.text) else None,
        "pages": len(document.pages),
        "headings": [title for _, _, title in document.headings[:200]],
        "notes": [document.note] if document.note else [],
    }


def _open(call: ToolRun, item: Any, keep_seconds: float) -> tuple[FileRef, Extracted]:
    """A document with its text. keep_seconds: left over for what follows; what does not fit is noted."""
    if isinstance(item, Mapping) and isinstance(item.get("text"), str) and "id" not in item:
        data = item["text"].encode("utf-8", "replace")
        name = str(item.get("name") or "text")[:255]
        ref = FileRef(id=name, name=name, sha256=sha256(data).hexdigest(), size=len(data))
    else:
        ref = item if isinstance(item, FileRef) else call.file(item)
        if call.seconds_left() <= keep_seconds:
            return ref, Extracted("", "", note="There was no time left to read it.", is_final=False)
        try:
            data = call.read_file(ref.id)
        except StepError as exc:
            return ref, Extracted("", "", note=str(exc), is_final=False)
    seconds = min(MAX_SECONDS, call.seconds_left() - keep_seconds)
    return ref, extract(data, ref.name, ref.media_type, seconds)


def _shown(ref: FileRef, passage: Passage, score: float) -> dict[str, Any]:
    return {
        "document": ref.id,
        "name": ref.name,
        "passage": f"{(ref.sha256 or sha256(ref.id.encode()).hexdigest())[:8]}-{passage.ordinal}",
        "heading": passage.heading,
        "text": passage.text,
        "start": passage.start,
        "end": passage.end,
        "score": score,
        "page": passage.page,
    }


def _why_nothing(query: str, passages: list[list[Passage]]) -> str:
    if not passages:
        return "There is no document to search."
    if not any(passages):
        return "No document holds readable text."
    if not match_expression(query):
        return "The query holds no word to search for."
    return "No passage holds a word of the query."


# Reading the run's own files sends nothing anywhere, so a simulated run gets the real text.
SEARCH_DOCUMENTS = Tool(
    SEARCH,
    work=search,
    describe_source=lambda a: f'The documents of this run will be searched for "{str(a["query"])[:80]}".',
    simulate_source=search,
)
READ_DOCUMENT = Tool(
    READ,
    work=read,
    describe_source=lambda a: "One document of this run will be read.",
    simulate_source=read,
)
