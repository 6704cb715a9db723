"""Writes about limits and prices."""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction

from apps.governance.models import Breaker, Bucket, Price
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.models import Membership, Workspace
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Forbidden, InvalidInput, NotFound


@transaction.atomic
def set_price(principal: Principal, model: str, *, input_microusd: int, output_microusd: int) -> Price:
    """Set what one model costs here, in micro-dollars per million tokens; it wins over the public list.

    Raises Forbidden, or InvalidInput for a negative price or a model not written `provider:model`.
    """
    principal.require(Permission.ADMINISTER)
    wrong = {
        name: "A price is zero or more."
        for name, value in (("input_microusd", input_microusd), ("output_microusd", output_microusd))
        if value < 0
    }
    if not all(model.partition(":")[::2]):
        wrong["model"] = "Write it as provider:model."
    if wrong:
        raise InvalidInput(f"The price was not saved. {' '.join(wrong.values())}", fields=wrong)
    values = {"input_microusd": input_microusd, "output_microusd": output_microusd}
    price, _ = Price.objects.update_or_create(workspace=principal.workspace, model=model, defaults=values)
    audit(principal, "price.set", model, values)
    return price


# --- limits -----------------------------------------------------------------------------------------------

KINDS = ("tool", "provider", "model", "user")
MOST_CALLS = 1_000_000
MOST_SECONDS = 31 * 86_400.0


@transaction.atomic
def set_limit(principal: Principal, key: str, *, calls: int, per_seconds: float) -> Bucket:
    """Limit calls in this workspace: so many in so many seconds, saved up to as many at once.

    key: `tool:<name>`, `provider:<name>`, `model:<provider:name>` or `user:<e-mail address of a member>`.
    Raises Forbidden, or InvalidInput with a sentence per field.
    """
    principal.require(Permission.ADMINISTER)
    stored, wrong = _key(principal, key)
    if not 1 <= calls <= MOST_CALLS:
        wrong["calls"] = f"A whole number from 1 to {MOST_CALLS:,}; found {calls}."
    if not 0 < per_seconds <= MOST_SECONDS:
        wrong["per"] = f"More than no time and at most 31 days; found {per_seconds:g} s."
    if wrong:
        raise InvalidInput(f"The limit was not saved. {' '.join(wrong.values())}", fields=wrong)
    at = now()
    values = {"capacity": float(calls), "per_second": calls / per_seconds}
    bucket, is_new = Bucket.objects.get_or_create(
        workspace=principal.workspace,
        key=stored,
        defaults={**values, "tokens": float(calls), "updated_at": at},
    )
    if not is_new:
        tokens = min(bucket.tokens if bucket.capacity is not None else float(calls), float(calls))
        Bucket.objects.filter(id=bucket.id).update(**values, tokens=tokens)
    audit(principal, "limit.set", key, {"calls": calls, "per_seconds": per_seconds})
    return Bucket.objects.get(id=bucket.id)


@transaction.atomic
def set_limits(
    principal: Principal, limits: Mapping[str, tuple[int, float] | None], weight: int | None = None
) -> None:
    """Set several limits, and the weight if given: all of it or nothing.

    limits: (calls, seconds) by key; None takes a limit away. Raises what the single ones raise.
    """
    principal.require(Permission.ADMINISTER)
    for key, limit in limits.items():
        if limit is None:
            remove_limit(principal, key)
        else:
            set_limit(principal, key, calls=limit[0], per_seconds=limit[1])
    if weight is not None:
        set_weight(principal, weight)


@transaction.atomic
def remove_limit(principal: Principal, key: str) -> None:
    """Take a limit away; a request of the other side for rest stands. Raises Forbidden, NotFound."""
    principal.require(Permission.ADMINISTER)
    stored, wrong = _key(principal, key)
    limits = Bucket.objects.filter(workspace=principal.workspace, key=stored, capacity__isnull=False)
    if wrong or not limits.update(capacity=None, per_second=None, tokens=0.0):
        raise NotFound(f"There is no limit for {key!r}.", next="List them with `mn limits list`.")
    audit(principal, "limit.remove", key, {})


@transaction.atomic
def close_breaker(principal: Principal, key: str) -> None:
    """Let calls go out again at once, because a person knows better. Raises Forbidden, NotFound."""
    principal.require(Permission.ADMINISTER)
    if not Breaker.objects.filter(workspace=principal.workspace, key=key).delete()[0]:
        raise NotFound(
            f"There is no breaker {key!r} in this workspace.",
            next="List them with `mn limits list`; those of providers close by themselves.",
        )
    audit(principal, "breaker.close", key, {})


@transaction.atomic
def set_weight(principal: Principal, weight: int) -> int:
    """This workspace's share of the workers when others want them too.

    Only for whoever runs the installation: it is taken from the other workspaces.
    Raises Forbidden, or InvalidInput for a weight that is not from 1 to 100.
    """
    principal.require(Permission.ADMINISTER)
    if principal.channel != "cli" and not principal.user.is_staff:
        raise Forbidden(
            "The weight of a workspace is set by whoever runs the installation.",
            next="Ask them for `mn limits weight`.",
        )
    if not 1 <= weight <= 100:
        raise InvalidInput(
            f"The weight was not saved. A whole number from 1 to 100; found {weight}.",
            fields={"weight": "A whole number from 1 to 100."},
        )
    Workspace.objects.filter(id=principal.workspace.id).update(weight=weight)
    audit(principal, "workspace.weight", principal.workspace.slug, {"weight": weight})
    return weight


def weight_of(principal: Principal) -> int:
    """The workspace's weight as it is now."""
    return Workspace.objects.values_list("weight", flat=True).get(id=principal.workspace.id)


def _key(principal: Principal, key: str) -> tuple[str, dict[str, str]]:
    """The key as it is stored, and what is wrong with it."""
    kind, _, name = key.partition(":")
    if kind not in KINDS or not name or len(key) > 150:
        return key, {"key": f"Write it as one of {', '.join(f'{k}:<name>' for k in KINDS)}; found {key!r}."}
    if kind != "user":
        return key, {}
    member = Membership.objects.filter(workspace=principal.workspace, user__email=name.lower()).first()
    if member is None:
        return key, {"key": f"{name!r} is nobody in this workspace."}
    return f"user:{member.user_id}", {}
