"""What upkeep does with a run it can make nothing of."""

from __future__ import annotations

from uuid import UUID

from django.db import Error as DatabaseTrouble

from mirrorneuron.base.logs import logger

log = logger(__name__)


def passed_over(run_id: UUID, exc: Exception) -> int:
    """Nothing was moved: one run that cannot be read or moved must not keep all others from it.

    Raises what the database said: that is about all of them.
    """
    if isinstance(exc, DatabaseTrouble):
        raise exc
    log.error("upkeep.failed", run=str(run_id), exc_info=exc)
    return 0
