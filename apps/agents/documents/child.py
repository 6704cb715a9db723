"""The process that opens PDF, HTML and Word files: a hostile or broken document can only kill this.

Run as a script with nothing of ours imported and no environment of ours; reads the document on standard
input, writes one JSON object `{text, pages, headings, note}` on standard output. Memory is limited here, time
by the parent.

    child.py pdf|html|docx MAX_CHARS
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from typing import Any

MEMORY = 2 * 1024**3
MAX_PAGES = 3000
_BLOCKS = """
address article aside blockquote body dd details div dl dt fieldset figcaption figure footer form h1 h2 h3 h4
br h5 h6 header hr li main nav ol p pre section summary table tbody tfoot thead title tr ul
"""
BLOCKS = frozenset(_BLOCKS.split())
_DROPPED = "script style noscript template svg iframe object embed canvas audio video"
DROPPED = frozenset(_DROPPED.split())


class Text:
    """Collects text up to a limit and remembers where pages and headings begin."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.parts: list[str] = []
        self.size = 0
        self.pages: list[int] = []
        self.headings: list[tuple[int, int, str]] = []
        self.note = ""

    @property
    def full(self) -> bool:
        return self.size >= self.limit

    def add(self, text: str) -> None:
        text = text[: self.limit - self.size]
        if text:
            self.parts.append(text)
            self.size += len(text)

    def newline(self) -> None:
        if self.parts and not self.parts[-1].endswith("\n"):
            self.add("\n")

    def as_json(self) -> dict[str, Any]:
        text = "".join(self.parts)
        note = self.note or (f"Only the first {self.limit} characters were read." if self.full else "")
        return {"text": text, "pages": self.pages, "headings": self.headings, "note": note}


def pdf(data: bytes, limit: int) -> dict[str, Any]:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    out = Text(limit)
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return {**out.as_json(), "note": "The PDF is protected by a password."}
        failed = []
        for number, page in enumerate(reader.pages, 1):
            out.pages.append(out.size)
            try:
                text = page.extract_text()
            except Exception:
                failed.append(number)
                continue
            out.add(text.strip() + "\n\n")
            if out.full or number >= MAX_PAGES:
                out.note = f"Only the first {number} pages were read."
                break
        if failed:
            shown = ", ".join(map(str, failed[:10]))
            out.note = f"{len(failed)} pages could not be read (page {shown})."
    except (PyPdfError, ValueError, KeyError, TypeError, IndexError, AttributeError, OSError) as exc:
        return {**out.as_json(), "note": f"The PDF is damaged and cannot be read ({type(exc).__name__})."}
    result = out.as_json()
    if not result["text"].strip():
        result["note"] = "The PDF holds no text; it may be a scan."
    return result


def html(data: bytes, limit: int) -> dict[str, Any]:
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString, PreformattedString, Tag

    out = Text(limit)
    soup = BeautifulSoup(data, "html.parser")
    stack: list[tuple[Any, bool]] = [(soup, True)]
    pre = 0
    while stack and not out.full:
        node, entering = stack.pop()
        if isinstance(node, NavigableString):
            # Comments, doctypes and CDATA are PreformattedString: never text for a reader.
            if not isinstance(node, PreformattedString):
                text = str(node) if pre else re.sub(r"\s+", " ", str(node))
                at_break = not out.parts or out.parts[-1].endswith(("\n", " "))
                out.add(text.lstrip() if at_break and not pre else text)
            continue
        name = node.name
        if not entering:
            pre -= name == "pre"
            if name in BLOCKS:
                out.newline()
            elif name in {"td", "th"}:
                out.add(" | ")
            continue
        if name in DROPPED or _is_hidden(node):
            continue
        if name in BLOCKS:
            out.newline()
        if name in {"p", "ul", "ol", "table", "section", "article"} and out.parts:
            out.add("\n")
        heading = re.fullmatch(r"h([1-6])", name)
        if heading:
            title = " ".join(node.get_text(" ").split())[:200]
            out.headings.append((out.size, int(heading[1]), title))
        elif name == "li":
            out.add("- ")
        pre += name == "pre"
        stack.append((node, False))
        stack.extend((child, True) for child in reversed(list(node.children)) if _is_content(child, Tag))
    result = out.as_json()
    if not result["text"].strip():
        result["note"] = "The page holds no text."
    return result


def _is_content(node: Any, tag: type) -> bool:
    return isinstance(node, tag) or bool(str(node))


def _is_hidden(node: Any) -> bool:
    """Text a reader of the page never sees is no evidence, and a favourite place for orders to models."""
    if node.attrs is None or node.name == "[document]":
        return False
    style = re.sub(r"\s+", "", str(node.attrs.get("style", ""))).lower()
    return "hidden" in node.attrs or "display:none" in style or "visibility:hidden" in style


MAX_XML = 32_000_000
"""Of a Word file's text with its marks, unpacked; a book of 800 pages has about 10 MB."""
MAX_RATIO = 200
"""Unpacked to packed; written text stays under 50, a bomb is far above."""
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_NOT_SHOWN = frozenset(["Fallback", "txbxContent", "pPr", "rPr", "sectPr", "tblPr", "del"])


def docx(data: bytes, limit: int) -> dict[str, Any]:
    import xml.etree.ElementTree as ET
    import zipfile

    out = Text(limit)
    damaged = {**out.as_json(), "note": "The Word file is damaged and cannot be read."}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            part = archive.getinfo("word/document.xml")
            if part.flag_bits & 1:
                return {**damaged, "note": "The Word file is protected by a password."}
            # The sizes an archive states may be lies, so reading is bounded too.
            too_large = part.file_size > min(MAX_XML, MAX_RATIO * max(part.compress_size, 1000))
            with archive.open(part) as packed:
                xml = b"" if too_large else packed.read(MAX_XML + 1)
    except Exception:
        # Of many kinds: zipfile's own, those of zlib and lzma, and what it says of a compression it lacks.
        return damaged
    if too_large or len(xml) > MAX_XML:
        return {**damaged, "note": "The Word file unpacks to more than can be read."}
    if b"\x00" in xml or b"<!DOCTYPE" in xml or b"<!ENTITY" in xml:
        # Word writes UTF-8 without a document type; entities are how XML grows or reaches out.
        return {
            **damaged,
            "note": "The Word file holds declarations that Word never writes; it was not read.",
        }
    try:
        root = ET.fromstring(xml)  # noqa: S314 - no entities can be declared, see above
    except ET.ParseError:
        return damaged
    stack: list[tuple[Any, bool]] = [(root, True)]
    cells = 0
    while stack and not out.full:
        node, entering = stack.pop()
        name = node.tag.rpartition("}")[2]
        if not entering:
            cells -= name == "tc"
            if name == "tc":
                out.add(" | ")
            elif name == "tr" or (name == "p" and not cells):
                out.newline()
            elif name == "p":
                out.add(" ")
            continue
        if name in _NOT_SHOWN or node.find(f"{_WORD}rPr/{_WORD}vanish") is not None:
            continue
        if name == "t":
            out.add(node.text or "")
        elif name in {"tab", "br", "cr"}:
            out.add(" " if name == "tab" or cells else "\n")
        elif name == "noBreakHyphen":
            out.add("-")
        elif name == "p" and not cells:
            out.newline()
            _begin_paragraph(out, node)
        elif name == "tbl":
            out.newline()
        cells += name == "tc"
        stack.append((node, False))
        stack.extend((part, True) for part in reversed(list(node)))
    result = out.as_json()
    if not result["text"].strip():
        result["note"] = "The Word file holds no text."
    return result


def _begin_paragraph(out: Text, node: Any) -> None:
    """A heading with its level, a list item with its mark, else a blank line before."""
    style = node.find(f"{_WORD}pPr/{_WORD}pStyle")
    value = "" if style is None else str(style.get(f"{_WORD}val", ""))
    heading = re.fullmatch(
        r"(?:heading|berschrift|überschrift|titre|ttulo)\s?([1-6])|title|titel", value.lower()
    )
    if heading:
        title = " ".join("".join(t.text or "" for t in node.iter(f"{_WORD}t")).split())[:200]
        if title:
            if out.parts:
                out.add("\n")
            out.headings.append((out.size, int(heading[1] or 1), title))
    elif node.find(f"{_WORD}pPr/{_WORD}numPr") is not None:
        out.add("- ")
    elif out.parts:
        out.add("\n")


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(3000)
    kind, limit = sys.argv[1], int(sys.argv[2])
    data = sys.stdin.buffer.read()
    result = {"pdf": pdf, "html": html, "docx": docx}[kind](data, limit)
    sys.stdout.buffer.write(json.dumps(result).encode())


if __name__ == "__main__":
    main()
