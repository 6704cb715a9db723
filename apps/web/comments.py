"""Review comments that wait, by the step they are about: what canvas and outline show, and where it leads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.urls import reverse

from apps.blueprints import reviews
from apps.workspaces.access import Principal

Comments = dict[str, dict[str, Any]]
"""{path: {count, url}}"""


def comments_on(principal: Principal, name: str) -> Comments:
    """Those of the review that counts now, by the path the step had in it."""
    review, counts = reviews.waiting_comments(principal, name)
    if review is None:
        return {}
    at = reverse("web:blueprints-review", args=[name, review])
    return {path: {"count": count, "url": f"{at}#on-{quote(path)}"} for path, count in counts.items()}
