"""The engine's numbers in one place, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    step_timeout_seconds: float = 300.0
    """Deadline of an attempt whose node sets none; mandatory, so that nothing runs for ever."""
    call_margin_seconds: float = 2.0
    """An effect goes in flight only if its time-out plus this is left (ENGINE rule 13)."""
    probe_grace_seconds: float = 5.0
    """Wait after a call's deadline before "absent" counts: the request may still be on its way."""
    probe_limit: int = 6
    """Probes that say neither present nor absent before a person is asked."""
    resend_limit: int = 6
    """Same-key sends before a person is asked."""
    resend_base_seconds: float = 1.0
    resend_max_seconds: float = 60.0
    poison_losses: int = 4
    """Deaths before a step is poison: the first may have been a neighbour's, three more were its own."""
    attempts_for_free: int = 10
    """Attempts of a step that may end because the database was away; after that it counts as a failure."""
    claim_grace_seconds: float = 10.0
    """A step claimed for this process that long ago, and not worked on here, is given back."""
    let_in_seconds: float = 10.0
    """How long a place is kept free for a step that waited for its slot and may be claimed now."""
    lossy_patience_seconds: float = 5.0
    """How long a step that has killed a worker waits before a process empties itself for it."""
    chain_steps: int = 20
    """Steps one worker chains before it looks whether another workspace waits."""
    chain_seconds: float = 0.25
    drain_seconds: float = 30.0
    """How long one doorbell keeps a worker's slot before it returns."""
    map_parallel: int = 10
    """Items of a map that may be under way at once, unless the node says otherwise."""
    map_items: int = 10_000
    """Items a map may have, unless the node says otherwise."""
    map_retry_share: float = 0.1
    """Retries a map's items have together, as a share of the items, unless the node says otherwise."""
    subflow_depth: int = 10
    """Runs inside one another."""
    child_stop_seconds: float = 5.0
    """How long until a child that was asked to stop is looked at again."""
    inline_steps: int = 20
    """Pure steps that may share one commit, and for how long they may gather (ENGINE rule 7)."""
    inline_seconds: float = 0.05
    light_expressions: int = 10
    """Of a step that is worked in somebody's answer or by the thread that fires timers. Each may take a tenth
    of a second, and neither is to be kept for many of them."""
    reap_batch: int = 50
    due_batch: int = 200
    """Steps whose time has come that one round of upkeep moves, and how long it may take for them."""
    due_seconds: float = 1.0
    embedded_lease_seconds: int = 180
    """On a laptop the data lock proves there is one worker, so its lease is renewed rarely."""
    worker_retention_days: int = 7
    forget_batch: int = 1000
    """Old rows of webhooks that one upkeep drops."""
    max_output_bytes: int = 16_000_000
    """Of one step. A large value is stored once and passed by reference; a larger one belongs into a file."""
    max_inputs_bytes: int = 16_000_000


LIMITS = Limits()
