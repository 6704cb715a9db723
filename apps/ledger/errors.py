"""Errors of the ledger.

MirrorNeuronError
└── PayloadMissing   (NotFound) what a reference stands for is not stored
"""

from __future__ import annotations

from mirrorneuron.base.errors import NotFound


class PayloadMissing(NotFound):
    code = "payload_not_found"

    def __init__(self, hash_: str) -> None:
        super().__init__(
            f"There is no payload {hash_[:16]}….",
            next="If its run was archived, bring it back with `mn runs restore`.",
            hash=hash_,
        )
