"""States of an effect.

intent     → in_flight             committed before the first byte leaves
intent     → failed                refused or rejected before anything left
in_flight  → committed             result recorded
in_flight  → failed                a definite failure: nothing happened
in_flight  → in_doubt              anything ambiguous: time-out, reset, 5xx, a dead worker
in_doubt   → committed             evidence, probe or person says it happened
in_doubt   → failed                probe or person says it did not
in_doubt   → in_flight             same-key resend (keyed, idempotent)
committed, failed → nothing; another try is a new generation with a new key
"""

from __future__ import annotations

from enum import StrEnum


class EffectState(StrEnum):
    INTENT = "intent"
    IN_FLIGHT = "in_flight"
    COMMITTED = "committed"
    IN_DOUBT = "in_doubt"
    FAILED = "failed"


class EffectClass(StrEnum):
    READ = "read"
    """Changes nothing; no ledger row."""
    IDEMPOTENT = "idempotent"
    """Repeating it is harmless by nature (PUT, a file whose name is the key)."""
    KEYED = "keyed"
    """The remote executes one key once, within the key's lifetime."""
    PROBE = "probe"
    """The remote can be asked whether it happened."""
    OPAQUE = "opaque"
    """Nobody can know but a person."""


MOVES: dict[EffectState, frozenset[EffectState]] = {
    EffectState.INTENT: frozenset({EffectState.IN_FLIGHT, EffectState.FAILED}),
    EffectState.IN_FLIGHT: frozenset({EffectState.COMMITTED, EffectState.FAILED, EffectState.IN_DOUBT}),
    EffectState.IN_DOUBT: frozenset({EffectState.COMMITTED, EffectState.FAILED, EffectState.IN_FLIGHT}),
    EffectState.COMMITTED: frozenset(),
    EffectState.FAILED: frozenset(),
}
