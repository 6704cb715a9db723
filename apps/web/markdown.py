"""Markdown for pages: READMEs and texts from models, always cleaned."""

from __future__ import annotations

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt

_markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable(["table", "strikethrough"])
TAGS = {
    *("h2", "h3", "h4", "h5", "h6", "p", "ul", "ol", "li", "blockquote", "hr", "br"),
    *("a", "em", "strong", "s", "code", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


def render(text: str) -> SafeString:
    """Clean HTML. Headings move one level down, because the page has its own `h1`; pictures are dropped."""
    tokens = _markdown.parse(text)
    if tokens and tokens[0].type == "heading_open" and tokens[0].tag == "h1":
        # The page's own heading says the same.
        tokens = tokens[3:]
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + 1)}"
    html = _markdown.renderer.render(tokens, _markdown.options, {})
    clean = nh3.clean(html, tags=TAGS, attributes={"a": {"href"}}, url_schemes={"https", "http", "mailto"})
    return mark_safe(clean)  # noqa: S308 - nh3 has cleaned it
