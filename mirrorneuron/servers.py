"""What `mn doctor` looks at only where there are servers: PostgreSQL, a broker, workers on many machines.

Each function is one check, as in `doctor`; what it says is for whoever runs the servers.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from django.db import DatabaseError, connection
from django.db.models import Count, Min

import mirrorneuron
from apps.runs import hot_tables
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.models import Run, Step, Worker
from mirrorneuron.base.clock import now
from mirrorneuron.config import config
from mirrorneuron.findings import Result

LONG_SECONDS = 300
"""A transaction that is open and idle for so long keeps the database from tidying up."""
_HOT = hot_tables.tables()
_FACTOR = "autovacuum_vacuum_scale_factor"
_LOSING = ("allkeys", "volatile")
_LATE = 0.05
"""Of a hot table's rows may be dead before autovacuum comes."""


def is_postgresql() -> bool:
    return connection.vendor == "postgresql"


def _rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())


# --- PostgreSQL -------------------------------------------------------------------------------------------


def durability() -> Result:
    """Whether what was answered as committed survives a crash of the server and the loss of it."""
    shown = dict(
        _rows(
            "SELECT name, setting FROM pg_settings WHERE name IN"
            " ('fsync', 'synchronous_commit', 'full_page_writes', 'synchronous_standby_names')"
        )
    )
    off = [name for name in ("fsync", "full_page_writes", "synchronous_commit") if shown.get(name) == "off"]
    if off:
        return Result(
            "durability", "fail",
            f"{', '.join(off)} is off: a crash of the server forgets calls that were made",
            f"Set {off[0]} = on for this database.",
        )  # fmt: skip
    try:
        standbys = _rows("SELECT coalesce(application_name, '?'), sync_state FROM pg_stat_replication")
    except DatabaseError:
        standbys = []
    loose = sorted(name for name, state in standbys if state not in ("sync", "quorum"))
    if standbys and not any(state in ("sync", "quorum") for _, state in standbys):
        return Result(
            "durability", "warn",
            f"its standbys ({', '.join(loose)}) follow asynchronously: "
            "a failover may forget calls that were made",
            "Name one in synchronous_standby_names where a repeated effect would hurt.",
        )  # fmt: skip
    behind = f"{len(standbys)} standbys, one of them synchronous" if standbys else "no standby"
    return Result("durability", "ok", f"commits reach the disk; {behind}")


def vacuum() -> Result:
    """Tables whose rows change with every step need vacuuming long before a fifth of them has changed."""
    if _rows("SELECT setting FROM pg_settings WHERE name = 'autovacuum'") == [("off",)]:
        return Result(
            "vacuum", "fail", "autovacuum is off", "Set autovacuum = on: the hot tables grow for ever."
        )
    found = dict(
        _rows("SELECT relname, coalesce(reloptions, '{}') FROM pg_class WHERE relname = ANY(%s)", list(_HOT))
    )
    default = float(
        _rows("SELECT setting FROM pg_settings WHERE name = 'autovacuum_vacuum_scale_factor'")[0][0]
    )
    late = [name for name in _HOT if name in found and _factor(found[name], default) > _LATE]
    if late:
        return Result(
            "vacuum", "warn", f"{', '.join(late)} {'is' if len(late) == 1 else 'are'} vacuumed too rarely",
            f"Run `mn migrate`, or ALTER TABLE {late[0]} SET ({_FACTOR} = 0.02), and so on.",
        )  # fmt: skip
    return Result("vacuum", "ok", "autovacuum is set for the hot tables")


def _factor(options: list[str], default: float) -> float:
    given = dict(option.split("=", 1) for option in options)
    return float(given.get(_FACTOR, default))


def old_transactions() -> Result:
    found = _rows(
        "SELECT pid, coalesce(nullif(application_name, ''), usename, '?'),"
        " extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity"
        " WHERE datname = current_database() AND state LIKE 'idle in transaction%%'"
        " AND xact_start < clock_timestamp() - make_interval(secs => %s) ORDER BY xact_start LIMIT 5",
        LONG_SECONDS,
    )
    if not found:
        return Result("old transactions", "ok", "none is open and idle")
    pid, who, seconds = found[0]
    return Result(
        "old transactions", "warn",
        f"{who} (process {pid} of the server) has had one open for {seconds // 60} min and does nothing; "
        "meanwhile nothing can be vacuumed",
        f"End it: SELECT pg_terminate_backend({pid}); and set idle_in_transaction_session_timeout.",
    )  # fmt: skip


# --- the broker -------------------------------------------------------------------------------------------


def broker_memory() -> Result:
    """A Redis that drops keys or keeps nothing still works; runs only begin later than they could."""
    url = config().broker_url
    if not url.startswith("redis"):
        return Result("broker memory", "ok", "RabbitMQ's queues are replicated and bounded")
    import redis

    link = redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3)
    try:
        info: Any = link.info()
    except redis.RedisError:
        return Result("broker memory", "ok", "not looked at: it cannot be reached")
    finally:
        link.close()
    policy = str(info.get("maxmemory_policy", "noeviction"))
    host = urlsplit(url).hostname
    if policy.startswith(_LOSING):
        return Result(
            "broker memory", "warn", f"Redis at {host} drops keys when it is full ({policy}), doorbells too",
            "Set maxmemory-policy noeviction.",
        )  # fmt: skip
    if not info.get("aof_enabled") and not int(info.get("rdb_last_save_time", 0) or 0):
        return Result("broker memory", "warn", f"Redis at {host} keeps nothing", "Set appendonly yes.")
    if not info.get("aof_enabled"):
        return Result(
            "broker memory", "warn", f"Redis at {host} forgets its last doorbells when it restarts",
            "Harmless, workers look by themselves; appendonly yes keeps them.",
        )  # fmt: skip
    return Result("broker memory", "ok", f"{policy}, kept on disk")


# --- workers ----------------------------------------------------------------------------------------------


def versions() -> Result:
    alive = Worker.objects.filter(lease_until__gt=now(), stopped_at=None)
    others = sorted({w.version or "an older release" for w in alive if w.version != mirrorneuron.__version__})
    if others:
        return Result(
            "versions", "warn", f"workers of {', '.join(others)} run beside {mirrorneuron.__version__}",
            "Fine during an upgrade; replace them to end it.",
        )  # fmt: skip
    return Result("versions", "ok", f"all of {mirrorneuron.__version__}")


def queues() -> Result:
    """Named queues in which something waits and on which no worker listens."""
    waiting = (
        Step.objects.filter(status=StepStatus.READY, run__pause_requested=False)
        .exclude(run__status__in=RUN_ENDED)
        .values_list("queue")
        .annotate(Count("id"), Min("ready_at"))
        .order_by("queue")
    )
    served = served_queues()
    deaf = [(name, count) for name, count, _ in waiting if name not in served]
    if not deaf:
        return Result("queues", "ok", f"served: {', '.join(sorted(served)) or 'none needed'}")
    said = ", ".join(f"{name} ({count} ready)" for name, count in deaf)
    return Result("queues", "fail", f"no worker listens on {said}", f"Start `mn worker -Q {deaf[0][0]}`.")


def served_queues() -> set[str]:
    alive = Worker.objects.filter(lease_until__gt=now(), stopped_at=None)
    return {name for names in alive.values_list("queues", flat=True) for name in names or ["default"]}


def unserved_queues(run: Run) -> list[str]:
    """Queues in which steps of this run wait although no worker listens there."""
    ready = Step.objects.filter(run=run, status=StepStatus.READY)
    return sorted(set(ready.values_list("queue", flat=True)) - served_queues())
