"""Compiled plans of immutable versions, kept in memory."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from apps.blueprints.core.document import Document
from apps.blueprints.models import Version
from apps.runs.core.plan import Plan, compile_plan


@lru_cache(maxsize=256)
def plan_for(version_id: UUID) -> Plan:
    """The plan of a version; versions never change, so it is compiled once per process."""
    row = Version.objects.only("document").get(id=version_id)
    return compile_plan(Document.model_validate(row.document))
