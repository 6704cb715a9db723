"""Where people and other systems reach this installation, for what commands print."""

from __future__ import annotations

from mirrorneuron import datalock
from mirrorneuron.config import config

ON_A_LAPTOP = "http://127.0.0.1:8000"
"""Where `mn up` listens unless told otherwise."""


def base_url() -> str:
    """The address without a slash at its end: MN_BASE_URL, else that of the `mn up` which works on this data.

    Empty on a server that has not been told.
    """
    if config().base_url:
        return config().base_url.rstrip("/")
    if not config().is_sqlite:
        return ""
    holder = datalock.holder(config().data) or {}
    return str(holder.get("url") or ON_A_LAPTOP).rstrip("/")
