"""How far a step may act on its own.

0  suggests only: it reads, or writes nothing outside
1  acts after a person approved the exact action
2  acts by itself within limits, with a declared way back

Tier 1 is what a write gets unless the blueprint says otherwise. Saying 2 is believed only where the write can
be taken back and its target is under control; for the rest a person stays in front.
"""

from __future__ import annotations

from enum import IntEnum

from apps.ledger.core.states import EffectClass


class Tier(IntEnum):
    SUGGEST = 0
    APPROVE = 1
    ACT = 2


def tier_of(
    effect: EffectClass,
    declared: int | None = None,
    *,
    reversible: bool = False,
    open_world: bool = True,
    simulated: bool = False,
) -> Tier:
    """The tier that applies to one call.

    declared: the node's own `tier`; None when it says nothing. It may always be stricter than the rule.
    reversible: the tool has an `undo` or the node a `compensate`.
    open_world: the tool reaches what is not under the workspace's control.
    """
    if effect is EffectClass.READ:
        return Tier.SUGGEST
    if declared == Tier.SUGGEST:
        return Tier.SUGGEST
    if declared == Tier.ACT and (simulated or reversible or _harmless(effect, open_world)):
        return Tier.ACT
    return Tier.APPROVE


def _harmless(effect: EffectClass, open_world: bool) -> bool:
    """Repeating it changes nothing and it stays inside: writing a report file into the workspace's folder."""
    return effect is EffectClass.IDEMPOTENT and not open_world


def may_call(tier: Tier, effect: EffectClass, *, approved: bool) -> bool:
    """Whether a call may leave now: reads always, writes only by an approval or under tier 2."""
    if effect is EffectClass.READ:
        return True
    return tier is Tier.ACT or (tier is Tier.APPROVE and approved)
