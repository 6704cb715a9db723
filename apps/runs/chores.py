"""Keeping the database small: what every worker process does now and then, a little at a time.

Each chore deletes one bounded batch and says how many rows that were; a round goes on with those that found
some until its time is over, and the rest waits for the next round. All of them look at the rows as they are,
so several processes may do them at once, and none has to. They have a thread of their own, because writing an
archive must never keep a timer from firing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

from django.contrib.sessions.models import Session
from django.db import Error as DatabaseTrouble
from django.db import connections

from apps.ledger.payloads import forget_unused
from apps.runs import retention
from apps.workspaces.models import SignInLink
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger

log = logger(__name__)
Chore = Callable[[], int]
FIRST_SECONDS = 60.0
"""After the start of a process, which has better things to do first."""
PAUSE_SECONDS = 3600.0
MORE_SECONDS = 30.0
"""Pause when a round had to stop with work left."""
ROUND_SECONDS = 20.0
BATCH = 500
LINKS_KEPT = timedelta(days=7)

_registered: dict[str, Chore] = {}


def register_chore(name: str, chore: Chore) -> None:
    """Have a room's own rows kept small too: one bounded batch a call, returning how many went."""
    _registered[name] = chore


def forget_sessions() -> int:
    """Sessions that have expired."""
    old = Session.objects.filter(expire_date__lt=now()).values_list("session_key", flat=True)
    return Session.objects.filter(session_key__in=list(old[:BATCH])).delete()[0]


def forget_links() -> int:
    """Sign-in links that expired or were used a week ago."""
    old = SignInLink.objects.filter(expires_at__lt=now() - LINKS_KEPT).values_list("id", flat=True)
    return SignInLink.objects.filter(id__in=list(old[:BATCH])).delete()[0]


def chores() -> dict[str, Chore]:
    """All of them by name, runs first: what they leave is what the others find."""
    return {
        "runs": retention.prune,
        "trials": retention.forget_trials,
        "effects": retention.forget_effects,
        "uses": retention.forget_orphans,
        "payloads": forget_unused,
        "keys": retention.forget_keys,
        "audit": retention.forget_audit,
        "sessions": forget_sessions,
        "links": forget_links,
        **_registered,
    }


def round_of_chores(seconds: float = ROUND_SECONDS) -> dict[str, int]:
    """One round; returns what each removed. A chore that fails is logged and keeps no other from its work."""
    end, removed = time.monotonic() + seconds, dict.fromkeys(chores(), 0)
    left = chores()
    while left and time.monotonic() < end:
        for name, chore in list(left.items()):
            count = _done(name, chore)
            removed[name] += count
            if not count:
                del left[name]
            if time.monotonic() > end:
                break
    done = {name: count for name, count in removed.items() if count}
    if done:
        log.info("chores.done", **done)
    return removed


def _done(name: str, chore: Chore) -> int:
    try:
        return chore()
    except DatabaseTrouble:
        raise
    except Exception:
        log.exception("chore.failed", chore=name)
        return 0


def keep_small(stopping: threading.Event) -> None:
    """Rounds until the process stops."""
    pause = FIRST_SECONDS
    while not stopping.wait(pause):
        began = time.monotonic()
        try:
            round_of_chores()
            pause = MORE_SECONDS if time.monotonic() - began >= ROUND_SECONDS else PAUSE_SECONDS
        except DatabaseTrouble as exc:
            log.warning("chores.failed", error=str(exc))
            pause = MORE_SECONDS
        except Exception:
            log.exception("chores.crashed")
        connections.close_all()
    connections.close_all()
