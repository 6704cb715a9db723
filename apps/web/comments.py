"""Review comments that wait, by the step they are about: what canvas and outline show, and where it leads."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from django.urls import reverse

from apps.blueprints import reviews
from apps.blueprints.models import Draft
from apps.workspaces.access import Principal

Comments = dict[str, dict[str, Any]]
"""{path: {count, url}}"""


def comments_on(principal: Principal, name: str, draft: Draft | None = None) -> Comments:
    """Those of the review that counts now, by the path the step has in a draft, else had in the review."""
    found: Comments = {}
    for one in reviews.waiting_comments(principal, name, draft):
        at = reverse("web:blueprints-review", args=[name, one.review])
        there = found.setdefault(one.now, {"count": 0, "url": f"{at}#on-{quote(one.node)}"})
        there["count"] += one.count
    return found
