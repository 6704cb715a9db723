"""The text of one document, whatever its format, bounded in time and size.

Plain text, Markdown and CSV are read here, in time linear in their size. The parsers of PDF, HTML and Word
files are complex and meet hostile input, so they run in a child process that can be killed (see `child`). A
document that cannot be read never raises: its `note` says why, in words for a person.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from apps.agents.documents import child
from apps.agents.documents.decode import decode
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)

MAX_CHARS = 2_000_000
"""Of text per document; a book of 800 pages has about that much."""
MAX_SECONDS = 20.0
"""For one document."""
CACHE_VERSION = 1
"""Raise it when the same bytes give another text."""
MAX_CACHED_FILES = 2000
MIN_LETTERS = 10
"""Fewer letters and digits than this are not what somebody meant to give."""
_PARSED = frozenset(["pdf", "html", "docx"])
_HTML = re.compile(rb"<(!doctype\s+html|html|head|body)\b", re.I)
_UNSUPPORTED = {
    b"PK\x03\x04": "It is a ZIP-based file such as Excel or EPUB",
    b"\xd0\xcf\x11\xe0": "It is an old Office file",
    b"\x89PNG": "It is a picture",
    b"\xff\xd8\xff": "It is a picture",
    b"GIF8": "It is a picture",
    b"{\\rtf": "It is an RTF file",
    b"SQLite format 3\x00": "It is a database",
}


@dataclass(frozen=True)
class Extracted:
    """The text of a document.

    kind: pdf, html, docx, csv, markdown, text, or empty when unreadable.
    pages: offsets in `text` at which pages begin; empty for formats without pages.
    headings: (offset, level, title), by offset.
    note: why there is no text or not all of it; empty when everything was read.
    """

    kind: str
    text: str
    pages: tuple[int, ...] = ()
    headings: tuple[tuple[int, int, str], ...] = ()
    note: str = ""
    is_final: bool = True
    """False: the next try may end otherwise (time ran out), so nothing is cached."""


def extract(data: bytes, name: str, media_type: str = "", seconds: float = MAX_SECONDS) -> Extracted:
    """Read one document, or take it from the cache of its content.

    seconds: at most this long, and never longer than MAX_SECONDS.
    """
    kind = kind_of(data, name, media_type)
    key = f"{sha256(data).hexdigest()}-{kind or 'none'}-{CACHE_VERSION}"
    found = _memory_get(key) or _disk_get(key)
    if found is None:
        found = _extract(data, kind, name, min(seconds, MAX_SECONDS))
        if found.is_final and kind in _PARSED:
            _disk_put(key, found)
    if found.is_final:
        _memory_put(key, found)
    if found.text and not found.note and sum(c.isalnum() for c in found.text[:200]) < MIN_LETTERS:
        return replace(found, note="It holds hardly any text.")
    return found


def kind_of(data: bytes, name: str, media_type: str = "") -> str:
    """pdf, html, docx, csv, markdown, text; empty when the content is of no readable kind."""
    suffix = Path(name.lower()).suffix
    if b"%PDF-" in data[:1024]:
        return "pdf"
    if data.startswith(b"PK\x03\x04") and b"word/document.xml" in data:
        return "docx"
    if any(data.startswith(mark) for mark in _UNSUPPORTED):
        return ""
    if suffix in {".html", ".htm", ".xhtml"} or "html" in media_type or _begins_like_html(data[:4096]):
        return "html"
    if suffix in {".csv", ".tsv"} or media_type in {"text/csv", "text/tab-separated-values"}:
        return "csv"
    if suffix in {".md", ".markdown"} or media_type == "text/markdown":
        return "markdown"
    if suffix == ".pdf":
        return "pdf"
    return "text"


def _begins_like_html(start: bytes) -> bool:
    """Whether the first tag, after any XML declaration and comments, is one that begins a page."""
    # Step by step, because one pattern for all of it takes exponential time on many comments.
    rest = start.lstrip()
    if rest.startswith(b"<?xml"):
        rest = rest.partition(b">")[2].lstrip()
    while rest.startswith(b"<!--"):
        rest = rest[4:].partition(b"-->")[2].lstrip()
    return _HTML.match(rest) is not None


def _extract(data: bytes, kind: str, name: str, seconds: float) -> Extracted:
    if not data:
        return Extracted("", "", note="The file is empty.")
    if not kind:
        why = next(text for mark, text in _UNSUPPORTED.items() if data.startswith(mark))
        return Extracted(
            "", "", note=f"{why}, which cannot be read. Save it as PDF, Word (.docx), HTML, Markdown or CSV."
        )
    if kind in _PARSED:
        return _in_child(data, kind, name, seconds)
    text = decode(data)
    if text is None:
        return Extracted("", "", note="The content is not text.")
    if kind == "csv":
        text = readable_rows(text)
    note = ""
    if len(text) > MAX_CHARS:
        text, note = text[:MAX_CHARS], f"Only the first {MAX_CHARS} of {len(text)} characters were read."
    if not text.strip():
        return Extracted(kind, "", note="The file holds no text.")
    return Extracted(kind, text, headings=markdown_headings(text) if kind == "markdown" else (), note=note)


def _in_child(data: bytes, kind: str, name: str, seconds: float) -> Extracted:
    seconds = max(seconds, 0.1)
    command = [sys.executable, "-I", str(child.__file__), kind, str(MAX_CHARS)]
    environment = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}  # no secret of ours
    label = {"docx": "Word file"}.get(kind, kind.upper())
    try:
        done = subprocess.run(  # noqa: S603 - our own script, no shell
            command, input=data, capture_output=True, timeout=seconds, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        note = f"Reading the {label} took longer than {seconds:.0f} s and was given up."
        return Extracted("", "", note=note, is_final=seconds >= MAX_SECONDS)
    try:
        found = json.loads(done.stdout) if done.returncode == 0 else None
    except ValueError:
        found = None
    if found is None:
        log.info("document.unreadable", name=name, returncode=done.returncode)
        return Extracted("", "", note=f"The {label} is damaged or too complex and cannot be read.")
    # Offsets count characters, so the replacement of lone surrogates must keep every length.
    text = found["text"].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = text if len(text) == len(found["text"]) else re.sub("[\ud800-\udfff]", "�", found["text"])
    return Extracted(
        kind=kind if text.strip() else "",
        text=text.replace("\x00", " "),
        pages=tuple(found["pages"]),
        headings=tuple((int(o), int(level), str(t)) for o, level, t in found["headings"]),
        note=found["note"],
    )


def readable_rows(text: str) -> str:
    """CSV as one line per row, `column: value; column: value`, so that a quote explains itself."""
    lines: list[str] = []
    rows = csv.reader(io.StringIO(text), delimiter=delimiter_of(text))
    header: list[str] | None = None
    size = 0
    try:
        for row in rows:
            cells = [" ".join(cell.split()) for cell in row]
            if not any(cells):
                continue
            if header is None:
                header = cells
                continue
            named = [
                f"{header[i]}: {cell}" if i < len(header) and header[i] else cell
                for i, cell in enumerate(cells)
                if cell
            ]
            lines.append("; ".join(named))
            size += len(lines[-1]) + 1
            if size > MAX_CHARS:
                break
    except csv.Error:
        return text  # not a table after all; the raw lines are still evidence
    if header is not None and not lines:
        lines = ["; ".join(header)]
    return "\n".join(lines)


def delimiter_of(text: str) -> str:
    """The delimiter that splits the first lines most evenly; a comma when nothing does."""
    lines = [line for line in text[:20_000].split("\n") if line.strip()][:20]
    best, best_score = ",", 0.0
    for candidate in ",;\t|":
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=candidate)]
        except csv.Error:
            continue
        if counts and counts[0] > 1:
            score = counts.count(counts[0]) / len(counts) * counts[0] ** 0.5
            if score > best_score:
                best, best_score = candidate, score
    return best


def markdown_headings(text: str) -> tuple[tuple[int, int, str], ...]:
    """ATX and setext headings outside code fences."""
    found: list[tuple[int, int, str]] = []
    offset, fence, previous = 0, "", (0, "")
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        mark = re.match(r"(```+|~~~+)", bare)
        if mark:
            fence = "" if fence and bare.startswith(fence) else (fence or mark[1])
        elif not fence:
            is_indented = len(line) - len(line.lstrip()) > 3
            heading = None if is_indented else re.match(r"(#{1,6})\s+(.+)", bare)
            # Marks at the end are cut off here: a pattern that looks for them takes cubic time.
            title = heading[2].rstrip("#").rstrip() if heading else ""
            if heading and title:
                found.append((offset, len(heading[1]), title[:200]))
            elif (
                previous[1]
                and re.fullmatch(r"=+|-{2,}", bare)
                and not previous[1].startswith(("#", "-", "|"))
            ):
                found.append((previous[0], 1 if bare[0] == "=" else 2, previous[1][:200]))
        previous = (offset, bare)
        offset += len(line)
    return tuple(found)


# --- the cache, by content hash -----------------------------------------------------------------------------
# Whoever asks has already shown that the bytes are theirs, so one cache serves all workspaces.

_memory: OrderedDict[str, Extracted] = OrderedDict()
_memory_chars = 0
_memory_lock = threading.Lock()
MAX_MEMORY_CHARS = 16_000_000


def _memory_get(key: str) -> Extracted | None:
    with _memory_lock:
        if key in _memory:
            _memory.move_to_end(key)
        return _memory.get(key)


def _memory_put(key: str, value: Extracted) -> None:
    global _memory_chars
    with _memory_lock:
        if key in _memory:
            return
        _memory[key] = value
        _memory_chars += len(value.text)
        while _memory_chars > MAX_MEMORY_CHARS and len(_memory) > 1:
            _memory_chars -= len(_memory.popitem(last=False)[1].text)


def _disk_path(key: str) -> Path:
    return config().folder("cache/documents") / f"{key}.json"


def _disk_get(key: str) -> Extracted | None:
    try:
        raw = json.loads(_disk_path(key).read_text())
        return Extracted(
            kind=raw["kind"],
            text=raw["text"],
            pages=tuple(raw["pages"]),
            headings=tuple((o, level, t) for o, level, t in raw["headings"]),
            note=raw["note"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _disk_put(key: str, value: Extracted) -> None:
    """Best effort: a full disk costs time, not the answer."""
    try:
        path = _disk_path(key)
        partial = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        partial.write_text(json.dumps(asdict(value)))
        partial.replace(path)
        kept = sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)
        for old in kept[: max(0, len(kept) - MAX_CACHED_FILES)]:
            old.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("document.cache_failed", reason=exc.strerror)
