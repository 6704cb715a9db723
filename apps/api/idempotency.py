"""`Idempotency-Key` on unsafe calls: a repeat gets the first answer again, and nothing happens twice.

begin   after sign-in: take the key, or replay what it already answered
finish  after the answer: keep a success; forget a refusal, because then nothing was done

A key that was taken by a process that died is free again after a minute; what the call did by then is found
by the service itself (a run by its own key, a decision by its request, a file by its content).
Source: draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse

from apps.api.models import IdempotencyRecord
from apps.workspaces.access import Principal
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Conflict, InvalidInput, MirrorNeuronError

HEADER = "Idempotency-Key"
REPLAYED = "Idempotent-Replayed"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
MAX_LENGTH = 200
ABANDONED_AFTER = timedelta(seconds=60)
KEPT_FOR = timedelta(days=7)
FORGOTTEN_AT_ONCE = 500
SWEEP_EVERY = 256
"""Every so many new keys the old ones are deleted; the calls themselves keep the table small."""
OWN_KEY = ("/runs",)
"""Ends of paths whose service stores the key itself, in the same transaction as what it does."""
SECRET = ("/tokens", "/hooks", "/rotate")
"""Ends of paths whose answer holds a secret: never stored, so a repeat is told that it was answered."""


class Replay(MirrorNeuronError):
    """Not an error: carries the first answer out of the sign-in."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__("replayed")
        self.response = response


class KeyReused(InvalidInput):
    code = "idempotency_mismatch"


class StillRunning(Conflict):
    code = "idempotency_in_progress"


def begin(request: HttpRequest, principal: Principal) -> None:
    """Take the request's key. Raises Replay, KeyReused (422), StillRunning (409), InvalidInput."""
    key = key_of(request)
    if key is None or _is_preview(request) or request.path.endswith(OWN_KEY):
        return
    print_ = _fingerprint(request, principal)
    try:
        with transaction.atomic():
            record = IdempotencyRecord.objects.create(
                workspace=principal.workspace, key=key, fingerprint=print_
            )
        if record.pk % SWEEP_EVERY == 0:
            forget_old()
    except IntegrityError:
        record = _known(principal, key, print_)
    request.idempotency = record  # type: ignore[attr-defined]


def _is_preview(request: HttpRequest) -> bool:
    # As pydantic reads a boolean; a preview changes nothing and must not take the key of the real call.
    return request.GET.get("preview", "").lower() in {"true", "t", "yes", "y", "on", "1"}


def finish(request: HttpRequest, response: HttpResponse) -> None:
    """Keep the answer under the key the request took, if it took one."""
    record: IdempotencyRecord | None = getattr(request, "idempotency", None)
    if record is None:
        return
    mine = IdempotencyRecord.objects.filter(id=record.pk, status=None)
    if response.status_code < 300:
        secret = request.path.endswith(SECRET)
        mine.update(status=response.status_code, body=None if secret else _stored(response))
    else:
        mine.delete()


def key_of(request: HttpRequest) -> str | None:
    """The key of an unsafe call. Raises InvalidInput unless it is printable and of at most 200 characters."""
    key = request.headers.get(HEADER, "").strip()
    if not key or request.method not in UNSAFE:
        return None
    if len(key) > MAX_LENGTH or not key.isprintable():
        raise InvalidInput(
            f"{HEADER} has {len(key)} characters; up to {MAX_LENGTH} printable ones are taken.",
            fields={HEADER: f"Up to {MAX_LENGTH} printable characters."},
            next="Send a shorter key, such as a UUID.",
        )
    return key


def forget_old() -> int:
    """Delete answers older than a week, a bounded batch of them."""
    old = IdempotencyRecord.objects.filter(created_at__lt=now() - KEPT_FOR).values_list("id", flat=True)
    return IdempotencyRecord.objects.filter(id__in=list(old[:FORGOTTEN_AT_ONCE])).delete()[0]


def _known(principal: Principal, key: str, print_: str) -> IdempotencyRecord:
    record = IdempotencyRecord.objects.filter(workspace=principal.workspace, key=key).first()
    if record is None:  # The first call was refused a moment ago.
        raise _still_running()
    if record.fingerprint != print_:
        raise KeyReused(
            f"The key {key!r} was used for another call.",
            fields={HEADER: "One key belongs to one call with one content."},
            next="Send a fresh key with a new call.",
        )
    if record.status is None:
        # Compare and set on the time, so that only one of several late repeats takes it over.
        taken = IdempotencyRecord.objects.filter(
            id=record.pk, status=None, created_at=record.created_at, created_at__lt=now() - ABANDONED_AFTER
        ).update(created_at=now())
        if taken:
            return record
        raise _still_running()
    if record.body is None:
        raise Conflict(
            "This call was answered already; its secret was shown once and is not kept.",
            code="already_answered",
            next="If the secret is lost, delete the token and create another one with a fresh key.",
        )
    raise Replay(_answer(record))


def _still_running() -> StillRunning:
    return StillRunning(
        "The first call with this key is still being worked on.",
        next="Wait a second and send the same call again; it gets the first one's answer.",
        retry_after=1,
    )


def _answer(record: IdempotencyRecord) -> HttpResponse:
    kept = record.body or {}
    return HttpResponse(
        kept.get("content", ""),
        status=record.status,
        content_type=kept.get("type") or "application/json",
        headers={REPLAYED: "true", **kept.get("headers", {})},
    )


def _stored(response: HttpResponse) -> dict[str, object]:
    return {
        "content": response.content.decode(),
        "type": response.headers.get("Content-Type", ""),
        "headers": {
            name: response.headers[name] for name in ("ETag", "Location") if name in response.headers
        },
    }


def _fingerprint(request: HttpRequest, principal: Principal) -> str:
    """Hash of who, method, path, query and content; of an upload its files, because boundaries are random."""
    found = hashlib.sha256()
    head = [str(principal.user.id), request.method, request.path, request.META.get("QUERY_STRING", "")]
    found.update(json.dumps(head).encode())
    if (request.content_type or "").startswith("multipart/"):
        for name, values in sorted(request.POST.lists()):
            found.update(json.dumps([name, values]).encode())
        for name, files in sorted(request.FILES.lists()):
            for file in files:
                found.update(json.dumps([name, file.name]).encode())
                for chunk in file.chunks():
                    found.update(chunk)
                file.seek(0)
    else:
        found.update(request.body)
    return found.hexdigest()
