"""Why nothing can be stored just now, in words for people who do not run the server.

`mirrorneuron.dbtrouble` says more, with names of hosts and files, to those who do.
"""

from __future__ import annotations

import re

from mirrorneuron.base.errors import Unavailable

_FULL = re.compile(r"disk is full|no space left|could not extend file|disk quota exceeded", re.IGNORECASE)
_READ_ONLY = re.compile(r"readonly database|read-only transaction|recovery is in progress", re.IGNORECASE)


def storage_trouble(said: str) -> Unavailable:
    """The error to answer with when the database said this instead of doing its work."""
    if _FULL.search(said):
        return Unavailable(
            "The server's disk is full, so nothing can be stored.",
            code="storage_full",
            next="Whoever runs the server has to make room; then send it again.",
        )
    if _READ_ONLY.search(said):
        return Unavailable(
            "The database takes no changes just now.",
            code="read_only",
            next="Whoever runs the server has to look at the database; then send it again.",
        )
    return Unavailable(
        "The database cannot be used just now.",
        code="database",
        next="Try again in a moment; whoever runs the server finds more in its log.",
    )
