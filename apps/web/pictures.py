"""The one picture of a graph, drawn by `blueprints.core.svg`, for the pages."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.safestring import SafeString, mark_safe

from apps.blueprints.core.document import Document
from apps.blueprints.core.svg import render_svg
from apps.blueprints.core.tools import ToolSpec

Tools = Mapping[str, ToolSpec]


def run_picture(
    document: Document,
    states: Mapping[str, str],
    *,
    tools: Tools,
    paths: Mapping[str, str],
    titles: Mapping[str, str],
    links: Mapping[str, str],
    selected: str,
) -> SafeString:
    """The graph with the state of each node, each a link to its step."""
    drawn = render_svg(
        document,
        states,
        tools=tools,
        step_paths=paths,
        titles=titles,
        href=links.get,
        selected=selected,
    )
    return mark_safe(drawn)  # noqa: S308 - render_svg escapes what it draws


def plain_picture(document: Document, tools: Tools) -> SafeString:
    return mark_safe(render_svg(document, tools=tools))  # noqa: S308


def thumbnail(document: Document, tools: Tools) -> SafeString:
    """A small picture without words, for cards; screen readers get the card's text."""
    return mark_safe(render_svg(document, tools=tools, density="thumbnail"))  # noqa: S308
