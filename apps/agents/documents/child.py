"""The process that opens PDF and HTML: a hostile or broken document can only kill this.

Run as a script with nothing of ours imported and no environment of ours; reads the document on standard
input, writes one JSON object `{text, pages, headings, note}` on standard output. Memory is limited here, time
by the parent.

    child.py pdf|html MAX_CHARS
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


def main() -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.setrecursionlimit(3000)
    kind, limit = sys.argv[1], int(sys.argv[2])
    data = sys.stdin.buffer.read()
    result = pdf(data, limit) if kind == "pdf" else html(data, limit)
    sys.stdout.buffer.write(json.dumps(result).encode())


if __name__ == "__main__":
    main()
