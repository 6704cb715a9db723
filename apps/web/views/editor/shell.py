"""What stands around every page of the editor: the draft's head and its tabs."""

from __future__ import annotations

from typing import Any

from django.urls import reverse

from apps.web.core.places import TABS
from apps.web.editing import Opened


def shell_of(opened: Opened, tab: str = "") -> dict[str, Any]:
    """What the head of every editor page shows."""
    here = reverse("web:blueprints-edit", args=[opened.name])
    private = "private=1" if opened.private else ""
    tabs = []
    for key, label in TABS:
        query = "&".join(filter(None, [f"tab={key}" if key else "", private]))
        tabs.append({"key": key, "label": label, "href": f"{here}?{query}" if query else here})
    return {"opened": opened, "tab": tab, "tabs": tabs, "here": here, "private": private}
