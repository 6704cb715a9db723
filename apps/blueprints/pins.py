"""Pins: the output a step of the draft has in tests, instead of running. Beside the draft, never in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.document import Document
from apps.blueprints.core.kinds import ports
from apps.blueprints.core.trial import Given
from apps.blueprints.models import Pin
from apps.blueprints.selectors import blueprint_for
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput, TooLarge
from mirrorneuron.base.safejson import storable

MOST_BYTES = 1_000_000
"""Of one pin; a test carries all its pins as inputs."""


def pins_for(principal: Principal, name: str) -> dict[str, Pin]:
    """The pins of a blueprint's draft by path."""
    rows = Pin.objects.filter(blueprint=blueprint_for(principal, name)).select_related("created_by")
    return {row.node: row for row in rows.order_by("node")}


def given_by(pins: Mapping[str, Pin]) -> dict[str, Given]:
    return {path: Given(pin.output, pin.port) for path, pin in pins.items()}


def set_pins(
    principal: Principal, name: str, document: Document, outputs: Mapping[str, Given], *, origin: str = ""
) -> list[str]:
    """Pin these outputs, in place of what was pinned there. Returns the paths.

    document: the draft as it is. origin: the run they come from; empty when a person wrote them.
    Raises InvalidInput for a step the draft does not have, an approval, a port that is not there; TooLarge.
    """
    principal.require(Permission.EDIT)
    blueprint = blueprint_for(principal, name)
    nodes = dict(all_nodes(document.graph))
    for path, one in outputs.items():
        node = nodes.get(path)
        if node is None:
            raise InvalidInput(
                f'The draft has no step "{path[:80]}".',
                fields={"node": "The path of a step."},
                next="Reload the editor; somebody may have renamed it.",
            )
        if node.kind == "approval":
            raise InvalidInput(
                f'"{path}" asks a person, and a decision is never taken from data.',
                fields={"node": "Any step but an approval."},
                next="Pin the steps before it; the test asks you.",
            )
        if one.port and one.port not in ports(node):
            raise InvalidInput(
                f'"{path}" has no port {one.port[:40]}.',
                fields={"port": f"One of {', '.join(ports(node))}."},
                next="Leave the port empty for the main one.",
            )
        size = len(json.dumps(storable(one.output), ensure_ascii=False).encode())
        if size > MOST_BYTES:
            raise TooLarge(
                f'The output of "{path}" has {size:,} bytes; a pin has at most {MOST_BYTES:,}.',
                next="Pin a smaller example.",
            )
    with transaction.atomic():
        for path, one in outputs.items():
            Pin.objects.update_or_create(
                blueprint=blueprint,
                node=path,
                defaults={
                    "output": storable(one.output),
                    "port": one.port,
                    "origin": origin,
                    "created_by": principal.user,
                },
            )
    return list(outputs)


def remove_pins(principal: Principal, name: str, nodes: list[str] | None = None) -> int:
    """Remove the pins of these steps, or all. Returns how many there were."""
    principal.require(Permission.EDIT)
    rows = Pin.objects.filter(blueprint=blueprint_for(principal, name))
    if nodes is not None:
        rows = rows.filter(node__in=nodes)
    return rows.delete()[0]


def as_json(pin: Pin) -> dict[str, Any]:
    return {
        "node": pin.node,
        "output": pin.output,
        "port": pin.port,
        "run": pin.origin or None,
        "by": str(pin.created_by) if pin.created_by else None,
        "at": pin.created_at.isoformat(),
    }
