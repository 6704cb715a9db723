"""Giving steps back before a process ends: nothing is lost, no attempt is used up, others go on at once.

What is on its way to the outside is not given back: its answer is still worth waiting for.
"""

from __future__ import annotations

from collections.abc import Iterable

from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.runs.claims import Claim
from apps.runs.core.states import StepStatus
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.passing_over import passed_over
from apps.runs.transact import locked_run
from mirrorneuron.base.logs import logger

log = logger(__name__)


def hand_back_all(claims: Iterable[Claim]) -> list[Claim]:
    """Hand back every step that can be; returns those with a call on its way."""
    in_flight = []
    for claim in claims:
        if not _hand_back(claim):
            in_flight.append(claim)
    return in_flight


def _hand_back(claim: Claim) -> bool:
    """False when an effect of the step is unresolved, or may be. Else whoever works on it writes no more."""
    try:
        with locked_run(claim.run.id, claim.path) as tx:
            step = tx.step(claim.path)
            if step.status is not StepStatus.RUNNING or step.fence != claim.fence:
                return True
            unknown = [EffectState.IN_FLIGHT, EffectState.IN_DOUBT]
            rows = Effect.objects.filter(run_id=claim.run.id, step_path=claim.path, state__in=unknown)
            if rows.exists():
                return False
            tx.transition.hand_back(claim.path)
    except (StaleStep, RunNotFound):
        return True
    except Exception as exc:
        passed_over(claim.run.id, exc)
        return False
    log.info("step.handed_back", run=str(claim.run.id), step=claim.path)
    return True
