"""The identity of one effect."""

from __future__ import annotations

import hashlib

from mirrorneuron.base.safejson import canonical, fingerprint


def effect_key(
    *, workspace: str, root_run: str, path: str, turn: int, ordinal: int, generation: int, simulated: bool
) -> str:
    """The idempotency key of a call, equal on every retry and after every crash (ENGINE rule 23).

    Not the attempt, not the model's text: only where in the run the call stands. Simulated effects have
    their own key space.
    """
    parts = [workspace, root_run, path, turn, ordinal, generation, simulated]
    return hashlib.sha256(canonical(parts).encode()).hexdigest()


def action_hash(tool: str, arguments: object) -> str:
    """What an approval is bound to: this tool with exactly these arguments."""
    return fingerprint({"tool": tool, "arguments": arguments})
