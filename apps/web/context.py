"""What the frame around every page shows."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from apps.approvals.selectors import inbox_count

SECTIONS = (
    ("inbox", "Inbox"),
    ("runs", "Runs"),
    ("blueprints", "Blueprints"),
    ("gallery", "Gallery"),
    ("settings", "Settings"),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """The rail: its sections, the one we are in, and how much waits in the inbox.

    Counting is put off until the rail is drawn, so that fragments and error pages cost nothing.
    """
    principal = getattr(request, "principal", None)
    match = request.resolver_match
    section = (match.url_name or "").partition("-")[0] if match else ""
    return {
        "principal": principal,
        "sections": SECTIONS,
        "section": section,
        "inbox_waiting": (lambda: inbox_count(principal)) if principal else 0,
    }
