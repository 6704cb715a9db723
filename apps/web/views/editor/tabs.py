"""What each tab of the editor shows besides its forms."""

from __future__ import annotations

from typing import Any

from apps.web.editing import Opened
from apps.web.views.editor.fields import part_context

PARTS_OF: dict[str, tuple[str, ...]] = {
    "contract": ("contract",),
    "agents": ("agents", "models"),
    "tools": ("tools", "connections"),
    "card": ("card",),
    "inputs": ("inputs", "outputs"),
}


def tab_context(opened: Opened, tab: str) -> dict[str, Any]:
    context = part_context(opened, *PARTS_OF.get(tab, ()))
    return context
