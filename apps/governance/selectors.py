"""Reads about limits and prices."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import Q

from apps.governance.core import buckets
from apps.governance.models import Breaker, Bucket, Price
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.models import User
from mirrorneuron.base.clock import now

AT_MOST = 1000


def operator_price(workspace_id: UUID, model: str) -> Price | None:
    """The price an operator set for `provider:model`; None leaves it to the public price list."""
    return Price.objects.filter(workspace_id=workspace_id, model=model).first()


def limits_for(principal: Principal) -> list[dict[str, Any]]:
    """What limits the calls of a workspace, what it shares with others included, by key.

    {key, calls, per_seconds, left, waiting, rests_until, breaker, open_until, failures, last_error}: `calls`
    null means no limit was set; `breaker` is closed, open or half_open.
    """
    principal.require(Permission.READ)
    return _limits(Q(workspace=principal.workspace) | Q(workspace=None))


def troubled_limits() -> list[dict[str, Any]]:
    """What rests, is open or makes somebody wait, in the whole installation."""
    found = _limits(Q())
    return [x for x in found if x["rests_until"] or x["breaker"] != "closed" or x["waiting"]]


def _limits(where: Q) -> list[dict[str, Any]]:
    at = now()
    found: dict[tuple[UUID | None, str], dict[str, Any]] = {}

    def line(row: Bucket | Breaker) -> dict[str, Any]:
        fresh = {
            "key": row.key, "shared": row.workspace_id is None, "calls": None, "per_seconds": None,
            "left": None, "waiting": 0, "rests_until": None, "breaker": "closed", "open_until": None,
            "failures": 0, "last_error": "",
        }  # fmt: skip
        return found.setdefault((row.workspace_id, row.key), fresh)

    for bucket in Bucket.objects.filter(where).order_by("key")[:AT_MOST]:
        known = line(bucket)
        level = buckets.refilled(
            buckets.Level(
                bucket.tokens, bucket.updated_at, bucket.capacity, bucket.per_second, bucket.blocked_until
            ),
            at,
        )
        if bucket.capacity is not None and bucket.per_second:
            known["calls"] = round(bucket.capacity, 3)
            known["per_seconds"] = round(bucket.capacity / bucket.per_second, 3)
            known["left"] = max(round(level.tokens, 3), 0.0)
        known["waiting"] = max(-int(level.tokens), 0)
        if buckets.is_blocked(level, at) and bucket.blocked_until is not None:
            known["rests_until"] = bucket.blocked_until.isoformat()
    for breaker in Breaker.objects.filter(where).order_by("key")[:AT_MOST]:
        known = line(breaker)
        known["failures"], known["last_error"] = breaker.failures, breaker.last_error
        if breaker.open_until is not None:
            is_open = at < breaker.open_until
            known["breaker"] = "open" if is_open else "half_open"
            known["open_until"] = breaker.open_until.isoformat()
            known["waiting"] += breaker.waiting
    return _with_people([found[place] for place in sorted(found, key=lambda p: (p[1], str(p[0])))])


def _with_people(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A person is shown by address, not by id."""
    ids = {x["key"].partition(":")[2] for x in lines if x["key"].startswith("user:")}
    people = {str(i): email for i, email in User.objects.filter(id__in=ids).values_list("id", "email")}
    for x in lines:
        kind, _, name = x["key"].partition(":")
        if kind == "user":
            x["key"] = f"user:{people.get(name, name)}"
    return lines
