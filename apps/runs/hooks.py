"""Webhooks from outside: signed messages that start a run, or tell runs what they wait for.

    verify    the token's digest, the signature over the raw body, the time it was signed
    keep      INSERT the delivery; a repeat finds the row and changes nothing
    act       start a run under the key `hook:<delivery>`, or deliver a signal to every run it is about

Each part may be repeated without harm, so a process that dies in between loses nothing: an upkeep later finds
the delivery and goes on. A message about a run that does not exist yet is held for 7 days and delivered when
one appears. A hook acts in the name of the member who made it, with the rights they have then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from django.db import Error as DatabaseTrouble
from django.db import IntegrityError, connection, transaction
from django.db.models import BigIntegerField, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from apps.blueprints.services import version_for_run
from apps.runs.core.limits import LIMITS
from apps.runs.core.mapping import MappingError, Start, Tell, planned
from apps.runs.core.mapping import problems_of as mapping_problems
from apps.runs.core.states import RUN_ENDED
from apps.runs.core.webhook import LEAST_SECRET, NotGenuine, Scheme, new_secret, verified
from apps.runs.errors import HookUnknown, RunConflict, RunNotFound, SignatureRefused
from apps.runs.inbox import BY_HOOK, WEBHOOK
from apps.runs.models import Delivery, Hook, Run
from apps.runs.named import one_named
from apps.runs.services import start_run
from apps.runs.signals import deliver_signal
from apps.runs.views import moment
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.core.roles import Permission
from apps.workspaces.crypto import seal, unseal
from apps.workspaces.errors import WorkspaceNotFound
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, MirrorNeuronError, NotFound, TooLarge
from mirrorneuron.base.ids import as_uuid, digest, secret
from mirrorneuron.base.logs import logger
from mirrorneuron.base.safejson import storable

log = logger(__name__)
TOKEN_PREFIX = "mnh_"  # noqa: S105 - what tokens begin with
MOST_BYTES = 1_000_000
MOST_FIELDS = 1_000
"""Of a form."""
KEPT = timedelta(days=7)
"""How long a message waits for its run, and a repeat of it is recognised."""
KEEP_OLD_SECRET = timedelta(days=1)
RUNS_AT_MOST = 100
"""Runs that one message reaches."""
ABANDONED = timedelta(seconds=30)
"""A delivery that was kept that long ago and not dealt with: its process died."""
LOOK_AGAIN = timedelta(seconds=5)
OVERLAPPING = timedelta(minutes=1)
"""A run that was being started just when its message came may look older than it."""
BATCH = 50
"""Deliveries one upkeep looks at."""
_HIDDEN = frozenset({"authorization", "cookie", "proxy-authorization"})


class DeliveryState(StrEnum):
    RECEIVED = "received"
    """Kept, and not dealt with yet."""
    DONE = "done"
    """It started a run, or every run it is about has it."""
    HELD = "held"
    """No run matches yet."""
    IGNORED = "ignored"
    """The hook's own condition says it is not meant."""
    LATE = "late"
    """The run it is about had ended; the signal is stored there and nobody reads it."""
    FAILED = "failed"
    """It could not be used; the same message again is tried again."""
    EXPIRED = "expired"
    """No run matched in 7 days."""


OPEN = (DeliveryState.RECEIVED, DeliveryState.HELD)


@dataclass(frozen=True)
class HookPlan:
    """What a person wants of a hook."""

    name: str
    target: str
    """`start` or `signal`."""
    mapping: Mapping[str, Any]
    scheme: str = Scheme.STANDARD
    tolerance_seconds: int = 300
    secret: str = ""
    """Empty: a fresh one. The sender may have made it."""


@dataclass(frozen=True)
class Opened:
    """A hook with what is shown once."""

    hook: Hook
    secret: str
    token: str = ""


@dataclass(frozen=True)
class Receipt:
    """What became of a message."""

    delivery: Delivery
    duplicate: bool


# --- what people do ---------------------------------------------------------------------------------------


def add_hook(principal: Principal, plan: HookPlan) -> Opened:
    """Open an address; its token and secret are in the answer and nowhere else. Raises InvalidInput."""
    principal.require(Permission.OPERATE)
    _check(principal, plan)
    token, shared = secret(TOKEN_PREFIX), plan.secret or new_secret()
    hook = Hook(
        workspace=principal.workspace,
        name=plan.name.strip(),
        digest=digest(token),
        sealed=_sealed([{"secret": shared, "until": None}]),
        scheme=plan.scheme,
        tolerance_seconds=plan.tolerance_seconds,
        target=plan.target,
        mapping=storable(dict(plan.mapping)),
        acts_as=principal.user,
    )
    try:
        with transaction.atomic():
            hook.save(force_insert=True)
            audit(principal, "hook.created", hook.name, {"hook": str(hook.id), "target": hook.target})
    except IntegrityError as exc:
        raise Conflict(
            f'There is already a hook "{hook.name}".', code="hook_exists", next="Choose another name."
        ) from exc
    return Opened(hook, shared, token)


def rotate_hook(
    principal: Principal, which: Any, *, new: str = "", keep_old: timedelta = KEEP_OLD_SECRET
) -> Opened:
    """Give a hook another secret; the one before stays valid for a while, so that the sender can change over.

    keep_old: zero ends it at once, for a secret that got out.
    """
    principal.require(Permission.OPERATE)
    found = hook_for(principal, which)
    _check_secret(new)
    shared = new or new_secret()
    with transaction.atomic():
        hook = _locked(found.id)
        until = (now() + keep_old).isoformat()
        before = [one for one in _secrets(hook) if one["until"] is None] if keep_old else []
        hook.sealed = _sealed(
            [{"secret": shared, "until": None}, *({**one, "until": until} for one in before)]
        )
        hook.rotated_at = now()
        hook.save(update_fields=["sealed", "rotated_at"])
        audit(principal, "hook.rotated", hook.name, {"old_valid_until": until if keep_old else None})
    return Opened(hook, shared)


def remove_hook(principal: Principal, which: Any) -> None:
    """Close an address; what it started goes on, what is held is given up."""
    principal.require(Permission.OPERATE)
    found = hook_for(principal, which)
    with transaction.atomic():
        if Hook.objects.filter(id=found.id).delete()[0]:
            audit(principal, "hook.removed", found.name, {"hook": str(found.id)})


# --- looking ----------------------------------------------------------------------------------------------


def hooks_for(principal: Principal) -> QuerySet[Hook]:
    principal.require(Permission.READ)
    return Hook.objects.filter(workspace=principal.workspace).select_related("acts_as").order_by("name")


def hook_for(principal: Principal, which: Any) -> Hook:
    """One hook of the workspace, by id or name. Raises NotFound for everybody else's."""
    return one_named(hooks_for(principal), which, "hook")


def hook_view(hook: Hook) -> dict[str, Any]:
    return {
        "id": str(hook.id),
        "name": hook.name,
        "target": hook.target,
        "mapping": hook.mapping,
        "scheme": hook.scheme,
        "tolerance_seconds": hook.tolerance_seconds,
        "created_at": moment(hook.created_at),
        "rotated_at": moment(hook.rotated_at),
        "last_at": moment(hook.last_at),
        "last_error": hook.last_error,
        "acts_as": hook.acts_as.email if hook.acts_as else None,
    }


def deliveries_of(hook: Hook, limit: int = 50) -> list[dict[str, Any]]:
    """The latest messages, newest first, without their content."""
    rows = Delivery.objects.filter(hook=hook).order_by("-id").defer("body", "headers")[:limit]
    return [delivery_view(row) for row in rows]


def delivery_view(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": str(delivery.id),
        "key": delivery.key,
        "state": delivery.state,
        "received_at": moment(delivery.received_at),
        "expires_at": moment(delivery.expires_at),
        "runs": delivery.runs,
        "error": delivery.error,
    }


# --- receiving --------------------------------------------------------------------------------------------


def hook_by_token(token: str) -> Hook:
    """The hook an address belongs to. Raises HookUnknown, which says nothing more."""
    found = None
    if token.startswith(TOKEN_PREFIX) and token.isascii():
        found = Hook.objects.select_related("workspace", "acts_as").filter(digest=digest(token)).first()
    if found is None:
        raise HookUnknown("There is nothing here.")
    return found


def receive(hook: Hook, headers: Mapping[str, str], body: bytes) -> Receipt:
    """Take one message. headers: by lower-case name; body: exactly as it was sent.

    Raises SignatureRefused, TooLarge, InvalidInput (the message cannot be used), RunConflict (its run has
    ended), and what starting a run raises. What was refused although its signature held is tried again when
    it is sent again.
    """
    if len(body) > MOST_BYTES:
        raise TooLarge(f"The message has {len(body):,} bytes; {MOST_BYTES:,} are the most.")
    known = [one["secret"] for one in _secrets(hook) if _is_valid(one)]
    at = now()
    try:
        key = verified(Scheme(hook.scheme), known, headers, body, at.timestamp(), hook.tolerance_seconds)
    except NotGenuine as exc:
        raise SignatureRefused(str(exc), code=exc.code) from exc
    content = _content(body, headers.get("content-type", ""))
    shown = {k: v[:1000] for k, v in list(headers.items())[:60] if k not in _HIDDEN}
    delivery = Delivery(
        hook=hook, key=key, body=storable(content), headers=storable(shown), received_at=at,
        due_at=at + ABANDONED, expires_at=at + KEPT,
    )  # fmt: skip
    try:
        with transaction.atomic():
            delivery.save(force_insert=True)
    except IntegrityError:
        delivery = Delivery.objects.get(hook=hook, key=key)
        if delivery.state not in (DeliveryState.RECEIVED, DeliveryState.FAILED):
            return Receipt(delivery, duplicate=True)
    Hook.objects.filter(id=hook.id).update(last_at=at)
    _act(hook, delivery)
    return Receipt(delivery, duplicate=False)


def _content(body: bytes, media_type: str) -> Any:
    """A body as templates see it: JSON, the fields of a form, or text."""
    try:
        text = body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput("The body is not UTF-8 text.", code="unreadable_body") from exc
    if media_type.startswith("application/x-www-form-urlencoded"):
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS))
        except ValueError as exc:
            raise InvalidInput(
                f"The form has more than {MOST_FIELDS:,} fields.", code="unreadable_body"
            ) from exc
    if "json" not in media_type:
        return text
    try:
        return json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"The body is not JSON: {exc}.", code="unreadable_body") from exc


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


# --- acting -----------------------------------------------------------------------------------------------


def _act(hook: Hook, delivery: Delivery) -> None:
    """Do what a kept message asks for; whoever repeats it, repeats nothing. Writes what became of it."""
    try:
        try:
            plan = planned(hook.target, hook.mapping, delivery.body, delivery.headers)
        except MappingError as exc:
            raise InvalidInput(f"The message does not give what the hook needs: {exc}") from exc
        match plan:
            case None:
                _settle(delivery, DeliveryState.IGNORED)
            case Start():
                _start(hook, delivery, plan)
            case Tell():
                _tell(hook, delivery, plan)
    except MirrorNeuronError as exc:
        told = {"at": moment(now()), "code": exc.code, "message": exc.message, "fields": exc.fields}
        late = delivery.state == DeliveryState.LATE
        state = DeliveryState.LATE if late else DeliveryState.FAILED
        _settle(delivery, state, runs=delivery.runs or (), error=told)
        Hook.objects.filter(id=hook.id).update(last_error=told)
        raise


def _start(hook: Hook, delivery: Delivery, plan: Start) -> None:
    who = _actor(hook)
    version = version_for_run(who, plan.blueprint)
    labels = {**plan.labels, BY_HOOK: hook.name}
    with transaction.atomic():
        run = start_run(who, version, plan.inputs, idempotency_key=f"hook:{delivery.id}", labels=labels)
        _settle(delivery, DeliveryState.DONE, runs=[str(run.id)])


def _tell(hook: Hook, delivery: Delivery, plan: Tell) -> None:
    who = _actor(hook)
    about = _runs_about(hook.workspace_id, plan)
    if delivery.state == DeliveryState.HELD:
        # None of the runs there were was meant; only a younger one can be.
        about = about.filter(created_at__gte=delivery.received_at - OVERLAPPING)
    found = list(
        about.exclude(status__in=RUN_ENDED).order_by("id").values_list("id", flat=True)[:RUNS_AT_MOST]
    )
    # When all have ended, the latest gets it: stored there, and the sender learns that it is too late.
    found = found or list(about.order_by("-id").values_list("id", flat=True)[:1])
    if not found:
        _hold(delivery)
        return
    key = plan.key or f"hook:{delivery.id}"
    told: list[str] = []
    conflict: RunConflict | None = None
    misfit: InvalidInput | None = None
    for run_id in found:
        try:
            deliver_signal(who, run_id, plan.name, plan.body, key=key, source=WEBHOOK)
        except RunConflict as exc:
            conflict = exc
        except RunNotFound:
            pass  # Removed in this moment.
        except InvalidInput as exc:
            misfit = misfit or exc
        else:
            told.append(str(run_id))
    delivery.runs = told
    if misfit is not None:
        raise misfit
    if conflict is not None and not told:
        delivery.state = DeliveryState.LATE
        raise conflict
    if not told:
        _hold(delivery)
        return
    _settle(delivery, DeliveryState.DONE, runs=told)


def _runs_about(workspace_id: UUID, plan: Tell) -> QuerySet[Run]:
    """Runs whose label or input equals the message's value."""
    runs = Run.objects.filter(workspace_id=workspace_id, removed_at=None)
    if plan.blueprint:
        runs = runs.filter(blueprint_name=plan.blueprint)
    # Not `inputs__<field>`: a field such as `order__regex` would be read as a lookup.
    found = Cast(KeyTextTransform(plan.field, plan.by), TextField())
    return runs.annotate(about=found).filter(about=plan.value)


def _hold(delivery: Delivery) -> None:
    at = now()
    if at >= delivery.expires_at:
        _settle(delivery, DeliveryState.EXPIRED)
        return
    # The older it is, the less it matters whether it is found in five seconds or in a minute.
    pause = max(LOOK_AGAIN, min((at - delivery.received_at) / 60, timedelta(minutes=1)))
    delivery.state, delivery.due_at = DeliveryState.HELD, at + pause
    Delivery.objects.filter(id=delivery.id).update(state=delivery.state, due_at=delivery.due_at)


def _settle(delivery: Delivery, state: DeliveryState, *, runs: Any = (), error: Any = None) -> None:
    delivery.state, delivery.runs, delivery.error, delivery.due_at = state, list(runs), error, None
    Delivery.objects.filter(id=delivery.id).update(
        state=state, runs=delivery.runs, error=storable(error), due_at=None
    )


def _actor(hook: Hook) -> Principal:
    """In whose name it acts, with the rights of now. Raises Forbidden when they have left."""
    user = hook.acts_as
    try:
        if user is None:
            raise WorkspaceNotFound("the account is gone")
        return principal_for(user, hook.workspace, "hook", label=f"{user.email} (hook {hook.name})")
    except WorkspaceNotFound as exc:
        raise Forbidden(
            f'Hook "{hook.name}" acts for nobody: who made it is no longer a member.',
            code="actor_left",
            next="A member who may operate makes a new one.",
        ) from exc


# --- upkeep -----------------------------------------------------------------------------------------------


def deliveries_due(at: datetime) -> QuerySet[Delivery, Any]:
    """A row for each message that wants to be looked at, for the question of an idle worker."""
    waiting = Delivery.objects.filter(due_at__lte=at)
    return waiting.annotate(one=Value(1, BigIntegerField())).values("one")


def settle_deliveries() -> int:
    """Go on with messages whose process died, and those that wait for a run; returns how many it settled."""
    rows = Delivery.objects.filter(due_at__lte=now()).order_by("due_at")
    return sum(_settle_one(identity) for identity in list(rows.values_list("id", flat=True)[:BATCH]))


def _settle_one(identity: UUID) -> int:
    try:
        # Taken over by moving its time, so that two processes that look at once do not both work on it.
        mine = Delivery.objects.filter(id=identity, due_at__lte=now(), state__in=OPEN)
        if not mine.update(due_at=now() + ABANDONED):
            Delivery.objects.filter(id=identity, due_at__lte=now()).update(due_at=None)
            return 0
        delivery = Delivery.objects.select_related("hook__workspace", "hook__acts_as").get(id=identity)
        _act(delivery.hook, delivery)
        return int(delivery.state != DeliveryState.HELD)
    except (MirrorNeuronError, Delivery.DoesNotExist):
        return 0  # Written down with the delivery.
    except DatabaseTrouble:
        raise
    except Exception as exc:
        log.error("hook.failed", delivery=str(identity), exc_info=exc)
        told = {"at": moment(now()), "code": "unexpected_error", "message": f"{type(exc).__name__}: {exc}"}
        Delivery.objects.filter(id=identity).update(state=DeliveryState.FAILED, due_at=None, error=told)
        return 0


def forget_deliveries() -> int:
    """Drop messages whose time is over and that nobody waits for; repeats of them count as new."""
    old = Delivery.objects.filter(expires_at__lt=now(), due_at=None).values_list("id", flat=True)
    return Delivery.objects.filter(id__in=list(old[: LIMITS.forget_batch])).delete()[0]


# --- secrets and checks -----------------------------------------------------------------------------------


def _secrets(hook: Hook) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = unseal(hook.sealed)["secrets"]
    return found


def _sealed(given: list[dict[str, Any]]) -> bytes:
    return seal({"secrets": given})


def _is_valid(one: Mapping[str, Any]) -> bool:
    return one["until"] is None or datetime.fromisoformat(one["until"]) > now()


def _check(principal: Principal, plan: HookPlan) -> None:
    problems = mapping_problems(plan.target, plan.mapping)
    name = plan.name.strip()
    if not name or len(name) > 64 or not name.isprintable() or as_uuid(name):
        problems["name"] = "Give it a name of 1 to 64 characters."
    if plan.scheme not in set(Scheme):
        problems["scheme"] = f"Choose one of {', '.join(Scheme)}."
    if not 10 <= plan.tolerance_seconds <= 86400:
        problems["tolerance_seconds"] = "10 seconds to a day."
    if plan.secret and len(plan.secret) < LEAST_SECRET:
        problems["secret"] = f"At least {LEAST_SECRET} characters."
    blueprint = plan.mapping.get("blueprint")
    if plan.target == "start" and isinstance(blueprint, str) and blueprint:
        try:
            version_for_run(principal, blueprint)
        except (NotFound, Conflict) as exc:
            problems["blueprint"] = str(exc)
    if problems:
        raise InvalidInput(
            "The hook cannot be used: " + " ".join(problems.values()),
            fields=problems,
            next="Correct these fields.",
        )


def _check_secret(given: str) -> None:
    if given and len(given) < LEAST_SECRET:
        raise InvalidInput(
            f"The secret has {len(given)} characters; at least {LEAST_SECRET} are needed.",
            fields={"secret": f"At least {LEAST_SECRET} characters."},
            next="Leave it out to get a fresh one.",
        )


def _locked(identity: UUID) -> Hook:
    rows = Hook.objects.all()
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    found = rows.filter(id=identity).first()
    if found is None:
        raise NotFound(f"There is no hook {identity}.", code="hook_not_found")
    return found
